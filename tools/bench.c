/* bench: how fast dlshard.h is on this machine. Run it through tools/bench, which compiles it.
   Build: cc -O2 tools/bench.c -o bench -lpthread

   bench train [options]   samples/s and GFLOP/s of whole training steps
   bench infer [options]   ms for one sample
   bench gemm  [options]   GFLOP/s of dls_gemm per shape
   bench codec [options]   MB/s of float32 gradients, one core, and how much smaller they get
   bench isa               the best kernels of this CPU
   bench check DIR [options]   our nets against what another framework wrote to DIR, see check_net()
   options: --nets a,b  --shapes MxNxK,...  --threads 1,2  --isa avx2  --seconds 2  --raw
   --raw: one line "median p10 p90 rate" per measurement, for scripts. Times are in ms.

   The nets and settings are those of tools/bench_peers/torch_nets.py, layer by layer: batch 64, SGD
   lr 0.001 momentum 0.9; gpt batch 8, AdamW lr 0.0001. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 100000, THREAD_COUNTS_MAX = 8 };

typedef struct options {
    const char *dir, *nets, *shapes;
    int threads[THREAD_COUNTS_MAX], thread_counts;
    dls_isa isa;
    double seconds;
    bool raw;
} options;

typedef struct timing {
    double median, p10, p90;
} timing;

static double times[SAMPLES_MAX];

static void die(const char *what, const char *detail) {
    fprintf(stderr, "bench: %s%s%s\n", what, detail[0] != 0 ? ": " : "", detail);
    exit(2);
}
static void die_of(const char *net, const dls_error *error) {
    char text[300];
    die(net, dls_error_text(error, text, sizeof text));
}
static void *memory(size_t bytes) {
    void *p = NULL;
    bytes = (bytes + 127) / 64 * 64;
    if (posix_memalign(&p, 64, bytes) != 0) die("out of memory", "");
    memset(p, 0, bytes);
    return p;
}
static double now_ms(void) { return (double)dls_now_us() * 1e-3; }
static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static timing summary(int n) {
    timing t;
    qsort(times, (size_t)n, sizeof times[0], by_size);
    t.median = times[n / 2];
    t.p10 = times[n / 10];
    t.p90 = times[n * 9 / 10];
    return t;
}
/* Whether item is one of the comma-separated words of list; an empty list has every word. */
static bool listed(const char *list, const char *item) {
    const size_t length = strlen(item);
    if (list == NULL || list[0] == 0) return true;
    for (; list != NULL; list = strchr(list, ',')) {
        if (list[0] == ',') list++;
        if (strncmp(list, item, length) == 0 && (list[length] == ',' || list[length] == 0))
            return true;
    }
    return false;
}

/* ---- The nets ---- */

