/* cc -O2 dlshard.c -o dlshard -lpthread
   The command line of dlshard.h: train, report, infer, eval, info, bench; keygen, enrol, invite,
   join, revoke, roster. `dlshard help` tells the rest. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Options and errors ---- */

typedef struct options {
    const char *word[4]; /* what is not an option: command, model, data */
    int words;
    const char *data, *test, *net, *save, *curve, *csv, *trace;
    dls_node_desc node; /* peers or key_file: together with others */
    const char *root, *roster, *out, *role, *at;
    bool small, force;
    int32_t share[DLS_ROSTER_DEVICES]; /* by rank or device; all 0: equal */
    int threads, batch;
    long seed;
    double seconds;
    bool train;
    dls_fit_desc fit;
} options;

static volatile sig_atomic_t stop;
static void on_signal(int number) {
    signal(number, SIG_DFL); /* a second one ends it at once */
    stop = 1;
}

static int help(FILE *to, int status) {
    fputs("dlshard train --data NAME [--net mlp|cnn|resnet8|resnet20|MODEL] [--test NAME] [--save "
          "MODEL]\n"
          "        [--epochs N] [--steps N] [--batch N] [--lr X] [--optim "
          "sgd|adam|adamw|rmsprop|lion]\n"
          "        [--momentum X] [--decay X] [--shift N] [--flip] [--seed N] [--shards N] "
          "[--strict]\n"
          "        [--threads N] [--checkpoint FILE] [--every STEPS] [--resume FILE]\n"
          "        [--curve FILE.svg] [--csv RUN.csv]\n"
          "        together, the same line on each device: --key DEVICE.key [--roster lab.roster]\n"
          "          [--expect N: fewer wait] [--join-ms N: so long] [--listen PORT] [--tcp ...]\n"
          "          [--connect ID@HOST:PORT,...] [--serial PATH[:BAUD][=ID],...] [--gateway]\n"
          "          [--no-lan] [--lan-port PORT] [--shares 1:2:... (else measured)]\n"
          "          [--trace TIMELINE.json for ui.perfetto.dev]\n"
          "          devices may join, leave or be killed while it runs; Ctrl-C stops all. Each\n"
          "          writes its checkpoint, if none is named DEVICE.ckpt beside its key\n"
          "        on loopback without keys: --rank N --peers 127.0.0.1:7000,127.0.0.1:7001,...\n"
          "dlshard report RUN.csv [-o RUN.html]      a page with the charts of a run\n"
          "dlshard infer MODEL DATA [--batch N] [together: as train]   in stages, one a device\n"
          "dlshard eval MODEL DATA [--batch N] [--threads N]\n"
          "dlshard info MODEL\n"
          "dlshard bench MODEL [--batch N] [--threads N] [--seconds X] [--train]\n"
          "dlshard keygen [--root root.key] [--force]                  a new group: its root key, "
          "kept "
          "offline\n"
          "dlshard enrol NAME [--role join,train,serve,infer,coord,deploy] [--small] [--out "
          "NAME.key]\n"
          "dlshard invite NAME... [--listen 7398] [--seconds 600]   codes by which devices enrol "
          "over "
          "the\n        network, until all have\n"
          "dlshard join CODE --at HOST:PORT [--out NAME.key] [--roster lab.roster]   at the "
          "device; - "
          "reads\n        the code from standard input\n"
          "dlshard revoke NAME     enrol, invite and revoke with [--root root.key] [--roster "
          "lab.roster] [--force]\n"
          "dlshard roster [--root root.key] [--roster lab.roster]      who belongs\n"
          "NAME: NAME-images-idx3-ubyte[.gz] with NAME-labels-idx1-ubyte[.gz], a .csv (label "
          "first) or a .npy.\n",
          to);
    return status;
}

static int bad(const char *what, const char *word) {
    fprintf(stderr, "dlshard: %s '%s'; see `dlshard help`\n", what, word);
    return 2;
}

static int fail(const dls_error *error) {
    char text[512];
    fprintf(stderr, "dlshard: %s\n", dls_error_text(error, text, sizeof text));
    return 1;
}

#include "report.c"

/* Whole number or real between bounds, or a message and false. */
static bool number(const char *word, const char *text, double least, double most, double *v) {
    char *end;
    *v = strtod(text, &end);
    if (end != text && *end == '\0' && *v >= least && *v <= most) return true;
    fprintf(stderr, "dlshard: %s wants a number from %g to %g, not '%s'\n", word, least, most,
            text);
    return false;
}

static bool set_optim(options *o, const char *v) {
    static const char *const name[] = {"sgd", "adam", "adamw", "rmsprop", "lion"};
    int i;
    for (i = 0; i < 5; i++)
        if (strcmp(v, name[i]) == 0) return o->fit.train.optim.kind = (dls_optim_kind)i, true;
    return bad("no optimiser", v), false;
}

/* "1:2:5" */
static bool set_shares(options *o, const char *v) {
    const char *p = v;
    int i;
    for (i = 0; i < DLS_ROSTER_DEVICES; i++) {
        char *end;
        const long share = strtol(p, &end, 10);
        if (end == p || share < 0 || share > 1000000) break;
        o->share[i] = (int32_t)share;
        if (*end == '\0') return true;
        if (*end != ':') break;
        p = end + 1;
    }
    return bad("--shares wants numbers like 1:2:5, not", v), false;
}

