/* crypto.c - vectors of others, and properties that need no other implementation.
     crypto VECTORS NAME [TEST]    NAME: of this build or CPU, stands in the result lines */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include "test.h"

enum { LINE_MOST = 4096, FIELDS = 10, BYTES_MOST = 1024 };
static const char *vectors_path;

/* One line of the file, its fields as text and as bytes. */
typedef struct vector {
    char text[LINE_MOST];
    char *word[FIELDS];
    unsigned char bytes[FIELDS][BYTES_MOST];
    size_t size[FIELDS];
    int fields;
} vector;

static int hex(int c) { return c <= '9' ? c - '0' : c - 'a' + 10; }
static void parse(vector *v) {
    char *at = strtok(v->text, " \n");
    for (v->fields = 0; at != NULL && v->fields < FIELDS; at = strtok(NULL, " \n")) {
        const int f = v->fields++;
        size_t i, n = strspn(at, "0123456789abcdef") == strlen(at) ? strlen(at) / 2 : 0;
        if (n > BYTES_MOST) n = 0;
        v->word[f] = at;
        v->size[f] = n;
        for (i = 0; i < n; i++)
            v->bytes[f][i] = (unsigned char)(hex(at[2 * i]) * 16 + hex(at[2 * i + 1]));
    }
}
/* Calls check for each line of a kind; there must be so many. */
static void each(const char *kind, int count, void (*check)(const vector *)) {
    static vector v;
    FILE *file = fopen(vectors_path, "r");
    int seen = 0;
    CHECK(file != NULL);
    if (file == NULL) return;
    while (fgets(v.text, sizeof v.text, file) != NULL) {
        if (strncmp(v.text, kind, strlen(kind)) != 0 || v.text[strlen(kind)] != ' ') continue;
        parse(&v);
        check(&v);
        seen++;
    }
    fclose(file);
    CHECK_INT(seen, count);
}
static bool same(const void *a, const void *b, size_t n) { return memcmp(a, b, n) == 0; }
#define CHECK_CASE(v, c)                                                                           \
    (test_checks++,                                                                                \
     (c) ? (void)0                                                                                 \
         : test_report(__FILE__, __LINE__, "%s %s: not true: %s", (v)->word[0], (v)->word[1], #c))

/* ---- Ciphers of this processor ---- */

static const dlsi_cipher ciphers[] = {DLSI_CIPHER_SCALAR, DLSI_CIPHER_NEON, DLSI_CIPHER_AVX2,
                                      DLSI_CIPHER_AVX512, DLSI_CIPHER_IFMA};
static bool usable(dlsi_cipher c) {
    const dlsi_cipher best = dlsi_cipher_best();
    if (c == DLSI_CIPHER_SCALAR || c == best) return true;
    return c <= best && c != DLSI_CIPHER_NEON;
}

static unsigned char pattern(size_t i, unsigned seed) {
    return (unsigned char)(dls_rand_at(seed, (uint32_t)i) & 255u);
}
static void fill(unsigned char *p, size_t n, unsigned seed) {
    size_t i;
    for (i = 0; i < n; i++) p[i] = pattern(i, seed);
}

/* ---- Vectors ---- */

static void one_x25519(const vector *v) {
    static const unsigned char zero[32] = {0};
    const bool refused = same(v->bytes[4], zero, 32);
    unsigned char out[32];
    const dls_status st = dls_x25519(out, v->bytes[2], v->bytes[3]);
    CHECK_CASE(v, st == (refused ? DLS_E_AUTH : DLS_OK));
    CHECK_CASE(v, same(out, v->bytes[4], 32));
    memcpy(out, v->bytes[2], 32); /* in place of either input */
    (void)dls_x25519(out, out, v->bytes[3]);
    CHECK_CASE(v, same(out, v->bytes[4], 32));
    memcpy(out, v->bytes[3], 32);
    (void)dls_x25519(out, v->bytes[2], out);
    CHECK_CASE(v, same(out, v->bytes[4], 32));
}
static void test_x25519(void) { each("x25519", 518 + 2, one_x25519); }

static void one_iterated(const vector *v) {
    unsigned char k[32] = {9}, u[32] = {9}, t[32];
    int i, n = atoi(v->word[1]);
    for (i = 0; i < n; i++) {
        CHECK_STATUS(dls_x25519(t, k, u), DLS_OK);
        memcpy(u, k, 32);
        memcpy(k, t, 32);
    }
    CHECK_CASE(v, same(k, v->bytes[2], 32));
}
static void test_x25519_iterated(void) { each("iterated", 2, one_iterated); }

static void one_aead(const vector *v) {
    const unsigned char *key = v->bytes[3], *nonce = v->bytes[4], *ad = v->bytes[5];
    const size_t n = v->size[7], ad_n = v->size[5];
    const bool valid = v->word[2][0] == 'v';
    unsigned char to[BYTES_MOST], tag[16];
    size_t c;
    dls_status st = dls_aead_open(to, v->bytes[7], n, v->bytes[8], ad, ad_n, nonce, key);
    CHECK_CASE(v, st == (valid ? DLS_OK : DLS_E_AUTH));
    if (!valid) return;
    CHECK_CASE(v, same(to, v->bytes[6], n));
    dls_aead_seal(to, tag, v->bytes[6], n, ad, ad_n, nonce, key);
    CHECK_CASE(v, same(to, v->bytes[7], n) && same(tag, v->bytes[8], 16));
    for (c = 0; c < sizeof ciphers / sizeof *ciphers; c++) {
        if (!usable(ciphers[c])) continue;
        memset(to, 0, sizeof to);
        dlsi_aead_seal_by(ciphers[c], to, tag, v->bytes[6], n, ad, ad_n, nonce, key);
        CHECK_CASE(v, same(to, v->bytes[7], n) && same(tag, v->bytes[8], 16));
        CHECK_CASE(v, dlsi_aead_open_by(ciphers[c], to, to, n, tag, ad, ad_n, nonce, key) == 0);
        CHECK_CASE(v, same(to, v->bytes[6], n));
    }
}
static void test_aead(void) { each("aead", 316 + 1, one_aead); }

static void one_rekey(const vector *v) {
    static const unsigned char nonce[12] = {0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255};
    unsigned char key[32], zero[32] = {0}, tag[16];
    int i;
    memcpy(key, v->bytes[1], 32);
    for (i = 2; i < v->fields; i++) {
        dls_aead_seal(key, tag, zero, 32, NULL, 0, nonce, key);
        CHECK_CASE(v, same(key, v->bytes[i], 32));
    }
}
static void test_rekey(void) { each("rekey", 1, one_rekey); }

static void one_ed25519(const vector *v) {
    const dls_status st = dls_ed25519_verify(v->bytes[5], v->bytes[4], v->size[4], v->bytes[3]);
    CHECK_CASE(v, st == (v->word[2][0] == 'v' ? DLS_OK : DLS_E_AUTH));
}
static void test_ed25519(void) { each("ed25519", 139, one_ed25519); }
static void test_ed25519_speccheck(void) { each("speccheck", 12, one_ed25519); }
static void one_sign(const vector *v) {
    unsigned char key[32], sig[64];
    dls_ed25519_public(key, v->bytes[2]);
    CHECK_CASE(v, same(key, v->bytes[3], 32));
    dls_ed25519_sign(sig, v->bytes[4], v->size[4], v->bytes[2]);
    CHECK_CASE(v, same(sig, v->bytes[5], 64));
    CHECK_CASE(v, dls_ed25519_verify(sig, v->bytes[4], v->size[4], key) == DLS_OK);
}
static void test_ed25519_sign(void) { each("sign", 3, one_sign); }

static void one_blake2s(const vector *v) {
    unsigned char in[256], out[32];
    size_t i;
    const size_t n = (size_t)atoi(v->word[1]);
    for (i = 0; i < sizeof in; i++) in[i] = (unsigned char)i;
    dls_hash(out, 32, in, v->word[2][0] == '1' ? 32 : 0, in, n);
    CHECK_CASE(v, same(out, v->bytes[3], 32));
}
static void test_blake2s(void) { each("blake2s", 512, one_blake2s); }
static void one_abc(const vector *v) {
    unsigned char out[32];
    dls_hash(out, 32, NULL, 0, "abc", 3);
    CHECK_CASE(v, same(out, v->bytes[1], 32));
}
static void test_blake2s_abc(void) { each("abc", 1, one_abc); }

/* RFC 7693 appendix E: digests of many sizes, keyed and not, hashed. */
static void sequence(unsigned char *out, size_t n, uint32_t seed) {
    uint32_t a = 0xDEAD4BADu * seed, b = 1, t;
    size_t i;
    for (i = 0; i < n; i++) {
        t = a + b;
        a = b;
        b = t;
        out[i] = (unsigned char)(t >> 24);
    }
}
static void one_selftest(const vector *v) {
    static const uint32_t sizes[4] = {16, 20, 28, 32}, lengths[6] = {0, 3, 64, 65, 255, 1024};
    unsigned char in[1024], out[32], key[32];
    dls_blake2s all;
    int i, j;
    dls_blake2s_init(&all, NULL, 0, 32);
    for (i = 0; i < 4; i++)
        for (j = 0; j < 6; j++) {
            sequence(in, lengths[j], lengths[j]);
            dls_hash(out, sizes[i], NULL, 0, in, lengths[j]);
            dls_blake2s_update(&all, out, sizes[i]);
            sequence(key, sizes[i], sizes[i]);
            dls_hash(out, sizes[i], key, sizes[i], in, lengths[j]);
            dls_blake2s_update(&all, out, sizes[i]);
        }
    dls_blake2s_final(&all, out);
    CHECK_CASE(v, same(out, v->bytes[1], 32));
}
static void test_blake2s_selftest(void) { each("selftest", 1, one_selftest); }

/* ---- Properties ---- */

static void test_equal_and_wipe(void) {
    unsigned char a[70], b[70];
    size_t i;
    fill(a, sizeof a, 1);
    memcpy(b, a, sizeof a);
    CHECK(dls_equal(a, b, sizeof a));
    CHECK(dls_equal(a, b, 0));
    for (i = 0; i < 8 * sizeof a; i++) {
        b[i / 8] ^= (unsigned char)(1u << (i % 8));
        CHECK(!dls_equal(a, b, sizeof a));
        CHECK(dls_equal(a, b, i / 8));
        b[i / 8] ^= (unsigned char)(1u << (i % 8));
    }
    dls_wipe(a + 1, 68);
    for (i = 1; i < 69; i++) CHECK_INT(a[i], 0);
    CHECK_INT(a[0], b[0]);
    CHECK_INT(a[69], b[69]);
    dls_wipe(NULL, 0);
}

static void test_random(void) {
    unsigned char a[1000], b[1000];
    int i, count[256] = {0}, most = 0;
    CHECK_STATUS(dls_random(a, sizeof a), DLS_OK);
    CHECK_STATUS(dls_random(b, sizeof b), DLS_OK);
    CHECK(!same(a, b, sizeof a));
    CHECK(!same(a, a + 256, 256)); /* it comes in pieces of 256 bytes */
    for (i = 0; i < 1000; i++) count[a[i]]++;
    for (i = 0; i < 256; i++) most = count[i] > most ? count[i] : most;
    CHECK(most < 40); /* 3.9 expected */
    CHECK_STATUS(dls_random(NULL, 0), DLS_OK);
}

/* As the peer seals and opens long records: what follows the first bytes stands elsewhere. */
static void seal_apart(dlsi_cipher cipher, const unsigned char *from, size_t n,
                       const unsigned char *want, const unsigned char *want_tag,
                       const unsigned char *ad, size_t ad_n, const unsigned char *nonce,
                       const unsigned char *key) {
    static unsigned char at[20100], far[20100];
    const size_t near = n < DLSI_AEAD_NEAR ? n : DLSI_AEAD_NEAR;
    unsigned char tag[16];
    uint32_t rest[16];
    memset(at, 0, sizeof at);
    memcpy(at, from, near);
    dlsi_aead_seal_two(cipher, at, tag, at, from + near, n, ad, ad_n, nonce, key);
    CHECK(same(at, want, n) && same(tag, want_tag, 16));
    CHECK(dlsi_aead_open_near(cipher, at, at, n, tag, ad, ad_n, nonce, key, rest) == 0);
    CHECK(same(at, from, near) && same(at + near, want + near, n - near));
    dlsi_chacha_xor(cipher, rest, far, at + near, n - near);
    CHECK(same(far, from + near, n - near));
    tag[n % 16] ^= 4;
    memcpy(at, want, n);
    CHECK(dlsi_aead_open_near(cipher, at, at, n, tag, ad, ad_n, nonce, key, rest) != 0);
    CHECK(same(at, want, n));
}
/* Each size, at odd addresses, in place and not, by each cipher: like the scalar one, opens again,
   and nothing beside the buffers is touched. */
static void seal_sizes(size_t first, size_t last, size_t step) {
    static unsigned char from[20100], to[20100], want[20100], again[20100], guard[20100];
    unsigned char key[32], nonce[12], ad[64], tag[16], want_tag[16];
    size_t n, c;
    fill(from, sizeof from, 2);
    fill(key, 32, 3);
    fill(nonce, 12, 4);
    fill(ad, 64, 5);
    fill(guard, sizeof guard, 6);
    for (n = first; n <= last; n += step) {
        const size_t ad_n = n % 65, at = n % 17, at2 = n % 13;
        memcpy(want, guard, sizeof want);
        dlsi_aead_seal_by(DLSI_CIPHER_SCALAR, want + at2, want_tag, from + at, n, ad, ad_n, nonce,
                          key);
        for (c = 0; c < sizeof ciphers / sizeof *ciphers; c++) {
            if (!usable(ciphers[c])) continue;
            memcpy(to, guard, sizeof to);
            dlsi_aead_seal_by(ciphers[c], to + at2, tag, from + at, n, ad, ad_n, nonce, key);
            CHECK(same(to, want, n + 64) && same(tag, want_tag, 16));
            seal_apart(ciphers[c], from + at, n, want + at2, want_tag, ad, ad_n, nonce, key);
            memcpy(again, guard, sizeof again);
            CHECK(dlsi_aead_open_by(ciphers[c], again + at, to + at2, n, tag, ad, ad_n, nonce,
                                    key) == 0);
            CHECK(same(again, guard, at) && same(again + at, from + at, n));
            CHECK(same(again + at + n, guard + at + n, 64));
            memcpy(again + at2, from + at, n);
            dlsi_aead_seal_by(ciphers[c], again + at2, tag, again + at2, n, ad, ad_n, nonce, key);
            CHECK(same(again + at2, want + at2, n) && same(tag, want_tag, 16));
            CHECK(dlsi_aead_open_by(ciphers[c], again + at2, again + at2, n, tag, ad, ad_n, nonce,
                                    key) == 0);
            CHECK(same(again + at2, from + at, n));
        }
    }
}
static void test_seal_every_size(void) { seal_sizes(0, 600, 1); }
static void test_seal_large_sizes(void) {
    seal_sizes(601, 2600, 13);
    seal_sizes(16300, 17500, 61);
    seal_sizes(19990, 20000, 1);
}

/* A forged message: each bit of tag, text, ad, nonce and key. The output stays as it was. */
static void test_forgeries_are_refused(void) {
    unsigned char key[32], nonce[12], ad[20], text[700], sealed[700], tag[16], out[700], old[700];
    unsigned char *part[5];
    size_t size[5], c, p, i, n;
    fill(key, 32, 1);
    fill(nonce, 12, 2);
    fill(ad, 20, 3);
    fill(text, 700, 4);
    fill(old, 700, 5);
    part[0] = tag, part[1] = sealed, part[2] = ad, part[3] = nonce, part[4] = key;
    size[0] = 16, size[2] = 20, size[3] = 12, size[4] = 32;
    for (c = 0; c < sizeof ciphers / sizeof *ciphers; c++) {
        if (!usable(ciphers[c])) continue;
        for (n = 0; n <= 700; n += n < 100 ? 33 : 200) {
            size[1] = n;
            dlsi_aead_seal_by(ciphers[c], sealed, tag, text, n, ad, 20, nonce, key);
            memcpy(out, old, sizeof out);
            for (p = 0; p < 5; p++)
                for (i = 0; i < 8 * size[p]; i++) {
                    part[p][i / 8] ^= (unsigned char)(1u << (i % 8));
                    CHECK(dlsi_aead_open_by(ciphers[c], out, sealed, n, tag, ad, 20, nonce, key) !=
                          0);
                    part[p][i / 8] ^= (unsigned char)(1u << (i % 8));
                }
            CHECK(same(out, old, sizeof out));
            CHECK(dlsi_aead_open_by(ciphers[c], out, sealed, n, tag, ad, 19, nonce, key) != 0);
            CHECK(n == 0 ||
                  dlsi_aead_open_by(ciphers[c], out, sealed, n - 1, tag, ad, 20, nonce, key) != 0);
            CHECK(dlsi_aead_open_by(ciphers[c], out, sealed, n, tag, ad, 20, nonce, key) == 0);
            CHECK(same(out, text, n));
        }
    }
}

/* Poly1305 where carries run far: h and blocks of all ones, r at its largest and smallest. */
static void test_poly1305_extremes(void) {
    unsigned char key[32], text[1024], tag[16], want[16];
    size_t c, r, m, n;
    for (r = 0; r < 6; r++)
        for (m = 0; m < 4; m++)
            for (n = 0; n <= 64; n++) {
                memset(key, r == 0 ? 0 : 255, 32);
                if (r == 2) memset(key, 1, 16);
                if (r == 3) memset(key, 252, 16);
                if (r == 4) memset(key + 1, 0, 15);
                if (r == 5) memset(key, 0, 15);
                memset(text, m == 0 ? 255 : m == 1 ? 0 : 251, sizeof text);
                if (m == 3) fill(text, sizeof text, (unsigned)r);
                for (c = 0; c < sizeof ciphers / sizeof *ciphers; c++) {
                    dlsi_poly p;
                    if (!usable(ciphers[c])) continue;
                    dlsi_poly_init(&p, key);
                    dlsi_poly_any(ciphers[c], &p, text, n);
                    dlsi_poly_any(ciphers[c], &p, text, 64 - n);
                    dlsi_poly_any(ciphers[c], &p, text, 33);
                    dlsi_poly_final(&p, 0, 0, tag);
                    if (c == 0) memcpy(want, tag, 16);
                    CHECK(same(tag, want, 16));
                }
            }
}

static void test_blake2s_split(void) {
    unsigned char in[320], want[32], out[33];
    size_t a, b, n;
    dls_blake2s h;
    fill(in, sizeof in, 7);
    for (n = 0; n < 300; n += 7)
        for (a = 0; a <= n; a += 5) {
            const size_t bytes = 1 + n % 32, key = (n / 7) % 33, at = a % 5;
            dls_hash(want, bytes, in, key, in + at, n);
            b = a + (n - a) / 2;
            dls_blake2s_init(&h, in, key, bytes);
            dls_blake2s_update(&h, in + at, a);
            dls_blake2s_update(&h, NULL, 0);
            dls_blake2s_update(&h, in + at + a, b - a);
            dls_blake2s_update(&h, in + at + b, n - b);
            memset(out, 0x5A, sizeof out);
            dls_blake2s_final(&h, out);
            CHECK(same(out, want, bytes));
            CHECK_INT(out[bytes], 0x5A);
        }
    for (n = 0; n < sizeof h; n++) CHECK_INT(((unsigned char *)&h)[n], 0); /* final wipes */
}

/* HMAC and HKDF by their definitions, from the hash alone. */
static void hmac_plain(unsigned char *out, const unsigned char *key, size_t key_n,
                       const unsigned char *data, size_t n) {
    unsigned char block[64] = {0}, text[64 + 400];
    size_t i;
    if (key_n > 64)
        dls_hash(block, 32, NULL, 0, key, key_n);
    else
        memcpy(block, key, key_n);
    for (i = 0; i < 64; i++) text[i] = block[i] ^ 0x36u;
    memcpy(text + 64, data, n);
    dls_hash(out, 32, NULL, 0, text, 64 + n);
    for (i = 0; i < 64; i++) text[i] = block[i] ^ 0x5Cu;
    memcpy(text + 64, out, 32);
    dls_hash(out, 32, NULL, 0, text, 96);
}
static void test_hmac_and_hkdf(void) {
    unsigned char key[200], data[400], out[32], want[32], k[32], o1[32], o2[33], o3[33], p1[33];
    size_t n;
    fill(key, sizeof key, 8);
    fill(data, sizeof data, 9);
    for (n = 0; n <= 200; n++) {
        hmac_plain(want, key, n, data, 2 * n);
        dls_hmac(out, key, n, data, 2 * n);
        CHECK(same(out, want, 32));
    }
    for (n = 0; n < 100; n += 11) {
        hmac_plain(k, key, 32, data, n);
        p1[0] = 1;
        hmac_plain(o1, k, 32, p1, 1);
        memcpy(p1, o1, 32);
        p1[32] = 2;
        hmac_plain(o2, k, 32, p1, 33);
        memcpy(p1, o2, 32);
        p1[32] = 3;
        hmac_plain(o3, k, 32, p1, 33);
        memcpy(p1, key, 32);
        dls_hkdf(p1, data, n, p1, out, NULL); /* the chaining key in place, as Noise wants it */
        CHECK(same(p1, o1, 32) && same(out, o2, 32));
        dls_hkdf(key, data, n, p1, out, want);
        CHECK(same(p1, o1, 32) && same(out, o2, 32) && same(want, o3, 32));
    }
}

/* Both ends of an exchange; the top bit of a public key and the clamped bits change nothing. */
static void test_x25519_exchange(void) {
    unsigned char a[32], b[32], pa[32], pb[32], s[32], t[32];
    unsigned i;
    for (i = 0; i < 20; i++) {
        fill(a, 32, 2 * i);
        fill(b, 32, 2 * i + 1);
        dls_x25519_public(pa, a);
        dls_x25519_public(pb, b);
        CHECK_STATUS(dls_x25519(s, a, pb), DLS_OK);
        CHECK_STATUS(dls_x25519(t, b, pa), DLS_OK);
        CHECK(same(s, t, 32));
        a[0] ^= 7u;
        a[31] ^= 192u;
        pb[31] ^= 128u;
        CHECK_STATUS(dls_x25519(t, a, pb), DLS_OK);
        CHECK(same(s, t, 32));
    }
}

static void test_signatures_by_bit(void) {
    unsigned char seed[32], key[32], msg[300], sig[64];
    unsigned i;
    fill(seed, 32, 1);
    fill(msg, sizeof msg, 2);
    dls_ed25519_public(key, seed);
    dls_ed25519_sign(sig, msg, sizeof msg, seed);
    CHECK_STATUS(dls_ed25519_verify(sig, msg, sizeof msg, key), DLS_OK);
    for (i = 0; i < 8 * 64; i += 3) {
        sig[i / 8] ^= (unsigned char)(1u << (i % 8));
        CHECK_STATUS(dls_ed25519_verify(sig, msg, sizeof msg, key), DLS_E_AUTH);
        sig[i / 8] ^= (unsigned char)(1u << (i % 8));
    }
    for (i = 0; i < 8 * 32; i += 5) {
        key[i / 8] ^= (unsigned char)(1u << (i % 8));
        CHECK_STATUS(dls_ed25519_verify(sig, msg, sizeof msg, key), DLS_E_AUTH);
        key[i / 8] ^= (unsigned char)(1u << (i % 8));
    }
    CHECK_STATUS(dls_ed25519_verify(sig, msg, sizeof msg - 1, key), DLS_E_AUTH);
}

int main(int argc, char **argv) {
    static char name[64];
    if (argc < 3) return 2;
    vectors_path = argv[1];
    snprintf(name, sizeof name, "crypto: %s", argv[2]);
    test_start(name, argc - 2, argv + 2);
    RUN(x25519);
    RUN(x25519_iterated);
    RUN(aead);
    RUN(rekey);
    RUN(ed25519);
    RUN(ed25519_speccheck);
    RUN(ed25519_sign);
    RUN(blake2s);
    RUN(blake2s_abc);
    RUN(blake2s_selftest);
    RUN(equal_and_wipe);
    RUN(random);
    RUN(seal_every_size);
    RUN(seal_large_sizes);
    RUN(forgeries_are_refused);
    RUN(poly1305_extremes);
    RUN(blake2s_split);
    RUN(hmac_and_hkdf);
    RUN(x25519_exchange);
    RUN(signatures_by_bit);
    return test_end();
}
