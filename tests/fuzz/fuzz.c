/* One libFuzzer target for every decoder; the first byte of an input says which, see `targets`.
   Files
   are read through the DLS_FS hooks from memory; random numbers are none, so that inputs do the
   same
   each time. Inputs of interest stay in tests/build/fuzz/corpus. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const uint8_t *file_bytes;
static size_t file_size, file_at;

static FILE *mem_open(const char *path, const char *mode) {
    (void)mode;
    file_at = 0;
    return strstr(path, "in.") != NULL ? (FILE *)(uintptr_t)&file_at : NULL;
}
static int mem_seek(long offset, int whence) {
    file_at = (size_t)offset + (whence == SEEK_END ? file_size : 0);
    return 0;
}
static size_t mem_read(void *to, size_t n) {
    if (n > file_size - file_at) n = file_size - file_at;
    memcpy(to, file_bytes + file_at, n);
    file_at += n;
    return n;
}
static int no_random(void *to, size_t bytes) {
    memset(to, 7, bytes);
    return 0;
}
#define DLS_RANDOM(to, bytes) no_random(to, bytes)
#define DLS_FS_OPEN(path, mode) mem_open(path, mode)
#define DLS_FS_READ(file, buf, bytes) ((void)(file), mem_read(buf, bytes))
#define DLS_FS_WRITE(file, buf, bytes) ((void)(file), (void)(buf), (size_t)(bytes))
#define DLS_FS_SEEK(file, offset, whence) ((void)(file), mem_seek(offset, whence))
#define DLS_FS_TELL(file) ((void)(file), (long)file_at)
#define DLS_FS_SYNC(file) ((void)(file), 0)
#define DLS_FS_CLOSE(file) ((void)(file), 0)
#define DLS_FS_RENAME(from, to) ((void)(from), (void)(to), 0)
#define DLS_FS_REMOVE(path) ((void)(path), 0)
#define DLS_NODES_DEFAULT 64
#define DLS_DIM_MAX 0x100000 /* keeps what a file may claim within the fuzzer's memory */
#define DLSI_REKEY_BITS 7
#define DLS_REPLAY_BITS 64
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

static void mend(unsigned char *p, size_t size) {
    const uint32_t sections = size >= 64 ? dlsi_load32(p + 12) : 9;
    uint32_t i, crc;
    if (sections > 4 || 64 + sections * 32 > size) return;
    dlsi_store64(p + 16, size);
    for (i = 0; i < sections; i++) {
        unsigned char *row = p + 64 + i * 32;
        const uint64_t at = dlsi_load64(row + 8), n = dlsi_load64(row + 16);
        if (at <= size && n <= size - at) dlsi_store32(row + 4, dls_crc32c(0, p + at, (size_t)n));
    }
    crc = dls_crc32c(0, p, 60);
    dlsi_store32(p + 60, dls_crc32c(crc, p + 64, sections * 32));
}

/* Loads, and runs what loads when it is small. */
static void fuzz_model(const uint8_t *bytes, size_t size) {
    dls_model model;
    dls_net *net;
    size_t length;
    if (dls_model_open(&model, bytes, size, NULL) != DLS_OK) return;
    (void)dls_model_meta(&model, &length);
    (void)dls_model_number(&model, "a", 0);
    net = dls_net_create(NULL);
    if (dls_model_build(&model, net, NULL) != DLS_OK) {
        /* Past the graph's hash, on purpose: plans of graphs that shape rules let through. */
        if (dls_net_status(net) == DLS_E_FORMAT) net->error.status = DLS_OK;
    }
    if (net->nodes > 0 && dls_net_macs(net, 0, net->nodes) < 1e5 &&
        dls_exec_size(net, NULL) < 1 << 22 && dls_exec_size(net, NULL) > 0) {
        dls_exec *run = dls_exec_create(net, NULL);
        int32_t i;
        for (i = 0; run != NULL && dls_exec_input(run, i) != NULL; i++)
            memset(dls_exec_input(run, i), 0,
                   4 * dls_shape_count(dls_net_shape(net, dls_exec_input_val(run, i))));
        if (run != NULL) (void)dls_exec_forward(run, 1);
        dls_exec_destroy(run);
    }
    (void)dls_model_params(&model, net);
    dls_net_destroy(net);
}

static void fuzz_data(const char *name, const uint8_t *bytes, size_t size) {
    dls_data data;
    file_bytes = bytes;
    file_size = size;
    if (dls_data_open(&data, name, NULL) != DLS_OK) return;
    if (dls_shape_count(data.shape) <= 4096) {
        static float x[4096];
        dls_augment augment = {1, true, 1, 2, 0.2f};
        int32_t index = data.count - 1, label, label2;
        float share;
        (void)dls_data_fetch(&data, &augment, 1, &index, 1, x, &label, &label2, &share, NULL);
    }
    dls_data_close(&data);
}

/* A checkpoint for a fixed network. */
static void fuzz_checkpoint(const uint8_t *bytes, size_t size) {
    static dls_train *train;
    if (train == NULL) {
        dls_net *net = dls_net_create(NULL);
        dls_train_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.batch = 2;
        desc.shards = 2;
        desc.optim.kind = DLS_OPTIM_ADAM;
        (void)dls_net_dense(net, dls_net_input(net, 2, 2, 1), 3, DLS_ACT_NONE);
        train = dls_train_create(net, &desc);
    }
    file_bytes = bytes;
    file_size = size;
    (void)dls_train_load(train, "in.dls", NULL);
}

/* What somebody says on a plain stream: frames in packets made well by us, so that they get to the
   handlers, or raw bytes. A receive, a send and a session are open. */
