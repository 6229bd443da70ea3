/* The engine: hello and roster, heartbeats and silence by virtual time, messages in any chunking,
   drops, breaks and goodbyes. No clock, no thread, no socket, no allocation. */

static bool next_event(dls_peer *p, dls_peer_event *e) {
    memset(e, 0, sizeof *e);
    return dls_peer_next_event(p, e);
}
#define CHECK_EVENT(peer_, type_, rank_, status_)                                                  \
    do {                                                                                           \
        dls_peer_event test_e;                                                                     \
        CHECK(next_event((peer_), &test_e));                                                       \
        CHECK_INT(test_e.type, (type_));                                                           \
        CHECK_INT(test_e.rank, (rank_));                                                           \
        CHECK_STATUS(test_e.status, (status_));                                                    \
    } while (0)
#define CHECK_NO_EVENT(peer_)                                                                      \
    do {                                                                                           \
        dls_peer_event test_e;                                                                     \
        CHECK(!next_event((peer_), &test_e));                                                      \
    } while (0)
static dls_status op_wait(dls_peer *p, int32_t op) { /* -1: under way */
    dls_status st;
    return dls_peer_op_done(p, op, &st) ? st : (dls_status)-1;
}
#define UNDER_WAY ((dls_status)-1)

static void test_engine_desc_bounds(void) {
    dls_peer_desc d = cluster_desc(0, 2);
    unsigned char *mem = (unsigned char *)malloc(dls_peer_size(&d));
    const size_t bytes = dls_peer_size(&d);
    dls_peer *p = NULL;
    int i;
    for (i = 0; i < 7; i++) {
        d = cluster_desc(0, 2);
        if (i == 0) d.rank = 2;
        if (i == 1) d.rank = -1;
        if (i == 2) d.size = 0;
        if (i == 3) d.size = 1025;
        if (i == 4) d.ops_max = -1;
        if (i == 5) d.ops_max = 65537;
        if (i == 6) d.size = INT32_MAX;
        CHECK_INT(dls_peer_size(&d), 0);
        CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_ARG);
        CHECK(p == NULL);
    }
    free(mem);
}

