/* record.c - part of noise.c, which run.sh builds twice: as on hosts, and with the window of small
   devices and a new key every 64 records. */

typedef struct line_of { /* two ends of one session */
    dls_session a, b;
} line_of;

static line_of make_line(uint64_t seed) {
    line_of l;
    byte key[2][32];
    fill(key, sizeof key, seed);
    dls_session_init(&l.a, key[0], key[1]);
    dls_session_init(&l.b, key[1], key[0]);
    return l;
}

/* Record ctr of a's, with its own number as content and header. */
#define RECORD 24 /* content 8, tag 16 */
static void seal_next(dls_session *a, byte *record) {
    byte head[8];
    dlsi_store64(head, a->sent);
    CHECK_STATUS(dls_session_seal(a, record, head, 8, head, 8, record + 8), DLS_OK);
}
static dls_status open_one(dls_session *b, uint64_t ctr, const byte *record) {
    byte head[8], back[8];
    dls_status status;
    dlsi_store64(head, ctr);
    status = dls_session_open(b, ctr, back, record, 8, record + 8, head, 8);
    if (status == DLS_OK) CHECK(memcmp(back, head, 8) == 0);
    return status;
}

static void test_record_round_trip(void) {
    line_of l = make_line(1);
    byte text[300], record[300], tag[16];
    uint64_t i;
    CHECK(sizeof(dls_session) <= 88 + DLS_REPLAY_BITS / 8);
    for (i = 0; i < 300; i++) { /* in place, and both ways */
        fill(text, sizeof text, i);
        memcpy(record, text, i);
        CHECK_INT(l.a.sent, i);
        CHECK_STATUS(dls_session_seal(&l.a, record, record, i, "head", 4, tag), DLS_OK);
        CHECK(i < 8 || memcmp(record, text, i) != 0);
        CHECK_STATUS(dls_session_open(&l.b, i, record, record, i, tag, "head", 4), DLS_OK);
        CHECK(memcmp(record, text, i) == 0);
        CHECK_STATUS(dls_session_open(&l.b, i, record, record, i, tag, "head", 4), DLS_E_STATE);
        CHECK_STATUS(dls_session_seal(&l.b, record, text, i, NULL, 0, tag), DLS_OK);
        CHECK_STATUS(dls_session_open(&l.a, i, record, record, i, tag, NULL, 0), DLS_OK);
        CHECK(memcmp(record, text, i) == 0);
    }
    CHECK_INT(l.b.top, 300);
    CHECK_INT(l.b.forged, 0);
}

/* A refused record changes nothing but the count of forgeries. */
static void forged(dls_session *b, uint64_t ctr, const byte *record, size_t bytes, const byte *tag,
                   const byte *ad, size_t ad_bytes) {
    dls_session want = *b;
    byte back[64];
    want.forged++;
    CHECK_STATUS(dls_session_open(b, ctr, back, record, bytes, tag, ad, ad_bytes), DLS_E_AUTH);
    CHECK(memcmp(&want, b, sizeof want) == 0);
}

static void test_record_every_bit(void) {
    line_of l = make_line(2);
    byte whole[8 + 40 + 16 + 16], *head = whole, *text = whole + 8, *tag = whole + 48;
    size_t i;
    fill(whole, sizeof whole, 3);
    CHECK_STATUS(dls_session_seal(&l.a, text, text, 40, head, 8, tag), DLS_OK);
    for (i = 0; i < 8 * 64; i++) {
        whole[i / 8] ^= (byte)(1u << i % 8);
        forged(&l.b, 0, text, 40, tag, head, 8);
        whole[i / 8] ^= (byte)(1u << i % 8);
    }
    for (i = 0; i < 40; i++) { /* cut, and cut with the tag moved along */
        forged(&l.b, 0, text, i, tag, head, 8);
        forged(&l.b, 0, text, i, text + i, head, 8);
    }
    for (i = 1; i <= 16; i++) forged(&l.b, 0, text, 40 + i, tag + i, head, 8); /* longer */
    for (i = 0; i < 8; i++) forged(&l.b, 0, text, 40, tag, head, i);
    for (i = 1; i < 2 * DLSI_REKEY_PERIOD && i < 500; i++) /* another counter */
        forged(&l.b, i, text, 40, tag, head, 8);
    forged(&l.a, 0, text, 40, tag, head, 8); /* reflected */
    CHECK_STATUS(dls_session_open(&l.b, 0, text, text, 40, tag, head, 8), DLS_OK);
}