static void fuzz_stream(const uint8_t *bytes, size_t size) {
    static unsigned char block[1 << 18], memory[DLS_PORT_BYTES(DLS_PORT_STREAM, 2048)];
    static unsigned char got[100], packet[2100];
    dls_peer_desc desc;
    dls_peer_event event;
    dls_port_desc d;
    dls_init_head init = {DLS_PACKET_INIT, 0, 0x801, 1, 0};
    dls_data_head head = {0, 0};
    dls_peer *peer;
    dls_status status;
    size_t at = 0, out;
    int32_t port;
    memset(&desc, 0, sizeof desc);
    memset(&d, 0, sizeof d);
    desc.size = 3;
    desc.ops_max = 4;
    if (dls_peer_init(&peer, &desc, block, sizeof block) != DLS_OK) return;
    d.kind = DLS_PORT_STREAM;
    d.mtu = 2048;
    d.plain = true;
    d.mem = memory;
    d.bytes = sizeof memory;
    port = dls_peer_port_open(peer, &d, 0);
    memset(packet, 0, sizeof packet);
    packet[0] = DLS_INIT_PLAIN;
    dls_init_head_write(&init, packet + 4);
    packet[20] = packet[24] = 1;
    (void)dls_peer_rx(peer, port, packet, 4 + DLS_INIT_PLAIN, 0);
    head.index = peer->port[port].ses >= 0 ? peer->ses[peer->port[port].ses].index : 0;
    (void)dls_peer_recv(peer, 1, 7, got, sizeof got);
    (void)dls_peer_send(peer, 1, 8, got, sizeof got);
    while (at + 2 < size && !dls_peer_port_done(peer, port)) {
        size_t n = bytes[at] | (size_t)(bytes[at + 1] & 7) << 8;
        const bool raw = (bytes[at + 1] & 128) != 0;
        at += 2;
        if (n > size - at) n = size - at;
        if (n > 2000) n = 2000;
        memset(packet, 0, 4);
        packet[0] = (unsigned char)((n + 8) & 255);
        packet[1] = (unsigned char)((n + 8) >> 8);
        dls_data_head_write(&head, packet + 4);
        memcpy(packet + 12, bytes + at, n);
        if (raw)
            (void)dls_peer_rx(peer, port, bytes + at, n, at);
        else
            (void)dls_peer_rx(peer, port, packet, n + 12, at);
        at += n;
        if (peer->count > 1 && dls_peer_is_up(peer, 1)) {
            (void)dls_peer_recv(peer, 1, 7, got, sizeof got);
            (void)dls_peer_send(peer, 1, 8, got, sizeof got);
        }
        (void)dls_peer_tx_span(peer, port, &out, at);
        dls_peer_tx_done(peer, port, out, at);
        dls_peer_tick(peer, at * 100);
    }
    for (out = 0; out < 4; out++) (void)dls_peer_op_done(peer, (int32_t)out, &status);
    dls_peer_port_close(peer, port, at);
    while (dls_peer_next_event(peer, &event)) {}
}

static void fuzz_gunzip(const uint8_t *bytes, size_t size) {
    static unsigned char out[1 << 16];
    size_t written;
    (void)dls_gunzip(bytes, size, NULL, 0, &written);
    (void)dls_gunzip(bytes, size, out, sizeof out, &written);
}

static void fuzz_idx(const uint8_t *bytes, size_t size) {
    dls_data data;
    const size_t half = size > 0 ? bytes[0] * size / 256 : 0;
    memset(&data, 0, sizeof data);
    (void)dls_data_from_idx(&data, bytes, half, bytes + half, size - half, NULL);
}

/* ---- Sessions: an input is a script; what must always hold traps when it does not ---- */

static void must(bool holds) {
    if (!holds) __builtin_trap();
}
static unsigned next(const uint8_t **at, size_t *left) {
    if (*left == 0) return 0;
    (*left)--;
    return *(*at)++;
}

/* Two sides of a handshake, and the message between them, which may be changed, cut or replaced. */
typedef struct fuzz_pair {
    dls_noise side[2];
    unsigned char wire[700], sent[700]; /* what lies there, and what was written */
    size_t wire_bytes, sent_bytes;      /* SIZE_MAX: was read; a second time it must be refused */
} fuzz_pair;

static void pair_begin(fuzz_pair *p, unsigned pattern) {
    static unsigned char key[4][32], public_key[2][32];
    dls_noise_desc desc;
    int i;
    memset(p, 0, sizeof *p);
    memset(&desc, 0, sizeof desc);
    for (i = 0; key[3][0] == 0 && i < 4; i++) memset(key[i], i + 1, 32);
    for (i = 0; public_key[1][0] == 0 && i < 2; i++) dls_x25519_public(public_key[i], key[i]);
    desc.pattern = (dls_noise_pattern)pattern;
    desc.psk = key[0];
    for (i = 0; i < 2; i++) {
        desc.initiator = i == 0;
        desc.ephemeral = key[2 + i];
        desc.secret = pattern == DLS_NOISE_NNPSK0 ? NULL : key[i];
        desc.public_key = public_key[i];
        desc.remote = pattern == DLS_NOISE_KKPSK0 ? public_key[1 - i] : NULL;
        must(dls_noise_init(&p->side[i], &desc) == DLS_OK);
    }
}
/* Only what the other side wrote is taken; what is refused changes nothing. */
static void pair_write(fuzz_pair *p, unsigned i, size_t payload, size_t room) {
    static const unsigned char text[256];
    const dls_noise before = p->side[i];
    size_t bytes;
    if (dls_noise_write(&p->side[i], text, payload, p->wire, room, &bytes) == DLS_OK) {
        memcpy(p->sent, p->wire, bytes);
        p->wire_bytes = p->sent_bytes = bytes;
    } else
        must(bytes == 0 && memcmp(&p->side[i], &before, sizeof before) == 0);
}
static void pair_read(fuzz_pair *p, unsigned i, size_t room) {
    const dls_noise before = p->side[i];
    unsigned char text[700];
    size_t bytes;
    if (dls_noise_read(&p->side[i], p->wire, p->wire_bytes, text, room, &bytes) == DLS_OK) {
        must(p->wire_bytes == p->sent_bytes && memcmp(p->wire, p->sent, p->sent_bytes) == 0);
        p->sent_bytes = SIZE_MAX;
    } else
        must(bytes == 0 && memcmp(&p->side[i], &before, sizeof before) == 0);
}
static void fuzz_handshake(const uint8_t *at, size_t left) {
    unsigned char key[2][2][32];
    fuzz_pair p;
    pair_begin(&p, next(&at, &left) % 3 + 1);
    while (left > 0) {
        const unsigned op = next(&at, &left), value = next(&at, &left), i = op & 1;
        switch (op >> 1 & 3) {
        case 0: pair_write(&p, i, value, op < 128 ? sizeof p.wire : op); break;
        case 1: pair_read(&p, i, op < 128 ? sizeof p.wire : op - 128); break;
        case 2:
            if (i == 0 && value < p.wire_bytes) p.wire[value] ^= (unsigned char)(op >> 3);
            if (i == 1) p.wire_bytes = value;
            break;
        default: p.wire_bytes = value < left ? value : left; memcpy(p.wire, at, p.wire_bytes);
        }
    }
    if (!dls_noise_done(&p.side[0]) || !dls_noise_done(&p.side[1])) return;
    for (left = 0; left < 2; left++)
        must(dls_noise_split(&p.side[left], key[left][0], key[left][1]) == DLS_OK);
    must(memcmp(key[0][0], key[1][1], 32) == 0 && memcmp(key[0][1], key[1][0], 32) == 0);
}

