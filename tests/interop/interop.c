/* interop PATTERN i|r COUNT: our side of COUNT handshakes with interop.go, over stdin and stdout.
   A message is a big-endian u16 of its size, then its bytes. Per handshake: keys from the other
   side (psk, our secret, its public key), the handshake, a message with our hash, 70 records each
   way, with a new key after 64. What we refuse we answer with one byte and wait for another. */
#define DLSI_REKEY_BITS 6
#define DLS_REPLAY_BITS 64
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include <stdio.h>
#include <stdlib.h>

static void need(bool good, const char *what) {
    if (good) return;
    fprintf(stderr, "interop.c: %s\n", what);
    exit(1);
}
static size_t get(unsigned char *to, size_t max) {
    unsigned char head[2];
    size_t bytes;
    if (fread(head, 1, 2, stdin) != 2) return 0;
    bytes = (size_t)head[0] << 8 | head[1];
    need(bytes <= max && fread(to, 1, bytes, stdin) == bytes, "input ends");
    return bytes;
}
static void put(const unsigned char *from, size_t bytes) {
    putchar((int)(bytes >> 8));
    putchar((int)(bytes & 255));
    fwrite(from, 1, bytes, stdout);
    fflush(stdout);
}

static unsigned char keys[96], buf[512], text[512];

/* Payload of message m, on both sides: so many bytes of the psk. */
static size_t payload_of(int m) { return keys[m % 32] % 33u; }

static void handshake(dls_noise *n, bool mine) {
    size_t bytes, got;
    int m;
    for (m = 0; !dls_noise_done(n); m++, mine = !mine) {
        const size_t want = payload_of(m);
        if (mine) {
            need(dls_noise_write(n, keys, want, buf, sizeof buf, &bytes) == DLS_OK, "write");
            put(buf, bytes);
            continue;
        }
        while ((bytes = get(buf, sizeof buf)) > 0 &&
               dls_noise_read(n, buf, bytes, text, sizeof text, &got) != DLS_OK)
            put(buf, 1);
        need(bytes > 0 && got == want && memcmp(text, keys, want) == 0, "payload");
    }
}
static void records(dls_session *s, bool mine) {
    int m;
    for (m = 0; m < 140; m++, mine = !mine) {
        const size_t want = payload_of(m);
        size_t bytes;
        if (mine) {
            need(dls_session_seal(s, buf, keys, want, NULL, 0, buf + want) == DLS_OK, "seal");
            put(buf, want + DLS_RECORD_TAG);
            continue;
        }
        bytes = get(buf, sizeof buf);
        need(bytes == want + DLS_RECORD_TAG &&
                 dls_session_open(s, s->top, buf, buf, want, buf + want, NULL, 0) == DLS_OK &&
                 memcmp(buf, keys, want) == 0,
             "record");
    }
}

int main(int argc, char **argv) {
    dls_noise_desc desc;
    int left;
    need(argc == 4, "PATTERN i|r COUNT");
    for (left = atoi(argv[3]); left > 0; left--) {
        unsigned char ephemeral[32], send[32], recv[32];
        dls_noise n;
        dls_session s;
        need(get(keys, sizeof keys) == sizeof keys, "keys");
        memset(&desc, 0, sizeof desc);
        desc.pattern = argv[1][0] == 'K'   ? DLS_NOISE_KKPSK0
                       : argv[1][0] == 'X' ? DLS_NOISE_XXPSK3
                                           : DLS_NOISE_NNPSK0;
        desc.initiator = argv[2][0] == 'i';
        desc.prologue = "interop";
        desc.prologue_bytes = 7;
        desc.psk = keys;
        if (desc.pattern != DLS_NOISE_NNPSK0) desc.secret = keys + 32;
        if (desc.pattern == DLS_NOISE_KKPSK0) desc.remote = keys + 64;
        desc.ephemeral = ephemeral;
        need(dls_noise_ephemeral(ephemeral, keys, (uint64_t)left) == DLS_OK, "random numbers");
        need(dls_noise_init(&n, &desc) == DLS_OK, "init");
        handshake(&n, desc.initiator);
        need(desc.pattern == DLS_NOISE_NNPSK0 || memcmp(dls_noise_remote(&n), keys + 64, 32) == 0,
             "identity");
        put(dls_noise_hash(&n), 32);
        need(dls_noise_split(&n, send, recv) == DLS_OK, "split");
        dls_session_init(&s, send, recv);
        records(&s, desc.initiator);
    }
    return 0;
}
