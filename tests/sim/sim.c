/* Clusters of 3 to 32 peers in the simulator. Each seed draws a cluster (keys or none,
   coordinators, peers behind serial lines and gateways), a time of faults and a time of peace.
   Safety, always:
   - a view's number names one view, numbers rise, every view has its members' majority of
     coordinators behind it (implied by the first two over all seeds);
   - messages of a pair, several under way with one tag, arrive in order, once, unchanged, and a
     send that is done has arrived; of those that either side may drop and begin again, what
     arrives is one message's, and never an older one's than before;
   - no session ends because of what the other side wrote, nor by a clock that jumps;
   - of a member's lives one takes part in a view, and the view says which;
   - a peer that heard of a life of another one believes in no earlier one;
   - of the coordinators one leads in a term;
   - all members that finish the k-th all-reduce of a view have the same result, the sum of what
     the view's members gave.
   Liveness: in peace, those who live come to one view and go on reducing, in time. Time counts from
   when the last fault is over: no more loss, cuts or slowness, and whoever is down and stays so has
   been silent for TIMEOUT, before which nobody can know. Most seeds need 3 heartbeats, and none
   more than LATE; the distribution is printed.
     sim FIRST COUNT     seeds FIRST..FIRST+COUNT-1; prints what failed
     sim --hunt FIRST COUNT  the same, up to the first that failed
     sim --kept FILE     lines "seed trace", the trace in hex; all must pass with that trace
     sim --print SEED    one seed, told in words */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include "seeded.h"

#include "test.h"

#ifndef TRACE_WHERE
#define TRACE_WHERE ""
#endif
#define PEERS_MAX 32
#define WORDS 6 /* integers of an all-reduce */
#define VIEWS_MAX 4096
#define HEARTBEAT 200000u
#define TIMEOUT 1000000u
#define LATE 3000000u
#define LANES 3         /* messages under way each way between two */
#define NUMBERS 10      /* messages of a session each way */
#define LONG 2400       /* bytes of the longest */
#define REPLAY 4000000u /* us after which old packets come again, at most */

typedef struct app { /* what runs on one peer */
    dls_coll coll;
    unsigned char staging[32768];
    int32_t data[WORDS];
    uint32_t view, round;
    uint32_t term, voted, number;  /* what a coordinator has promised */
    int32_t boots;                 /* of the engine it runs on */
    uint16_t index[PEERS_MAX + 4]; /* of each session that was looked at */
    bool in_view, reducing;
    uint64_t reduced_at;
    struct {                  /* messages with each other peer, of the session of now */
        uint32_t sent, asked; /* numbers of the next */
        uint32_t boot;        /* the latest life that it showed */
        uint64_t up;          /* since when it is, for sessions of one link */
        uint32_t jumps;       /* of the clock since */
        struct {
            int32_t send, recv; /* ops, -1: none */
            uint32_t out, in;   /* their numbers */
            uint64_t since;     /* when the send began */
        } lane[LANES];
        struct { /* messages that are dropped at times: the next to send, the least to come */
            int32_t send, recv;
            uint32_t out, in, asks;
            size_t from;
        } loose;
    } with[PEERS_MAX];
} app;
enum { OUT = 0, IN };
typedef struct decided {
    uint64_t content;
    int32_t took_part[PEERS_MAX]; /* the life of each member that did */
} decided;

static struct {
    dls_sim *sim;
    uint64_t seed;
    dls_rng rng;
    int32_t peers, coords, live;
    app *app;
    decided *view;
    dls_peer_desc desc[PEERS_MAX];
    dls_device device[PEERS_MAX];
    unsigned char secret[PEERS_MAX][32], psk[PEERS_MAX][32];
    int32_t serial_to[PEERS_MAX];
    uint32_t last_view[PEERS_MAX];
    uint64_t arrived[PEERS_MAX][PEERS_MAX][NUMBERS]; /* from, to: when a message last did */
    uint64_t died[PEERS_MAX];
    uint64_t dies_at[PEERS_MAX], back_at[PEERS_MAX]; /* 0: is not to */
    uint32_t leader[VIEWS_MAX];                      /* of each term: a peer and 1 */
    int32_t lanes, treason; /* treason: of a hundred promises, how many a crash follows */
    uint64_t reductions, messages, drops;
    char why[200];
    bool print, keyed, peace;
} c;

/* of peer, with peer, OUT or IN; the last one is for loose ones */
static unsigned char text[PEERS_MAX][PEERS_MAX][2][LANES + 1][LONG];

