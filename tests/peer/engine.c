/* The engine on streams: messages of all kinds through small pipes in random pieces, limits,
   strangers, goodbyes. Plain, and with keys. */

#define UNDER_WAY ((dls_status)-1)
static dls_status op_wait(dls_peer *p, int32_t op) {
    dls_status st;
    return dls_peer_op_done(p, op, &st) ? st : UNDER_WAY;
}
static void cluster_tick(cluster *c, uint64_t us) {
    int32_t i;
    c->now += us;
    for (i = 0; i < c->n; i++) dls_peer_tick(c->peer[i], c->now);
    cluster_reap(c);
}
static int32_t cluster_events(cluster *c, int32_t i, dls_peer_event_type type) {
    dls_peer_event e;
    int32_t n = 0;
    while (dls_peer_next_event(c->peer[i], &e)) n += e.type == type;
    return n;
}
/* Two engines with keys, joined by a stream. */
static void keyed_open(cluster *c, net_keys *k, uint64_t seed, uint32_t small) {
    int32_t i;
    keys_make(k, 2, 0, small);
    memset(c, 0, sizeof *c);
    c->n = 2;
    c->rng.seed = seed;
    c->now = 5000000;
    for (i = 0; i < 2; i++) {
        const dls_peer_desc d = keys_desc(k, i);
        c->peer[i] = engine_make(&d, &c->mem[i], &c->bytes[i]);
        c->link[i][0] = c->link[i][1] = -1;
    }
    cluster_join(c, 0, 1);
    cluster_pump(c, 100);
    CHECK_INT(dls_peer_up(c->peer[0]) + dls_peer_up(c->peer[1]), 4);
    (void)cluster_events(c, 0, DLS_PEER_UP);
    (void)cluster_events(c, 1, DLS_PEER_UP);
}

