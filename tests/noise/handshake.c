/* handshake.c - part of noise.c. */

/* ---- Patterns as the specification writes them (7.4, 7.5): more than the header's three ---- */

static const struct {
    const char *name;
    uint8_t statics, known;
    const char *messages;
} base_pattern[] = {{"NN", 0, 0, "e|e ee"},
                    {"NK", 2, 2, "e es|e ee"},
                    {"NX", 2, 0, "e|e ee s es"},
                    {"KN", 1, 1, "e|e ee se"},
                    {"KK", 3, 3, "e es ss|e ee se"},
                    {"XK", 3, 2, "e es|e ee|s se"},
                    {"XX", 3, 0, "e|e ee s es|s se"},
                    {"IN", 1, 0, "e s|e ee se"},
                    {"IK", 3, 2, "e es s ss|e ee se"},
                    {"IX", 3, 0, "e s|e ee se s es"},
                    {"N", 2, 2, "e es"},
                    {"K", 3, 3, "e es ss"},
                    {"X", 3, 2, "e es s ss"}};

static uint8_t token_of(const char *text) {
    static const char *const name[] = {"", "e", "s", "psk", "ee", "se", "es", "ss"};
    uint8_t i;
    for (i = 1; i < 8; i++)
        if (strcmp(text, name[i]) == 0) return i;
    return 0;
}
/* The row of a name such as IKpsk0+psk2. False: unknown, or more tokens than a row has. */
static bool make_row(dlsi_noise_row *row, const char *name) {
    const size_t length = strcspn(name, "p");
    const char *modifier = name + length;
    char text[64];
    size_t i, message = 0, at = 0;
    char *t;
    memset(row, 0, sizeof *row);
    row->name = name;
    for (i = 0; i < sizeof base_pattern / sizeof *base_pattern; i++)
        if (strlen(base_pattern[i].name) == length &&
            memcmp(base_pattern[i].name, name, length) == 0)
            break;
    if (i == sizeof base_pattern / sizeof *base_pattern) return false;
    row->statics = base_pattern[i].statics;
    row->known = base_pattern[i].known;
    row->psk = *modifier != '\0';
    strcpy(text, base_pattern[i].messages);
    if (strstr(modifier, "psk0") != NULL) row->token[0][at++] = DLSI_T_PSK;
    for (t = text; *t != '\0';) {
        const size_t n = strcspn(t, " |");
        const char end = t[n];
        t[n] = '\0';
        if (at >= 5) return false;
        row->token[message][at++] = token_of(t);
        if (end != ' ') {
            char psk[5] = "psk1";
            psk[3] = (char)('1' + message++);
            if (strstr(modifier, psk) != NULL) row->token[message - 1][at] = DLSI_T_PSK;
            at = 0;
        }
        t += end == '\0' ? n : n + 1;
    }
    row->messages = (uint8_t)message;
    return true;
}

static void test_handshake_rows(void) {
    dlsi_noise_row row;
    int i;
    for (i = 0; i < 3; i++) {
        const dlsi_noise_row *have = &dlsi_noise_rows[i];
        CHECK(make_row(&row, have->name));
        CHECK(row.psk == have->psk && row.statics == have->statics && row.known == have->known);
        CHECK_INT(row.messages, have->messages);
        CHECK(memcmp(row.token, have->token, sizeof row.token) == 0);
    }
}

/* ---- Vectors ---- */

typedef struct vector {
    char name[40];
    byte psk[4][32], prologue[64], hash[32];
    byte key[6][32]; /* secret, ephemeral, remote: of the initiator, of the responder */
    bool have[6], have_hash;
    size_t psks, prologue_bytes, messages;
    struct {
        byte payload[128], cipher[256];
        size_t payload_bytes, cipher_bytes;
    } message[8];
} vector;

