/* Loss recovery by single calls: acks, timers, clocks, malformed input. */

typedef struct pair { /* a sender with its ring */
    dls_flow f;
    dls_path path;
    dls_sent ring[256];
    uint64_t now, pn;
    int acked, lost;
    uint8_t taken[4096]; /* per ref: times given back */
} pair;

static void pair_init(pair *p, int32_t ring, uint32_t mtu) {
    memset(p, 0, sizeof *p);
    p->now = 1000000;
    CHECK_STATUS(dls_flow_init(&p->f, p->ring, ring, mtu, &p->path, p->now), DLS_OK);
}
static void pair_send(pair *p, uint32_t id) {
    uint32_t ref[4] = {0, 1, 2, 3};
    ref[0] = id;
    dls_flow_sent(&p->f, p->pn++, p->f.mtu, true, ref, p->now);
}
static void pair_take(pair *p) {
    uint32_t ref[4];
    while (dls_flow_next_acked(&p->f, ref)) {
        CHECK(ref[0] < 4096 && ref[1] == 1 && ref[2] == 2 && ref[3] == 3);
        p->taken[ref[0]]++;
        p->acked++;
    }
    while (dls_flow_next_lost(&p->f, ref)) {
        CHECK(ref[0] < 4096 && ref[1] == 1 && ref[2] == 2 && ref[3] == 3);
        p->taken[ref[0]]++;
        p->lost++;
    }
}
/* The body of an ack: runs as pairs {first, last}, greatest first. */
static size_t ack_body(unsigned char *to, uint32_t delay, int runs, const uint32_t *pairs) {
    size_t at = 7;
    int i;
    to[0] = (unsigned char)pairs[1];
    to[1] = (unsigned char)(pairs[1] >> 8);
    to[2] = (unsigned char)(pairs[1] >> 16);
    to[3] = (unsigned char)(pairs[1] >> 24);
    to[4] = (unsigned char)delay;
    to[5] = (unsigned char)(delay >> 8);
    to[6] = (unsigned char)runs;
    for (i = 0; i < runs; i++) {
        uint32_t v[2];
        int k;
        v[0] = i == 0 ? 0 : pairs[2 * i - 2] - pairs[2 * i + 1] - 2;
        v[1] = pairs[2 * i + 1] - pairs[2 * i];
        for (k = i == 0; k < 2; k++) {
            for (; v[k] > 127; v[k] >>= 7) to[at++] = (unsigned char)(v[k] % 128 + 128);
            to[at++] = (unsigned char)v[k];
        }
    }
    return at;
}
static dls_status pair_ack(pair *p, uint32_t first, uint32_t last) {
    unsigned char body[16];
    uint32_t pairs[2];
    size_t used = 0, n;
    dls_status st;
    pairs[0] = first;
    pairs[1] = last;
    n = ack_body(body, 0, 1, pairs);
    st = dls_flow_ack_read(&p->f, body, n, &used, p->now);
    if (st == DLS_OK) CHECK_INT(used, n);
    pair_take(p);
    return st;
}

static void test_init_bounds(void) {
    static dls_sent ring[16];
    dls_flow f;
    CHECK_STATUS(dls_flow_init(&f, NULL, 8, 100, NULL, 0), DLS_E_ARG);
    CHECK_STATUS(dls_flow_init(&f, ring, 2, 100, NULL, 0), DLS_E_ARG);
    CHECK_STATUS(dls_flow_init(&f, ring, 12, 100, NULL, 0), DLS_E_ARG);
    CHECK_STATUS(dls_flow_init(&f, ring, 65536, 100, NULL, 0), DLS_E_ARG);
    CHECK_STATUS(dls_flow_init(&f, ring, 16, 0, NULL, 0), DLS_E_ARG);
    CHECK_STATUS(dls_flow_init(&f, ring, 16, 65536, NULL, 0), DLS_E_ARG);
    CHECK_STATUS(dls_flow_init(&f, ring, 16, 65535, NULL, 0), DLS_OK);
    CHECK(dls_flow_deadline(&f) == UINT64_MAX);
    CHECK_STATUS(dls_flow_init(&f, ring, 32, 100, NULL, 0), DLS_E_ARG); /* needs a path */
    CHECK(sizeof(dls_sent) == 24);
}
/* RFC 9002's figures: initial window 10 packets, a packet 3 behind the newest acked is lost, one 2
   behind after 9/8 round trips. */
