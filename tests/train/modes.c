/* Float modes of elastic runs, in the simulator: exactness of the mean, the same bits on all
   members after each step whatever the codec, what a change of view does, what codecs cost in
   accuracy.
     modes TRAIN TEST     names of IDX files */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "seeded.h"

#include "test.h"

#include "train/tiny.h"

#define MOST 5
#define STEPS 400 /* whose weights are kept */
#define PARAMS 512
typedef struct member {
    dls_net *net;
    dls_train *train;
    dls_run *run;
    void *mem;
    int32_t boots, troubles, states;
    bool over;
    dls_status status;
    dls_error error, note;
} member;
typedef struct setting { /* of a group */
    int32_t n;
    int32_t share[MOST];
    bool roster;
    dls_run_mode mode;
    dls_train_desc train;
    dls_net *(*net)(uint64_t seed);
    const dls_data *data[MOST];
    int64_t steps;
    void (*meddle)(int32_t i);
} setting;
static struct {
    dls_sim *sim;
    setting s;
    member m[MOST];
    dls_device device[MOST];
    dls_peer_desc desc[MOST];
    uint64_t hash[STEPS + 1]; /* of all weights after each step, from whoever was first */
    float weights[STEPS + 1][PARAMS];
    int32_t unlike; /* members that came to other bits */
} g;

static void member_free(member *m) {
    if (m->run != NULL) dls_run_close(m->run);
    free(m->mem);
    dls_train_destroy(m->train);
    dls_net_destroy(m->net);
    memset(m, 0, sizeof *m);
}
static void member_start(member *m, dls_peer *p, int32_t i) {
    dls_run_desc r;
    m->run = NULL; /* its engine is gone */
    member_free(m);
    m->boots = dls_sim_boots(g.sim, i);
    m->net = g.s.net(1);
    m->train = dls_train_create(m->net, &g.s.train);
    memset(&r, 0, sizeof r);
    r.train = m->train;
    r.mode = &g.s.mode;
    r.peer = p;
    r.data = g.s.data[i] != NULL ? g.s.data[i] : g.s.data[0];
    r.steps = g.s.steps;
    r.share = g.s.share[i];
    r.members_least = g.s.roster && g.s.n > 1 ? 2 : 1;
    m->mem = malloc(dls_run_size(&r));
    CHECK_STATUS(dls_run_init(&m->run, &r, m->mem, dls_run_size(&r)), DLS_OK);
}
static void keep(const member *m, int64_t step) {
    const size_t n = dls_net_param_count(m->net);
    const uint64_t hash = dls_hash64_reals(1, m->net->params, n);
    if (step > STEPS) return;
    if (g.hash[step] == 0) {
        g.hash[step] = hash;
        if (n <= PARAMS) memcpy(g.weights[step], m->net->params, n * sizeof(float));
    }
    g.unlike += g.hash[step] != hash ? 1 : 0;
}
static void step(void *user, dls_sim *sim, int32_t i) {
    dls_peer *p = dls_sim_peer(sim, i);
    member *m = &g.m[i];
    dls_peer_event pe;
    dls_run_event e;
    dls_run_do what;
    (void)user;
    if (m->boots != dls_sim_boots(sim, i)) member_start(m, p, i);
    while (dls_peer_next_event(p, &pe)) {}
    while (!m->over && (what = dls_run_poll(m->run, dls_sim_clock(sim, i))) != DLS_RUN_WAIT) {
        if (what == DLS_RUN_WORK && g.s.meddle != NULL) g.s.meddle(i);
        if (what == DLS_RUN_WORK) dls_run_work(m->run);
        while (dls_run_next(m->run, &e)) {
            if (e.type == DLS_RUN_TROUBLE) m->note = e.note;
            m->troubles += e.type == DLS_RUN_TROUBLE ? 1 : 0;
            m->states += e.type == DLS_RUN_STATE ? 1 : 0;
            if (e.type == DLS_RUN_STEP || e.type == DLS_RUN_STATE) keep(m, e.step);
        }
        if (what != DLS_RUN_OVER) continue;
        m->over = true;
        m->status = dls_run_status(m->run, &m->error);
        if (m->status == DLS_E_MISMATCH) dls_peer_leave(p);
    }
}
static void open_group(const setting *s) {
    static dls_roster r;
    dls_sim_desc d;
    int32_t i;
    memset(&d, 0, sizeof d);
    memset(&g, 0, sizeof g);
    g.s = *s;
    random_state.seed = (uint64_t)s->n;
    for (i = 0; i < s->n; i++) {
        g.device[i].id = (uint32_t)i;
        g.device[i].role = DLS_ROLE_JOIN | DLS_ROLE_TRAIN | DLS_ROLE_COORD;
        snprintf(g.device[i].name, sizeof g.device[i].name, "peer%d", (int)i);
        g.desc[i].roster = s->roster ? &r : NULL;
        g.desc[i].id = (uint32_t)i;
        g.desc[i].rank = i;
        g.desc[i].size = s->roster ? 0 : s->n;
        g.desc[i].heartbeat_us = 100000;
        g.desc[i].timeout_us = 1000000;
        if (s->roster) g.desc[i].store = (dls_store_fn)1;
    }
    r.group = 5;
    r.epoch = 1;
    r.count = s->n;
    r.device = g.device;
    d.peers = s->n;
    d.seed = 1;
    d.peer = g.desc;
    d.step = step;
    g.sim = dls_sim_create(&d);
    CHECK(g.sim != NULL);
}
static bool all_over(void) {
    int32_t i, n = 0;
    for (i = 0; i < g.s.n; i++) n += g.m[i].over ? 1 : 0;
    return n == g.s.n;
}
static void play(int32_t seconds) {
    const uint64_t end = dls_sim_now(g.sim) + (uint64_t)seconds * 1000000u;
    while (!all_over() && dls_sim_now(g.sim) < end) dls_sim_run(g.sim, dls_sim_now(g.sim) + 5000);
}
static void close_group(void) {
    int32_t i;
    for (i = 0; i < g.s.n; i++) member_free(&g.m[i]);
    dls_sim_destroy(g.sim);
    g.sim = NULL;
}
static void ended_well(void) {
    int32_t i;
    char text[300];
    for (i = 0; i < g.s.n; i++) {
        CHECK(g.m[i].over);
        CHECK_STATUS(g.m[i].status, DLS_OK);
        if (g.m[i].status != DLS_OK) puts(dls_error_text(&g.m[i].error, text, sizeof text));
        if (g.m[i].troubles > 0) puts(dls_error_text(&g.m[i].note, text, sizeof text));
        CHECK_INT(g.m[i].troubles, 0);
        if (g.m[i].train != NULL) CHECK_INT(dls_train_steps(g.m[i].train), g.s.steps);
    }
    CHECK_INT(g.unlike, 0);
}

