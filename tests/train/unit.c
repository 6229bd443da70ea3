/* Elastic runs in the simulator, one matter a test: what is told, refused, and who wins. */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include <unistd.h>
#include "seeded.h"

#include "test.h"

#include "train/tiny.h"

/* ---- A group of peers without faults, each of its own making ---- */

#define MOST 7
typedef struct member {
    dls_net *net;
    dls_train *train;
    dls_run *run;
    void *mem;
    int32_t boots;
    bool over, out; /* out: it left after its end */
    dls_status status;
    dls_error error, note;
    int32_t troubles, states, shared;
    int32_t each[TINY_STEPS / 10];  /* my shards at each step */
    uint64_t told[TINY_STEPS / 10]; /* hash of all members' figures at each step */
} member;
static struct {
    dls_sim *sim;
    member m[MOST];
    int32_t n;
    dls_data data[MOST];
    int32_t share[MOST];
    uint64_t seed[MOST]; /* of the net's weights */
    float lr[MOST];
    int64_t steps;
    dls_trace *trace; /* of member 0 */
    int32_t chunk;
    int32_t shards, batch;
    dls_device device[MOST];
    dls_peer_desc desc[MOST];
    void (*meddle)(int32_t i); /* before member i computes */
} g;

static void member_free(member *m) {
    free(m->mem);
    dls_train_destroy(m->train);
    dls_net_destroy(m->net);
    memset(m, 0, sizeof *m);
}
static void member_start(member *m, dls_peer *p, int32_t i) {
    dls_train_desc d = tiny_desc();
    dls_run_desc r;
    member_free(m);
    m->boots = dls_sim_boots(g.sim, i);
    m->net = tiny_net(g.seed[i]);
    if (g.lr[i] > 0) d.optim.lr = g.lr[i];
    m->train = dls_train_create(m->net, &d);
    memset(&r, 0, sizeof r);
    r.train = m->train;
    r.peer = p;
    r.data = &g.data[i];
    r.steps = g.steps;
    r.share = g.share[i];
    r.chunk_bytes = g.chunk;
    r.members_least = g.n > 1 ? 2 : 1;
    r.trace = i == 0 ? g.trace : NULL;
    m->mem = malloc(dls_run_size(&r));
    CHECK_STATUS(dls_run_init(&m->run, &r, m->mem, dls_run_size(&r)), DLS_OK);
}
/* What members are told of each other adds up, and is mine where it is of me. */
static void figures(member *m, const dls_run_event *e) {
    int32_t k, all = 0, shards = 0;
    CHECK(e->member != NULL);
    CHECK(e->mine < e->member_count);
    for (k = 0; k < e->member_count; k++) {
        const dls_run_member *f = &e->member[k];
        CHECK(f->rank >= 0 && f->shards >= 0);
        all += f->samples;
        shards += f->shards;
        if (e->member_count > 1) CHECK(f->sent_bytes > 0);
        if (e->step < TINY_STEPS / 10)
            m->told[e->step] = dls_hash64(m->told[e->step], f, sizeof *f);
    }
    CHECK_INT(shards, m->train->desc.shards);
    CHECK(all > 0 && all <= m->train->desc.batch);
    CHECK_INT(e->member[e->mine].samples, e->samples);
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
        if (what == DLS_RUN_WORK && g.meddle != NULL) g.meddle(i);
        if (what == DLS_RUN_WORK) dls_run_work(m->run);
        while (dls_run_next(m->run, &e)) {
            if (e.type == DLS_RUN_TROUBLE) m->note = e.note;
            m->troubles += e.type == DLS_RUN_TROUBLE ? 1 : 0;
            m->states += e.type == DLS_RUN_STATE ? 1 : 0;
            m->shared += e.type == DLS_RUN_SHARES ? 1 : 0;
            if (e.type == DLS_RUN_STEP && e.step < TINY_STEPS / 10) m->each[e.step] = e.shards;
            if (e.type == DLS_RUN_STEP) figures(m, &e);
        }
        if (what != DLS_RUN_OVER) continue;
        m->over = true;
        m->status = dls_run_status(m->run, &m->error);
        dls_run_close(m->run);
        if (m->status == DLS_E_MISMATCH) dls_peer_leave(p); /* as it is asked to */
    }
}
/* n members, all coordinators; roster false: a group of ranks. */
static void group(int32_t n, bool roster) {
    static dls_roster r;
    dls_sim_desc d;
    int32_t i;
    memset(&d, 0, sizeof d);
    g.n = n;
    random_state.seed = (uint64_t)n;
    for (i = 0; i < n; i++) {
        memset(&g.device[i], 0, sizeof g.device[i]);
        g.device[i].id = (uint32_t)i;
        g.device[i].role = DLS_ROLE_JOIN | DLS_ROLE_TRAIN | DLS_ROLE_COORD;
        snprintf(g.device[i].name, sizeof g.device[i].name, "peer%d", (int)i);
        memset(&g.desc[i], 0, sizeof g.desc[i]);
        g.desc[i].roster = roster ? &r : NULL;
        g.desc[i].id = (uint32_t)i;
        g.desc[i].rank = i;
        g.desc[i].size = roster ? 0 : n;
        g.desc[i].heartbeat_us = 100000;
        g.desc[i].timeout_us = 1000000;
        if (roster) g.desc[i].store = (dls_store_fn)1; /* the simulator has its own */
    }
    r.group = 5;
    r.epoch = 1;
    r.count = n;
    r.device = g.device;
    d.peers = n;
    d.seed = 1;
    d.peer = g.desc;
    d.step = step;
    g.sim = dls_sim_create(&d);
    CHECK(g.sim != NULL);
}
static void plain(void) { /* as most tests want it */
    int32_t i;
    memset(&g, 0, sizeof g);
    g.steps = 30;
    for (i = 0; i < MOST; i++) {
        g.data[i] = tiny_data();
        g.seed[i] = 1;
    }
}
static bool over(int32_t first) {
    int32_t i, n = 0;
    for (i = first; i < g.n; i++) n += g.m[i].over ? 1 : 0;
    return n == g.n - first;
}
/* Until all from `first` on are over, or some seconds passed. */
static void play(int32_t first, int32_t seconds) {
    const uint64_t end = dls_sim_now(g.sim) + (uint64_t)seconds * 1000000u;
    while (!over(first) && dls_sim_now(g.sim) < end) dls_sim_run(g.sim, dls_sim_now(g.sim) + 5000);
}
static void end(void) {
    int32_t i;
    for (i = 0; i < g.n; i++) member_free(&g.m[i]);
    dls_sim_destroy(g.sim);
    g.sim = NULL;
}
static void all_are(dls_status st, int64_t steps) {
    int32_t i;
    for (i = 0; i < g.n; i++) {
        CHECK(g.m[i].over);
        CHECK_STATUS(g.m[i].status, st);
        if (g.m[i].train == NULL) continue;
        CHECK_INT(dls_train_steps(g.m[i].train), steps);
        CHECK(dls_train_hash(g.m[i].train) == tiny_hash[steps]);
    }
}
static const char *words(const dls_error *e) {
    static char text[400];
    return dls_error_text(e, text, sizeof text);
}

