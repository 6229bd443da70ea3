/* What servers and clients do, one thing after another, in the simulator. */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include "seeded.h"

#include "test.h"

#include "ps/digits.h"
#include "ps/world.h"

/* ---- Trainers on digits ---- */

#define SAMPLES 1600
#define HELD_OUT 400
static dls_data all, part[DEVICES_MAX];
static dls_net *net[DEVICES_MAX];
static dls_train *train[DEVICES_MAX];
static dls_ps_server_desc server;
static dls_ps_client_desc client;
static dls_ps_at where[2];
static int32_t hostile, attack, batch = 8; /* hostile: the last so many clients */

static void defaults(void) {
    memset(&server, 0, sizeof server);
    memset(&client, 0, sizeof client);
    hostile = attack = 0;
    client.server = where;
    client.servers = 1;
}
static void trainers(int32_t servers, int32_t clients, float lr, float inner, int32_t each) {
    int32_t i;
    all = digits_open(SAMPLES + HELD_OUT);
    CHECK_INT(all.count, SAMPLES + HELD_OUT);
    for (i = 0; i < servers + clients; i++) {
        const int32_t k = i - servers;
        net[i] = digits_net();
        train[i] = digits_train(net[i], each, i < servers ? lr : inner, 0);
        if (k >= 0) part[i] = digits_slice(&all, SAMPLES * k / clients, SAMPLES / clients);
    }
    where[0].rank = 0;
    where[0].first = 0;
    where[0].count = dls_net_param_count(net[0]);
}
static void trainers_free(void) {
    int32_t i;
    for (i = 0; i < world.devices; i++) {
        dls_train_destroy(train[i]);
        dls_net_destroy(net[i]);
    }
    world_free();
}
/* A hostile client: the gradient of its data, turned around and ten times as long, or no number. */
static dls_status lie(void *user, float *weights, float *grad, size_t count, int32_t *samples) {
    const int32_t i = (int32_t)(intptr_t)user;
    dls_exec *e = dls_train_exec(train[i]);
    dls_target target;
    dls_loss_sums sums;
    dls_real x[64 * 8];
    int32_t label[8], index[8], k;
    size_t n;
    const float *g;
    memset(&target, 0, sizeof target);
    memset(&sums, 0, sizeof sums);
    for (k = 0; k < 8; k++) index[k] = k;
    (void)dls_data_fetch(&part[i], NULL, 1, index, 8, x, label, NULL, NULL, NULL);
    target.label = label;
    memcpy(dls_net_params(net[i]), weights, count * sizeof *weights);
    dls_net_touch(net[i]);
    memcpy(dls_exec_input(e, 0), x, sizeof x);
    (void)dls_exec_forward_train(e, 8, 1, 0, 8);
    (void)dls_loss(&e->cx, &train[i]->desc.loss, 8, dls_net_shape(net[i], e->output),
                   dls_exec_output(e), &target, 1.0 / 8, dls_exec_output_grad(e), &sums);
    (void)dls_exec_backward(e, false);
    g = e->grads;
    for (n = 0; n < count; n++) {
        const float bad = attack == 1 ? -10.0f * g[n] : n % 2 == 0 ? 1e20f : -1e20f;
        grad[n] = bad;
        if (client.local_steps > 0) weights[n] -= attack == 1 ? 0.3f * 10 * bad : bad;
    }
    *samples = 8;
    return DLS_OK;
}
static float lied[DEVICES_MAX][4096];
static void start_digits(int32_t i) {
    if (i < world.servers) {
        dls_ps_server_desc s = server;
        s.train = train[i];
        if (client.servers > 1) {
            s.first = where[i].first;
            s.count = where[i].count;
        }
        make_server(i, &s);
    } else {
        dls_ps_client_desc c = client;
        c.train = train[i];
        c.data = &part[i];
        if (i >= world.devices - hostile) {
            c.train = NULL;
            c.weights = lied[i];
            c.count = where[0].count;
            c.compute = lie;
            c.user = (void *)(intptr_t)i;
        }
        make_client(i, &c);
    }
}
static double loss_now(int32_t i) { /* on samples that no client has */
    const dls_data held = digits_slice(&all, SAMPLES, HELD_OUT);
    dls_eval_report r;
    dls_net_touch(net[i]);
    if (dls_eval(net[i], &held, NULL, 64, NULL, &r) != DLS_OK) return 1e30;
    return r.loss == r.loss ? r.loss : 1e30;
}
/* Trains; the server's hash. */
static uint64_t run(int32_t clients, float lr, float inner, int64_t rounds) {
    uint64_t hash;
    trainers(1, clients, lr, inner, batch);
    server.rounds = rounds;
    server.clients_least = server.clients_least > 0 ? server.clients_least : clients;
    if (!world_make(1, clients, 7, start_digits)) return 0;
    CHECK(finish(600000000));
    CHECK_INT(told(0).rounds, rounds);
    hash = dls_train_hash(train[0]);
    return hash;
}

