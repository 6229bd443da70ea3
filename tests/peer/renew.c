/* Fresh keys within running sessions, with short limits: while messages move over networks that
   lose, double and reorder packets, and over a serial line, nobody is lost, no view changes, and
   keys become others again and again. */
static uint64_t renew_us;
static bool renew_keep(void *user, const void *state, size_t bytes) {
    (void)user;
    return state != NULL && bytes > 0;
}
static void renew_open(net *w, net_keys *k, uint64_t seed, int32_t n, uint32_t small) {
    int32_t i, j;
    net_open(w, seed);
    keys_make(k, n, 1, small);
    for (i = 0; i < n; i++) {
        dls_peer_desc d = keys_desc(k, i);
        d.renew_us = renew_us;
        d.store = i == 0 ? renew_keep : NULL;
        d.store_user = NULL;
        (void)net_add(w, &d);
        net_air(w, i);
    }
    for (i = 0; i < n; i++)
        for (j = 0; j < i; j++)
            if ((small >> i & small >> j & 1u) == 0) net_call(w, i, j);
}
static dlsi_ses *renew_ses(net *w, int32_t a, int32_t b) {
    return &w->peer[a]->ses[w->peer[a]->member[b].ses];
}
/* Runs traffic for us; returns how often the keys from 0 to 1 became others. Events but for the
   first UP of each, or a view other than the one at the start, are failures. */
static int renew_traffic(net *w, int32_t n, uint64_t us) {
    static const uint8_t pairs[] = {0, 1, 1, 2, 0, 2};
    unsigned char key[32];
    dls_peer_event e;
    dls_view v, now;
    int32_t i;
    int changes = 0, events = 0;
    const uint64_t end = w->now + us;
    for (i = 0; i < n; i++)
        while (dls_peer_next_event(w->peer[i], &e)) {}
    dls_peer_view(w->peer[0], &v);
    CHECK_INT(v.count, n);
    memcpy(key, renew_ses(w, 0, 1)->record.send_key, 32);
    do {
        traffic_run(w, 12, pairs, n == 3 ? 3 : 1, 3000, 20000000);
        net_run(w, 20000);
        if (renew_ses(w, 0, 1)->state != DLSI_SES_UP) break;
        changes += memcmp(key, renew_ses(w, 0, 1)->record.send_key, 32) != 0;
        memcpy(key, renew_ses(w, 0, 1)->record.send_key, 32);
    } while (w->now < end);
    for (i = 0; i < n; i++)
        while (dls_peer_next_event(w->peer[i], &e)) events++;
    CHECK_INT(events, 0);
    dls_peer_view(w->peer[0], &now);
    CHECK_INT(now.number, v.number);
    return changes;
}
static void test_renew_while_messages_move(void) {
    static const uint32_t loss[3] = {0, 50, 200};
    net w;
    net_keys k;
    int i, small, changes;
    for (i = 0; i < 3; i++) {
        for (small = 0; small < 2; small++) {
            renew_us = 30000;
            renew_open(&w, &k, (uint64_t)(10 + i), 3, small != 0 ? 2u : 0u);
            CHECK(net_until_up(&w, 5000000));
            net_run(&w, 100000);
            w.loss = loss[i];
            w.twice = loss[i];
            w.jitter = 400;
            changes = renew_traffic(&w, 3, 3000000);
            CHECK(changes >= 6);
            net_close(&w);
        }
    }
}
/* Both ask at once, each time: one of the two handshakes counts. Counters pass 2^32. */
static void test_renew_both_at_once(void) {
    net w;
    net_keys k;
    int i, changes;
    dlsi_ses *s[2];
    unsigned char next[32];
    renew_us = 3600000000u;
    renew_open(&w, &k, 4, 2, 0);
    CHECK(net_until_up(&w, 5000000));
    net_run(&w, 100000);
    for (i = 0; i < 4; i++) { /* in two jumps, lest acks are misread */
        s[i % 2] = renew_ses(&w, i % 2, 1 - i % 2);
        s[i % 2]->record.sent += 0x7FF40000u;
        s[i % 2]->record.top += 0x7FF40000u;
        if (i % 2 == 1) net_run(&w, 100000);
    }
    w.loss = 30;
    w.jitter = 300;
    for (i = changes = 0; i < 40; i++) {
        if (s[0]->renew.state == DLSI_RENEW_NONE && s[1]->renew.state == DLSI_RENEW_NONE) {
            dlsi_renew_ask(w.peer[0], (int32_t)(s[0] - w.peer[0]->ses), w.now);
            dlsi_renew_ask(w.peer[1], (int32_t)(s[1] - w.peer[1]->ses), w.now);
        }
        changes += renew_traffic(&w, 2, 100000);
    }
    CHECK(changes >= 10);
    net_run(&w, 1000000);
    CHECK(s[0]->renew.phase == s[1]->renew.phase);
    CHECK(s[0]->renew.base[0][0] == (uint64_t)1 << 32);
    CHECK(s[0]->renew.base[0][0] == s[1]->renew.base[0][1]);
    CHECK(s[0]->record.sent < 0x10000000u);
    dlsi_session_rekey(next, s[1]->record.recv_key); /* it may lie a period behind */
    CHECK(memcmp(s[0]->record.send_key, s[1]->record.recv_key, 32) == 0 ||
          memcmp(s[0]->record.send_key, next, 32) == 0);
    net_close(&w);
}
/* Over a serial line in noise; and a session that has had its 2^20 forgeries asks at once. The old
   keys are gone a silence later. */