static dls_val conv(dls_net *net, dls_val x, int32_t channels, int32_t kernel, int32_t stride,
                    int32_t groups) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = channels;
    d.kernel_h = kernel;
    d.stride_h = stride;
    d.groups = groups;
    d.pad = DLS_PAD_EXPLICIT; /* PyTorch's: alike on all sides, also where the stride is 2 */
    d.pad_top = d.pad_left = d.pad_bottom = d.pad_right = kernel / 2;
    d.no_bias = true;
    return dls_net_conv2d_desc(net, x, &d);
}
static dls_val conv_norm(dls_net *net, dls_val x, int32_t channels, int32_t kernel, int32_t stride,
                         dls_act act) {
    return dls_net_batchnorm(net, conv(net, x, channels, kernel, stride, 1), act);
}
/* Two 3x3 convolutions and a shortcut, projected where the shape changes (He et al. 2016). */
static dls_val residual_block(dls_net *net, dls_val x, int32_t channels, int32_t stride) {
    dls_val y = conv_norm(net, x, channels, 3, stride, DLS_ACT_RELU);
    y = conv_norm(net, y, channels, 3, 1, DLS_ACT_NONE);
    if (stride != 1 || dls_net_shape(net, x).c != channels)
        x = conv_norm(net, x, channels, 1, stride, DLS_ACT_NONE);
    return dls_net_add(net, y, x, DLS_ACT_RELU);
}
static dls_val build_resnet(dls_net *net, dls_val x, int32_t width, int stages, int blocks) {
    for (int i = 0; i < stages; i++)
        for (int j = 0; j < blocks; j++)
            x = residual_block(net, x, width << i, i > 0 && j == 0 ? 2 : 1);
    return dls_net_global_avgpool(net, x);
}
static void build_mlp(dls_net *net) {
    dls_val x = dls_net_input(net, 28, 28, 1);
    x = dls_net_dense(net, x, 512, DLS_ACT_RELU);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
}
static void build_lenet(dls_net *net) {
    dls_val x = dls_net_input(net, 28, 28, 1);
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU), 2);
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 32, 3, DLS_ACT_RELU), 2);
    x = dls_net_dense(net, x, 128, DLS_ACT_RELU);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
}
static void build_cifar(dls_net *net, int blocks) {
    const dls_val x = dls_net_input(net, 32, 32, 3);
    const dls_val y = conv_norm(net, x, 16, 3, 1, DLS_ACT_RELU);
    dls_net_dense(net, build_resnet(net, y, 16, 3, blocks), 10, DLS_ACT_NONE);
}
static void build_resnet8(dls_net *net) { build_cifar(net, 1); }
static void build_resnet20(dls_net *net) { build_cifar(net, 3); }
static void build_resnet18(dls_net *net) {
    dls_val x = conv_norm(net, dls_net_input(net, 224, 224, 3), 64, 7, 2, DLS_ACT_RELU);
    dls_pool2d_desc p;
    memset(&p, 0, sizeof p);
    p.kernel_h = 3;
    p.stride_h = 2;
    p.pad = DLS_PAD_EXPLICIT;
    p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = 1;
    x = dls_net_maxpool_desc(net, x, &p);
    dls_net_dense(net, build_resnet(net, x, 64, 4, 2), 1000, DLS_ACT_NONE);
}
/* Sandler et al. 2018, table 2: expansion, channels, repeats, stride of the first. */
static void build_mobilenetv2(dls_net *net) {
    static const int32_t table[7][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                                        {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    dls_val x = conv_norm(net, dls_net_input(net, 224, 224, 3), 32, 3, 2, DLS_ACT_RELU6);
    for (int i = 0; i < 7; i++)
        for (int32_t j = 0; j < table[i][2]; j++) {
            const int32_t in = dls_net_shape(net, x).c, wide = in * table[i][0], out = table[i][1];
            const int32_t stride = j > 0 ? 1 : table[i][3];
            dls_val y = x;
            if (wide != in) y = conv_norm(net, y, wide, 1, 1, DLS_ACT_RELU6);
            y = dls_net_batchnorm(net, conv(net, y, wide, 3, stride, wide), DLS_ACT_RELU6);
            y = conv_norm(net, y, out, 1, 1, DLS_ACT_NONE);
            x = stride == 1 && in == out ? dls_net_add(net, x, y, DLS_ACT_NONE) : y;
        }
    x = dls_net_global_avgpool(net, conv_norm(net, x, 1280, 1, 1, DLS_ACT_RELU6));
    dls_net_dense(net, x, 1000, DLS_ACT_NONE);
}
/* 4 layers, d 128, 4 heads, T 128, 256 tokens, norm first, learned positions, tied head. */
static void build_gpt(dls_net *net) {
    const dls_val table = dls_net_embedding(net, dls_net_input_ids(net, 128), 256, 128);
    dls_val x = dls_net_position(net, table), y;
    dls_attention_desc a;
    memset(&a, 0, sizeof a);
    a.heads = 4;
    a.causal = true;
    for (int i = 0; i < 4; i++) {
        y = dls_net_linear(net, dls_net_layernorm(net, x), 3 * 128, DLS_ACT_NONE);
        y = dls_net_linear(net, dls_net_attention_packed(net, y, &a), 128, DLS_ACT_NONE);
        x = dls_net_add(net, x, y, DLS_ACT_NONE);
        y = dls_net_linear(net, dls_net_layernorm(net, x), 4 * 128, DLS_ACT_GELU);
        y = dls_net_linear(net, y, 128, DLS_ACT_NONE);
        x = dls_net_add(net, x, y, DLS_ACT_NONE);
    }
    dls_net_tied_linear(net, dls_net_layernorm(net, x), table);
}

typedef struct net_row {
    const char *name;
    void (*build)(dls_net *net);
    bool trains, ids; /* part of the training comparison; its input is token ids */
} net_row;

static const net_row rows[] = {{"mlp", build_mlp, true, false},
                               {"lenet", build_lenet, true, false},
                               {"resnet8", build_resnet8, true, false},
                               {"resnet20", build_resnet20, true, false},
                               {"gpt", build_gpt, true, true},
                               {"mobilenetv2", build_mobilenetv2, false, false},
                               {"resnet18", build_resnet18, false, false}};
enum { ROWS = sizeof rows / sizeof rows[0] };

static dls_net *make(const net_row *row) {
    dls_net *net = dls_net_create(NULL);
    if (net == NULL) die("out of memory", row->name);
    row->build(net);
    if (dls_net_status(net) != DLS_OK) die_of(row->name, dls_net_error(net));
    return net;
}
/* Elements of the trained tensors, as other frameworks count them. */
static size_t trained_count(const dls_net *net) {
    size_t sum = 0, offset, count;
    dls_param p;
    for (dls_val v = 0; v < dls_net_nodes(net); v++)
        for (int32_t i = 0; dls_net_param_of(net, v, i, &p, &offset, &count) == DLS_OK; i++)
            if ((p.flags & DLS_PARAM_STATISTIC) == 0) sum += count;
    return sum;
}
/* A training step of one sample: forward, gradient of the weights and of the inputs cost alike, but
   the first layer needs no gradient of its input. */
static double training_flop(const net_row *row, const dls_net *net) {
    const double macs = dls_net_macs(net, 0, dls_net_nodes(net));
    double first = 0;
    for (dls_val v = 1; !row->ids && first <= 0 && v <= dls_net_nodes(net); v++)
        first = dls_net_macs(net, 0, v);
    return 6 * macs - 2 * first;
}
static dls_train_desc training(const net_row *row, dls_isa isa, dls_pool *pool) {
    dls_train_desc d;
    memset(&d, 0, sizeof d);
    d.batch = row->ids ? 8 : 64;
    d.isa = isa;
    d.pool = pool;
    d.optim.kind = row->ids ? DLS_OPTIM_ADAMW : DLS_OPTIM_SGD;
    d.optim.lr = row->ids ? 1e-4f : 1e-3f;
    d.optim.momentum = row->ids ? 0 : 0.9f;
    d.optim.decay_all = true; /* as PyTorch does */
    return d;
}
static void fill(const net_row *row, void *x, size_t count, int32_t *label, size_t labels,
                 uint32_t classes) {
    dls_rng rng = {5, 0};
    for (size_t i = 0; i < count; i++) {
        if (row->ids)
            ((int32_t *)x)[i] = (int32_t)(dls_rng_u32(&rng) % 256);
        else
            ((float *)x)[i] = dls_rng_normal(&rng);
    }
    for (size_t i = 0; i < labels; i++) label[i] = (int32_t)(dls_rng_u32(&rng) % classes);
}
static dls_pool *pool_of(int threads) {
    dls_pool_desc d;
    memset(&d, 0, sizeof d);
    d.threads = threads;
    dls_pool *pool = dls_pool_create(&d);
    if (pool == NULL) die("no threads", "");
    return pool;
}

/* ---- Measurements ---- */

static void bench_train(const net_row *row, int threads, const options *o) {
    dls_net *net = make(row);
    dls_pool *pool = pool_of(threads);
    const dls_train_desc d = training(row, o->isa, pool);
    dls_train *train = dls_train_create(net, &d);
    if (train == NULL) die_of(row->name, dls_net_error(net));
    const dls_shape out = dls_net_shape(net, dls_net_output_of(net));
    const size_t batch = (size_t)d.batch, positions = batch * (size_t)(out.h * out.w);
    const size_t count = batch * dls_shape_count(dls_net_shape(net, 0));
    void *x = memory(count * sizeof(float));
    int32_t *label = (int32_t *)memory(positions * sizeof *label);
    fill(row, x, count, label, positions, (uint32_t)out.c);
    dls_target target;
    memset(&target, 0, sizeof target);
    target.label = label;
    dls_step_stats stats;
    double end = 0;
    int n = 0;
    for (int warm = 5; n < SAMPLES_MAX && (warm > 0 || n < 10 || now_ms() < end); warm--) {
        const double start = now_ms();
        if (warm == 0) end = start + o->seconds * 1e3;
        if (dls_train_step(train, x, &target, d.batch, &stats) != DLS_OK)
            die_of(row->name, dls_exec_error(dls_train_exec(train)));
        if (warm <= 0) times[n++] = now_ms() - start;
    }
    const timing t = summary(n);
    const double rate = (double)batch * 1e3 / t.median;
    if (o->raw)
        printf("%.6f %.6f %.6f %.1f\n", t.median, t.p10, t.p90, rate);
    else
        printf("train %-11s %d thread%s %9.3f ms/step %9.0f samples/s %7.1f GFLOP/s "
               "(p10 %.3f p90 %.3f ms)\n",
               row->name, threads, threads == 1 ? " " : "s", t.median, rate,
               training_flop(row, net) * rate * 1e-9, t.p10, t.p90);
    dls_train_destroy(train);
    dls_pool_destroy(pool);
    dls_net_destroy(net);
    free(x);
    free(label);
}

/* Time of one sample includes copying it in. */
static void bench_infer(const net_row *row, int threads, const options *o) {
    dls_net *net = make(row);
    dls_exec_desc d;
    memset(&d, 0, sizeof d);
    d.isa = o->isa;
    d.pool = pool_of(threads);
    dls_exec *exec = dls_exec_create(net, &d);
    if (exec == NULL) die_of(row->name, dls_net_error(net));
    const size_t count = dls_shape_count(dls_net_shape(net, 0));
    void *x = memory(count * sizeof(float));
    fill(row, x, count, NULL, 0, 1);
    double end = 0;
    int n = 0, inner = 1;
    for (int warm = 5; n < SAMPLES_MAX && (warm > 0 || n < 10 || now_ms() < end); warm--) {
        const double start = now_ms();
        if (warm == 0) end = start + o->seconds * 1e3;
        for (int i = 0; i < inner; i++) {
            memcpy(dls_exec_input(exec, 0), x, count * sizeof(float));
            if (dls_exec_forward(exec, 1) != DLS_OK) die_of(row->name, dls_exec_error(exec));
        }
        const double ms = now_ms() - start;
        if (warm == 1 && ms < 0.5)
            inner = ms < 0.005 ? 200 : (int)(1 / ms); /* the clock ticks us */
        if (warm <= 0) times[n++] = ms / inner;
    }
    const timing t = summary(n);
    if (o->raw)
        printf("%.6f %.6f %.6f %.6f\n", t.median, t.p10, t.p90, t.median);
    else
        printf("infer %-11s %d thread%s %9.4f ms %8.1f GFLOP/s (p10 %.4f p90 %.4f ms)\n", row->name,
               threads, threads == 1 ? " " : "s", t.median,
               2e-6 * dls_net_macs(net, 0, dls_net_nodes(net)) / t.median, t.p10, t.p90);
    dls_exec_destroy(exec);
    dls_pool_destroy(d.pool);
    dls_net_destroy(net);
    free(x);
}

/* Cubes; then products that convolutions and layers are, m: pixels, n: output channels, k: patch,
   and the same with pixels innermost (m: output channels). */
static const int32_t shapes[][3] = {
    {256, 256, 256},  {512, 512, 512},  {1024, 1024, 1024}, {2048, 2048, 2048},
    {12544, 64, 147}, {3136, 64, 576},  {784, 128, 1152},   {196, 256, 2304}, /* resnet18 */
    {49, 512, 4608},  {64, 3136, 576},  {256, 196, 2304},   {512, 49, 4608},
    {65536, 16, 144}, {16384, 32, 288}, {4096, 64, 576},                    /* resnet8, 64 */
    {12544, 96, 16},  {3136, 24, 144},  {784, 192, 32},     {196, 384, 64}, /* mobilenetv2 */
    {49, 960, 160},   {49, 320, 960},   {25088, 32, 27},    {32, 25088, 27},
    {32, 10, 1152},   {10, 32, 1152},   {1, 512, 784},      {64, 512, 784},  /* mlp, lenet */
    {1024, 384, 128}, {1024, 512, 128}, {1024, 128, 512},   {128, 128, 32}}; /* gpt */
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void bench_gemm(const int32_t *s, const char *name, int threads, const options *o) {
    const size_t m = (size_t)s[0], n = (size_t)s[1], k = (size_t)s[2];
    dls_pool *pool = pool_of(threads);
    dls_cx cx;
    dls_gemm_desc d;
    if (dls_cx_init(&cx, o->isa, false, pool) != DLS_OK) die("no such instruction set here", "");
    float *a = (float *)memory(m * k * 4), *b = (float *)memory(k * n * 4);
    for (size_t i = 0; i < m * k; i++) a[i] = (float)(i % 7) * 0.1f - 0.3f;
    for (size_t i = 0; i < k * n; i++) b[i] = (float)(i % 5) * 0.1f - 0.2f;
    memset(&d, 0, sizeof d);
    d.m = s[0], d.n = s[1], d.k = s[2];
    d.a = a, d.b = b, d.c = (float *)memory(m * n * 4);
    void *work = memory(dls_gemm_work(&cx, &d));
    const double flop = 2.0 * (double)m * (double)n * (double)k;
    const int inner = 1 + (int)(1e8 / flop);
    double end = 0;
    int count = 0;
    for (int warm = 2; count < SAMPLES_MAX && (warm > 0 || count < 5 || now_ms() < end); warm--) {
        const double start = now_ms();
        if (warm == 0) end = start + o->seconds * 1e3;
        for (int i = 0; i < inner; i++)
            if (dls_gemm(&cx, &d, work) != DLS_OK) die("dls_gemm refused", name);
        if (warm <= 0) times[count++] = (now_ms() - start) / inner;
    }
    const timing t = summary(count);
    const double gflop = flop * 1e-6;
    if (o->raw)
        printf("%.6f %.6f %.6f %.3f\n", t.median, t.p10, t.p90, gflop / t.median);
    else
        printf("gemm  %-15s %d thread%s %10.1f us %8.1f GFLOP/s (p10 %.1f p90 %.1f)\n", name,
               threads, threads == 1 ? " " : "s", t.median * 1e3, gflop / t.median, gflop / t.p90,
               gflop / t.p10);
    free(a);
    free(b);
    free(d.c);
    free(work);
    dls_pool_destroy(pool);
}
static void bench_gemms(int threads, const options *o) {
    for (int i = 0; i < SHAPES; i++) {
        char name[40];
        snprintf(name, sizeof name, "%dx%dx%d", (int)shapes[i][0], (int)shapes[i][1],
                 (int)shapes[i][2]);
        if (listed(o->shapes, name)) bench_gemm(shapes[i], name, threads, o);
    }
}

/* ---- check: the same net as the other framework's? ---- */

static void *load(const options *o, const net_row *row, const char *what, size_t *bytes) {
    char path[500];
    dls_error error;
    void *data;
    snprintf(path, sizeof path, "%s/%s.%s", o->dir, row->name, what);
    if (dls_file_read(path, &data, bytes, &error) != DLS_OK) die_of(row->name, &error);
    return data;
}
/* Tensors in the order of the nodes, without padding, float32. */
static bool load_params(dls_net *net, const options *o, const net_row *row) {
    size_t bytes, offset, count, at = 0;
    float *from = (float *)load(o, row, "params", &bytes);
    dls_param p;
    for (dls_val v = 0; v < dls_net_nodes(net); v++)
        for (int32_t i = 0; dls_net_param_of(net, v, i, &p, &offset, &count) == DLS_OK; i++) {
            if (at + count <= bytes / 4)
                memcpy(dls_net_params(net) + offset, from + at, count * sizeof(float));
            at += count;
        }
    free(from);
    dls_net_touch(net);
    return at == bytes / 4;
}
/* Greatest difference, over the greatest magnitude of b. */
static double difference(const float *a, const float *b, size_t n) {
    double most = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= most)) most = fabs((double)a[i] - (double)b[i]);
        if (fabs((double)b[i]) > scale) scale = fabs((double)b[i]);
    }
    return scale > 0 ? most / scale : most;
}
static double check_output(dls_net *net, const options *o, const net_row *row, const void *x,
                           const char *what) {
    const size_t per = dls_shape_count(dls_net_shape(net, 0));
    const size_t outputs = dls_shape_count(dls_net_shape(net, dls_net_output_of(net)));
    dls_exec_desc d;
    size_t bytes;
    memset(&d, 0, sizeof d);
    d.isa = o->isa;
    dls_exec *exec = dls_exec_create(net, &d);
    if (exec == NULL) die_of(row->name, dls_net_error(net));
    memcpy(dls_exec_input(exec, 0), x, per * sizeof(float));
    if (dls_exec_forward(exec, 1) != DLS_OK) die_of(row->name, dls_exec_error(exec));
    float *other = (float *)load(o, row, what, &bytes);
    const double far =
        bytes == outputs * 4 ? difference(dls_exec_output(exec), other, outputs) : HUGE_VAL;
    free(other);
    dls_exec_destroy(exec);
    return far;
}
/* Greatest relative difference of the losses of the first steps. */
static double check_losses(dls_net *net, const options *o, const net_row *row, const void *x) {
    const dls_train_desc d = training(row, o->isa, NULL);
    size_t bytes, label_bytes;
    float *other = (float *)load(o, row, "losses", &bytes);
    int32_t *label = (int32_t *)load(o, row, "labels", &label_bytes);
    dls_train *train = dls_train_create(net, &d);
    dls_target target;
    dls_step_stats stats;
    double most = 0;
    if (train == NULL) die_of(row->name, dls_net_error(net));
    memset(&target, 0, sizeof target);
    target.label = label;
    for (size_t i = 0; i < bytes / 4; i++) {
        if (dls_train_step(train, x, &target, d.batch, &stats) != DLS_OK)
            die_of(row->name, dls_exec_error(dls_train_exec(train)));
        const double far = fabs(stats.loss - (double)other[i]) / fabs((double)other[i]);
        if (!(far <= most)) most = far;
    }
    free(other);
    free(label);
    dls_train_destroy(train);
    return most;
}
/* DIR holds, written by bench_peers/export.py and ort.js: NET.info (parameters, multiply-adds),
   NET.params, NET.input, NET.output (PyTorch) and NET.ort (onnxruntime) of the first sample,
   NET.labels and NET.losses of the first training steps. Our multiply-adds include those of the
   normalisations, theirs do not. */