static uint32_t below(uint32_t n) { return n == 0 ? 0 : dls_rng_u32(&c.rng) % n; }
static void wrong(const char *what, int32_t i, uint64_t a, uint64_t b) {
    if (c.why[0] == '\0')
        snprintf(c.why, sizeof c.why, "%s: peer %d, %llu %llu, at %.3f s", what, (int)i,
                 (unsigned long long)a, (unsigned long long)b, (double)dls_sim_now(c.sim) * 1e-6);
}
static void tell(const char *what, int32_t i, int64_t a, int64_t b) {
    if (c.print)
        printf("%9.4f  peer %2d  %s %lld %lld\n", (double)dls_sim_now(c.sim) * 1e-6, (int)i, what,
               (long long)a, (long long)b);
}

/* What a life of peer i gives to the k-th all-reduce of a view. */
static int32_t given(uint32_t view, uint32_t k, uint32_t id, uint32_t boot, int32_t word) {
    return (int32_t)dls_rand_at((uint64_t)view << 32 | boot << 16 | k, id * 64 + (uint32_t)word);
}
static void crash(int32_t i) {
    if (dls_sim_peer(c.sim, i) != NULL) c.died[i] = dls_sim_now(c.sim);
    dls_sim_crash(c.sim, i);
    tell("crashes", i, 0, 0);
}
/* Crashes, and is back before anybody can have noticed. */
static void stumble(int32_t i) {
    crash(i);
    c.back_at[i] = dls_sim_now(c.sim) + 1 + below(below(3) != 0 ? 4000 : 120000);
}
static void start(int32_t i) {
    c.back_at[i] = 0;
    if (!dls_sim_start(c.sim, i)) wrong("did not start", i, 0, 0);
    tell("starts", i, 0, 0);
}
/* Runs until then, and lets those die and come back whose time it is. */
static void run_until(uint64_t until) {
    for (;;) {
        uint64_t next = until;
        int32_t i;
        for (i = 0; i < c.peers; i++) {
            if (c.dies_at[i] != 0 && c.dies_at[i] < next) next = c.dies_at[i];
            if (c.back_at[i] != 0 && c.back_at[i] < next) next = c.back_at[i];
        }
        dls_sim_run(c.sim, next);
        if (next == until) return;
        for (i = 0; i < c.peers; i++) {
            if (c.dies_at[i] == next) {
                c.dies_at[i] = 0;
                stumble(i);
            } else if (c.back_at[i] == next) {
                start(i);
            }
        }
    }
}
static void app_view(app *a, dls_peer *p, int32_t i) {
    dls_view v;
    uint64_t content = 7;
    int32_t k;
    dls_peer_view(p, &v);
    if (v.number == a->view) return;
    if (v.number < c.last_view[i])
        wrong("a view older than one before", i, v.number, c.last_view[i]);
    c.last_view[i] = v.number;
    tell(v.mine >= 0 ? "is in view" : "is not in view", i, v.number, v.count);
    a->view = v.number;
    for (k = 0; k < (int32_t)p->view.count; k++)
        content = dls_hash64(content, (const unsigned char *)&p->view.member[k], 8);
    content += v.term;
    if (v.number < VIEWS_MAX) {
        if (c.view[v.number].content != 0 && c.view[v.number].content != content)
            wrong("two views of one number", i, v.number, v.term);
        c.view[v.number].content = content;
    }
    dls_sim_note(c.sim, (uint64_t)v.number << 8 | (uint64_t)i);
    a->in_view = dls_coll_view(&a->coll, &v) == DLS_OK;
    a->round = 0;
    a->reducing = false;
    if (v.mine < 0 || v.number >= VIEWS_MAX) return;
    if (c.view[v.number].took_part[i] != 0 && c.view[v.number].took_part[i] != a->boots)
        wrong("two lives of a member in one view", i, v.number, (uint64_t)a->boots);
    c.view[v.number].took_part[i] = a->boots;
}
static void app_reduced(app *a, const dls_peer *p, int32_t i) {
    int32_t want[WORDS], w, k;
    memset(want, 0, sizeof want);
    for (k = 0; k < (int32_t)p->view.count; k++)
        for (w = 0; w < WORDS; w++)
            want[w] = (int32_t)((uint32_t)want[w] + (uint32_t)given(a->view, a->round,
                                                                    p->view.member[k].id,
                                                                    p->view.member[k].boot, w));
    if (memcmp(want, a->data, sizeof want) != 0) wrong("a wrong sum", i, a->view, a->round);
    c.reductions++;
    a->reduced_at = dls_sim_now(c.sim);
    a->round++;
}
static void app_reduce(app *a, dls_peer *p, int32_t i) {
    dls_status st = DLS_OK;
    int32_t w, turn;
    for (turn = 0; turn < 4 && a->in_view; turn++) {
        if (!a->reducing) {
            if (a->round >= 1000 || (a->round > 0 && dls_sim_now(c.sim) < a->reduced_at + 20000))
                return;
            for (w = 0; w < WORDS; w++)
                a->data[w] = given(a->view, a->round, (uint32_t)i, (uint32_t)a->boots, w);
            if (dls_coll_allreduce(&a->coll, a->data, WORDS, DLS_REDUCE_SUM_I32) != DLS_OK) return;
            a->reducing = true;
        }
        if (!dls_coll_poll(&a->coll, &st)) return;
        a->reducing = false;
        if (st != DLS_OK) { /* a member is gone: the next view will tell */
            a->in_view = false;
            return;
        }
        app_reduced(a, p, i);
    }
    (void)p;
}
/* Numbered messages with every other peer, each session counting anew. Most are short, some empty,
   some of many packets. */
