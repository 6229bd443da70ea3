/* ct.c - run by valgrind, which reports branches and addresses that depend on undefined memory: so
   secrets are marked undefined. The verdicts that callers branch on are marked defined again.
   PLANT=1, 2: a branch, an address that depends on a secret; valgrind must report them. */
#include <stdbool.h>
#include <valgrind/memcheck.h>
static bool ct_public(bool verdict) {
    (void)VALGRIND_MAKE_MEM_DEFINED(&verdict, sizeof verdict);
    return verdict;
}
#define DLSI_PUBLIC(verdict) ct_public(verdict)
#define DLSHARD_STATIC
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include <stdio.h>
#ifndef PLANT
#define PLANT 0
#endif

#define SECRET(object) (void)VALGRIND_MAKE_MEM_UNDEFINED(object, sizeof(object))
#define PUBLIC(object) (void)VALGRIND_MAKE_MEM_DEFINED(object, sizeof(object))
static unsigned char key[32], nonce[12], ad[40], text[3000], sealed[3000], tag[16], out[3000];
static volatile int planted;

static int seal_and_open(dlsi_cipher cipher, size_t n) {
    int bad = 0;
    SECRET(key);
    SECRET(text);
    SECRET(ad);
    dlsi_aead_seal_by(cipher, sealed, tag, text, n, ad, 33, nonce, key);
    bad |= dlsi_aead_open_by(cipher, out, sealed, n, tag, ad, 33, nonce, key) != 0;
    PUBLIC(tag);
    tag[3] ^= 1;
    bad |= dlsi_aead_open_by(cipher, out, sealed, n, tag, ad, 33, nonce, key) == 0;
    return bad;
}
static int exchange(void) {
    static const unsigned char theirs[32] = {5, 2, 3};
    unsigned char mine[32], shared[32];
    SECRET(key);
    dls_x25519_public(mine, key);
    return dls_x25519(shared, key, theirs) != DLS_OK;
}
static void hashes(void) {
    unsigned char o1[32], o2[32], o3[32];
    SECRET(key);
    SECRET(text);
    dls_hash(o1, 32, key, 32, text, 200);
    dls_hmac(o1, text, 100, text, 200);
    dls_hkdf(key, text, 32, o1, o2, o3);
}
static int sign(void) {
    unsigned char mine[32], sig[64], seed[32];
    fflush(stdout);
    memset(seed, 7, sizeof seed);
    SECRET(seed);
    SECRET(text);
    dls_ed25519_public(mine, seed);
    dls_ed25519_sign(sig, text, 150, seed);
    PUBLIC(mine);
    PUBLIC(sig);
    PUBLIC(text);
    return dls_ed25519_verify(sig, text, 150, mine) != DLS_OK;
}

int main(void) {
    const dlsi_cipher best = dlsi_cipher_best();
    int bad = 0, c;
    for (c = DLSI_CIPHER_SCALAR; c <= (int)best; c++)
        if (c != DLSI_CIPHER_NEON || best == DLSI_CIPHER_NEON) {
            bad |= seal_and_open((dlsi_cipher)c, 90) << 1;
            bad |= seal_and_open((dlsi_cipher)c, 2999) << 1;
        }
    bad |= exchange() << 2;
    hashes();
    bad |= sign() << 3;
    if (PLANT == 1 && (key[3] & 1) != 0) planted = 1;
    if (PLANT == 2) planted = text[key[5]];
    PUBLIC(out);
    PUBLIC(sealed);
    printf("cipher %d, wrong results %d\n", (int)best, bad);
    return bad;
}