static bool set_text(options *o, const char *w, const char *v, bool *known) {
    *known = true;
    if (!strcmp(w, "--data")) return o->data = v, true;
    if (!strcmp(w, "--test")) return o->test = v, true;
    if (!strcmp(w, "--net")) return o->net = v, true;
    if (!strcmp(w, "--save")) return o->save = v, true;
    if (!strcmp(w, "--curve")) return o->curve = v, true;
    if (!strcmp(w, "--csv")) return o->csv = v, true;
    if (!strcmp(w, "--trace")) return o->trace = v, true;
    if (!strcmp(w, "--peers")) return o->node.peers = v, true;
    if (!strcmp(w, "--key")) return o->node.key_file = v, true;
    if (!strcmp(w, "--connect")) return o->node.connect = v, true;
    if (!strcmp(w, "--tcp")) return o->node.tcp = v, true;
    if (!strcmp(w, "--serial")) return o->node.serial = v, true;
    if (!strcmp(w, "--checkpoint")) return o->fit.checkpoint = v, true;
    if (!strcmp(w, "--resume")) return o->fit.resume = v, true;
    if (!strcmp(w, "--root")) return o->root = v, true;
    if (!strcmp(w, "--roster")) return o->roster = v, true;
    if (!strcmp(w, "--out") || !strcmp(w, "-o")) return o->out = v, true;
    if (!strcmp(w, "--role")) return o->role = v, true;
    if (!strcmp(w, "--at")) return o->at = v, true;
    if (!strcmp(w, "--optim")) return set_optim(o, v);
    if (!strcmp(w, "--shares")) return set_shares(o, v);
    *known = false;
    return true;
}

static bool set_number(options *o, const char *w, const char *v, bool *known) {
    dls_optim_desc *p = &o->fit.train.optim;
    double d = 0;
    *known = true;
    if (!strcmp(w, "--epochs"))
        return number(w, v, 1, 1e6, &d) ? o->fit.epochs = (int32_t)d, true : false;
    if (!strcmp(w, "--steps"))
        return number(w, v, 1, 1e15, &d) ? o->fit.steps = (int64_t)d, true : false;
    if (!strcmp(w, "--every"))
        return number(w, v, 1, 1e15, &d) ? o->fit.checkpoint_every = (int64_t)d, true : false;
    if (!strcmp(w, "--batch")) return number(w, v, 1, 1e6, &d) ? o->batch = (int)d, true : false;
    if (!strcmp(w, "--shards"))
        return number(w, v, 1, 1e6, &d) ? o->fit.train.shards = (int32_t)d, true : false;
    if (!strcmp(w, "--threads"))
        return number(w, v, 1, 256, &d) ? o->threads = (int)d, true : false;
    if (!strcmp(w, "--rank"))
        return number(w, v, 0, 1023, &d) ? o->node.rank = (int32_t)d, true : false;
    if (!strcmp(w, "--expect"))
        return number(w, v, 1, 1024, &d) ? o->node.expect = (int32_t)d, true : false;
    if (!strcmp(w, "--listen"))
        return number(w, v, 1, 65535, &d) ? o->node.listen = (int32_t)d, true : false;
    if (!strcmp(w, "--lan-port"))
        return number(w, v, 1, 65535, &d) ? o->node.lan_port = (int32_t)d, true : false;
    if (!strcmp(w, "--join-ms"))
        return number(w, v, 1, 1e9, &d) ? o->node.join_ms = (int32_t)d, true : false;
    if (!strcmp(w, "--seed"))
        return number(w, v, 0, 2147483647, &d) ? o->seed = (long)d, true : false;
    if (!strcmp(w, "--lr")) return number(w, v, 0, 1e3, &d) ? p->lr = (float)d, true : false;
    if (!strcmp(w, "--momentum"))
        return number(w, v, 0, 1, &d) ? p->momentum = (float)d, true : false;
    if (!strcmp(w, "--decay"))
        return number(w, v, 0, 10, &d) ? p->weight_decay = (float)d, true : false;
    if (!strcmp(w, "--shift"))
        return number(w, v, 0, 64, &d) ? o->fit.augment.shift = (int32_t)d, true : false;
    if (!strcmp(w, "--seconds")) return number(w, v, 0.01, 3600, &d) ? o->seconds = d, true : false;
    *known = false;
    return true;
}

static bool parse(options *o, int argc, char **argv) {
    int i;
    bool known;
    for (i = 1; i < argc; i++) {
        const char *w = argv[i];
        if (w[0] != '-' || w[1] == '\0') {
            if (o->words == 4) return bad("too many words:", w), false;
            o->word[o->words++] = w;
        } else if (!strcmp(w, "--strict"))
            o->fit.train.strict = true;
        else if (!strcmp(w, "--flip"))
            o->fit.augment.flip = true;
        else if (!strcmp(w, "--train"))
            o->train = true;
        else if (!strcmp(w, "--small"))
            o->small = true;
        else if (!strcmp(w, "--force"))
            o->force = true;
        else if (!strcmp(w, "--gateway"))
            o->node.gateway = true;
        else if (!strcmp(w, "--no-lan"))
            o->node.no_lan = true;
        else {
            const char *v = i + 1 < argc ? argv[i + 1] : NULL;
            if (v == NULL) return bad("no value after, or no option", w), false;
            if (!set_text(o, w, v, &known)) return false;
            if (!known && !set_number(o, w, v, &known)) return false;
            if (!known) return bad("no option", w), false;
            i++;
        }
    }
    return true;
}

/* ---- Networks by name ---- */

static dls_val conv_bn(dls_net *net, dls_val x, int channels, int stride, dls_act act) {
    dls_conv_desc d = {0};
    d.channels = channels;
    d.kernel_h = 3;
    d.stride_h = d.stride_w = stride;
    d.no_bias = true;
    return dls_net_batchnorm(net, dls_net_conv2d_desc(net, x, &d), act);
}