static size_t message_bytes(uint32_t number) {
    const uint32_t r = dls_rand_at(77, number);
    return r % 8 == 0 ? 0 : r % 8 > 1 ? 16 + r % 64 : LONG - r % 1000;
}
static uint64_t message_word(int32_t from, int32_t to, uint32_t number, size_t at) {
    return ((uint64_t)number << 12 | (uint64_t)(from * 64 + to)) * 0x9E3779B97F4A7C15u +
           at * 0x2545u;
}
static void message_write(unsigned char *m, size_t n, int32_t from, int32_t to, uint32_t number) {
    size_t i;
    for (i = 0; i < n; i++)
        m[i] = (unsigned char)(message_word(from, to, number, i / 8) >> i % 8 * 8);
}
static bool message_is(const unsigned char *m, size_t first, size_t n, int32_t from, int32_t to,
                       uint32_t number) {
    size_t i;
    for (i = first; i < n; i++)
        if (m[i] != (unsigned char)(message_word(from, to, number, i / 8) >> i % 8 * 8))
            return false;
    return true;
}
/* Draws of the application, so that what it does is no rhythm. */
static bool app_may(int32_t i, int32_t k, uint32_t one_in) {
    return dls_rand_at(c.seed ^ dls_sim_now(c.sim), (uint32_t)(i * 64 + k)) % one_in == 0;
}
/* What became of the messages with k; when the session with it is another, all begins anew. */
static void app_heard(app *a, dls_peer *p, int32_t i, int32_t k) {
    dls_status st;
    int32_t j;
    for (j = 0; j < c.lanes; j++) {
        const uint32_t out = a->with[k].lane[j].out, in = a->with[k].lane[j].in;
        if (a->with[k].lane[j].send >= 0 && dls_peer_op_done(p, a->with[k].lane[j].send, &st)) {
            a->with[k].lane[j].send = -1;
            if (st != DLS_OK && st != DLS_E_PEER) wrong("a send ended strangely", i, out, st);
            if (st == DLS_OK && c.arrived[i][k][out] < a->with[k].lane[j].since)
                wrong("a send is done that did not arrive", i, (uint64_t)k, out);
        }
        if (a->with[k].lane[j].recv < 0 || !dls_peer_op_done(p, a->with[k].lane[j].recv, &st))
            continue;
        a->with[k].lane[j].recv = -1;
        if (st != DLS_OK && st != DLS_E_PEER) wrong("a receive ended strangely", i, in, st);
        if (st != DLS_OK) continue;
        if (!message_is(text[i][k][IN][j], 0, message_bytes(in), k, i, in))
            wrong("a message out of order", i, (uint64_t)k, in);
        c.arrived[k][i][in] = dls_sim_now(c.sim);
        c.messages++;
    }
}
static void app_talk(app *a, dls_peer *p, int32_t i, int32_t k) {
    int32_t j;
    if (!dls_peer_is_up(p, k)) return;
    for (j = 0; j < c.lanes; j++) {
        uint32_t number = a->with[k].asked;
        if (a->with[k].lane[j].recv < 0 && number < NUMBERS) {
            a->with[k].lane[j].in = number;
            memset(text[i][k][IN][j], 0, message_bytes(number));
            a->with[k].lane[j].recv = dls_peer_recv(p, k, 0x40000000u + (uint32_t)k,
                                                    text[i][k][IN][j], message_bytes(number));
            a->with[k].asked += a->with[k].lane[j].recv >= 0 ? 1 : 0;
        }
        number = a->with[k].sent;
        if (a->with[k].lane[j].send >= 0 || number >= NUMBERS || app_may(i, k, 3)) continue;
        a->with[k].lane[j].out = number;
        a->with[k].lane[j].since = dls_sim_now(c.sim);
        message_write(text[i][k][OUT][j], message_bytes(number), i, k, number);
        a->with[k].lane[j].send = dls_peer_send(p, k, 0x40000000u + (uint32_t)i, text[i][k][OUT][j],
                                                message_bytes(number));
        if (a->with[k].lane[j].send < 0) continue;
        dls_peer_op_class(p, a->with[k].lane[j].send, (dls_class)(number % 3));
        a->with[k].sent++;
    }
}
/* Long messages, one at a time, that either side drops now and then. The sender goes on to the next
   one; the receiver asks for the rest of what it has a part of. */
