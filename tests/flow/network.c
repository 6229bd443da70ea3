/* Whole flows through the simulated link. */

static sim_desc net_desc(double mbit, double queue, double loss, uint64_t seed) {
    sim_desc d;
    memset(&d, 0, sizeof d);
    d.rate = mbit * 125000;
    d.queue = queue < 16000 ? 16000 : queue; /* no router has less */
    d.loss = loss;
    d.mtu = 1400;
    d.ring = 4096;
    d.seed = seed;
    return d;
}
static bool net_full(void) {
    const char *full = getenv("FLOW_FULL");
    return full != NULL && full[0] == '1';
}
static const double net_rtts[] = {100, 1000, 10000, 50000};

/* Sends `limit` contents: all arrive and are acked, entries are given back once, none is left. */
static double net_complete(const sim_desc *d, double rtt_us, uint32_t limit, double most) {
    static sim s;
    sim_end *e;
    uint32_t i, missing = 0;
    double t;
    sim_init(&s, d);
    e = sim_add(&s, SIM_FLOW, rtt_us, 0, 1e9);
    e->limit = limit;
    while (s.heap_n > 0 && (e->acked < limit || e->tx.in_flight > 0) && s.now < most * 1e9)
        sim_step(&s);
    t = (double)s.now * 1e-9;
    CHECK(t < most);
    sim_run(&s, t + 5);
    for (i = 0; i < limit; i++) missing += (e->id_state[i] & 7) != 3;
    CHECK_INT(missing, 0);
    CHECK_INT(e->wrong, 0);
    CHECK_INT(e->tx.in_flight, 0);
    CHECK_INT(e->tx.acked + e->tx.lost, 0);
    CHECK_INT(e->tx.oldest, e->tx.head);
    CHECK_INT(e->acked, limit);
    sim_free(&s);
    return t;
}
static void test_net_exactly_once(void) {
    const uint64_t seeds = net_full() ? 2000 : 60;
    uint64_t seed;
    for (seed = 1; seed <= seeds; seed++) {
        sim_desc d = net_desc(seed % 3 ? 20 : 2, seed % 2 ? 20000 : 200000, 0, seed);
        d.loss = 0.01 * (double)(seed % 8);
        d.ack_loss = 0.02 * (double)(seed % 5);
        d.burst = (double)(seed % 4) * 3;
        d.dup = seed % 6 == 0 ? 0.02 : 0;
        d.reorder = seed % 7 == 0 ? 0.05 : 0;
        d.reorder_us = 4000;
        d.jitter_us = seed % 5 == 0 ? 3000 : 0;
        d.ring = 8 << seed % 7;
        (void)net_complete(&d, seed % 4 ? 20000 : 500, 3000, 200);
    }
}
/* Unique bytes delivered as a share of what the link could carry from second `from` to `to`. */
static double net_share(const sim_desc *d, int kind, double rtt_us, double from, double to) {
    static sim s;
    sim_end *e;
    double before;
    dls_flow_stats stats;
    sim_init(&s, d);
    e = sim_add(&s, kind, rtt_us, 0, 1e9);
    sim_run(&s, from);
    before = (double)e->delivered;
    sim_run(&s, to);
    before = ((double)e->delivered - before) / (d->rate * (to - from));
    if (kind == SIM_FLOW && before > 0.9 && d->ring > 16) {
        dls_flow_report(&e->tx, &stats);
        CHECK_NEAR(stats.rate_bytes / d->rate, 1, 0.5);
    }
    CHECK_INT(e->wrong, 0);
    sim_free(&s);
    return before;
}
/* Loss of 5 % is behind the bottleneck, so 0.95 is all there is. Start-up counts: 10 s from 0. */
static void test_net_throughput(void) {
    static const double losses[] = {0, 0.01, 0.05};
    static const double mbits[] = {100, 10, 1000};
    int r, q, l, m;
    for (m = 0; m < (net_full() ? 3 : 2); m++)
        for (r = 0; r < 4; r++)
            for (q = 0; q < 3; q++)
                for (l = 0; l < 3; l++) {
                    const double rate = mbits[m] * 125000, bdp = rate * net_rtts[r] * 1e-6;
                    const double queue = q == 0 ? bdp / 2 : q == 1 ? bdp * 2 : rate * 0.2;
                    sim_desc d = net_desc(mbits[m], queue, losses[l], 1);
                    double share;
                    d.ring = mbits[m] > 500 ? 16384 : 4096;
                    share = net_share(&d, SIM_FLOW, net_rtts[r], 0, 10);
                    if (share < 0.9)
                        test_report(__FILE__, __LINE__,
                                    "%g Mbit/s, rtt %g us, queue %g, loss %g: %.3f", mbits[m],
                                    net_rtts[r], queue, losses[l], share);
                    CHECK(share <= 1.001 - losses[l] * 0.8);
                }
}
/* Burst losses, lost acks, some jitter, reordering, duplicates: 0.8 of the link. */
static void test_net_rough(void) {
    int k;
    for (k = 0; k < 5; k++) {
        sim_desc d = net_desc(50, 125000, 0.01, (uint64_t)k + 1);
        double share;
        if (k == 0) d.burst = 8;
        if (k == 1) d.ack_loss = 0.2;
        if (k == 2) d.jitter_us = 500, d.loss = 0.05;
        if (k == 3) d.reorder = 0.02, d.reorder_us = 3000;
        if (k == 4) d.dup = 0.05, d.ack_loss = 0.05, d.jitter_us = 500;
        share = net_share(&d, SIM_FLOW, 10000, 0, 20);
        if (share < 0.8) test_report(__FILE__, __LINE__, "rough link %d: %.3f", k, share);
        CHECK(share < 1);
    }
}
/* Jitter of more than a tenth of the round trip looks like a queue, so random losses cost as much
   as they cost a TCP. They must not cost more. */