/* Engine 1 calls engine 0, byte by byte. */
static void test_engine_hello_byte_by_byte(void) {
    cluster c;
    cluster_open(&c, 2, 1, false);
    cluster_join(&c, 0, 1);
    CHECK_INT(dls_peer_up(c.peer[0]), 1);
    CHECK(strcmp(dls_peer_name(c.peer[0], 1), "") == 0);
    CHECK(strcmp(dls_peer_name(c.peer[0], 2), "") == 0 && !dls_peer_is_up(c.peer[0], -1));
    cluster_pump(&c, 1);
    CHECK_EVENT(c.peer[0], DLS_PEER_UP, 1, DLS_OK);
    CHECK_EVENT(c.peer[1], DLS_PEER_UP, 0, DLS_OK);
    CHECK_NO_EVENT(c.peer[0]);
    CHECK(strcmp(dls_peer_name(c.peer[0], 1), "ben") == 0);
    CHECK(strcmp(dls_peer_name(c.peer[1], 0), "ada") == 0);
    CHECK(dls_peer_is_up(c.peer[0], 1) && dls_peer_is_up(c.peer[1], 0));
    cluster_close(&c);
}
/* The bytes engine `rank` of n says first. */
static void hello_stream(const dls_peer_desc *d, unsigned char *to, size_t *size) {
    unsigned char *mem;
    size_t bytes, part;
    dls_peer *p = engine_make(d, &mem, &bytes);
    const int32_t link = dls_peer_link_open(p, -1, 0);
    const void *from = dls_peer_tx_span(p, link, &part);
    memcpy(to, from, part);
    *size = part;
    engine_free(mem, bytes);
}
static void test_engine_hello_truncated(void) {
    const dls_peer_desc me = cluster_desc(0, 3), other = cluster_desc(2, 3);
    unsigned char hello[256];
    size_t size, cut, taken;
    hello_stream(&other, hello, &size);
    CHECK_INT(size, DLS_FRAME_HEAD + DLS_HELLO_BYTES);
    for (cut = 0; cut <= size; cut++) {
        unsigned char *mem;
        size_t bytes;
        dls_peer *p = engine_make(&me, &mem, &bytes);
        const int32_t link = dls_peer_link_open(p, -1, 0);
        CHECK_STATUS(dls_peer_rx(p, link, hello, cut, &taken, 1), DLS_OK);
        CHECK_INT(taken, cut);
        CHECK_INT(dls_peer_up(p), cut == size ? 2 : 1);
        dls_peer_link_close(p, link, 2);
        if (cut == size) CHECK_EVENT(p, DLS_PEER_UP, 2, DLS_OK);
        if (cut == size) CHECK_EVENT(p, DLS_PEER_LOST, 2, DLS_E_PEER);
        CHECK_NO_EVENT(p);
        CHECK_INT(dls_peer_link_open(p, -1, 3), link); /* the place is free again */
        engine_free(mem, bytes);
    }
}
/* We call rank 2: each flipped bit of its hello ends the link or leaves rank 2 at its other end. */
static void test_engine_hello_bit_flips(void) {
    const dls_peer_desc me = cluster_desc(0, 3), other = cluster_desc(2, 3);
    unsigned char hello[256];
    size_t size, taken, bit;
    long ups = 0;
    hello_stream(&other, hello, &size);
    for (bit = 0; bit < size * 8; bit++) {
        unsigned char *mem;
        size_t bytes;
        dls_peer *p = engine_make(&me, &mem, &bytes);
        const int32_t link = dls_peer_link_open(p, 2, 0);
        dls_status st;
        hello[bit / 8] ^= (unsigned char)(1 << bit % 8);
        st = dls_peer_rx(p, link, hello, size, &taken, 1);
        hello[bit / 8] ^= (unsigned char)(1 << bit % 8);
        CHECK(dls_peer_is_up(p, 2) == (st == DLS_OK));
        CHECK(dls_peer_link_done(p, link) == (st != DLS_OK));
        CHECK(!dls_peer_is_up(p, 1));
        ups += st == DLS_OK;
        engine_free(mem, bytes);
    }
    CHECK(ups >= 16 && ups < 16 + 20 * 8); /* the minor version and letters of the name */
}
/* Hellos that are well formed and wrong. */
static dls_status hello_says(dls_peer *p, int32_t link, const dls_hello *h) {
    unsigned char bytes[DLS_FRAME_HEAD + DLS_HELLO_BYTES];
    const dls_frame f = {DLS_FRAME_HELLO, 0, DLS_HELLO_BYTES, 0};
    size_t taken;
    dls_frame_write(&f, bytes);
    dls_hello_write(h, bytes + DLS_FRAME_HEAD);
    return dls_peer_rx(p, link, bytes, sizeof bytes, &taken, 1);
}
static void test_engine_wrong_hellos(void) {
    static const dls_status want[] = {DLS_E_REFUSED,  DLS_E_REFUSED,  DLS_E_REFUSED,
                                      DLS_E_REFUSED,  DLS_E_MISMATCH, DLS_E_MISMATCH,
                                      DLS_E_MISMATCH, DLS_E_VERSION,  DLS_OK};
    const dls_peer_desc me = cluster_desc(0, 3);
    int i;
    for (i = 0; i < 9; i++) {
        unsigned char *mem;
        size_t bytes;
        dls_peer *p = engine_make(&me, &mem, &bytes);
        const int32_t link = dls_peer_link_open(p, 1, 0); /* we called rank 1 */
        dls_hello h = wire_hello();
        h.group = 77;
        if (i == 0) h.rank = 0;           /* it is me */
        if (i == 1) h.rank = 2;           /* another than we called */
        if (i == 2) h.rank = 3;           /* past the roster */
        if (i == 3) h.rank = 0xFFFFFFFFu; /* -1 to the careless */
        if (i == 4) h.size = 4;
        if (i == 5) h.group = 78;
        if (i == 6) h.real_bytes = 8;
        if (i == 7) h.major = DLS_VERSION_MAJOR + 1;
        if (i == 8) h.minor = 999; /* fine */
        CHECK_STATUS(hello_says(p, link, &h), want[i]);
        CHECK(dls_peer_link_done(p, link) == (want[i] != DLS_OK));
        CHECK_INT(dls_peer_up(p), want[i] == DLS_OK ? 2 : 1);
        if (want[i] != DLS_OK) CHECK_NO_EVENT(p);
        engine_free(mem, bytes);
    }
}
static void test_engine_duplicate_connection(void) {
    static const char text[] = "still here";
    cluster c;
    char got[sizeof text];
    dls_hello h = wire_hello();
    int32_t second, send, recv;
    h.rank = 1;
    h.size = 2;
    h.group = 77;
    cluster_open(&c, 2, 2, true);
    second = dls_peer_link_open(c.peer[0], -1, c.now);
    CHECK_STATUS(hello_says(c.peer[0], second, &h), DLS_E_REFUSED);
    CHECK(dls_peer_link_done(c.peer[0], second));
    dls_peer_link_close(c.peer[0], second, c.now);
    CHECK_NO_EVENT(c.peer[0]);
    CHECK(dls_peer_is_up(c.peer[0], 1));
    recv = dls_peer_recv(c.peer[1], 0, 5, got, sizeof got);
    send = dls_peer_send(c.peer[0], 1, 5, text, sizeof text);
    cluster_pump(&c, 7);
    CHECK_STATUS(op_wait(c.peer[0], send), DLS_OK);
    CHECK_STATUS(op_wait(c.peer[1], recv), DLS_OK);
    CHECK(strcmp(got, text) == 0);
    cluster_close(&c);
}
static void test_engine_frames_before_hello(void) {
    static const uint32_t types[] = {DLS_FRAME_PING, DLS_FRAME_DATA, DLS_FRAME_BYE};
    const dls_peer_desc me = cluster_desc(0, 2);
    size_t i, taken;
    for (i = 0; i < 3; i++) {
        unsigned char *mem, head[DLS_FRAME_HEAD];
        size_t bytes;
        dls_peer *p = engine_make(&me, &mem, &bytes);
        const int32_t link = dls_peer_link_open(p, -1, 0);
        dls_frame f = {0, 0, 0, 0};
        f.type = types[i];
        f.flags = f.type == DLS_FRAME_DATA ? 3 : 0;
        dls_frame_write(&f, head);
        CHECK_STATUS(dls_peer_rx(p, link, head, sizeof head, &taken, 1), DLS_E_REFUSED);
        CHECK(dls_peer_link_done(p, link));
        CHECK_NO_EVENT(p);
        engine_free(mem, bytes);
    }
}
static void test_engine_second_hello(void) {
    cluster c;
    dls_hello h = wire_hello();
    h.size = 2;
    h.group = 77;
    cluster_open(&c, 2, 3, true);
    CHECK_STATUS(hello_says(c.peer[0], c.link[0][1], &h), DLS_E_REFUSED);
    CHECK_EVENT(c.peer[0], DLS_PEER_LOST, 1, DLS_E_REFUSED);
    cluster_close(&c);
}
/* Bytes read straight to where the engine wants them, as the TCP driver does. */
static void test_engine_reads_in_place(void) {
    const dls_peer_desc me = cluster_desc(0, 3), other = cluster_desc(2, 3);
    unsigned char hello[256], *mem;
    size_t size, bytes, at = 0, room, n;
    dls_peer *p = engine_make(&me, &mem, &bytes);
    const int32_t link = dls_peer_link_open(p, -1, 0);
    hello_stream(&other, hello, &size);
    while (at < size) {
        void *span = dls_peer_rx_span(p, link, &room);
        CHECK(span != NULL && room > 0);
        if (span == NULL || room == 0) break;
        n = room < size - at ? room : size - at;
        if (n > 7) n = 7;
        memcpy(span, hello + at, n);
        CHECK_STATUS(dls_peer_rx_done(p, link, n, 1), DLS_OK);
        at += n;
    }
    CHECK_INT(at, size);
    CHECK_EVENT(p, DLS_PEER_UP, 2, DLS_OK);
    CHECK_STATUS(dls_peer_rx_done(p, 99, 1, 1), DLS_OK); /* no such link: nothing happens */
    engine_free(mem, bytes);
}
static void test_engine_link_numbers(void) {
    const dls_peer_desc me = cluster_desc(0, 3);
    unsigned char *mem;
    size_t bytes, size = 9, taken = 9;
    dls_peer *p = engine_make(&me, &mem, &bytes);
    int32_t i, n = 0;
    CHECK_INT(dls_peer_link_open(p, 3, 0), -1);
    while (n < 1000 && dls_peer_link_open(p, -1, 0) >= 0) n++;
    CHECK_INT(n, 7); /* one per rank, and four strangers */
    dls_peer_link_close(p, 3, 0);
    for (i = 3; i < 100; i += 97 - 3) { /* closed, and out of range */
        CHECK(dls_peer_rx_span(p, i, &size) == NULL && size == 0);
        CHECK(dls_peer_tx_span(p, i, &size) == NULL && size == 0);
        CHECK_STATUS(dls_peer_rx(p, i, "abc", 3, &taken, 0), DLS_OK);
        CHECK_INT(taken, 0);
        dls_peer_tx_done(p, i, 1, 0);
        CHECK(!dls_peer_link_done(p, i));
        dls_peer_link_close(p, i, 0);
    }
    CHECK_INT(dls_peer_link_open(p, 1, 0), 3);
    engine_free(mem, bytes);
}