/* A net whose batch may be cut anywhere: no norm of the batch, dropout drawn for each sample. */
static dls_net *cut_net(uint64_t seed) {
    dls_net_desc desc;
    dls_net *net;
    dls_val x;
    memset(&desc, 0, sizeof desc);
    desc.seed = seed;
    net = dls_net_create(&desc);
    x = dls_net_input(net, 4, 4, 1);
    x = dls_net_conv2d(net, x, 3, 3, DLS_ACT_RELU);
    x = dls_net_dropout(net, x, 0.1f);
    dls_net_dense(net, x, 3, DLS_ACT_NONE);
    return net;
}
static setting plain(int32_t n) {
    static dls_data data;
    setting s;
    memset(&s, 0, sizeof s);
    data = tiny_data();
    s.n = n;
    s.roster = n == 1; /* of one there is no other group */
    s.net = cut_net;
    s.data[0] = &data;
    s.steps = 40;
    s.train.batch = 8;
    s.train.seed = 4;
    s.train.optim.lr = 0.1f;
    s.train.optim.momentum = 0.9f;
    dls_run_sync(&s.mode);
    return s;
}
static double larger(double a, double b) { return a > b ? a : b; }
/* Greatest difference of weights by the greatest weight. */
static double unlike(const float *a, const float *b, size_t n) {
    double most = 0, size = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        most = larger(most, fabs((double)a[i] - (double)b[i]));
        size = larger(size, fabs((double)b[i]));
    }
    return most / size;
}
static float alone[STEPS + 1][PARAMS];
/* One device's weights after each step. */
static size_t one_device(const setting *s) {
    dls_net *net = s->net(1);
    dls_train *train = dls_train_create(net, &s->train);
    const size_t n = dls_net_param_count(net);
    int32_t index[64];
    int64_t i;
    CHECK(n <= PARAMS);
    for (i = 0; i < s->steps; i++) {
        const int32_t count = dlsi_fit_order(&train->desc, s->data[0]->count, i, index);
        CHECK_STATUS(dls_train_step_data(train, s->data[0], NULL, index, count, NULL), DLS_OK);
        memcpy(alone[i + 1], net->params, n * sizeof(float));
    }
    dls_train_destroy(train);
    dls_net_destroy(net);
    return n;
}
static void near_one_device(size_t n, double most) {
    double worst = 0;
    int64_t i;
    for (i = 1; i <= g.s.steps; i++)
        worst = larger(worst, unlike(g.weights[i], alone[i], n) / (double)i);
    if (!(worst <= most)) printf("  %g a step, %g allowed\n", worst, most);
    CHECK(worst <= most);
}