static void app_loose_in(app *a, dls_peer *p, int32_t i, int32_t k) {
    unsigned char *to = text[i][k][IN][LANES];
    dls_status st = DLS_OK;
    uint32_t n;
    if (a->with[k].loose.recv < 0) return;
    if (!dls_peer_op_done(p, a->with[k].loose.recv, &st)) {
        if (!app_may(i, k, 12)) return;
        a->with[k].loose.from = dls_peer_op_have(p, a->with[k].loose.recv);
        dls_peer_op_drop(p, a->with[k].loose.recv);
        a->with[k].loose.recv = -1;
        c.drops++;
        return;
    }
    a->with[k].loose.recv = -1;
    if (st != DLS_OK && st != DLS_E_PEER)
        wrong("a loose receive ended strangely", i, (uint64_t)k, st);
    if (st == DLS_OK) {
        for (n = 0; n < 64; n++)
            if (message_is(to, a->with[k].loose.from, LONG, k, i, a->with[k].loose.in + n)) break;
        if (n == 64) wrong("a message made up", i, (uint64_t)k, a->with[k].loose.in);
        a->with[k].loose.in += a->with[k].loose.from < LONG ? n + 1 : 0;
        c.messages++;
    }
    a->with[k].loose.from = 0;
}
static void app_loose(app *a, dls_peer *p, int32_t i, int32_t k) {
    dls_status st;
    const uint32_t tag = 0x50000000u;
    if (a->with[k].loose.send >= 0) {
        const bool done = dls_peer_op_done(p, a->with[k].loose.send, &st);
        if (!done && app_may(i, k, 12)) {
            dls_peer_op_drop(p, a->with[k].loose.send);
            c.drops++;
        } else if (!done) {
            return;
        }
        if (done && st != DLS_OK && st != DLS_E_PEER)
            wrong("a loose send ended strangely", i, (uint64_t)k, st);
        a->with[k].loose.send = -1;
        a->with[k].loose.out++;
        return;
    }
    if (!dls_peer_is_up(p, k) || a->with[k].loose.out >= NUMBERS || app_may(i, k, 2)) return;
    message_write(text[i][k][OUT][LANES], LONG, i, k, a->with[k].loose.out);
    a->with[k].loose.send = dls_peer_send(p, k, tag, text[i][k][OUT][LANES], LONG);
}
static void app_loose_ask(app *a, dls_peer *p, int32_t i, int32_t k) {
    if (a->with[k].loose.recv >= 0 || a->with[k].loose.asks >= NUMBERS || !dls_peer_is_up(p, k) ||
        app_may(i, k, 2))
        return;
    a->with[k].loose.asks++;
    a->with[k].loose.recv =
        dls_peer_recv_from(p, k, 0x50000000u, text[i][k][IN][LANES], LONG, a->with[k].loose.from);
}
static bool app_is_loose(int32_t i, int32_t k) { return c.lanes > 1 && (i - k == 1 || k - i == 1); }
static void app_event(app *a, int32_t i, const dls_peer_event *e) {
    static const char *const name[] = {"?",    "sees peer", "lost peer", "left by peer",
                                       "view", "roster"};
    if (e->type < DLS_PEER_VIEW) tell(name[e->type], i, e->rank, e->status);
    if (e->type != DLS_PEER_LOST && e->type != DLS_PEER_LEFT) return;
    /* a jump may cost a session the patience for two heartbeats, and no more */
    if (e->type == DLS_PEER_LOST && e->status == DLS_E_TIMEOUT && a->with[e->rank].up != 0 &&
        dls_sim_now(c.sim) - a->with[e->rank].up + 2 * HEARTBEAT * a->with[e->rank].jumps < TIMEOUT)
        wrong("a session ended too soon", i, (uint64_t)e->rank, a->with[e->rank].jumps);
    a->with[e->rank].up = 0;
    if (e->status == DLS_E_FORMAT || e->status == DLS_E_AUTH || e->status == DLS_E_MISMATCH)
        wrong("a session ended strangely", i, (uint64_t)e->rank, e->status);
    a->with[e->rank].sent = a->with[e->rank].asked = 0;
    a->with[e->rank].loose.in = a->with[e->rank].loose.out = 0;
    a->with[e->rank].loose.from = a->with[e->rank].loose.asks = 0;
}
/* What must hold of an engine at any time. */
static void app_look(app *a, dls_peer *p, int32_t i) {
    int32_t k;
    for (k = 0; k < p->desc.sessions_max; k++) {
        const dlsi_ses *s = &p->ses[k];
        if ((s->state != DLSI_SES_HALF && s->state != DLSI_SES_UP) || s->index == a->index[k])
            continue;
        a->index[k] = s->index;
        if (s->boot < a->with[s->rank].boot)
            wrong("an earlier life of a peer is believed in", i, (uint64_t)s->rank, s->boot);
        a->with[s->rank].boot = s->boot;
    }
    for (k = 0; k < c.peers; k++) {
        if (!dls_peer_is_up(p, k) || dls_peer_is_relayed(p, k))
            a->with[k].up = 0;
        else if (a->with[k].up == 0) {
            a->with[k].up = dls_sim_now(c.sim);
            a->with[k].jumps = 0;
        }
    }
    if (p->role != DLSI_LEAD || p->term >= VIEWS_MAX) return;
    if (c.leader[p->term] != 0 && c.leader[p->term] != (uint32_t)i + 1)
        wrong("two leaders in one term", i, c.leader[p->term] - 1, p->term);
    c.leader[p->term] = (uint32_t)i + 1;
}
/* A coordinator that has just promised something may die at once, or once it has said so. */
static bool app_betrays(app *a, const dls_peer *p, int32_t i) {
    const bool promised =
        p->term != a->term || p->voted != a->voted || p->accepted.number != a->number;
    a->term = p->term;
    a->voted = p->voted;
    a->number = p->accepted.number;
    if (!promised || c.peace || below(100) >= (uint32_t)c.treason) return false;
    if (below(3) == 0) {
        stumble(i);
        return true;
    }
    c.dies_at[i] = dls_sim_now(c.sim) + 1 + below(below(3) != 0 ? 5000 : 50000);
    return false;
}
static void app_start(app *a, dls_peer *p, int32_t i) {
    int32_t k, j;
    memset(a, 0, sizeof *a);
    a->boots = dls_sim_boots(c.sim, i);
    a->term = p->term;
    a->voted = p->voted;
    a->number = p->accepted.number;
    c.last_view[i] = 0;
    for (k = 0; k < PEERS_MAX; k++) {
        a->with[k].loose.send = a->with[k].loose.recv = -1;
        for (j = 0; j < LANES; j++) a->with[k].lane[j].send = a->with[k].lane[j].recv = -1;
    }
    if (dls_coll_init(&a->coll, p, i, c.peers, a->staging, sizeof a->staging) != DLS_OK)
        wrong("no collective", i, 0, 0);
}
static void step(void *user, dls_sim *sim, int32_t i) {
    dls_peer *p = dls_sim_peer(sim, i);
    app *a = &c.app[i];
    dls_peer_event e;
    int32_t k;
    (void)user;
    if (a->boots != dls_sim_boots(sim, i)) app_start(a, p, i);
    for (k = 0; k < c.peers; k++) {
        if (k == i) continue;
        app_heard(a, p, i, k);
        if (app_is_loose(i, k)) app_loose_in(a, p, i, k);
    }
    while (dls_peer_next_event(p, &e)) app_event(a, i, &e);
    app_view(a, p, i);
    for (k = 0; k < c.peers; k++) {
        if (k == i) continue;
        app_talk(a, p, i, k);
        if (app_is_loose(i, k)) app_loose_ask(a, p, i, k);
        if (app_is_loose(i, k)) app_loose(a, p, i, k);
    }
    app_reduce(a, p, i);
    app_look(a, p, i);
    if (i < c.coords) (void)app_betrays(a, p, i);
}

