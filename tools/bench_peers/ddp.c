/* ddp.c - two processes that train together, in a float mode, for a while; run by ddp.sh.
     ddp keys DIR                                  makes a group of two
     ddp NET MODE SECONDS DIR RANK IP PORT         rank 0 listens, rank 1 connects to IP:PORT
   NET: lenet resnet8 resnet20. MODE: exact f32 f16 bf16 q8 q4 sign topk power1 power4 local10
   local50 alone (no exchange). Batch 64 of each, one thread. Rank 0 prints samples/s of
   both together. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 1024, WARM = 20 };
static double seconds, begun;
static int64_t first, last;
static double last_at;

static double now(void) { return (double)dls_now_us() * 1e-6; }
static bool on_progress(void *user, const dls_progress *p) {
    (void)user;
    (void)p;
    return begun == 0 || now() - begun < seconds;
}
static void count(int64_t step) {
    if (begun == 0 && step >= WARM) begun = now(), first = step;
    last = step;
    last_at = now();
}
static void on_event(void *user, const dls_run_event *e) {
    (void)user;
    if (e->type == DLS_RUN_STEP) count(e->step);
}
static dls_val conv_norm(dls_net *net, dls_val x, int32_t channels, int32_t kernel, int32_t stride,
                         dls_act act) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = channels;
    d.kernel_h = kernel;
    d.stride_h = stride;
    d.pad = DLS_PAD_EXPLICIT; /* PyTorch's: alike on all sides, also where the stride is 2 */
    d.pad_top = d.pad_left = d.pad_bottom = d.pad_right = kernel / 2;
    d.no_bias = true;
    return dls_net_batchnorm(net, dls_net_conv2d_desc(net, x, &d), act);
}
static dls_net *make_net(const char *name) {
    dls_net *net = dls_net_create(NULL);
    const int blocks = strcmp(name, "resnet8") == 0 ? 1 : 3;
    if (strcmp(name, "lenet") == 0) {
        dls_val x = dls_net_input(net, 28, 28, 1);
        x = dls_net_maxpool(net, dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU), 2);
        x = dls_net_maxpool(net, dls_net_conv2d(net, x, 32, 3, DLS_ACT_RELU), 2);
        dls_net_dense(net, dls_net_dense(net, x, 128, DLS_ACT_RELU), 10, DLS_ACT_NONE);
        return net;
    }
    dls_val x = conv_norm(net, dls_net_input(net, 32, 32, 3), 16, 3, 1, DLS_ACT_RELU);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < blocks; j++) {
            const int32_t stride = i > 0 && j == 0 ? 2 : 1, channels = 16 << i;
            dls_val y = conv_norm(net, x, channels, 3, stride, DLS_ACT_RELU);
            y = conv_norm(net, y, channels, 3, 1, DLS_ACT_NONE);
            if (stride != 1) x = conv_norm(net, x, channels, 1, stride, DLS_ACT_NONE);
            x = dls_net_add(net, y, x, DLS_ACT_RELU);
        }
    dls_net_dense(net, dls_net_global_avgpool(net, x), 10, DLS_ACT_NONE);
    return net;
}
static bool mode_of(const char *name, dls_run_mode *mode) {
    static const char *const kind[] = {"f32", "f16", "bf16", "q8", "q4", "sign", "topk", "power"};
    dls_run_sync(mode);
    if (strncmp(name, "local", 5) == 0) {
        dls_run_local(mode, atoi(name + 5));
        return true;
    }
    for (int i = 0; i < DLS_CODEC_COUNT; i++)
        if (strncmp(name, kind[i], strlen(kind[i])) == 0) {
            mode->codec.kind = (dls_codec_kind)i;
            mode->codec.rank = i == DLS_CODEC_POWER ? atoi(name + 5) : 0;
            return true;
        }
    return false;
}
static int make_keys(const char *dir) {
    static dls_roster_file roster;
    dls_error error;
    dls_root root;
    dls_keys keys;
    char path[400], name[8];
    dls_status st = dls_root_make(&root, &error);
    for (int i = 0; i < 2 && st == DLS_OK; i++) {
        snprintf(name, sizeof name, "w%d", i);
        snprintf(path, sizeof path, "%s/w%d.key", dir, i);
        st = dls_roster_enrol(&roster, &root, name, DLS_ROLE_JOIN | DLS_ROLE_TRAIN | DLS_ROLE_COORD,
                              false, &keys, &error);
        if (st == DLS_OK) st = dls_keys_save(&keys, path, true, &error);
    }
    snprintf(path, sizeof path, "%s/lab.roster", dir);
    if (st == DLS_OK) st = dls_roster_save(&roster, path, true, &error);
    dls_roster_free(&roster);
    return st != DLS_OK;
}
static dls_data make_data(dls_net *net) {
    static int32_t label[SAMPLES];
    dls_data d;
    memset(&d, 0, sizeof d);
    d.shape = dls_net_shape(net, 0);
    const size_t n = (size_t)SAMPLES * (size_t)(d.shape.h * d.shape.w * d.shape.c);
    float *x = (float *)malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(dls_rand_at(1, (uint32_t)i) & 255) / 128 - 1;
    for (int i = 0; i < SAMPLES; i++) label[i] = (int32_t)(dls_rand_at(2, (uint32_t)i) % 10);
    d.x = x;
    d.dtype = DLS_F32;
    d.count = SAMPLES;
    d.label = label;
    d.classes = 10;
    return d;
}
/* No exchange: the ceiling. */
static void alone(dls_net *net, const dls_data *data, const dls_train_desc *d) {
    dls_train *train = dls_train_create(net, d);
    int32_t index[128];
    for (int64_t step = 1; begun == 0 || now() - begun < seconds; step++) {
        for (int32_t i = 0; i < d->batch; i++)
            index[i] = (int32_t)((step * d->batch + i) % SAMPLES);
        if (dls_train_step_data(train, data, NULL, index, d->batch, NULL) != DLS_OK) exit(1);
        count(step);
    }
    dls_train_destroy(train);
}
int main(int argc, char **argv) {
    static dls_host host;
    dls_host_desc h;
    dls_host_fit_desc f;
    dls_run_mode mode;
    dls_run_report run;
    dls_error error;
    char key[400], roster[400], peer[100], text[400];
    dls_status st = DLS_OK;
    if (argc == 3 && strcmp(argv[1], "keys") == 0) return make_keys(argv[2]);
    if (argc != 8) return 2;
    const int rank = atoi(argv[5]);
    const char *name = argv[2];
    dls_net *net = make_net(argv[1]);
    const dls_data data = make_data(net);
    memset(&h, 0, sizeof h);
    memset(&f, 0, sizeof f);
    memset(&run, 0, sizeof run);
    seconds = atof(argv[3]);
    signal(SIGPIPE, SIG_IGN);
    f.fit.train.batch = 128;
    f.fit.train.optim.lr = 0.001f;
    f.fit.train.optim.momentum = 0.9f;
    f.fit.steps = 1 << 30;
    f.fit.threads = 1;
    f.fit.progress = on_progress;
    f.fit.progress_ms = 20;
    f.event = on_event;
    f.share = 1;
    f.members_least = 2;
    if (strcmp(name, "exact") != 0) f.mode = &mode;
    if (strcmp(name, "alone") == 0) {
        f.fit.train.batch = 64;
        alone(net, &data, &f.fit.train);
    } else {
        if (f.mode != NULL && !mode_of(name, &mode)) return 2;
        snprintf(key, sizeof key, "%s/w%d.key", argv[4], rank);
        snprintf(roster, sizeof roster, "%s/lab.roster", argv[4]);
        snprintf(peer, sizeof peer, "1@%s:%s", argv[6], argv[7]);
        h.key = key;
        h.roster = roster;
        h.no_lan = true;
        h.timeout_us = 5000000;
        h.listen = atoi(argv[7]) + rank;
        if (rank == 1) h.tcp = peer;
        st = dls_host_open(&host, &h, &error);
        if (st == DLS_OK) st = dls_host_fit(&host, net, &data, &f, NULL, &run, &error);
        if (st != DLS_OK && st != DLS_E_STOPPED) {
            fprintf(stderr, "ddp: %s\n", dls_error_text(&error, text, sizeof text));
            return 1;
        }
        dls_host_close(&host);
    }
    if (rank == 0)
        printf("ours %s %s %.0f samples/s; of a step: %.2f ms computing, %.2f ms waiting, "
               "%.0f bytes\n",
               argv[1], name, (double)(last - first) * 128 / (last_at - begun),
               (double)run.compute_us / 1e3 / (double)(run.steps > 0 ? run.steps : 1),
               (double)run.exposed_us / 1e3 / (double)(run.steps > 0 ? run.steps : 1),
               (double)run.sent_bytes / (double)(run.steps > 0 ? run.steps : 1));
    return 0;
}