/* Records opened in any order, twice, changed, after losses and with wrong counters. */
static void fuzz_records(const uint8_t *at, size_t left) {
    static struct {
        unsigned char text[16], tag[16];
        uint64_t ctr; /* also the header */
        size_t bytes;
        bool opened;
    } record[32], *r;
    static const unsigned char key[2][32] = {{1}, {2}};
    unsigned char back[16];
    dls_session a, b;
    unsigned sealed = 0;
    memset(record, 0, sizeof record);
    dls_session_init(&a, key[0], key[1]);
    dls_session_init(&b, key[1], key[0]);
    while (left > 0) {
        const unsigned op = next(&at, &left), value = next(&at, &left);
        dls_session before = b;
        uint64_t ctr;
        r = &record[(op % 4 < 2 ? sealed : value) % 32];
        ctr = r->ctr;
        switch (op % 4) {
        case 0:
        case 1: /* seal; with 1 after some that are lost */
            while (op % 4 == 1 && a.sent % 256 != value)
                must(dls_session_seal(&a, back, back, 0, NULL, 0, back) == DLS_OK);
            r->ctr = a.sent;
            r->bytes = value % 17;
            r->opened = false;
            must(dls_session_seal(&a, r->text, key, r->bytes, &r->ctr, 8, r->tag) == DLS_OK);
            sealed++;
            continue;
        case 2:
            if (sealed <= value % 32) continue;
            if (dls_session_open(&b, ctr, back, r->text, r->bytes, r->tag, &r->ctr, 8) == DLS_OK) {
                must(!r->opened && memcmp(back, key, r->bytes) == 0 && b.top > ctr);
                r->opened = true;
            } else { /* never taken for a forgery */
                must(r->opened || ctr + DLS_REPLAY_BITS < b.top ||
                     ctr / DLSI_REKEY_PERIOD > b.top / DLSI_REKEY_PERIOD);
                must(memcmp(&before, &b, sizeof b) == 0);
            }
            break;
        default: /* one bit, or another counter, or bytes of the script */
            if (op < 64)
                ctr = dls_session_counter(&b, op << 8 | value, 16);
            else if (op < 128)
                r->tag[op / 8 % 16] ^= (unsigned char)(1u << value % 8);
            if (op < 64 && ctr == r->ctr) continue;
            must(dls_session_open(&b, ctr, back, op < 128 ? r->text : at,
                                  op < 128    ? r->bytes
                                  : left < 16 ? left
                                              : 16,
                                  r->tag, at, left) != DLS_OK);
            if (op >= 64 && op < 128) r->tag[op / 8 % 16] ^= (unsigned char)(1u << value % 8);
            before.forged = b.forged;
            must(memcmp(&before, &b, sizeof b) == 0);
        }
    }
}

/* What reads is written again as the same bytes, but for the signature. */
static void fuzz_identity(const uint8_t *bytes, size_t size) {
    static unsigned char seed[32], root[32], out[1 << 16];
    static dls_device devices[64];
    dls_cert cert;
    dls_manifest manifest;
    dls_roster roster;
    if (root[0] == 0) dls_ed25519_public(root, seed);
    if (dls_cert_read(&cert, bytes, size, NULL) == DLS_OK) {
        must(dls_cert_write(&cert, seed, out) == DLS_OK && memcmp(out, bytes, size - 64) == 0);
        if (dls_cert_read(&cert, bytes, size, root) == DLS_OK) must(memcmp(out, bytes, size) == 0);
    }
    if (dls_manifest_read(&manifest, bytes, size, NULL) == DLS_OK) {
        must(dls_manifest_write(&manifest, seed, out) == DLS_OK);
        must(memcmp(out, bytes, size - 64) == 0 && dls_manifest_chunks(&manifest) > 0);
        (void)dls_merkle_check(&manifest, size % 7, bytes, size, bytes, (uint32_t)size / 32);
    }
    if (dls_roster_read(&roster, devices, 64, bytes, size, NULL) == DLS_OK) {
        must(dls_roster_write(&roster, seed, out, sizeof out) == DLS_OK);
        must(memcmp(out, bytes, size - 64) == 0);
        if (roster.count > 0) must(dls_roster_find(&roster, devices[0].id) == devices);
    }
}

/* A serial line: what comes out fits, and comes out the same in one piece. */
static void fuzz_cobs(const uint8_t *bytes, size_t size) {
    static unsigned char mem[2][300];
    dls_cobs c[2];
    size_t at, part, taken, got[2] = {0, 0};
    int k;
    for (k = 0; k < 2; k++) {
        dls_cobs_init(&c[k], mem[k], sizeof mem[k]);
        for (at = 0; at < size; at += taken) {
            part = k == 0 || size - at < 7 ? size - at : 7;
            got[k] += dls_cobs_read(&c[k], bytes + at, part, &taken);
            if (taken < 1 || taken > part || c[k].used > sizeof mem[k]) __builtin_trap();
        }
    }
    if (got[0] != got[1] || c[0].bad != c[1].bad) __builtin_trap();
}

/* Acks, each with a byte of time and a byte of size before it, for a sender that goes on sending:
   nothing is given back twice or unsent, bytes in flight are those of entries that are out. */
static void fuzz_ack(const uint8_t *bytes, size_t size) {
    static dls_sent ring[32];
    static uint8_t given[65536];
    dls_path path;
    dls_flow f;
    uint64_t now = 0, pn = 0;
    uint32_t ref[4] = {0, 0, 0, 0}, id = 0, flight = 0, i;
    size_t used;
    memset(given, 0, sizeof given);
    if (dls_flow_init(&f, ring, 32, 100, &path, now) != DLS_OK) return;
    while (size >= 2 && id < 65000) {
        const size_t n = bytes[1] < size - 2 ? bytes[1] : size - 2;
        now += (uint64_t)bytes[0] * 500;
        dls_flow_tick(&f, now);
        while (dls_flow_room(&f, now) > 0) {
            ref[0] = id++;
            dls_flow_sent(&f, pn++, 100, true, ref, now);
        }
        dls_flow_sent(&f, pn++, 20, false, NULL, now);
        if (dls_flow_ack_read(&f, bytes + 2, n, &used, now) == DLS_OK && used > n) __builtin_trap();
        while (dls_flow_next_acked(&f, ref) || dls_flow_next_lost(&f, ref))
            if (ref[0] >= id || given[ref[0]]++ != 0) __builtin_trap();
        for (i = 0, flight = 0; i < 32; i++)
            if (ring[i].state == DLSI_SENT_OUT) flight += ring[i].bytes;
        if (flight != f.in_flight || path.window < 200) __builtin_trap();
        bytes += 2 + n;
        size -= 2 + n;
    }
}

