/* cc -O2 train.c -o train -lpthread
   Trains a small CNN on MNIST on this device. What --save writes is a model that classify loads and
   a checkpoint that --resume goes on from; Ctrl-C saves too.
   ./train --data data/mnist-train --test data/mnist-test --epochs 3 --save digits.dls */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t stop;
static void on_signal(int number) {
    (void)number;
    stop = 1;
}

/* A bar on a terminal, plain lines otherwise. Returning false asks dls_fit to stop. */
static bool show(void *user, const dls_progress *p) {
    const bool terminal = isatty(1) != 0;
    char line[160];
    (void)user;
    dls_progress_text(p, terminal ? 30 : 0, line, sizeof line);
    printf("%s%s%s", terminal ? "\r" : "", line, terminal && p->step < p->steps ? "  " : "\n");
    fflush(stdout);
    return !stop;
}

static dls_net *make_net(uint64_t seed) {
    dls_net_desc desc = {0};
    dls_net *net;
    dls_val x;
    desc.seed = seed;
    net = dls_net_create(&desc);
    if (net == NULL) return NULL;
    x = dls_net_input(net, 28, 28, 1);
    x = dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_conv2d(net, x, 32, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_dense(net, x, 128, DLS_ACT_RELU);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}

typedef struct options {
    const char *data, *test;
    long seed;
    bool hash;
    dls_fit_desc fit;
} options;

static int usage(const char *word) {
    fprintf(
        stderr,
        "train: '%s'? Options: --data NAME --test NAME --seed N --steps N --epochs N --batch N\n"
        "  --lr X --shards N --threads N --strict --state-hash --save FILE --resume FILE\n"
        "NAME stands for NAME-images-idx3-ubyte[.gz] and its labels.\n",
        word);
    return 2;
}

/* Options with a value. */
static bool set(options *o, const char *word, const char *v) {
    dls_train_desc *train = &o->fit.train;
    if (!strcmp(word, "--data")) return o->data = v, true;
    if (!strcmp(word, "--test")) return o->test = v, true;
    if (!strcmp(word, "--save")) return o->fit.checkpoint = v, true;
    if (!strcmp(word, "--resume")) return o->fit.resume = v, true;
    if (!strcmp(word, "--seed")) return o->seed = atol(v), true;
    if (!strcmp(word, "--steps")) return o->fit.steps = atol(v), true;
    if (!strcmp(word, "--epochs")) return o->fit.epochs = atoi(v), true;
    if (!strcmp(word, "--threads")) return o->fit.threads = atoi(v), true;
    if (!strcmp(word, "--batch")) return train->batch = atoi(v), true;
    if (!strcmp(word, "--shards")) return train->shards = atoi(v), true;
    if (!strcmp(word, "--lr")) return train->optim.lr = (float)atof(v), true;
    return false;
}

static int parse(int argc, char **argv, options *o) {
    int i;
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--strict"))
            o->fit.train.strict = true;
        else if (!strcmp(argv[i], "--state-hash"))
            o->hash = true;
        else if (i + 1 == argc || !set(o, argv[i], argv[i + 1]))
            return usage(argv[i]);
        else
            i++;
    }
    return 0;
}

static int fail(const dls_error *error) {
    char text[320];
    fprintf(stderr, "train: %s\n", dls_error_text(error, text, sizeof text));
    return 1;
}

int main(int argc, char **argv) {
    options o = {0};
    dls_fit_report report;
    dls_eval_report eval;
    dls_loss_desc loss = {0};
    dls_error error = {0};
    dls_data data, test;
    dls_net *net;
    dls_status st;
    o.data = "data/mnist-train";
    o.fit.epochs = 1;
    o.fit.train.optim.lr = 0.05f;
    o.fit.train.optim.momentum = 0.9f;
    o.fit.train.optim.schedule = DLS_SCHEDULE_COSINE;
    o.fit.train.optim.total_steps = 0; /* dls_fit: to the last step */
    o.fit.progress = show;
    o.fit.progress_ms = isatty(1) ? 100 : 2000;
    if (parse(argc, argv, &o) != 0) return 2;
    o.fit.train.seed = (uint64_t)o.seed;
    signal(SIGINT, on_signal);
    if (dls_data_open(&data, o.data, &error) != DLS_OK) return fail(&error);
    net = make_net((uint64_t)o.seed);
    if (net == NULL) return 1;
    st = dls_fit(net, &data, &o.fit, &report);
    if (st == DLS_E_STOPPED)
        fprintf(stderr, "\nstopped%s%s\n", o.fit.checkpoint ? "; go on with --resume " : "",
                o.fit.checkpoint ? o.fit.checkpoint : "");
    else if (st != DLS_OK)
        return fail(dls_net_error(net));
    printf("trained %ld steps in %.2f s, %.0f samples/s\n", (long)report.steps, report.seconds,
           report.samples_per_s);
    if (o.hash) printf("state-hash %016llx\n", (unsigned long long)report.state_hash);
    if (o.test != NULL) {
        if (dls_data_open(&test, o.test, &error) != DLS_OK) return fail(&error);
        if (dls_eval(net, &test, &loss, 0, NULL, &eval) != DLS_OK) return fail(dls_net_error(net));
        printf("test accuracy %.2f %% of %d, loss %.4f\n", 100 * eval.accuracy, eval.samples,
               eval.loss);
        dls_data_close(&test);
    }
    dls_data_close(&data);
    dls_net_destroy(net);
    return st == DLS_OK ? 0 : 3;
}
