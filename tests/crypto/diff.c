/* diff.c - the same inputs to dlshard and to libsodium (BLAKE2s: libcrypto), random and at edges.
     diff PRIMITIVE COUNT [SEED]    one of x25519 aead ed25519 sha512, or with -DWITH_CRYPTO blake2s
   Ends with status 1 and the input's number when they differ; SEED and number find it again. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef WITH_CRYPTO
#include <openssl/evp.h>
#include <openssl/hmac.h>
#else
#include <sodium.h>
#endif

static dls_rng rng;
static uint32_t below(uint32_t n) { return dls_rng_u32(&rng) % n; }
static void fill(unsigned char *p, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) p[i] = (unsigned char)(dls_rng_u32(&rng) >> 24);
}
static void flip(unsigned char *p, size_t n) {
    const uint32_t bit = below((uint32_t)(8 * n));
    p[bit / 8] ^= (unsigned char)(1u << bit % 8);
}

#ifdef WITH_CRYPTO
static int check_blake2s(void) {
    static unsigned char in[5000];
    unsigned char key[200], out[32], want[32];
    const size_t n = below(8) == 0 ? below(5000) : below(300), key_n = below(201);
    unsigned size = 32;
    const size_t cut = n == 0 ? 0 : below((uint32_t)n);
    dls_blake2s b;
    fill(in, n < 64 ? n : 64);
    in[below(5000)]++;
    fill(key, sizeof key);
    EVP_Digest(in, n, want, &size, EVP_blake2s256(), NULL);
    dls_blake2s_init(&b, NULL, 0, 32);
    dls_blake2s_update(&b, in, cut);
    dls_blake2s_update(&b, in + cut, n - cut);
    dls_blake2s_final(&b, out);
    if (memcmp(out, want, 32) != 0) return 1;
    if (below(4) != 0) return 0; /* HMAC() of libcrypto is slow */
    HMAC(EVP_blake2s256(), key, (int)key_n, in, n, want, &size);
    dls_hmac(out, key, key_n, in, n);
    return memcmp(out, want, 32) != 0;
}
static const struct {
    const char *name;
    int (*check)(void);
} table[] = {{"blake2s", check_blake2s}};
static int ready(void) { return 1; }
#else

/* ---- Edges of the field and the group, little-endian ---- */

static void add_small(unsigned char *p, int n) {
    int i;
    for (i = 0; i < 32; i++) {
        n += p[i];
        p[i] = (unsigned char)(n & 255);
        n >>= 8;
    }
}
static const unsigned char small_order[5][32] = {
    {0},
    {1},
    {0xE0, 0xEB, 0x7A, 0x7C, 0x3B, 0x41, 0xB8, 0xAE, 0x16, 0x56, 0xE3,
     0xFA, 0xF1, 0x9F, 0xC4, 0x6A, 0xDA, 0x09, 0x8D, 0xEB, 0x9C, 0x32,
     0xB1, 0xFD, 0x86, 0x62, 0x05, 0x16, 0x5F, 0x49, 0xB8, 0x00},
    {0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4,
     0x89, 0xF2, 0xEF, 0x98, 0xF0, 0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6,
     0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05},
    {0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B,
     0x76, 0x0D, 0x10, 0x67, 0x0F, 0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39,
     0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A}};
static void edge(unsigned char *p) {
    const uint32_t kind = below(8);
    if (kind < 4) {
        fill(p, 32);
    } else if (kind == 4) { /* near 0, p, 2^255, 2^256 */
        const uint32_t at = below(3);
        memset(p, at == 0 ? 0 : 255, 32);
        if (at == 1) p[31] = 127;
        add_small(p, (int)below(60) - 40);
    } else if (kind == 5) { /* runs of zeros and ones */
        size_t i;
        for (i = 0; i < 32; i++)
            p[i] = below(4) == 0 ? (unsigned char)below(256) : below(2) == 0 ? 0 : 255;
    } else if (kind == 6) { /* points of small order on either curve, also with the top bit */
        memcpy(p, small_order[below(5)], 32);
        if (below(2) == 0) p[31] ^= 128u;
    } else { /* near L */
        static const unsigned char order[16] = {0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58,
                                                0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14};
        memset(p, 0, 32);
        memcpy(p, order, 16);
        p[31] = 16;
        add_small(p, (int)below(4) - 2);
    }
}

static int check_x25519(void) {
    unsigned char secret[32], point[32], out[32], want[32];
    int refused;
    edge(secret);
    edge(point);
    refused = crypto_scalarmult(want, secret, point) != 0;
    if ((dls_x25519(out, secret, point) == DLS_E_AUTH) != refused) return 1;
    if (!refused && memcmp(out, want, 32) != 0) return 1;
    if (crypto_scalarmult_base(want, secret) != 0) return 1;
    dls_x25519_public(out, secret);
    return memcmp(out, want, 32) != 0;
}