/* Deliveries in random order with repetitions and losses, against a list of what was opened. */
#define SCRIPT 6000
static void test_record_window(void) {
    static byte record[SCRIPT][RECORD];
    static bool opened[SCRIPT];
    int round;
    for (round = 0; round < 4; round++) {
        line_of l = make_line(10);
        dls_rng rng = {0, 0};
        uint64_t top = 0, base = 0;
        int i, step, good = 0, replayed = 0, old = 0, far = 0;
        rng.seed = (uint64_t)round;
        memset(opened, 0, sizeof opened);
        for (i = 0; i < SCRIPT; i++) seal_next(&l.a, record[i]);
        for (step = 0; step < 3 * SCRIPT; step++) {
            const uint32_t reach = round == 0 ? 8 : DLS_REPLAY_BITS * (uint32_t)round;
            const uint64_t period = top > 0 ? (top - 1) / DLSI_REKEY_PERIOD : 0;
            const uint64_t ctr = base + dls_rng_u32(&rng) % reach;
            dls_status want = DLS_OK;
            if (ctr >= SCRIPT) break;
            if (ctr / DLSI_REKEY_PERIOD > period + 1 || ctr / DLSI_REKEY_PERIOD + 1 < period)
                want = DLS_E_STATE, far++;
            else if (ctr + DLS_REPLAY_BITS < top)
                want = DLS_E_STATE, old++;
            else if (opened[ctr])
                want = DLS_E_STATE, replayed++;
            else
                good++;
            CHECK_STATUS(open_one(&l.b, ctr, record[ctr]), want);
            if (want == DLS_OK) {
                opened[ctr] = true;
                if (ctr >= top) top = ctr + 1;
            }
            CHECK_INT(l.b.top, top);
            base += dls_rng_u32(&rng) % 3 == 0;
        }
        CHECK_INT(l.b.forged, 0);
        CHECK(good > 1000 && replayed > 100);
        if (round == 3) CHECK(old + far > 100);
    }
}

/* Key i of a direction that began with these 32 bytes, by the golden values. */
static void test_record_rekey(void) {
    static byte record[5 * 1024][RECORD];
    char name[] = "rekey0";
    byte key[32], want[32];
    const uint64_t period = DLSI_REKEY_PERIOD;
    const bool frequent = period <= 1024;
    line_of l;
    uint64_t i;
    CHECK_INT(golden(key, 32, "rekey0"), 32);
    for (i = 1; i <= 3; i++) {
        name[5] = (char)('0' + i);
        dlsi_session_rekey(key, key);
        CHECK(is_golden(name, key, 32));
    }
    if (!frequent) { /* the real interval: counters are set to just before it */
        l = make_line(20);
        l.a.sent = l.b.top = period - 1;
        seal_next(&l.a, record[0]);
        dlsi_session_rekey(want, l.a.send_key);
        seal_next(&l.a, record[1]);
        CHECK(memcmp(want, l.a.send_key, 32) == 0);
        CHECK_STATUS(open_one(&l.b, period, record[1]), DLS_OK); /* the later one first */
        CHECK_STATUS(open_one(&l.b, period - 1, record[0]), DLS_OK);
        for (i = 1; i < DLS_REPLAY_BITS; i++) { /* the key before may be needed for so long */
            CHECK(memcmp(want, l.b.recv_key, 32) != 0);
            seal_next(&l.a, record[2]);
            CHECK_STATUS(open_one(&l.b, period + i, record[2]), DLS_OK);
        }
        CHECK(memcmp(want, l.b.recv_key, 32) == 0);
        return;
    }
    l = make_line(21);
    for (i = 0; i < 5 * period; i++) seal_next(&l.a, record[i]);
    CHECK_STATUS(open_one(&l.b, 0, record[0]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 2 * period, record[2 * period]), DLS_E_STATE); /* two ahead */
    { /* a forgery from the next period must not move the key */
        const dls_session before = l.b;
        byte bad[RECORD];
        memcpy(bad, record[period], RECORD);
        bad[0] ^= 1;
        CHECK_STATUS(open_one(&l.b, period, bad), DLS_E_AUTH);
        CHECK(memcmp(before.recv_key, l.b.recv_key, 32) == 0 && before.top == l.b.top);
    }
    /* nearly a whole period lost, then its last ones late */
    CHECK_STATUS(open_one(&l.b, 2 * period - 1, record[2 * period - 1]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 2 * period - 2, record[2 * period - 2]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 2 * period, record[2 * period]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 2 * period - 3, record[2 * period - 3]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 2 * period - 3, record[2 * period - 3]), DLS_E_STATE);
    CHECK_STATUS(open_one(&l.b, 3 * period, record[3 * period]), DLS_E_STATE);
    i = 2 * period + DLS_REPLAY_BITS;
    CHECK_STATUS(open_one(&l.b, i, record[i]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 3 * period, record[3 * period]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 3 * period - 1, record[3 * period - 1]), DLS_OK);
    CHECK_STATUS(open_one(&l.b, 2 * period - 4, record[2 * period - 4]), DLS_E_STATE);
    for (i = 3 * period + 1; i < 5 * period; i++) /* each key, to its end */
        CHECK_STATUS(open_one(&l.b, i, record[i]), DLS_OK);
    CHECK_INT(l.b.forged, 0 + 1);
}