static bool check_net(const net_row *row, const options *o) {
    dls_net *net = make(row);
    size_t bytes;
    double theirs[2];
    char *info = (char *)load(o, row, "info", &bytes), text[100];
    memset(text, 0, sizeof text);
    memcpy(text, info, bytes < sizeof text - 1 ? bytes : sizeof text - 1);
    if (sscanf(text, "%lf %lf", &theirs[0], &theirs[1]) != 2) die("bad NET.info", row->name);
    const double params = (double)trained_count(net);
    const double macs = dls_net_macs(net, 0, dls_net_nodes(net));
    dls_real *weights = (dls_real *)memory(dls_net_param_count(net) * sizeof *weights);
    if (dls_net_bind_params(net, weights) != DLS_OK) die_of(row->name, dls_net_error(net));
    const bool fits = load_params(net, o, row);
    void *x = load(o, row, "input", &bytes);
    const double out = check_output(net, o, row, x, "output");
    const double ort = check_output(net, o, row, x, "ort");
    const double loss = row->trains ? check_losses(net, o, row, x) : 0;
    const bool good = fits && params == theirs[0] && macs >= theirs[1] &&
                      macs <= 1.03 * theirs[1] && out < 2e-5 && ort < 2e-5 && loss < 2e-5;
    printf("%s %s: parameters %.0f / %.0f, multiply-adds %.0f / %.0f; relative differences: "
           "output %.1e (onnxruntime %.1e)",
           good ? "same" : "UNLIKE", row->name, params, theirs[0], macs, theirs[1], out, ort);
    if (row->trains) printf(", losses of the first steps %.1e", loss);
    printf("\n");
    dls_net_destroy(net);
    free(weights);
    free(info);
    free(x);
    return good;
}

