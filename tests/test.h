/* test.h - what every C test program uses. A test is a function; RUN(name) calls test_name() and
   prints "ok suite: name" or, after the messages of its failed checks, "FAIL suite: name".
   A program with test_main's argument runs only the tests whose names contain it. */
#ifndef TEST_H
#define TEST_H
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *test_suite = "?";
static const char *test_only;
static int test_failed, test_bad_checks, test_checks;

static void test_report(const char *file, int line, const char *format, ...) {
    va_list ap;
    if (++test_bad_checks > 8) return;
    printf("  %s:%d: ", file, line);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
}

#define CHECK(c)                                                                                   \
    (test_checks++, (c) ? (void)0 : test_report(__FILE__, __LINE__, "not true: %s", #c))
#define CHECK_INT(a, b)                                                                            \
    do {                                                                                           \
        const long long test_a = (long long)(a), test_b = (long long)(b);                          \
        test_checks++;                                                                             \
        if (test_a != test_b)                                                                      \
            test_report(__FILE__, __LINE__, "%s is %lld, not %s = %lld", #a, test_a, #b, test_b);  \
    } while (0)
#define CHECK_NEAR(a, b, tolerance)                                                                \
    do {                                                                                           \
        const double test_a = (double)(a), test_b = (double)(b);                                   \
        test_checks++;                                                                             \
        if (!(fabs(test_a - test_b) <= (double)(tolerance)))                                       \
            test_report(__FILE__, __LINE__, "%s is %.9g, not %s = %.9g", #a, test_a, #b, test_b);  \
    } while (0)
#define CHECK_STATUS(call, expected)                                                               \
    do {                                                                                           \
        const dls_status test_a = (call);                                                          \
        test_checks++;                                                                             \
        if (test_a != (expected))                                                                  \
            test_report(__FILE__, __LINE__, "%s: %s, not %s", #call, dls_status_text(test_a),      \
                        dls_status_text(expected));                                                \
    } while (0)
#define CHECK_TEXT(text, part)                                                                     \
    do {                                                                                           \
        const char *test_t = (text);                                                               \
        test_checks++;                                                                             \
        if (test_t == NULL || strstr(test_t, (part)) == NULL)                                      \
            test_report(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", test_t ? test_t : "(null)",     \
                        (part));                                                                   \
    } while (0)

static void test_run(const char *name, void (*test)(void)) {
    if (test_only != NULL && strstr(name, test_only) == NULL) return;
    test_bad_checks = 0;
    test_checks = 0;
    test();
    if (test_checks == 0) test_report("test.h", 0, "%s checked nothing", name);
    printf("%s %s: %s\n", test_bad_checks ? "FAIL" : "ok", test_suite, name);
    fflush(stdout);
    test_failed += test_bad_checks != 0;
}
#define RUN(name) test_run(#name, test_##name)

static void test_start(const char *suite, int argc, char **argv) {
    test_suite = suite;
    if (argc > 1) test_only = argv[1];
    setvbuf(stdout, NULL, _IOLBF, 0);
}
static int test_end(void) { return test_failed != 0; }
#endif
