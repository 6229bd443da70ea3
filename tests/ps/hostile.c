/* Members that lie: a client whose questions, lengths and messages are anything, and a server whose
   answers are. The other side goes on, strikes the liar, and takes no number that is none. */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include "seeded.h"

#include "test.h"

#include "ps/world.h"

#define N 300
static dls_rng rng;
static float served[N], mine[N], given[N];
static dls_ps_at at;
static unsigned char ask[DLSI_PS_ASK], say[DLSI_PS_SAY + 64], message[4096], got[4 * N + 64];
static int32_t op[4] = {-1, -1, -1, -1};
static dls_ps_mode mode;

static uint32_t below(uint32_t n) { return n == 0 ? 0 : dls_rng_u32(&rng) % n; }
static dls_status give(void *user, float *weights, float *grad, size_t count, int32_t *samples) {
    size_t k;
    (void)user;
    (void)weights;
    for (k = 0; k < count; k++) grad[k] = 1;
    *samples = 1;
    return DLS_OK;
}
static void start(int32_t i) {
    if (i == 0 && world.servers == 1) {
        dls_ps_server_desc s;
        memset(&s, 0, sizeof s);
        s.weights = served;
        s.count = N;
        s.optim.lr = 1e-3f;
        s.mode = mode;
        s.staleness = 2;
        s.deadline_us = 3000;
        make_server(0, &s);
    } else if (i == 1) {
        dls_ps_client_desc c;
        memset(&c, 0, sizeof c);
        c.server = &at;
        c.servers = 1;
        c.weights = mine;
        c.count = N;
        c.compute = give;
        c.codec.kind = DLS_CODEC_Q8;
        make_client(1, &c);
    }
}
static void drop(dls_peer *p) {
    dls_status st;
    int32_t k;
    for (k = 0; k < 4; k++) {
        if (op[k] >= 0 && !dls_peer_op_done(p, op[k], &st)) dls_peer_op_drop(p, op[k]);
        op[k] = -1;
    }
}
/* A message of some codec, mostly damaged. */
static size_t lie(void) {
    dls_codec_desc d;
    dls_codec codec;
    static uint64_t mem[8192];
    size_t bytes = 0, k;
    memset(&d, 0, sizeof d);
    d.kind = (dls_codec_kind)below(DLS_CODEC_POWER);
    d.density = 0.1f;
    for (k = 0; k < N; k++) given[k] = (float)below(1000) - 500;
    if (dls_codec_init(&codec, &d, N, mem, sizeof mem) != DLS_OK ||
        dls_codec_encode(&codec, 0, 0, given, message, sizeof message, &bytes) != DLS_OK)
        test_report("hostile.c", 0, "no message");
    for (k = below(4); k > 0; k--) message[below((uint32_t)bytes)] = (unsigned char)below(256);
    if (below(8) == 0) bytes = below((uint32_t)bytes);
    if (below(8) == 0) (void)sim_random(message, bytes);
    return bytes;
}
static void bad_client(dls_peer *p, uint32_t round) {
    const size_t bytes = lie();
    const bool push = below(2) == 0;
    drop(p);
    dlsi_store32(ask, DLSI_PS_MARK | (push ? DLSI_PS_PUSH : DLSI_PS_PULL));
    dlsi_store32(ask + 4, below(100));
    dlsi_store64(ask + 8, dlsi_ps_call(0, N, false));
    dlsi_store32(ask + 16, below(100));
    dlsi_store32(ask + 20, round + below(2));
    dlsi_store32(ask + 24, below(4) == 0 ? dls_rng_u32(&rng) : 1);
    dlsi_store32(ask + 28, below(4) == 0 ? dls_rng_u32(&rng) : below(2) * 10);
    dlsi_store32(ask + 32, below(4) == 0 ? dls_rng_u32(&rng) : N - below(2) * 10);
    dlsi_store32(ask + 36, below(4) == 0 ? dls_rng_u32(&rng) : (uint32_t)bytes);
    if (below(10) == 0) ask[below(sizeof ask)] ^= (unsigned char)below(256);
    op[0] =
        dls_peer_send(p, 0, DLSI_TAG_PS_ASK, ask, below(20) == 0 ? below(sizeof ask) : sizeof ask);
    op[1] = dls_peer_recv(p, 0, DLSI_TAG_PS_SAY, say, DLSI_PS_SAY + below(2));
    if (push)
        op[2] = dls_peer_send(p, 0, DLSI_TAG_PS_MESSAGE, message, bytes);
    else
        op[3] = dls_peer_recv(p, 0, DLSI_TAG_PS_WEIGHTS, got, 4 * N + below(2));
}
static void test_bad_client(void) {
    int32_t turn, k;
    rng.seed = 1;
    at.count = N;
    for (k = 0; k < 3; k++) {
        mode = (dls_ps_mode)k;
        memset(served, 0, sizeof served);
        CHECK(world_make(1, 2, 3 + (uint64_t)k, start));
        world.device[1].takes_us = 1000;
        for (turn = 0; turn < 3000; turn++) {
            bad_client(dls_sim_peer(world.sim, 2), (uint32_t)told(0).rounds);
            pass(1000 + below(5) * 1000);
        }
        CHECK(told(0).steps > 200);
        CHECK(heard(1).taken > 200);
        CHECK(told(0).refused > 3);
        CHECK(dls_ps_server_record(world.device[0].server, 2)->times > 0);
        CHECK(dls_ps_server_record(world.device[0].server, 1)->rejected == 0);
        for (turn = 0; turn < N; turn++) CHECK(served[turn] - served[turn] == 0);
        drop(dls_sim_peer(world.sim, 2));
        world_free();
    }
}
static void bad_server(dls_peer *p, const dls_ps_client *c) {
    drop(p);
    dlsi_store32(say, DLSI_PS_MARK | (1 + below(8) % (below(50) == 0 ? 8 : 7)));
    if (below(2) == 0) dlsi_store32(say, DLSI_PS_MARK | DLSI_PS_GRANT);
    dlsi_store32(say + 4, below(4) == 0 ? dls_rng_u32(&rng) : c->way[0].number);
    (void)sim_random(say + 8, 16);
    op[0] = dls_peer_recv(p, 1, DLSI_TAG_PS_ASK, ask, sizeof ask - below(2));
    op[1] = dls_peer_send(p, 1, DLSI_TAG_PS_SAY, say, DLSI_PS_SAY + (below(10) == 0 ? 1 : 0));
    (void)sim_random(got, sizeof got);
    op[2] = dls_peer_send(p, 1, DLSI_TAG_PS_WEIGHTS, got, below(10) == 0 ? below(4 * N) : 4 * N);
    op[3] = dls_peer_recv(p, 1, DLSI_TAG_PS_MESSAGE, message,
                          below(4) == 0 ? below(sizeof message) : c->way[0].bytes);
}
static void test_bad_server(void) {
    int32_t turn, ended = 0;
    int64_t pushes = 0;
    rng.seed = 2;
    for (turn = 0; turn < 6000; turn++) {
        if (turn % 300 == 0) CHECK(world_make(2, 0, (uint64_t)turn + 1, start)); /* 1 is a client */
        bad_server(dls_sim_peer(world.sim, 0), world.device[1].client);
        pass(1000 + below(4) * 1000);
        if (turn % 300 < 299) continue;
        pushes += heard(1).pushes;
        ended += world.device[1].over ? 1 : 0;
        drop(dls_sim_peer(world.sim, 0));
        world_free();
    }
    CHECK(pushes > 20);
    CHECK(ended > 0); /* it may say that the rounds are done */
}

int main(int argc, char **argv) {
    test_start("ps", argc, argv);
    RUN(bad_client);
    RUN(bad_server);
    return test_end();
}
