/* Strangers get no answer and cost nothing; members that talk nonsense lose their own session and
   harm nobody else; revoked devices are out at once. */

/* Frames from one engine's session to the other, sealed as they must be. */
static void forge(net *w, int32_t from, int32_t to, const unsigned char *frames, size_t n) {
    dlsi_ses *s = dlsi_peer_ses(w->peer[from], to);
    const dls_addr addr = net_addr(from);
    unsigned char *packet = (unsigned char *)malloc(DLS_HEAD_BYTES + n + DLS_RECORD_TAG);
    dls_data_head h;
    if (s != NULL) {
        h.index = s->their_index;
        h.counter = (uint32_t)s->record.sent;
        dls_data_head_write(&h, packet);
        CHECK_STATUS(dls_session_seal(&s->record, packet + DLS_HEAD_BYTES, frames, n, packet,
                                      DLS_HEAD_BYTES, packet + DLS_HEAD_BYTES + n),
                     DLS_OK);
        dls_peer_rx_packet(w->peer[to], w->air[to], &addr, packet,
                           DLS_HEAD_BYTES + n + DLS_RECORD_TAG, w->now);
    }
    free(packet);
}
/* One control message, numbered as the receiver expects. */
static void forge_control(net *w, int32_t from, int32_t to, uint8_t type, uint8_t flags,
                          const void *payload, size_t n) {
    unsigned char frame[200];
    dlsi_ses *s = dlsi_peer_ses(w->peer[to], from);
    memset(frame, 0, sizeof frame);
    frame[0] = DLS_FRAME_CONTROL;
    dlsi_store16(frame + 1, s != NULL ? s->control_expected : 0);
    dlsi_store16(frame + 3, (uint32_t)n + 4);
    frame[5] = type;
    frame[6] = flags;
    dlsi_store16(frame + 7, (uint32_t)n);
    if (n > 0) memcpy(frame + 9, payload, n);
    forge(w, from, to, frame, 9 + n);
}
static void test_hostile_random_frames(void) {
    static net_keys k;
    uint64_t seed;
    long ended = 0;
    keys_make(&k, 3, 0, 0);
    for (seed = 1; seed <= 40; seed++) {
        static unsigned char in[600], out[600];
        net w;
        int32_t i;
        dls_status st;
        air_open(&w, seed, 3, &k);
        CHECK(net_until_up(&w, 1000000));
        (void)dls_peer_recv(w.peer[0], 1, 1, in, sizeof in);
        (void)dls_peer_send(w.peer[0], 1, 2, out, sizeof out);
        net_run(&w, 10000);
        for (i = 0; i < 50 && dls_peer_is_up(w.peer[0], 1); i++) {
            unsigned char frames[120];
            const size_t n = 1 + below(&w.rng, sizeof frames);
            size_t at;
            for (at = 0; at < n; at++) frames[at] = (unsigned char)dls_rng_u32(&w.rng);
            frames[0] = (unsigned char)below(&w.rng, DLS_FRAME_KINDS + 1);
            if (frames[0] == DLS_FRAME_CONTROL) {
                dlsi_store16(frames + 1, dlsi_peer_ses(w.peer[0], 1)->control_expected);
                dlsi_store16(frames + 3, (uint32_t)n - (n > 5 ? 5 : n));
                frames[5] = (unsigned char)below(&w.rng, DLS_CONTROL_TYPES + 1);
                dlsi_store16(frames + 7, (uint32_t)(n > 9 ? n - 9 : 0));
            }
            forge(&w, 1, 0, frames, n);
            (void)net_drain(&w, 0);
            dls_peer_tick(w.peer[0], w.now);
        }
        ended += !dls_peer_is_up(w.peer[0], 1);
        CHECK(dls_peer_is_up(w.peer[0], 2));
        w.dead[1] = true;
        for (i = 0; i < 2; i++) (void)dls_peer_op_done(w.peer[0], i, &st);
        traffic_run(&w, 10, pair_02, 1, 2000, 5000000);
        net_close(&w);
    }
    CHECK(ended > 30);
}
/* Every row ends the session with its status. */
static void test_hostile_rules(void) {
    static net_keys k;
    static unsigned char in[100];
    int32_t row, i;
    keys_make(&k, 2, 0, 0);
    for (row = 0; row < 10; row++) {
        static const dls_status want[] = {DLS_E_FORMAT, DLS_E_FORMAT,  DLS_E_FORMAT, DLS_E_LIMIT,
                                          DLS_E_FORMAT, DLS_E_VERSION, DLS_E_FORMAT, DLS_E_FORMAT,
                                          DLS_OK,       DLS_OK};
        unsigned char bytes[64];
        net w;
        int32_t op;
        uint32_t id;
        air_open(&w, 50, 2, &k);
        CHECK(net_until_up(&w, 1000000));
        op = dls_peer_recv(w.peer[0], 1, 1, in, sizeof in);
        id = w.peer[0]->op[op].want;
        net_run(&w, 5000);
        memset(bytes, 0, sizeof bytes);
        switch (row) {
        case 0: /* a chunk beyond the end of the receive */
        case 1:
            bytes[0] = DLS_FRAME_CHUNK;
            dlsi_store32(bytes + 1, id);
            dlsi_store32(bytes + 5, row == 0 ? 95 : 0xFFFFFFF0u);
            forge(&w, 1, 0, bytes, 19);
            break;
        case 2:
            bytes[0] = 77;
            forge(&w, 1, 0, bytes, 3);
            break;
        case 3:
            for (i = 0; i <= w.peer[0]->wants; i++) {
                bytes[0] = (unsigned char)i;
                forge_control(&w, 1, 0, DLS_CONTROL_WANT, 0, bytes, 16);
            }
            break;
        case 4: /* a second hello */
            bytes[0] = DLS_VERSION_MAJOR & 255;
            bytes[8] = 4;
            bytes[10] = 8;
            forge_control(&w, 1, 0, DLS_CONTROL_HELLO, 0, bytes, 32);
            break;
        case 5: forge_control(&w, 1, 0, 99, 1, bytes, 3); break;
        case 6: forge_control(&w, 1, 0, DLS_CONTROL_WANT, 0, bytes, 15); break;
        case 7: /* an ack of what was never sent */
            bytes[0] = DLS_FRAME_ACK;
            bytes[1] = 8;
            bytes[2] = 255;
            bytes[8] = 1;
            forge(&w, 1, 0, bytes, 10);
            break;
        case 8: forge_control(&w, 1, 0, 99, 0, bytes, 3); break; /* of a newer minor version */
        default:                                                 /* a chunk nobody asked for */
            bytes[0] = DLS_FRAME_CHUNK;
            dlsi_store32(bytes + 1, id + 1);
            forge(&w, 1, 0, bytes, 30);
            forge_control(&w, 1, 0, DLS_CONTROL_REFUSE, 0, bytes, 5);
            forge_control(&w, 1, 0, DLS_CONTROL_DROP, 0, bytes, 4);
        }
        CHECK_INT(dls_peer_is_up(w.peer[0], 1), want[row] == DLS_OK);
        CHECK_STATUS(dls_peer_why(w.peer[0], 1), want[row]);
        for (i = 0; i < (int32_t)sizeof in; i++) CHECK_INT(in[i], 0);
        net_close(&w);
    }
}