static void test_net_jitter(void) {
    double jitter;
    for (jitter = 1000; jitter <= 5000; jitter += 2000) {
        sim_desc d = net_desc(50, 125000, 0.01, 3);
        double ours, tcp;
        d.jitter_us = jitter;
        ours = net_share(&d, SIM_FLOW, 10000, 0, 20);
        tcp = net_share(&d, SIM_CUBIC, 10000, 0, 20);
        if (ours < tcp * 0.9)
            test_report(__FILE__, __LINE__, "jitter %g us: %.3f, CUBIC %.3f", jitter, ours, tcp);
        CHECK(ours > 0.1);
    }
}
/* The share of a flow beside another sender, of kind SIM_x, on the same queue. */
static void net_fair(int other, double mbit, int rtt, int q, int seed) {
    static sim s;
    const double rate = mbit * 125000, bdp = rate * net_rtts[rtt] * 1e-6;
    const double queue = q == 0 ? bdp / 2 : q == 1 ? bdp * 2 : rate * 0.2;
    const double to = rtt == 3 ? 120 : q == 2 ? 60 : 20; /* CUBIC itself takes that long */
    sim_desc d = net_desc(mbit, queue, 0, (uint64_t)seed);
    sim_end *e, *o;
    double a, b;
    d.jitter_us = net_rtts[rtt] * 0.05;
    sim_init(&s, &d);
    e = sim_add(&s, SIM_FLOW, net_rtts[rtt], seed % 2, 1e9);
    o = sim_add(&s, other, net_rtts[rtt], 1 - seed % 2, 1e9);
    sim_run(&s, to * 0.2);
    a = (double)e->delivered;
    b = (double)o->delivered;
    sim_run(&s, to);
    a = ((double)e->delivered - a) / (rate * to * 0.8);
    b = ((double)o->delivered - b) / (rate * to * 0.8);
    CHECK(a + b > 0.9);
    if (a / (a + b) < 1. / 3 || a / (a + b) > 2. / 3)
        test_report(__FILE__, __LINE__, "%s, %g Mbit/s, rtt %g us, queue %g, seed %d: %.3f + %.3f",
                    other == SIM_FLOW ? "flow" : "TCP", mbit, net_rtts[rtt], d.queue, seed, a, b);
    sim_free(&s);
}
static void net_fair_all(int other) {
    int rtt, q, seed;
    for (rtt = 0; rtt < 4; rtt++)
        for (q = 0; q < 3; q++)
            for (seed = 1; seed <= (net_full() ? 20 : 2); seed++)
                net_fair(other, 100, rtt, q, seed);
}
static void test_net_fair_to_cubic(void) { net_fair_all(SIM_CUBIC); }
static void test_net_fair_to_itself(void) { net_fair_all(SIM_FLOW); }