static void test_engine_desc_bounds(void) {
    dls_peer_desc d = cluster_desc(0, 2);
    const size_t bytes = dls_peer_size(&d);
    unsigned char *mem = (unsigned char *)malloc(bytes);
    dls_peer *p = NULL;
    int i;
    for (i = 0; i < 16; i++) {
        d = cluster_desc(0, 2);
        if (i == 0) d.rank = 2;
        if (i == 1) d.rank = -1;
        if (i == 2) d.size = 0;
        if (i == 3) d.size = 1025;
        if (i == 4) d.ops_max = -1;
        if (i == 5) d.ops_max = 65536;
        if (i == 6) d.size = INT32_MAX;
        if (i == 7) d.window = 3;
        if (i == 8) d.window = 65536;
        if (i == 9) d.window = 2;
        if (i == 10) d.control_bytes = 64;
        if (i == 11) d.sessions_max = 2049;
        if (i == 12) d.ports_max = -2;
        if (i == 13) d.relay_bytes = -1;
        if (i == 14) d.devices_max = 1;
        if (i == 15) d.control_bytes = 65536;
        CHECK_INT(dls_peer_size(&d), 0);
        CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_ARG);
        CHECK(p == NULL);
    }
    d = cluster_desc(0, 2);
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes - 1), DLS_E_MEMORY);
    CHECK_STATUS(dls_peer_init(&p, &d, NULL, bytes), DLS_E_MEMORY);
    d.psk = mem;
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_ARG);
    free(mem);
}
/* What a session costs, without and with packets: tools/size counts the former in the same way. */
static void test_engine_session_bytes(void) {
    dls_peer_desc d = cluster_desc(0, 2), more;
    const dls_addr to = net_addr(1);
    dls_port_desc port;
    unsigned char *mem;
    size_t bytes, own;
    dls_peer *p;
    d.window = 4;
    d.control_bytes = 128;
    d.sessions_max = 64;
    d.ports_max = 4;
    more = d;
    more.sessions_max = 128;
    own = 64 * (sizeof(dlsi_ses) + 4 * sizeof(dls_sent) + 128);
    CHECK_INT(dls_peer_size(&more) - dls_peer_size(&d), own + 64 * sizeof(dlsi_reach));
    d.no_packets = more.no_packets = true;
    CHECK_INT(dls_peer_size(&more) - dls_peer_size(&d), own);
    p = engine_make(&d, &mem, &bytes);
    memset(&port, 0, sizeof port);
    port.kind = DLS_PORT_PACKET;
    port.mtu = 128;
    CHECK_INT(dls_peer_port_open(p, &port, 0), -1);
    dls_peer_call(p, 1, 0, &to, 0);
    dls_peer_close(p);
    free(mem);
}
static void test_engine_desc_keys(void) {
    static net_keys k;
    dls_peer_desc d;
    dls_peer *p;
    size_t bytes;
    unsigned char *mem;
    keys_make(&k, 3, 0, 4);
    d = keys_desc(&k, 0);
    bytes = dls_peer_size(&d);
    mem = (unsigned char *)malloc(bytes);
    d.id = 11;
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_NOT_FOUND);
    d = keys_desc(&k, 0);
    d.secret = NULL;
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_ARG);
    d.secret = k.secret[1];
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_MISMATCH);
    k.device[0].flags = DLS_DEVICE_REVOKED;
    d = keys_desc(&k, 0);
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_REFUSED);
    d = keys_desc(&k, 2);
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_OK);
    CHECK(dls_peer_count(p) == 3 && dls_peer_rank_of(p, 20) == 1 && dls_peer_rank_of(p, 5) == -1);
    CHECK(strcmp(dls_peer_name(p, 1), "dev1") == 0 && strcmp(dls_peer_name(p, 3), "") == 0);
    CHECK_STATUS(dls_peer_why(p, 3), DLS_E_ARG);
    dls_peer_close(p);
    free(mem);
}
static void test_engine_ports(void) {
    unsigned char *mem, port[DLS_PORT_BYTES(DLS_PORT_STREAM, 128)], *span;
    size_t bytes, size = 9;
    const dls_peer_desc me = cluster_desc(0, 2);
    dls_peer *p = engine_make(&me, &mem, &bytes);
    dls_port_desc good, d;
    const dls_addr to = net_addr(1);
    int32_t i, n = 0;
    memset(&good, 0, sizeof good);
    good.kind = DLS_PORT_STREAM;
    good.mtu = 128;
    good.plain = true;
    good.mem = port;
    good.bytes = sizeof port;
    for (i = 0; i < 9; i++) {
        d = good;
        if (i == 0) d.mtu = 127;
        if (i == 1) d.mtu = 65536;
        if (i == 2) d.kind = (dls_port_kind)0;
        if (i == 3) d.kind = (dls_port_kind)4;
        if (i == 4) d.bytes--;
        if (i == 5) d.mem = NULL;
        if (i >= 6) d.call = true;
        if (i == 6) d.rank = 2;
        if (i == 7) d.rank = -1;
        CHECK_INT(dls_peer_port_open(p, &d, 0), -1); /* 8: myself */
    }
    while (n < 100 && dls_peer_port_open(p, &good, 0) >= 0) n++;
    CHECK_INT(n, 10); /* sessions and four */
    dls_peer_port_close(p, 3, 0);
    for (i = -1; i < 100; i += 4) { /* closed, and out of range: nothing happens */
        if (i >= 0 && i < n && i != 3) continue;
        span = (unsigned char *)dls_peer_rx_span(p, i < 0 || i >= n ? 3 : i, &size);
        CHECK(span == NULL && size == 0);
        CHECK(dls_peer_tx_span(p, i, &size, 0) == NULL && size == 0);
        CHECK_STATUS(dls_peer_rx(p, i, "abc", 3, 0), DLS_E_ARG);
        CHECK_STATUS(dls_peer_rx_done(p, i, 3, 0), DLS_OK);
        dls_peer_tx_done(p, i, 1, 0);
        CHECK(!dls_peer_port_done(p, i));
        dls_peer_port_close(p, i, 0);
        dls_peer_call(p, 1, i, &to, 0);
        CHECK_INT(dls_peer_tx_packet(p, i, NULL, NULL, 0), 0);
        dls_peer_rx_packet(p, i, &to, NULL, 0, 0);
    }
    CHECK_INT(dls_peer_port_open(p, &good, 5), 3);
    CHECK_INT(dls_peer_deadline(p), 10001); /* strangers that say nothing */
    dls_peer_tick(p, 10004);
    CHECK(dls_peer_port_done(p, 0) && !dls_peer_port_done(p, 3));
    CHECK_INT(dls_peer_deadline(p), 10006);
    dls_peer_tick(p, 10006);
    CHECK(dls_peer_port_done(p, 3) && dls_peer_deadline(p) == UINT64_MAX);
    CHECK_STATUS(dls_peer_rx(p, 3, "\1\0\0\0", 4, 0), DLS_OK); /* thrown away */
    engine_free(mem, bytes);
}

