/* Serial lines, gateways, breaks, goodbyes, drops and clocks, by virtual time. */

static void line_traffic(uint64_t seed, const net_keys *keys, uint32_t damage) {
    net w;
    int32_t i;
    net_open(&w, seed);
    for (i = 0; i < 2; i++) {
        const dls_peer_desc d = keys != NULL ? keys_desc(keys, i) : plain_desc(i, 2);
        (void)net_add(&w, &d);
    }
    w.byte_us = 10;
    net_wire(&w, 1, 0);
    w.damage = damage;
    CHECK(net_until_up(&w, 3000000));
    traffic_run(&w, 20, pair_01, 1, 1500, 60000000);
    CHECK_INT(net_lost(&w), 0);
    CHECK_INT(w.late_work, 0);
    net_close(&w);
}
static void test_lines_serial(void) {
    static net_keys k, small;
    uint64_t seed;
    keys_make(&k, 2, 0, 0);
    keys_make(&small, 2, 0, 1);
    for (seed = 1; seed <= 6; seed++) { /* damage: about 0, 9, 18 % of packets */
        line_traffic(seed, NULL, (uint32_t)(seed % 3) * 3);
        line_traffic(seed, &k, (uint32_t)(seed % 3) * 3);
        line_traffic(seed, &small, (uint32_t)(seed % 3) * 3);
    }
}
static void engine_restart(net *w, int32_t i, dls_peer_desc d) {
    if (!w->dead[i]) dls_peer_close(w->peer[i]);
    engine_free(w->mem[i], w->bytes[i]);
    w->peer[i] = engine_make(&d, &w->mem[i], &w->bytes[i]);
    w->dead[i] = false;
}
/* A caller on a serial line tries until somebody answers; both ends may restart. */
static void test_lines_serial_comes_back(void) {
    net w;
    dls_peer_desc d;
    int32_t i;
    net_open(&w, 3);
    for (i = 0; i < 2; i++) {
        d = plain_desc(i, 2);
        (void)net_add(&w, &d);
    }
    w.byte_us = 10;
    net_wire(&w, 1, 0);
    w.cut[1][0] = true;
    net_run(&w, 2000000);
    CHECK(!dls_peer_is_up(w.peer[0], 1));
    CHECK_STATUS(dls_peer_why(w.peer[1], 0), DLS_E_TIMEOUT);
    w.cut[1][0] = false;
    CHECK(net_until_up(&w, 300000));
    for (i = 0; i < 2; i++) { /* the called one restarts, then the caller */
        d = plain_desc(i, 2);
        d.boot = 2;
        engine_restart(&w, i, d);
        net_line_end(&w, &w.line[0], w.line[0].end[0] == i ? 0 : 1);
        net_run(&w, 600000);
        CHECK(net_all_up(&w));
    }
    w.now -= 3000000; /* the clock jumps back, and nobody answers */
    w.line[0].free_at[0] = w.line[0].free_at[1] = 0;
    dls_peer_tick(w.peer[0], w.now);
    dls_peer_tick(w.peer[1], w.now);
    w.cut[0][1] = true;
    net_run(&w, 600000);
    CHECK(!dls_peer_is_up(w.peer[1], 0));
    w.cut[0][1] = false;
    CHECK(net_until_up(&w, 300000));
    net_close(&w);
}
/* A row of engines; those in the middle are gateways. The first link is a serial line or air. */
static void gateway_open(net *w, uint64_t seed, int32_t n, const net_keys *keys, bool serial) {
    int32_t i;
    net_open(w, seed);
    w->byte_us = 5;
    for (i = 0; i < n; i++) {
        dls_peer_desc d = keys != NULL ? keys_desc(keys, i) : plain_desc(i, n);
        d.gateway = i > 0 && i < n - 1;
        (void)net_add(w, &d);
        net_air(w, i);
    }
    for (i = 0; i < n - 1; i++) {
        if (i == 0 && serial)
            net_wire(w, 0, 1);
        else
            net_call(w, i, i + 1);
    }
}
static void test_lines_gateway(void) {
    static net_keys k;
    uint64_t seed;
    keys_make(&k, 3, 0, 1);
    for (seed = 1; seed <= 8; seed++) {
        net w;
        gateway_open(&w, seed, 3, seed % 2 != 0 ? &k : NULL, seed % 4 < 2);
        if (seed > 4) w.loss = 50;
        CHECK(net_until_up(&w, 3000000));
        CHECK(dls_peer_is_relayed(w.peer[0], 2) && dls_peer_is_relayed(w.peer[2], 0));
        CHECK(!dls_peer_is_relayed(w.peer[0], 1) && !dls_peer_is_relayed(w.peer[1], 1));
        traffic_run(&w, 30, pair_02, 1, 2000, 60000000);
        traffic_run(&w, 30, pair_all3, 3, 2000, 60000000);
        CHECK_INT(net_lost(&w), 0);
        CHECK_INT(w.late_work, 0);
        net_close(&w);
    }
}
static void test_lines_two_hops(void) {
    static const uint8_t ends[] = {0, 3};
    static net_keys k;
    uint64_t seed;
    keys_make(&k, 4, 0, 0);
    for (seed = 1; seed <= 4; seed++) {
        net w;
        gateway_open(&w, seed, 4, &k, seed % 2 != 0);
        CHECK(net_until_up(&w, 3000000));
        CHECK(dls_peer_is_relayed(w.peer[0], 3) && dls_peer_is_relayed(w.peer[3], 0));
        if (seed > 2) w.loss = 30;
        traffic_run(&w, 20, ends, 1, 2000, 60000000);
        CHECK_INT(net_lost(&w), 0);
        net_close(&w);
    }
}
/* The gateway goes: those behind it are lost with it; it comes back: so do they. */
static void test_lines_gateway_dies(void) {
    static unsigned char data[50], got[50];
    net w;
    dls_peer_desc d;
    int32_t send, recv;
    dls_status st = DLS_OK;
    gateway_open(&w, 9, 3, NULL, false);
    net_call(&w, 1, 0);
    net_call(&w, 2, 1);
    CHECK(net_until_up(&w, 3000000));
    (void)net_lost(&w);
    send = dls_peer_send(w.peer[0], 2, 1, data, sizeof data);
    w.dead[1] = true;
    net_run(&w, 300000);
    CHECK(!dls_peer_is_up(w.peer[0], 1) && !dls_peer_is_up(w.peer[0], 2));
    CHECK(dls_peer_op_done(w.peer[0], send, &st));
    CHECK_STATUS(st, DLS_E_PEER);
    CHECK_INT(net_lost(&w), 4);
    d = plain_desc(1, 3);
    d.gateway = true;
    d.boot = 2;
    engine_restart(&w, 1, d);
    net_air(&w, 1);
    CHECK(net_until_up(&w, 2000000));
    send = dls_peer_send(w.peer[0], 2, 1, data, sizeof data);
    recv = dls_peer_recv(w.peer[2], 0, 1, got, sizeof got);
    net_run(&w, 100000);
    CHECK(dls_peer_op_done(w.peer[0], send, &st) && st == DLS_OK);
    CHECK(dls_peer_op_done(w.peer[2], recv, &st) && st == DLS_OK);
    CHECK_INT(w.peer[1]->relay_used, 0);
    net_close(&w);
}
/* The answer to an INIT comes after a second one would have gone. */
static void test_lines_long_delay(void) {
    static net_keys k;
    net w;
    int32_t i;
    keys_make(&k, 2, 0, 0);
    for (i = 0; i < 2; i++) {
        air_open(&w, 4, 2, i == 0 ? NULL : &k);
        w.delay = 14000; /* and back: above heartbeat * 5 / 4 */
        CHECK(net_until_up(&w, 1000000));
        traffic_run(&w, 10, pair_01, 1, 3000, 10000000);
        CHECK_INT(net_lost(&w), 0);
        net_close(&w);
    }
}
/* Silence: lost when timeout_us have passed, not before; then they find each other again, and a
   receive goes on where it stopped. */