/* ---- Tests ---- */

static void test_sync_is_one_device(void) {
    int32_t n, round;
    for (n = 1; n <= 4; n++)
        for (round = 0; round < 4; round++) { /* equal shares; uneven; none for some; in parts */
            setting s = plain(n);
            int32_t i;
            size_t params;
            for (i = 0; i < n; i++)
                s.share[i] = round == 1 ? 1 + 2 * i : round == 2 ? 1 + 900 * i : 1;
            s.train.accumulate = round == 3 ? 4 : 1;
            s.train.optim.clip_norm = round == 3 ? 0.5f : 0.0f;
            s.mode.bucket_bytes = round == 1 ? 256 : 0;
            params = one_device(&s);
            open_group(&s);
            play(60);
            ended_well();
            near_one_device(params, 1e-6);
            close_group();
        }
}
static void test_local_once_is_sync(void) {
    setting s = plain(3);
    size_t params;
    s.share[0] = 1, s.share[1] = 2, s.share[2] = 5;
    s.train.optim.momentum = 0;
    params = one_device(&s);
    dls_run_local(&s.mode, 1);
    s.mode.outer_lr = 1;
    s.mode.outer_momentum = 0;
    open_group(&s);
    play(60);
    ended_well();
    near_one_device(params, 1e-6);
    close_group();
}
static dls_codec_desc codec_of(int32_t i) {
    dls_codec_desc d;
    memset(&d, 0, sizeof d);
    d.kind = (dls_codec_kind)(i % DLS_CODEC_COUNT);
    d.density = 0.1f;
    d.value_bits = i == DLS_CODEC_TOPK ? 8 : 2;
    d.seed = 3;
    if (i >= DLS_CODEC_COUNT && d.kind == DLS_CODEC_Q4) d.no_feedback = true;
    if (i >= DLS_CODEC_COUNT && d.kind == DLS_CODEC_POWER) d.rank = 2;
    return d;
}
/* With norms of the batch, too, and pieces of some elements. */
static void test_same_bits_with_each_codec(void) {
    int32_t i, k;
    for (i = 0; i < 2 * DLS_CODEC_COUNT; i++)
        for (k = 0; k < 3; k++) {
            setting s = plain(2 + k);
            s.net = i < DLS_CODEC_COUNT ? tiny_net : cut_net;
            s.mode.codec = codec_of(i);
            s.mode.bucket_bytes = k == 1 ? 64 : 0;
            s.share[0] = 3;
            s.share[1] = 2;
            open_group(&s);
            play(60);
            ended_well();
            CHECK(unlike(g.weights[40], g.weights[1], 100) > 1e-3); /* it does learn */
            close_group();
        }
}
static void test_local_rounds(void) {
    int32_t i;
    float kept[3][PARAMS];
    for (i = 0; i < 5; i++) {
        setting s = plain(3);
        dls_data own[3];
        dls_run_report report;
        int32_t k;
        s.net = tiny_net;
        s.steps = 42; /* the last round is shorter */
        s.train.optim.lr = 0.02f;
        dls_run_local(&s.mode, 8);
        if (i == 1) s.mode.outer_lr = 1, s.mode.outer_momentum = 0;
        if (i == 2) s.mode.mu = 1.0f;
        if (i == 3) {
            s.mode.codec = codec_of(DLS_CODEC_TOPK);
            s.mode.codec.value_bits = 2;
            s.mode.codec.decay = 0.95f;
        }
        for (k = 0; k < 3 && i == 4; k++) { /* each has a part of the samples */
            own[k] = tiny_data();
            own[k].x = tiny_x + 16 * 8 * k;
            own[k].label = tiny_label + 8 * k;
            own[k].count = 8;
            s.data[k] = &own[k];
            s.mode.own_data = true;
        }
        open_group(&s);
        play(60);
        ended_well();
        dls_run_tell(g.m[0].run, &report);
        CHECK_INT(report.steps, 42);
        CHECK(g.hash[8] != 0 && g.hash[9] == 0 && g.hash[42] != 0);
        if (i < 3) memcpy(kept[i], g.weights[42], sizeof kept[i]);
        close_group();
    }
    CHECK(unlike(kept[1], kept[0], 100) > 1e-4);
    CHECK(unlike(kept[2], kept[0], 100) > 1e-4);
}
/* One dies in the midst of backward, others go on; it comes back and gets the state. */
static void test_killed_in_a_step(void) {
    int32_t i, local;
    for (i = 0; i < 2 * DLS_CODEC_COUNT; i++) {
        local = i / DLS_CODEC_COUNT;
        setting s = plain(4);
        dls_run_report report;
        s.roster = true;
        s.steps = STEPS;
        s.net = tiny_net;
        s.train.optim.lr = 0.01f;
        if (local != 0) dls_run_local(&s.mode, 5);
        s.mode.codec = codec_of(i % DLS_CODEC_COUNT);
        open_group(&s);
        while (g.m[0].train == NULL || dls_train_steps(g.m[0].train) < 20)
            dls_sim_run(g.sim, dls_sim_now(g.sim) + 100);
        dls_sim_crash(g.sim, 1 + i % 3);
        while (dls_train_steps(g.m[0].train) < 60) dls_sim_run(g.sim, dls_sim_now(g.sim) + 1000);
        CHECK(dls_sim_start(g.sim, 1 + i % 3));
        play(120);
        ended_well();
        CHECK_INT(g.m[1 + i % 3].states, 1);
        dls_run_tell(g.m[0].run, &report);
        CHECK(report.steps + 5 * report.fetched >= STEPS); /* or others told how it ended */
        CHECK_INT(report.lost, 0);
        CHECK(report.views >= 3);
        close_group();
    }
}