/* 10 s of nothing: the link is used again within 2 s of its return, by a window as before. */
static void test_net_blackout(void) {
    int r;
    for (r = 0; r < 4; r++) {
        sim_desc d = net_desc(50, 125000, 0.01, 3);
        d.down_from = 5;
        d.down_to = 15;
        CHECK(net_share(&d, SIM_FLOW, net_rtts[r], 5.5, 14.5) == 0);
        CHECK(net_share(&d, SIM_FLOW, net_rtts[r], 17, 20) > 0.9);
        CHECK(net_complete(&d, net_rtts[r], 30000, 40) > 15);
    }
}
/* 115,200 baud, packets of 64 to 256 bytes, 8 entries: 0.9 of the line. */
static void test_net_serial(void) {
    uint32_t mtu;
    for (mtu = 64; mtu <= 256; mtu *= 2) {
        sim_desc d = net_desc(0.09216, 16000, 0, 1); /* 11,520 bytes a second */
        double share;
        d.mtu = mtu;
        d.ring = 8;
        share = net_share(&d, SIM_FLOW, 4000, 1, 31);
        if (share < 0.9) test_report(__FILE__, __LINE__, "mtu %u: %.3f", mtu, share);
        d.loss = 0.02;
        share = net_share(&d, SIM_FLOW, 4000, 1, 31);
        if (share < 0.85) test_report(__FILE__, __LINE__, "mtu %u, loss 2 %%: %.3f", mtu, share);
        (void)net_complete(&d, 4000, 400, 60);
        CHECK(share < 1);
    }
}
/* The sender's clock jumps back an hour, ahead a minute, while packets are under way. */
static void test_net_clock_jumps(void) {
    static sim s;
    const sim_desc d = net_desc(20, 50000, 0.02, 4);
    sim_end *e;
    double from;
    uint32_t i;
    sim_init(&s, &d);
    e = sim_add(&s, SIM_FLOW, 10000, 0, 1e9);
    e->clock_skew = (uint64_t)1 << 40;
    sim_run(&s, 3);
    e->clock_skew -= 3600000000u;
    sim_wake(&s, 0, s.now + 1); /* its caller sees the new time */
    sim_run(&s, 4);
    from = (double)e->delivered;
    sim_run(&s, 6);
    CHECK((double)e->delivered - from > 0.9 * 2 * d.rate);
    e->clock_skew += 60000000u;
    sim_wake(&s, 0, s.now + 1);
    sim_run(&s, 9);
    from = (double)e->delivered;
    sim_run(&s, 11);
    CHECK((double)e->delivered - from > 0.9 * 2 * d.rate);
    CHECK_INT(e->wrong, 0);
    e->stop = 0;
    sim_run(&s, 20);
    for (i = 0; i < e->next_id; i++) CHECK((e->id_state[i] & 4) == 0); /* none is still out */
    sim_free(&s);
}
/* Same seed, same course. */
static void test_net_replay(void) {
    const sim_desc d = net_desc(10, 30000, 0.03, 8);
    CHECK(net_share(&d, SIM_FLOW, 20000, 0, 5) == net_share(&d, SIM_FLOW, 20000, 0, 5));
}
static void network_tests(void) {
    RUN(net_exactly_once);
    RUN(net_throughput);
    RUN(net_rough);
    RUN(net_jitter);
    RUN(net_fair_to_cubic);
    RUN(net_fair_to_itself);
    RUN(net_blackout);
    RUN(net_serial);
    RUN(net_clock_jumps);
    RUN(net_replay);
}