/* ---- Clusters ---- */

static void draw_cluster(dls_sim_desc *d) {
    static const int32_t sizes[] = {3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 12, 16, 24, 32};
    static dls_roster roster;
    static const int32_t coords[] = {1, 3, 3, 5, 5};
    int32_t i;
    c.peers = sizes[below(c.seed % 16 == 0 ? 14 : 10)];
    c.coords = coords[below(5)];
    if (c.coords > c.peers) c.coords = c.peers % 2 == 1 ? c.peers : c.peers - 1;
    c.lanes = c.peers < 10 ? LANES : 1;
    c.keyed = c.seed % 4 == 0;
    for (i = 0; i < c.peers; i++) {
        dls_device *v = &c.device[i];
        memset(v, 0, sizeof *v);
        v->id = (uint32_t)i;
        v->role = (uint8_t)(DLS_ROLE_JOIN | DLS_ROLE_TRAIN | (i < c.coords ? DLS_ROLE_COORD : 0));
        snprintf(v->name, sizeof v->name, "peer%d", (int)i);
        c.serial_to[i] =
            i >= c.coords && i > 1 && below(8) == 0 ? (int32_t)below((uint32_t)c.coords) : -1;
        (void)sim_random(c.secret[i], 32);
        if (i == 0) (void)sim_random(c.psk[0], 32);
        memcpy(c.psk[i], c.psk[0], 32);
        if (c.keyed) dls_x25519_public(v->public_key, c.secret[i]);
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
        if (c.keyed) {
            p->secret = c.secret[i];
            p->psk = c.psk[i];
        }
        p->ops_max = (2 * c.lanes + 2) * c.peers + 8;
        p->window = 64;
        p->heartbeat_us = HEARTBEAT;
        p->timeout_us = TIMEOUT;
        p->gateway = i < c.coords;
        if (i < c.coords) p->store = (dls_store_fn)1; /* the simulator has its own */
    }
    memset(d, 0, sizeof *d);
    d->peers = c.peers;
    d->seed = c.seed;
    d->peer = c.desc;
    d->serial_to = c.serial_to;
    d->delay_us = 100 + below(5000);
    d->jitter_us = below(2) == 0 ? 0 : below(8000);
    d->step = step;
}
static void fault(void) {
    const int32_t i = (int32_t)below((uint32_t)c.peers), k = (int32_t)below((uint32_t)c.peers);
    static const uint32_t most[5] = {200000, 50000, 100000, 20000, 2000};
    int32_t j, rate[5];
    int64_t jump;
    uint64_t clock;
    switch (below(17)) {
    case 0:
    case 1: crash(i); break;
    case 2:
    case 3:
    case 4:
        for (j = 0; j < c.peers; j++) /* the first that is down */
            if (dls_sim_peer(c.sim, (i + j) % c.peers) == NULL) {
                start((i + j) % c.peers);
                break;
            }
        break;
    case 5:
        dls_sim_cut(c.sim, i, k, true);
        tell("is cut from", i, k, 0);
        break;
    case 6:
        for (j = 0; j < c.peers; j++) /* a partition */
            if ((j * 7 + i) % 3 == 0)
                for (int32_t m = 0; m < c.peers; m++)
                    if ((m * 7 + i) % 3 != 0) {
                        dls_sim_cut(c.sim, j, m, true);
                        if (below(4) != 0) dls_sim_cut(c.sim, m, j, true);
                    }
        tell("partition", i, 0, 0);
        break;
    case 7:
        for (j = 0; j < c.peers * c.peers; j++) dls_sim_cut(c.sim, j / c.peers, j % c.peers, false);
        tell("no cuts", i, 0, 0);
        break;
    case 8: dls_sim_slow(c.sim, i, below(2) == 0 ? 0 : below(300000)); break;
    case 9:
        clock = dls_sim_clock(c.sim, i);
        jump = (int64_t)below(20000000) - 10000000;
        for (j = 0; j < c.peers; j++) c.app[i].with[j].jumps++;
        dls_sim_jump(c.sim, i, jump);
        if (dls_sim_clock(c.sim, i) != clock + (uint64_t)jump)
            wrong("the clock did not jump", i, clock, dls_sim_clock(c.sim, i));
        tell("clock jumps", i, 0, 0);
        break;
    case 10: stumble(below(2) == 0 ? (int32_t)below((uint32_t)c.coords) : i); break;
    case 11: /* two coordinators lose each other */
        j = (int32_t)below((uint32_t)c.coords);
        dls_sim_cut(c.sim, j, (j + 1) % c.coords, true);
        dls_sim_cut(c.sim, (j + 1) % c.coords, j, true);
        tell("is cut from", j, (j + 1) % c.coords, 0);
        break;
    case 12: /* a power cut: they all elect at once */
        for (j = 0; j < c.coords; j++) {
            crash(j);
            c.back_at[j] = dls_sim_now(c.sim) + 1 + below(20000);
        }
        break;
    case 13: c.treason = below(2) == 0 ? 0 : (int32_t)below(40); break;
    case 14: dls_sim_replay(c.sim, (int32_t)below(2) * (int32_t)below(500000), REPLAY); break;
    default:
        for (j = 0; j < 5; j++) rate[j] = (int32_t)below(most[j]);
        dls_sim_rates(c.sim, rate[0], rate[1], rate[2], rate[3], below(2) == 0 ? 0 : rate[4]);
        break;
    }
}
static void peace(void) {
    int32_t i, k;
    c.peace = true;
    dls_sim_rates(c.sim, 0, 0, 0, 0, 0);
    dls_sim_replay(c.sim, 0, 0); /* what was heard so far still comes again */
    c.live = 0;
    memset(c.dies_at, 0, sizeof c.dies_at);
    memset(c.back_at, 0, sizeof c.back_at);
    for (i = 0; i < c.peers; i++) {
        for (k = 0; k < c.peers; k++) dls_sim_cut(c.sim, i, k, false);
        dls_sim_slow(c.sim, i, 0);
        if (dls_sim_peer(c.sim, i) == NULL && (i < c.coords || below(2) == 0)) start(i);
        c.live += dls_sim_peer(c.sim, i) != NULL ? 1 : 0;
    }
    tell("peace; alive:", -1, c.live, 0);
}
/* Whether all who live are in one view of just them and have reduced since `since`. */
static bool settled(uint64_t since) {
    uint32_t number = 0;
    int32_t i, reachable = c.live;
    for (i = 0; i < c.peers; i++)
        if (dls_sim_peer(c.sim, i) != NULL && c.serial_to[i] >= 0 &&
            dls_sim_peer(c.sim, c.serial_to[i]) == NULL)
            reachable--; /* its gateway is down */
    for (i = 0; i < c.peers; i++) {
        dls_view v;
        if (dls_sim_peer(c.sim, i) == NULL ||
            (c.serial_to[i] >= 0 && dls_sim_peer(c.sim, c.serial_to[i]) == NULL))
            continue;
        dls_peer_view(dls_sim_peer(c.sim, i), &v);
        if (number == 0) number = v.number;
        if (v.number != number || v.mine < 0 || v.count != reachable || c.app[i].reduced_at < since)
            return false;
    }
    return number > 0;
}
/* waited: microseconds from the end of the last fault until all was settled. */
static uint64_t run_seed(uint64_t seed, uint64_t *waited, uint64_t *lasted) {
    dls_sim_desc d;
    uint64_t end, trace, since, over, carried;
    int32_t i;
    memset(&c.seed, 0, sizeof c.seed);
    c.seed = seed;
    c.rng.seed = seed;
    c.rng.next = 0;
    random_state.seed = seed ^ 0x5A5A;
    random_state.next = 0;
    c.why[0] = '\0';
    c.peace = false;
    memset(c.app, 0, PEERS_MAX * sizeof *c.app);
    memset(c.view, 0, VIEWS_MAX * sizeof *c.view);
    memset(c.last_view, 0, sizeof c.last_view);
    memset(c.arrived, 0, sizeof c.arrived);
    memset(c.leader, 0, sizeof c.leader);
    memset(c.died, 0, sizeof c.died);
    memset(c.dies_at, 0, sizeof c.dies_at);
    memset(c.back_at, 0, sizeof c.back_at);
    draw_cluster(&d);
    c.sim = dls_sim_create(&d);
    if (c.sim == NULL) {
        snprintf(c.why, sizeof c.why, "no cluster");
        return 0;
    }
    end = 1000000u * (2 + below(6));
    c.treason = below(2) == 0 ? (int32_t)below(80) : 0;
    for (i = (int32_t)below(4) - 1; i > 0; i--) fault(); /* before anybody has met */
    if (below(3) == 0) run_until(500000);                /* a quiet start, or none */
    while (dls_sim_now(c.sim) < end && c.why[0] == '\0') {
        run_until(dls_sim_now(c.sim) + 10000 + below(400000));
        fault();
    }
    run_until(dls_sim_now(c.sim) + below(100000));
    peace();
    since = over = dls_sim_now(c.sim);
    for (i = 0; i < c.peers; i++)
        if (dls_sim_peer(c.sim, i) == NULL && c.died[i] + TIMEOUT > over)
            over = c.died[i] + TIMEOUT;
    carried = dls_sim_carried(c.sim);
    while (c.why[0] == '\0' && !settled(since) && dls_sim_now(c.sim) < over + LATE)
        dls_sim_run(c.sim, dls_sim_now(c.sim) + 5000);
    *lasted = dls_sim_now(c.sim);
    *waited = *lasted > over ? *lasted - over : 0;
    if (c.why[0] == '\0' && !settled(since)) wrong("no progress in peace", -1, (uint64_t)c.live, 0);
    if (c.live > 1 && *lasted > since && dls_sim_carried(c.sim) <= carried)
        wrong("all was settled over no link", -1, carried, dls_sim_carried(c.sim));
    trace = dls_sim_trace(c.sim);
    dls_sim_destroy(c.sim);
    return trace;
}