static void test_record_limits(void) {
    line_of l = make_line(30);
    byte record[RECORD];
    const uint64_t end = (uint64_t)1 << 33;
    dls_session dead;
    CHECK(!dls_session_stale(&l.a));
    l.a.sent = end - 2;
    l.b.top = end - 2;
    CHECK(dls_session_stale(&l.a) && dls_session_stale(&l.b));
    seal_next(&l.a, record);
    CHECK_STATUS(open_one(&l.b, end - 2, record), DLS_OK);
    seal_next(&l.a, record);
    CHECK_STATUS(open_one(&l.b, end - 1, record), DLS_OK);
    CHECK_INT(l.b.top, end);
    dead = l.a;
    CHECK_STATUS(dls_session_seal(&l.a, record, record, 8, NULL, 0, record + 8), DLS_E_LIMIT);
    CHECK(memcmp(&dead, &l.a, sizeof dead) == 0);
    CHECK_STATUS(open_one(&l.b, end, record), DLS_E_LIMIT);
    CHECK_STATUS(open_one(&l.b, UINT64_MAX, record), DLS_E_LIMIT);
    CHECK_STATUS(open_one(&l.b, 0, record), DLS_E_STATE);

    l = make_line(31);
    l.a.sent = ((uint64_t)1 << 32) - 1;
    CHECK(!dls_session_stale(&l.a));
    seal_next(&l.a, record);
    CHECK(dls_session_stale(&l.a));
    l.b.forged = ((uint64_t)1 << 20) - 1;
    CHECK(!dls_session_stale(&l.b));
    memset(record, 0, sizeof record);
    CHECK_STATUS(open_one(&l.b, 0, record), DLS_E_AUTH);
    CHECK(dls_session_stale(&l.b));
    l.a.sent = 0;
    seal_next(&l.a, record); /* stale works on */
    CHECK_STATUS(open_one(&l.b, 0, record), DLS_OK);
    l.b.forged = (uint64_t)1 << 36;
    seal_next(&l.a, record);
    CHECK_STATUS(open_one(&l.b, 1, record), DLS_E_LIMIT);
}

/* Of all counters with those low bits the one in (top - half, top + half]; the first ones as they
   are. And so each counter near enough comes back. */
static void test_record_counter(void) {
    static const uint64_t special[] = {
        0,       1,          0x7FFF,      0x8000,      0x8001,       0xFFFF,       0x10000,
        0x10001, 0x7FFFFFFF, 0x80000000u, 0xFFFFFFFFu, 0x100000000u, 0x1FFFFFFFFu, 0x200000000u};
    dls_session s;
    uint32_t i, k, bits;
    memset(&s, 0, sizeof s);
    for (bits = 16; bits <= 32; bits += 16) {
        const uint64_t period = (uint64_t)1 << bits, half = period / 2;
        for (i = 0; i < 20000; i++) {
            uint64_t low, got, want;
            s.top = i < 1400 ? special[i / 100] : (uint64_t)dls_rand_at(5, i) << 1;
            k = dls_rand_at(6, i);
            if (i % 100 < 50) k = (uint32_t)(s.top + (i % 2 ? half : 0) + i % 100 / 2 - 12);
            low = k & (period - 1);
            got = dls_session_counter(&s, k, bits);
            want = low; /* the slow way: from the first on, until within reach of top */
            if (want + half <= s.top) want += (s.top - half - want) / period * period;
            while (want + half <= s.top) want += period;
            CHECK(got == want);
            CHECK((got & (period - 1)) == low && (got <= s.top + half || got == low));
        }
    }
    for (i = 0; i < 20000; i++) { /* 16 bits, any true counter within reach */
        uint64_t true_ctr;
        s.top = 40000 + dls_rand_at(7, i);
        true_ctr = s.top - 32767 + dls_rand_at(8, i) % 65536;
        CHECK(dls_session_counter(&s, (uint32_t)true_ctr & 0xFFFF, 16) == true_ctr);
    }
}

/* ---- Cookies ---- */