/* Every pure decoder of the wire. */
static void fuzz_wire(const uint8_t *bytes, size_t size) {
    dls_init_head init;
    dls_data_head data;
    dls_hello hello;
    size_t at, used;
    (void)dls_init_head_read(&init, bytes, size);
    (void)dls_data_head_read(&data, bytes, size);
    (void)dls_hello_read(&hello, bytes, size);
    for (at = 0; at < size; at += used) {
        dls_frame f;
        if (dls_frame_read(&f, bytes + at, size - at, &used) != DLS_OK) break;
        if (used == 0 || used > size - at) abort();
        if (f.bytes > 0 && f.body[f.bytes - 1] == 0 && f.body[0] == 1) continue;
    }
    for (at = 0; at < size; at += used) {
        dls_control c;
        if (dls_control_read(&c, bytes + at, size - at, &used) != DLS_OK) break;
        if (used < 4 || used > size - at || c.payload + c.bytes != bytes + at + used) abort();
    }
}

/* Three engines with keys, 1 a gateway and coordinator, 2 small: calls in the order of a script. */
#define LAB_ENGINES 3
#define LAB_MTU 300
typedef struct lab {
    dls_peer *peer[LAB_ENGINES];
    int32_t air[LAB_ENGINES], line[2]; /* a serial line between 0 and 1 */
    uint64_t now;
    const uint8_t *at;
    size_t left;
} lab;
static unsigned char lab_block[LAB_ENGINES][1 << 17];
static unsigned char lab_line[2][DLS_PORT_BYTES(DLS_PORT_SERIAL, LAB_MTU)], lab_data[600];
static unsigned char lab_secret[LAB_ENGINES][32], lab_psk[32], lab_small[32];
static unsigned char lab_signed[512], lab_space[LAB_ENGINES][512];
static size_t lab_signed_bytes, lab_bytes[LAB_ENGINES]; /* of an engine */
static dls_device lab_device[LAB_ENGINES];

