/* What codecs and hostile workers do to accuracy: N workers simulated in one process, each with its
   own part of every batch and its own codec, a LeNet-like CNN. `make -C tests study`; long.
   Arguments: TRAIN TEST (names of IDX files) [--seeds 5] [--epochs 5] [--samples 0: all]
   [--lr 0.01] [--only name,name]. One line per setting: accuracy, loss on the test set, upload
   bytes of a worker per step beside dense float32. Status 1 when a bound of the project is missed:
   a codec more than 0.5 points below f32, top-k under 600 times, local steps under 3000 times
   smaller, or, with 2 of 8 hostile, a robust rule over 1.1 times the clean loss or a plain mean
   that holds. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 8, PART = 16, TENSORS = 16 };

typedef struct setting {
    const char *name;
    dls_codec_desc d;
    int local;      /* local steps between two exchanges; 0: every step */
    int hostile;    /* how many workers send -10 times their gradient */
    int robust;     /* dls_robust_kind, or -1: not used */
    double smaller; /* bound on the ratio, 0: none */
} setting;
static const setting settings[] = {
    {"f32", {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, -1, 0},
    {"f16", {DLS_CODEC_F16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, -1, 0},
    {"bf16", {DLS_CODEC_BF16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, -1, 0},
    {"q8", {DLS_CODEC_Q8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, -1, 0},
    {"q4", {DLS_CODEC_Q4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, -1, 0},
    {"q4-stochastic", {DLS_CODEC_Q4, true, 0, 0, 0, 0, 0, 0, 0, 0, 5}, 0, 0, -1, 0},
    {"sign", {DLS_CODEC_SIGN, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, -1, 0},
    {"powersgd1", {DLS_CODEC_POWER, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3}, 0, 0, -1, 0},
    {"topk1", {DLS_CODEC_TOPK, 0, 0, 8, 0.01f, 1, 0.9f, 0, 0, 0, 0}, 0, 0, -1, 0},
    {"topk0.2", {DLS_CODEC_TOPK, 0, 0, 8, 0.002f, 1, 0.9f, 0, 0, 0, 0}, 0, 0, -1, 600},
    {"local10", {DLS_CODEC_TOPK, 0, 0.95f, 2, 0.009f, 0, 0, 0, 0, 0, 0}, 10, 0, -1, 3000},
    {"hostile-mean", {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 2, DLS_ROBUST_MEAN, 0},
    {"hostile-median", {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 2, DLS_ROBUST_MEDIAN, 0},
    {"hostile-trimmed", {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 2, DLS_ROBUST_TRIMMED, 0},
    {"hostile-krum", {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 2, DLS_ROBUST_MULTI_KRUM, 0},
    {"hostile-clip", {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 2, DLS_ROBUST_CLIP, 0},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static void die(const char *what) {
    fprintf(stderr, "study: %s\n", what);
    exit(2);
}
static void *take(size_t bytes) {
    void *p = calloc(bytes + 1, 1);
    if (p == NULL) die("out of memory");
    return p;
}
static void must(dls_status st) {
    if (st != DLS_OK) die(dls_status_text(st));
}

typedef struct tensor {
    size_t at, count;
    dls_codec_desc d; /* POWER has a codec for each tensor, small ones dense */
    dls_codec codec[WORKERS];
    void *mem[WORKERS];
} tensor;
typedef struct run {
    const setting *s;
    const dls_data *data;
    uint64_t seed;
    int32_t epochs, samples;
    double lr;
    bool lost; /* numbers became NaN or infinity */
    dls_net *net;
    dls_exec *exec;
    size_t n;
    tensor t[TENSORS];
    int tensors;
    float *grad[WORKERS], *sum, *velocity, *weights[WORKERS], *own_velocity[WORKERS], *last;
    unsigned char *out;
    size_t max;
    double bytes; /* of worker 0, steps since */
    int64_t counted;
} run;

static void open_codec(run *r, tensor *t) {
    const size_t size = dls_codec_size(&t->d, t->count);
    if (size == 0) die("codec");
    for (int w = 0; w < WORKERS; w++) {
        t->mem[w] = take(size);
        must(dls_codec_init(&t->codec[w], &t->d, t->count, t->mem[w], size));
    }
    if (dls_codec_bytes_max(&t->d, t->count) > r->max)
        r->max = dls_codec_bytes_max(&t->d, t->count);
}
static void open_run(run *r) {
    dls_net_desc nd;
    dls_exec_desc ed;
    dls_param p;
    size_t at, count;
    memset(&nd, 0, sizeof nd);
    memset(&ed, 0, sizeof ed);
    nd.seed = r->seed + 1;
    r->net = dls_net_create(&nd);
    dls_val x = dls_net_input(r->net, 28, 28, 1);
    x = dls_net_maxpool(r->net, dls_net_conv2d(r->net, x, 16, 3, DLS_ACT_RELU), 2);
    x = dls_net_maxpool(r->net, dls_net_conv2d(r->net, x, 32, 3, DLS_ACT_RELU), 2);
    x = dls_net_dense(r->net, x, 128, DLS_ACT_RELU);
    dls_net_dense(r->net, x, 10, DLS_ACT_NONE);
    must(dls_net_init_params(r->net));
    ed.batch = PART;
    ed.train = true;
    r->exec = dls_exec_create(r->net, &ed);
    if (r->exec == NULL) die("network");
    r->n = dls_net_param_count(r->net);
    if (r->s->d.kind != DLS_CODEC_POWER) {
        r->tensors = 1;
        r->t[0].count = r->n;
        r->t[0].d = r->s->d;
    } else {
        for (dls_val v = 0; v < dls_net_nodes(r->net); v++)
            for (int32_t i = 0; dls_net_param_of(r->net, v, i, &p, &at, &count) == DLS_OK; i++) {
                tensor *t = &r->t[r->tensors++];
                int last = 3;
                while (last > 0 && p.dim[last] == 1) last--;
                t->at = at;
                t->count = count;
                if (count < 256) continue; /* all zero: dense */
                t->d = r->s->d;
                t->d.cols = p.dim[last];
                t->d.rows = (int32_t)(count / (size_t)t->d.cols);
            }
    }
    for (int i = 0; i < r->tensors; i++) open_codec(r, &r->t[i]);
    r->out = (unsigned char *)take(r->max);
    r->sum = (float *)take(r->n * sizeof(float));
    r->last = (float *)take(r->n * sizeof(float));
    r->velocity = (float *)take(r->n * sizeof(float));
    for (int w = 0; w < WORKERS; w++) {
        r->grad[w] = (float *)take(r->n * sizeof(float));
        if (r->s->local == 0) continue;
        r->weights[w] = (float *)take(r->n * sizeof(float));
        r->own_velocity[w] = (float *)take(r->n * sizeof(float));
        memcpy(r->weights[w], dls_net_params(r->net), r->n * sizeof(float));
    }
}
static void close_run(run *r) {
    for (int w = 0; w < WORKERS; w++) {
        for (int i = 0; i < r->tensors; i++) free(r->t[i].mem[w]);
        free(r->grad[w]);
        free(r->weights[w]);
        free(r->own_velocity[w]);
    }
    free(r->out);
    free(r->sum);
    free(r->last);
    free(r->velocity);
    dls_exec_destroy(r->exec);
    dls_net_destroy(r->net);
}
/* The gradient of one worker's part of a step's batch. */
static void gradient(run *r, int64_t step, int w) {
    const int64_t first = (step * WORKERS + w) * PART;
    const int32_t epoch = (int32_t)(first / r->samples);
    int32_t index[PART], label[PART];
    dls_loss_desc loss;
    dls_loss_sums sums;
    dls_target target;
    memset(&loss, 0, sizeof loss);
    memset(&sums, 0, sizeof sums);
    memset(&target, 0, sizeof target);
    for (int i = 0; i < PART; i++)
        index[i] = dls_fit_index(r->seed, epoch, r->samples, (int32_t)((first + i) % r->samples));
    must(dls_data_fetch(r->data, NULL, 0, index, PART, dls_exec_input(r->exec, 0), label, NULL,
                        NULL, NULL));
    target.label = label;
    must(dls_exec_forward_train(r->exec, PART, r->seed, 0, 0));
    const dls_status st = dls_loss(
        &r->exec->cx, &loss, PART, dls_net_shape(r->net, dls_net_output_of(r->net)),
        dls_exec_output(r->exec), &target, 1.0 / PART, dls_exec_output_grad(r->exec), &sums);
    if (st == DLS_E_NUMBER) {
        r->lost = true;
        return;
    }
    must(st);
    must(dls_exec_backward(r->exec, false));
    memcpy(r->grad[w], dls_exec_grads(r->exec), r->n * sizeof(float));
}
static void mean_of(float *const *part, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int w = 0; w < WORKERS; w++) sum += part[w][i];
        for (int w = 0; w < WORKERS; w++) part[w][i] = sum / WORKERS;
    }
}
static void exchange_power(run *r, tensor *t) {
    float *part[WORKERS];
    size_t count = 0;
    for (int w = 0; w < WORKERS; w++)
        must(dls_codec_power_begin(&t->codec[w], r->grad[w] + t->at, &part[w], &count));
    mean_of(part, count);
    r->bytes += 4.0 * (double)count;
    for (int w = 0; w < WORKERS; w++) must(dls_codec_power_middle(&t->codec[w], &part[w], &count));
    mean_of(part, count);
    r->bytes += 4.0 * (double)count;
    for (int w = 0; w < WORKERS; w++) must(dls_codec_power_end(&t->codec[w], r->sum + t->at));
}
/* sum = what the workers' gradients become. */
static void exchange(run *r, int64_t step, int epoch) {
    for (int i = 0; i < r->tensors; i++) {
        tensor *t = &r->t[i];
        if (t->d.kind == DLS_CODEC_POWER) {
            exchange_power(r, t);
            continue;
        }
        for (int w = 0; w < WORKERS; w++) {
            size_t bytes;
            t->codec[w].density = dls_codec_density(&t->d, epoch);
            must(dls_codec_encode(&t->codec[w], (uint64_t)step, (uint32_t)(i * WORKERS + w),
                                  r->grad[w] + t->at, r->out, r->max, &bytes));
            must(dls_codec_decode(r->out, bytes, t->count, r->sum + t->at, 1.0f / WORKERS, w > 0));
            if (w == 0) r->bytes += (double)bytes;
        }
    }
}
static void robust(run *r) {
    dls_robust_desc d;
    memset(&d, 0, sizeof d);
    d.kind = (dls_robust_kind)r->s->robust;
    d.count = WORKERS;
    d.hostile = r->s->hostile;
    d.centre = r->last;
    for (int w = 0; w < d.hostile; w++)
        for (size_t i = 0; i < r->n; i++) r->grad[w][i] *= -10.0f;
    const size_t bytes = dls_robust_size(&d);
    void *mem = take(bytes);
    const dls_status st =
        dls_robust_run(&d, (const float *const *)r->grad, r->n, r->sum, NULL, mem, bytes);
    r->lost = st == DLS_E_NUMBER;
    if (!r->lost) must(st);
    free(mem);
    memcpy(r->last, r->sum, r->n * sizeof(float));
    r->bytes += 4.0 * (double)r->n;
}
static void descend(float *weights, const float *grad, float *velocity, size_t n, double lr,
                    float momentum) {
    for (size_t i = 0; i < n; i++) {
        velocity[i] = momentum * velocity[i] + grad[i];
        weights[i] -= (float)lr * velocity[i];
    }
}
/* Each worker goes on from its own weights; every so often they exchange how far they came. */
static void local_step(run *r, int64_t step, double lr) {
    float *all = dls_net_params(r->net);
    const bool now = (step + 1) % r->s->local == 0;
    float *common = r->last; /* the weights of the last exchange */
    if (step == 0) memcpy(common, all, r->n * sizeof(float));
    for (int w = 0; w < WORKERS; w++) {
        memcpy(all, r->weights[w], r->n * sizeof(float));
        dls_net_touch(r->net);
        gradient(r, step, w);
        descend(r->weights[w], r->grad[w], r->own_velocity[w], r->n, lr, 0.9f);
        for (size_t i = 0; now && i < r->n; i++) r->grad[w][i] = r->weights[w][i] - common[i];
    }
    if (now) {
        exchange(r, step, 0);
        for (size_t i = 0; i < r->n; i++) common[i] += r->sum[i];
        for (int w = 0; w < WORKERS; w++) memcpy(r->weights[w], common, r->n * sizeof(float));
    }
    memcpy(all, common, r->n * sizeof(float));
    dls_net_touch(r->net);
}
static void train(run *r) {
    const int64_t per_epoch = r->samples / (WORKERS * PART), steps = per_epoch * r->epochs;
    for (int64_t step = 0; step < steps && !r->lost; step++) {
        const int epoch = (int)(step / per_epoch);
        const double lr = r->lr * 0.5 * (1 + cos(3.14159265 * (double)step / (double)steps));
        if (epoch < r->s->d.warmup) r->bytes = 0; /* the bound is for after the warm-up */
        if (epoch < r->s->d.warmup) r->counted = 0;
        r->counted++;
        if (r->s->local > 0) {
            local_step(r, step, lr);
            continue;
        }
        for (int w = 0; w < WORKERS; w++) gradient(r, step, w);
        if (r->lost) return;
        if (r->s->d.momentum > 0) /* as DGC */
            for (int w = 0; w < WORKERS; w++)
                must(dls_codec_clip(r->grad[w], r->n, 10.0f, WORKERS, NULL));
        if (r->s->robust >= 0)
            robust(r);
        else
            exchange(r, step, epoch);
        descend(dls_net_params(r->net), r->sum, r->velocity, r->n, lr,
                r->s->d.momentum > 0 ? 0.0f : 0.9f);
        dls_net_touch(r->net);
    }
}

typedef struct outcome {
    double accuracy, least, most, loss, smaller;
} outcome;
static outcome study(const setting *s, const dls_data *data, const dls_data *test, int seeds,
                     int epochs, int samples, double lr) {
    outcome o = {0, 1, 0, 0, 0};
    for (int seed = 0; seed < seeds; seed++) {
        dls_eval_report report;
        run *r = (run *)take(sizeof *r);
        r->s = s;
        r->data = data;
        r->seed = (uint64_t)seed;
        r->epochs = epochs;
        r->lr = lr;
        r->samples = samples;
        open_run(r);
        train(r);
        const dls_status st = dls_eval(r->net, test, NULL, 0, NULL, &report);
        if (r->lost || st != DLS_OK) { /* the weights became NaN: as bad as guessing */
            report.accuracy = 0.1;
            report.loss = INFINITY;
        }
        o.accuracy += report.accuracy / seeds;
        o.loss += report.loss / seeds;
        if (report.accuracy < o.least) o.least = report.accuracy;
        if (report.accuracy > o.most) o.most = report.accuracy;
        o.smaller += 4.0 * (double)r->n * (double)r->counted / r->bytes / seeds;
        close_run(r);
        free(r);
    }
    return o;
}
static bool listed(const char *list, const char *name) {
    const size_t n = strlen(name);
    if (list == NULL) return true;
    for (; list != NULL; list = strchr(list, ',')) {
        if (*list == ',') list++;
        if (strncmp(list, name, n) == 0 && (list[n] == ',' || list[n] == 0)) return true;
    }
    return false;
}
/* Whether a bound of the project holds. */
static bool good(const setting *s, const outcome *o, const outcome *clean) {
    if (s->robust == DLS_ROBUST_MEAN) return !(o->loss <= 1.5 * clean->loss); /* visibly fails */
    if (s->robust >= 0) return o->loss <= 1.1 * clean->loss;
    return o->accuracy >= clean->accuracy - 0.005 && o->smaller >= s->smaller;
}
int main(int argc, char **argv) {
    int seeds = 5, epochs = 5, samples = 0, missed = 0;
    const char *only = NULL;
    dls_data data, test;
    dls_error error;
    double lr = 0.01;
    outcome clean;
    char text[300];
    if (argc < 3)
        die("usage: study TRAIN TEST [--seeds N] [--epochs N] [--samples N] [--only a,b]");
    for (int i = 3; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seeds") == 0) seeds = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--epochs") == 0) epochs = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--samples") == 0) samples = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--lr") == 0) lr = atof(argv[i + 1]);
        if (strcmp(argv[i], "--only") == 0) only = argv[i + 1];
    }
    if (dls_data_open(&data, argv[1], &error) != DLS_OK ||
        dls_data_open(&test, argv[2], &error) != DLS_OK)
        die(dls_error_text(&error, text, sizeof text));
    data.mean[0] = test.mean[0] = 0.286f;
    data.std[0] = test.std[0] = 0.353f;
    if (samples <= 0 || samples > data.count) samples = data.count;
    samples -= samples % (WORKERS * PART);
    printf("%d workers, %d samples, %d epochs, %d seeds; mean (least..most)\n", WORKERS, samples,
           epochs, seeds);
    for (int i = 0; i < SETTINGS; i++) {
        const setting *s = &settings[i];
        if (i > 0 && !listed(only, s->name)) continue;
        const outcome o = study(s, &data, &test, seeds, epochs, samples, lr);
        if (i == 0) clean = o;
        const bool holds = good(s, &o, &clean);
        missed += !holds;
        printf("%-16s accuracy %.2f %% (%.2f..%.2f)  %+.2f points  loss %.4f (%.2f of clean)  "
               "%.1f times fewer bytes  %s\n",
               s->name, 100 * o.accuracy, 100 * o.least, 100 * o.most,
               100 * (o.accuracy - clean.accuracy), o.loss, o.loss / clean.loss, o.smaller,
               holds ? "holds" : "MISSED");
        fflush(stdout);
    }
    printf("%d missed\n", missed);
    dls_data_close(&data);
    dls_data_close(&test);
    return missed != 0;
}
