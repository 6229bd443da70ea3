/* A member of an elastic run: joins by key, trains on digits, and writes a line for whatever
   happens, each with the time: "ID KIND STEP VIEW MEMBERS MICROSECONDS ...".
     worker --key K --roster R --listen PORT (--tcp LIST | --connect LIST) --steps N [...]
     worker --steps N        alone, by dls_fit
     worker --make-keys DIR  a group of 8 */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t stop;
static void on_signal(int number) { stop = number; }
static unsigned id;
static bool quiet;

static void say(const char *kind, const dls_run_event *e, const char *more) {
    char line[500];
    const int n =
        snprintf(line, sizeof line, "%u %s %lld %u %d %llu %s\n", id, kind, (long long)e->step,
                 (unsigned)e->view, (int)e->members, (unsigned long long)dls_now_us(), more);
    if (write(1, line, (size_t)n) < 0) _exit(3); /* at once, and whole */
}
static void on_event(void *user, const dls_run_event *e) {
    static const char *const kind[] = {"?", "trouble", "view", "state", "step", "shares"};
    char text[400];
    (void)user;
    if (e->type == DLS_RUN_QUIET) return;
    snprintf(text, sizeof text, "%d", (int)e->shards);
    if (e->type == DLS_RUN_TROUBLE) dls_error_text(&e->note, text, sizeof text);
    if (!quiet || e->type == DLS_RUN_TROUBLE) say(kind[e->type], e, text);
}
static bool on_progress(void *user, const dls_progress *p) {
    (void)user;
    (void)p;
    return stop == 0;
}
static dls_net *make_net(int size) {
    dls_net *net = dls_net_create(NULL);
    dls_val x = dls_net_input(net, 28, 28, 1);
    if (size > 0) { /* LeNet-like */
        x = dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU);
        x = dls_net_maxpool(net, x, 2);
        x = dls_net_conv2d(net, x, 32, 3, DLS_ACT_RELU);
        x = dls_net_maxpool(net, x, 2);
        x = dls_net_dense(net, x, 128, DLS_ACT_RELU);
    } else {
        x = dls_net_maxpool(net, x, 2);
        x = dls_net_conv2d(net, x, 6, 3, DLS_ACT_NONE);
        x = dls_net_batchnorm(net, x, DLS_ACT_RELU);
        x = dls_net_maxpool(net, x, 2);
    }
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}
/* A root, 8 devices of which 3 coordinate, and their roster, as `dlshard keygen` and `enrol` do. */
static int make_keys(const char *dir) {
    static dls_roster_file roster;
    dls_error error;
    dls_root root;
    dls_keys keys;
    char path[400], name[8];
    dls_status st = dls_root_make(&root, &error);
    int i;
    for (i = 1; i <= 8 && st == DLS_OK; i++) {
        const uint32_t role = DLS_ROLE_JOIN | DLS_ROLE_TRAIN | (i < 4 ? DLS_ROLE_COORD : 0);
        snprintf(name, sizeof name, "w%d", i);
        snprintf(path, sizeof path, "%s/w%d.key", dir, i);
        st = dls_roster_enrol(&roster, &root, name, role, false, &keys, &error);
        if (st == DLS_OK) st = dls_keys_save(&keys, path, true, &error);
    }
    snprintf(path, sizeof path, "%s/lab.roster", dir);
    if (st == DLS_OK) st = dls_roster_save(&roster, path, true, &error);
    dls_roster_free(&roster);
    return st != DLS_OK;
}
static int fail(const char *what, const dls_error *error) {
    char text[400];
    fprintf(stderr, "worker %u: %s: %s\n", id, what, dls_error_text(error, text, sizeof text));
    return 1;
}

int main(int argc, char **argv) {
    static dls_host host;
    static dls_host_desc h;
    static dls_host_fit_desc f;
    dls_fit_report report;
    dls_run_report run;
    dls_run_event end;
    dls_error error = {0};
    dls_data data;
    dls_net *net;
    dls_status st;
    char text[300];
    const char *from = "../examples/data/mnist-test";
    int i, size = 0;
    f.fit.train.batch = 48;
    f.fit.train.shards = 16;
    f.fit.train.seed = 3;
    f.fit.train.optim.kind = DLS_OPTIM_ADAM;
    f.fit.threads = 1;
    f.fit.progress = on_progress;
    f.fit.progress_ms = 20;
    f.event = on_event;
    h.no_lan = true;
    h.timeout_us = 1000000;
    for (i = 1; i + 1 < argc; i += 2) {
        const char *w = argv[i], *v = argv[i + 1];
        if (!strcmp(w, "--make-keys"))
            return make_keys(v);
        else if (!strcmp(w, "--key"))
            h.key = v;
        else if (!strcmp(w, "--roster"))
            h.roster = v;
        else if (!strcmp(w, "--listen"))
            h.listen = atoi(v);
        else if (!strcmp(w, "--tcp"))
            h.tcp = *v ? v : NULL;
        else if (!strcmp(w, "--connect"))
            h.connect = *v ? v : NULL;
        else if (!strcmp(w, "--steps"))
            f.fit.steps = atol(v);
        else if (!strcmp(w, "--least"))
            f.members_least = atoi(v);
        else if (!strcmp(w, "--share"))
            f.share = atoi(v);
        else if (!strcmp(w, "--seed"))
            f.fit.train.seed = (uint64_t)atol(v);
        else if (!strcmp(w, "--batch"))
            f.fit.train.batch = atoi(v);
        else if (!strcmp(w, "--shards"))
            f.fit.train.shards = atoi(v);
        else if (!strcmp(w, "--size"))
            size = atoi(v);
        else if (!strcmp(w, "--data"))
            from = v;
        else if (!strcmp(w, "--save"))
            f.fit.checkpoint = v;
        else if (!strcmp(w, "--every"))
            f.fit.checkpoint_every = atol(v);
        else if (!strcmp(w, "--resume"))
            f.fit.resume = v;
        else if (!strcmp(w, "--quiet"))
            quiet = atoi(v) != 0;
        else
            return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    st = dls_data_open(&data, from, &error);
    if (st != DLS_OK) return fail(from, &error);
    net = make_net(size);
    memset(&run, 0, sizeof run);
    memset(&end, 0, sizeof end);
    if (h.key == NULL) {
        st = dls_fit(net, &data, &f.fit, &report);
        error = *dls_net_error(net);
    } else {
        st = dls_host_open(&host, &h, &error);
        id = host.identity.keys.id;
        if (st == DLS_OK) st = dls_host_fit(&host, net, &data, &f, &report, &run, &error);
    }
    end.step = report.steps;
    snprintf(text, sizeof text,
             "%d %016llx redone %lld lost %lld views %lld states %lld spread %lld samples %lld "
             "per second %.0f",
             (int)st, (unsigned long long)report.state_hash, (long long)run.redone,
             (long long)run.lost, (long long)run.views, (long long)run.fetched,
             (long long)run.spread, (long long)run.samples, report.samples_per_s);
    say("end", &end, text);
    if (st != DLS_OK && st != DLS_E_STOPPED) (void)fail("fit", &error);
    if (h.key != NULL) dls_host_close(&host);
    dls_net_destroy(net);
    dls_data_close(&data);
    return st == DLS_OK || st == DLS_E_STOPPED ? 0 : 1;
}