static uint8_t lab_byte(lab *l) {
    if (l->left == 0) return 0;
    l->left--;
    return *l->at++;
}
static bool lab_store(void *user, const void *state, size_t bytes) {
    (void)user;
    return bytes > 0 && state != NULL;
}
static void lab_keys(dls_roster *r) {
    static unsigned char root[32];
    int32_t i;
    memset(r, 0, sizeof *r);
    r->count = LAB_ENGINES;
    r->device = lab_device;
    r->epoch = 2;
    if (lab_device[0].id == 0) {
        for (i = 0; i < LAB_ENGINES; i++) {
            lab_device[i].id = (uint32_t)i + 1;
            lab_device[i].role = i == 1 ? DLS_ROLE_JOIN | DLS_ROLE_COORD : DLS_ROLE_JOIN;
            memset(lab_secret[i], i + 1, 32);
            if (i < 2) dls_x25519_public(lab_device[i].public_key, lab_secret[i]);
        }
        lab_device[2].flags = DLS_DEVICE_SMALL;
        dls_device_psk(lab_small, lab_psk, 0, 3);
        lab_signed_bytes = dls_roster_bytes(LAB_ENGINES);
        (void)dls_roster_write(r, root, lab_signed, sizeof lab_signed);
    }
    r->epoch = 1;
}
static dls_addr lab_addr(int32_t i) {
    dls_addr a;
    memset(&a, 0, sizeof a);
    a.size = 1;
    a.bytes[0] = (uint8_t)i;
    return a;
}
static void lab_open(lab *l) {
    dls_roster roster;
    int32_t i;
    lab_keys(&roster);
    for (i = 0; i < LAB_ENGINES; i++) {
        dls_peer_desc d;
        memset(&d, 0, sizeof d);
        d.roster = &roster;
        d.id = (uint32_t)i + 1;
        d.secret = i < 2 ? lab_secret[i] : NULL;
        d.psk = i < 2 ? lab_psk : lab_small;
        d.boot = 1;
        d.gateway = i == 1;
        d.window = 16;
        d.ops_max = 4;
        d.relay_bytes = 2000;
        d.store = i == 1 ? lab_store : NULL;
        lab_bytes[i] = dls_peer_size(&d);
        if (dls_peer_init(&l->peer[i], &d, lab_block[i], sizeof lab_block[i]) != DLS_OK) abort();
        dls_peer_roster_space(l->peer[i], lab_space[i], sizeof lab_space[i]);
    }
}
static void lab_ports(lab *l, int32_t i) {
    dls_port_desc d;
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_PACKET;
    d.mtu = LAB_MTU;
    if (l->air[i] < 0) l->air[i] = dls_peer_port_open(l->peer[i], &d, l->now);
    d.kind = DLS_PORT_SERIAL;
    d.bytes = sizeof lab_line[0];
    d.call = i == 0;
    d.rank = 1;
    if (i > 1 || l->line[i] >= 0) return;
    d.mem = lab_line[i];
    l->line[i] = dls_peer_port_open(l->peer[i], &d, l->now);
}
/* What engine i says reaches the others, perhaps damaged. */
static void lab_move(lab *l, int32_t i, uint8_t damage) {
    unsigned char packet[LAB_MTU];
    dls_addr to;
    const dls_addr from = lab_addr(i);
    size_t n = dls_peer_tx_packet(l->peer[i], l->air[i], &to, packet, l->now);
    const void *bytes;
    if (n > LAB_MTU) abort();
    if (n > 0 && damage > 127) packet[damage % n] ^= damage;
    if (n > 0 && to.size == 1 && to.bytes[0] < LAB_ENGINES)
        dls_peer_rx_packet(l->peer[to.bytes[0]], l->air[to.bytes[0]], &from, packet, n, l->now);
    if (i > 1) return;
    bytes = dls_peer_tx_span(l->peer[i], l->line[i], &n, l->now);
    if (n == 0) return;
    (void)dls_peer_rx(l->peer[1 - i], l->line[1 - i], bytes, n - (damage & 1), l->now);
    dls_peer_tx_done(l->peer[i], l->line[i], n, l->now);
}
static void lab_pump(lab *l, int32_t turns) {
    int32_t i;
    for (; turns > 0; turns--)
        for (i = 0; i < LAB_ENGINES; i++) {
            if (dls_peer_deadline(l->peer[i]) <= l->now) dls_peer_tick(l->peer[i], l->now);
            lab_move(l, i, 0);
        }
}
/* Frames of the script, sealed by the session of i with k. */
static void lab_forge(lab *l, int32_t i, int32_t k) {
    dlsi_ses *s = dlsi_peer_ses(l->peer[i], k);
    size_t n = lab_byte(l), at;
    unsigned char *p;
    bool wire;
    dls_data_head h;
    const dls_addr from = lab_addr(i);
    if (s == NULL || i == k) return;
    p = (unsigned char *)malloc(n + 24);
    h.index = s->their_index;
    h.counter = (uint32_t)s->record.sent;
    dls_data_head_write(&h, p);
    for (at = 0; at < n; at++) p[8 + at] = lab_byte(l);
    (void)dls_session_seal(&s->record, p + 8, p + 8, n, p, 8, p + 8 + n);
    wire = s->via < 0 && l->peer[i]->reach[s - l->peer[i]->ses].addr.size == 0;
    (void)dlsi_peer_packet(l->peer[k], wire ? l->line[k] : l->air[k], -1, &from, p, n + 24, l->now);
    free(p);
}
static void lab_raw(lab *l, int32_t i) {
    const size_t n = lab_byte(l) < l->left ? lab_byte(l) % (l->left + 1) : l->left;
    unsigned char *p = (unsigned char *)malloc(n + 1);
    const dls_addr from = lab_addr(1);
    memcpy(p, l->at, n);
    l->at += n;
    l->left -= n;
    dls_peer_rx_packet(l->peer[i], l->air[i], &from, p, n, l->now);
    if (i < 2) (void)dls_peer_rx(l->peer[i], l->line[i], p, n, l->now);
    free(p);
}
static void lab_step(lab *l) {
    const uint8_t op = lab_byte(l), arg = lab_byte(l);
    const int32_t i = op / 16 % LAB_ENGINES, k = arg % LAB_ENGINES;
    const dls_addr to = lab_addr(k);
    dls_peer *p = l->peer[i];
    dls_peer_event event;
    dls_status st;
    dls_view view;
    switch (op % 16) {
    case 0: lab_ports(l, i); break;
    case 1:
        dls_peer_port_close(p, arg & 1 || i > 1 ? l->air[i] : l->line[i], l->now);
        *(arg & 1 || i > 1 ? &l->air[i] : &l->line[i]) = -1;
        break;
    case 2: dls_peer_call(p, k, l->air[i], &to, l->now); break;
    case 3: lab_move(l, i, arg); break;
    case 4: l->now += (uint64_t)arg * arg * arg; break;
    case 5: l->now -= (uint64_t)arg * arg; break;
    case 6: dls_peer_tick(p, l->now); break;
    case 7: (void)dls_peer_send(p, k, arg / 64, lab_data, (size_t)arg * 2); break;
    case 8: (void)dls_peer_recv_from(p, k, arg / 64, lab_data, (size_t)arg * 2, arg / 2); break;
    case 9: dls_peer_op_drop(p, arg % 5); break;
    case 10: (void)dls_peer_op_done(p, arg % 5, &st); break;
    case 11: lab_raw(l, i); break;
    case 12: lab_forge(l, i, k); break;
    case 13: lab_pump(l, arg / 8); break;
    case 14: /* views and rosters */
        (void)dls_peer_next_event(p, &event);
        dls_peer_view(p, &view);
        if (arg > 200) (void)dls_peer_roster(p, lab_signed, lab_signed_bytes, l->now);
        break;
    default:
        if (arg == 255) dls_peer_leave(p);
        (void)dls_peer_deadline(p);
    }
}
/* As they stand at the start, all up or none: made once, since handshakes take most of a run. */
typedef struct lab_image {
    unsigned char block[LAB_ENGINES][sizeof lab_block[0]], line[sizeof lab_line],
        space[sizeof lab_space];
    lab l;
    bool made;
} lab_image;
static void lab_make(lab_image *image, bool up) {
    lab *l = &image->l;
    int32_t i, k;
    l->now = 1000000;
    lab_open(l);
    for (i = 0; i < LAB_ENGINES; i++) l->air[i] = l->line[i & 1] = -1;
    for (i = 0; i < LAB_ENGINES && up; i++) lab_ports(l, i);
    for (i = 0; i < LAB_ENGINES && up; i++)
        for (k = 0; k < LAB_ENGINES; k++) {
            const dls_addr to = lab_addr(k);
            if (i == 1 || k == 1) dls_peer_call(l->peer[i], k, l->air[i], &to, l->now);
        }
    if (up) lab_pump(l, 20);
    memcpy(image->block, lab_block, sizeof lab_block);
    memcpy(image->line, lab_line, sizeof lab_line);
    memcpy(image->space, lab_space, sizeof lab_space);
    image->made = true;
}
static void lab_start(lab *l, bool up) {
    static lab_image images[2];
    lab_image *image = &images[up];
    int32_t i;
    if (!image->made) lab_make(image, up);
    for (i = 0; i < LAB_ENGINES; i++) memcpy(lab_block[i], image->block[i], lab_bytes[i]);
    memcpy(lab_line, image->line, sizeof lab_line);
    memcpy(lab_space, image->space, sizeof lab_space);
    *l = image->l;
}
static void fuzz_engines(const uint8_t *bytes, size_t size) {
    lab l;
    int32_t i;
    lab_start(&l, size > 0 && (bytes[0] & 1) != 0);
    l.at = bytes;
    l.left = size;
    (void)lab_byte(&l);
    for (i = 0; i < 400 && l.left > 0; i++) lab_step(&l);
    for (i = 0; i < LAB_ENGINES; i++) dls_peer_close(l.peer[i]);
}

static void fuzz_csv(const uint8_t *bytes, size_t size) { fuzz_data("in.csv", bytes, size); }
static void fuzz_npy(const uint8_t *bytes, size_t size) { fuzz_data("in.npy", bytes, size); }
static void fuzz_any(const uint8_t *bytes, size_t size) { /* not found, or by name */
    fuzz_data("in", bytes, size);
}
static void fuzz_mended_model(const uint8_t *bytes, size_t size) {
    mend((unsigned char *)(uintptr_t)bytes, size);
    fuzz_model(bytes, size);
}
static void fuzz_mended_checkpoint(const uint8_t *bytes, size_t size) {
    mend((unsigned char *)(uintptr_t)bytes, size);
    fuzz_checkpoint(bytes, size);
}