static void test_sync_is_one_device(void) {
    const int32_t clients = 4, m = SAMPLES / 4;
    dls_net *one = digits_net();
    dls_train *t = digits_train(one, 32, 0.1f, 0);
    int32_t index[32], step, d, i;
    size_t k;
    double worst = 0, size = 0;
    defaults();
    (void)run(clients, 0.1f, 0.1f, 60);
    for (step = 0; step < 60; step++) {
        for (d = 0; d < clients; d++)
            for (i = 0; i < 8; i++)
                index[d * 8 + i] =
                    d * m + dls_fit_index(4, step / (m / 8), m, step % (m / 8) * 8 + i);
        CHECK_STATUS(dls_train_step_data(t, &all, NULL, index, 32, NULL), DLS_OK);
    }
    for (k = 0; k < where[0].count; k++) {
        const double off = fabs((double)(dls_net_params(one)[k] - dls_net_params(net[0])[k]));
        worst = off > worst ? off : worst;
        size = fabs((double)dls_net_params(one)[k]) > size ? fabs((double)dls_net_params(one)[k])
                                                           : size;
    }
    CHECK(worst <= 1e-5 * size);
    CHECK_INT(told(0).steps, 60);
    CHECK_INT(dls_train_steps(train[0]), 60);
    CHECK_INT(told(0).taken, 240);
    for (d = 1; d <= clients; d++) /* the last weights are with all */
        CHECK(memcmp(dls_net_params(net[d]), dls_net_params(net[0]), 4 * where[0].count) == 0);
    dls_train_destroy(t);
    dls_net_destroy(one);
    trainers_free();
}
static void test_ssp_of_0_is_sync(void) {
    uint64_t sync, ssp, two;
    defaults();
    client.codec.kind = DLS_CODEC_Q8;
    sync = run(4, 0.1f, 0.1f, 40);
    trainers_free();
    server.mode = DLS_PS_SSP;
    ssp = run(4, 0.1f, 0.1f, 40);
    CHECK(sync == ssp);
    CHECK_INT(told(0).ahead, 0);
    trainers_free();
    server.staleness = 2;
    two = run(4, 0.1f, 0.1f, 40);
    CHECK(told(0).ahead <= 2);
    CHECK(two != 0);
    trainers_free();
}
static void test_two_servers_are_one(void) {
    uint64_t one, both;
    const size_t cut = 700;
    size_t count;
    defaults();
    (void)run(3, 0.1f, 0.1f, 40);
    count = where[0].count;
    one = dls_hash64_reals(0, dls_net_params(net[0]), count);
    trainers_free();
    client.servers = 2;
    server.rounds = 40;
    server.clients_least = 3;
    trainers(2, 3, 0.1f, 0.1f, 8);
    where[0].count = cut;
    where[1].rank = 1;
    where[1].first = cut;
    where[1].count = count - cut;
    CHECK(world_make(2, 3, 9, start_digits));
    CHECK(finish(600000000));
    both = dls_hash64_reals(0, dls_net_params(net[2]), count);
    CHECK(one == both);
    CHECK_INT(told(1).steps, 40);
    trainers_free();
}
static double moved(float prox) { /* how far 20 local steps go */
    double sum = 0;
    size_t k;
    dls_net *fresh = digits_net();
    dls_train *init = digits_train(fresh, 1, 0.1f, 0);
    defaults();
    client.local_steps = 20;
    client.prox = prox;
    server.delta = true;
    (void)run(4, 1.0f, 0.1f, 1);
    for (k = 0; k < where[0].count; k++) {
        const double d = (double)(dls_net_params(net[0])[k] - dls_net_params(fresh)[k]);
        sum += d * d;
    }
    dls_train_destroy(init);
    dls_net_destroy(fresh);
    trainers_free();
    return sum;
}
static void test_local_steps(void) {
    double fed, gradient;
    defaults();
    client.local_steps = 1; /* of SGD, and an outer SGD of lr 1: the same as gradients */
    server.delta = true;
    (void)run(4, 1.0f, 0.1f, 60);
    fed = loss_now(0);
    trainers_free();
    defaults();
    (void)run(4, 0.1f, 0.1f, 60);
    gradient = loss_now(0);
    CHECK_NEAR(fed, gradient, 1e-4 * gradient);
    trainers_free();
    defaults();
    client.local_steps = 20;
    client.codec.kind = DLS_CODEC_TOPK;
    client.codec.density = 0.1f;
    server.delta = true;
    (void)run(4, 1.0f, 0.1f, 15); /* 300 steps against 60, on a hundredth of the bytes */
    CHECK(loss_now(0) < 0.8 * gradient);
    trainers_free();
    CHECK(moved(1.0f) < 0.7 * moved(0.0f)); /* FedProx stays nearer to where it began */
}