/* Random messages both ways, with and without keys. */
static void engine_traffic(cluster *c, uint64_t seed) {
    static unsigned char out[24][3000], in[24][3000];
    int32_t send[24], recv[24], i, k, round;
    c->rng.seed = seed;
    for (round = 0; round < 3; round++) {
        size_t n[24];
        for (i = 0; i < 24; i++) {
            n[i] = below(&c->rng, 3) == 0 ? below(&c->rng, 2) : below(&c->rng, sizeof out[0]);
            for (k = 0; k < (int32_t)n[i]; k++) out[i][k] = (unsigned char)dls_rng_u32(&c->rng);
            send[i] = recv[i] = -1;
        }
        for (k = 0; k < 2; k++) /* receives first, or sends */
            for (i = 0; i < 24; i++) {
                const int32_t from = i & 1;
                if ((k == 0) == (round == 0))
                    send[i] = dls_peer_send(c->peer[from], 1 - from, (uint32_t)i % 3, out[i], n[i]);
                else
                    recv[i] = dls_peer_recv(c->peer[1 - from], from, (uint32_t)i % 3, in[i], n[i]);
                if (send[i] >= 0 && k == 0)
                    dls_peer_op_class(c->peer[from], send[i], (dls_class)(i % 3));
                if (below(&c->rng, 3) == 0) cluster_pump(c, 90);
            }
        cluster_pump(c, 300);
        for (i = 0; i < 24; i++) {
            const int32_t from = i & 1;
            CHECK_STATUS(op_wait(c->peer[from], send[i]), DLS_OK);
            CHECK_STATUS(op_wait(c->peer[1 - from], recv[i]), DLS_OK);
            CHECK(memcmp(in[i], out[i], n[i]) == 0);
        }
    }
}
static void test_engine_messages(void) {
    uint64_t seed;
    for (seed = 1; seed <= 10; seed++) {
        cluster c;
        cluster_open(&c, 2, seed, true);
        engine_traffic(&c, seed);
        cluster_close(&c);
    }
}
static void test_engine_messages_keyed(void) {
    static net_keys k;
    uint64_t seed;
    for (seed = 1; seed <= 6; seed++) {
        cluster c;
        keyed_open(&c, &k, seed, seed % 2 == 0 ? 1 : 0);
        engine_traffic(&c, seed);
        cluster_close(&c);
    }
}
/* An activation posted while a bulk message is on its way is there first. */
static void test_engine_classes(void) {
    static unsigned char bulk[3000000], in[3000000], small[100], got[100];
    static net_keys k;
    cluster c;
    int32_t keyed, a, b, d, e, i;
    for (keyed = 0; keyed < 2; keyed++) {
        if (keyed != 0)
            keyed_open(&c, &k, 3, 0);
        else
            cluster_open(&c, 2, 3, true);
        a = dls_peer_send(c.peer[0], 1, 1, bulk, sizeof bulk);
        dls_peer_op_class(c.peer[0], a, DLS_CLASS_BULK);
        b = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
        for (i = 0; i < 200; i++) {
            (void)cluster_move(&c, 0, 1, 700, true);
            (void)cluster_move(&c, 0, 1, 700, false);
            (void)cluster_move(&c, 1, 0, 700, true);
            (void)cluster_move(&c, 1, 0, 700, false);
        }
        CHECK(dls_peer_op_have(c.peer[1], b) > 1000);
        d = dls_peer_send(c.peer[0], 1, 2, small, sizeof small);
        dls_peer_op_class(c.peer[0], d, DLS_CLASS_ACTIVATION);
        e = dls_peer_recv(c.peer[1], 0, 2, got, sizeof got);
        for (i = 0; i < 6000 && dls_peer_op_have(c.peer[1], e) < sizeof got; i++) {
            (void)cluster_move(&c, 0, 1, 700, true);
            (void)cluster_move(&c, 0, 1, 700, false);
            (void)cluster_move(&c, 1, 0, 700, true);
            (void)cluster_move(&c, 1, 0, 700, false);
        }
        CHECK(dls_peer_op_have(c.peer[1], b) < sizeof in);
        CHECK_STATUS(op_wait(c.peer[1], e), DLS_OK);
        CHECK_STATUS(op_wait(c.peer[1], b), UNDER_WAY);
        cluster_pump(&c, 700);
        CHECK_STATUS(op_wait(c.peer[1], b), DLS_OK);
        CHECK_STATUS(op_wait(c.peer[0], a), DLS_OK);
        CHECK_STATUS(op_wait(c.peer[0], d), DLS_OK);
        cluster_close(&c);
    }
}
/* More receives than a peer keeps wants; sends in the opposite order of tags; ops_max. */
static void test_engine_many(void) {
    cluster c;
    int32_t i, send[32], recv[32];
    uint32_t out[32], in[32];
    cluster_open(&c, 2, 8, true);
    for (i = 0; i < 32; i++) {
        recv[i] = dls_peer_recv(c.peer[1], 0, (uint32_t)(i / 4), &in[i], 4);
        CHECK(recv[i] >= 0);
    }
    CHECK_INT(dls_peer_recv(c.peer[1], 0, 9, in, 4), -1);
    cluster_pump(&c, 300);
    for (i = 0; i < 32; i++) {
        out[i] = (uint32_t)i * 77;
        send[i] = dls_peer_send(c.peer[0], 1, (uint32_t)(i / 4), &out[i], 4);
        CHECK(send[i] >= 0);
    }
    CHECK_INT(dls_peer_send(c.peer[0], 1, 9, out, 4), -1);
    cluster_pump(&c, 300);
    for (i = 0; i < 32; i++) {
        CHECK_STATUS(op_wait(c.peer[0], send[i]), DLS_OK);
        CHECK_STATUS(op_wait(c.peer[1], recv[i]), DLS_OK);
        CHECK_INT(in[i], out[i]);
    }
    CHECK_STATUS(op_wait(c.peer[0], send[0]), DLS_E_ARG); /* free again */
    CHECK_STATUS(op_wait(c.peer[0], -1), DLS_E_ARG);
    dls_peer_op_drop(c.peer[0], 99);
    dls_peer_op_class(c.peer[0], 99, DLS_CLASS_BULK);
    CHECK_INT(dls_peer_op_have(c.peer[0], 99), 0);
    i = dls_peer_recv_from(c.peer[0], 1, 1, in, 4, 5);
    CHECK_STATUS(op_wait(c.peer[0], i), DLS_E_LIMIT);
    i = dls_peer_send(c.peer[0], 0, 1, in, 4); /* to myself */
    CHECK_STATUS(op_wait(c.peer[0], i), DLS_E_PEER);
    cluster_close(&c);
}
static void test_engine_mismatch(void) {
    cluster c;
    unsigned char a[10], b[11];
    int32_t send, recv, order;
    for (order = 0; order < 2; order++) {
        cluster_open(&c, 2, 9, true);
        send = recv = -1;
        if (order == 0) send = dls_peer_send(c.peer[0], 1, 1, a, sizeof a);
        cluster_pump(&c, 300);
        recv = dls_peer_recv(c.peer[1], 0, 1, b, sizeof b);
        cluster_pump(&c, 300);
        if (order == 1) send = dls_peer_send(c.peer[0], 1, 1, a, sizeof a);
        cluster_pump(&c, 300);
        CHECK_STATUS(op_wait(c.peer[0], send), DLS_E_MISMATCH);
        CHECK_STATUS(op_wait(c.peer[1], recv), DLS_E_MISMATCH);
        engine_traffic(&c, 5);
        cluster_close(&c);
    }
}
/* A receive dropped amid a plain chunk: its memory is left alone, the sender's ends, both live on.
   A send dropped there must end the session, since its bytes are promised already. */
