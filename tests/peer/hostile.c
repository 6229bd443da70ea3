/* Streams from somebody who means harm or is broken: random bytes, and well-made frames with
   nonsense in their fields. The engine ends the link with a status, stays within its memory (the
   canaries), allocates nothing, and serves its other links. */

/* One frame with a right checksum and fields by chance, then some body; returns its bytes. */
static size_t hostile_frame(dls_rng *rng, unsigned char *to, size_t most) {
    static const uint32_t lengths[] = {0,   1,     2,           15,       16,      47,          48,
                                       49,  65535, 65536,       65537,    131072,  0x7FFFFFFFu, 80,
                                       100, 0,     0xFFFFFFFFu, 1u << 16, 1u << 31};
    dls_frame f;
    size_t body, i;
    f.type = below(rng, 8) == 0 ? below(rng, 256) : 1 + below(rng, 4);
    f.flags = below(rng, 6) == 0 ? dls_rng_u32(rng) & 0xFFFFu : below(rng, 4);
    f.bytes = lengths[below(rng, sizeof lengths / sizeof *lengths)];
    if (below(rng, 3) == 0) f.bytes = f.type == DLS_FRAME_HELLO ? DLS_HELLO_BYTES : 0;
    f.tag = below(rng, 4);
    if (f.type != DLS_FRAME_DATA && below(rng, 4) > 0) f.flags = 0;
    dls_frame_write(&f, to);
    body = below(rng, 3) == 0 ? below(rng, 200) : f.bytes;
    if (body > most - DLS_FRAME_HEAD) body = most - DLS_FRAME_HEAD;
    for (i = 0; i < body; i++) to[DLS_FRAME_HEAD + i] = (unsigned char)dls_rng_u32(rng);
    if (f.type == DLS_FRAME_HELLO && body >= DLS_HELLO_BYTES && below(rng, 4) > 0) {
        dls_hello h = wire_hello(); /* often one that could pass */
        h.group = 77;
        h.size = 2 + below(rng, 3);
        h.rank = below(rng, 5);
        dls_hello_write(&h, to + DLS_FRAME_HEAD);
    }
    return DLS_FRAME_HEAD + body;
}
static void test_hostile_random_bytes(void) {
    int i, ended = 0;
    const long takes = test_takes;
    for (i = 0; i < 3000; i++) {
        const dls_peer_desc me = cluster_desc(0, 3), other = cluster_desc(1, 3);
        unsigned char *mem, noise[300], hello[256];
        size_t bytes, size, at = 0, taken, k;
        dls_peer *p = engine_make(&me, &mem, &bytes);
        const int32_t link = dls_peer_link_open(p, -1, 0);
        dls_rng rng = {(uint64_t)i, 0};
        dls_status st = DLS_OK;
        for (k = 0; k < sizeof noise; k++) noise[k] = (unsigned char)dls_rng_u32(&rng);
        if (i % 2 == 0) { /* introduces itself well, then raves */
            hello_stream(&other, hello, &size);
            CHECK_STATUS(dls_peer_rx(p, link, hello, size, &taken, 1), DLS_OK);
        }
        while (at < sizeof noise && st == DLS_OK) {
            size_t n = 1 + below(&rng, 40);
            if (n > sizeof noise - at) n = sizeof noise - at;
            st = dls_peer_rx(p, link, noise + at, n, &taken, 2);
            at += taken;
            if (st == DLS_OK && taken < n) break;
        }
        CHECK_STATUS(st, DLS_E_CHECKSUM);
        CHECK_INT(at <= 40 + DLS_FRAME_HEAD, 1);
        ended += dls_peer_link_done(p, link);
        CHECK_INT(dls_peer_up(p), 1);
        engine_free(mem, bytes);
    }
    CHECK_INT(ended, 3000);
    CHECK_INT(test_takes - takes, 0);
}
/* Frames by chance at an engine with receives open, beside a good link that must stay good. */
static void test_hostile_frames(void) {
    static unsigned char stream[70000], in[4][80000];
    const long takes = test_takes;
    long seen[DLS_STATUS_COUNT] = {0}, lost = 0;
    int i;
    for (i = 0; i < 3000; i++) {
        cluster c;
        dls_rng rng = {(uint64_t)i + 77777, 0};
        dls_status st = DLS_OK;
        int32_t k, link, send, recv;
        char good[6] = "hallo", got[6];
        cluster_open(&c, 3, 20, false);
        cluster_join(&c, 0, 1);
        cluster_pump(&c, 200);
        link = dls_peer_link_open(c.peer[0], i % 3 == 0 ? 2 : -1, c.now);
        if (i % 2 == 0) {
            dls_hello h = wire_hello();
            h.rank = 2;
            h.group = 77;
            CHECK_STATUS(hello_says(c.peer[0], link, &h), DLS_OK);
        }
        for (k = 0; k < 4; k++)
            (void)dls_peer_recv(c.peer[0], 2, (uint32_t)k, in[k], below(&rng, 2) ? 100 : 80000);
        for (k = 0; k < 40 && !dls_peer_link_done(c.peer[0], link); k++) {
            const size_t n = hostile_frame(&rng, stream, sizeof stream);
            size_t at = 0, taken = 1;
            while (at < n && taken > 0 && st == DLS_OK) {
                const size_t piece = 1 + below(&rng, 30000);
                st = dls_peer_rx(c.peer[0], link, stream + at, n - at < piece ? n - at : piece,
                                 &taken, c.now);
                at += taken;
            }
        }
        seen[st]++;
        lost += dls_peer_link_done(c.peer[0], link);
        recv = dls_peer_recv(c.peer[1], 0, 1, got, sizeof got);
        send = dls_peer_send(c.peer[0], 1, 1, good, sizeof good);
        cluster_pump(&c, 100);
        CHECK_STATUS(op_wait(c.peer[0], send), DLS_OK);
        CHECK_STATUS(op_wait(c.peer[1], recv), DLS_OK);
        CHECK(strcmp(good, got) == 0);
        dls_peer_link_close(c.peer[0], link, c.now);
        cluster_close(&c);
    }
    CHECK(seen[DLS_E_FORMAT] > 100 && seen[DLS_E_REFUSED] > 100 && seen[DLS_E_CHECKSUM] > 10);
    CHECK_INT(seen[DLS_OK] + seen[DLS_E_FORMAT] + seen[DLS_E_REFUSED] + seen[DLS_E_CHECKSUM] +
                  seen[DLS_E_MISMATCH] + seen[DLS_E_VERSION],
              3000);
    CHECK(lost > 2000);
    CHECK_INT(test_takes - takes, 0);
}
/* Strangers that only connect take the spare links and no more; members still get in. */
static void test_hostile_strangers_wait(void) {
    const dls_peer_desc me = cluster_desc(0, 3);
    unsigned char *mem;
    size_t bytes;
    dls_peer *p = engine_make(&me, &mem, &bytes);
    dls_hello h = wire_hello();
    int32_t link = -1, i;
    h.group = 77;
    for (i = 0; i < 7; i++) link = dls_peer_link_open(p, -1, 0);
    CHECK_INT(dls_peer_link_open(p, -1, 1), -1);
    CHECK_STATUS(hello_says(p, link, &h), DLS_OK);
    dls_peer_tx_done(p, link, DLS_FRAME_HEAD + DLS_HELLO_BYTES, 5);
    CHECK_INT(dls_peer_deadline(p), 1005); /* heartbeat of the one that is up */
    dls_peer_tick(p, 10000);
    for (i = 0; i < 6; i++) CHECK(!dls_peer_link_done(p, i));
    dls_peer_tick(p, 10002);
    for (i = 0; i < 6; i++) CHECK(dls_peer_link_done(p, i));
    for (i = 0; i < 6; i++) dls_peer_link_close(p, i, 10003);
    CHECK(dls_peer_link_open(p, -1, 10004) >= 0);
    engine_free(mem, bytes);
}

static void hostile_tests(void) {
    RUN(hostile_random_bytes);
    RUN(hostile_frames);
    RUN(hostile_strangers_wait);
}