static void test_renew_on_a_line_and_when_stale(void) {
    static const unsigned char zero[32] = {0};
    net w;
    net_keys k;
    dlsi_ses *s;
    unsigned char key[32];
    int i;
    net_open(&w, 8);
    keys_make(&k, 2, 1, 0);
    renew_us = 0;
    for (i = 0; i < 2; i++) {
        dls_peer_desc d = keys_desc(&k, i);
        d.store = i == 0 ? renew_keep : NULL;
        (void)net_add(&w, &d);
    }
    net_wire(&w, 1, 0);
    CHECK(net_until_up(&w, 5000000));
    w.damage = 2;
    net_run(&w, 500000);
    s = renew_ses(&w, 0, 1);
    memcpy(key, s->record.send_key, 32);
    s->record.forged = 1u << 20;
    (void)renew_traffic(&w, 2, 400000);
    CHECK(memcmp(key, s->record.send_key, 32) != 0);
    CHECK(!dls_session_stale(&s->record));
    net_run(&w, 500000);
    CHECK_INT(s->renew.state, DLSI_RENEW_NONE);
    CHECK(memcmp(s->renew.other.send_key, zero, 32) == 0);
    CHECK(memcmp(s->renew.other.recv_key, zero, 32) == 0);
    net_close(&w);
}
/* A peer that does not know the message skips it: it is asked once, and the session goes on. */
static void test_renew_unknown_to_the_peer(void) {
    net w;
    net_keys k;
    dlsi_ses *s;
    unsigned char *said;
    renew_us = 3600000000u;
    renew_open(&w, &k, 5, 2, 0);
    CHECK(net_until_up(&w, 5000000));
    net_run(&w, 100000);
    s = renew_ses(&w, 0, 1);
    dlsi_renew_ask(w.peer[0], (int32_t)(s - w.peer[0]->ses), w.now);
    said = dlsi_ses_control(w.peer[0], s) + s->control_used - 61;
    CHECK_INT(said[0], DLS_CONTROL_RENEW);
    said[0] = 99;
    (void)renew_traffic(&w, 2, 200000);
    net_run(&w, 2000000);
    CHECK_INT(s->renew.state, DLSI_RENEW_NEVER);
    CHECK_INT(s->hand, -1);
    (void)renew_traffic(&w, 2, 200000);
    net_close(&w);
}
static void renew_tests(void) {
    RUN(renew_while_messages_move);
    RUN(renew_both_at_once);
    RUN(renew_on_a_line_and_when_stale);
    RUN(renew_unknown_to_the_peer);
}
