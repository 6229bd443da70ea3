/* mcu.c - the primitives on a Cortex-M that QEMU plays: answers of the RFCs, stack used, and, where
   QEMU counts (-icount shift=0: a nanosecond an instruction), instructions by SysTick's 25 MHz.
   Compiled with -DPART=n also shows what links: 1 X25519, 2 AEAD, 4 BLAKE2s, 8 verification. */
static int test_random(void *to, unsigned bytes);
#define DLS_RANDOM(ptr, bytes) test_random(ptr, (unsigned)(bytes))
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "board.h"
#ifndef PART
#define PART 15
#endif

/* No noise source here: it fails, and that must arrive. */
static int test_random(void *to, unsigned bytes) {
    (void)to;
    (void)bytes;
    return -1;
}

#define SYSTICK ((volatile uint32_t *)0xE000E010u)
static void start(void) {
    SYSTICK[1] = 0xFFFFFFu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* the processor's clock */
    board_stack_paint();
    SYSTICK[2] = 0;
}
static void said(const char *what, uint32_t number) {
    board_print(what);
    board_print(" ");
    board_print_number(number);
    board_print("\n");
}
static void report(const char *what, bool good) {
    const uint32_t ticks = 0xFFFFFFu - SYSTICK[2], stack = board_stack_used();
    board_print(what);
    said(good ? " good stack" : " WRONG stack", stack);
    board_print(what);
    said(" instructions", ticks * 40u);
}

/* RFC 7748 6.1, Alice's secret and Bob's public key. */
static const unsigned char secret[32] = {
    0x77, 0x07, 0x6D, 0x0A, 0x73, 0x18, 0xA5, 0x7D, 0x3C, 0x16, 0xC1, 0x72, 0x51, 0xB2, 0x66, 0x45,
    0xDF, 0x4C, 0x2F, 0x87, 0xEB, 0xC0, 0x99, 0x2A, 0xB1, 0x77, 0xFB, 0xA5, 0x1D, 0xB9, 0x2C, 0x2A};
static const unsigned char theirs[32] = {
    0xDE, 0x9E, 0xDB, 0x7D, 0x7B, 0x7D, 0xC1, 0xB4, 0xD3, 0x5B, 0x61, 0xC2, 0xEC, 0xE4, 0x35, 0x37,
    0x3F, 0x83, 0x43, 0xC8, 0x5B, 0x78, 0x67, 0x4D, 0xAD, 0xFC, 0x7E, 0x14, 0x6F, 0x88, 0x2B, 0x4F};
static const unsigned char shared[32] = {
    0x4A, 0x5D, 0x9D, 0x5B, 0xA4, 0xCE, 0x2D, 0xE1, 0x72, 0x8E, 0x3B, 0xF4, 0x80, 0x35, 0x0F, 0x25,
    0xE0, 0x7E, 0x21, 0xC9, 0x47, 0xD1, 0x9E, 0x33, 0x76, 0xF0, 0x9B, 0x3C, 0x1E, 0x16, 0x17, 0x42};
static const unsigned char abc[32] = {
    0x50, 0x8C, 0x5E, 0x8C, 0x32, 0x7C, 0x14, 0xE2, 0xE1, 0xA7, 0x2B, 0xA3, 0x4E, 0xEB, 0x45, 0x2F,
    0x37, 0x45, 0x8B, 0x20, 0x9E, 0xD6, 0x3A, 0x29, 0x4D, 0x99, 0x9B, 0x4C, 0x86, 0x67, 0x59, 0x82};
/* RFC 8032 7.1, test 2. */
static const unsigned char signer[32] = {
    0x3D, 0x40, 0x17, 0xC3, 0xE8, 0x43, 0x89, 0x5A, 0x92, 0xB7, 0x0A, 0xA7, 0x4D, 0x1B, 0x7E, 0xBC,
    0x9C, 0x98, 0x2C, 0xCF, 0x2E, 0xC4, 0x96, 0x8C, 0xC0, 0xCD, 0x55, 0xF1, 0x2A, 0xF4, 0x66, 0x0C};
static const unsigned char signature[64] = {
    0x92, 0xA0, 0x09, 0xA9, 0xF0, 0xD4, 0xCA, 0xB8, 0x72, 0x0E, 0x82, 0x0B, 0x5F, 0x64, 0x25, 0x40,
    0xA2, 0xB2, 0x7B, 0x54, 0x16, 0x50, 0x3F, 0x8F, 0xB3, 0x76, 0x22, 0x23, 0xEB, 0xDB, 0x69, 0xDA,
    0x08, 0x5A, 0xC1, 0xE4, 0x3E, 0x15, 0x99, 0x6E, 0x45, 0x8F, 0x36, 0x13, 0xD0, 0xF1, 0x1D, 0x8C,
    0x38, 0x7B, 0x2E, 0xAE, 0xB4, 0x30, 0x2A, 0xEE, 0xB0, 0x0D, 0x29, 0x16, 0x12, 0xBB, 0x0C, 0x00};
static unsigned char out[32], text[1024], tag[16];

static void part_x25519(void) {
    dls_status st;
    start();
    st = dls_x25519(out, secret, theirs);
    report("x25519", st == DLS_OK && dls_equal(out, shared, 32));
}
static void part_aead(void) { /* its answers: see the difference tests; here it must come back */
    static const unsigned char nonce[12] = {1};
    unsigned i;
    bool good;
    start();
    dls_aead_seal(text, tag, text, sizeof text, secret, 24, nonce, theirs);
    report("seal of 1024 bytes", true);
    start();
    good = dls_aead_open(text, text, sizeof text, tag, secret, 24, nonce, theirs) == DLS_OK;
    for (i = 0; i < sizeof text; i++) good = good && text[i] == 0;
    report("open of 1024 bytes", good);
    tag[0] ^= 1u;
    good = dls_aead_open(text, text, 100, tag, secret, 24, nonce, theirs) == DLS_E_AUTH;
    report("forgery", good);
}
static void part_hash(void) {
    start();
    dls_hash(out, 32, NULL, 0, "abc", 3);
    report("blake2s of 3 bytes", dls_equal(out, abc, 32));
    start();
    dls_hash(out, 32, NULL, 0, text, 1024);
    report("blake2s of 1024 bytes", true);
    start();
    dls_hkdf(secret, theirs, 32, out, text, NULL);
    report("hkdf", true);
}
static void part_verify(void) {
    bool good;
    start();
    good = dls_ed25519_verify(signature, "r", 1, signer) == DLS_OK;
    report("verify", good && dls_ed25519_verify(signature, "s", 1, signer) == DLS_E_AUTH);
}

int main(void) {
    start();
    report("random", dls_random(text, 32) == DLS_E_IO);
    if ((PART & 1) != 0) part_x25519();
    if ((PART & 2) != 0) part_aead();
    if ((PART & 4) != 0) part_hash();
    if ((PART & 8) != 0) part_verify();
    board_exit(0);
    return 0;
}