static void test_lines_resume(void) {
    static unsigned char out[20000], in[20000];
    net w;
    dls_peer_event e;
    dls_status st;
    size_t have, i, touched = 0;
    int32_t send, recv;
    air_open(&w, 5, 2, NULL);
    for (i = 0; i < sizeof out; i++) out[i] = (unsigned char)dls_rng_u32(&w.rng);
    CHECK(net_until_up(&w, 1000000));
    (void)net_lost(&w);
    send = dls_peer_send(w.peer[0], 1, 9, out, sizeof out);
    recv = dls_peer_recv(w.peer[1], 0, 9, in, sizeof in);
    for (i = 0; i < 1000 && dls_peer_op_have(w.peer[1], recv) < 5000; i++) net_run(&w, 100);
    w.cut[0][1] = w.cut[1][0] = true;
    net_run(&w, 190000);
    CHECK(net_all_up(&w));
    net_run(&w, 12000);
    CHECK(!dls_peer_is_up(w.peer[0], 1) && !dls_peer_is_up(w.peer[1], 0));
    CHECK(dls_peer_next_event(w.peer[0], &e) && e.type == DLS_PEER_LOST && e.rank == 1);
    CHECK_STATUS(e.status, DLS_E_TIMEOUT);
    CHECK_STATUS(dls_peer_why(w.peer[1], 0), DLS_E_TIMEOUT);
    have = dls_peer_op_have(w.peer[1], recv);
    CHECK(have >= 5000 && have < sizeof in);
    CHECK(dls_peer_op_done(w.peer[0], send, &st) && st == DLS_E_PEER);
    CHECK(dls_peer_op_done(w.peer[1], recv, &st) && st == DLS_E_PEER);
    CHECK(memcmp(in, out, have) == 0);
    memset(in, 0xEE, sizeof in); /* must not be sent again */
    w.cut[0][1] = w.cut[1][0] = false;
    CHECK(net_until_up(&w, 200000));
    send = dls_peer_send(w.peer[0], 1, 9, out, sizeof out);
    recv = dls_peer_recv_from(w.peer[1], 0, 9, in, sizeof in, have);
    CHECK_INT(dls_peer_op_have(w.peer[1], recv), have);
    net_run(&w, 200000);
    CHECK(dls_peer_op_done(w.peer[0], send, &st) && st == DLS_OK);
    CHECK(dls_peer_op_done(w.peer[1], recv, &st) && st == DLS_OK);
    for (i = 0; i < have; i++) touched += in[i] != 0xEE;
    CHECK_INT(touched, 0);
    CHECK(memcmp(in + have, out + have, sizeof in - have) == 0);
    /* nothing but the end is missing: an empty chunk tells it */
    send = dls_peer_send(w.peer[0], 1, 9, out, sizeof out);
    recv = dls_peer_recv_from(w.peer[1], 0, 9, in, sizeof in, sizeof in);
    net_run(&w, 50000);
    CHECK(dls_peer_op_done(w.peer[0], send, &st) && st == DLS_OK);
    CHECK(dls_peer_op_done(w.peer[1], recv, &st) && st == DLS_OK);
    net_close(&w);
}
static void test_lines_leave(void) {
    uint64_t seed;
    for (seed = 1; seed <= 6; seed++) {
        net w;
        dls_peer_event e;
        dls_status st;
        int32_t recv, left = 0;
        air_open(&w, seed, 3, NULL);
        CHECK(net_until_up(&w, 1000000));
        (void)net_lost(&w);
        w.loss = 200;
        recv = dls_peer_recv(w.peer[1], 0, 1, &e, sizeof e);
        dls_peer_leave(w.peer[0]);
        net_run(&w, 100000);
        while (dls_peer_next_event(w.peer[1], &e)) left += e.type == DLS_PEER_LEFT && e.rank == 0;
        while (dls_peer_next_event(w.peer[2], &e)) left += e.type == DLS_PEER_LEFT && e.rank == 0;
        CHECK_INT(left, 2);
        CHECK(dls_peer_op_done(w.peer[1], recv, &st) && st == DLS_E_PEER);
        CHECK_INT(dls_peer_up(w.peer[0]), 1);
        CHECK(dls_peer_deadline(w.peer[0]) == UINT64_MAX);
        CHECK(dls_peer_is_up(w.peer[1], 2));
        net_close(&w);
    }
}
static void test_lines_clock_jumps(void) {
    net w;
    int32_t i;
    air_open(&w, 7, 2, NULL);
    CHECK(net_until_up(&w, 1000000));
    for (i = 0; i < 30; i++) {
        const uint64_t step = (uint64_t)below(&w.rng, 3000000);
        for (; w.items > 0; w.items--) free(w.item[w.items - 1].bytes);
        if (below(&w.rng, 2) == 0 || w.now < step)
            w.now += step;
        else
            w.now -= step;
        dls_peer_tick(w.peer[0], w.now); /* a driver ticks when it wakes */
        dls_peer_tick(w.peer[1], w.now);
        net_run(&w, 150000);
        CHECK(net_all_up(&w));
        CHECK(dls_peer_deadline(w.peer[0]) - w.now < 100000);
    }
    traffic_run(&w, 10, pair_01, 1, 3000, 10000000);
    CHECK_INT(net_lost(&w), 0);
    net_close(&w);
}
static void test_lines_port_close(void) {
    net w;
    dls_status st;
    int32_t op;
    air_open(&w, 8, 2, NULL);
    CHECK(net_until_up(&w, 1000000));
    (void)net_lost(&w);
    op = dls_peer_recv(w.peer[0], 1, 1, &st, sizeof st);
    dls_peer_port_close(w.peer[0], w.air[0], w.now);
    CHECK_INT(net_lost(&w), 1);
    CHECK(dls_peer_op_done(w.peer[0], op, &st) && st == DLS_E_PEER);
    op = dls_peer_send(w.peer[0], 1, 1, &st, sizeof st); /* at once done: nobody is there */
    CHECK(dls_peer_op_done(w.peer[0], op, &st) && st == DLS_E_PEER);
    net_air(&w, 0);
    net_call(&w, 0, 1);
    CHECK(net_until_up(&w, 1000000));
    net_run(&w, 10000);
    CHECK(net_all_up(&w));
    CHECK_INT(net_lost(&w), 1); /* 1 saw its old session replaced */
    net_close(&w);
}
/* Drops in every phase: the other side ends with DLS_E_PEER, or all was there already; what was
   dropped is never touched again, and the session lives. */
