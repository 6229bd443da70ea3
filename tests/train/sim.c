/* Elastic runs in the simulator: 2 to 9 peers that crash, start again with nothing, are slow, cut
   off, or hear badly. After each step that a peer commits, and each state that it takes, its hash
   is that of one device after as many steps. In peace all who live come to one view, go on, and,
   when one is asked to stop, stop after the same step.
     sim FIRST COUNT     seeds FIRST..FIRST+COUNT-1; prints what failed
     sim --print SEED    one seed, told in words */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include "seeded.h"

#include "test.h"

#include "train/tiny.h"

#define PEERS_MAX 9

typedef struct app {
    dls_net *net;
    dls_train *train;
    dls_run *run;
    void *mem;
    int32_t boots, least;
    bool may_work, over;
    int64_t step; /* last seen */
    dls_status status;
} app;
static struct {
    dls_sim *sim;
    dls_rng rng;
    dls_data data;
    int32_t peers, coords, flips, chunk;
    app app[PEERS_MAX];
    dls_peer_desc desc[PEERS_MAX];
    dls_device device[PEERS_MAX];
    unsigned char secret[PEERS_MAX][32], psk[32];
    bool down[PEERS_MAX], print, stopping;
    int64_t most; /* steps that anybody has done */
    int64_t redone, fetched, spread, commits, views;
    char why[200];
} c;

static uint32_t below(uint32_t n) { return n == 0 ? 0 : dls_rng_u32(&c.rng) % n; }
static void wrong(const char *what, int32_t i, int64_t a, int64_t b) {
    if (c.why[0] == '\0')
        snprintf(c.why, sizeof c.why, "%s: peer %d, %lld %lld, at %.3f s", what, (int)i,
                 (long long)a, (long long)b, (double)dls_sim_now(c.sim) * 1e-6);
}
static void tell(const char *what, int32_t i, int64_t a, int64_t b) {
    if (c.print)
        printf("%9.4f  peer %2d  %s %lld %lld\n", (double)dls_sim_now(c.sim) * 1e-6, (int)i, what,
               (long long)a, (long long)b);
}

static void app_free(app *a) {
    dls_run_report report;
    if (a->run != NULL) {
        dls_run_tell(a->run, &report);
        if (report.lost != 0) wrong("steps were lost", -1, report.lost, 0);
        c.redone += report.redone;
        c.fetched += report.fetched;
        c.spread += report.spread;
        c.commits += report.steps;
        c.views += report.views;
    }
    free(a->mem);
    dls_train_destroy(a->train);
    dls_net_destroy(a->net);
    memset(a, 0, sizeof *a);
}
static void app_start(app *a, dls_peer *p, int32_t i) {
    const dls_train_desc d = tiny_desc();
    dls_run_desc r;
    app_free(a);
    a->boots = dls_sim_boots(c.sim, i);
    a->net = tiny_net(1);
    a->train = dls_train_create(a->net, &d);
    memset(&r, 0, sizeof r);
    r.train = a->train;
    r.peer = p;
    r.data = &c.data;
    r.steps = TINY_STEPS;
    r.share = below(2) == 0 ? 0 : (int32_t)below(9) + 1;
    r.chunk_bytes = c.chunk;
    a->mem = malloc(dls_run_size(&r));
    if (dls_run_init(&a->run, &r, a->mem, dls_run_size(&r)) != DLS_OK) wrong("no run", i, 0, 0);
}
static void app_events(app *a, int32_t i) {
    static const char *const name[] = {"?", "trouble", "view", "took state", "commit", "shards"};
    dls_run_event e;
    char text[200];
    while (dls_run_next(a->run, &e)) {
        tell(name[e.type], i, e.step, e.type == DLS_RUN_VIEW ? e.members : e.shards);
        if (e.type == DLS_RUN_TROUBLE) {
            if (c.print) printf("  %s\n", dls_error_text(&e.note, text, sizeof text));
            if (c.flips == 0) wrong(dls_error_text(&e.note, text, sizeof text), i, e.step, 0);
        }
        if (e.type == DLS_RUN_VIEW) continue;
        if (e.step < a->step) wrong("a step back", i, e.step, a->step);
        a->step = e.step;
        if (e.step > c.most) c.most = e.step;
        if (dls_train_hash(a->train) != tiny_hash[e.step]) wrong("another state", i, e.step, 0);
    }
}
static void step(void *user, dls_sim *sim, int32_t i) {
    dls_peer *p = dls_sim_peer(sim, i);
    app *a = &c.app[i];
    dls_peer_event e;
    dls_run_do what;
    (void)user;
    if (a->boots != dls_sim_boots(sim, i)) app_start(a, p, i);
    while (dls_peer_next_event(p, &e)) {}
    while (!a->over && (what = dls_run_poll(a->run, dls_sim_clock(sim, i))) != DLS_RUN_WAIT) {
        app_events(a, i);
        if (what == DLS_RUN_OVER) {
            a->over = true;
            a->status = dls_run_status(a->run, NULL);
            tell("is over", i, a->step, a->status);
            if (!c.stopping) wrong("over too early", i, a->status, a->step);
        } else if (a->may_work) {
            a->may_work = false;
            dls_run_work(a->run);
            app_events(a, i);
        } else {
            break;
        }
    }
    if (!a->over) app_events(a, i);
}

