/* base: errors, generator, hashes, checked sizes, elementary functions, numbers in text. */

static void test_base_crc32c(void) {
    CHECK_INT(dls_crc32c(0, "123456789", 9), 0xE3069283); /* the check value of CRC-32C */
    CHECK_INT(dls_crc32c(dls_crc32c(0, "1234", 4), "56789", 5), 0xE3069283);
    CHECK_INT(dls_crc32c(0, NULL, 0), 0);
    {
        unsigned char bytes[32]; /* RFC 3720 B.4 */
        memset(bytes, 0, sizeof bytes);
        CHECK_INT(dls_crc32c(0, bytes, 32), 0x8A9136AA);
        memset(bytes, 0xFF, sizeof bytes);
        CHECK_INT(dls_crc32c(0, bytes, 32), 0x62A8AB43);
        for (int i = 0; i < 32; i++) bytes[i] = (unsigned char)i;
        CHECK_INT(dls_crc32c(0, bytes, 32), 0x46DD794E);
    }
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
/* Every element lands everywhere about equally often, over seeds; the largest n works too. */
static void test_base_shuffle_is_even(void) {
    int count[10][10] = {{0}};
    double chi = 0;
    for (uint32_t seed = 0; seed < 4000; seed++)
        for (uint32_t i = 0; i < 10; i++) count[i][dls_shuffle_at(seed, 10, i)]++;
    for (int i = 0; i < 10; i++)
        for (int j = 0; j < 10; j++) chi += pow(count[i][j] - 400, 2) / 400;
    CHECK(chi > 45 && chi < 130); /* 81 degrees of freedom, deviation 12.7 */
    for (uint32_t i = 0; i < 100; i++)
        CHECK(dls_shuffle_at(3, 0x80000000u, i * 21474836u) >> 31 == 0);
}

/* ---- Generator ---- */

static void test_base_generator_is_the_same_everywhere(void) {
    dls_rng rng = {42, 0};
    const uint32_t first = dls_rand_at(42, 0), second = dls_rand_at(42, 1);
    CHECK_INT(dls_rng_u32(&rng), first);
    CHECK_INT(dls_rng_u32(&rng), second);
    CHECK_INT(rng.next, 2);
    CHECK(dls_rand_at(42, 7) != dls_rand_at(43, 7));
    CHECK(dls_rand_at(42, 7) !=
          dls_rand_at(42 + ((uint64_t)1 << 32), 7)); /* the high half counts */
    rng.next = (uint64_t)1 << 32;                    /* the stream does not begin again */
    CHECK(dls_rng_u32(&rng) != first);
}
static void test_base_uniform_distribution(void) {
    dls_rng rng = {1, 0};
    int bin[64] = {0};
    double sum = 0, square = 0, chi = 0, lag = 0, last = 0.5;
    for (int i = 0; i < 64000; i++) {
        const double x = (double)dls_rng_uniform(&rng);
        CHECK(x >= 0 && x < 1);
        bin[(int)(x * 64)]++;
        sum += x;
        square += x * x;
        lag += (x - 0.5) * (last - 0.5);
        last = x;
    }
    for (int i = 0; i < 64; i++) chi += pow(bin[i] - 1000, 2) / 1000;
    CHECK_NEAR(sum / 64000, 0.5, 0.005);
    CHECK_NEAR(square / 64000, 1.0 / 3, 0.005);
    CHECK_NEAR(lag / 64000, 0, 0.0015);
    CHECK(chi > 25 && chi < 110); /* 63 degrees of freedom */
}
static void test_base_bits_are_even(void) {
    int ones[32] = {0};
    for (uint32_t i = 0; i < 20000; i++)
        for (int b = 0; b < 32; b++) ones[b] += (int)(dls_rand_at(5, i) >> b & 1u);
    for (int b = 0; b < 32; b++) CHECK(ones[b] > 9700 && ones[b] < 10300);
}
static void test_base_normal_distribution(void) {
    dls_rng rng = {2, 0};
    double moment[5] = {0};
    int within = 0, beyond = 0;
    for (int i = 0; i < 50000; i++) {
        const double x = (double)dls_rng_normal(&rng);
        for (int m = 1; m <= 4; m++) moment[m] += pow(x, m) / 50000;
        within += fabs(x) < 1;
        beyond += fabs(x) > 3;
    }
    CHECK_INT(rng.next, 100000);
    CHECK_NEAR(moment[1], 0, 0.02);
    CHECK_NEAR(moment[2], 1, 0.03);
    CHECK_NEAR(moment[3], 0, 0.06);
    CHECK_NEAR(moment[4], 3, 0.15);
    CHECK_NEAR(within / 50000.0, 0.6827, 0.01);
    CHECK_NEAR(beyond / 50000.0, 0.0027, 0.001);
}

/* ---- Hashes ---- */

static void test_base_hash64(void) {
    const unsigned char bytes[24] = "abcdefghijklmnopqrstuvw";
    const uint64_t whole = dls_hash64(1, bytes, 24);
    CHECK(dls_hash64(dls_hash64(1, bytes, 8), bytes + 8, 16) == whole);
    CHECK(dls_hash64(1, bytes, 0) == 1);
    for (size_t n = 0; n < 24; n++) /* every length, also against zeros at the end */
        CHECK(dls_hash64(1, bytes, n) != dls_hash64(1, bytes, n + 1));
    CHECK(dls_hash64(1, "a\0", 1) != dls_hash64(1, "a\0", 2));
    CHECK(dls_hash64(2, bytes, 24) != whole);
}
static void test_base_hash64_reals(void) {
    const dls_real x[3] = {1, (dls_real)-0.5, 0}, y[3] = {1, (dls_real)-0.5, (dls_real)-0.0};
    CHECK(dls_hash64_reals(9, x, 3) == dls_hash64_reals(dls_hash64_reals(9, x, 1), x + 1, 2));
    CHECK(dls_hash64_reals(9, x, 3) != dls_hash64_reals(9, y, 3)); /* bits, not values */
    CHECK(dls_hash64_reals(9, x, 0) == 9);
}

/* ---- Errors ---- */

static void test_base_status_texts(void) {
    for (int i = 0; i < (int)DLS_STATUS_COUNT; i++) {
        const char *text = dls_status_text((dls_status)i);
        CHECK(strncmp(text, "DLS_", 4) == 0 && strchr(text, ':') != NULL);
        for (int j = 0; j < i; j++) CHECK(strcmp(text, dls_status_text((dls_status)j)) != 0);
    }
    CHECK_TEXT(dls_status_text(DLS_E_SHAPE), "DLS_E_SHAPE: ");
    CHECK_TEXT(dls_status_text(DLS_E_MISMATCH), "DLS_E_MISMATCH: ");
    CHECK_TEXT(dls_status_text(DLS_STATUS_COUNT), "unknown");
    CHECK_TEXT(dls_status_text((dls_status)-1), "unknown");
}
static void test_base_error_text(void) {
    dls_error e = {DLS_E_LIMIT, 12, "{0} of {1}, {2}; '{s}' {3} {", "conv", {-7, 0, INT32_MIN}};
    char text[200], small[9];
    CHECK_TEXT(dls_error_text(&e, text, sizeof text), "DLS_E_LIMIT: ");
    CHECK_TEXT(text, ", node 12 (conv). -7 of 0, -2147483648; 'conv' {3} {");
    for (size_t n = 1; n <= sizeof small; n++) { /* cut to fit, always ended */
        memset(small, '#', sizeof small);
        CHECK(dls_error_text(&e, small, n) == small);
        CHECK_INT(strlen(small), n - 1);
        CHECK(strncmp(small, text, n - 1) == 0);
    }
    e.name = NULL;
    CHECK_TEXT(dls_error_text(&e, text, sizeof text), ", node 12. -7 of 0, -2147483648; '?'");
    e.node = -1;
    CHECK(strstr(dls_error_text(&e, text, sizeof text), "node") == NULL);
    e.what = NULL;
    CHECK(strcmp(dls_error_text(&e, text, sizeof text), dls_status_text(DLS_E_LIMIT)) == 0);
    memset(&e, 0, sizeof e);
    CHECK(strcmp(dls_error_text(&e, text, sizeof text), "DLS_OK: no error") == 0);
}
static void test_base_first_error_stays(void) {
    dls_error e;
    dlsi_error_clear(&e);
    CHECK_INT(e.node, -1);
    CHECK_STATUS(dlsi_fail(&e, DLS_E_IO, "first", "n", 1, 2, 3), DLS_E_IO);
    CHECK_STATUS(dlsi_fail(&e, DLS_E_ARG, "second", NULL, 4, 5, 6), DLS_E_ARG);
    CHECK_STATUS(e.status, DLS_E_IO);
    CHECK_TEXT(e.what, "first");
    CHECK_INT(e.arg[2], 3);
    CHECK_STATUS(dlsi_fail(NULL, DLS_E_PEER, "nowhere", NULL, 0, 0, 0), DLS_E_PEER);
    dlsi_error_clear(NULL);
}

/* ---- Sizes, bytes, layout ---- */

static void test_base_checked_sizes(void) {
    CHECK(dlsi_mul(SIZE_MAX / 2, 2) == SIZE_MAX - 1);
    CHECK(dlsi_mul(SIZE_MAX / 2 + 1, 2) == SIZE_MAX);
    CHECK(dlsi_mul(dlsi_mul(SIZE_MAX, 3), 4) == SIZE_MAX);
    CHECK(dlsi_mul(0, SIZE_MAX) == 0);
    CHECK(dlsi_add(SIZE_MAX - 1, 1) == SIZE_MAX);
    CHECK(dlsi_add(SIZE_MAX, 5) == SIZE_MAX);
    CHECK(dlsi_add(3, 4) == 7);
    CHECK(dlsi_round_up(0, 16) == 0 && dlsi_round_up(1, 16) == 16 && dlsi_round_up(32, 16) == 32);
    CHECK(dlsi_round_up(SIZE_MAX, 64) > SIZE_MAX - 64); /* not 0 */
    CHECK(dlsi_round_up(SIZE_MAX - 63, 64) == SIZE_MAX - 63);
    CHECK_INT(dlsi_ceil_div(7, 3), 3);
    CHECK_INT(dlsi_ceil_div(6, 3), 2);
}
static void test_base_bytes(void) {
    unsigned char b[8];
    dlsi_store64(b, 0x0123456789ABCDEFu);
    CHECK_INT(b[0], 0xEF);
    CHECK_INT(b[7], 0x01);
    CHECK(dlsi_load64(b) == 0x0123456789ABCDEFu);
    CHECK_INT(dlsi_load32(b + 1), 0x6789ABCD);
    CHECK_INT(dlsi_load16(b + 6), 0x0123);
    dlsi_store16(b, 0x1FFFF);
    CHECK_INT(dlsi_load32(b), 0x89ABFFFF);
    CHECK_INT(dlsi_little_endian(), *(const unsigned char *)(const uint16_t[]){1});
    CHECK(dlsi_bits_float(dlsi_float_bits(-1.5f)) == -1.5f);
    CHECK(dlsi_finite(1e308) && !dlsi_finite(HUGE_VAL) && !dlsi_finite(-HUGE_VAL));
    CHECK(!dlsi_finite(NAN));
}
static void test_base_layout(void) {
    static unsigned char block[1024];
    for (size_t skew = 0; skew < 5; skew++) {
        dlsi_layout measure = dlsi_layout_at(NULL), place = dlsi_layout_at(block + skew * 13);
        unsigned char *a, *b;
        CHECK(dlsi_layout_take(&measure, 100) == NULL);
        CHECK(dlsi_layout_take(&measure, 1) == NULL);
        a = (unsigned char *)dlsi_layout_take(&place, 100);
        b = (unsigned char *)dlsi_layout_take(&place, 1);
        CHECK_INT((uintptr_t)a % DLS_ALIGN, 0);
        CHECK(b >= a + 100);
        CHECK(a >= block + skew * 13);
        CHECK(b + 1 <= block + skew * 13 + dlsi_layout_total(&measure));
    }
    {
        dlsi_layout l = dlsi_layout_at(NULL);
        (void)dlsi_layout_take(&l, SIZE_MAX - 3); /* too much once is too much for good */
        CHECK(l.used == SIZE_MAX);
        (void)dlsi_layout_take(&l, 1);
        CHECK(l.used == SIZE_MAX && dlsi_layout_total(&l) == SIZE_MAX);
    }
}
static void test_base_heap(void) {
    unsigned char *mem = (unsigned char *)dlsi_heap_take(100);
    CHECK_INT((uintptr_t)mem % DLS_ALIGN, 0);
    memset(mem, 1, 100);
    dlsi_heap_give(mem);
    dlsi_heap_give(NULL);
    CHECK(dlsi_heap_take(0) == NULL);
    CHECK(dlsi_heap_take(SIZE_MAX) == NULL);
    CHECK(dlsi_heap_reals(SIZE_MAX / 2) == NULL);
    unit_mallocs_left = 0;
    CHECK(dlsi_heap_take(100) == NULL);
    CHECK(dlsi_heap_reals(4) == NULL);
    unit_mallocs_left = -1;
}

/* ---- Elementary functions against libm ---- */

static void test_base_elementary(void) {
    double worst[6] = {0};
    for (int i = -4000; i <= 4000; i++) {
        const double x = i * 0.1237 + 0.0001, p = exp(i * 0.01);
        worst[0] = fmax(worst[0], fabs(dlsi_exp(x) / exp(x) - 1));
        worst[1] = fmax(worst[1], fabs(dlsi_log(p) - log(p)) / fmax(fabs(log(p)), 1));
        worst[2] = fmax(worst[2], fabs(dlsi_sin(x) - sin(x)));
        worst[3] = fmax(worst[3], fabs(dlsi_cos(x * 1000) - cos(x * 1000)));
        worst[4] = fmax(worst[4], fabs(dlsi_sqrt(p) / sqrt(p) - 1));
        worst[5] = fmax(worst[5], fabs((double)dlsi_logf((float)p) - log((double)(float)p)) /
                                      fmax(fabs(log((double)(float)p)), 1e-2));
    }
    CHECK_NEAR(worst[0], 0, 3e-15);
    CHECK_NEAR(worst[1], 0, 3e-15);
    CHECK_NEAR(worst[2], 0, 3e-15);
    CHECK_NEAR(worst[3], 0, 1e-12);
    CHECK_NEAR(worst[4], 0, 3e-16);
    CHECK_NEAR(worst[5], 0, 1e-6);
    CHECK_NEAR(dlsi_exp(-800), 0, 0);
    CHECK(dlsi_exp(800) > 1e299 && dlsi_finite(dlsi_exp(800)));
    CHECK_NEAR(dlsi_sqrt(0), 0, 0);
    CHECK_NEAR(dlsi_round(2.5), 2, 0);
    CHECK_NEAR(dlsi_round(-3.5), -4, 0);
    CHECK_NEAR(dlsi_power(1.5, 10), pow(1.5, 10), 1e-12);
    CHECK_NEAR(dlsi_power(3, 0), 1, 0);
    CHECK_NEAR(dlsi_scale2(0.75, -3), 0.09375, 0);
    for (uint32_t u = 0x00800000u; u < 0x7F000000u; u += 0x012345u) /* correctly rounded */
        CHECK(dlsi_sqrtf(dlsi_bits_float(u)) == sqrtf(dlsi_bits_float(u)));
}

/* ---- Numbers in text ---- */

static void base_number(const char *text, double value, const char *rest) {
    const char *p = text;
    double got = -12345;
    const bool good = dlsi_number(&p, text + strlen(text), &got);
    test_checks++;
    if (rest == NULL ? good
                     : !good || !(got == value || fabs(got - value) <= 1e-14 * fabs(value)) ||
                           strcmp(p, rest) != 0)
        test_report(__FILE__, __LINE__, "\"%s\": %d, %.17g, \"%s\"", text, good, got, p);
}
static void test_base_numbers(void) {
    base_number("0", 0, "");
    base_number("-12.5,3", -12.5, ",3");
    base_number("  +7\t,", 7, ",");
    base_number("\"3.25\";", 3.25, ";");
    base_number(".5", 0.5, "");
    base_number("5.", 5, "");
    base_number("1e3", 1000, "");
    base_number("1.5E-3 x", 0.0015, "x");
    base_number("2e+2", 200, "");
    base_number("1e-310", 1e-310, "");
    base_number("1e-999", 0, "");
    base_number("1e99999999999", HUGE_VAL, "");
    base_number("-", 0, NULL);
    base_number("", 0, NULL);
    base_number("abc", 0, NULL);
    base_number(".", 0, NULL);
}

static void test_base_zero_with_an_enormous_exponent(void) {
    static const char text[] = "-0e520";
    const char *at = text;
    double v = 1;
    CHECK(dlsi_number(&at, text + sizeof text - 1, &v) && at == text + sizeof text - 1);
    CHECK_NEAR(v, 0, 0); /* not zero times infinity */
}

static void base_tests(void) {
    RUN(base_zero_with_an_enormous_exponent);
    RUN(base_crc32c);
    RUN(base_shuffle_is_a_permutation);
    RUN(base_shuffle_is_even);
    RUN(base_generator_is_the_same_everywhere);
    RUN(base_uniform_distribution);
    RUN(base_bits_are_even);
    RUN(base_normal_distribution);
    RUN(base_hash64);
    RUN(base_hash64_reals);
    RUN(base_status_texts);
    RUN(base_error_text);
    RUN(base_first_error_stays);
    RUN(base_checked_sizes);
    RUN(base_bytes);
    RUN(base_layout);
    RUN(base_heap);
    RUN(base_elementary);
    RUN(base_numbers);
}
