/* Whole flows through the simulated link. */

static sim_desc net_desc(double mbit, double queue, double loss, uint64_t seed) {
    sim_desc d;
    memset(&d, 0, sizeof d);
    d.rate = mbit * 125000;
    d.queue = queue;
    d.loss = loss;
    d.mtu = 1200;
    d.ring = 4096;
    d.seed = seed;
    return d;
}
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
    uint64_t seed;
    for (seed = 1; seed <= 60; seed++) {
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
static void network_tests(void) { RUN(net_exactly_once); }
