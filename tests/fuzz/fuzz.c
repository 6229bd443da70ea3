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

/* A stream of frames from somebody we called; one receive of 100 bytes is open. */
static void fuzz_stream(const uint8_t *bytes, size_t size) {
    static unsigned char block[1 << 16], got[100];
    dls_peer_desc desc;
    dls_peer_event event;
    dls_peer *peer;
    dls_status status;
    size_t at = 0, taken = 1;
    int32_t link, op;
    memset(&desc, 0, sizeof desc);
    desc.size = 3;
    desc.ops_max = 4;
    if (dls_peer_init(&peer, &desc, block, sizeof block) != DLS_OK) return;
    link = dls_peer_link_open(peer, 1, 0);
    op = dls_peer_recv(peer, 1, 7, got, sizeof got);
    while (at < size && taken > 0 && !dls_peer_link_done(peer, link)) {
        const size_t part = size - at < 61 ? size - at : 61;
        size_t out;
        if (dls_peer_rx(peer, link, bytes + at, part, &taken, at) != DLS_OK) break;
        at += taken;
        (void)dls_peer_tx_span(peer, link, &out);
        dls_peer_tx_done(peer, link, out, at);
        dls_peer_tick(peer, at * 1000);
    }
    (void)dls_peer_op_done(peer, op, &status);
    dls_peer_link_close(peer, link, at);
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
    dls_flow f;
    uint64_t now = 0, pn = 0;
    uint32_t ref[4] = {0, 0, 0, 0}, id = 0, flight = 0, i;
    size_t used;
    memset(given, 0, sizeof given);
    if (dls_flow_init(&f, ring, 32, 100, now) != DLS_OK) return;
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
        if (flight != f.in_flight || f.window < 200) __builtin_trap();
        bytes += 2 + n;
        size -= 2 + n;
    }
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
    default: /* in-images-...: not found, or by name; and what has no mending to do */
        if ((data[0] & 16) != 0)
            fuzz_cobs(copy, size);
        else if ((data[0] & 32) != 0)
            fuzz_ack(copy, size);
        else
            fuzz_data("in", copy, size);
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
    static const unsigned char ack[] = {20, 8,  9, 0, 0, 0, 5, 0, 1, 9, 20,
                                        10, 18, 0, 0, 0, 5, 0, 2, 1, 2, 3};
    char npy[160];
    dls_net *net = dls_net_create(NULL);
    dls_val x;
    dls_hello hello;
    dls_frame frame;
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
    memset(&hello, 0, sizeof hello);
    hello.rank = 1;
    hello.size = 3;
    hello.real_bytes = 4;
    frame.type = DLS_FRAME_HELLO;
    frame.flags = frame.tag = 0;
    frame.bytes = DLS_HELLO_BYTES;
    dls_frame_write(&frame, buf);
    dls_hello_write(&hello, buf + DLS_FRAME_HEAD);
    frame.type = DLS_FRAME_DATA;
    frame.flags = 3;
    frame.bytes = 100;
    frame.tag = 7;
    dls_frame_write(&frame, buf + DLS_FRAME_HEAD + DLS_HELLO_BYTES);
    seed(argv[1], 4, "stream", buf, 2 * DLS_FRAME_HEAD + DLS_HELLO_BYTES + 100);
    seed(argv[1], 7 + 16, "cobs", buf, dls_cobs_write(buf, sizeof buf, csv, sizeof csv - 1));
    seed(argv[1], 7 + 32, "ack", ack, sizeof ack);
    seed(argv[1], 5, "gzip", gzip, sizeof gzip);
    seed(argv[1], 6, "idx", idx, sizeof idx);
    return 0;
}
#endif