/* ---- Strangers ---- */

static size_t init_of(net *w, int32_t from, unsigned char *to) { /* an INIT of a calling engine */
    dls_addr addr;
    size_t n = 0;
    int32_t i;
    for (i = 0; i < 100 && n != DLS_INIT_BYTES; i++) {
        w->now += 1000;
        dls_peer_tick(w->peer[from], w->now);
        n = dls_peer_tx_packet(w->peer[from], w->air[from], &addr, to, w->now);
    }
    CHECK_INT(n, DLS_INIT_BYTES);
    return n;
}
static int32_t sessions_used(const dls_peer *p) {
    int32_t i, n = 0;
    for (i = 0; i < p->desc.sessions_max; i++) n += p->ses[i].state != DLSI_SES_FREE;
    return n;
}
static size_t say_to(net *w, int32_t to, const unsigned char *bytes, size_t n) {
    const dls_addr from = net_addr(7);
    unsigned char *copy = (unsigned char *)malloc(n > 0 ? n : 1), answer[NET_MTU];
    dls_addr a;
    size_t got;
    if (n > 0) memcpy(copy, bytes, n);
    dls_peer_rx_packet(w->peer[to], w->air[to], &from, copy, n, w->now);
    free(copy);
    got = dls_peer_tx_packet(w->peer[to], w->air[to], &a, answer, w->now);
    return got;
}
static void strangers_open(net *w, net_keys *k, net_keys *other, uint32_t small) {
    dls_peer_desc d;
    int32_t i;
    keys_make(k, 3, 0, small);
    k->device[2].flags |= DLS_DEVICE_REVOKED;
    keys_sign(k, 1);
    *other = *k;
    other->roster.device = other->device;
    net_open(w, 60);
    for (i = 0; i < 2; i++) {
        d = keys_desc(i == 0 ? k : other, i);
        (void)net_add(w, &d);
        net_air(w, i);
    }
}
static void test_hostile_strangers(void) {
    static net_keys k, other;
    uint32_t small;
    for (small = 0; small < 3; small += 2) {
        unsigned char init[DLS_INIT_BYTES];
        net w;
        size_t n, i;
        long answered = 0;
        strangers_open(&w, &k, &other, small);
        net_call(&w, 1, 0);
        n = init_of(&w, 1, init);
        for (i = 0; i < n; i++) answered += say_to(&w, 0, init, i) != 0;
        for (i = 0; i < 8 * (n - 16); i++) { /* mac2 is only looked at under load */
            init[i / 8] ^= (unsigned char)(1u << i % 8);
            answered += say_to(&w, 0, init, n) != 0;
            init[i / 8] ^= (unsigned char)(1u << i % 8);
        }
        for (i = 0; i < 20000; i++) {
            unsigned char noise[200];
            size_t at;
            for (at = 0; at < sizeof noise; at++) noise[at] = (unsigned char)dls_rng_u32(&w.rng);
            noise[0] = (unsigned char)(i % 6);
            if (i % 3 == 0) memcpy(noise + 1, init + 1, 15);
            answered += say_to(&w, 0, noise, i % 2 ? DLS_INIT_BYTES : i % 200) != 0;
        }
        CHECK_INT(answered, 0);
        CHECK_INT(sessions_used(w.peer[0]), 0);
        CHECK_INT(w.peer[0]->load, 0);
        CHECK_INT(say_to(&w, 0, init, n), DLS_INIT_BYTES); /* and the true one is answered */
        CHECK_INT(sessions_used(w.peer[0]), 1);
        CHECK_INT(say_to(&w, 0, init, n), 0); /* once */
        CHECK_INT(sessions_used(w.peer[0]), 1);
        net_close(&w);
    }
}
/* Devices that hold the group's key and are none of it: revoked, unknown, of another group, with
   another key. */