/* ---- Time ---- */

/* Idle for 1 s of virtual time, woken only at deadlines: a ping per heartbeat, nobody lost. */
static void test_engine_heartbeats(void) {
    cluster c;
    int wakes = 0, pings = 0;
    size_t size;
    cluster_open(&c, 2, 4, true);
    while (c.now < 6000000) {
        const uint64_t a = dls_peer_deadline(c.peer[0]), b = dls_peer_deadline(c.peer[1]);
        const uint64_t soon = a < b ? a : b;
        CHECK(soon > c.now);
        if (soon <= c.now || ++wakes > 100000) break;
        cluster_tick(&c, soon - c.now);
        (void)dls_peer_tx_span(c.peer[0], c.link[0][1], &size);
        pings += size == DLS_FRAME_HEAD;
        CHECK(size == 0 || size == DLS_FRAME_HEAD);
        cluster_pump(&c, 40);
    }
    CHECK_INT(pings, 1000);
    CHECK_INT(dls_peer_up(c.peer[0]), 2);
    CHECK_NO_EVENT(c.peer[0]);
    cluster_close(&c);
}
/* From 0 to 1 bytes vanish: 1 loses 0 when timeout_us have passed since the last byte, not before;
   its ops fail. 0 then sees the stream close. */
static void test_engine_silence(void) {
    cluster c;
    static char buf[5000]; /* more than the pipe holds */
    int32_t recv, send;
    uint64_t heard;
    cluster_open(&c, 2, 5, true);
    cluster_tick(&c, 1000);
    cluster_pump(&c, 40); /* the last sign of life of 0 */
    heard = c.now;
    c.cut[0][1] = true;
    recv = dls_peer_recv(c.peer[1], 0, 1, buf, sizeof buf);
    send = dls_peer_send(c.peer[1], 0, 2, buf, sizeof buf);
    while (c.now < heard + 10000) {
        cluster_tick(&c, 500);
        cluster_pump(&c, 40);
        CHECK(dls_peer_is_up(c.peer[1], 0));
    }
    CHECK_STATUS(op_wait(c.peer[1], recv), UNDER_WAY);
    CHECK_INT(dls_peer_deadline(c.peer[1]), heard + 10001);
    cluster_tick(&c, 1);
    CHECK(!dls_peer_is_up(c.peer[1], 0));
    CHECK_EVENT(c.peer[1], DLS_PEER_LOST, 0, DLS_E_TIMEOUT);
    CHECK_STATUS(op_wait(c.peer[1], recv), DLS_E_PEER);
    CHECK_STATUS(op_wait(c.peer[1], send), DLS_E_PEER);
    CHECK(dls_peer_link_done(c.peer[1], c.link[1][0]));
    CHECK(dls_peer_is_up(c.peer[0], 1));
    cluster_reap(&c);
    CHECK_EVENT(c.peer[0], DLS_PEER_LOST, 1, DLS_E_PEER);
    CHECK_INT(dls_peer_deadline(c.peer[0]), -1); /* nothing to wait for */
    cluster_close(&c);
}
/* A message nobody asks for holds its link; that is our doing and not the sender's death. */
static void test_engine_held_link_is_not_silent(void) {
    cluster c;
    unsigned char big[5000], got[5000];
    int32_t send, recv, i;
    memset(big, 7, sizeof big);
    cluster_open(&c, 2, 6, true);
    send = dls_peer_send(c.peer[0], 1, 1, big, sizeof big);
    for (i = 0; i < 100; i++) {
        cluster_tick(&c, 1000);
        cluster_pump(&c, 300);
    }
    CHECK(dls_peer_is_up(c.peer[1], 0) && dls_peer_is_up(c.peer[0], 1));
    CHECK_STATUS(op_wait(c.peer[0], send), UNDER_WAY);
    recv = dls_peer_recv(c.peer[1], 0, 1, got, sizeof got);
    cluster_pump(&c, 300);
    CHECK_STATUS(op_wait(c.peer[0], send), DLS_OK);
    CHECK_STATUS(op_wait(c.peer[1], recv), DLS_OK);
    CHECK(memcmp(got, big, sizeof big) == 0);
    cluster_close(&c);
}
static void test_engine_clock_jumps(void) {
    cluster c;
    int i;
    cluster_open(&c, 2, 7, true);
    for (i = 0; i < 200; i++) {
        c.now -= below(&c.rng, 3) == 0 ? 4000 : 0;
        cluster_tick(&c, 500);
        cluster_pump(&c, 64);
    }
    c.now = 0; /* all the way back */
    for (i = 0; i < 200; i++) {
        cluster_tick(&c, 500);
        cluster_pump(&c, 64);
    }
    CHECK_INT(dls_peer_up(c.peer[0]) + dls_peer_up(c.peer[1]), 4);
    CHECK_NO_EVENT(c.peer[0]);
    c.now = UINT64_MAX - 5000; /* and to the end of time */
    for (i = 0; i < 3; i++) {
        CHECK(dls_peer_deadline(c.peer[0]) <= UINT64_MAX);
        cluster_tick(&c, 1000);
    }
    CHECK_EVENT(c.peer[0], DLS_PEER_LOST, 1, DLS_E_TIMEOUT);
    cluster_close(&c);
}
/* "Never" as a timeout must not become "at once" by overflow. */
static void test_engine_endless_timeout(void) {
    dls_peer_desc d = cluster_desc(0, 2);
    const dls_peer_desc other = cluster_desc(1, 2);
    unsigned char *mem, hello[256];
    size_t bytes, size, taken;
    dls_peer *p;
    int32_t link;
    d.timeout_us = d.heartbeat_us = UINT64_MAX;
    p = engine_make(&d, &mem, &bytes);
    hello_stream(&other, hello, &size);
    link = dls_peer_link_open(p, -1, 1000);
    CHECK(dls_peer_deadline(p) > 1000000);
    CHECK_STATUS(dls_peer_rx(p, link, hello, size, &taken, 2000), DLS_OK);
    CHECK(dls_peer_deadline(p) > 1000000);
    dls_peer_tick(p, UINT64_MAX - 5);
    CHECK(dls_peer_is_up(p, 1));
    engine_free(mem, bytes);
}
/* A stranger has timeout_us for its hello, however it trickles. */
static void test_engine_slow_stranger(void) {
    const dls_peer_desc me = cluster_desc(0, 2), other = cluster_desc(1, 2);
    unsigned char *mem, hello[256];
    size_t bytes, size, taken, i;
    dls_peer *p = engine_make(&me, &mem, &bytes);
    const int32_t link = dls_peer_link_open(p, -1, 0);
    hello_stream(&other, hello, &size);
    for (i = 0; i < size - 1 && !dls_peer_link_done(p, link); i++) {
        CHECK_STATUS(dls_peer_rx(p, link, hello + i, 1, &taken, i * 2000), DLS_OK);
        dls_peer_tick(p, i * 2000);
    }
    CHECK(dls_peer_link_done(p, link));
    CHECK_INT(i, 7); /* the tick at 12 ms is the first past 10 ms */
    CHECK_NO_EVENT(p);
    engine_free(mem, bytes);
}