/* CIFAR's ResNet of 6 n + 2 layers (He et al. 2016), widths 16, 32, 64. */
static dls_val resnet(dls_net *net, dls_val x, int n) {
    int stage, i;
    x = conv_bn(net, x, 16, 1, DLS_ACT_RELU);
    for (stage = 0; stage < 3; stage++)
        for (i = 0; i < n; i++) {
            const int channels = 16 << stage, stride = stage > 0 && i == 0 ? 2 : 1;
            dls_val y = conv_bn(net, x, channels, stride, DLS_ACT_RELU), skip = x;
            y = conv_bn(net, y, channels, 1, DLS_ACT_NONE);
            if (stride == 2) {
                dls_conv_desc d = {0};
                d.channels = channels;
                d.kernel_h = d.kernel_w = 1;
                d.stride_h = d.stride_w = 2;
                d.no_bias = true;
                skip = dls_net_batchnorm(net, dls_net_conv2d_desc(net, x, &d), DLS_ACT_NONE);
            }
            x = dls_net_add(net, y, skip, DLS_ACT_RELU);
        }
    return dls_net_global_avgpool(net, x);
}

static dls_val cnn(dls_net *net, dls_val x) {
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU), 2);
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 32, 3, DLS_ACT_RELU), 2);
    return dls_net_dense(net, x, 128, DLS_ACT_RELU);
}

/* A fresh network of that name for the data, or one from a model file. NULL after a message. */
static dls_net *make_net(const char *name, const dls_data *data, long seed) {
    dls_net_desc desc = {0};
    dls_error error;
    dls_net *net;
    dls_val x;
    if (strchr(name, '.') != NULL || strchr(name, '/') != NULL)
        return dls_net_load(&net, name, &error) == DLS_OK ? net : (fail(&error), (dls_net *)NULL);
    desc.seed = (uint64_t)seed;
    net = dls_net_create(&desc);
    if (net == NULL) return fprintf(stderr, "dlshard: no memory\n"), (dls_net *)NULL;
    x = dls_net_input(net, data->shape.h, data->shape.w, data->shape.c);
    if (!strcmp(name, "mlp"))
        x = dls_net_dense(net, x, 512, DLS_ACT_RELU);
    else if (!strcmp(name, "cnn"))
        x = cnn(net, x);
    else if (!strcmp(name, "resnet8"))
        x = resnet(net, x, 1);
    else if (!strcmp(name, "resnet20"))
        x = resnet(net, x, 3);
    else
        return bad("no network", name), dls_net_destroy(net), (dls_net *)NULL;
    dls_net_dense(net, x, data->classes, DLS_ACT_NONE);
    if (dls_net_status(net) != DLS_OK)
        return fail(dls_net_error(net)), dls_net_destroy(net), (dls_net *)NULL;
    return net;
}

/* ---- Progress ---- */

enum { POINTS = 4096 };
static struct {
    run_step step[POINTS];
    int n;
    const char *csv; /* where to record the run, or NULL */
    FILE *record;    /* open from the first point on: not on peers that see no progress */
    bool alone;      /* on one device: its time is all spent computing */
} points;

/* Opens the record; false after a message. */
static bool open_record(void) {
    if (points.csv == NULL || points.record != NULL) return true;
    points.record = fopen(points.csv, "w");
    if (points.record == NULL)
        return fprintf(stderr, "dlshard: cannot write '%s'\n", points.csv), false;
    run_write_head(points.record);
    return true;
}
/* Keeps a point for the curve; into the record goes also what peers did since the last. */
static void keep_point(const dls_progress *p, const run_peer *peer, int peers) {
    run_step s = {0};
    s.step = (double)p->step;
    s.seconds = p->seconds;
    s.loss = p->loss;
    s.accuracy = p->accuracy;
    s.samples_per_s = p->samples_per_s;
    if (points.record != NULL) {
        run_write_step(points.record, &s, peer, peers);
        (void)fflush(points.record); /* a device may be killed */
    }
    if (points.n == POINTS) /* full: every other point stays */
        for (points.n = 0; points.n < POINTS / 2; points.n++)
            points.step[points.n] = points.step[2 * points.n];
    points.step[points.n++] = s;
}

static bool show(void *user, const dls_progress *p) {
    const bool terminal = isatty(1) != 0;
    static double shown, before;
    run_peer me = {0};
    char line[160];
    (void)user;
    if (!open_record()) stop = 1;
    me.name = "this device";
    me.compute = p->seconds - before;
    me.samples = p->samples_per_s * me.compute;
    before = p->seconds;
    keep_point(p, &me, points.alone ? 1 : 0);
    if (p->seconds >= shown + (terminal ? 0.1 : 2.0) || p->step == p->steps) {
        shown = p->seconds;
        dls_progress_text(p, terminal ? 30 : 0, line, sizeof line);
        printf("%s%s%s", terminal ? "\r" : "", line, terminal && p->step < p->steps ? "  " : "\n");
        fflush(stdout);
    }
    return !stop;
}

#include "live.c"

/* ---- Commands ---- */

static int evaluate(dls_net *net, const dls_data *data, const options *o) {
    dls_loss_desc loss = {0};
    dls_eval_report report;
    dls_pool_desc threads = {0};
    dls_pool *pool;
    dls_status st;
    threads.threads = o->threads;
    pool = dls_pool_create(&threads);
    st = dls_eval(net, data, &loss, o->batch, pool, &report);
    dls_pool_destroy(pool);
    if (st != DLS_OK) return fail(dls_net_error(net));
    printf("accuracy %.2f %% of %d, loss %.4f, %.0f samples/s\n", 100 * report.accuracy,
           (int)report.samples, report.loss, report.samples / (report.seconds + 1e-9));
    return 0;
}

/* Joins the others, or is alone; says who is missing. *node must be destroyed, whatever it returns.
   */