static void test_packet_threshold(void) {
    static pair p;
    int i;
    pair_init(&p, 64, 1000);
    for (i = 0; i < 10; i++) {
        CHECK(dls_flow_room(&p.f, p.now) >= 1000);
        pair_send(&p, (uint32_t)i);
    }
    CHECK_INT(dls_flow_room(&p.f, p.now), 0);
    CHECK_INT(p.f.in_flight, 10000);
    p.now += 20000;
    CHECK_STATUS(pair_ack(&p, 3, 3), DLS_OK); /* 0 is lost, 1 and 2 not yet */
    CHECK_INT(p.acked, 1);
    CHECK_INT(p.lost, 1);
    CHECK_INT(p.taken[0], 1);
    CHECK_INT(p.f.in_flight, 8000);
    CHECK_INT(dls_flow_deadline(&p.f), p.now + 20000 / 8);
    p.now += 2400;
    dls_flow_tick(&p.f, p.now);
    CHECK_INT(p.f.lost, 0);
    p.now += 100;
    dls_flow_tick(&p.f, p.now);
    pair_take(&p);
    CHECK_INT(p.lost, 3);
    CHECK_STATUS(pair_ack(&p, 4, 9), DLS_OK);
    CHECK_INT(p.acked, 7);
    CHECK_INT(p.f.in_flight, 0);
    CHECK(dls_flow_deadline(&p.f) == UINT64_MAX);
}
/* PTO before a round-trip time is known: 333 + 4 * 166.5 ms + the peer's delay; then doubled. */
static void test_timeout(void) {
    static pair p;
    uint64_t at, sent, before = 0;
    int i;
    pair_init(&p, 64, 1000);
    pair_send(&p, 0);
    pair_send(&p, 1);
    pair_send(&p, 2);
    sent = p.now;
    CHECK_INT(dls_flow_deadline(&p.f) - sent, 333000 + 666000 + p.f.max_ack_delay);
    pair_init(&p, 64, 1000);
    pair_send(&p, 0);
    p.now += 10000;
    CHECK_STATUS(pair_ack(&p, 0, 0), DLS_OK);
    for (i = 1; i < 6; i++) pair_send(&p, (uint32_t)i);
    for (i = 0; i < 12; i++) {
        p.path.pace = p.f.clock; /* no deadline of pacing */
        at = dls_flow_deadline(&p.f);
        CHECK(at > p.now);
        if (i == 0) CHECK_INT(at - p.now, 10000 + 20000 + p.f.max_ack_delay);
        if (i > 0) CHECK(at - p.now == 2 * before || at - p.now == 200000);
        before = at - p.now;
        dls_flow_tick(&p.f, at - 1);
        CHECK(!dls_flow_probe(&p.f));
        p.now = at;
        dls_flow_tick(&p.f, p.now);
        CHECK(dls_flow_probe(&p.f));
        CHECK(dls_flow_room(&p.f, p.now) > 0); /* whatever the window */
        pair_take(&p);
        pair_send(&p, (uint32_t)(100 + 2 * i));
        CHECK(dls_flow_probe(&p.f)); /* two probes */
        pair_send(&p, (uint32_t)(101 + 2 * i));
        CHECK(!dls_flow_probe(&p.f));
    }
    CHECK(p.lost >= 12);
    CHECK_INT(before, 200000); /* a probe each second, for as long as it takes */
}
/* All of more than 3 timeouts lost: the window is 2 packets, and grows again. */
static void test_persistent_congestion(void) {
    static pair p;
    dls_flow_stats stats;
    int i;
    pair_init(&p, 256, 1000);
    pair_send(&p, 0);
    p.now += 10000;
    CHECK_STATUS(pair_ack(&p, 0, 0), DLS_OK);
    for (i = 1; i < 9; i++) {
        pair_send(&p, (uint32_t)i);
        p.now += 20000;
        dls_flow_tick(&p.f, p.now);
        pair_take(&p);
    }
    pair_send(&p, 50);
    p.now += 10000;
    CHECK_STATUS(pair_ack(&p, (uint32_t)(p.pn - 1), (uint32_t)(p.pn - 1)), DLS_OK);
    dls_flow_report(&p.f, &stats);
    CHECK_INT(stats.window_bytes, 2000);
    CHECK_INT(stats.in_flight_bytes, 0);
    CHECK_INT(stats.pto_count, 0);
    /* the same, but all of it arrived and only acks were lost: nothing happens to the window */
    pair_init(&p, 256, 1000);
    pair_send(&p, 0);
    p.now += 10000;
    CHECK_STATUS(pair_ack(&p, 0, 0), DLS_OK);
    for (i = 1; i < 9; i++) {
        pair_send(&p, (uint32_t)i);
        p.now += 20000;
        dls_flow_tick(&p.f, p.now);
        pair_take(&p);
    }
    pair_send(&p, 50);
    p.now += 10000;
    CHECK_STATUS(pair_ack(&p, 0, (uint32_t)(p.pn - 1)), DLS_OK);
    dls_flow_report(&p.f, &stats);
    CHECK(stats.window_bytes >= 10000);
}
static void test_rtt(void) {
    static pair p;
    dls_flow_stats stats;
    unsigned char body[16];
    const uint32_t run[2] = {1, 1};
    size_t used;
    pair_init(&p, 64, 1000);
    dls_flow_report(&p.f, &stats);
    CHECK_INT(stats.srtt_us, 0);
    pair_send(&p, 0);
    p.now += 8000;
    CHECK_STATUS(pair_ack(&p, 0, 0), DLS_OK);
    dls_flow_report(&p.f, &stats);
    CHECK_INT(stats.srtt_us, 8000);
    CHECK_INT(stats.min_rtt_us, 8000);
    pair_send(&p, 1);
    p.now += 19000; /* 3 ms of which the peer waited */
    (void)ack_body(body, 3000, 1, run);
    CHECK_STATUS(dls_flow_ack_read(&p.f, body, 8, &used, p.now), DLS_OK);
    dls_flow_report(&p.f, &stats);
    CHECK_INT(stats.srtt_us, 9000);
    CHECK_INT(stats.min_rtt_us, 8000);
}
/* A late ack of what was given up: the window comes back, the thresholds widen. */
static void test_spurious_loss(void) {
    static pair p;
    uint32_t window;
    int i;
    pair_init(&p, 64, 1000);
    for (i = 0; i < 10; i++) pair_send(&p, (uint32_t)i);
    p.now += 10000;
    CHECK_STATUS(pair_ack(&p, 6, 6), DLS_OK);
    CHECK_INT(p.lost, 4); /* 0..3 */
    CHECK_STATUS(pair_ack(&p, 0, 9), DLS_OK);
    CHECK_INT(p.acked, 6); /* 4..9; what was lost stays lost, once */
    CHECK_INT(p.path.spurious, 4);
    CHECK(p.f.reorder >= 7);
    for (i = 0; i < 10; i++) CHECK_INT(p.taken[i], 1);
    window = p.path.window;
    CHECK(window >= 10000);
    for (i = 10; i < 16; i++) pair_send(&p, (uint32_t)i);
    p.now += 10000;
    CHECK_STATUS(pair_ack(&p, 15, 15), DLS_OK); /* 5 behind is not far any more */
    CHECK_INT(p.lost, 4);
}
static void test_ack_timing(void) {
    static dls_sent ring[4];
    dls_flow f;
    unsigned char body[DLS_FLOW_ACK_BYTES];
    CHECK_STATUS(dls_flow_init(&f, ring, 4, 100, NULL, 0), DLS_OK);
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, 0), 0);
    dls_flow_received(&f, 0, true, 100);
    CHECK(!dls_flow_ack_due(&f, 100));
    CHECK_INT(dls_flow_deadline(&f), 100 + f.max_ack_delay);
    CHECK(!dls_flow_ack_due(&f, 99 + f.max_ack_delay));
    CHECK(dls_flow_ack_due(&f, 100 + f.max_ack_delay));
    dls_flow_received(&f, 1, true, 200); /* the second */
    CHECK(dls_flow_ack_due(&f, 200));
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, 250), 8);
    CHECK(!dls_flow_ack_due(&f, 200000));
    CHECK_INT(body[4], 50);
    CHECK_INT(body[7], 1);                /* 2 packets */
    dls_flow_received(&f, 2, false, 300); /* acks are not acked */
    dls_flow_received(&f, 3, false, 300);
    CHECK(!dls_flow_ack_due(&f, 300000));
    CHECK(dls_flow_deadline(&f) == UINT64_MAX);
    dls_flow_received(&f, 5, true, 400); /* a gap: at once */
    CHECK(dls_flow_ack_due(&f, 400));
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, 400), 10);
    dls_flow_received(&f, 4, true, 500); /* out of order: at once */
    CHECK(dls_flow_ack_due(&f, 500));
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, 400), 8);
    CHECK_INT(body[7], 5);
    CHECK_INT(dls_flow_ack_write(&f, body, 7, 400), 0);
}
/* The receiver's runs against a plain set, for random arrivals: what is told was received; what was
   received among the last is told. */
