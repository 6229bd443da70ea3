/* All-reduce of 1 to 8 engines over memory links pumped in random order: the same integers
   everywhere, equal to a plain sum or maximum, whatever the count, the order, and who runs ahead.
   A peer lost in the middle is an error at every other peer, also at those not beside it. */

typedef struct ring {
    cluster c;
    dls_coll coll[CLUSTER_MAX];
    unsigned char *staging[CLUSTER_MAX];
} ring;
static void ring_open(ring *r, int32_t n, uint64_t seed, size_t bytes) {
    int32_t i;
    cluster_open(&r->c, n, seed, true);
    for (i = 0; i < n; i++) {
        r->staging[i] = (unsigned char *)malloc(dls_coll_size(n, bytes));
        CHECK_STATUS(
            dls_coll_init(&r->coll[i], r->c.peer[i], i, n, r->staging[i], dls_coll_size(n, bytes)),
            DLS_OK);
    }
}
static void ring_close(ring *r) {
    int32_t i;
    for (i = 0; i < r->c.n; i++) free(r->staging[i]);
    cluster_close(&r->c);
}
static int32_t ring_value(int32_t rank, size_t i, uint64_t seed) {
    return (int32_t)dls_rand_at(seed * 8 + (uint64_t)rank, (uint32_t)i); /* sums wrap */
}
/* `rounds` all-reduces of count elements one after the other; each rank starts its next as soon as
   its own last one is over. Bytes move by dls_loop_pump in random order, or through the pipes. */