static dls_status join(const options *o, dls_node **node) {
    dls_node_desc me = o->node;
    dls_status st;
    int i;
    for (i = 0; i < DLS_ROSTER_DEVICES; i++)
        if (o->share[i] > 0) me.shares = o->share;
    me.roster_file = o->roster;
    me.threads = o->threads;
    st = dls_node_create(node, &me);
    if (st != DLS_OK || (me.key_file == NULL && me.peers == NULL)) return st;
    printf("together:");
    for (i = 0; i < dls_node_count(*node); i++) printf(" %s", dls_node_name(*node, i));
    printf("; this is place %d\n", (int)dls_node_rank(*node));
    if (me.key_file != NULL && strstr(dls_node_explain(*node), "devices are here") != NULL)
        fprintf(stderr, "dlshard: %s\n", dls_node_explain(*node));
    fflush(stdout);
    return st;
}

/* One device, or this peer's part among several. */
static dls_status fit(const options *o, dls_net *net, const dls_data *data, dls_fit_report *did) {
    dls_node *node;
    dls_status st;
    if (o->node.key_file != NULL) return live_fit(o, net, data, did);
    if (o->node.peers == NULL) {
        st = dls_fit(net, data, &o->fit, did);
        if (st != DLS_OK && st != DLS_E_STOPPED) fail(dls_net_error(net));
        return st;
    }
    st = join(o, &node);
    if (st == DLS_OK) st = dls_node_fit(node, net, data, &o->fit, did, NULL);
    if (st != DLS_OK && st != DLS_E_STOPPED)
        fprintf(stderr, "dlshard: %s\n", node != NULL ? dls_node_explain(node) : "no memory");
    dls_node_destroy(node);
    return st;
}

static int train_net(options *o, dls_net *net, const dls_data *data) {
    dls_fit_report did;
    dls_error error;
    dls_status st;
    char beside[512];
    if (o->trace != NULL && o->node.key_file == NULL) return bad("--trace needs", "--key");
    if (o->node.key_file != NULL && o->fit.checkpoint == NULL) {
        const size_t n = strlen(o->node.key_file);
        const int stem = (int)(n > 4 && !strcmp(o->node.key_file + n - 4, ".key") ? n - 4 : n);
        if (stem > 500) return bad("a path too long:", o->node.key_file);
        snprintf(beside, sizeof beside, "%.*s.ckpt", stem, o->node.key_file);
        o->fit.checkpoint = beside;
    }
    points.csv = o->csv;
    points.alone = o->node.peers == NULL && o->node.key_file == NULL;
    st = fit(o, net, data, &did);
    if (st != DLS_OK && st != DLS_E_STOPPED) return 1;
    if (st == DLS_E_STOPPED)
        printf("\nstopped%s%s\n", o->fit.checkpoint != NULL ? "; go on with --resume " : "",
               o->fit.checkpoint != NULL ? o->fit.checkpoint : "");
    printf("trained %ld steps in %.1f s, %.0f samples/s, state %016llx\n", (long)did.steps,
           did.seconds, did.samples_per_s, (unsigned long long)did.state_hash);
    if (o->save != NULL && dls_net_save(net, o->save, &error) != DLS_OK) return fail(&error);
    if (o->save != NULL) printf("saved %s\n", o->save);
    if (o->curve != NULL && curve_write(o->curve, points.step, points.n) != 0) return 1;
    if (points.record != NULL && st == DLS_E_STOPPED)
        run_write_event(points.record, "stopped", points.n > 0 ? points.step[points.n - 1].step : 0,
                        did.seconds, -1, NULL);
    if (points.record != NULL && report_close(points.record, o->csv, "record") != 0) return 1;
    if (o->csv != NULL && points.record == NULL && points.n > 0) return 1; /* could not be made */
    return st == DLS_OK ? 0 : 3;
}