static void vector_line(vector *v) {
    static const char *const name[] = {"i_secret", "i_ephemeral", "i_remote",
                                       "r_secret", "r_ephemeral", "r_remote"};
    int i;
    for (i = 0; i < 6; i++)
        if (strcmp(word[0], name[i]) == 0) v->have[i] = from_hex(v->key[i], 32, word[1]) == 32;
    if (strcmp(word[0], "psk") == 0 && v->psks < 4) from_hex(v->psk[v->psks++], 32, word[1]);
    if (strcmp(word[0], "hash") == 0) v->have_hash = from_hex(v->hash, 32, word[1]) == 32;
    if (strcmp(word[0], "prologue") == 0)
        v->prologue_bytes = from_hex(v->prologue, sizeof v->prologue, word[1]);
    if (strcmp(word[0], "message") == 0 && v->messages < 8) {
        const size_t m = v->messages++;
        v->message[m].payload_bytes = from_hex(v->message[m].payload, 128, word[1]);
        v->message[m].cipher_bytes = from_hex(v->message[m].cipher, 256, word[2]);
    }
}

static void begin(dls_noise *n, const dlsi_noise_row *row, const vector *v, int side) {
    dls_noise_desc desc;
    const int k = 3 * side;
    static const byte unused[32] = {1}; /* one-way patterns have no responder's ephemeral */
    memset(&desc, 0, sizeof desc);
    desc.initiator = side == 0;
    desc.prologue = v->prologue;
    desc.prologue_bytes = v->prologue_bytes;
    desc.secret = v->have[k] ? v->key[k] : NULL;
    desc.ephemeral = v->have[k + 1] ? v->key[k + 1] : unused;
    desc.remote = v->have[k + 2] ? v->key[k + 2] : NULL;
    desc.psk = v->psks > 0 ? v->psk[0] : NULL;
    CHECK_STATUS(dlsi_noise_begin(n, row, &desc), DLS_OK);
}

static void replay(const vector *v, const dlsi_noise_row *row) {
    dls_noise side[2];
    dls_session session[2];
    byte key[2][2][32], out[256], back[256];
    size_t m, psk = 0, bytes;
    begin(&side[0], row, v, 0);
    begin(&side[1], row, v, 1);
    for (m = 0; m < row->messages; m++) {
        dls_noise *from = &side[m % 2], *to = &side[(m + 1) % 2];
        const size_t n = v->message[m].payload_bytes, c = v->message[m].cipher_bytes;
        if (memchr(row->token[m], DLSI_T_PSK, 6) != NULL && v->psks > 1) { /* each its own */
            memcpy(from->psk, v->psk[psk], 32);
            memcpy(to->psk, v->psk[psk++], 32);
        }
        CHECK_STATUS(dls_noise_write(from, v->message[m].payload, n, out, c, &bytes), DLS_OK);
        CHECK(bytes == c && memcmp(out, v->message[m].cipher, c) == 0);
        CHECK_STATUS(dls_noise_read(to, out, c, back, n, &bytes), DLS_OK);
        CHECK(bytes == n && memcmp(back, v->message[m].payload, n) == 0);
    }
    for (m = 0; m < 2; m++) {
        CHECK(dls_noise_done(&side[m]));
        CHECK(!v->have_hash || memcmp(dls_noise_hash(&side[m]), v->hash, 32) == 0);
        CHECK_STATUS(dls_noise_split(&side[m], key[m][0], key[m][1]), DLS_OK);
        dls_session_init(&session[m], key[m][0], key[m][1]);
    }
    for (m = row->messages; m < v->messages; m++) { /* one-way: always from the initiator */
        const size_t s = row->messages == 1 ? 0 : m % 2, n = v->message[m].payload_bytes;
        const uint64_t ctr = session[s].sent;
        byte tag[16];
        CHECK_STATUS(dls_session_seal(&session[s], out, v->message[m].payload, n, NULL, 0, tag),
                     DLS_OK);
        CHECK(v->message[m].cipher_bytes == n + 16 && memcmp(out, v->message[m].cipher, n) == 0);
        CHECK(memcmp(tag, v->message[m].cipher + n, 16) == 0);
        CHECK_STATUS(dls_session_open(&session[1 - s], ctr, out, out, n, tag, NULL, 0), DLS_OK);
        CHECK(memcmp(out, v->message[m].payload, n) == 0);
    }
}