static void test_choice(void) {
    static const dls_codec_option option[2] = {{"f16", 2e6, 300, 300}, {"top-k", 3e4, 900, 100}};
    dls_mode_case at;
    dls_mode_choice c;
    memset(&at, 0, sizeof at);
    at.link.n = 1000000;
    at.link.latency_us = 1000;
    at.members = 2;
    at.compute_us = 20000;
    at.option = option;
    at.options = 2;
    at.link.bytes_per_s = 1e10;
    CHECK_STATUS(dls_mode_choose(&at, &c), DLS_OK);
    CHECK_INT(c.kind, DLS_MODE_SYNC);
    CHECK_INT(c.option, -1);
    CHECK_TEXT(c.why, "every step, dense: computing takes 20.00 ms, a dense exchange 1.40 ms");
    at.link.bytes_per_s = 2.5e6; /* 20 Mbit/s: 1.6 s dense, 0.8 s in halves, 14 ms sparse */
    at.compute_us = 200000;
    CHECK_STATUS(dls_mode_choose(&at, &c), DLS_OK);
    CHECK_INT(c.kind, DLS_MODE_SYNC_CODEC);
    CHECK_INT(c.option, 1);
    CHECK_NEAR(c.exposed_us, 1000 + 12000 + 1000, 1);
    at.compute_us = 20000; /* now that is too much: 1.601 s over 1/9 of 20 ms a step */
    at.uneven = 2;
    CHECK_STATUS(dls_mode_choose(&at, &c), DLS_OK);
    CHECK_INT(c.kind, DLS_MODE_LOCAL);
    CHECK_INT(c.steps, 721);
    CHECK_TEXT(c.why, "local steps, 721 between exchanges");
    CHECK_TEXT(c.why, "far longer");
    at.link.hidden_us = 1.7e6; /* all behind backward */
    CHECK_STATUS(dls_mode_choose(&at, &c), DLS_OK);
    CHECK_INT(c.kind, DLS_MODE_SYNC);
    at.link.hidden_us = 0;
    at.members = 1;
    CHECK_STATUS(dls_mode_choose(&at, &c), DLS_OK);
    CHECK_INT(c.kind, DLS_MODE_SYNC);
    at.compute_us = 0;
    CHECK_STATUS(dls_mode_choose(&at, &c), DLS_E_ARG);
}
static dls_data train_data, test_data;
/* A network of some thousand weights for the digits. */
static dls_net *digits_net(uint64_t seed) {
    dls_net_desc desc;
    dls_net *net;
    dls_val x;
    memset(&desc, 0, sizeof desc);
    desc.seed = seed;
    net = dls_net_create(&desc);
    x = dls_net_input(net, 28, 28, 1);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_dense(net, x, 48, DLS_ACT_RELU);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}