static int command_train(options *o) {
    dls_data data, test;
    dls_error error;
    dls_net *net;
    int status;
    if (o->data == NULL) return bad("train needs", "--data NAME");
    if (dls_data_open(&data, o->data, &error) != DLS_OK) return fail(&error);
    net = make_net(o->net != NULL ? o->net : "cnn", &data, o->seed);
    if (net == NULL) return dls_data_close(&data), 1;
    o->fit.train.batch = o->batch;
    o->fit.train.seed = (uint64_t)o->seed;
    o->fit.threads = o->threads;
    o->fit.progress = show;
    o->fit.progress_ms = 5; /* points of the curve; lines are shown less often */
    if (o->fit.train.optim.kind == DLS_OPTIM_SGD && o->fit.train.optim.lr <= 0) {
        o->fit.train.optim.lr = 0.05f;
        o->fit.train.optim.momentum = 0.9f;
        o->fit.train.optim.schedule = DLS_SCHEDULE_COSINE;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    status = train_net(o, net, &data);
    if ((status == 0 || status == 3) && o->test != NULL) {
        if (dls_data_open(&test, o->test, &error) != DLS_OK)
            status = fail(&error);
        else {
            if (evaluate(net, &test, o) != 0) status = 1;
            dls_data_close(&test);
        }
    }
    dls_net_destroy(net);
    dls_data_close(&data);
    return status;
}

static int command_eval(options *o) {
    dls_data data;
    dls_error error;
    dls_net *net;
    int status;
    if (o->words < 3) return bad("eval needs", "MODEL DATA");
    if (dls_net_load(&net, o->word[1], &error) != DLS_OK) return fail(&error);
    if (dls_data_open(&data, o->word[2], &error) != DLS_OK)
        return dls_net_destroy(net), fail(&error);
    status = evaluate(net, &data, o);
    dls_data_close(&data);
    dls_net_destroy(net);
    return status;
}

/* All devices make the call; the one in place 0 has the outputs. */
static int command_infer(options *o) {
    dls_node_infer_report report;
    dls_data data;
    dls_error error;
    dls_net *net;
    dls_node *node = NULL;
    float *y;
    int32_t i, k, right = 0, outputs;
    dls_status st;
    if (o->words < 3) return bad("infer needs", "MODEL DATA");
    if (dls_net_load(&net, o->word[1], &error) != DLS_OK) return fail(&error);
    if (dls_data_open(&data, o->word[2], &error) != DLS_OK)
        return dls_net_destroy(net), fail(&error);
    outputs = (int32_t)dls_shape_count(dls_net_shape(net, dls_net_nodes(net) - 1));
    y = (float *)calloc((size_t)data.count * (size_t)outputs, sizeof *y);
    st = y != NULL ? join(o, &node) : DLS_E_MEMORY;
    if (st == DLS_OK) st = dls_node_infer(node, net, &data, o->batch, y, &report);
    for (i = 0; st == DLS_OK && i < data.count && data.label != NULL; i++) {
        int32_t best = 0;
        for (k = 1; k < outputs; k++)
            if (y[i * outputs + k] > y[i * outputs + best]) best = k;
        right += best == data.label[i];
    }
    if (st != DLS_OK)
        fprintf(stderr, "dlshard: %s\n", node != NULL ? dls_node_explain(node) : "no memory");
    else
        printf("ran nodes %d..%d on %d samples, %.0f samples/s\n", (int)report.first_node,
               (int)report.last_node - 1, (int)report.samples,
               report.samples / (report.seconds + 1e-9));
    if (st == DLS_OK && dls_node_rank(node) == 0 && data.label != NULL)
        printf("accuracy %.2f %% of %d\n", 100.0 * right / data.count, (int)data.count);
    dls_node_destroy(node);
    free(y);
    dls_data_close(&data);
    dls_net_destroy(net);
    return st != DLS_OK;
}

static int command_info(options *o) {
    dls_error error;
    dls_net *net;
    int32_t i, k, count;
    dls_val in[DLS_OP_INPUTS];
    dls_exec_memory memory;
    dls_exec *run;
    if (o->words < 2) return bad("info needs", "MODEL");
    if (dls_net_load(&net, o->word[1], &error) != DLS_OK) return fail(&error);
    printf("%4s %-14s %-14s %10s %12s\n", "node", "op", "h x w x c", "macs", "inputs");
    for (i = 0; i < dls_net_nodes(net); i++) {
        const dls_shape s = dls_net_shape(net, i);
        char shape[48];
        snprintf(shape, sizeof shape, "%dx%dx%d", (int)s.h, (int)s.w, (int)s.c);
        printf("%4d %-14s %-14s %10.0f  ", (int)i, dls_net_op_of(net, i)->name, shape,
               dls_net_macs(net, i, i + 1));
        count = dls_net_inputs_of(net, i, in);
        for (k = 0; k < count; k++) printf(" %d", (int)in[k]);
        putchar('\n');
    }
    printf("%ld weights (%.2f MB), %.3f million multiply-adds a sample, graph %016llx\n",
           (long)dls_net_param_count(net), (double)dls_net_param_count(net) * sizeof(float) / 1e6,
           dls_net_macs(net, 0, dls_net_nodes(net)) / 1e6, (unsigned long long)dls_net_hash(net));
    run = dls_exec_create(net, NULL);
    if (run == NULL) return fail(dls_net_error(net));
    dls_exec_memory_of(run, &memory);
    printf("inference, one sample: %ld bytes (values %ld, tables %ld, scratch %ld, packed weights "
           "%ld)\n",
           (long)memory.total, (long)memory.values, (long)memory.tables, (long)memory.scratch,
           (long)memory.packed);
    dls_exec_destroy(run);
    dls_net_destroy(net);
    return 0;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Inference or training steps on zeros for o->seconds; the label of every sample is class 0. */
static int bench(dls_net *net, const options *o, dls_pool *pool) {
    static double ms[100000];
    const int batch = o->batch > 0 ? o->batch : 1;
    const double work = dls_net_macs(net, 0, dls_net_nodes(net)) * 2e-9 * (o->train ? 3 : 1);
    dls_exec_desc run_desc = {0};
    dls_train_desc train_desc = {0};
    dls_target target = {0};
    dls_exec *run = NULL;
    dls_train *train = NULL;
    int n = 0;
    const uint64_t begin = dls_now_us(), limit = (uint64_t)(o->seconds * 1e6);
    int32_t *label = (int32_t *)calloc((size_t)batch, sizeof *label);
    float *x = (float *)calloc((size_t)batch * dls_shape_count(dls_net_shape(net, 0)), sizeof *x);
    run_desc.batch = train_desc.batch = batch;
    run_desc.pool = train_desc.pool = pool;
    target.label = label;
    if (o->train)
        train = dls_train_create(net, &train_desc);
    else
        run = dls_exec_create(net, &run_desc);
    if ((train == NULL && run == NULL) || x == NULL || label == NULL)
        return fail(dls_net_error(net));
    while (n < 5 || (n < 100000 && dls_now_us() - begin < limit)) {
        dls_step_stats stats;
        const uint64_t start = dls_now_us();
        const dls_status st = o->train ? dls_train_step(train, x, &target, batch, &stats)
                                       : dls_exec_forward(run, batch);
        if (st != DLS_OK)
            return fail(o->train ? dls_exec_error(dls_train_exec(train)) : dls_exec_error(run));
        ms[n++] = (double)(dls_now_us() - start) * 1e-3;
    }
    qsort(ms, (size_t)n, sizeof *ms, ascending);
    printf("%s, batch %d, %d threads: median %.4g ms (p10 %.4g, p90 %.4g), %.0f samples/s, %.1f "
           "GFLOP/s\n",
           o->train ? "training" : "inference", batch, (int)dls_pool_threads(pool), ms[n / 2],
           ms[n / 10], ms[n * 9 / 10], batch / ms[n / 2] * 1e3, work * batch / ms[n / 2] * 1e3);
    dls_train_destroy(train);
    dls_exec_destroy(run);
    free(x);
    free(label);
    return 0;
}

static int command_bench(options *o) {
    dls_pool_desc threads = {0};
    dls_error error;
    dls_net *net;
    dls_pool *pool;
    int status;
    if (o->words < 2) return bad("bench needs", "MODEL");
    if (dls_net_load(&net, o->word[1], &error) != DLS_OK) return fail(&error);
    threads.threads = o->threads;
    pool = dls_pool_create(&threads);
    status = bench(net, o, pool);
    dls_pool_destroy(pool);
    dls_net_destroy(net);
    return status;
}

/* ---- Keys ---- */

static const char *const role_name[] = {"join", "train", "serve", "infer", "coord", "deploy"};

/* "train,coord" to bits; join is always among them. 0 after a message. */
static uint32_t roles(const char *text) {
    uint32_t bits = DLS_ROLE_JOIN;
    while (*text != '\0') {
        const size_t n = strcspn(text, ",");
        int i;
        for (i = 0; i < 6 && (strlen(role_name[i]) != n || strncmp(role_name[i], text, n)); i++) {}
        if (i == 6) return bad("no such role in", text), 0u;
        bits |= 1u << i;
        text += n + (text[n] == ',');
    }
    return bits;
}

static int command_keygen(const options *o) {
    const char *path = o->root != NULL ? o->root : "root.key";
    dls_root root;
    dls_error error;
    dls_status st = dls_root_make(&root, &error);
    if (st == DLS_OK) st = dls_root_save(&root, path, o->force, &error);
    if (st == DLS_OK)
        printf("%s: the root key of group %08x. Keep it offline; next: dlshard enrol NAME\n", path,
               (unsigned)root.group);
    dls_wipe(&root, sizeof root);
    return st == DLS_OK ? 0 : fail(&error);
}

static int coordinators(const dls_roster *r) {
    int i, n = 0;
    for (i = 0; i < r->count; i++)
        n += (r->device[i].role & DLS_ROLE_COORD) != 0 &&
             (r->device[i].flags & DLS_DEVICE_REVOKED) == 0;
    return n;
}

/* Root key and roster; a roster that does not exist yet is an empty one. */
static dls_status open_group(const options *o, dls_root *root, dls_roster_file *file,
                             dls_error *error) {
    unsigned char root32[32];
    const char *path = o->roster != NULL ? o->roster : "lab.roster";
    dls_status st = dls_root_load(root, o->root != NULL ? o->root : "root.key", error);
    memset(file, 0, sizeof *file);
    if (st != DLS_OK) return st;
    dls_ed25519_public(root32, root->seed);
    st = dls_roster_load(file, path, root32, error);
    return st == DLS_E_NOT_FOUND ? DLS_OK : st;
}

/* Without --role: the first device coordinates, too; a small one cannot. */
static int command_enrol(const options *o) {
    const char *name = o->word[1], *roster = o->roster != NULL ? o->roster : "lab.roster";
    uint32_t role = o->role != NULL
                        ? roles(o->role)
                        : DLS_ROLE_JOIN | DLS_ROLE_TRAIN | DLS_ROLE_SERVE | DLS_ROLE_INFER;
    dls_roster_file file;
    dls_root root;
    dls_keys keys;
    dls_error error;
    char path[512];
    dls_status st;
    if (o->words < 2) return bad("enrol needs", "NAME");
    if (role == 0) return 2;
    if (o->small && (role & (DLS_ROLE_COORD | DLS_ROLE_DEPLOY)) != 0)
        return bad("a small device has no identity key, so it may not", o->role);
    snprintf(path, sizeof path, "%s", o->out != NULL ? o->out : name);
    if (o->out == NULL) snprintf(path, sizeof path, "%.400s.key", name);
    st = open_group(o, &root, &file, &error);
    if (st == DLS_OK && file.roster.count == 0 && o->role == NULL && !o->small)
        role |= DLS_ROLE_COORD;
    if (st == DLS_OK) st = dls_roster_enrol(&file, &root, name, role, o->small, &keys, &error);
    if (st == DLS_OK && o->out == NULL && strchr(name, '/') != NULL)
        st = DLS_E_ARG, bad("a name with / needs --out, not", name);
    else if (st == DLS_OK) {
        st = dls_keys_save(&keys, path, o->force,
                           &error); /* first: a roster without it is of no use */
        if (st == DLS_OK) st = dls_roster_save(&file, roster, true, &error);
        if (st != DLS_OK) fail(&error);
    } else
        fail(&error);
    if (st == DLS_OK) {
        const int n = coordinators(&file.roster);
        printf("%s: key of device %u; %s: %d devices, epoch %u\n", path, (unsigned)keys.id, roster,
               (int)file.roster.count, (unsigned)file.roster.epoch);
        if (n == 0)
            printf("nobody coordinates yet: without there are no views; enrol one with --role "
                   "train,coord\n");
        if (n == 2) printf("2 coordinators must both be up; 3 let any one of them fail\n");
    }
    dls_roster_free(&file);
    dls_wipe(&keys, sizeof keys);
    dls_wipe(&root, sizeof root);
    return st == DLS_OK ? 0 : 1;
}

/* ---- Enrolment over TCP: u32 length + packet, see dls_enrol ---- */

/* All n bytes, within 2 s of silence each; false: not. */
static bool carry(int fd, void *bytes, size_t n, bool in) {
    unsigned char *at = (unsigned char *)bytes;
    while (n > 0) {
        struct pollfd p;
        ssize_t k;
        p.fd = fd;
        p.events = in ? POLLIN : POLLOUT;
        if (poll(&p, 1, 2000) != 1) return false;
        k = in ? recv(fd, at, n, 0) : send(fd, at, n, MSG_NOSIGNAL);
        if (k <= 0) return false;
        at += k;
        n -= (size_t)k;
    }
    return true;
}
static bool packet_send(int fd, unsigned char *packet, size_t n) {
    unsigned char length[4];
    int i;
    for (i = 0; i < 4; i++) length[i] = (unsigned char)(n >> 8 * i & 255u);
    return carry(fd, length, 4, false) && carry(fd, packet, n, false);
}
/* Its size, 0: none came, or a longer one than may. */
static size_t packet_take(int fd, unsigned char *packet, size_t most) {
    unsigned char length[4];
    size_t n = 0;
    int i;
    if (!carry(fd, length, 4, true)) return 0;
    for (i = 0; i < 4; i++) n |= (size_t)length[i] << 8 * i;
    return n <= most && carry(fd, packet, n, true) ? n : 0;
}

/* One conversation. Strangers get no byte. */
static void admit(int fd, const options *o, const dls_root *root, dls_roster_file *file,
                  dls_invite *invite, int count) {
    static unsigned char in[DLS_ENROL_BYTES], out[DLS_ENROL_MOST];
    const char *roster = o->roster != NULL ? o->roster : "lab.roster";
    dls_enrol e;
    dls_error error;
    dls_status st;
    size_t n = packet_take(fd, in, sizeof in);
    memset(&e, 0, sizeof e);
    if (n > 0 && dls_enrol_answer(&e, invite, count, in, n, out, dls_now_us()) == DLS_OK &&
        packet_send(fd, out, DLS_ENROL_BYTES) && (n = packet_take(fd, in, sizeof in)) > 0) {
        st = dls_enrol_admit(&e, root, file, in, n, out, &n, &error);
        if (st == DLS_OK) st = dls_roster_save(file, roster, true, &error);
        if (st != DLS_OK)
            fail(&error);
        else if (packet_send(fd, out, n))
            printf("%s has joined; %s: %d devices, epoch %u\n", e.invite->name, roster,
                   (int)file->roster.count, (unsigned)file->roster.epoch);
        else
            printf(
                "%s is enrolled, but its keys did not reach it: revoke it, invite another name\n",
                e.invite->name);
    }
    dls_wipe(out, sizeof out);
    dls_enrol_wipe(&e);
}
static int listen_at(int port) {
    struct sockaddr_in a;
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 8) == 0)
        return fd;
    fprintf(stderr, "dlshard: cannot listen on TCP port %d; --listen takes another\n", port);
    if (fd >= 0) close(fd);
    return -1;
}
static int command_invite(const options *o) {
    const int count = o->words - 1, port = o->node.listen > 0 ? o->node.listen : 7398;
    const uint64_t end = dls_now_us() + (uint64_t)((o->seconds != 2 ? o->seconds : 600) * 1e6);
    const uint32_t role = roles(o->role != NULL ? o->role : "train,serve,infer");
    dls_invite invite[4];
    dls_roster_file file;
    dls_root root;
    dls_error error;
    char code[DLS_CODE_TEXT];
    int i, fd, left = count;
    if (count < 1) return bad("invite needs", "NAME");
    if (role == 0) return 2;
    if (open_group(o, &root, &file, &error) != DLS_OK) return fail(&error);
    fd = listen_at(port);
    for (i = 0; i < count && fd >= 0; i++) {
        if (dls_invite_make(&invite[i], o->word[i + 1], role, code) != DLS_OK)
            return bad("no name of 1 to 15 printable characters:", o->word[i + 1]);
        printf("%s: dlshard join %s --at HOST:%d\n", invite[i].name, code, port);
    }
    fflush(stdout);
    while (fd >= 0 && left > 0 && !stop && dls_now_us() < end) {
        struct pollfd p;
        int c;
        p.fd = fd;
        p.events = POLLIN;
        if (poll(&p, 1, 100) != 1 || (c = accept(fd, NULL, NULL)) < 0) continue;
        admit(c, o, &root, &file, invite, count);
        fflush(stdout);
        close(c);
        for (i = left = 0; i < count; i++) left += !invite[i].used;
    }
    if (fd >= 0) close(fd);
    dls_roster_free(&file);
    dls_wipe(&root, sizeof root);
    dls_wipe(invite, sizeof invite);
    return left == 0 ? 0 : 1;
}
static int call_at(const char *text) {
    dls_addr a;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    int fd;
    if (dls_addr_read(&a, text) != DLS_OK)
        return bad("--at wants HOST:PORT, numbers, not", text), -1;
    memset(&v4, 0, sizeof v4);
    memset(&v6, 0, sizeof v6);
    v4.sin_family = AF_INET;
    v6.sin6_family = AF_INET6;
    memcpy(&v4.sin_addr, a.bytes, 4);
    memcpy(&v4.sin_port, a.bytes + 4, 2);
    memcpy(&v6.sin6_addr, a.bytes, 16);
    memcpy(&v6.sin6_port, a.bytes + 16, 2);
    if (a.size == 19) v6.sin6_scope_id = a.bytes[18];
    fd = socket(a.size == 6 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, a.size == 6 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
                           a.size == 6 ? sizeof v4 : sizeof v6) == 0)
        return fd;
    fprintf(stderr, "dlshard: nobody answers at %s; does `dlshard invite` run there?\n", text);
    if (fd >= 0) close(fd);
    return -1;
}
/* The newcomer's side of a conversation. */
static dls_status enrol_over(int fd, dls_enrol *e, dls_invite *invite, dls_keys *keys,
                             dls_roster_file *file, dls_error *error) {
    static unsigned char packet[DLS_ENROL_MOST];
    size_t n;
    dls_status st = dls_enrol_call(e, invite, packet);
    if (st != DLS_OK || !packet_send(fd, packet, DLS_ENROL_BYTES)) return DLS_E_IO;
    n = packet_take(fd, packet, DLS_ENROL_BYTES);
    if (n == 0) return DLS_E_TIMEOUT;
    st = dls_enrol_prove(e, packet, n, packet);
    if (st != DLS_OK || !packet_send(fd, packet, 68)) return st != DLS_OK ? st : DLS_E_IO;
    n = packet_take(fd, packet, sizeof packet);
    if (n == 0) return DLS_E_TIMEOUT;
    st = dls_enrol_take(e, packet, n, keys, file, error);
    dls_wipe(packet, sizeof packet);
    return st;
}
static int command_join(const options *o) {
    const char *roster = o->roster != NULL ? o->roster : "lab.roster", *code = o->word[1];
    char path[512], line[DLS_CODE_TEXT + 2] = "";
    dls_roster_file file;
    dls_invite invite;
    dls_enrol e;
    dls_keys keys;
    dls_error error;
    dls_status st;
    int fd;
    if (o->words < 2 || o->at == NULL) return bad("join needs", "CODE --at HOST:PORT");
    if (strcmp(code, "-") == 0 && fgets(line, sizeof line, stdin) != NULL) code = line;
    line[strcspn(line, "\n")] = '\0';
    if (dls_invite_read(&invite, code) != DLS_OK) return bad("mistyped, or no invite:", code);
    fd = call_at(o->at);
    if (fd < 0) return 1;
    memset(&error, 0, sizeof error);
    memset(&file, 0, sizeof file);
    st = enrol_over(fd, &e, &invite, &keys, &file, &error);
    close(fd);
    dls_enrol_wipe(&e);
    dls_wipe(&invite, sizeof invite);
    if (st != DLS_OK) {
        fprintf(stderr, "dlshard: %s: no answer to this code: was it used, or is it another's?\n",
                dls_status_text(st));
        return 1;
    }
    snprintf(path, sizeof path, "%s", o->out != NULL ? o->out : keys.name);
    if (o->out == NULL) snprintf(path, sizeof path, "%.15s.key", keys.name);
    if (strchr(keys.name, '/') != NULL && o->out == NULL)
        return bad("a name with / needs --out, not", keys.name);
    st = dls_keys_save(&keys, path, o->force, &error);
    if (st == DLS_OK) st = dls_roster_save(&file, roster, true, &error);
    if (st == DLS_OK)
        printf("%s: key of device %u; %s: %d devices, epoch %u\n", path, (unsigned)keys.id, roster,
               (int)file.roster.count, (unsigned)file.roster.epoch);
    dls_roster_free(&file);
    dls_wipe(&keys, sizeof keys);
    return st == DLS_OK ? 0 : fail(&error);
}

