/* hooks.c - each primitive replaced by libsodium's or libcrypto's through the hook macros: results
   are theirs, each hook was called, and the failures that hooks report arrive. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <string.h>

static int calls[10], no_random;
static int hook_random(void *to, size_t bytes) {
    calls[0]++;
    randombytes_buf(to, bytes);
    return no_random;
}
static void hook_zero(void *mem, size_t bytes) {
    calls[1]++;
    sodium_memzero(mem, bytes);
}
static void hook_x25519(unsigned char *out, const unsigned char *secret,
                        const unsigned char *point) {
    calls[2]++;
    if (crypto_scalarmult(out, secret, point) != 0) memset(out, 0, 32);
}
static void hook_seal(void *to, unsigned char *tag, const void *from, size_t n, const void *ad,
                      size_t ad_n, const unsigned char *nonce, const unsigned char *key) {
    calls[3]++;
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(
        (unsigned char *)to, tag, NULL, (const unsigned char *)from, n, (const unsigned char *)ad,
        ad_n, NULL, nonce, key);
}
static int hook_open(void *to, const void *from, size_t n, const unsigned char *tag, const void *ad,
                     size_t ad_n, const unsigned char *nonce, const unsigned char *key) {
    calls[4]++;
    return crypto_aead_chacha20poly1305_ietf_decrypt_detached(
        (unsigned char *)to, NULL, (const unsigned char *)from, n, tag, (const unsigned char *)ad,
        ad_n, nonce, key);
}
static int hook_verify(const unsigned char *sig, const void *msg, size_t n,
                       const unsigned char *key) {
    calls[5]++;
    return crypto_sign_verify_detached(sig, (const unsigned char *)msg, n, key);
}
static void hook_sha512(unsigned char *out, const void *a, size_t a_n, const void *b, size_t b_n,
                        const void *c, size_t c_n) {
    crypto_hash_sha512_state s;
    calls[6]++;
    crypto_hash_sha512_init(&s);
    crypto_hash_sha512_update(&s, (const unsigned char *)a, a_n);
    crypto_hash_sha512_update(&s, (const unsigned char *)b, b_n);
    crypto_hash_sha512_update(&s, (const unsigned char *)c, c_n);
    crypto_hash_sha512_final(&s, out);
}
/* A hash of the hook's own, its state inside dls_blake2s. libcrypto has no keyed BLAKE2s here. */
static void hook_hash_init(void *state, const void *key, size_t key_n, size_t out_n) {
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    (void)key;
    calls[7] += key_n == 0 && out_n == 32;
    EVP_DigestInit_ex(c, EVP_blake2s256(), NULL);
    memcpy(state, &c, sizeof c);
}
static void hook_hash_update(void *state, const void *data, size_t n) {
    EVP_MD_CTX *c;
    calls[8]++;
    memcpy(&c, state, sizeof c);
    EVP_DigestUpdate(c, data, n);
}
static void hook_hash_final(void *state, void *out) {
    EVP_MD_CTX *c;
    calls[9]++;
    memcpy(&c, state, sizeof c);
    EVP_DigestFinal_ex(c, (unsigned char *)out, NULL);
    EVP_MD_CTX_free(c);
}
#define DLS_RANDOM(ptr, bytes) hook_random(ptr, bytes)
#define DLS_MEMZERO(ptr, bytes) hook_zero(ptr, bytes)
#define DLS_X25519(out32, secret32, public32) hook_x25519(out32, secret32, public32)
#define DLS_AEAD_SEAL(to, tag16, from, bytes, ad, ad_bytes, nonce12, key32)                        \
    hook_seal(to, tag16, from, bytes, ad, ad_bytes, nonce12, key32)
#define DLS_AEAD_OPEN(to, from, bytes, tag16, ad, ad_bytes, nonce12, key32)                        \
    hook_open(to, from, bytes, tag16, ad, ad_bytes, nonce12, key32)
#define DLS_HASH_INIT(b, key, key_bytes, out_bytes) hook_hash_init(b, key, key_bytes, out_bytes)
#define DLS_HASH_UPDATE(b, data, bytes) hook_hash_update(b, data, bytes)
#define DLS_HASH_FINAL(b, out) hook_hash_final(b, out)
#define DLS_ED25519_VERIFY(sig64, msg, bytes, public32) hook_verify(sig64, msg, bytes, public32)
#define DLS_SHA512(out64, a, a_bytes, b, b_bytes, c, c_bytes)                                      \
    hook_sha512(out64, a, a_bytes, b, b_bytes, c, c_bytes)
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include "test.h"

static void test_results_are_the_hooks(void) {
    unsigned char a[32], b[32], pa[32], pb[32], s[32], t[32], m[200], c[200], tag[16], sig[64];
    static const unsigned char nonce[12] = {1}, zero[32] = {0};
    unsigned size;
    size_t i;
    CHECK_STATUS(dls_random(a, 32), DLS_OK);
    CHECK_STATUS(dls_random(b, 32), DLS_OK);
    no_random = -1;
    memset(m, 1, sizeof m);
    CHECK_STATUS(dls_random(m, sizeof m), DLS_E_IO);
    for (i = 0; i < sizeof m; i++) CHECK_INT(m[i], 0);
    dls_x25519_public(pa, a);
    dls_x25519_public(pb, b);
    CHECK_STATUS(dls_x25519(s, a, pb), DLS_OK);
    CHECK_STATUS(dls_x25519(t, b, pa), DLS_OK);
    CHECK(memcmp(s, t, 32) == 0);
    CHECK_STATUS(dls_x25519(t, b, zero), DLS_E_AUTH);
    dls_aead_seal(c, tag, m, sizeof m, a, 32, nonce, s);
    CHECK_STATUS(dls_aead_open(c, c, sizeof m, tag, a, 32, nonce, s), DLS_OK);
    CHECK(memcmp(c, m, sizeof m) == 0);
    tag[0] ^= 1;
    CHECK_STATUS(dls_aead_open(c, c, sizeof m, tag, a, 32, nonce, s), DLS_E_AUTH);
    dls_ed25519_public(pa, a);
    dls_ed25519_sign(sig, m, sizeof m, a);
    CHECK_STATUS(dls_ed25519_verify(sig, m, sizeof m, pa), DLS_OK);
    CHECK_STATUS(dls_ed25519_verify(sig, m, sizeof m - 1, pa), DLS_E_AUTH);
    dls_hmac(s, a, 32, m, sizeof m);
    HMAC(EVP_blake2s256(), a, 32, m, sizeof m, t, &size);
    CHECK(memcmp(s, t, 32) == 0);
    dls_wipe(a, 32);
    CHECK(memcmp(a, zero, 32) == 0);
}
static void test_each_was_called(void) {
    size_t i;
    for (i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i] == 0) test_report(__FILE__, __LINE__, "hook %d was not called", (int)i);
    CHECK_INT(calls[0], 3);
}

int main(int argc, char **argv) {
    test_start("crypto: hooks", argc, argv);
    if (sodium_init() < 0) return 2;
    RUN(results_are_the_hooks);
    RUN(each_was_called);
    return test_end();
}