static void ring_rounds(int32_t n, size_t count, dls_reduce reduce, int rounds, bool pipes) {
    static ring r;
    const size_t width = reduce == DLS_REDUCE_SUM_I32 ? 4 : 1;
    const long takes = test_takes;
    unsigned char *data[CLUSTER_MAX];
    int at[CLUSTER_MAX] = {0}, over = 0;
    long turns = 0, bad = 0;
    int32_t a, b;
    size_t i;
    ring_open(&r, n, 1000 * (uint64_t)n + count, count * width);
    for (a = 0; a < n; a++) data[a] = (unsigned char *)malloc(count * width + 1);
    while (over < n && ++turns < 4000000) {
        a = (int32_t)below(&r.c.rng, (uint32_t)n);
        b = (int32_t)below(&r.c.rng, (uint32_t)n);
        if (a != b && pipes) {
            (void)cluster_move(&r.c, a, b, 1 + below(&r.c.rng, 64), true);
            (void)cluster_move(&r.c, a, b, 1 + below(&r.c.rng, 64), false);
        } else if (a != b) {
            (void)dls_loop_pump(r.c.peer[a], r.c.link[a][b], r.c.peer[b], r.c.link[b][a], r.c.now);
        }
        a = (int32_t)below(&r.c.rng, (uint32_t)n);
        if (at[a] % 2 == 0 && at[a] < 2 * rounds) { /* start */
            for (i = 0; i < count; i++) {
                const int32_t v = ring_value(a, i, (uint64_t)at[a]);
                if (width == 4) memcpy(data[a] + 4 * i, &v, 4);
                if (width == 1) data[a][i] = (unsigned char)v;
            }
            data[a][count * width] = 0x77;
            CHECK_STATUS(dls_coll_allreduce(&r.coll[a], data[a], count, reduce), DLS_OK);
            CHECK_STATUS(dls_coll_allreduce(&r.coll[a], data[a], count, reduce), DLS_E_STATE);
            at[a]++;
        } else if (at[a] % 2 == 1) {
            dls_status st;
            if (!dls_coll_poll(&r.coll[a], &st)) continue;
            CHECK_STATUS(st, DLS_OK);
            for (i = 0; i < count; i++) {
                uint32_t sum = 0, most = 0, got = 0;
                for (b = 0; b < n; b++) {
                    const uint32_t v = (uint32_t)ring_value(b, i, (uint64_t)at[a] - 1);
                    sum += v;
                    if ((v & 255) > most) most = v & 255;
                }
                memcpy(&got, data[a] + i * width, width);
                if (width == 1) got = data[a][i];
                bad += got != (width == 4 ? sum : most);
            }
            CHECK_INT(data[a][count * width], 0x77);
            over += ++at[a] == 2 * rounds;
        }
    }
    CHECK_INT(over, n);
    CHECK_INT(bad, 0);
    CHECK_INT(test_takes - takes, 0);
    for (a = 0; a < n; a++) free(data[a]);
    ring_close(&r);
}
static void test_coll_sums_and_maxima(void) {
    static const size_t counts[] = {0, 1, 2, 3, 7, 8, 9, 100, 1001};
    size_t i;
    int32_t n;
    for (n = 1; n <= CLUSTER_MAX; n++)
        for (i = 0; i < sizeof counts / sizeof *counts; i++) {
            ring_rounds(n, counts[i], DLS_REDUCE_SUM_I32, 3, false);
            ring_rounds(n, counts[i], DLS_REDUCE_MAX_U8, 3, false);
        }
}
static void test_coll_in_small_pieces(void) {
    int32_t n;
    for (n = 2; n <= CLUSTER_MAX; n++) {
        ring_rounds(n, 5, DLS_REDUCE_SUM_I32, 2, true);
        ring_rounds(n, 333, DLS_REDUCE_SUM_I32, 2, true);
        ring_rounds(n, 333, DLS_REDUCE_MAX_U8, 2, true);
    }
}
static void test_coll_large(void) { /* chunks of several frames */
    ring_rounds(3, 300007, DLS_REDUCE_SUM_I32, 2, false);
    ring_rounds(8, 300007, DLS_REDUCE_SUM_I32, 1, false);
    ring_rounds(2, 1000003, DLS_REDUCE_MAX_U8, 1, false);
}
static void test_coll_bounds(void) {
    static ring r;
    dls_coll coll;
    dls_status st;
    unsigned char mem[1024];
    int32_t data[100] = {5};
    CHECK_STATUS(dls_coll_init(&coll, NULL, 0, 2, mem, sizeof mem), DLS_E_ARG);
    CHECK_STATUS(dls_coll_init(&coll, NULL, 1, 1, mem, sizeof mem), DLS_E_ARG);
    CHECK_STATUS(dls_coll_init(&coll, NULL, -1, 1, mem, sizeof mem), DLS_E_ARG);
    CHECK_STATUS(dls_coll_init(&coll, NULL, 0, 1, NULL, sizeof mem), DLS_E_MEMORY);
    CHECK_STATUS(dls_coll_init(&coll, NULL, 0, 1, mem, 8), DLS_E_MEMORY);
    CHECK_STATUS(dls_coll_init(&coll, NULL, 0, 1, mem, sizeof mem), DLS_OK);
    CHECK_STATUS(dls_coll_allreduce(&coll, data, 1, DLS_REDUCE_SUM_I32), DLS_OK);
    CHECK(dls_coll_poll(&coll, &st));
    CHECK_STATUS(st, DLS_OK);
    CHECK_INT(data[0], 5); /* alone: as it was */
    ring_open(&r, 2, 1, 40);
    CHECK_STATUS(dls_coll_allreduce(&r.coll[0], NULL, 1, DLS_REDUCE_SUM_I32), DLS_E_ARG);
    CHECK_STATUS(dls_coll_allreduce(&r.coll[0], data, 1000000, DLS_REDUCE_SUM_I32), DLS_E_MEMORY);
    CHECK_STATUS(dls_coll_allreduce(&r.coll[0], data, SIZE_MAX / 2, DLS_REDUCE_SUM_I32),
                 DLS_E_MEMORY);
    CHECK_STATUS(dls_coll_allreduce(&r.coll[0], data, 10, DLS_REDUCE_SUM_I32), DLS_OK);
    ring_close(&r);
}
/* Peer `victim` vanishes after `moves` moves; each of the others must end with DLS_E_PEER. */
static int ring_loss(int32_t n, int32_t victim, int moves) {
    static ring r;
    static int32_t data[CLUSTER_MAX][400];
    bool over[CLUSTER_MAX] = {false};
    dls_status st[CLUSTER_MAX];
    int turn, finished = 0;
    int32_t a, b;
    ring_open(&r, n, (uint64_t)(moves * 64 + n * 8 + victim), sizeof data[0]);
    for (a = 0; a < n; a++)
        CHECK_STATUS(dls_coll_allreduce(&r.coll[a], data[a], 400, DLS_REDUCE_SUM_I32), DLS_OK);
    for (turn = 0; turn < moves + 20000; turn++) {
        if (turn == moves)
            for (a = 0; a < n; a++)
                if (a != victim) cluster_part(&r.c, a, victim);
        a = (int32_t)below(&r.c.rng, (uint32_t)n);
        b = (int32_t)below(&r.c.rng, (uint32_t)n);
        if (a != b && r.c.link[a][b] >= 0) {
            (void)cluster_move(&r.c, a, b, 300, true);
            (void)cluster_move(&r.c, a, b, 300, false);
        }
        if (!over[a] && (a != victim || turn < moves)) over[a] = dls_coll_poll(&r.coll[a], &st[a]);
    }
    for (a = 0; a < n; a++) {
        if (a == victim) continue;
        CHECK(over[a]);
        if (!over[a]) continue;
        CHECK(st[a] == DLS_E_PEER || (st[a] == DLS_OK && over[a]));
        finished += st[a] == DLS_OK;
    }
    ring_close(&r);
    return finished;
}
static void test_coll_peer_lost(void) {
    int32_t n, victim;
    int moves;
    for (n = 2; n <= CLUSTER_MAX; n++)
        for (victim = 0; victim<n; victim += n> 4 ? 3 : 1)
            for (moves = 0; moves < 150; moves += 29)
                if (moves < n * n) CHECK_INT(ring_loss(n, victim, moves), 0);
}
/* A peer that finished and left in good order is no loss to those who have yet to finish. */
static void test_coll_leave_after_the_end(void) {
    uint64_t seed;
    for (seed = 0; seed < 200; seed++) {
        static ring r;
        int32_t data[CLUSTER_MAX][30], over = 0, a, b, turn;
        bool done[CLUSTER_MAX] = {false};
        const int32_t n = 2 + (int32_t)(seed % 7);
        ring_open(&r, n, seed, sizeof data[0]);
        memset(data, 0, sizeof data);
        for (a = 0; a < n; a++) {
            data[a][29] = a;
            CHECK_STATUS(dls_coll_allreduce(&r.coll[a], data[a], 30, DLS_REDUCE_SUM_I32), DLS_OK);
        }
        for (turn = 0; turn < 200000 && over < n; turn++) {
            dls_status st;
            a = (int32_t)below(&r.c.rng, (uint32_t)n);
            b = (int32_t)below(&r.c.rng, (uint32_t)n);
            (void)cluster_move(&r.c, a, b, 100, true);
            (void)cluster_move(&r.c, a, b, 100, false);
            a = (int32_t)below(&r.c.rng, 1 + below(&r.c.rng, (uint32_t)n)); /* low ranks are fast */
            if (done[a] || !dls_coll_poll(&r.coll[a], &st)) continue;
            CHECK_STATUS(st, DLS_OK);
            CHECK_INT(data[a][29], n * (n - 1) / 2);
            done[a] = true;
            over++;
            dls_peer_leave(r.c.peer[a]);
        }
        CHECK_INT(over, n);
        ring_close(&r);
    }
}
static void coll_tests(void) {
    RUN(coll_bounds);
    RUN(coll_sums_and_maxima);
    RUN(coll_in_small_pieces);
    RUN(coll_large);
    RUN(coll_peer_lost);
    RUN(coll_leave_after_the_end);
}