/* ---- Clusters ---- */

static void draw(dls_sim_desc *d, uint64_t seed) {
    static dls_roster roster;
    int32_t i;
    c.peers = 2 + (int32_t)below(7);
    c.chunk = 100 + (int32_t)below(3000);
    (void)sim_random(c.psk, 32);
    c.coords = c.peers >= 3 && below(4) != 0 ? 3 : 1;
    for (i = 0; i < c.peers; i++) {
        dls_device *v = &c.device[i];
        memset(v, 0, sizeof *v);
        v->id = (uint32_t)i;
        v->role = (uint8_t)(DLS_ROLE_JOIN | DLS_ROLE_TRAIN | (i < c.coords ? DLS_ROLE_COORD : 0));
        snprintf(v->name, sizeof v->name, "peer%d", (int)i);
        (void)sim_random(c.secret[i], 32);
        dls_x25519_public(v->public_key, c.secret[i]);
    }
    roster.group = 5;
    roster.epoch = 1;
    roster.count = c.peers;
    roster.device = c.device;
    for (i = 0; i < c.peers; i++) {
        dls_peer_desc *p = &c.desc[i];
        memset(p, 0, sizeof *p);
        p->roster = &roster;
        p->id = (uint32_t)i;
        p->secret = c.secret[i];
        p->psk = c.psk;
        p->ops_max = 4 * c.peers + 8;
        p->window = 64;
        p->heartbeat_us = 100000;
        p->timeout_us = 1000000;
        if (i < c.coords) p->store = (dls_store_fn)1; /* the simulator has its own */
    }
    memset(d, 0, sizeof *d);
    d->peers = c.peers;
    d->seed = seed;
    d->peer = c.desc;
    d->delay_us = 100 + below(2000);
    d->jitter_us = below(2) == 0 ? 0 : below(3000);
    d->step = step;
}
/* Time passes, and each peer that is up may compute a piece every 2 ms. */
static void pass(uint64_t us) {
    const uint64_t until = dls_sim_now(c.sim) + us;
    int32_t i;
    while (dls_sim_now(c.sim) < until && c.why[0] == '\0') {
        dls_sim_run(c.sim, dls_sim_now(c.sim) + 2000);
        for (i = 0; i < c.peers; i++) {
            c.app[i].may_work = true;
            if (dls_sim_peer(c.sim, i) != NULL) dls_sim_jump(c.sim, i, 0); /* its turn */
        }
    }
}
/* Flips a bit of the sums or of the state of a peer, as bad memory would. */
static void flip(int32_t i) {
    app *a = &c.app[i];
    dls_exact e;
    if (dls_sim_peer(c.sim, i) == NULL || a->train == NULL || a->run->phase != DLSI_RUN_FOLD)
        return;
    dls_train_exact(a->train, &e);
    e.sums[below((uint32_t)e.sums_count)] ^= (int32_t)1 << below(20);
    c.flips++;
    tell("bit flips", i, 0, 0);
}
static void fault(void) {
    const int32_t i = (int32_t)below((uint32_t)c.peers), k = (int32_t)below((uint32_t)c.peers);
    int32_t j;
    switch (below(12)) {
    case 0:
    case 1:
        if (dls_sim_peer(c.sim, i) == NULL) break;
        dls_sim_crash(c.sim, i);
        tell("crashes", i, 0, 0);
        break;
    case 2:
    case 3:
    case 4:
        for (j = 0; j < c.peers && dls_sim_peer(c.sim, (i + j) % c.peers) != NULL; j++) {}
        if (j == c.peers) break;
        if (!dls_sim_start(c.sim, (i + j) % c.peers)) wrong("did not start", i, 0, 0);
        tell("starts", (i + j) % c.peers, 0, 0);
        break;
    case 5:
        dls_sim_cut(c.sim, i, k, true);
        if (below(2) == 0) dls_sim_cut(c.sim, k, i, true);
        tell("is cut from", i, k, 0);
        break;
    case 6:
    case 7:
        for (j = 0; j < c.peers * c.peers; j++) dls_sim_cut(c.sim, j / c.peers, j % c.peers, false);
        tell("no cuts", i, 0, 0);
        break;
    case 8: dls_sim_slow(c.sim, i, below(2) == 0 ? 0 : below(20000)); break;
    case 9: dls_sim_jump(c.sim, i, (int64_t)below(4000000) - 2000000); break;
    case 10: flip(i); break;
    default:
        dls_sim_rates(c.sim, (int32_t)below(30000), (int32_t)below(30000), (int32_t)below(60000),
                      (int32_t)below(5000), 0);
        break;
    }
}
static void peace(void) {
    int32_t i, k;
    dls_sim_rates(c.sim, 0, 0, 0, 0, 0);
    for (i = 0; i < c.peers; i++) {
        for (k = 0; k < c.peers; k++) dls_sim_cut(c.sim, i, k, false);
        dls_sim_slow(c.sim, i, 0);
        if (dls_sim_peer(c.sim, i) == NULL && !dls_sim_start(c.sim, i))
            wrong("did not start", i, 0, 0);
    }
    tell("peace", -1, 0, 0);
}
/* All at work in one view of all, and at most a step apart. */
static bool together(int64_t beyond) {
    int32_t i;
    for (i = 0; i < c.peers; i++)
        if (c.app[i].run == NULL || c.app[i].run->count != c.peers || c.app[i].step <= beyond ||
            c.app[i].run->view != c.app[0].run->view)
            return false;
    return true;
}
static bool all_over(void) {
    int32_t i, n = 0;
    for (i = 0; i < c.peers; i++) n += c.app[i].over ? 1 : 0;
    return n == c.peers;
}
static void run_seed(uint64_t seed, double *waited) {
    dls_sim_desc d;
    uint64_t end, since;
    int64_t most;
    int32_t i;
    c.rng.seed = seed;
    c.rng.next = 0;
    random_state.seed = seed ^ 0x5A5A;
    random_state.next = 0;
    c.why[0] = '\0';
    c.stopping = false;
    c.flips = 0;
    c.most = 0;
    draw(&d, seed);
    c.sim = dls_sim_create(&d);
    if (c.sim == NULL) {
        snprintf(c.why, sizeof c.why, "no cluster");
        return;
    }
    end = 1000000u * (2 + below(4));
    while (dls_sim_now(c.sim) < end && c.why[0] == '\0') {
        pass(5000 + below(300000));
        fault();
    }
    peace();
    since = dls_sim_now(c.sim);
    most = c.most;
    while (c.why[0] == '\0' && !together(most) && dls_sim_now(c.sim) < since + 10000000) pass(5000);
    *waited = (double)(dls_sim_now(c.sim) - since) * 1e-6;
    if (c.why[0] == '\0' && !together(most)) wrong("no progress in peace", -1, most, c.most);
    pass(below(50000));
    i = (int32_t)below((uint32_t)c.peers);
    c.stopping = true;
    dls_run_stop(c.app[i].run);
    tell("is asked to stop", i, 0, 0);
    if (below(4) == 0) { /* and somebody dies just then */
        pass(below(20000));
        i = (i + 1) % c.peers;
        dls_sim_crash(c.sim, i);
        tell("crashes", i, 0, 0);
        pass(below(2000000));
        if (!dls_sim_start(c.sim, i)) wrong("did not start", i, 0, 0);
        tell("starts", i, 0, 0);
        pass(5000000);
        c.app[i].over = true; /* it may have come too late */
        c.app[i].step = c.app[(i + 1) % c.peers].step;
        c.app[i].status = DLS_E_STOPPED;
    }
    since = dls_sim_now(c.sim);
    while (c.why[0] == '\0' && !all_over() && dls_sim_now(c.sim) < since + 10000000) pass(5000);
    if (c.why[0] == '\0' && !all_over()) wrong("did not stop", -1, 0, 0);
    for (i = 0; i < c.peers; i++) {
        if (c.why[0] == '\0' &&
            (c.app[i].status != DLS_E_STOPPED || c.app[i].step != c.app[0].step))
            wrong("stopped after another step", i, c.app[i].step, c.app[0].step);
    }
    for (i = 0; i < c.peers; i++) app_free(&c.app[i]);
    dls_sim_destroy(c.sim);
}

