/* port: the clock goes on, files are read whole and replaced whole, failures say which file. */

static void test_port_clock(void) {
    const uint64_t start = dls_now_us();
    uint64_t last = start;
    CHECK(start > 0);
    for (int i = 0; i < 1000000 && last < start + 2000; i++) {
        const uint64_t now = dls_now_us();
        CHECK(now >= last);
        last = now;
    }
    CHECK(last >= start + 2000 && last < start + 5000000);
}
static void test_port_cpus(void) {
    CHECK(dls_cpu_count() >= 1);
    CHECK(dls_cpu_count() <= DLS_THREADS_MAX);
}

static const char *port_path(const char *name) { /* beside the program, in tests/build */
    static char path[600];
    const char *dir = getenv("BUILD");
    snprintf(path, sizeof path, "%.500s/unit.%s", dir != NULL ? dir : "build", name);
    return path;
}
static void test_port_files(void) {
    const char *path = port_path("file");
    const char text[] = "one\0two";
    char beside[640];
    dls_error error;
    void *bytes;
    size_t count;
    FILE *left;
    dlsi_error_clear(&error);
    CHECK_STATUS(dlsi_port_write_file(path, "old and longer", 14, &error), DLS_OK);
    CHECK_STATUS(dlsi_port_write_file(path, text, sizeof text, &error), DLS_OK);
    CHECK_STATUS(dlsi_port_read_file(path, &bytes, &count, &error), DLS_OK);
    CHECK_INT(count, sizeof text);
    CHECK(bytes != NULL && memcmp(bytes, text, sizeof text) == 0);
    CHECK_INT(((unsigned char *)bytes)[count], 0);
    unit_free(bytes);
    CHECK_STATUS(dlsi_port_write_file(path, text, 0, &error), DLS_OK); /* empty */
    CHECK_STATUS(dlsi_port_read_file(path, &bytes, &count, &error), DLS_OK);
    CHECK_INT(count, 0);
    unit_free(bytes);
    snprintf(beside, sizeof beside, "%s.new", path);
    left = fopen(beside, "rb");
    CHECK(left == NULL); /* nothing is left beside it */
    if (left != NULL) fclose(left);
    (void)remove(path);
}
static void test_port_file_failures(void) {
    char path[600], text[700];
    dls_error error;
    void *bytes = &error;
    size_t count = 3;
    dlsi_error_clear(&error);
    snprintf(path, sizeof path, "%s", port_path("no/such/file"));
    CHECK_STATUS(dlsi_port_read_file(path, &bytes, &count, &error), DLS_E_NOT_FOUND);
    CHECK(bytes == NULL && count == 0);
    CHECK_TEXT(dls_error_text(&error, text, sizeof text), "cannot open");
    CHECK_TEXT(text, "unit.no/such/file");
    dlsi_error_clear(&error);
    CHECK_STATUS(dlsi_port_write_file(path, "x", 1, &error), DLS_E_NOT_FOUND);
    CHECK_TEXT(dls_error_text(&error, text, sizeof text), "cannot create");
    dlsi_error_clear(&error);
    CHECK(dlsi_port_read_file(".", &bytes, &count, &error) != DLS_OK); /* a folder */
    CHECK(error.status != DLS_OK && bytes == NULL);
    dlsi_error_clear(&error);
    unit_mallocs_left = 0;
    CHECK_STATUS(dlsi_port_write_file(path, "x", 1, &error), DLS_E_MEMORY);
    CHECK_STATUS(dlsi_port_read_file("unit/main.c", &bytes, &count, &error), DLS_E_MEMORY);
    unit_mallocs_left = -1;
    CHECK_TEXT(dls_error_text(&error, text, sizeof text), "no memory");
}

static void port_tests(void) {
    RUN(port_clock);
    RUN(port_cpus);
    RUN(port_files);
    RUN(port_file_failures);
}