/* Seeds that found a bug once: they pass, and leave the trace that they left everywhere. */
static int run_kept(const char *path) {
    FILE *f = fopen(path, "r");
    unsigned long long seed, trace;
    uint64_t waited, lasted;
    int n = 0, bad = 0;
    while (f != NULL && fscanf(f, "%llu %llx", &seed, &trace) == 2) {
        const uint64_t got = run_seed(seed, &waited, &lasted);
        n++;
        if (c.why[0] == '\0' && got == trace) continue;
        bad++;
        printf("  seed %llu: %s, trace %llx\n", seed, c.why[0] != '\0' ? c.why : "another trace",
               (unsigned long long)got);
    }
    if (f != NULL) fclose(f);
    printf("%s sim: %d seeds kept, the same traces%s\n", bad > 0 || n == 0 ? "FAIL" : "ok", n,
           TRACE_WHERE);
    return bad > 0 || n == 0;
}

static int by_size(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}
int main(int argc, char **argv) {
    const int hunt = argc > 3 && strcmp(argv[1], "--hunt") == 0;
    const uint64_t first = argc > 1 ? strtoull(argv[1 + hunt], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2 + hunt], NULL, 10) : 100;
    uint64_t waited, lasted, i, bad = 0, in_time = 0;
    double sum = 0, all = 0;
    uint32_t *each;
    c.app = (app *)calloc(PEERS_MAX, sizeof *c.app);
    c.view = (decided *)calloc(VIEWS_MAX, sizeof *c.view);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && strcmp(argv[1], "--kept") == 0) return run_kept(argv[2]);
    if (argc > 2 && strcmp(argv[1], "--print") == 0) {
        c.print = true;
        i = run_seed(count, &waited, &lasted);
        printf(
            "seed %llu: %s; %d peers, %d coordinators, %s, progress after %.3f s, trace %016llx\n",
            (unsigned long long)count, c.why[0] ? c.why : "good", (int)c.peers, (int)c.coords,
            c.keyed ? "keys" : "no keys", (double)waited * 1e-6, (unsigned long long)i);
        return c.why[0] != '\0';
    }
    each = (uint32_t *)calloc(count + 1, sizeof *each);
    for (i = 0; i < count; i++) {
        (void)run_seed(first + i, &waited, &lasted);
        each[i] = (uint32_t)waited;
        sum += (double)waited * 1e-6;
        all += (double)lasted * 1e-6;
        in_time += waited <= 3 * HEARTBEAT ? 1 : 0;
        if (c.why[0] == '\0') continue;
        bad++;
        printf("  seed %llu (%d peers, %d coordinators, %s): %s\n", (unsigned long long)(first + i),
               (int)c.peers, (int)c.coords, c.keyed ? "keys" : "no keys", c.why);
        if (hunt) count = i + 1;
    }
    qsort(each, count, sizeof *each, by_size);
    printf(
        "%s sim: %llu seeds from %llu, %llu failed; %.0f s of virtual time, %llu reductions, %llu "
        "messages, %llu drops; progress in peace after %.2f s on average, median %.2f s, 99 in "
        "100 within %.2f s, at most %.2f s; within 3 heartbeats: %.1f %%\n",
        bad ? "FAIL" : "ok", (unsigned long long)count, (unsigned long long)first,
        (unsigned long long)bad, all, (unsigned long long)c.reductions,
        (unsigned long long)c.messages, (unsigned long long)c.drops, sum / (double)count,
        each[count / 2] * 1e-6, each[count * 99 / 100] * 1e-6,
        each[count > 0 ? count - 1 : 0] * 1e-6, 100.0 * (double)in_time / (double)count);
    free(each);
    free(c.app);
    free(c.view);
    return bad > 0;
}