static void test_hostile_not_members(void) {
    static net_keys k, other;
    int32_t row;
    for (row = 0; row < 4; row++) {
        unsigned char init[DLS_INIT_BYTES];
        net w;
        dls_peer_desc d;
        strangers_open(&w, &k, &other, 0);
        if (row == 0) other.device[2].flags = 0;
        if (row == 1) other.device[2].id = 31;
        if (row == 1) other.device[2].flags = 0;
        if (row == 2) other.roster.group = 78;
        if (row == 3) dls_hash(other.secret[1], 32, NULL, 0, "x", 1);
        if (row == 3) dls_x25519_public(other.device[1].public_key, other.secret[1]);
        d = keys_desc(&other, row < 2 ? 2 : 1);
        (void)net_add(&w, &d);
        net_air(&w, 2);
        net_call(&w, 2, 0);
        (void)init_of(&w, 2, init);
        CHECK_INT(say_to(&w, 0, init, sizeof init), 0);
        CHECK_INT(sessions_used(w.peer[0]), 0);
        net_close(&w);
    }
}
/* Replays of true INITs from elsewhere make load; established sessions do not notice; a new caller
   gets a cookie, no longer than its INIT, and comes through. */
static void test_hostile_load(void) {
    static net_keys k;
    unsigned char init[DLS_INIT_BYTES];
    net w;
    int32_t i, cookies = 0, more = 0;
    keys_make(&k, 3, 0, 0);
    net_open(&w, 61);
    for (i = 0; i < 3; i++) {
        const dls_peer_desc d = keys_desc(&k, i);
        (void)net_add(&w, &d);
        net_air(&w, i);
    }
    net_call(&w, 1, 0);
    (void)init_of(&w, 1, init);
    net_run(&w, 100000);
    CHECK(dls_peer_is_up(w.peer[0], 1));
    for (i = 0; i < 300; i++) {
        const size_t n = say_to(&w, 0, init, sizeof init);
        cookies += n == DLS_COOKIE_BYTES;
        more += n > DLS_COOKIE_BYTES;
    }
    CHECK(cookies > 250 && more <= 1);
    CHECK(sessions_used(w.peer[0]) <= 2);
    net_call(&w, 2, 0);
    net_run(&w, 60000);
    CHECK(dls_peer_is_up(w.peer[0], 2) && dls_peer_is_up(w.peer[2], 0));
    CHECK(w.peer[2]->hand[0].has_cookie); /* the one its call needed */
    CHECK(dls_peer_is_up(w.peer[0], 1));
    traffic_run(&w, 10, pair_01, 1, 2000, 1000000);
    net_close(&w);
}
/* A plain INIT does not open a session where keys are asked for, nor on a port that is not
   plain. */