/* 2 of 8 are hostile: of 8 that send gradients, or what 10 steps changed. */
static double attacked(bool local, dls_robust_kind rule, int32_t kind, double ratio) {
    defaults();
    hostile = kind == 0 ? 0 : 2;
    attack = kind;
    server.rule = rule;
    server.hostile = rule == DLS_ROBUST_MEAN ? 0 : 2;
    server.norm_ratio = ratio;
    server.delta = local;
    client.local_steps = local ? 10 : 0;
    batch = 50;
    (void)run(8, local ? 1.0f : 0.5f, local ? 0.3f : 0.5f, local ? 60 : 400);
    batch = 8;
    return loss_now(0);
}
/* The median takes small steps where gradients of a batch scatter; it is for local steps. */
static void test_hostile(void) {
    static const char *const name[] = {"mean", "median",     "trimmed mean",
                                       "Krum", "multi-Krum", "clipping"};
    int32_t k, kind, local;
    for (local = 0; local < 2; local++) {
        const double clean = attacked(local != 0, DLS_ROBUST_MEAN, 0, 0);
        trainers_free();
        for (kind = 1; kind <= 2; kind++) {
            printf("  2 of 8 hostile, %s, %s: clean %.4f", local ? "local steps" : "gradients",
                   kind == 1 ? "-10 times" : "huge", clean);
            for (k = 0; k < 6; k++) {
                const double loss = attacked(local != 0, (dls_robust_kind)k, kind, 0);
                const bool meant = k == DLS_ROBUST_MULTI_KRUM || (k == DLS_ROBUST_KRUM && !local) ||
                                   (k >= 1 && k <= 2 && local);
                printf(", %s %.4g%s", name[k], loss, meant ? "*" : "");
                if (k == 0) CHECK(loss > 1.5 * clean);
                if (meant) CHECK(loss <= 1.1 * clean);
                trainers_free();
            }
            printf(", guard %.4f*\n", attacked(local != 0, DLS_ROBUST_MEAN, kind, 3));
            CHECK(loss_now(0) <= 1.1 * clean);
            CHECK(told(0).refused >= 6);
            CHECK(world.event[DLS_PS_OUT] >= 2);
            CHECK(world.last[DLS_PS_OUT].rank >= 7);
            CHECK_TEXT(world.last[DLS_PS_REFUSED].why.what, "norm of what it sent");
            CHECK(dls_ps_server_record(world.device[0].server, 8)->times > 0);
            CHECK(dls_ps_server_record(world.device[0].server, 3)->rejected == 0);
            trainers_free();
        }
    }
}