/* ---- Events ---- */

static void test_engine_lost_and_back_in_order(void) {
    cluster c;
    cluster_open(&c, 2, 8, true);
    cluster_part(&c, 0, 1);
    cluster_join(&c, 0, 1);
    cluster_pump(&c, 100);
    CHECK(dls_peer_is_up(c.peer[0], 1));
    CHECK_EVENT(c.peer[0], DLS_PEER_LOST, 1, DLS_E_PEER);
    CHECK_EVENT(c.peer[0], DLS_PEER_UP, 1, DLS_OK);
    CHECK_NO_EVENT(c.peer[0]);
    cluster_close(&c);
}
static void test_engine_leave(void) {
    cluster c;
    char buf[16] = "unsent";
    int32_t send, recv;
    cluster_open(&c, 3, 9, true);
    send = dls_peer_send(c.peer[0], 1, 1, buf, sizeof buf);
    recv = dls_peer_recv(c.peer[2], 0, 1, buf, sizeof buf);
    dls_peer_leave(c.peer[0]);
    cluster_pump(&c, 30);
    CHECK_STATUS(op_wait(c.peer[0], send), DLS_E_PEER);
    CHECK_STATUS(op_wait(c.peer[2], recv), DLS_E_PEER);
    CHECK_EVENT(c.peer[1], DLS_PEER_LEFT, 0, DLS_OK);
    CHECK_EVENT(c.peer[2], DLS_PEER_LEFT, 0, DLS_OK);
    CHECK_EVENT(c.peer[0], DLS_PEER_LEFT, 1, DLS_OK);
    CHECK_EVENT(c.peer[0], DLS_PEER_LEFT, 2, DLS_OK);
    CHECK_INT(dls_peer_up(c.peer[0]), 1);
    CHECK_INT(dls_peer_up(c.peer[1]), 2);
    CHECK(dls_peer_is_up(c.peer[1], 2));
    cluster_close(&c);
}