static void test_hostile_plain(void) {
    static net_keys k;
    net w;
    dls_peer_desc d;
    dls_port_desc port;
    unsigned char init[DLS_INIT_PLAIN];
    const dls_addr from = net_addr(1);
    dls_init_head h;
    keys_make(&k, 2, 0, 0);
    net_open(&w, 62);
    d = keys_desc(&k, 0);
    (void)net_add(&w, &d);
    net_air(&w, 0);
    d = plain_desc(0, 2);
    (void)net_add(&w, &d);
    memset(&port, 0, sizeof port);
    port.kind = DLS_PORT_PACKET;
    port.mtu = NET_MTU;
    w.air[1] = dls_peer_port_open(w.peer[1], &port, w.now);
    memset(init, 1, sizeof init);
    h.type = DLS_PACKET_INIT;
    h.pattern = 0;
    h.index = 9;
    h.id = 20;
    h.group_or_index = 77;
    dls_init_head_write(&h, init);
    dlsi_store32(init + 28, dls_crc32c(0, init, 28));
    CHECK_INT(say_to(&w, 0, init, sizeof init), 0);
    h.id = 1;
    dls_init_head_write(&h, init);
    dlsi_store32(init + 28, dls_crc32c(0, init, 28));
    CHECK_INT(say_to(&w, 1, init, sizeof init), 0);
    net_air(&w, 1); /* a plain one answers */
    dls_peer_rx_packet(w.peer[1], w.air[1], &from, init, sizeof init, w.now);
    CHECK_INT(sessions_used(w.peer[1]), 1);
    net_close(&w);
}

/* ---- Rosters ---- */

static void test_hostile_roster(void) {
    static net_keys k, wrong;
    static unsigned char space[3][2048], bad[2048], old[2048], newer[2048];
    size_t old_bytes, newer_bytes;
    net w;
    dls_peer_event e;
    int32_t i, rosters = 0;
    keys_make(&k, 4, 0, 0);
    air_open(&w, 63, 4, &k);
    for (i = 0; i < 3; i++) dls_peer_roster_space(w.peer[i], space[i], sizeof space[i]);
    CHECK(net_until_up(&w, 1000000));
    (void)net_lost(&w);
    old_bytes = k.signed_bytes;
    memcpy(old, k.signed_roster, old_bytes);
    wrong = k;
    wrong.roster.device = wrong.device;
    wrong.root_seed[0] ^= 1;
    keys_sign(&wrong, 5);
    memcpy(bad, wrong.signed_roster, wrong.signed_bytes);
    CHECK_STATUS(dls_peer_roster(w.peer[0], bad, wrong.signed_bytes, w.now), DLS_E_AUTH);
    CHECK_STATUS(dls_peer_roster(w.peer[0], old, old_bytes, w.now), DLS_OK); /* has it */
    CHECK_STATUS(dls_peer_roster(w.peer[0], old, old_bytes - 1, w.now), DLS_E_FORMAT);
    CHECK(net_all_up(&w));
    k.device[3].flags |= DLS_DEVICE_REVOKED;
    keys_sign(&k, 7);
    newer_bytes = k.signed_bytes;
    memcpy(newer, k.signed_roster, newer_bytes);
    CHECK_STATUS(dls_peer_roster(w.peer[0], newer, newer_bytes, w.now), DLS_OK);
    CHECK(!dls_peer_is_up(w.peer[0], 3));
    CHECK_STATUS(dls_peer_why(w.peer[0], 3), DLS_E_REFUSED);
    net_run(&w, 20000); /* the others fetch it */
    for (i = 0; i < 3; i++) {
        CHECK_INT(w.peer[i]->epoch, 7);
        CHECK(!dls_peer_is_up(w.peer[i], 3));
        CHECK_INT(dls_peer_up(w.peer[i]), 3);
        while (dls_peer_next_event(w.peer[i], &e)) rosters += e.type == DLS_PEER_ROSTER;
    }
    CHECK_INT(rosters, 3);
    CHECK(memcmp(space[1], newer, newer_bytes) == 0);
    CHECK_STATUS(dls_peer_roster(w.peer[1], old, old_bytes, w.now), DLS_E_STATE);
    net_run(&w, 2000000); /* it calls and calls */
    CHECK(!dls_peer_is_up(w.peer[0], 3) && !dls_peer_is_up(w.peer[3], 0));
    CHECK_STATUS(dls_peer_roster(w.peer[3], newer, newer_bytes, w.now), DLS_E_REFUSED);
    net_close(&w);
}

static void hostile_tests(void) {
    RUN(hostile_random_frames);
    RUN(hostile_rules);
    RUN(hostile_strangers);
    RUN(hostile_not_members);
    RUN(hostile_load);
    RUN(hostile_plain);
    RUN(hostile_roster);
}