static double accuracy(const setting *s) {
    dls_eval_report report;
    open_group(s);
    play(600);
    ended_well();
    memset(&report, 0, sizeof report);
    CHECK_STATUS(dls_eval(g.m[0].net, &test_data, NULL, 100, NULL, &report), DLS_OK);
    close_group();
    return 100 * report.accuracy;
}
/* Four unequal members: with each codec as good as without, to a point. */
static void test_accuracy(void) {
    double f32 = 0, slow = 0;
    int32_t i;
    for (i = 0; i < DLS_CODEC_COUNT + 2; i++) {
        setting s = plain(4);
        double got;
        int32_t k;
        s.net = digits_net;
        s.data[0] = &train_data;
        s.steps = 600;
        s.train.batch = 50;
        s.train.optim.lr = 0.05f;
        for (k = 0; k < 4; k++) s.share[k] = 1 + k * k;
        s.mode.codec = codec_of(i < DLS_CODEC_COUNT ? i : 0);
        if (i == DLS_CODEC_TOPK) s.mode.codec.density = 0.05f;
        if (i == DLS_CODEC_POWER) s.mode.codec.rank = 2; /* rank 1: 0.7 to 1.1 points below */
        if (i == DLS_CODEC_SIGN) { /* a rate at which it holds still, beside f32 at that rate */
            s.train.optim.lr = 0.01f;
            s.mode.codec.kind = DLS_CODEC_F32;
            slow = accuracy(&s);
            s.mode.codec.kind = DLS_CODEC_SIGN;
        }
        if (i >= DLS_CODEC_COUNT) { /* as FedAvg has it: 60 rounds are few for an outer momentum */
            dls_run_local(&s.mode, 10);
            s.mode.outer_lr = 1;
            s.mode.outer_momentum = 0;
        }
        if (i == DLS_CODEC_COUNT + 1) {
            s.mode.codec = codec_of(DLS_CODEC_TOPK);
            s.mode.codec.density = 0.05f;
            s.mode.codec.value_bits = 2;
            s.mode.codec.decay = 0.95f;
        }
        got = accuracy(&s);
        if (i == 0) f32 = got;
        printf("  %-8s %s %.2f %%\n", dls_codec_name(s.mode.codec.kind),
               s.mode.steps > 0 ? "local 10" : "sync", got);
        CHECK(got >= (i == DLS_CODEC_SIGN ? slow : f32) - 1);
    }
    CHECK(f32 > 90);
}

int main(int argc, char **argv) {
    dls_error error;
    char text[300];
    if (argc < 3 || dls_data_open(&train_data, argv[1], &error) != DLS_OK ||
        dls_data_open(&test_data, argv[2], &error) != DLS_OK) {
        puts(argc < 3 ? "modes TRAIN TEST" : dls_error_text(&error, text, sizeof text));
        return 2;
    }
    test_start("modes", argc - 2, argv + 2);
    alarm(300);
    RUN(sync_is_one_device);
    RUN(local_once_is_sync);
    RUN(same_bits_with_each_codec);
    RUN(local_rounds);
    RUN(killed_in_a_step);
    RUN(choice);
    RUN(accuracy);
    dls_data_close(&train_data);
    dls_data_close(&test_data);
    return test_end();
}