static int command_revoke(const options *o) {
    const char *roster = o->roster != NULL ? o->roster : "lab.roster";
    dls_roster_file file;
    dls_root root;
    dls_error error;
    dls_status st;
    if (o->words < 2) return bad("revoke needs", "NAME");
    st = open_group(o, &root, &file, &error);
    if (st == DLS_OK) st = dls_roster_revoke(&file, &root, o->word[1], &error);
    if (st == DLS_OK) st = dls_roster_save(&file, roster, true, &error);
    if (st == DLS_OK)
        printf(
            "%s: %s is revoked from epoch %u on. Give the file to one device that runs, it tells "
            "the rest\n",
            roster, o->word[1], (unsigned)file.roster.epoch);
    dls_roster_free(&file);
    dls_wipe(&root, sizeof root);
    return st == DLS_OK ? 0 : fail(&error);
}

static int command_roster(const options *o) {
    unsigned char root32[32];
    dls_roster_file file;
    dls_root root;
    dls_error error;
    int i, k;
    const bool signer = o->root != NULL;
    if (signer) {
        if (dls_root_load(&root, o->root, &error) != DLS_OK) return fail(&error);
        dls_ed25519_public(root32, root.seed);
        dls_wipe(&root, sizeof root);
    }
    if (dls_roster_load(&file, o->roster != NULL ? o->roster : "lab.roster", signer ? root32 : NULL,
                        &error) != DLS_OK)
        return fail(&error);
    printf("group %08x, epoch %u, %d devices, %d coordinate; signature %s\n",
           (unsigned)file.roster.group, (unsigned)file.roster.epoch, (int)file.roster.count,
           coordinators(&file.roster), signer ? "good" : "not checked, --root would");
    for (i = 0; i < file.roster.count; i++) {
        const dls_device *d = &file.roster.device[i];
        printf("%6u  %-15.15s %s%s ", (unsigned)d->id, d->name,
               (d->flags & DLS_DEVICE_REVOKED) != 0 ? "REVOKED " : "",
               (d->flags & DLS_DEVICE_SMALL) != 0 ? "small" : "full");
        for (k = 0; k < 6; k++)
            if ((d->role >> k & 1) != 0) printf("%c%s", k > 0 ? ',' : ' ', role_name[k]);
        printf("\n");
    }
    dls_roster_free(&file);
    return 0;
}