/* Left out: names of at most 32 bytes, which are padded instead of hashed (N, K, X), and two psks
   in one message, for which a handshake has no room. */
static void test_handshake_vectors(void) {
    static vector v;
    int replayed = 0, ours = 0, left_out = 0;
    bool more;
    rewind(vectors);
    more = next_line();
    while (more && strcmp(word[0], "golden") != 0) {
        dlsi_noise_row row;
        memset(&v, 0, sizeof v);
        strcpy(v.name, word[1]);
        while ((more = next_line()) && strcmp(word[0], "noise") != 0 &&
               strcmp(word[0], "golden") != 0)
            vector_line(&v);
        if (strlen(v.name) < 2 || strstr(v.name, "psk0+psk1") != NULL) {
            left_out++;
            continue;
        }
        if (!make_row(&row, v.name)) {
            test_report(__FILE__, __LINE__, "no row for %s", v.name);
            continue;
        }
        replay(&v, &row);
        replayed++;
        ours += strcmp(v.name, "KKpsk0") == 0 || strcmp(v.name, "XXpsk3") == 0 ||
                strcmp(v.name, "NNpsk0") == 0;
    }
    CHECK_INT(replayed, 34);
    CHECK_INT(left_out, 5);
    CHECK_INT(ours, 3);
}

/* ---- Two sides of our patterns ---- */

static const size_t extra[4][3] = {{0, 0, 0}, {48, 48, 0}, {48, 96, 64}, {48, 48, 0}};

typedef struct pair {
    byte secret[2][32], public_key[2][32], ephemeral[2][32], psk[32];
    dls_noise_desc desc[2];
    dls_noise side[2];
} pair;

static void make_pair(pair *p, int pattern, uint64_t seed) {
    int i;
    memset(p, 0, sizeof *p);
    fill(p->secret, sizeof p->secret, seed);
    fill(p->ephemeral, sizeof p->ephemeral, seed + 1);
    fill(p->psk, sizeof p->psk, seed + 2);
    for (i = 0; i < 2; i++) dls_x25519_public(p->public_key[i], p->secret[i]);
    for (i = 0; i < 2; i++) {
        dls_noise_desc *d = &p->desc[i];
        d->pattern = (dls_noise_pattern)pattern;
        d->initiator = i == 0;
        d->prologue = "dlshard/1";
        d->prologue_bytes = 9;
        d->secret = pattern == DLS_NOISE_NNPSK0 ? NULL : p->secret[i];
        d->public_key = i == 0 ? NULL : p->public_key[i];
        d->remote = pattern == DLS_NOISE_KKPSK0 ? p->public_key[1 - i] : NULL;
        d->psk = p->psk;
        d->ephemeral = p->ephemeral[i];
    }
}
static void begin_pair(pair *p) {
    int i;
    for (i = 0; i < 2; i++) CHECK_STATUS(dls_noise_init(&p->side[i], &p->desc[i]), DLS_OK);
}
static int messages_of(int pattern) { return pattern == DLS_NOISE_XXPSK3 ? 3 : 2; }