/* Announcements, half of them with a right mac, as of whom they say; what is heard is explained. */
static void fuzz_find(const uint8_t *bytes, size_t size) {
    static const unsigned char psk[32] = {1}, secret[32] = {2};
    dls_device device[3];
    const dls_roster roster = {7, 1, 3, device};
    dls_port_desc port = {DLS_PORT_PACKET, 1200, false, false, 0, NULL, 0};
    dls_peer_desc d;
    dls_find_desc f;
    dls_peer *peer;
    dls_find *find;
    void *mem[2] = {NULL, NULL};
    uint64_t now = 1000000;
    int i;
    memset(device, 0, sizeof device);
    memset(&d, 0, sizeof d);
    memset(&f, 0, sizeof f);
    for (i = 0; i < 3; i++) device[i].id = (uint32_t)i + 1;
    device[1].flags = DLS_DEVICE_SMALL;
    device[2].flags = DLS_DEVICE_REVOKED;
    dls_x25519_public(device[0].public_key, secret);
    d.roster = &roster;
    d.id = 1;
    d.psk = psk;
    d.secret = secret;
    d.window = 4;
    d.devices_max = 3;
    mem[0] = malloc(dls_peer_size(&d));
    if (dls_peer_init(&peer, &d, mem[0], dls_peer_size(&d)) != DLS_OK) __builtin_trap();
    f.peer = peer;
    f.port = dls_peer_port_open(peer, &port, now);
    mem[1] = malloc(dls_find_size(&f));
    if (dls_find_init(&find, &f, mem[1], dls_find_size(&f)) != DLS_OK) __builtin_trap();
    while (size >= 2) {
        unsigned char packet[64];
        const uint8_t how = bytes[0];
        const size_t n = dlsi_min_size(bytes[1] % 64, size - 2);
        dls_addr from = {6, {10, 0, 0, 1}};
        char text[80];
        uint32_t id;
        dls_status what;
        memset(packet, 0, sizeof packet);
        memcpy(packet, bytes + 2, n);
        from.bytes[3] = how & 7;
        now += (uint64_t)(how >> 5) * 400000;
        if ((how & 8) != 0) {
            unsigned char key[32];
            memcpy(key, psk, 32);
            if (dlsi_load32(packet + 8) == 2) dls_device_psk(key, psk, 7, 2);
            packet[0] = DLS_PACKET_ANNOUNCE;
            packet[1] = 1;
            dlsi_store32(packet + 4, 7);
            dls_announce_mac(packet + 32, key, packet);
        }
        what = dls_find_read(find, &from, packet, (how & 16) != 0 ? n : DLS_ANNOUNCE_BYTES, now);
        if (what == DLS_OK && (how & 8) == 0) __builtin_trap(); /* forged */
        while (dls_find_next(find, &id, &what, now)) {
            if (strlen(dls_find_explain(find, id, text, sizeof text, now)) >= sizeof text)
                __builtin_trap();
        }
        dls_peer_tick(peer, now);
        bytes += 2 + n;
        size -= 2 + n;
    }
    dls_peer_close(peer);
    free(mem[0]);
    free(mem[1]);
}
/* Key files with the checksum mended: what is taken is written again alike. */
static void fuzz_keys(const uint8_t *bytes, size_t size) {
    const bool root = size > 8 && bytes[8] == 'r'; /* "dlshard root key" */
    const dlsi_key_kind *kind = root ? dlsi_key_root() : dlsi_key_device();
    union {
        dls_root root;
        dls_keys keys;
    } to;
    char text[1200], again[1200];
    dlsi_text t = {text, 0, sizeof text};
    unsigned char crc[4];
    int32_t i;
    if (size > 1100) return;
    memcpy(text, bytes, size);
    t.used = size;
    if (size > 0 && text[size - 1] == '\n') {
        dlsi_store32(crc, dls_crc32c(0, text, size));
        dlsi_text_str(&t, "check ");
        dlsi_text_hex(&t, crc, 4);
        dlsi_text_str(&t, "\n");
    }
    memset(&to, 0, sizeof to);
    if (dlsi_key_parse(kind, text, t.used, &to, "in.key", NULL) != DLS_OK) return;
    size = t.used;
    t.buf = again;
    t.used = 0;
    dlsi_text_str(&t, kind->head);
    dlsi_text_str(&t, "1\n");
    for (i = 0; i < kind->fields; i++)
        dlsi_field_write(&kind->field[i], (const unsigned char *)&to + kind->field[i].at, &t);
    if (t.used + 15 != size || memcmp(text, again, t.used) != 0) __builtin_trap();
}
/* Enrolment: the input is the packet that comes at a step, its first byte says which; or a code. */
static void fuzz_enrol(const uint8_t *bytes, size_t size) {
    static unsigned char to[DLS_ENROL_MOST], next[DLS_ENROL_MOST];
    const unsigned step = size > 0 ? bytes[0] % 4u : 0;
    char code[DLS_CODE_TEXT + 8];
    dls_enrol here, there;
    dls_invite invite, guess;
    dls_roster_file file, got;
    dls_root root;
    dls_keys keys;
    size_t n;
    if (size < 2) return;
    memset(&root, 7, sizeof root);
    memset(&file, 0, sizeof file);
    memset(&got, 0, sizeof got);
    memcpy(code, bytes + 1, n = size - 1 < sizeof code - 1 ? size - 1 : sizeof code - 1);
    code[n] = '\0';
    (void)dls_invite_read(&guess, code);
    if (dls_invite_make(&invite, "ben", DLS_ROLE_JOIN, code) != DLS_OK) abort();
    if (dls_enrol_call(&here, &invite, to) != DLS_OK) abort();
    if (step == 0) {
        if (dls_enrol_answer(&there, &invite, 1, bytes + 1, size - 1, next, 0) == DLS_OK) abort();
        return;
    }
    if (dls_enrol_answer(&there, &invite, 1, to, DLS_ENROL_BYTES, next, 0) != DLS_OK) abort();
    if (step == 1) {
        if (dls_enrol_prove(&here, bytes + 1, size - 1, to) == DLS_OK) abort();
        return;
    }
    if (dls_enrol_prove(&here, next, DLS_ENROL_BYTES, to) != DLS_OK) abort();
    if (step == 2) {
        if (dls_enrol_admit(&there, &root, &file, bytes + 1, size - 1, next, &n, NULL) == DLS_OK)
            abort();
        dls_roster_free(&file);
        return;
    }
    if (bytes[0] & 4) { /* genuine, but what it says is the input: as if root's holder were bad */
        dls_session record;
        unsigned char send[32], recv[32];
        if (dls_noise_read(&there.noise, to + 4, 64, next, 0, &n) != DLS_OK) abort();
        if (dls_noise_split(&there.noise, send, recv) != DLS_OK) abort();
        dls_session_init(&record, send, recv);
        n = size - 1 < 50000 ? size - 1 : 50000;
        memcpy(next, "\x06\x01\x02\x04", 4);
        memcpy(next + 4, bytes + 1, n);
        if (dls_session_seal(&record, next + 4, next + 4, n, next, 4, next + 4 + n) != DLS_OK)
            abort();
        bytes = next;
        size = n + 4 + 16;
    } else {
        bytes++;
        size--;
    }
    if (dls_enrol_take(&here, bytes, size, &keys, &got, NULL) == DLS_OK) dls_roster_free(&got);
}
static void fuzz_addr(const uint8_t *bytes, size_t size) {
    char text[100], again[100];
    dls_addr a, b;
    if (size >= sizeof text) return;
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (dls_addr_read(&a, text) != DLS_OK) return;
    if (a.size == 19) return; /* the interface's number stands for its name */
    if (dls_addr_read(&b, dls_addr_text(&a, again, sizeof again)) != DLS_OK ||
        !dlsi_addr_same(&a, &b))
        __builtin_trap();
}

