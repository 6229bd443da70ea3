/* aead.c - ChaCha20-Poly1305 of dlshard beside OpenSSL's, the two timed in turns.
     cc -O2 -I. tools/bench_peers/aead.c -lcrypto -lpthread -o aead && ./aead [SECONDS a size]
   Both seal the same message with 16 bytes of associated data, in place, one thread. A turn is
   about a millisecond; the figure is the best third's mean, so that a noisy neighbour costs both
   the same. One line a size: bytes, GB/s of each, ratio. First it checks that both agree. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum { TURNS = 3000 };

static unsigned char key[32], nonce[12], ad[16];
static EVP_CIPHER_CTX *context;

static void peer_seal(unsigned char *m, unsigned char *tag, int n) {
    int out;
    EVP_EncryptInit_ex(context, NULL, NULL, key, nonce);
    EVP_EncryptUpdate(context, NULL, &out, ad, sizeof ad);
    EVP_EncryptUpdate(context, m, &out, m, n);
    EVP_EncryptFinal_ex(context, m + n, &out);
    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag);
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double turn(int peer, unsigned char *m, int n, int calls) {
    unsigned char tag[16];
    const double start = now();
    int i;
    for (i = 0; i < calls; i++) {
        if (peer)
            peer_seal(m, tag, n);
        else
            dls_aead_seal(m, tag, m, (size_t)n, ad, sizeof ad, nonce, key);
        nonce[0] = tag[0]; /* the next call waits for this one */
    }
    return (now() - start) / calls;
}
static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double best_third(double *t, int n) {
    const int third = n < 3 ? n : n / 3;
    double sum = 0;
    int i;
    qsort(t, (size_t)n, sizeof *t, by_value);
    for (i = 0; i < third; i++) sum += t[i];
    return sum / third;
}
static int agree(unsigned char *a, unsigned char *b, int n) {
    unsigned char tag_a[16], tag_b[16];
    int i;
    for (i = 0; i < n; i++) a[i] = b[i] = (unsigned char)(i * 7 + n);
    dls_aead_seal(a, tag_a, a, (size_t)n, ad, sizeof ad, nonce, key);
    peer_seal(b, tag_b, n);
    return memcmp(a, b, (size_t)n) == 0 && memcmp(tag_a, tag_b, 16) == 0;
}

int main(int argc, char **argv) {
    static const int size[] = {64, 256, 1200, 4096, 16384, 65536};
    const double seconds = argc > 1 ? atof(argv[1]) : 1.0;
    static double ours[TURNS], theirs[TURNS];
    unsigned char *a = malloc(65536 + 16), *b = malloc(65536 + 16);
    size_t s;
    context = EVP_CIPHER_CTX_new();
    if (a == NULL || b == NULL || context == NULL ||
        EVP_EncryptInit_ex(context, EVP_chacha20_poly1305(), NULL, NULL, NULL) != 1)
        return 2;
    printf("bytes   dlshard GB/s   OpenSSL GB/s   ratio   (best third of turns in alternation)\n");
    for (s = 0; s < sizeof size / sizeof *size; s++) {
        const int n = size[s];
        const double start = now();
        int calls = 1, turns = 0;
        double mine, peer;
        if (!agree(a, b, n)) {
            printf("%d bytes: the two disagree\n", n);
            return 1;
        }
        while (turn(1, b, n, calls) * calls < 0.5e-3) calls *= 2;
        while (turns < TURNS && now() - start < seconds) {
            ours[turns] = turn(0, a, n, calls);
            theirs[turns++] = turn(1, b, n, calls);
        }
        mine = best_third(ours, turns);
        peer = best_third(theirs, turns);
        printf("%5d   %12.3f   %12.3f   %5.2f\n", n, 1e-9 * n / mine, 1e-9 * n / peer, peer / mine);
    }
    EVP_CIPHER_CTX_free(context);
    free(a);
    free(b);
    return 0;
}