static int check_aead(void) {
    static unsigned char from[40000], to[40000], want[40000], again[40000];
    unsigned char key[32], nonce[12], ad[600], tag[16], want_tag[16];
    const uint32_t kind = below(64);
    const size_t n = kind == 0 ? below(40000) : kind < 8 ? below(3000) : below(400);
    const size_t ad_n = below(16) == 0 ? below(600) : below(40);
    const dlsi_cipher best = dlsi_cipher_best(), by = (dlsi_cipher)below((uint32_t)best + 1);
    const dlsi_cipher cipher = by == DLSI_CIPHER_NEON ? best : by;
    int good, want_good;
    if (below(2) == 0) {
        memset(from, below(2) == 0 ? 0 : 255, n); /* key stream alone, and its complement */
    } else {
        fill(from, n < 100 ? n : 100);
    }
    fill(key, 32);
    fill(nonce, 12);
    fill(ad, ad_n);
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(want, want_tag, NULL, from, n, ad, ad_n,
                                                       NULL, nonce, key);
    dlsi_aead_seal_by(cipher, to, tag, from, n, ad, ad_n, nonce, key);
    if (memcmp(to, want, n) != 0 || memcmp(tag, want_tag, 16) != 0) return 1;
    if (below(2) == 0) flip(tag, 16);
    if (below(4) == 0 && n > 0) flip(to, n);
    want_good = crypto_aead_chacha20poly1305_ietf_decrypt_detached(again, NULL, to, n, tag, ad,
                                                                   ad_n, nonce, key) == 0;
    good = dlsi_aead_open_by(cipher, to, to, n, tag, ad, ad_n, nonce, key) == 0;
    if (good != want_good || (good && memcmp(to, from, n) != 0)) return 1;
    if (below(2) == 0) memset(key, 255, 32); /* Poly1305 alone, with keys the cipher never makes */
    if (below(8) == 0) memset(key, 0, 1 + below(16));
    crypto_onetimeauth_poly1305(want_tag, from, n / 16 * 16 + 16, key);
    {
        dlsi_poly p;
        dlsi_poly_init(&p, key);
        dlsi_poly_any(cipher, &p, from, n / 16);
        /* final adds a block of sizes: give it the last block as such */
        dlsi_poly_final(&p, (size_t)dlsi_load64(from + n / 16 * 16),
                        (size_t)dlsi_load64(from + n / 16 * 16 + 8), tag);
    }
    return memcmp(tag, want_tag, 16) != 0;
}

static int check_ed25519(void) {
    unsigned char seed[32], key[32], want_key[32], secret[64], sig[64], want[64], msg[300];
    const size_t n = below(300);
    int i, twice = (int)below(4);
    fill(seed, 32);
    fill(msg, n);
    dls_ed25519_public(key, seed);
    crypto_sign_seed_keypair(want_key, secret, seed);
    if (memcmp(key, want_key, 32) != 0) return 1;
    dls_ed25519_sign(sig, msg, n, seed);
    crypto_sign_detached(want, NULL, msg, n, secret);
    if (memcmp(sig, want, 64) != 0) return 1;
    if (dls_ed25519_verify(sig, msg, n, key) != DLS_OK) return 1;
    for (i = 0; i < twice; i++) { /* harm it: both must say the same */
        const uint32_t kind = below(8);
        if (kind == 0) edge(key);
        if (kind == 1) edge(sig);
        if (kind == 2) edge(sig + 32);
        if (kind == 3) flip(sig, 64);
        if (kind == 4) flip(key, 32);
        if (kind == 5) memcpy(sig, key, 32);
        if (kind == 6) memset(sig + 32, 0, 32); /* with A of small order R = 0, A, ... may hold */
        if (kind == 7) {                        /* S + L */
            static const unsigned char order[32] = {0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58,
                                                    0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14,
                                                    0,    0,    0,    0,    0,    0,    0,    0,
                                                    0,    0,    0,    0,    0,    0,    0,    16};
            int b, carry = 0;
            for (b = 0; b < 32; b++) {
                carry += sig[32 + b] + order[b];
                sig[32 + b] = (unsigned char)(carry & 255);
                carry >>= 8;
            }
        }
    }
    return (dls_ed25519_verify(sig, msg, n, key) == DLS_OK) !=
           (crypto_sign_verify_detached(sig, msg, n, key) == 0);
}

static int check_sha512(void) {
    static unsigned char in[3000];
    unsigned char out[64], want[64];
    const size_t n = below(8) == 0 ? below(3000) : below(400);
    const size_t a = n == 0 ? 0 : below((uint32_t)n), b = a + (n - a) / 2;
    fill(in, n < 64 ? n : 64);
    in[below(3000)]++;
    crypto_hash_sha512(want, in, n);
    dlsi_sha512_of(out, in, a, in + a, b - a, in + b, n - b);
    return memcmp(out, want, 64) != 0;
}

static const struct {
    const char *name;
    int (*check)(void);
} table[] = {{"x25519", check_x25519},
             {"aead", check_aead},
             {"ed25519", check_ed25519},
             {"sha512", check_sha512}};
static int ready(void) { return sodium_init() >= 0; }
#endif

int main(int argc, char **argv) {
    const long count = argc > 2 ? atol(argv[2]) : 0;
    long i;
    size_t t;
    if (argc < 3 || count < 1 || !ready()) return 2;
    rng.seed = argc > 3 ? (uint64_t)atol(argv[3]) : 1;
    for (t = 0; t < sizeof table / sizeof *table && strcmp(table[t].name, argv[1]) != 0; t++)
        ;
    if (t == sizeof table / sizeof *table) return 2;
    for (i = 0; i < count; i++) {
        if (table[t].check() == 0) continue;
        printf("%s: input %ld of seed %llu differs\n", argv[1], i, (unsigned long long)rng.seed);
        return 1;
    }
    printf("%s: %ld inputs alike\n", argv[1], count);
    return 0;
}