static void test_engine_drops(void) {
    static unsigned char out[9000];
    static net_keys k;
    int32_t round;
    for (round = 0; round < 80; round++) {
        cluster c;
        unsigned char *in = (unsigned char *)malloc(sizeof out);
        const bool sender = round % 2 == 0, keyed = round % 4 >= 2;
        int32_t send, recv, i;
        dls_status st;
        if (keyed)
            keyed_open(&c, &k, (uint64_t)round, 0);
        else
            cluster_open(&c, 2, (uint64_t)round, true);
        send = dls_peer_send(c.peer[0], 1, 1, out, sizeof out);
        recv = dls_peer_recv(c.peer[1], 0, 1, in, sizeof out);
        for (i = 0; i < round / 2; i++) {
            (void)cluster_move(&c, 1, 0, 100, true);
            (void)cluster_move(&c, 1, 0, 100, false);
            (void)cluster_move(&c, 0, 1, 300, true);
            (void)cluster_move(&c, 0, 1, 200, false);
        }
        dls_peer_op_drop(c.peer[sender ? 0 : 1], sender ? send : recv);
        if (!sender) free(in);
        cluster_pump(&c, 100);
        st = op_wait(c.peer[sender ? 1 : 0], sender ? recv : send);
        CHECK(st == DLS_OK || st == DLS_E_PEER || (st == UNDER_WAY && round < 12));
        if (sender) dls_peer_op_drop(c.peer[1], recv);
        if (sender) free(in);
        if (!sender || keyed) CHECK(dls_peer_is_up(c.peer[0], 1) && dls_peer_is_up(c.peer[1], 0));
        if (st == UNDER_WAY) dls_peer_op_drop(c.peer[sender ? 1 : 0], sender ? recv : send);
        cluster_pump(&c, 100);
        if (dls_peer_is_up(c.peer[0], 1)) engine_traffic(&c, 5);
        cluster_close(&c);
    }
}
/* Idle, woken only at deadlines; then one side falls silent: lost at timeout_us + 1, not before. */
static void test_engine_heartbeats(void) {
    cluster c;
    int32_t wakes = 0, recv;
    uint64_t heard;
    cluster_open(&c, 2, 4, true);
    while (c.now < 6000000 && ++wakes < 10000) {
        const uint64_t a = dls_peer_deadline(c.peer[0]), b = dls_peer_deadline(c.peer[1]);
        CHECK(a > c.now && b > c.now);
        cluster_tick(&c, (a < b ? a : b) - c.now);
        cluster_pump(&c, 40);
    }
    CHECK(wakes >= 1000 && wakes <= 4000); /* a heartbeat is 1 ms */
    CHECK_INT(dls_peer_up(c.peer[0]), 2);
    cluster_tick(&c, 1000);
    cluster_pump(&c, 40);
    heard = c.now;
    c.cut[0][1] = true;
    recv = dls_peer_recv(c.peer[1], 0, 1, &heard, 0);
    while (c.now < heard + 10000) {
        cluster_tick(&c, 500);
        cluster_pump(&c, 40);
        CHECK(dls_peer_is_up(c.peer[1], 0));
    }
    CHECK_STATUS(op_wait(c.peer[1], recv), UNDER_WAY);
    cluster_tick(&c, 1);
    CHECK(!dls_peer_is_up(c.peer[1], 0));
    CHECK_STATUS(dls_peer_why(c.peer[1], 0), DLS_E_TIMEOUT);
    CHECK_INT(cluster_events(&c, 1, DLS_PEER_LOST), 1);
    CHECK_STATUS(op_wait(c.peer[1], recv), DLS_E_PEER);
    CHECK_INT(cluster_events(&c, 0, DLS_PEER_LOST), 1);
    cluster_close(&c);
}
static void test_engine_leave(void) {
    cluster c;
    cluster_open(&c, 3, 5, true);
    dls_peer_leave(c.peer[1]);
    cluster_pump(&c, 40);
    CHECK_INT(cluster_events(&c, 0, DLS_PEER_LEFT), 1);
    CHECK_INT(cluster_events(&c, 2, DLS_PEER_LEFT), 1);
    CHECK(c.link[0][1] < 0 && c.link[1][2] < 0 && c.link[0][2] >= 0);
    CHECK_INT(dls_peer_up(c.peer[1]), 1);
    CHECK_STATUS(dls_peer_why(c.peer[0], 1), DLS_OK);
    cluster_tick(&c, 2000);
    CHECK(dls_peer_is_up(c.peer[0], 2));
    cluster_close(&c);
}
/* Every prefix of a call, and every flipped bit of a keyed one: no session, no answer, no crash. */
static void test_engine_stream_strangers(void) {
    static net_keys k;
    cluster c;
    unsigned char call[200];
    size_t n, i, size;
    long up = 0;
    keyed_open(&c, &k, 6, 0);
    cluster_part(&c, 0, 1);
    cluster_join(&c, 0, 1);
    memcpy(call, dls_peer_tx_span(c.peer[1], c.link[1][0], &n, c.now), 112);
    CHECK_INT(n, 112);
    for (i = 0; i < 8 * 96 + n; i++) {
        const int32_t port = cluster_port(&c, 0, 1, false);
        const size_t take = i < n ? i : n;
        if (i >= n) call[(i - n) / 8] ^= (unsigned char)(1u << (i - n) % 8);
        (void)dls_peer_rx(c.peer[0], port, call, take, c.now);
        if (i >= n) call[(i - n) / 8] ^= (unsigned char)(1u << (i - n) % 8);
        (void)dls_peer_tx_span(c.peer[0], port, &size, c.now);
        up += size != 0;
        dls_peer_port_close(c.peer[0], port, c.now);
    }
    CHECK_INT(up, 0);
    cluster_pump(&c, 50);
    CHECK(dls_peer_is_up(c.peer[0], 1));
    cluster_close(&c);
}
/* A stream that is damaged after the hello: a record with keys is refused, the stream closed. */
static void test_engine_stream_damage(void) {
    static net_keys k;
    static unsigned char out[2000], in[2000];
    uint64_t seed;
    for (seed = 1; seed <= 20; seed++) {
        cluster c;
        int32_t recv;
        dls_status st;
        keyed_open(&c, &k, seed, 0);
        recv = dls_peer_recv(c.peer[1], 0, 1, in, sizeof in);
        (void)dls_peer_send(c.peer[0], 1, 1, out, sizeof out);
        (void)cluster_move(&c, 1, 0, 700, true);
        (void)cluster_move(&c, 1, 0, 700, false);
        (void)cluster_move(&c, 0, 1, 700, true);
        c.wire[0][1].bytes[4 + below(&c.rng, 600)] ^= 4;
        cluster_pump(&c, 50);
        CHECK(!dls_peer_is_up(c.peer[1], 0) && c.rx_status[0][1] != DLS_OK);
        st = op_wait(c.peer[1], recv);
        CHECK_STATUS(st, DLS_E_PEER);
        CHECK(memcmp(in, out, sizeof in) == 0);
        cluster_close(&c);
    }
}
/* Hundreds of receives dropped at once do not fit the queue: the session is given up, not left with
   a peer that waits for ever. */