/* ---- Command line ---- */

static void parse_threads(options *o, const char *list) {
    char *end;
    for (o->thread_counts = 0; list[0] != 0; list = end[0] == ',' ? end + 1 : end) {
        const long n = strtol(list, &end, 10);
        if (end == list || n < 1 || n > DLS_THREADS_MAX || (end[0] != 0 && end[0] != ',') ||
            o->thread_counts == THREAD_COUNTS_MAX)
            die("--threads wants numbers, e.g. 1,2", list);
        o->threads[o->thread_counts++] = (int)n;
    }
}
static void parse_isa(options *o, const char *name) {
    for (int i = DLS_ISA_SCALAR; i < DLS_ISA_COUNT; i++)
        if (strcmp(name, dls_isa_name((dls_isa)i)) == 0) o->isa = (dls_isa)i;
    if (o->isa == DLS_ISA_BEST || !dls_isa_usable(o->isa)) die("--isa cannot run here", name);
}
static void parse(options *o, int count, char **arg) {
    for (int i = 0; i < count; i++) {
        if (strcmp(arg[i], "--raw") == 0) {
            o->raw = true;
            continue;
        }
        if (i + 1 == count) die("unknown option, or its value is missing", arg[i]);
        const char *name = arg[i], *value = arg[++i];
        if (strcmp(name, "--nets") == 0)
            o->nets = value;
        else if (strcmp(name, "--shapes") == 0)
            o->shapes = value;
        else if (strcmp(name, "--threads") == 0)
            parse_threads(o, value);
        else if (strcmp(name, "--isa") == 0)
            parse_isa(o, value);
        else if (strcmp(name, "--seconds") == 0)
            o->seconds = atof(value);
        else
            die("unknown option", name);
    }
}