static void test_ack_runs(void) {
    static uint8_t had[70000];
    static dls_sent ring[4];
    dls_rng rng = {5, 0};
    int round;
    for (round = 0; round < 60; round++) {
        dls_flow f;
        uint32_t pn = 0, i, greatest = 0;
        memset(had, 0, sizeof had);
        CHECK_STATUS(dls_flow_init(&f, ring, 4, 100, NULL, 0), DLS_OK);
        for (i = 0; i < 800; i++) {
            unsigned char body[DLS_FLOW_ACK_BYTES];
            uint32_t kind = cobs_u32(&rng, 10), at, left, k, run, gap;
            size_t n, used;
            bool told = false;
            if (kind < 7 || round % 3 == 0)
                pn = greatest + (i > 0);
            else if (kind == 7)
                pn = greatest + 1 + cobs_u32(&rng, round % 3 == 1 ? 4 : 60);
            else
                pn = greatest > 40 ? greatest - cobs_u32(&rng, 40) : 0;
            if (pn >= sizeof had || had[pn]) continue;
            had[pn] = 1;
            if (pn > greatest) greatest = pn;
            dls_flow_received(&f, pn, true, i);
            n = dls_flow_ack_write(&f, body, sizeof body, i);
            CHECK(n >= 8);
            at = body[0] + 256u * body[1] + 65536u * body[2];
            CHECK_INT(at, greatest);
            used = 7;
            for (left = body[6]; left > 0; left--) {
                run = body[used] & 127u;
                if (body[used++] > 127) run += 128u * body[used++];
                for (k = 0; k <= run; k++) CHECK(had[at - k]);
                told = told || (pn <= at && pn + run >= at);
                if (left == 1) break;
                gap = body[used] & 127u;
                if (body[used++] > 127) gap += 128u * body[used++];
                for (k = 0; k <= gap; k++) CHECK(!had[at - run - 1 - k] || i > 8); /* forgotten */
                at -= run + gap + 2;
            }
            CHECK_INT(used, n);
            CHECK(told || body[6] == DLS_FLOW_RUNS);
        }
    }
}
static void test_ack_long_runs(void) {
    static dls_sent ring[4];
    dls_flow f;
    unsigned char body[DLS_FLOW_ACK_BYTES];
    uint64_t pn;
    CHECK_STATUS(dls_flow_init(&f, ring, 4, 100, NULL, 0), DLS_OK);
    for (pn = 5; pn < 200000; pn++) dls_flow_received(&f, pn, true, pn); /* more than 16 bits */
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, pn), 9); /* the last DLS_REPLAY_BITS */
    dls_flow_received(&f, 3, true, pn);                          /* too old to tell */
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, pn), 9);
    dls_flow_received(&f, pn + 70000, true, pn); /* a gap of more than 16 bits */
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, pn), 8);
    dls_flow_received(&f, (uint64_t)1 << 40, true, pn);
    dls_flow_received(&f, ((uint64_t)1 << 40) - 2, true, pn);
    dls_flow_received(&f, 17, true, pn);
    CHECK_INT(dls_flow_ack_write(&f, body, sizeof body, pn), 10);
    CHECK_INT(body[6], 2);
}
/* Two flows of which one acks the other, for 4000 packets with gaps of pure acks. */
static void test_malformed(void) {
    static pair p, was;
    static const uint32_t runs[] = {39, 40, 30, 33, 29 - 12, 25, 3, 3};
    unsigned char good[64], bad[64];
    size_t n, cut, used;
    int i, bit, ok = 0;
    pair_init(&p, 64, 1000);
    for (i = 0; i < 40; i++) {
        if (i % 5 == 4) dls_flow_sent(&p.f, p.pn++, 20, false, NULL, p.now); /* an ack alone */
        p.path.window = 1000000;
        pair_send(&p, (uint32_t)i);
    }
    p.now += 10000;
    was = p;
    n = ack_body(good, 5, 4, runs);
    for (cut = 0; cut < n; cut++) {
        unsigned char *exact = (unsigned char *)malloc(cut + 1);
        memcpy(exact, good, cut);
        CHECK_STATUS(dls_flow_ack_read(&p.f, exact, cut, &used, p.now), DLS_E_FORMAT);
        free(exact);
    }
    CHECK(memcmp(p.ring, was.ring, sizeof p.ring) == 0 && p.f.in_flight == was.f.in_flight);
    for (bit = 0; bit < (int)n * 8; bit++) { /* one bit, then all pairs with the bits after it */
        int second;
        for (second = bit; second < (int)n * 8; second++) {
            dls_status st;
            p = was;
            p.f.ring = p.ring;
            p.f.path = &p.path;
            memcpy(bad, good, n);
            bad[bit / 8] ^= (unsigned char)(1 << bit % 8);
            if (second != bit) bad[second / 8] ^= (unsigned char)(1 << second % 8);
            st = dls_flow_ack_read(&p.f, bad, n, &used, p.now);
            if (st == DLS_OK) {
                uint32_t flight = 0;
                CHECK(used >= 8 && used <= n);
                ok++;
                for (i = 0; i < 64; i++) flight += p.ring[i].state == 1 ? p.ring[i].bytes : 0u;
                CHECK_INT(p.f.in_flight, flight);
                pair_take(&p);
                for (i = 0; i < 40; i++) CHECK(p.taken[i] <= 1);
                for (i = 40; i < 4096; i++) CHECK(p.taken[i] == 0); /* never sent */
            } else {
                CHECK_STATUS(st, DLS_E_FORMAT);
                CHECK(memcmp(p.ring, was.ring, sizeof p.ring) == 0);
                CHECK(p.f.in_flight == was.f.in_flight && p.path.window == was.path.window);
            }
        }
    }
    CHECK(ok > 0);
    p = was;
    p.f.ring = p.ring;
    p.f.path = &p.path;
    CHECK_STATUS(pair_ack(&p, 48, 48), DLS_E_FORMAT); /* next to be sent */
    CHECK_STATUS(pair_ack(&p, 0, 47), DLS_OK);
    CHECK_INT(p.acked, 40);
    CHECK_STATUS(pair_ack(&p, 0, 47), DLS_OK); /* again: nothing */
    CHECK_INT(p.acked, 40);
    pair_init(&p, 64, 1000);
    CHECK_STATUS(pair_ack(&p, 0, 0), DLS_E_FORMAT); /* nothing was sent at all */
}
/* Counters above 32 bits, acks that tell packets before the first, sparse counters. */
static void test_counters(void) {
    static pair p;
    int i;
    pair_init(&p, 64, 1000);
    p.pn = ((uint64_t)1 << 32) - 5;
    for (i = 0; i < 10; i++) {
        pair_send(&p, (uint32_t)i);
        if (i % 2 == 0) p.pn += 3;
    }
    p.now += 1000;
    CHECK_STATUS(pair_ack(&p, (uint32_t)(p.pn - 65000), (uint32_t)(p.pn - 1)), DLS_OK);
    CHECK_INT(p.acked, 10);
    CHECK_STATUS(pair_ack(&p, (uint32_t)(p.pn), (uint32_t)(p.pn)), DLS_E_FORMAT);
}
static void test_clock_jumps(void) {
    static pair p;
    static const uint64_t jumps[] = {
        0, 1, 1000000, UINT64_MAX, (uint64_t)1 << 63, ((uint64_t)1 << 63) - 1, (uint64_t)1 << 32,
        77};
    dls_rng rng = {3, 0};
    uint32_t id = 0;
    int i, k;
    pair_init(&p, 64, 1000);
    for (i = 0; i < 3000; i++) {
        p.now += cobs_u32(&rng, 4000);
        if (i % 50 == 0) p.now = jumps[cobs_u32(&rng, 8)];
        if (i % 70 == 0) p.now -= cobs_u32(&rng, 100000000);
        dls_flow_tick(&p.f, p.now);
        pair_take(&p);
        for (k = 0; k < 4 && dls_flow_room(&p.f, p.now) > 0 && id < 4096; k++) pair_send(&p, id++);
        if (dls_flow_probe(&p.f) && id < 4096) pair_send(&p, id++);
        if (i % 3 == 0 && p.pn > 0)
            CHECK_STATUS(pair_ack(&p, (uint32_t)(p.pn > 3 ? p.pn - 3 : 0), (uint32_t)p.pn - 1),
                         DLS_OK);
    }
    CHECK(id > 2000);
    for (k = 0; k < (int)id; k++) CHECK(p.taken[k] <= 1);
    for (i = 0; i < 100 && p.f.in_flight > 0; i++) { /* an hour back: it all ends none the later */
        const uint64_t at = dls_flow_deadline(&p.f);
        CHECK(at != UINT64_MAX && (i == 0 || at - p.now <= 40000000));
        p.now = i == 0 ? p.now - 3600000000u : at;
        dls_flow_tick(&p.f, p.now);
        pair_take(&p);
    }
    CHECK_INT(p.f.in_flight, 0);
    for (k = 0; k < (int)id; k++) CHECK_INT(p.taken[k], 1);
}

static void recovery_tests(void) {
    RUN(init_bounds);
    RUN(packet_threshold);
    RUN(timeout);
    RUN(persistent_congestion);
    RUN(rtt);
    RUN(spurious_loss);
    RUN(ack_timing);
    RUN(ack_runs);
    RUN(ack_long_runs);
    RUN(malformed);
    RUN(counters);
    RUN(clock_jumps);
}