static void test_engine_queue_full(void) {
    static unsigned char mem[64];
    cluster c;
    int32_t i, k;
    cluster_open(&c, 2, 7, true);
    for (i = 0; i < 60; i++)
        for (k = 0; k < 8; k++)
            dls_peer_op_drop(c.peer[1], dls_peer_recv(c.peer[1], 0, 1, mem, 64));
    CHECK(dls_peer_deadline(c.peer[1]) <= c.now);
    cluster_tick(&c, 1);
    CHECK_STATUS(dls_peer_why(c.peer[1], 0), DLS_E_LIMIT);
    cluster_pump(&c, 50);
    CHECK(!dls_peer_is_up(c.peer[0], 1));
    cluster_close(&c);
}
static void test_engine_allocates_nothing(void) {
    static net_keys k;
    const long takes = test_takes;
    cluster c;
    keyed_open(&c, &k, 5, 0);
    engine_traffic(&c, 5);
    cluster_close(&c);
    CHECK_INT(test_takes, takes);
}
static void engine_tests(void) {
    RUN(engine_desc_bounds);
    RUN(engine_session_bytes);
    RUN(engine_desc_keys);
    RUN(engine_ports);
    RUN(engine_messages);
    RUN(engine_messages_keyed);
    RUN(engine_classes);
    RUN(engine_many);
    RUN(engine_mismatch);
    RUN(engine_drops);
    RUN(engine_heartbeats);
    RUN(engine_leave);
    RUN(engine_stream_strangers);
    RUN(engine_stream_damage);
    RUN(engine_queue_full);
    RUN(engine_allocates_nothing);
}
