/* One libFuzzer target for every decoder; the first byte of an input says which. Files are read
   through the DLS_FS hooks from memory. Checksums of model files are mended on odd choices so that
   what lies behind them is reached. Inputs of interest stay in tests/build/fuzz/corpus. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char *copy; /* of exact length, so that reads past its end are seen */
    if (size < 1) return 0;
    copy = (unsigned char *)malloc(size);
    memcpy(copy, data + 1, size - 1);
    size--;
    if ((data[0] & 8) != 0) mend(copy, size);
    switch (data[0] & 7) {
    case 0: fuzz_model(copy, size); break;
    case 1: fuzz_data("in.csv", copy, size); break;
    case 2: fuzz_data("in.npy", copy, size); break;
    case 3: fuzz_checkpoint(copy, size); break;
    case 4: fuzz_stream(copy, size); break;
    case 5: fuzz_gunzip(copy, size); break;
    case 6: fuzz_idx(copy, size); break;
    default: fuzz_data("in", copy, size); break; /* in-images-...: not found, or by name */
    }
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
int main(int argc, char **argv) {
    static unsigned char buf[1 << 16];
    static const char csv[] = "label,a,b\n1,0.5,2e-3\n0,1,2\n";
    static const unsigned char gzip[] = {31, 139, 8,  0, 0, 0,   0,  0,  2,  255, 75, 76, 4, 130,
                                         36, 48,  72, 5, 0, 160, 28, 83, 71, 10,  0,  0,  0};
    static const unsigned char idx[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
                                        2, 1, 2, 3, 4, 0, 0, 8, 1, 0, 0, 0, 1, 7};
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
    return 0;
}
#endif