/* ---- Codecs ---- */

static double median_rate(int n, double megabytes) {
    const timing t = summary(n);
    return megabytes / (t.median * 1e-3);
}
static double encode_ms, decode_ms;
static void codec_run(dls_codec *c, const float *grad, float *to, unsigned char *out, size_t max,
                      size_t *bytes) {
    const double start = now_ms();
    if (dls_codec_encode(c, 1, 0, grad, out, max, bytes) != DLS_OK) die("codec", "encode");
    encode_ms = now_ms();
    if (dls_codec_decode(out, *bytes, c->n, to, 0.5f, true) != DLS_OK) die("codec", "decode");
    decode_ms = now_ms() - encode_ms;
    encode_ms -= start;
}
static void power_run(dls_codec *c, const float *grad, float *to, size_t *bytes) {
    const double start = now_ms();
    size_t p, q;
    float *part;
    if (dls_codec_power_begin(c, grad, &part, &p) != DLS_OK ||
        dls_codec_power_middle(c, &part, &q) != DLS_OK)
        die("codec", "PowerSGD");
    encode_ms = now_ms();
    if (dls_codec_power_end(c, to) != DLS_OK) die("codec", "PowerSGD");
    decode_ms = now_ms() - encode_ms;
    encode_ms -= start;
    *bytes = 4 * (p + q);
}
/* Gradients as they are, about: many small, few large; a million of them. The state of a codec is
   what 3 steps made of it. Rates are medians over the seconds given. */
