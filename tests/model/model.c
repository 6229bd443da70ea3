/* Model files: round trips, bytes alike for alike networks, every truncation, every single-bit
   flip, and hostile files whose checksums are right. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

/* A small network with many kinds of nodes; seeds differ in weights only. */
static dls_net *make(uint64_t seed) {
    dls_net_desc desc;
    dls_net *net;
    dls_val x, y, part[2];
    memset(&desc, 0, sizeof desc);
    desc.seed = seed;
    net = dls_net_create(&desc);
    x = dls_net_input(net, 6, 6, 2);
    x = dls_net_conv2d(net, x, 4, 3, DLS_ACT_RELU6);
    y = dls_net_batchnorm(net, dls_net_depthwise(net, x, 3, 1, DLS_ACT_NONE), DLS_ACT_RELU);
    x = dls_net_leaky(net, dls_net_add(net, x, y, DLS_ACT_NONE), 0.125f);
    dls_net_split(net, x, 2, 2, part);
    x = dls_net_concat(net, part, 2, 2);
    x = dls_net_dropout(net, dls_net_maxpool(net, x, 2), 0.5f);
    dls_net_dense(net, x, 3, DLS_ACT_NONE);
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    return net;
}
/* Its file, in fresh memory. */
static unsigned char *file_of(dls_net *net, size_t *size) {
    unsigned char *bytes;
    *size = dls_model_size(net);
    bytes = (unsigned char *)malloc(*size);
    CHECK(*size > 0 && bytes != NULL);
    CHECK_STATUS(dls_model_write(net, bytes, *size), DLS_OK);
    return bytes;
}
/* Everything a loader does with bytes; the status of the first step that refuses. */
static dls_status load(const void *bytes, size_t size, dls_net **out) {
    dls_model model;
    dls_net *net = NULL;
    dls_status st = dls_model_open(&model, bytes, size, NULL);
    size_t meta;
    if (st == DLS_OK) {
        dls_net_desc desc;
        (void)dls_model_meta(&model, &meta);
        (void)dls_model_number(&model, "k", 0);
        memset(&desc, 0, sizeof desc);
        desc.nodes_max = model.nodes > 0 ? model.nodes : 1;
        net = dls_net_create(&desc);
        if (net == NULL) return DLS_E_MEMORY;
        st = dls_model_build(&model, net, NULL);
        if (st == DLS_OK && dls_net_param_count(net) < 1000000) st = dls_model_params(&model, net);
    }
    if (out != NULL && st == DLS_OK) *out = net;
    else dls_net_destroy(net);
    return st;
}
static void run(dls_net *net, float *y) {
    dls_exec *exec = dls_exec_create(net, NULL);
    float *x;
    int i;
    CHECK(exec != NULL);
    if (exec == NULL) return;
    x = (float *)dls_exec_input(exec, 0);
    for (i = 0; i < 72; i++) x[i] = (float)((i * 37) % 19) / 10.0f - 0.9f;
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_OK);
    memcpy(y, dls_exec_output(exec), 3 * sizeof *y);
    dls_exec_destroy(exec);
}

