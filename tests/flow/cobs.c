/* Serial framing: round trips, all short inputs, noise. */

static uint32_t cobs_u32(dls_rng *rng, uint32_t below) { return dls_rng_u32(rng) % below; }

/* Feeds bytes in pieces of random size; returns packets got, the last one in mem of c. */
static int cobs_feed(dls_cobs *c, const unsigned char *p, size_t n, dls_rng *rng, size_t *size) {
    int got = 0;
    while (n > 0) {
        const size_t part = 1 + cobs_u32(rng, (uint32_t)(n < 40 ? n : 40));
        size_t taken;
        const size_t one = dls_cobs_read(c, p, part, &taken);
        CHECK(taken >= 1 && taken <= part);
        if (one > 0) {
            got++;
            *size = one;
        } else
            CHECK(taken == part);
        p += taken;
        n -= taken;
    }
    return got;
}
static void test_cobs_layout(void) {
    /* worked by hand: 11 00 22, CRC-32C checked against the library's own, itself vector-tested */
    static const unsigned char packet[3] = {0x11, 0, 0x22};
    unsigned char want[9], to[DLS_COBS_BYTES(3)];
    const uint32_t crc = dls_crc32c(0, packet, 3);
    int i;
    want[0] = 2, want[1] = 0x11, want[2] = 6, want[3] = 0x22;
    for (i = 0; i < 4; i++) {
        want[4 + i] = (unsigned char)(crc >> 8 * i);
        CHECK(want[4 + i] != 0); /* else the packet is a poor choice */
    }
    want[8] = 0;
    CHECK_INT(dls_cobs_write(to, sizeof to, packet, 3), 9);
    CHECK(memcmp(to, want, 9) == 0);
    CHECK_INT(dls_cobs_write(to, sizeof to, packet, 0), 0);
    CHECK_INT(dls_cobs_write(to, DLS_COBS_BYTES(3) - 1, packet, 3), 0);
}
/* Every length up to 1,100, of random bytes, zeros, 255s, and zeros here and there. */
static void test_cobs_lengths(void) {
    static unsigned char packet[1100], line[DLS_COBS_BYTES(1100)], mem[1104];
    dls_rng rng = {7, 0};
    dls_cobs c;
    size_t n, i, size = 0;
    int kind;
    dls_cobs_init(&c, mem, sizeof mem);
    for (n = 1; n <= sizeof packet; n++)
        for (kind = 0; kind < 4; kind++) {
            size_t out;
            for (i = 0; i < n; i++) {
                packet[i] = (unsigned char)(kind == 1 ? 0 : kind == 2 ? 255 : cobs_u32(&rng, 256));
                if (kind == 3 && packet[i] == 0) packet[i] = 1;
            }
            out = dls_cobs_write(line, sizeof line, packet, n);
            CHECK(out > n && out <= DLS_COBS_BYTES(n));
            CHECK(memchr(line, 0, out - 1) == NULL && line[out - 1] == 0);
            CHECK_INT(cobs_feed(&c, line, out, &rng, &size), 1);
            CHECK(size == n && memcmp(mem, packet, n) == 0);
        }
    CHECK_INT(c.bad, 0);
    /* memory for one byte less: skipped, counted, and the next is read */
    dls_cobs_init(&c, mem, 103);
    n = dls_cobs_write(line, sizeof line, packet, 100);
    CHECK_INT(cobs_feed(&c, line, n, &rng, &size), 0);
    CHECK_INT(c.bad, 1);
    n = dls_cobs_write(line, sizeof line, packet, 99);
    CHECK_INT(cobs_feed(&c, line, n, &rng, &size), 1);
}
/* All inputs of 1, 2 and 3 bytes, each before a good packet: one is lost at most, when no zero
   stood between. */