static void bench_codec(const char *label, const dls_codec_desc *d, const options *o) {
    enum { N = 1 << 20 };
    static double decodes[SAMPLES_MAX];
    const size_t max = dls_codec_bytes_max(d, N), size = dls_codec_size(d, N);
    float *grad = (float *)memory(N * sizeof *grad), *to = (float *)memory(N * sizeof *to);
    unsigned char *out = (unsigned char *)memory(max + 1);
    void *mem = memory(size);
    const double mb = 4.0 * N * 1e-6, begin = now_ms();
    size_t bytes = 0;
    dls_codec c;
    int n = 0;
    dls_rng rng = {1, 0};
    for (int i = 0; i < N; i++)
        grad[i] = dls_rng_normal(&rng) / (float)(1 << (dls_rng_u32(&rng) % 8u));
    if (dls_codec_init(&c, d, N, mem, size) != DLS_OK) die("codec", label);
    for (int i = -3; i < 5 || now_ms() - begin < o->seconds * 1e3; i++) {
        if (d->kind == DLS_CODEC_POWER)
            power_run(&c, grad, to, &bytes);
        else
            codec_run(&c, grad, to, out, max, &bytes);
        if (i < 0 || n >= SAMPLES_MAX) continue;
        times[n] = encode_ms;
        decodes[n++] = decode_ms;
    }
    const double encode = median_rate(n, mb);
    memcpy(times, decodes, (size_t)n * sizeof *times);
    printf("codec %-28s encode %7.0f MB/s  decode %7.0f MB/s  %7.1f times smaller\n", label, encode,
           median_rate(n, mb), 4.0 * N / (double)bytes);
    free(grad);
    free(to);
    free(out);
    free(mem);
}
static void bench_codecs(const options *o) {
    static const struct {
        const char *label;
        dls_codec_desc d;
    } row[] = {
        {"f32", {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"f16", {DLS_CODEC_F16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"bf16", {DLS_CODEC_BF16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"q8", {DLS_CODEC_Q8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"q8 stochastic", {DLS_CODEC_Q8, true, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"q4", {DLS_CODEC_Q4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"sign", {DLS_CODEC_SIGN, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"top-k 1 %, 8 bits", {DLS_CODEC_TOPK, 0, 0, 8, 0.01f, 0, 0, 0, 0, 0, 0}},
        {"top-k 1 %, 2 bits", {DLS_CODEC_TOPK, 0, 0, 2, 0.01f, 0, 0, 0, 0, 0, 0}},
        {"top-k 0.1 %, 8 bits, momentum", {DLS_CODEC_TOPK, 0, 0, 8, 0.001f, 0, 0.9f, 0, 0, 0, 0}},
        {"powersgd rank 1", {DLS_CODEC_POWER, 0, 0, 0, 0, 0, 0, 1024, 1024, 1, 0}},
        {"powersgd rank 4", {DLS_CODEC_POWER, 0, 0, 0, 0, 0, 0, 1024, 1024, 4, 0}},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) bench_codec(row[i].label, &row[i].d, o);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    const bool train = strcmp(mode, "train") == 0, infer = strcmp(mode, "infer") == 0;
    const bool gemm = strcmp(mode, "gemm") == 0, check = strcmp(mode, "check") == 0;
    const bool codec = strcmp(mode, "codec") == 0;
    const int skip = check ? 3 : 2;
    bool good = true;
    options o;
    memset(&o, 0, sizeof o);
    if (strcmp(mode, "isa") == 0) return puts(dls_isa_name(dls_isa_best())) < 0;
    o.seconds = gemm ? 0.1 : 1;
    o.threads[0] = 1;
    o.thread_counts = 1;
    if (!(train || infer || gemm || check || codec) || (check && argc < 3))
        die("usage: bench train|infer|gemm|codec|check DIR [options]", "see its top");
    if (check) o.dir = argv[2];
    parse(&o, argc - skip, argv + skip);
    if (codec) {
        bench_codecs(&o);
        return 0;
    }
    for (int t = 0; t < o.thread_counts; t++) {
        if (gemm) bench_gemms(o.threads[t], &o);
        for (int i = 0; !gemm && i < ROWS; i++) {
            if (!listed(o.nets, rows[i].name)) continue;
            if (train && (rows[i].trains || o.nets != NULL))
                bench_train(&rows[i], o.threads[t], &o);
            if (infer) bench_infer(&rows[i], o.threads[t], &o);
            if (check) good = check_net(&rows[i], &o) && good;
            fflush(stdout);
        }
    }
    return good ? 0 : 1;
}