/* Message m with a payload of 12 bytes, written and not yet read. Returns its size. */
static size_t write_message(pair *p, int m, byte *out) {
    byte payload[12];
    size_t bytes;
    fill(payload, sizeof payload, (uint64_t)(100 + m));
    CHECK_STATUS(dls_noise_write(&p->side[m % 2], payload, 12, out, 256, &bytes), DLS_OK);
    return bytes;
}
static void read_message(pair *p, int m, const byte *message, size_t bytes) {
    byte payload[12], back[12];
    size_t got;
    fill(payload, sizeof payload, (uint64_t)(100 + m));
    CHECK_STATUS(dls_noise_read(&p->side[(m + 1) % 2], message, bytes, back, 12, &got), DLS_OK);
    CHECK(got == 12 && memcmp(back, payload, 12) == 0);
}
/* What a completed handshake must be like. */
static void check_done(pair *p) {
    byte key[2][2][32];
    int i;
    CHECK(memcmp(dls_noise_hash(&p->side[0]), dls_noise_hash(&p->side[1]), 32) == 0);
    for (i = 0; i < 2; i++) {
        const byte *remote = dls_noise_remote(&p->side[i]);
        dls_noise zero;
        CHECK(dls_noise_done(&p->side[i]));
        if (p->desc[i].secret == NULL)
            CHECK(remote == NULL);
        else
            CHECK(remote != NULL && memcmp(remote, p->public_key[1 - i], 32) == 0);
        CHECK_STATUS(dls_noise_split(&p->side[i], key[i][0], key[i][1]), DLS_OK);
        memset(&zero, 0, sizeof zero);
        CHECK(memcmp(&zero, &p->side[i], sizeof zero) == 0);
        CHECK(!dls_noise_done(&p->side[i]) && dls_noise_remote(&p->side[i]) == NULL);
        CHECK(dls_noise_hash(&p->side[i]) == NULL);
        CHECK_STATUS(dls_noise_split(&p->side[i], key[i][0], key[i][1]), DLS_E_STATE);
    }
    CHECK(memcmp(key[0][0], key[1][1], 32) == 0 && memcmp(key[0][1], key[1][0], 32) == 0);
    CHECK(memcmp(key[0][0], key[0][1], 32) != 0);
}
/* message is refused with that status by a side that stays as it was. */
static void refused(dls_noise *n, const byte *message, size_t bytes, dls_status status) {
    const dls_noise before = *n;
    byte payload[512];
    size_t got;
    CHECK_STATUS(dls_noise_read(n, message, bytes, payload, sizeof payload, &got), status);
    CHECK(got == 0 && memcmp(&before, n, sizeof before) == 0);
}

static void test_handshake_calls(void) {
    pair p;
    dls_noise n;
    dls_noise_desc d;
    byte out[256], payload[64], key[2][32];
    size_t bytes;
    int pattern, m;
    CHECK(sizeof(dls_noise) <= 400);
    for (pattern = 1; pattern <= 3; pattern++) {
        make_pair(&p, pattern, 1);
        begin_pair(&p);
        for (m = 0; m < messages_of(pattern); m++) {
            dls_noise *from = &p.side[m % 2], *to = &p.side[(m + 1) % 2];
            const size_t more = extra[pattern][m];
            CHECK(!dls_noise_done(from) && !dls_noise_done(to));
            CHECK_STATUS(dls_noise_split(from, key[0], key[1]), DLS_E_STATE);
            CHECK_STATUS(dls_noise_write(to, "", 0, out, sizeof out, &bytes), DLS_E_STATE);
            refused(from, out, more, DLS_E_STATE);
            CHECK_STATUS(dls_noise_write(from, "abc", 3, out, more + 2, &bytes), DLS_E_MEMORY);
            CHECK_STATUS(dls_noise_write(from, "abc", 65536 - more, out, 65536, &bytes), DLS_E_ARG);
            CHECK_STATUS(dls_noise_write(from, "abc", SIZE_MAX, out, SIZE_MAX, &bytes), DLS_E_ARG);
            CHECK_STATUS(dls_noise_write(from, NULL, 0, out, more, &bytes), DLS_OK);
            CHECK_INT(bytes, more);
            refused(to, out, more - 1, DLS_E_FORMAT);
            refused(to, out, 65536, DLS_E_FORMAT);
            CHECK_STATUS(dls_noise_read(to, out, more + 1, payload, 0, &bytes), DLS_E_MEMORY);
            CHECK_STATUS(dls_noise_read(to, out, more, NULL, 0, &bytes), DLS_OK);
            CHECK_INT(bytes, 0);
        }
        CHECK_STATUS(dls_noise_write(&p.side[m % 2], "", 0, out, sizeof out, &bytes), DLS_E_STATE);
        refused(&p.side[m % 2], out, 48, DLS_E_STATE);
        check_done(&p);

        for (m = 0; m < 5; m++) { /* keys that are missing, or of no use */
            d = p.desc[0];
            if (m == 0) d.psk = NULL;
            if (m == 1) d.ephemeral = NULL;
            if (m == 2) d.secret = d.secret == NULL ? p.secret[0] : NULL;
            if (m == 3) d.remote = d.remote == NULL ? p.public_key[1] : NULL;
            if (m == 4) d.prologue = NULL;
            CHECK_STATUS(dls_noise_init(&n, &d), DLS_E_ARG);
            CHECK_STATUS(dls_noise_write(&n, "", 0, out, sizeof out, &bytes), DLS_E_STATE);
        }
    }
    for (m = -1; m <= 4; m += 1) {
        if (m >= 1 && m <= 3) continue;
        d = p.desc[0];
        d.pattern = (dls_noise_pattern)m;
        CHECK_STATUS(dls_noise_init(&n, &d), DLS_E_ARG);
    }
}