int main(int argc, char **argv) {
    static options o;
    o.seconds = 2;
    if (!parse(&o, argc, argv)) return 2;
    if (o.words == 0) return help(stderr, 2);
    if (!strcmp(o.word[0], "train")) return command_train(&o);
    if (!strcmp(o.word[0], "report"))
        return o.words == 2 ? report(o.word[1], o.out) : bad("report needs", "RUN.csv");
    if (!strcmp(o.word[0], "eval")) return command_eval(&o);
    if (!strcmp(o.word[0], "infer")) return command_infer(&o);
    if (!strcmp(o.word[0], "info")) return command_info(&o);
    if (!strcmp(o.word[0], "bench")) return command_bench(&o);
    if (!strcmp(o.word[0], "keygen")) return command_keygen(&o);
    if (!strcmp(o.word[0], "enrol")) return command_enrol(&o);
    if (!strcmp(o.word[0], "invite")) return command_invite(&o);
    if (!strcmp(o.word[0], "join")) return command_join(&o);
    if (!strcmp(o.word[0], "revoke")) return command_revoke(&o);
    if (!strcmp(o.word[0], "roster")) return command_roster(&o);
    if (!strcmp(o.word[0], "help")) return help(stdout, 0);
    return bad("no command", o.word[0]);
}
