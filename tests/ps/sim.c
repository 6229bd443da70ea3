/* A parameter server in the simulator by seed: 1 server, 1 to 8 clients that crash, start again,
   are slow, cut off, or hear badly; the server too, which goes on from what it saved. Always:
   no client is ever let more than `staleness` rounds ahead, and in peace, with up to all but one
   client dead, the rounds go on to the end, and all who live have the same weights. Where nobody
   crashed and no round has a deadline, all that was ever computed is in the weights, once, or owed.
     sim FIRST COUNT     seeds FIRST..FIRST+COUNT-1; prints what failed */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include "seeded.h"

#include "test.h"

#include "ps/world.h"

#define ROUNDS 60
static struct {
    dls_rng rng;
    dls_ps_server_desc server;
    dls_ps_client_desc client;
    dls_ps_at at;
    float weights[DEVICES_MAX][4];
    unsigned char saved[2048];
    size_t saved_bytes;
    int64_t saved_round, computed[DEVICES_MAX];
    bool crashed;
    char why[200];
} c;
static int64_t steps, late, lost, crashes, stale;

static uint32_t below(uint32_t n) { return n == 0 ? 0 : dls_rng_u32(&c.rng) % n; }
static void wrong(const char *what, int32_t i, double a, double b) {
    if (c.why[0] == '\0')
        snprintf(c.why, sizeof c.why, "%s: device %d, %g %g, at %.3f s", what, (int)i, a, b,
                 (double)dls_sim_now(world.sim) * 1e-6);
}
static dls_status give(void *user, float *weights, float *grad, size_t count, int32_t *samples) {
    const int32_t i = (int32_t)(intptr_t)user;
    size_t k;
    (void)weights;
    for (k = 0; k < count; k++) grad[k] = (float)i;
    c.computed[i]++;
    *samples = 1;
    return DLS_OK;
}
static void start(int32_t i) {
    dls_ps_client_desc d = c.client;
    if (i == 0) {
        memset(c.weights[0], 0, sizeof c.weights[0]);
        make_server(0, &c.server);
        if (c.saved_bytes > 0 &&
            dls_ps_server_load(world.device[0].server, c.saved, c.saved_bytes) != DLS_OK)
            wrong("does not load", 0, 0, 0);
        return;
    }
    d.weights = c.weights[i];
    d.user = (void *)(intptr_t)i;
    make_client(i, &d);
}
static void look(int32_t i) {
    dls_ps_report r;
    if (i != 0) return;
    r = told(0);
    if (r.ahead > c.server.staleness) wrong("too far ahead", 0, r.ahead, c.server.staleness);
    if (r.rounds < c.saved_round + 5) return;
    c.saved_bytes = dls_ps_server_saved_bytes(world.device[0].server);
    c.saved_round = r.rounds;
    if (dls_ps_server_save(world.device[0].server, c.saved, sizeof c.saved) != DLS_OK)
        wrong("does not save", 0, 0, 0);
}
static void draw(int32_t clients) {
    memset(&c.server, 0, sizeof c.server);
    memset(&c.client, 0, sizeof c.client);
    c.saved_bytes = 0;
    c.saved_round = 0;
    c.crashed = false;
    c.why[0] = '\0';
    memset(c.computed, 0, sizeof c.computed);
    c.at.count = 4;
    c.server.weights = c.weights[0];
    c.server.count = 4;
    c.server.optim.lr = 1;
    c.server.rounds = ROUNDS;
    c.server.mode = (dls_ps_mode)below(3);
    if (c.server.mode == DLS_PS_SSP) c.server.staleness = (int32_t)below(4);
    if (below(2) == 0) c.server.deadline_us = 2000 + below(50000);
    c.client.server = &c.at;
    c.client.servers = 1;
    c.client.count = 4;
    c.client.compute = give;
    if (below(3) == 0) c.server.clients_least = 1 + (int32_t)below((uint32_t)clients);
}
static void fault(void) {
    const int32_t i = (int32_t)below((uint32_t)world.devices),
                  k = (int32_t)below((uint32_t)world.devices);
    int32_t j;
    switch (below(9)) {
    case 0:
    case 1:
        if (dls_sim_peer(world.sim, i) == NULL || (i == 0 && below(3) != 0)) break;
        dls_sim_crash(world.sim, i);
        c.crashed = true;
        crashes++;
        break;
    case 2:
    case 3:
        if (dls_sim_peer(world.sim, i) == NULL && !dls_sim_start(world.sim, i))
            wrong("does not start", i, 0, 0);
        break;
    case 4: dls_sim_cut(world.sim, i, k, true); break;
    case 5:
        for (j = 0; j < world.devices * world.devices; j++)
            dls_sim_cut(world.sim, j / world.devices, j % world.devices, false);
        break;
    case 6: world.device[i].takes_us = below(2) == 0 ? 0 : below(40000); break;
    case 7: dls_sim_jump(world.sim, i, (int64_t)below(4000000) - 2000000); break;
    default:
        dls_sim_rates(world.sim, (int32_t)below(50000), (int32_t)below(50000),
                      (int32_t)below(80000), (int32_t)below(5000), 0);
        break;
    }
}
/* Everything computed is in the weights, or owed. */
static void conserved(int32_t clients) {
    double want = 0;
    int32_t i;
    for (i = 1; i <= clients; i++) {
        dlsi_ps_way *w = &world.device[i].client->way[0];
        dlsi_ps_back(w);
        want += (double)i * (double)c.computed[i] - (double)w->owed[0];
    }
    if (-(double)c.weights[0][0] * clients != want)
        wrong("not all is there, or twice", 0, -(double)c.weights[0][0] * clients, want);
}
static void run_seed(uint64_t seed) {
    int32_t clients, i, alive = 0;
    bool calm;
    uint64_t end;
    c.rng.seed = seed;
    c.rng.next = 0;
    clients = 1 << below(4); /* their mean is exact */
    draw(clients);
    calm = below(3) == 0; /* nobody crashes, nothing has a deadline, all take part */
    if (calm) {
        c.server.deadline_us = 0;
        if (c.server.mode == DLS_PS_ASYNC) c.server.mode = DLS_PS_SYNC;
        c.server.clients_least = clients;
    }
    if (!world_make(1, clients, seed, start)) {
        snprintf(c.why, sizeof c.why, "no world");
        return;
    }
    world.look = look;
    end = 100000 + below(1500000);
    while (dls_sim_now(world.sim) < end && c.why[0] == '\0') {
        pass(1000 + below(60000));
        if (calm) {
            dls_sim_rates(world.sim, (int32_t)below(100000), (int32_t)below(50000),
                          (int32_t)below(80000), (int32_t)below(5000), 0);
            i = (int32_t)below((uint32_t)world.devices);
            world.device[i].takes_us = below(20000);
            dls_sim_cut(world.sim, i, (int32_t)below((uint32_t)world.devices), below(4) == 0);
        } else {
            fault();
        }
    }
    dls_sim_rates(world.sim, 0, 0, 0, 0, 0);
    for (i = 0; i < world.devices * world.devices; i++)
        dls_sim_cut(world.sim, i / world.devices, i % world.devices, false);
    if (dls_sim_peer(world.sim, 0) == NULL) (void)dls_sim_start(world.sim, 0);
    for (i = 1; i <= clients; i++) {
        const bool dead = dls_sim_peer(world.sim, i) == NULL;
        const bool needed = i == clients || c.server.clients_least > 1;
        if (dead && needed) (void)dls_sim_start(world.sim, i);
    }
    if (c.why[0] == '\0' && !finish(60000000)) wrong("does not end", 0, (double)told(0).rounds, 0);
    for (i = 1; i <= clients && c.why[0] == '\0'; i++) {
        if (dls_sim_peer(world.sim, i) == NULL) continue;
        alive++;
        if (dls_ps_client_status(world.device[i].client) != DLS_OK)
            wrong("ended badly", i, dls_ps_client_status(world.device[i].client), 0);
        if (memcmp(c.weights[i], c.weights[0], sizeof c.weights[0]) != 0)
            wrong("has other weights", i, (double)c.weights[i][0], (double)c.weights[0][0]);
        late += heard(i).late;
        lost += heard(i).lost;
        stale += heard(i).stale;
    }
    if (c.why[0] == '\0' && told(0).rounds < ROUNDS) wrong("too few rounds", 0, 0, 0);
    if (c.why[0] == '\0' && calm) conserved(clients);
    steps += told(0).steps;
    world_free();
}

int main(int argc, char **argv) {
    const uint64_t first = strtoull(argc > 2 ? argv[1] : "1", NULL, 10);
    const uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 20;
    uint64_t i, bad = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (i = first; i < first + count; i++) {
        run_seed(i);
        if (c.why[0] == '\0') continue;
        bad++;
        printf("  seed %llu: %s\n", (unsigned long long)i, c.why);
        world_free();
    }
    printf("%s ps: simulator: %llu seeds from %llu, %llu failed; %lld steps, %lld crashes, %lld "
           "late, %lld answers lost, %lld stale\n",
           bad ? "FAIL" : "ok", (unsigned long long)count, (unsigned long long)first,
           (unsigned long long)bad, (long long)steps, (long long)crashes, (long long)late,
           (long long)lost, (long long)stale);
    return bad > 0;
}