static void test_cobs_exhaustive(void) {
    static const unsigned char packet[5] = {1, 2, 0, 4, 5};
    unsigned char line[DLS_COBS_BYTES(5)], mem[16];
    const size_t n = dls_cobs_write(line, sizeof line, packet, sizeof packet);
    long other = 0, missing = 0;
    uint32_t v;
    size_t bytes, i;
    for (bytes = 1; bytes <= 3; bytes++)
        for (v = 0; v < 1u << 8 * bytes; v++) {
            unsigned char noise[3];
            dls_cobs c;
            size_t taken, at = 0;
            dls_cobs_init(&c, mem, sizeof mem);
            for (i = 0; i < bytes; i++) noise[i] = (unsigned char)(v >> 8 * i);
            for (i = 0; i < bytes; i += taken)
                other += dls_cobs_read(&c, noise + i, bytes - i, &taken) != 0;
            for (i = 0; i < 2; i++) {
                const size_t got = dls_cobs_read(&c, line, n, &taken);
                CHECK(taken == n);
                other += got != 0 && (got != 5 || memcmp(mem, packet, 5) != 0);
                at += got != 0;
            }
            missing += at == 0 || (at == 1 && noise[bytes - 1] == 0);
        }
    CHECK_INT(other, 0);
    CHECK_INT(missing, 0);
}
/* Bit errors, lost and inserted bytes. Packets carry their number and are made from it. */
static void cobs_noise(double ber, double lost, double inserted, long packets, uint64_t seed) {
    static unsigned char packet[300], line[DLS_COBS_BYTES(300)], noisy[1000], mem[304];
    dls_rng rng = {0, 0}, chance = {0, 0};
    dls_cobs c;
    long k, damaged = 0, delivered = 0, corrupt = 0, clean_lost = 0;
    bool dirty_before = false;
    rng.seed = seed;
    chance.seed = seed ^ 99;
    dls_cobs_init(&c, mem, sizeof mem);
    for (k = 0; k < packets; k++) {
        const size_t n = 4 + cobs_u32(&rng, 297);
        size_t i, out, m = 0, taken, at;
        bool dirty = false, got = false;
        for (i = 0; i < n; i++) packet[i] = (unsigned char)(dls_rng_u32(&rng) >> 7);
        out = dls_cobs_write(line, sizeof line, packet, n);
        for (i = 0; i < out; i++) {
            unsigned char b = line[i];
            int bit;
            if (ber > 0 && dls_rng_uniform(&chance) < ber * 8) {
                bit = (int)cobs_u32(&chance, 8);
                b ^= (unsigned char)(1 << bit);
                dirty = true;
            }
            if (dls_rng_uniform(&chance) < lost) {
                dirty = true;
                continue;
            }
            noisy[m++] = b;
            if (dls_rng_uniform(&chance) < inserted) {
                noisy[m++] = (unsigned char)cobs_u32(&chance, 256);
                dirty = true;
            }
        }
        for (at = 0; at < m; at += taken) {
            const size_t size = dls_cobs_read(&c, noisy + at, m - at, &taken);
            if (size == 0) continue;
            if (size == n && memcmp(mem, packet, n) == 0)
                got = true;
            else
                corrupt++;
        }
        damaged += dirty;
        delivered += got;
        clean_lost += !dirty && !dirty_before && !got;
        dirty_before = dirty;
    }
    CHECK_INT(corrupt, 0);
    CHECK_INT(clean_lost, 0); /* a packet is lost only if it or the one before was damaged */
    CHECK(damaged > 0 && delivered > 0);
    CHECK(delivered >= packets - 2 * damaged);
}
static long cobs_count(void) {
    const char *full = getenv("FLOW_FULL");
    return full != NULL && full[0] == '1' ? 340000
                                          : 8000; /* three kinds of noise: over 1e6 in all */
}
static void test_cobs_noise_ber(void) {
    cobs_noise(1e-5, 0, 0, cobs_count(), 1);
    cobs_noise(1e-4, 0, 0, cobs_count(), 2);
    cobs_noise(1e-3, 0, 0, cobs_count(), 3);
}
static void test_cobs_noise_bytes(void) {
    cobs_noise(0, 1e-4, 0, cobs_count(), 4);
    cobs_noise(0, 0, 1e-4, cobs_count(), 5);
    cobs_noise(1e-4, 1e-3, 1e-3, cobs_count(), 6);
}
/* Random bytes alone: nothing is ever delivered, and memory stays in bounds (see the asan run). */
static void test_cobs_random(void) {
    static unsigned char noise[4096];
    unsigned char *mem = (unsigned char *)malloc(64);
    dls_rng rng = {12, 0};
    dls_cobs c;
    size_t i, at, taken;
    int k, got = 0;
    dls_cobs_init(&c, mem, 64);
    for (k = 0; k < 200; k++) {
        for (i = 0; i < sizeof noise; i++)
            noise[i] = (unsigned char)(k % 2 ? cobs_u32(&rng, 256) : cobs_u32(&rng, 6));
        for (at = 0; at < sizeof noise; at += taken)
            got += dls_cobs_read(&c, noise + at, sizeof noise - at, &taken) != 0;
    }
    CHECK_INT(got, 0);
    CHECK(c.bad > 1000);
    free(mem);
}

static void cobs_tests(void) {
    RUN(cobs_layout);
    RUN(cobs_lengths);
    RUN(cobs_exhaustive);
    RUN(cobs_noise_ber);
    RUN(cobs_noise_bytes);
    RUN(cobs_random);
}