/* Of random bytes that never change, and of another key or counter each: all unlike. */
static void test_handshake_ephemeral(void) {
    byte key[4][32], psk[32];
    int i, k;
    fill(psk, 32, 1);
    for (i = 0; i < 4; i++) {
        test_random_value = i == 1;
        psk[0] = i == 2;
        CHECK_STATUS(dls_noise_ephemeral(key[i], psk, i == 3), DLS_OK);
        for (k = 0; k < i; k++) CHECK(memcmp(key[i], key[k], 32) != 0);
    }
    test_random_value = -1;
    CHECK_STATUS(dls_noise_ephemeral(key[0], psk, 1), DLS_E_IO);
    test_random_value = 0;
}

/* No bit of a message may change, and none that was changed does harm. */
static void test_handshake_every_bit(void) {
    pair p;
    byte message[256];
    int pattern, m;
    for (pattern = 1; pattern <= 3; pattern++) {
        make_pair(&p, pattern, 10);
        begin_pair(&p);
        for (m = 0; m < messages_of(pattern); m++) {
            const size_t bytes = write_message(&p, m, message);
            dls_noise *to = &p.side[(m + 1) % 2];
            size_t bit;
            CHECK_INT(bytes, extra[pattern][m] + 12);
            for (bit = 0; bit < 8 * bytes; bit++) {
                message[bit / 8] ^= (byte)(1u << bit % 8);
                refused(to, message, bytes, DLS_E_AUTH);
                message[bit / 8] ^= (byte)(1u << bit % 8);
            }
            read_message(&p, m, message, bytes);
        }
        check_done(&p);
    }
}

static void test_handshake_lengths(void) {
    pair p;
    byte message[256 + 32];
    int pattern, m;
    for (pattern = 1; pattern <= 3; pattern++) {
        make_pair(&p, pattern, 20);
        begin_pair(&p);
        for (m = 0; m < messages_of(pattern); m++) {
            const size_t bytes = write_message(&p, m, message), more = extra[pattern][m];
            dls_noise *to = &p.side[(m + 1) % 2];
            size_t n;
            memset(message + bytes, 0, 32);
            for (n = 0; n <= bytes + 32; n++) {
                if (n < more) refused(to, message, n, DLS_E_FORMAT);
                if (n >= more && n != bytes) refused(to, message, n, DLS_E_AUTH);
            }
            read_message(&p, m, message, bytes);
        }
        check_done(&p);
    }
}

/* Whatever the sides do not agree on, no handshake completes, nor with an old or reflected message.
 */
