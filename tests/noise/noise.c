/* Handshakes, records, cookies, certificates, rosters, manifests: against vectors.txt, against
   references written here another way, and with every bit of what was sent changed in turn. */
#include <stddef.h>
#include <string.h>

static int test_random_value; /* what random bytes are; -1: there are none */
static int test_random(void *to, size_t bytes) {
    memset(to, test_random_value, bytes);
    return test_random_value < 0 ? -1 : 0;
}
#define DLS_RANDOM(ptr, bytes) test_random(ptr, bytes)
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

typedef unsigned char byte;

/* ---- vectors.txt: lines of a word and values ---- */

static FILE *vectors;
static char line[4096];
static char *word[4];

/* The next line's words, false at the end. Comments are skipped. */
static bool next_line(void) {
    int i;
    do
        if (fgets(line, sizeof line, vectors) == NULL) return false;
    while (line[0] == '#');
    for (i = 0; i < 4; i++) word[i] = strtok(i == 0 ? line : NULL, " \n");
    return word[0] != NULL && word[1] != NULL;
}
static size_t from_hex(byte *to, size_t max, const char *hex) {
    size_t n = 0;
    unsigned value;
    for (; n < max && sscanf(hex, "%2x", &value) == 1; hex += 2) to[n++] = (byte)value;
    return n;
}
/* The golden value of that name; 0: not found. */
static size_t golden(byte *to, size_t max, const char *name) {
    rewind(vectors);
    while (next_line())
        if (strcmp(word[0], "golden") == 0 && strcmp(word[1], name) == 0)
            return from_hex(to, max, word[2]);
    return 0;
}
static bool is_golden(const char *name, const void *bytes, size_t size) {
    byte want[512];
    return golden(want, sizeof want, name) == size && memcmp(want, bytes, size) == 0;
}

static void fill(void *to, size_t bytes, uint64_t seed) {
    size_t i;
    for (i = 0; i < bytes; i++) ((byte *)to)[i] = (byte)dls_rand_at(seed, (uint32_t)i);
}

#include "noise/handshake.c"

#include "noise/record.c"

#include "noise/identity.c"

int main(int argc, char **argv) {
    vectors = fopen("noise/vectors.txt", "r");
    if (vectors == NULL) return 2;
    test_start("noise", argc, argv);
    RUN(handshake_rows);
    RUN(handshake_vectors);
    RUN(handshake_calls);
    RUN(handshake_ephemeral);
    RUN(handshake_every_bit);
    RUN(handshake_lengths);
    RUN(handshake_disagreement);
    RUN(handshake_weak_keys);
    RUN(record_round_trip);
    RUN(record_every_bit);
    RUN(record_window);
    RUN(record_rekey);
    RUN(record_limits);
    RUN(record_counter);
    RUN(cookie_values);
    RUN(cookie_forged);
    RUN(cookie_clock);
    RUN(identity_values);
    RUN(identity_every_bit);
    RUN(identity_refused);
    RUN(identity_find);
    RUN(manifest_values);
    RUN(manifest_chunks);
    fclose(vectors);
    return test_end();
}
