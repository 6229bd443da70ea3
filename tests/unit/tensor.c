/* tensor: counts never overflow, whatever the axes; sizes of elements; comparison. */

static size_t tensor_count(int32_t h, int32_t w, int32_t c) {
    dls_shape s;
    s.h = h;
    s.w = w;
    s.c = c;
    return dls_shape_count(s);
}
static void test_tensor_counts(void) {
    const int32_t odd[] = {INT32_MIN, -65536,        -1,       0,     1,       2,
                           3,         32767,         46341,    65536, 1 << 29, (1 << 30) - 1,
                           1 << 30,   (1 << 30) + 1, INT32_MAX};
    const int n = (int)(sizeof odd / sizeof *odd);
    CHECK_INT(tensor_count(28, 28, 3), 2352);
    CHECK_INT(tensor_count(1, 1, 1), 1);
    CHECK_INT(tensor_count(1 << 10, 1 << 10, 1 << 10), 1 << 30);
    CHECK_INT(tensor_count(1 << 10, 1 << 10, (1 << 10) + 1), 0);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            for (int k = 0; k < n; k++) {
                const double exact = (double)odd[i] * odd[j] * odd[k];
                const bool legal = odd[i] > 0 && odd[j] > 0 && odd[k] > 0 && exact <= DLS_DIM_MAX;
                CHECK((double)tensor_count(odd[i], odd[j], odd[k]) == (legal ? exact : 0));
            }
}
static void test_tensor_elements(void) {
    dls_shape a = {2, 3, 4}, b = {2, 3, 4};
    CHECK_INT(dls_dtype_bytes(DLS_F32), sizeof(dls_real));
    CHECK_INT(dls_dtype_bytes(DLS_I32), 4);
    CHECK_INT(dls_dtype_bytes(DLS_U8), 1);
    CHECK(dls_shape_equal(a, b));
    b.h = 3;
    CHECK(!dls_shape_equal(a, b));
    b = a, b.w = 4;
    CHECK(!dls_shape_equal(a, b));
    b = a, b.c = 3;
    CHECK(!dls_shape_equal(a, b));
}

static void tensor_tests(void) {
    RUN(tensor_counts);
    RUN(tensor_elements);
}