/* ---- Messages ---- */

#define MANY 60
typedef struct message {
    int32_t from, to, send, recv;
    uint32_t tag;
    size_t bytes;
    unsigned char *out, *in;
} message;
/* Messages of 0 to 150000 bytes among three engines, few tags, in pieces of at most `piece` bytes;
   receivers ask early or late. The k-th receive of a (rank, tag) gets the k-th message of it. */
static void messages(uint64_t seed, uint32_t piece, uint32_t most) {
    cluster c;
    static message m[MANY];
    long takes = test_takes;
    int32_t i, sent = 0, asked = 0, done = 0, turn;
    size_t k;
    cluster_open(&c, 3, seed, true);
    for (i = 0; i < MANY; i++) {
        m[i].from = (int32_t)below(&c.rng, 3);
        m[i].to = (m[i].from + 1 + (int32_t)below(&c.rng, 2)) % 3;
        m[i].tag = below(&c.rng, 3);
        m[i].bytes = below(&c.rng, 4) == 0 ? 0 : below(&c.rng, below(&c.rng, 3) == 0 ? most : 90);
        m[i].out = (unsigned char *)malloc(m[i].bytes + 1);
        m[i].in = (unsigned char *)malloc(m[i].bytes + 1);
        for (k = 0; k <= m[i].bytes; k++) m[i].out[k] = (unsigned char)dls_rng_u32(&c.rng);
        m[i].in[m[i].bytes] = 0x5A;
        m[i].send = m[i].recv = -1;
    }
    for (turn = 0; turn < 100000 && done < 2 * MANY; turn++) {
        const uint32_t what = below(&c.rng, 3);
        if (what == 0 && sent < MANY) {
            m[sent].send = dls_peer_send(c.peer[m[sent].from], m[sent].to, m[sent].tag, m[sent].out,
                                         m[sent].bytes);
            sent += m[sent].send >= 0;
        } else if (what == 1 && asked < MANY) {
            m[asked].recv = dls_peer_recv(c.peer[m[asked].to], m[asked].from, m[asked].tag,
                                          m[asked].in, m[asked].bytes);
            asked += m[asked].recv >= 0;
        } else {
            cluster_pump(&c, piece);
        }
        for (i = 0; i < MANY; i++) {
            dls_status st;
            if (m[i].send >= 0 && i < sent && dls_peer_op_done(c.peer[m[i].from], m[i].send, &st)) {
                CHECK_STATUS(st, DLS_OK);
                m[i].send = -2;
                done++;
            }
            if (m[i].recv >= 0 && i < asked && dls_peer_op_done(c.peer[m[i].to], m[i].recv, &st)) {
                CHECK_STATUS(st, DLS_OK);
                CHECK(memcmp(m[i].in, m[i].out, m[i].bytes) == 0 && m[i].in[m[i].bytes] == 0x5A);
                m[i].recv = -2;
                done++;
            }
        }
    }
    CHECK_INT(done, 2 * MANY);
    for (i = 0; i < MANY; i++) {
        free(m[i].out);
        free(m[i].in);
    }
    CHECK_INT(test_takes - takes, 0); /* the engine allocated nothing */
    cluster_close(&c);
}
static void test_engine_messages_bytewise(void) { messages(101, 1, 300); }
static void test_engine_messages_small_pieces(void) {
    uint64_t seed;
    for (seed = 200; seed < 230; seed++) messages(seed, 33, 3000);
}
static void test_engine_messages_of_many_frames(void) {
    uint64_t seed;
    for (seed = 300; seed < 303; seed++) messages(seed, PIPE_BYTES, 200000);
}
/* The header of an empty message arrives before anybody asks for it. */
static void test_engine_empty_message_asked_late(void) {
    cluster c;
    int32_t send, recv;
    cluster_open(&c, 2, 10, true);
    send = dls_peer_send(c.peer[0], 1, 9, NULL, 0);
    cluster_pump(&c, 100);
    CHECK_STATUS(op_wait(c.peer[0], send), DLS_OK);
    recv = dls_peer_recv(c.peer[1], 0, 9, NULL, 0);
    cluster_pump(&c, 100);
    CHECK_STATUS(op_wait(c.peer[1], recv), DLS_OK);
    CHECK_INT(dls_peer_up(c.peer[1]), 2);
    cluster_close(&c);
}
/* Sender and receiver must mean the same length: the link ends, neither is left waiting. */
static void test_engine_lengths_disagree(void) {
    static const size_t lengths[][2] = {{10, 9},        {9, 10},        {0, 1},      {1, 0},
                                        {65536, 65537}, {65537, 65536}, {131072, 1}, {1, 131072}};
    static unsigned char out[140000], in[140000];
    size_t i;
    int late;
    for (i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (late = 0; late < 2; late++) {
            cluster c;
            int32_t send, recv = -1;
            cluster_open(&c, 3, 11 + i, true);
            memset(in, 0xC3, sizeof in);
            if (!late) recv = dls_peer_recv(c.peer[1], 0, 9, in, lengths[i][1]);
            send = dls_peer_send(c.peer[0], 1, 9, out, lengths[i][0]);
            cluster_pump(&c, PIPE_BYTES);
            if (late) recv = dls_peer_recv(c.peer[1], 0, 9, in, lengths[i][1]);
            cluster_pump(&c, PIPE_BYTES);
            CHECK_STATUS(op_wait(c.peer[1], recv), DLS_E_PEER);
            CHECK(op_wait(c.peer[0], send) != UNDER_WAY); /* sent, as far as it knows, or failed */
            CHECK_EVENT(c.peer[1], DLS_PEER_LOST, 0, DLS_E_FORMAT);
            CHECK_EVENT(c.peer[0], DLS_PEER_LOST, 1, DLS_E_PEER);
            CHECK(dls_peer_is_up(c.peer[1], 2)); /* others go on */
            CHECK_INT(in[lengths[i][1]], 0xC3);
            cluster_close(&c);
        }
}
static void test_engine_op_limits(void) {
    cluster c;
    char b[4];
    int32_t i, op = 0;
    cluster_open(&c, 2, 12, true);
    for (i = 0; i < 32; i++) CHECK((op = dls_peer_recv(c.peer[0], 1, (uint32_t)i, b, 4)) >= 0);
    CHECK_INT(dls_peer_recv(c.peer[0], 1, 99, b, 4), -1);
    CHECK_INT(dls_peer_send(c.peer[0], 1, 99, b, 4), -1);
    dls_peer_op_drop(c.peer[0], op);
    dls_peer_op_drop(c.peer[0], -1);
    dls_peer_op_drop(c.peer[0], 32);
    op = dls_peer_send(c.peer[0], 0, 1, b, 4); /* to myself */
    CHECK_STATUS(op_wait(c.peer[0], op), DLS_E_PEER);
    CHECK_STATUS(op_wait(c.peer[0], op), DLS_E_ARG); /* free by now */
    op = dls_peer_send(c.peer[0], 2, 1, b, 4);
    CHECK_STATUS(op_wait(c.peer[0], op), DLS_E_PEER);
    op = dls_peer_recv(c.peer[0], -1, 1, b, 4);
    CHECK_STATUS(op_wait(c.peer[0], op), DLS_E_PEER);
    CHECK_STATUS(op_wait(c.peer[0], 4711), DLS_E_ARG);
    CHECK_STATUS(op_wait(c.peer[0], -1), DLS_E_ARG);
    CHECK_INT(dls_peer_up(c.peer[0]), 2);
    cluster_close(&c);
}
/* A send is dropped after k bytes of it have left. Either the link ends, or the next message comes
   whole; the other side never sees a damaged stream. */
static void test_engine_drop_send_anywhere(void) {
    static const char next[] = "next";
    unsigned char out[24], in[24];
    char got[sizeof next];
    size_t k;
    int32_t ends = 0, lives = 0;
    memset(out, 1, sizeof out);
    for (k = 0; k < DLS_FRAME_HEAD + sizeof out; k++) {
        cluster c;
        int32_t first, second, ask, op;
        size_t left = k;
        cluster_open(&c, 2, 13, true);
        ask = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
        op = dls_peer_recv(c.peer[1], 0, 2, got, sizeof got);
        first = dls_peer_send(c.peer[0], 1, 1, out, sizeof out);
        { /* look, as drivers do, but write nothing yet */
            size_t size;
            (void)dls_peer_tx_span(c.peer[0], c.link[0][1], &size);
        }
        while (left > 0) left -= cluster_move(&c, 0, 1, left, true);
        while (cluster_move(&c, 0, 1, 100, false) > 0) {}
        dls_peer_op_drop(c.peer[0], first);
        second = dls_peer_send(c.peer[0], 1, 2, next, sizeof next);
        cluster_pump(&c, 5);
        CHECK_STATUS(c.rx_status[0][1], DLS_OK);
        if (dls_peer_is_up(c.peer[1], 0)) {
            CHECK_STATUS(op_wait(c.peer[0], second), DLS_OK);
            CHECK_STATUS(op_wait(c.peer[1], op), DLS_OK);
            CHECK(strcmp(got, next) == 0);
            lives++;
        } else {
            CHECK_STATUS(op_wait(c.peer[0], second), DLS_E_PEER);
            CHECK_STATUS(op_wait(c.peer[1], op), DLS_E_PEER);
            CHECK_STATUS(op_wait(c.peer[1], ask), DLS_E_PEER);
            ends++;
        }
        cluster_close(&c);
    }
    CHECK_INT(lives, 1); /* only while nothing had left */
    CHECK_INT(ends, k - 1);
}
/* A receive is dropped after k bytes have come: its memory is not touched any more, also when we
   are leaving. */
static void test_engine_drop_recv_anywhere(void) {
    unsigned char out[24], in[24];
    size_t k, i, bad;
    int leaving;
    memset(out, 1, sizeof out);
    for (leaving = 0; leaving < 2; leaving++)
        for (k = 0; k <= DLS_FRAME_HEAD + sizeof out; k++) {
            cluster c;
            int32_t send, recv;
            size_t left = k;
            cluster_open(&c, 2, 14, true);
            recv = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
            send = dls_peer_send(c.peer[0], 1, 1, out, sizeof out);
            while (left > 0) left -= cluster_move(&c, 0, 1, left, true);
            while (cluster_move(&c, 0, 1, 100, false) > 0) {}
            if (leaving) dls_peer_leave(c.peer[1]);
            dls_peer_op_drop(c.peer[1], recv);
            memset(in, 0xC3, sizeof in);
            cluster_pump(&c, 5);
            for (i = 0, bad = 0; i < sizeof in; i++) bad += in[i] != 0xC3;
            CHECK_INT(bad, 0);
            if (k > DLS_FRAME_HEAD && k < DLS_FRAME_HEAD + sizeof out) {
                CHECK(!dls_peer_is_up(c.peer[1], 0));
                CHECK(op_wait(c.peer[0], send) != UNDER_WAY);
            }
            cluster_close(&c);
        }
}
/* Dropped between two frames of one message: the rest of it has nobody to go to. */
static void test_engine_drop_recv_between_frames(void) {
    static unsigned char out[DLS_FRAME_MOST + 1000], in[DLS_FRAME_MOST + 1000];
    cluster c;
    int32_t send, recv;
    size_t left = DLS_FRAME_HEAD + DLS_FRAME_MOST;
    cluster_open(&c, 2, 15, true);
    recv = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
    send = dls_peer_send(c.peer[0], 1, 1, out, sizeof out);
    while (left > 0) {
        left -= cluster_move(&c, 0, 1, left, true);
        while (cluster_move(&c, 0, 1, PIPE_BYTES, false) > 0) {}
    }
    dls_peer_op_drop(c.peer[1], recv);
    cluster_pump(&c, PIPE_BYTES);
    CHECK(!dls_peer_is_up(c.peer[1], 0));
    CHECK_STATUS(op_wait(c.peer[0], send), DLS_E_PEER);
    cluster_close(&c);
}
/* The stream breaks after k bytes of a transfer: both sides' ops fail; a new stream serves. */
static void test_engine_break_and_rejoin_anywhere(void) {
    unsigned char out[40], in[40];
    size_t k;
    for (k = 0; k < 2 * DLS_FRAME_HEAD + sizeof out; k++) {
        cluster c;
        int32_t send, recv, other;
        size_t left = k;
        cluster_open(&c, 3, 16, true);
        memset(out, (int)k, sizeof out);
        send = dls_peer_send(c.peer[0], 1, 1, out, sizeof out);
        recv = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
        other = dls_peer_recv(c.peer[1], 2, 1, in, 1);
        while (left > 0) {
            const size_t moved = cluster_move(&c, 0, 1, left, true);
            while (cluster_move(&c, 0, 1, 100, false) > 0) {}
            if (moved == 0) break;
            left -= moved;
        }
        cluster_part(&c, 0, 1);
        CHECK_STATUS(op_wait(c.peer[1], recv),
                     k >= DLS_FRAME_HEAD + sizeof out ? DLS_OK : DLS_E_PEER);
        CHECK_STATUS(op_wait(c.peer[0], send),
                     k >= DLS_FRAME_HEAD + sizeof out ? DLS_OK : DLS_E_PEER);
        CHECK_EVENT(c.peer[0], DLS_PEER_LOST, 1, DLS_E_PEER);
        CHECK_EVENT(c.peer[1], DLS_PEER_LOST, 0, DLS_E_PEER);
        CHECK_STATUS(op_wait(c.peer[1], other), UNDER_WAY);
        dls_peer_op_drop(c.peer[1], other);
        cluster_join(&c, 0, 1);
        recv = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
        CHECK_STATUS(op_wait(c.peer[1], recv), DLS_E_PEER); /* not up yet */
        cluster_pump(&c, 50);
        memset(in, 0, sizeof in);
        recv = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
        send = dls_peer_send(c.peer[0], 1, 1, out, sizeof out);
        cluster_pump(&c, 50);
        CHECK_STATUS(op_wait(c.peer[1], recv), DLS_OK);
        CHECK_STATUS(op_wait(c.peer[0], send), DLS_OK);
        CHECK(memcmp(in, out, sizeof in) == 0);
        cluster_close(&c);
    }
}

static void engine_tests(void) {
    RUN(engine_desc_bounds);
    RUN(engine_hello_byte_by_byte);
    RUN(engine_hello_truncated);
    RUN(engine_hello_bit_flips);
    RUN(engine_wrong_hellos);
    RUN(engine_duplicate_connection);
    RUN(engine_frames_before_hello);
    RUN(engine_second_hello);
    RUN(engine_reads_in_place);
    RUN(engine_link_numbers);
    RUN(engine_heartbeats);
    RUN(engine_silence);
    RUN(engine_held_link_is_not_silent);
    RUN(engine_clock_jumps);
    RUN(engine_endless_timeout);
    RUN(engine_slow_stranger);
    RUN(engine_lost_and_back_in_order);
    RUN(engine_leave);
    RUN(engine_messages_bytewise);
    RUN(engine_messages_small_pieces);
    RUN(engine_messages_of_many_frames);
    RUN(engine_empty_message_asked_late);
    RUN(engine_lengths_disagree);
    RUN(engine_op_limits);
    RUN(engine_drop_send_anywhere);
    RUN(engine_drop_recv_anywhere);
    RUN(engine_drop_recv_between_frames);
    RUN(engine_break_and_rejoin_anywhere);
}