static void test_cookie_values(void) {
    byte psk[32], responder[32], packet[100], out[44], secret[32], cookie[16], nonce[12], mac[16];
    dls_cookie c;
    int i;
    for (i = 0; i < 100; i++) packet[i] = (byte)i;
    for (i = 0; i < 32; i++) {
        psk[i] = (byte)i;
        secret[i] = (byte)(32 + i);
        responder[i] = (byte)(64 + i);
        nonce[i % 12] = (byte)(200 + i % 12);
        mac[i % 16] = (byte)(i % 16);
    }
    dls_mac1(out, psk, responder, packet, 100);
    CHECK(is_golden("mac1", out, 16));
    dls_mac1(out, psk, NULL, packet, 100);
    CHECK(is_golden("mac1_unknown", out, 16));
    dls_cookie_init(&c, secret, 1000);
    dls_cookie_make(&c, "127.0.0.1:7000", 14, 1000, cookie);
    CHECK(is_golden("cookie", cookie, 16));
    dls_mac2(out, cookie, packet, 100);
    CHECK(is_golden("mac2", out, 16));
    dls_cookie_seal(out, cookie, nonce, mac, psk, responder);
    CHECK(is_golden("cookie_sealed", out, DLS_COOKIE_SEALED));
    CHECK_STATUS(dls_cookie_open(secret, out, mac, psk, responder), DLS_OK);
    CHECK(memcmp(secret, cookie, 16) == 0);
    dls_cookie_make(&c, "127.0.0.1:7000", 14, 1000 + 120000000, cookie);
    CHECK(is_golden("cookie_next", cookie, 16));
    dls_device_psk(out, psk, 7, 258);
    CHECK(is_golden("device_psk", out, 32));
    dls_device_psk(out, psk, 7, 259);
    CHECK(!is_golden("device_psk", out, 32));
    dls_device_psk(out, psk, 8, 258);
    CHECK(!is_golden("device_psk", out, 32));
}

/* Every input counts, to its last bit. */
static void test_cookie_forged(void) {
    byte all[44 + 16 + 32 + 32], *sealed = all, *mac = all + 44, *psk = all + 60, *key = all + 92;
    byte cookie[16], back[16], mac1[16], changed[16];
    size_t i;
    fill(all, sizeof all, 1);
    fill(cookie, 16, 2);
    dls_cookie_seal(sealed, cookie, sealed, mac, psk, key);
    for (i = 0; i < 8 * sizeof all; i++) {
        all[i / 8] ^= (byte)(1u << i % 8);
        CHECK_STATUS(dls_cookie_open(back, sealed, mac, psk, key), DLS_E_AUTH);
        all[i / 8] ^= (byte)(1u << i % 8);
    }
    CHECK_STATUS(dls_cookie_open(back, sealed, mac, psk, NULL), DLS_E_AUTH);
    CHECK_STATUS(dls_cookie_open(back, sealed, mac, psk, key), DLS_OK);
    CHECK(memcmp(back, cookie, 16) == 0);
    dls_mac1(mac1, psk, key, all, 60);
    for (i = 0; i < 8 * sizeof all; i++) {
        all[i / 8] ^= (byte)(1u << i % 8);
        dls_mac1(changed, psk, key, all, 60);
        CHECK(!dls_equal(mac1, changed, 16));
        all[i / 8] ^= (byte)(1u << i % 8);
    }
    dls_mac2(mac1, cookie, all, 100);
    dls_mac2(changed, cookie, all, 99);
    CHECK(!dls_equal(mac1, changed, 16));
}

static void test_cookie_clock(void) {
    const uint64_t life = 120000000;
    dls_cookie c;
    byte secret[32], first[16], now[16];
    int i;
    fill(secret, 32, 1);
    dls_cookie_init(&c, secret, 5 * life);
    dls_cookie_make(&c, "a", 1, 5 * life, first);
    dls_cookie_make(&c, "b", 1, 5 * life, now);
    CHECK(memcmp(first, now, 16) != 0);
    dls_cookie_make(&c, "a", 1, 6 * life - 1, now);
    CHECK(memcmp(first, now, 16) == 0);
    dls_cookie_make(&c, "a", 1, 6 * life, now);
    CHECK(memcmp(first, now, 16) != 0);
    memcpy(first, now, 16);
    dls_cookie_make(&c, "a", 1, 7 * life - 1, now);
    CHECK(memcmp(first, now, 16) == 0);
    dls_cookie_make(&c, "a", 1, 0, now); /* the clock jumps back: the same one, for 120 s more */
    CHECK(memcmp(first, now, 16) == 0);
    dls_cookie_make(&c, "a", 1, life - 1, now);
    CHECK(memcmp(first, now, 16) == 0);
    dls_cookie_make(&c, "a", 1, life, now);
    CHECK(memcmp(first, now, 16) != 0);
    dls_cookie_make(&c, "a", 1, UINT64_MAX, first); /* and far ahead, and back */
    CHECK(memcmp(first, now, 16) != 0);
    for (i = 0; i < 3; i++) {
        dls_cookie_make(&c, "a", 1, (uint64_t)(2 - i), now);
        CHECK(memcmp(first, now, 16) == 0);
    }
}