static void test_handshake_disagreement(void) {
    pair p;
    byte message[256] = {0}, old[256], other[32];
    int pattern, what, m;
    fill(other, 32, 31);
    for (pattern = 1; pattern <= 3; pattern++)
        for (what = 0; what < 6; what++) {
            dls_status status = DLS_OK;
            make_pair(&p, pattern, 30);
            if (what == 0) p.desc[1].prologue = "dlshard/2";
            if (what == 1) p.desc[1].prologue_bytes = 8;
            if (what == 2) p.desc[1].psk = other;
            if (what == 3 && p.desc[1].remote != NULL) p.desc[1].remote = other;
            if (what == 4 && pattern == DLS_NOISE_KKPSK0) {
                p.desc[1].secret = other; /* not the one that the initiator knows */
                p.desc[1].public_key = NULL;
            }
            if (what == 5) p.desc[1].initiator = true;
            begin_pair(&p);
            for (m = 0; m < messages_of(pattern) && status == DLS_OK; m++) {
                byte back[12];
                size_t got, bytes = 0;
                status = dls_noise_write(&p.side[m % 2], "", 0, message, 256, &bytes);
                if (status == DLS_OK)
                    status = dls_noise_read(&p.side[(m + 1) % 2], message, bytes, back, 12, &got);
            }
            if ((what == 3 || what == 4) && pattern != DLS_NOISE_KKPSK0)
                CHECK_STATUS(status, DLS_OK);
            else
                CHECK_STATUS(status, what == 5 ? DLS_E_STATE : DLS_E_AUTH);
        }
    for (pattern = 1; pattern <= 3; pattern++) { /* the second message of another handshake */
        size_t bytes;
        make_pair(&p, pattern, 40);
        begin_pair(&p);
        bytes = write_message(&p, 0, message);
        read_message(&p, 0, message, bytes);
        (void)write_message(&p, 1, old);
        fill(p.ephemeral, 32, 49);
        begin_pair(&p);
        bytes = write_message(&p, 0, message);
        refused(&p.side[0], message, 108, DLS_E_AUTH);
        read_message(&p, 0, message, bytes);
        refused(&p.side[0], old, extra[pattern][1] + 12, DLS_E_AUTH);
        bytes = write_message(&p, 1, message);
        read_message(&p, 1, message, bytes);
    }
}

/* A member that sends a point of small order must not get a session whose key all can compute. */
static void test_handshake_weak_keys(void) {
    static const byte zero[32] = {0};
    static const byte one[32] = {1};
    pair p;
    dls_noise evil, before;
    byte message[256];
    size_t bytes;
    int i;
    for (i = 0; i < 2; i++) {
        make_pair(&p, DLS_NOISE_NNPSK0, 50);
        begin_pair(&p);
        evil = p.side[0]; /* knows the psk; e is no honest point */
        memcpy(message, i == 0 ? zero : one, 32);
        dlsi_noise_mix_psk(&evil);
        dlsi_noise_mix_hash(&evil, message, 32);
        dlsi_noise_mix_key(&evil, message);
        bytes = 32 + dlsi_noise_seal(&evil, message + 32, "x", 1);
        CHECK_STATUS(dls_noise_read(&p.side[1], message, bytes, message, 1, &bytes), DLS_OK);
        before = p.side[1];
        CHECK_STATUS(dls_noise_write(&p.side[1], "", 0, message, 256, &bytes), DLS_E_AUTH);
        CHECK(bytes == 0 && memcmp(&before, &p.side[1], sizeof before) == 0);
    }
    make_pair(&p, DLS_NOISE_KKPSK0, 51);
    p.desc[0].remote = zero;
    CHECK_STATUS(dls_noise_init(&p.side[0], &p.desc[0]), DLS_OK);
    CHECK_STATUS(dls_noise_write(&p.side[0], "", 0, message, 256, &bytes), DLS_E_AUTH);
}