int main(int argc, char **argv) {
    const bool print = argc > 2 && strcmp(argv[1], "--print") == 0;
    const uint64_t first = strtoull(argc > 2 ? argv[print ? 2 : 1] : "1", NULL, 10);
    const uint64_t count = print ? 1 : argc > 2 ? strtoull(argv[2], NULL, 10) : 20;
    double waited = 0, most = 0, sum = 0;
    uint64_t i, bad = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    c.print = print;
    c.data = tiny_data();
    if (!tiny_alone(TINY_STEPS)) return 2;
    for (i = first; i < first + count; i++) {
        run_seed(i, &waited);
        sum += waited;
        if (waited > most) most = waited;
        if (c.why[0] == '\0') continue;
        bad++;
        printf("  seed %llu (%d peers, %d coordinators): %s\n", (unsigned long long)i, (int)c.peers,
               (int)c.coords, c.why);
    }
    printf(
        "%s train: simulator: %llu seeds from %llu, %llu failed; %lld commits, %lld redone, %lld "
        "views, %lld states sent, %lld rebalanced; all together in peace after %.2f s on "
        "average, %.2f s at most\n",
        bad ? "FAIL" : "ok", (unsigned long long)count, (unsigned long long)first,
        (unsigned long long)bad, (long long)c.commits, (long long)c.redone, (long long)c.views,
        (long long)c.fetched, (long long)c.spread, sum / (double)count, most);
    return bad > 0;
}