static void test_round_trip(void) {
    dls_net *net = make(3), *copy = NULL;
    size_t size, size2;
    unsigned char *bytes = file_of(net, &size), *again;
    float a[3] = {0}, b[3] = {1};
    CHECK_STATUS(load(bytes, size, &copy), DLS_OK);
    if (copy == NULL) return;
    CHECK(dls_net_hash(net) == dls_net_hash(copy));
    CHECK_INT(dls_net_nodes(net), dls_net_nodes(copy));
    CHECK_INT(dls_net_output_of(net), dls_net_output_of(copy));
    run(net, a);
    run(copy, b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK(a[0] != a[1]);
    again = file_of(copy, &size2);
    CHECK_INT(size, size2);
    CHECK(size == size2 && memcmp(bytes, again, size) == 0);
    free(bytes);
    free(again);
    dls_net_destroy(net);
    dls_net_destroy(copy);
}

static void test_meta(void) {
    dls_net *net = make(1);
    dls_model model;
    size_t size, length;
    unsigned char *bytes;
    const char *text;
    dls_net_set_meta(net, "classes=10\nscale=0.25\nname=digits\nlr=-1e-3");
    bytes = file_of(net, &size);
    CHECK_STATUS(dls_model_open(&model, bytes, size, NULL), DLS_OK);
    text = dls_model_meta(&model, &length);
    CHECK(text != NULL && length == 42 && memcmp(text, "classes=10\n", 11) == 0);
    CHECK_NEAR(dls_model_number(&model, "classes", 0), 10, 0);
    CHECK_NEAR(dls_model_number(&model, "scale", 0), 0.25, 0);
    CHECK_NEAR(dls_model_number(&model, "lr", 0), -1e-3, 1e-18);
    CHECK_NEAR(dls_model_number(&model, "name", 7), 7, 0);   /* no number */
    CHECK_NEAR(dls_model_number(&model, "lasses", 7), 7, 0); /* not at a line's start */
    CHECK_NEAR(dls_model_number(&model, "absent", 7), 7, 0);
    CHECK_STATUS(load(bytes, size, NULL), DLS_OK);
    free(bytes);
    dls_net_destroy(net);
}

static void test_in_place(void) {
    dls_net *net = make(2), *bound = NULL;
    dls_model model;
    size_t size;
    unsigned char *bytes = file_of(net, &size);
    float a[3], b[3];
    const dls_real *weights;
    CHECK_STATUS(dls_model_open(&model, bytes, size, NULL), DLS_OK);
    bound = dls_net_create(NULL);
    CHECK_STATUS(dls_model_build(&model, bound, NULL), DLS_OK);
    weights = dls_model_params_in_place(&model);
    if (dlsi_little_endian()) {
        CHECK(weights != NULL);
        CHECK_STATUS(dls_net_bind_params(bound, (dls_real *)(uintptr_t)weights), DLS_OK);
        run(net, a);
        run(bound, b);
        CHECK(memcmp(a, b, sizeof a) == 0);
    } else {
        CHECK(weights == NULL);
    }
    model.at[DLSI_PARAMS]++; /* as if the file lay at an odd address */
    CHECK(dls_model_params_in_place(&model) == NULL);
    free(bytes);
    dls_net_destroy(net);
    dls_net_destroy(bound);
}

static void test_every_truncation_is_refused(void) {
    dls_net *net = make(1);
    size_t size, i;
    unsigned char *bytes = file_of(net, &size);
    for (i = 0; i < size; i++) {
        unsigned char *part = (unsigned char *)malloc(i + 1); /* exact: ASan sees overreads */
        memcpy(part, bytes, i);
        CHECK(load(part, i, NULL) != DLS_OK);
        free(part);
    }
    bytes = (unsigned char *)realloc(bytes, size + 64);
    memset(bytes + size, 0, 64);
    for (i = 1; i <= 64; i++) CHECK_STATUS(load(bytes, size + i, NULL), DLS_E_FORMAT);
    free(bytes);
    dls_net_destroy(net);
}

static void test_every_bit_flip_is_refused(void) {
    dls_net *net = make(1);
    size_t size, i;
    int loaded = 0, damaged = 0;
    unsigned char *bytes = file_of(net, &size);
    for (i = 0; i < 8 * size; i++) {
        dls_status st;
        bytes[i / 8] = (unsigned char)(bytes[i / 8] ^ 1u << i % 8);
        st = load(bytes, size, NULL);
        loaded += st == DLS_OK;
        damaged += st == DLS_E_CHECKSUM;
        bytes[i / 8] = (unsigned char)(bytes[i / 8] ^ 1u << i % 8);
    }
    CHECK_INT(loaded, 0);
    CHECK(damaged > (int)(7 * size)); /* most are seen as damage, not as another format */
    CHECK_STATUS(load(bytes, size, NULL), DLS_OK);
    free(bytes);
    dls_net_destroy(net);
}

/* Makes all checksums of a file right again, so that what is behind them is reached. */
static void mend(unsigned char *p, size_t size) {
    const uint32_t sections = dlsi_load32(p + 12);
    uint32_t i, crc;
    if (sections > 4 || 64 + sections * 32 > size) return;
    for (i = 0; i < sections; i++) {
        unsigned char *row = p + 64 + i * 32;
        const uint64_t at = dlsi_load64(row + 8), n = dlsi_load64(row + 16);
        if (at <= size && n <= size - at) dlsi_store32(row + 4, dls_crc32c(0, p + at, (size_t)n));
    }
    crc = dls_crc32c(0, p, 60);
    dlsi_store32(p + 60, dls_crc32c(crc, p + 64, sections * 32));
}

/* One byte of header, table or graph at a time is set to nasty values with checksums mended: the
   graph's own hash must refuse nearly all; whatever loads must run. */
static void test_hostile_files(void) {
    static const unsigned char nasty[] = {0, 1, 0x7F, 0x80, 0xFF, 64, 5};
    dls_net *net = make(1);
    size_t size, i, k, graph_end;
    int loaded = 0;
    unsigned char *bytes = file_of(net, &size), *copy = (unsigned char *)malloc(size);
    graph_end = (size_t)(dlsi_load64(bytes + 64 + 8) + dlsi_load64(bytes + 64 + 16));
    for (i = 0; i < graph_end; i++)
        for (k = 0; k < sizeof nasty; k++) {
            memcpy(copy, bytes, size);
            copy[i] = nasty[k];
            if (bytes[i] == nasty[k]) continue;
            mend(copy, size);
            loaded += load(copy, size, NULL) == DLS_OK;
        }
    /* The three checksums themselves are mended away; elsewhere nothing may pass. */
    CHECK(loaded > 0 && loaded <= 12 * (int)sizeof nasty);
    free(bytes);
    free(copy);
    dls_net_destroy(net);
}

/* The same with the hash mended too: shape rules and bounds are then the only defence. */
static void test_hostile_graphs(void) {
    dls_net *net = make(1);
    size_t size, i, graph, length;
    int tried = 0;
    unsigned char *bytes = file_of(net, &size), *copy = (unsigned char *)malloc(size);
    graph = (size_t)dlsi_load64(bytes + 64 + 8);
    length = (size_t)dlsi_load64(bytes + 64 + 16);
    for (i = 0; i < 30000; i++) {
        dls_model model;
        dls_net *other;
        uint32_t k, times = 1 + dls_rand_at(5, (uint32_t)i) % 3;
        memcpy(copy, bytes, size);
        for (k = 0; k < times; k++) {
            const uint32_t r = dls_rand_at(6, (uint32_t)i * 4 + k);
            copy[graph + r % length] = (unsigned char)(r >> 24);
        }
        mend(copy, size);
        if (dls_model_open(&model, copy, size, NULL) != DLS_OK) continue;
        other = dls_net_create(NULL);
        (void)dls_model_build(&model, other, NULL);
        if (dls_net_status(other) == DLS_OK || dls_net_nodes(other) == model.nodes) {
            dls_exec_desc desc;
            memset(&desc, 0, sizeof desc);
            tried++;
            (void)dls_exec_size(other, &desc);
        }
        dls_net_destroy(other);
    }
    CHECK(tried > 100);
    free(bytes);
    free(copy);
    dls_net_destroy(net);
}

static const dls_op *no_pool(const char *name) {
    return strcmp(name, "maxpool") == 0 ? NULL : dls_op_find(name);
}

static void test_errors(void) {
    dls_net *net = make(1), *other = dls_net_create(NULL);
    dls_model model;
    dls_error error;
    size_t size;
    unsigned char *bytes = file_of(net, &size);
    char text[200];
    CHECK_STATUS(dls_model_open(&model, "hello", 5, &error), DLS_E_FORMAT);
    CHECK_TEXT(dls_error_text(&error, text, sizeof text), "DLSHMODL");
    CHECK_STATUS(dls_model_write(net, bytes, size - 1), DLS_E_MEMORY);
    CHECK_STATUS(dls_model_write(net, bytes, size), DLS_OK);
    bytes[8] = 2;
    CHECK_STATUS(dls_model_open(&model, bytes, size, &error), DLS_E_VERSION);
    CHECK_TEXT(dls_error_text(&error, text, sizeof text), "model format 2");
    bytes[8] = 1;
    CHECK_STATUS(dls_model_open(&model, bytes, size, &error), DLS_OK);
    CHECK_STATUS(dls_model_build(&model, other, no_pool), DLS_E_NOT_FOUND);
    CHECK_TEXT(dls_error_text(dls_net_error(other), text, sizeof text), "op that this program");
    dls_net_destroy(other);
    other = dls_net_create(NULL);
    (void)dls_net_input(other, 1, 1, 1);
    CHECK_STATUS(dls_model_build(&model, other, NULL), DLS_E_STATE);
    dls_net_destroy(other);
    other = dls_net_create(NULL);
    (void)dls_net_dense(other, dls_net_input(other, 1, 1, 4), 2, DLS_ACT_NONE);
    CHECK_STATUS(dls_model_params(&model, other), DLS_E_MISMATCH);
    dls_net_destroy(other);
    free(bytes);
    dls_net_destroy(net);
}

static void test_by_path(void) {
    char path[600], text[300];
    dls_net *net = make(9), *copy = NULL;
    dls_model model;
    dls_error error;
    float a[3], b[3];
    snprintf(path, sizeof path, "%s/model/by_path.dls", getenv("BUILD"));
    CHECK_STATUS(dls_net_save(net, path, &error), DLS_OK);
    CHECK_STATUS(dls_net_save(net, path, NULL), DLS_OK); /* replaces */
    CHECK_STATUS(dls_net_load(&copy, path, &error), DLS_OK);
    run(net, a);
    run(copy, b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK_STATUS(dls_model_read(&model, path, NULL), DLS_OK);
    CHECK_INT(model.nodes, dls_net_nodes(net));
    DLS_FREE((void *)(uintptr_t)model.bytes);
    dls_net_destroy(copy);
    CHECK_STATUS(dls_net_load(&copy, "no/such/file.dls", &error), DLS_E_NOT_FOUND);
    CHECK_TEXT(dls_error_text(&error, text, sizeof text), "no/such/file.dls");
    CHECK(copy == NULL);
    dls_net_destroy(net);
}

int main(int argc, char **argv) {
    test_start("model", argc, argv);
    RUN(round_trip);
    RUN(meta);
    RUN(in_place);
    RUN(every_truncation_is_refused);
    RUN(every_bit_flip_is_refused);
    RUN(hostile_files);
    RUN(hostile_graphs);
    RUN(errors);
    RUN(by_path);
    return test_end();
}