/* A message: u8 what for, then its bytes. What passes is finite, and merges with itself. */
static void fuzz_codec(const uint8_t *bytes, size_t size) {
    static float to[20000];
    static unsigned char merged[100000];
    dls_codec_info info;
    dls_codec_part part[2];
    dls_codec_desc d;
    dls_codec c;
    static unsigned char mem[20000];
    size_t i, out;
    if (size < 1) return;
    if (bytes[0] == 1) { /* a saved state */
        memset(&d, 0, sizeof d);
        d.kind = DLS_CODEC_TOPK;
        d.momentum = 0.5f;
        if (dls_codec_init(&c, &d, 40, mem, sizeof mem) != DLS_OK) __builtin_trap();
        (void)dls_codec_load(&c, bytes + 1, size - 1);
        for (i = 0; i < c.state_count; i++)
            if (!dlsi_finite((double)c.state[i])) __builtin_trap();
        return;
    }
    if (dls_codec_check(bytes + 1, size - 1, &info) != DLS_OK) return;
    if (info.sent > info.n) __builtin_trap();
    if (info.n > sizeof to / sizeof *to) return;
    if (dls_codec_decode(bytes + 1, size - 1, info.n, to, 1.0f, false) != DLS_OK) __builtin_trap();
    for (i = 0; i < info.n; i++)
        if (!dlsi_finite((double)to[i])) __builtin_trap();
    memset(part, 0, sizeof part);
    for (i = 0; i < 2; i++) {
        part[i].in = bytes + 1;
        part[i].bytes = size - 1;
        part[i].weight = 0.25f;
    }
    if (dls_codec_merge(part, 2, info.n, merged, sizeof merged, &out) != DLS_OK) return;
    if (dls_codec_decode(merged, out, info.n, to, 1.0f, true) != DLS_OK) __builtin_trap();
}

/* What an input's first byte says, modulo their number: new ones go to the end. */
static void (*const targets[])(const uint8_t *bytes, size_t size) = {
    fuzz_model,             /* 0 */
    fuzz_csv,               /* 1 */
    fuzz_npy,               /* 2 */
    fuzz_checkpoint,        /* 3 */
    fuzz_stream,            /* 4 */
    fuzz_gunzip,            /* 5 */
    fuzz_idx,               /* 6 */
    fuzz_any,               /* 7 */
    fuzz_mended_model,      /* 8 */
    fuzz_wire,              /* 9 */
    fuzz_engines,           /* 10 */
    fuzz_mended_checkpoint, /* 11 */
    fuzz_handshake,         /* 12 */
    fuzz_records,           /* 13 */
    fuzz_identity,          /* 14 */
    fuzz_cobs,              /* 15 */
    fuzz_ack,               /* 16 */
    fuzz_find,              /* 17 */
    fuzz_keys,              /* 18 */
    fuzz_addr,              /* 19 */
    fuzz_enrol,             /* 20 */
    fuzz_codec,             /* 21 */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *only; /* FUZZ_TARGET: all inputs go to this one */
    unsigned char *copy;     /* of exact length, so that reads past its end are seen */
    if (size < 1) return 0;
    if (only == NULL) only = getenv("FUZZ_TARGET");
    copy = (unsigned char *)malloc(size);
    memcpy(copy, data + 1, size - 1);
    targets[(only != NULL ? (size_t)atoi(only) : data[0]) % (sizeof targets / sizeof *targets)](
        copy, size - 1);
    free(copy);
    return 0;
}

