/* base: errors, generator, hashes, checked sizes. */

static void test_base_crc32c(void) {
    CHECK_INT(dls_crc32c(0, "123456789", 9), 0xE3069283); /* the check value of CRC-32C */
    CHECK_INT(dls_crc32c(dls_crc32c(0, "1234", 4), "56789", 5), 0xE3069283);
    CHECK_INT(dls_crc32c(0, NULL, 0), 0);
}

static void test_base_shuffle_is_a_permutation(void) {
    static unsigned char seen[1000];
    for (uint32_t n = 1; n <= 1000; n = n * 2 + 1) {
        memset(seen, 0, sizeof seen);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t at = dls_shuffle_at(7, n, i);
            CHECK(at < n);
            if (at < n) seen[at]++;
        }
        for (uint32_t i = 0; i < n; i++) CHECK_INT(seen[i], 1);
    }
}

static void base_tests(void) {
    RUN(base_crc32c);
    RUN(base_shuffle_is_a_permutation);
}