static int64_t steps_of(int32_t i) {
    return g.m[i].train != NULL ? dls_train_steps(g.m[i].train) : -1;
}

/* ---- Tests ---- */

static void test_run_any_number_any_shares(void) {
    static const int32_t sizes[] = {1, 2, 3, 4, 7};
    int32_t i, k, round;
    for (i = 0; i < 5; i++)
        for (round = 0; round < 3; round++) {
            dls_run_report report;
            int64_t samples = 0;
            plain();
            for (k = 0; k < MOST; k++)
                g.share[k] = round == 0 ? 0 : round == 1 ? 1 + k * k * 3 : k == 1 ? 1000000 : 1;
            group(sizes[i], true);
            play(0, 20);
            all_are(DLS_OK, g.steps);
            for (k = 0; k < g.n; k++) {
                dls_run_tell(g.m[k].run, &report);
                samples += report.samples;
                CHECK_INT(report.steps, g.steps);
                CHECK_INT(report.lost, 0);
                CHECK_INT(g.m[k].troubles, 0);
                CHECK(memcmp(g.m[k].told, g.m[0].told, sizeof g.m[0].told) == 0);
            }
            CHECK_INT(samples, 30 / 4 * TINY_SAMPLES + 2 * 7); /* each in one place only */
            end();
        }
}
static void test_run_alone_without_engine(void) {
    const dls_train_desc d = tiny_desc();
    dls_net *net = tiny_net(1);
    dls_train *train = dls_train_create(net, &d);
    const dls_data data = tiny_data();
    dls_run_desc r;
    dls_run *run;
    dls_run_do what;
    void *mem;
    memset(&r, 0, sizeof r);
    r.train = train;
    r.data = &data;
    r.steps = 9;
    mem = malloc(dls_run_size(&r));
    CHECK_STATUS(dls_run_init(&run, &r, mem, dls_run_size(&r)), DLS_OK);
    while ((what = dls_run_poll(run, 1)) == DLS_RUN_WORK) dls_run_work(run);
    CHECK_INT(what, DLS_RUN_OVER);
    CHECK_STATUS(dls_run_status(run, NULL), DLS_OK);
    CHECK(dls_train_hash(train) == tiny_hash[9]);
    free(mem);
    dls_train_destroy(train);
    dls_net_destroy(net);
}
static void test_run_fixed_group(void) {
    plain();
    group(3, false);
    play(0, 20);
    all_are(DLS_OK, g.steps);
    end();
    plain();
    g.steps = TINY_STEPS;
    group(3, false);
    dls_sim_run(g.sim, 500000);
    dls_sim_crash(g.sim, 1);
    g.m[1].over = true;
    play(0, 10);
    CHECK_STATUS(g.m[0].status, DLS_E_PEER); /* no views: nobody may go on */
    CHECK_STATUS(g.m[2].status, DLS_E_PEER);
    CHECK_TEXT(words(&g.m[0].error), "lost");
    end();
}
static void test_run_other_weights_at_the_start(void) {
    plain();
    g.seed[0] = g.seed[2] = 77; /* two have the first, three the other */
    g.seed[1] = g.seed[3] = g.seed[4] = 1;
    group(5, true);
    play(0, 20);
    all_are(DLS_OK, g.steps);
    CHECK_INT(g.m[0].states, 1);
    CHECK_INT(g.m[1].states, 0);
    end();
}
static void test_run_other_call(void) {
    plain();
    g.lr[2] = 0.5f;
    g.steps = 40;
    group(4, true);
    play(0, 20);
    CHECK_STATUS(g.m[2].status, DLS_E_MISMATCH);
    CHECK_TEXT(words(&g.m[2].error), "does not make the call");
    CHECK_TEXT(words(&g.m[0].note), "'peer2' (rank 2) makes another call");
    CHECK_INT(steps_of(2), 0);
    g.m[2].status = DLS_OK; /* it left, the others are through */
    member_free(&g.m[2]);
    g.m[2].over = true;
    all_are(DLS_OK, g.steps);
    end();
    plain(); /* one against one: both go */
    g.data[1].count--;
    group(2, true);
    play(0, 5);
    CHECK_STATUS(g.m[0].status, DLS_E_MISMATCH);
    CHECK_STATUS(g.m[1].status, DLS_E_MISMATCH);
    end();
}
/* Member 1's weights change between two steps, unseen; at the next view it is outvoted. */
static void test_run_bad_state_is_outvoted(void) {
    int32_t tries;
    plain();
    g.steps = TINY_STEPS;
    group(4, true);
    /* only who has as many steps as the others is outvoted, else it is behind: until it was so */
    for (tries = 0; tries < 20 && strstr(words(&g.m[0].note), "another state") == NULL; tries++) {
        const int64_t wait = steps_of(1) + 12;
        while (steps_of(1) < wait && dls_sim_now(g.sim) < 60000000)
            dls_sim_run(g.sim, dls_sim_now(g.sim) + 100);
        g.m[1].net->params[3] += 1;
        dls_peer_view_again(dls_sim_peer(g.sim, 0));
        dls_sim_jump(g.sim, 0, 0);
        dls_sim_run(g.sim, dls_sim_now(g.sim) + 1000000);
    }
    CHECK_INT(g.m[1].states, tries);
    CHECK_TEXT(words(&g.m[0].note), "'peer1' (rank 1) has another state");
    dls_run_stop(g.m[2].run);
    play(0, 10);
    all_are(DLS_E_STOPPED, steps_of(0));
    end();
}
/* Sums of member 2 differ in step 5, once: seen before the commit. */
static int32_t spoils;
static void spoil_sums(int32_t i) {
    if (i != 2 || g.m[2].run->phase != DLSI_RUN_FOLD || steps_of(2) != 4 || spoils == 0) return;
    spoils--;
    g.m[2].run->exact.sums[7] ^= 64;
}
static void test_run_bad_sums_are_seen(void) {
    plain();
    spoils = 1;
    g.meddle = spoil_sums;
    group(3, true);
    play(0, 20);
    all_are(DLS_OK, g.steps);
    CHECK_INT(g.m[0].troubles, 1);
    CHECK_TEXT(words(&g.m[0].note), "'peer2' (rank 2) has other sums than others in step 5");
    end();
    plain();
    spoils = 100; /* again and again: all give up, before the commit */
    g.meddle = spoil_sums;
    group(3, true);
    play(0, 20);
    all_are(DLS_E_MISMATCH, 4);
    end();
}
/* Member 1 computes NaN: tried on another device. */
static void spoil_scale(int32_t i) {
    if (i != 1 || g.m[1].run->phase != DLSI_RUN_STEP || g.m[1].run->shard != 1 || spoils == 0 ||
        steps_of(1) != 6)
        return;
    spoils--;
    g.m[1].run->exact.scales[0] = 255;
}
static void test_run_nan_of_one_device(void) {
    plain();
    spoils = 1;
    g.meddle = spoil_scale;
    group(3, true);
    play(0, 20);
    all_are(DLS_OK, g.steps);
    CHECK_TEXT(words(&g.m[0].note), "NaN or infinity from 'peer1' (rank 1) in step 7");
    end();
}
static void test_run_nan_in_data(void) {
    static float x[TINY_SAMPLES * 16];
    int32_t i, at = 0;
    plain();
    memcpy(x, tiny_x, sizeof x);
    while (dls_fit_index(tiny_desc().seed, 0, TINY_SAMPLES, at) != 17) at++; /* in step at / 7 */
    x[17 * 16] = NAN;
    for (i = 0; i < MOST; i++) g.data[i].x = x;
    group(3, true);
    play(0, 20);
    all_are(DLS_E_NUMBER, at / 7);
    CHECK_TEXT(words(&g.m[0].error), "could not compute step");
    end();
}
static void test_run_stop(void) {
    plain();
    g.steps = TINY_STEPS;
    group(4, true);
    dls_sim_run(g.sim, 700000);
    dls_run_stop(g.m[3].run);
    play(0, 10);
    CHECK(steps_of(0) > 5);
    all_are(DLS_E_STOPPED, steps_of(0));
    CHECK_TEXT(words(&g.m[0].error), "asked to stop");
    end();
    plain(); /* nobody else is there */
    group(2, true);
    dls_sim_crash(g.sim, 1);
    g.m[1].over = true;
    dls_sim_run(g.sim, 200000);
    dls_run_stop(g.m[0].run);
    play(0, 10);
    CHECK_STATUS(g.m[0].status, DLS_E_STOPPED);
    end();
}
/* A state of many pieces from three donors, two of which die on the way: what was there stays. */
static void test_run_state_in_pieces(void) {
    size_t have = 0;
    plain();
    g.steps = TINY_STEPS;
    g.chunk = 40;
    group(5, true);
    dls_sim_run(g.sim, 600000);
    dls_sim_crash(g.sim, 4);
    dls_sim_run(g.sim, dls_sim_now(g.sim) + 2000000);
    CHECK(dls_sim_start(g.sim, 4));
    while (g.m[4].run == NULL || g.m[4].boots != 2 || g.m[4].run->phase != DLSI_RUN_MOVE ||
           g.m[4].run->have < 400)
        dls_sim_run(g.sim, dls_sim_now(g.sim) + 100);
    have = g.m[4].run->have;
    CHECK(have < g.m[4].run->image_bytes);
    CHECK(g.m[4].run->donors >= 2); /* those with the most steps at that moment */
    dls_sim_crash(g.sim, 0);
    dls_sim_crash(g.sim, 1);
    while (g.m[4].run->phase == DLSI_RUN_MOVE) dls_sim_run(g.sim, dls_sim_now(g.sim) + 1000);
    CHECK(g.m[4].run->have >= have);
    CHECK(g.m[4].run->part_hash != 0);
    dls_sim_run(g.sim, dls_sim_now(g.sim) + 3000000);
    CHECK_INT(g.m[4].states, 1);
    CHECK(dls_sim_start(g.sim, 0));
    CHECK(dls_sim_start(g.sim, 1));
    dls_sim_run(g.sim, dls_sim_now(g.sim) + 3000000);
    dls_run_stop(g.m[1].run);
    play(0, 10);
    all_are(DLS_E_STOPPED, steps_of(0));
    end();
}
static void test_run_spread(void) {
    static const uint32_t speeds[4] = {8000, 4000, 1600, 1000};
    const uint32_t some[3] = {0, 300, 100}, none[3] = {0, 0, 0};
    int32_t each[4];
    dls_run_spread(speeds, 4, 16, each);
    CHECK_INT(each[0], 1);
    CHECK_INT(each[1], 2);
    CHECK_INT(each[2], 5);
    CHECK_INT(each[3], 8);
    dls_run_spread(some, 3, 12, each); /* the unknown one is as the mean of the others: 200 */
    CHECK_INT(each[0] + each[1] + each[2], 12);
    CHECK(each[2] > each[0] && each[0] > each[1]);
    dls_run_spread(none, 3, 7, each);
    CHECK_INT(each[0], 3);
    CHECK_INT(each[1], 2);
    CHECK_INT(each[2], 2);
    dls_run_spread(speeds, 1, 7, each);
    CHECK_INT(each[0], 7);
}
/* One member turns out slow: shares move, at most a quarter at once, not before ten steps. */
static void slow_down(int32_t i) {
    if (g.m[i].run->phase == DLSI_RUN_FOLD)
        g.m[i].run->my_rate = i == 0 && steps_of(0) >= 30 ? 6000 : 1000;
}
static void test_run_rebalances(void) {
    int32_t i, moves = 0, last = 30;
    plain();
    g.steps = 120;
    g.meddle = slow_down;
    group(2, true);
    play(0, 30);
    all_are(DLS_OK, g.steps);
    for (i = 2; i < 120; i++) {
        const int32_t a = g.m[0].each[i - 1], b = g.m[0].each[i];
        CHECK_INT(g.m[0].each[i] + g.m[1].each[i], 7);
        if (a == b) continue;
        moves++;
        CHECK(i >= 40 && i - last >= 10);
        CHECK(a - b == 1);
        last = i;
    }
    CHECK_INT(moves, 3);
    CHECK_INT(g.m[0].each[119], 1); /* of 7, one at a sixth of the speed */
    end();
}
/* The timeline of a member: phases, one after another, and that a view began. */
static void test_run_traces(void) {
    static const char *const phase[] = {"compute", "reduce", "agree", "join", "view"};
    static unsigned char mem[DLS_TRACE_BYTES(2000)];
    dls_trace trace;
    int32_t seen[5] = {0};
    uint64_t end_us = 0;
    size_t i;
    int k;
    memset(&trace, 0, sizeof trace);
    CHECK_STATUS(dls_trace_init(&trace, mem, sizeof mem), DLS_OK);
    plain();
    g.trace = &trace;
    group(3, true);
    play(0, 20);
    all_are(DLS_OK, g.steps);
    CHECK_INT(dls_trace_dropped(&trace), 0);
    for (i = 0; i < dls_trace_events(&trace); i++) {
        const dls_trace_event *e = dls_trace_at(&trace, i);
        for (k = 0; k < 5; k++) seen[k] += strcmp(e->name, phase[k]) == 0;
        if (e->kind != DLS_TRACE_SPAN) continue;
        CHECK(e->at_us >= end_us && e->duration_us > 0);
        end_us = e->at_us + e->duration_us;
    }
    CHECK(seen[1] >= 30 && seen[2] >= 30 && seen[3] >= 1 && seen[4] >= 1);
    end();
}
static void test_run_refuses(void) {
    dls_train_desc d = tiny_desc();
    dls_net *net = tiny_net(1);
    dls_train *train = dls_train_create(net, &d), *fast;
    dls_data data = tiny_data();
    dls_run_desc r, good;
    dls_run *run;
    void *mem;
    size_t bytes;
    memset(&r, 0, sizeof r);
    r.train = train;
    r.data = &data;
    r.steps = 9;
    good = r;
    bytes = dls_run_size(&r);
    mem = malloc(bytes);
    CHECK_STATUS(dls_run_init(&run, &r, mem, bytes - 1), DLS_E_MEMORY);
    CHECK_STATUS(dls_run_init(&run, &r, NULL, bytes), DLS_E_MEMORY);
    r.steps = -1;
    CHECK_INT(dls_run_size(&r), 0);
    CHECK_STATUS(dls_run_init(&run, &r, mem, bytes), DLS_E_ARG);
    r = good;
    r.members_max = 2000;
    CHECK_STATUS(dls_run_init(&run, &r, mem, bytes), DLS_E_ARG);
    r = good;
    r.data = NULL;
    CHECK_STATUS(dls_run_init(&run, &r, mem, bytes), DLS_E_ARG);
    r = good;
    data.shape.h = 5;
    CHECK_STATUS(dls_run_init(&run, &r, mem, bytes), DLS_E_SHAPE);
    d.shards = 0;
    fast = dls_train_create(net, &d);
    r.train = fast;
    CHECK_STATUS(dls_run_init(&run, &r, mem, bytes), DLS_E_STATE);
    CHECK(run == NULL);
    dls_train_destroy(fast);
    dls_train_destroy(train);
    dls_net_destroy(net);
    free(mem);
}

int main(int argc, char **argv) {
    test_start("train", argc, argv);
    alarm(120);
    if (!tiny_alone(TINY_STEPS)) return 2;
    RUN(run_any_number_any_shares);
    RUN(run_alone_without_engine);
    RUN(run_fixed_group);
    RUN(run_other_weights_at_the_start);
    RUN(run_other_call);
    RUN(run_bad_state_is_outvoted);
    RUN(run_bad_sums_are_seen);
    RUN(run_nan_of_one_device);
    RUN(run_nan_in_data);
    RUN(run_stop);
    RUN(run_state_in_pieces);
    RUN(run_spread);
    RUN(run_rebalances);
    RUN(run_traces);
    RUN(run_refuses);
    return test_end();
}