/* ---- Clients that compute numbers: who counts when ---- */

static float number[DEVICES_MAX][4], given[DEVICES_MAX], served[4];
static dls_status give(void *user, float *weights, float *grad, size_t count, int32_t *samples) {
    const int32_t i = (int32_t)(intptr_t)user;
    size_t k;
    (void)weights;
    for (k = 0; k < count; k++) grad[k] = given[i];
    *samples = 1;
    return given[i] == given[i] ? DLS_OK : DLS_E_NUMBER;
}
static void start_numbers(int32_t i) {
    if (i < world.servers) {
        dls_ps_server_desc s = server;
        s.weights = served;
        s.count = 4;
        s.optim.lr = 1;
        make_server(i, &s);
    } else {
        dls_ps_client_desc c = client;
        c.weights = number[i];
        c.count = 4;
        c.compute = give;
        c.user = (void *)(intptr_t)i;
        make_client(i, &c);
    }
}
static void numbers(void) {
    defaults();
    memset(served, 0, sizeof served);
    where[0].rank = 0;
    where[0].first = 0;
    where[0].count = 4;
}
static void test_late_is_kept(void) {
    numbers();
    server.deadline_us = 20000;
    given[1] = 1;
    given[2] = 3;
    CHECK(world_make(1, 2, 1, start_numbers));
    world.device[1].takes_us = 10000;
    world.device[2].takes_us = 45000;
    while (told(0).late < 3) pass(1000);
    CHECK(heard(2).late >= 2);
    CHECK_INT(heard(1).late, 0);
    /* what it does not owe has counted: its mean with the other's, or alone */
    world.device[2].takes_us = 1000; /* in time at last: 3 and all it owes */
    world.device[1].takes_us = 1000;
    {
        const dls_ps_client_report before = heard(2);
        const float was = served[0];
        while (heard(2).taken == before.taken) pass(1000);
        pass(2000);
        CHECK(was - served[0] >= (1 + 3.0f * (float)before.late) / 2);
    }
    CHECK_TEXT(world.last[DLS_PS_LATE].why.what, "is late");
    world_free();
}
static void test_async(void) {
    numbers();
    server.mode = DLS_PS_ASYNC;
    given[1] = 1;
    given[2] = 1024;
    CHECK(world_make(1, 2, 2, start_numbers));
    world.device[1].takes_us = 5000;
    world.device[2].takes_us = 12000;
    while (world.event[DLS_PS_STEP] < 1 || world.last[DLS_PS_STEP].rank != 2) pass(1000);
    { /* a step of 1024 / (1 + tau), and ones */
        const int32_t tau = world.last[DLS_PS_STEP].tau;
        const double ones = -(double)served[0] - 1024.0 / (1 + tau);
        CHECK(tau >= 1 && tau <= 8);
        CHECK_NEAR(ones, (double)told(0).steps - 1, 1e-3);
    }
    world.device[2].takes_us = 300000; /* 4 clients' steps and more pass meanwhile */
    while (told(0).stale < 2) pass(1000);
    CHECK(heard(2).stale >= 1);
    CHECK_INT(world.last[DLS_PS_STALE].rank, 2);
    CHECK(world.last[DLS_PS_STALE].tau > 8);
    CHECK(-(double)served[0] < (double)told(0).steps + 2 * 1024);
    world_free();
}
static void test_no_numbers(void) {
    numbers();
    server.rounds = 10;
    server.clients_least = 2;
    given[1] = 2;
    given[2] = NAN;
    CHECK(world_make(1, 2, 3, start_numbers));
    CHECK(finish(60000000));
    CHECK_INT(told(0).steps, 10);
    CHECK_INT(told(0).empty, 10);
    CHECK_INT(heard(2).empty, 10);
    CHECK_NEAR(served[3], -20, 0);
    CHECK_NEAR(number[2][3], -20, 0);
    world_free();
    given[1] = NAN; /* nobody has anything: rounds go by, no step is made */
    CHECK(world_make(1, 2, 3, start_numbers));
    CHECK(finish(60000000));
    CHECK_INT(told(0).steps, 0);
    CHECK_INT(told(0).rounds, 10);
    CHECK(world.event[DLS_PS_VOID] == 10);
    world_free();
}
/* One trains the first half, one all, one the last element. */
static size_t ranges[4][2] = {{0, 0}, {0, 2}, {0, 4}, {3, 1}};
static void start_ranges(int32_t i) {
    if (i > 0) {
        client.train_first = ranges[i][0];
        client.train_count = ranges[i][1];
    }
    start_numbers(i);
}
static void test_ranges(void) {
    numbers();
    server.rounds = 1;
    server.clients_least = 3;
    given[1] = 1;
    given[2] = 3;
    given[3] = 7;
    CHECK(world_make(1, 3, 4, start_ranges));
    CHECK(finish(60000000));
    CHECK_NEAR(served[0], -2, 0);
    CHECK_NEAR(served[1], -2, 0);
    CHECK_NEAR(served[2], -3, 0);
    CHECK_NEAR(served[3], -5, 0);
    world_free();
}
/* The server dies and goes on from what it saved. */
static unsigned char saved[4096];
static size_t saved_bytes;
static void start_saved(int32_t i) {
    start_numbers(i);
    if (i == 0 && saved_bytes > 0)
        CHECK_STATUS(dls_ps_server_load(world.device[0].server, saved, saved_bytes), DLS_OK);
}
static void test_server_dies(void) {
    numbers();
    server.rounds = 40;
    server.clients_least = 2;
    server.optim.momentum = 0.5f;
    given[1] = 1;
    given[2] = 2;
    saved_bytes = 0;
    CHECK(world_make(1, 2, 5, start_saved));
    CHECK(finish(60000000));
    {
        const float want = served[2];
        size_t k;
        world_free();
        memset(served, 0, sizeof served);
        CHECK(world_make(1, 2, 5, start_saved));
        world.device[1].takes_us = world.device[2].takes_us = 2000;
        while (told(0).rounds < 17) pass(1000);
        saved_bytes = dls_ps_server_saved_bytes(world.device[0].server);
        CHECK_STATUS(dls_ps_server_save(world.device[0].server, saved, saved_bytes - 1),
                     DLS_E_MEMORY);
        CHECK_STATUS(dls_ps_server_save(world.device[0].server, saved, sizeof saved), DLS_OK);
        for (k = 0; k < saved_bytes; k += 7) { /* no other bytes are taken */
            saved[k] ^= 4;
            CHECK(dls_ps_server_load(world.device[0].server, saved, saved_bytes) != DLS_OK);
            CHECK(dls_ps_server_load(world.device[0].server, saved, k) != DLS_OK);
            saved[k] ^= 4;
        }
        while (told(0).rounds < 25) pass(1000);
        dls_sim_crash(world.sim, 0);
        memset(served, 0, sizeof served);
        pass(3000000);
        CHECK(dls_sim_start(world.sim, 0));
        CHECK(finish(60000000));
        CHECK_INT(told(0).rounds, 40);
        /* a message that was under way may have been kept, and joined the next */
        CHECK_NEAR(served[2], want, 6.0);
        CHECK_NEAR(number[1][2], served[2], 0);
    }
    saved_bytes = 0;
    world_free();
}
static void test_clients_come_and_go(void) {
    numbers();
    server.rounds = 400;
    given[1] = given[2] = given[3] = 1;
    CHECK(world_make(1, 3, 6, start_numbers));
    world.device[1].takes_us = world.device[2].takes_us = world.device[3].takes_us = 10000;
    while (told(0).clients < 3) pass(1000);
    dls_sim_crash(world.sim, 2);
    dls_sim_crash(world.sim, 3);
    while (world.event[DLS_PS_LEFT] < 2) pass(1000);
    CHECK(told(0).rounds < 400);
    CHECK(dls_sim_start(world.sim, 3));
    while (told(0).clients < 2) pass(1000);
    CHECK(finish(60000000));
    CHECK_NEAR(served[0], -400, 0);
    CHECK_NEAR(number[3][0], -400, 0);
    world_free();
}
static void test_client_keeps_what_it_owes(void) {
    unsigned char state[256];
    size_t bytes;
    dls_ps_client *c;
    numbers();
    server.deadline_us = 5000;
    given[1] = 1;
    given[2] = 8;
    CHECK(world_make(1, 2, 7, start_numbers));
    world.device[1].takes_us = 1000;
    world.device[2].takes_us = 50000;
    while (heard(2).late < 1) pass(1000);
    pass(60000); /* it has been added to what is owed, or to the next */
    c = world.device[2].client;
    bytes = dls_ps_client_saved_bytes(c);
    CHECK_STATUS(dls_ps_client_save(c, state, bytes - 1), DLS_E_MEMORY);
    CHECK_STATUS(dls_ps_client_save(c, state, sizeof state), DLS_OK);
    state[20] ^= 1;
    CHECK_STATUS(dls_ps_client_load(c, state, bytes), DLS_E_CHECKSUM);
    state[20] ^= 1;
    CHECK_STATUS(dls_ps_client_load(c, state, bytes - 1), DLS_E_MISMATCH);
    CHECK_STATUS(dls_ps_client_load(c, state, bytes), DLS_OK);
    world_free();
}
static void test_refuses(void) {
    dls_ps_server_desc s;
    dls_ps_client_desc c;
    dls_ps_server *made;
    dls_ps_client *other;
    numbers();
    given[1] = 1;
    CHECK(world_make(1, 2, 8, start_numbers));
    s = server;
    s.peer = dls_sim_peer(world.sim, 0);
    CHECK(dls_ps_server_size(&s) == 0);
    s.weights = served;
    CHECK(dls_ps_server_size(&s) == 0);
    s.count = 4;
    CHECK(dls_ps_server_size(&s) > 0);
    CHECK_STATUS(dls_ps_server_init(&made, &s, number, 16), DLS_E_MEMORY);
    s.rule = DLS_ROBUST_KRUM;
    s.hostile = 1; /* needs 5, of 3 devices */
    CHECK(dls_ps_server_size(&s) == 0);
    s.rule = DLS_ROBUST_MEDIAN;
    CHECK(dls_ps_server_size(&s) > 0);
    s.mode = DLS_PS_ASYNC;
    CHECK_STATUS(dls_ps_server_init(&made, &s, number, 16), DLS_E_ARG);
    c = client;
    c.peer = dls_sim_peer(world.sim, 1);
    CHECK(dls_ps_client_size(&c) == 0);
    c.weights = number[1];
    c.count = 4;
    c.compute = give;
    CHECK(dls_ps_client_size(&c) > 0);
    CHECK_STATUS(dls_ps_client_init(&other, &c, number, 16), DLS_E_MEMORY);
    c.codec.kind = DLS_CODEC_POWER;
    CHECK_STATUS(dls_ps_client_init(&other, &c, number, 16), DLS_E_UNSUPPORTED);
    c.codec.kind = DLS_CODEC_F32;
    c.count = 5; /* the servers have 4 */
    CHECK_STATUS(dls_ps_client_init(&other, &c, number, 16), DLS_E_ARG);
    world_free();
    client.local_steps = 3; /* the server takes gradients */
    CHECK(world_make(1, 1, 8, start_numbers));
    while (!world.device[1].over) pass(1000);
    CHECK_STATUS(dls_ps_client_status(world.device[1].client), DLS_E_MISMATCH);
    dls_ps_client_close(world.device[1].client);
    dls_ps_server_close(world.device[0].server);
    world_free();
}

int main(int argc, char **argv) {
    test_start("ps", argc, argv);
    RUN(sync_is_one_device);
    RUN(ssp_of_0_is_sync);
    RUN(two_servers_are_one);
    RUN(local_steps);
    RUN(late_is_kept);
    RUN(async);
    RUN(no_numbers);
    RUN(ranges);
    RUN(server_dies);
    RUN(clients_come_and_go);
    RUN(client_keeps_what_it_owes);
    RUN(refuses);
    RUN(hostile);
    return test_end();
}