#ifdef MAKE_SEEDS /* writes a valid input for each decoder into the folder argv[1] */
static void seed(const char *dir, int which, const char *name, const void *bytes, size_t size) {
    char path[600];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "wb");
    if (f == NULL) return;
    fputc(which, f);
    fwrite(bytes, 1, size, f);
    fclose(f);
}
/* Scripts that go well, and what reads: from there on changes find the rest. */
static void session_seeds(const char *dir) {
    static const unsigned char handshake[] = {0, 0, 12, 3, 0, 1, 9, 2, 0, 0, 40, 3, 0},
                               records[] = {0, 9, 0, 3, 2, 1, 2,  0, 1, 130, 2,   2,
                                            0, 5, 2, 3, 2, 2, 67, 1, 3, 1,   131, 4};
    unsigned char script[sizeof handshake], out[400], seed_bytes[32] = {0};
    dls_cert cert;
    dls_manifest manifest;
    dls_device devices[3];
    dls_roster roster = {7, 8, 3, devices};
    char name[] = "handshake0";
    int i;
    for (i = 0; i < 3; i++) {
        memcpy(script, handshake, sizeof script);
        script[0] = (unsigned char)i;
        name[9] = (char)('0' + i);
        seed(dir, 12, name, script, sizeof script);
        memset(&devices[i], 0, sizeof devices[i]);
        devices[i].id = (uint32_t)i;
        devices[i].public_key[0] = 1;
    }
    seed(dir, 13, "records", records, sizeof records);
    memset(&cert, 0, sizeof cert);
    cert.device = devices[0];
    if (dls_cert_write(&cert, seed_bytes, out) == DLS_OK)
        seed(dir, 14, "cert", out, DLS_CERT_BYTES);
    if (dls_roster_write(&roster, seed_bytes, out, sizeof out) == DLS_OK)
        seed(dir, 14, "roster", out, dls_roster_bytes(3));
    memset(&manifest, 0, sizeof manifest);
    manifest.chunk_bits = 10;
    manifest.bytes = 168;
    if (dls_manifest_write(&manifest, seed_bytes, out) == DLS_OK)
        seed(dir, 14, "manifest", out, DLS_MANIFEST_BYTES);
}
static void link_seeds(const char *dir) {
    static const char address[] = "[2001:db8::17%lo]:443";
    unsigned char script[2 * (2 + 32)] = {8, 32};
    char text[1200];
    const dlsi_key_kind *kind[2];
    dls_keys keys;
    dlsi_text t = {text, 0, sizeof text};
    int32_t i, k;
    script[2 + 8] = 2;
    script[34] = 8 + 32 + 1;
    script[35] = 32;
    script[34 + 2 + 8] = 2;
    script[34 + 2 + 16] = 1;
    seed(dir, 17, "announce", script, sizeof script);
    kind[0] = dlsi_key_root();
    kind[1] = dlsi_key_device();
    memset(&keys, 0, sizeof keys);
    keys.name[0] = 'a';
    for (k = 0; k < 2; k++) {
        t.used = 0;
        dlsi_text_str(&t, kind[k]->head);
        dlsi_text_str(&t, "1\n");
        for (i = 0; i < kind[k]->fields; i++)
            dlsi_field_write(&kind[k]->field[i],
                             (const unsigned char *)&keys + kind[k]->field[i].at, &t);
        seed(dir, 18, k == 0 ? "root_key" : "device_key", text, t.used);
    }
    seed(dir, 19, "address", address, sizeof address - 1);
    memset(text, 0, sizeof text);
    for (k = 0; k < 8; k++) { /* a head of each step, and what packet 4 has inside */
        text[0] = (char)k;
        memcpy(text + 1, "\x06\x01\x02", 3);
        text[4] = (char)(k % 4 + 1);
        seed(dir, 20, k < 4 ? "packet" : "inside", text, k % 4 == 3 ? 200 : 101);
    }
}
static void codec_seeds(const char *dir) {
    static unsigned char mem[20000], out[2000];
    float g[300];
    char name[] = "codec0";
    dls_codec_desc d;
    dls_codec c;
    size_t bytes;
    int i;
    for (i = 0; i < 300; i++) g[i] = (float)(i * 37 % 101 - 50);
    for (i = 0; i < 10; i++) {
        memset(&d, 0, sizeof d);
        d.kind = (dls_codec_kind)(i < 7 ? i : DLS_CODEC_TOPK);
        d.value_bits = i == 7 ? 16 : i == 8 ? 2 : 8;
        d.density = 0.1f;
        d.momentum = i == 9 ? 0.5f : 0.0f;
        out[0] = i == 9;
        name[5] = (char)('0' + i);
        if (dls_codec_init(&c, &d, i == 9 ? 40 : 300, mem, sizeof mem) != DLS_OK) return;
        if (dls_codec_encode(&c, 1, 2, g, out + 1, sizeof out - 1, &bytes) != DLS_OK) return;
        if (i == 9 && dls_codec_save(&c, out + 1, sizeof out - 1) == DLS_OK)
            bytes = dls_codec_saved_bytes(&c);
        seed(dir, 21, name, out, bytes + 1);
    }
}
int main(int argc, char **argv) {
    static unsigned char buf[1 << 16];
    static const char csv[] = "label,a,b\n1,0.5,2e-3\n0,1,2\n";
    static const unsigned char gzip[] = {31, 139, 8,  0, 0, 0,   0,  0,  2,  255, 75, 76, 4, 130,
                                         36, 48,  72, 5, 0, 160, 28, 83, 71, 10,  0,  0,  0};
    static const unsigned char idx[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
                                        2, 1, 2, 3, 4, 0, 0, 8, 1, 0, 0, 0, 1, 7};
    static const unsigned char ack[] = {20, 8,  9, 0, 0, 0, 5, 0, 1, 9, 20,
                                        10, 18, 0, 0, 0, 5, 0, 2, 1, 2, 3};
    char npy[160];
    dls_net *net = dls_net_create(NULL);
    dls_val x;
    dls_hello hello;
    if (argc != 2) return 1;
    x = dls_net_conv2d(net, dls_net_input(net, 6, 6, 2), 4, 3, DLS_ACT_RELU);
    x = dls_net_batchnorm(net, dls_net_depthwise(net, x, 3, 1, DLS_ACT_NONE), DLS_ACT_NONE);
    (void)dls_net_dense(net, dls_net_maxpool(net, x, 2), 3, DLS_ACT_NONE);
    (void)dls_net_init_params(net);
    if (dls_model_write(net, buf, sizeof buf) != DLS_OK) return 1;
    seed(argv[1], 0, "model", buf, dls_model_size(net));
    seed(argv[1], 8, "model_mended", buf, dls_model_size(net));
    seed(argv[1], 11, "checkpoint", buf, dls_model_size(net));
    dls_net_destroy(net);
    net = dls_net_create(NULL);
    x = dls_net_embedding(net, dls_net_input_ids(net, 5), 7, 8);
    x = dls_net_gru(net, dls_net_lstm(net, dls_net_rmsnorm(net, x), 4), 4);
    (void)dls_net_attention(net, x, x, x, NULL);
    (void)dls_net_init_params(net);
    if (dls_model_write(net, buf, sizeof buf) == DLS_OK)
        seed(argv[1], 8, "model_sequence", buf, dls_model_size(net));
    dls_net_destroy(net);
    seed(argv[1], 1, "csv", csv, sizeof csv - 1);
    memset(npy, ' ', sizeof npy);
    memcpy(npy,
           "\x93NUMPY\x01\x00\x76\x00"
           "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
           10 + 58);
    npy[127] = '\n';
    seed(argv[1], 2, "npy", npy, 128 + 24);
    memset(&hello, 0, sizeof hello); /* HELLO and WANT in one packet, a chunk in another */
    memset(buf, 0, 256);
    hello.size = 3;
    hello.wants = 8;
    hello.real_bytes = 4;
    buf[0] = 5 + 36 + 20;
    buf[2] = DLS_FRAME_CONTROL;
    buf[5] = 36 + 20;
    buf[7] = DLS_CONTROL_HELLO;
    buf[9] = DLS_HELLO_BYTES;
    dls_hello_write(&hello, buf + 11);
    buf[43] = DLS_CONTROL_WANT;
    buf[45] = 16;
    buf[51] = 8;
    buf[55] = 100;
    buf[63] = 109;
    buf[65] = DLS_FRAME_CHUNK;
    seed(argv[1], 4, "stream", buf, 65 + 109);
    seed(argv[1], 5, "gzip", gzip, sizeof gzip);
    seed(argv[1], 6, "idx", idx, sizeof idx);
    seed(argv[1], 9, "frames", buf + 2, 63 + 109);
    memset(buf, 0, 256); /* all up; a message from 0 to 1, one from 0 to 2 behind the gateway */
    buf[0] = 1;
    memcpy(buf + 1, "\x07\x40\x18\x43\x07\x41\x28\x42\x0D\xFF\x04\x10\x0D\xFF\x0C\x01\x09\x03", 18);
    seed(argv[1], 10, "engines", buf, 60);
    session_seeds(argv[1]);
    link_seeds(argv[1]);
    codec_seeds(argv[1]);
    seed(argv[1], 16, "ack", ack, sizeof ack);
    seed(argv[1], 15, "cobs", buf, dls_cobs_write(buf, sizeof buf, csv, sizeof csv));
    return 0;
}
#endif