static void test_lines_drops(void) {
    static unsigned char out[6000], check[64], got[64];
    uint64_t seed;
    long ended = 0, whole = 0;
    for (seed = 1; seed <= 60; seed++) {
        net w;
        unsigned char *in = (unsigned char *)malloc(sizeof out);
        const bool sender = seed % 2 == 0; /* drops */
        const int32_t other = sender ? 1 : 0;
        dls_status st = DLS_OK;
        int32_t send, recv, op;
        air_open(&w, seed, 2, NULL);
        if (seed % 3 == 0) air_weather(&w, 2);
        CHECK(net_until_up(&w, 1000000));
        send = dls_peer_send(w.peer[0], 1, 3, out, sizeof out);
        recv = dls_peer_recv(w.peer[1], 0, 3, in, sizeof out);
        net_run(&w, below(&w.rng, 1200));
        dls_peer_op_drop(w.peer[1 - other], sender ? send : recv);
        if (!sender) free(in); /* ASan sees who writes */
        net_run(&w, 150000);
        op = sender ? recv : send;
        if (dls_peer_op_done(w.peer[other], op, &st)) {
            CHECK(st == DLS_OK || st == DLS_E_PEER);
            ended += st == DLS_E_PEER;
            whole += st == DLS_OK;
        } else { /* never matched: it waits for another */
            CHECK(!w.peer[other]->op[op].begun);
            dls_peer_op_drop(w.peer[other], op);
            net_run(&w, 150000); /* a send made before its peer heard of it would end with it */
        }
        if (sender) free(in);
        CHECK_INT(net_lost(&w), 0);
        send = dls_peer_send(w.peer[0], 1, 3, check, sizeof check);
        recv = dls_peer_recv(w.peer[1], 0, 3, got, sizeof got);
        net_run(&w, 150000);
        CHECK(dls_peer_op_done(w.peer[0], send, &st) && st == DLS_OK);
        CHECK(dls_peer_op_done(w.peer[1], recv, &st) && st == DLS_OK);
        net_close(&w);
    }
    CHECK(ended > 10 && whole > 2);
}

static void lines_tests(void) {
    RUN(lines_serial);
    RUN(lines_serial_comes_back);
    RUN(lines_gateway);
    RUN(lines_two_hops);
    RUN(lines_gateway_dies);
    RUN(lines_long_delay);
    RUN(lines_resume);
    RUN(lines_leave);
    RUN(lines_clock_jumps);
    RUN(lines_port_close);
    RUN(lines_drops);
}
