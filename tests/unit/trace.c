/* trace: what was recorded is there in order, a full ring drops the oldest, and whatever stands in
   names, what is written parses. */

#include "json.h"
/* Whole text is UTF-8, decoded the slow way: each character encoded again must give its bytes. */
static bool utf8_valid(const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    while (*p != 0) {
        const int n = *p < 0x80 ? 1 : *p >> 5 == 6 ? 2 : *p >> 4 == 14 ? 3 : *p >> 3 == 30 ? 4 : 0;
        const unsigned least[5] = {0, 0, 0x80, 0x800, 0x10000};
        unsigned code = n == 1 ? *p : *p & (0x7Fu >> n);
        int i;
        if (n == 0) return false;
        for (i = 1; i < n; i++) {
            if (p[i] >> 6 != 2) return false;
            code = code << 6 | (p[i] & 63u);
        }
        if (code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
        p += n;
    }
    return true;
}
static int count_of(const char *text, const char *part) {
    int n = 0;
    for (; (text = strstr(text, part)) != NULL; text++) n++;
    return n;
}

static char trace_text[1 << 20];
static dls_trace_buffer trace_buffer(void) {
    dls_trace_buffer b;
    b.text = trace_text;
    b.used = 0;
    b.size = sizeof trace_text;
    trace_text[0] = '\0';
    return b;
}
static unsigned char trace_mem[DLS_TRACE_BYTES(64)];

static void test_trace_off(void) {
    CHECK_INT(dls_trace_begin(NULL), 0);
    dls_trace_end(NULL, 0, "a", 0, 0);
    dls_trace_span(NULL, 0, "a", 0, 1, 0);
    dls_trace_mark(NULL, 0, "a", 0, 0);
    dls_trace_count(NULL, "a", 1);
    dls_trace_sample(NULL, 0);
    dls_trace_clear(NULL);
    CHECK_INT(dls_trace_events(NULL), 0);
    CHECK_INT(dls_trace_dropped(NULL), 0);
    CHECK_INT(dls_trace_total(NULL, "a"), 0);
    CHECK(dls_trace_at(NULL, 0) == NULL);
}
static void test_trace_memory(void) {
    unsigned char mem[DLS_TRACE_BYTES(3) + 8];
    dls_trace t;
    int off;
    for (off = 0; off < 8; off++) { /* any alignment */
        CHECK_STATUS(dls_trace_init(&t, mem + off, DLS_TRACE_BYTES(3)), DLS_OK);
        CHECK(t.room == 3 && (unsigned char *)(t.event + 3) <= mem + off + DLS_TRACE_BYTES(3));
        CHECK_INT((uintptr_t)t.event % sizeof(uint64_t), 0);
    }
    CHECK_STATUS(dls_trace_init(&t, trace_mem, sizeof(dls_trace_event) - 1), DLS_E_MEMORY);
    CHECK_STATUS(dls_trace_init(&t, NULL, 1000), DLS_E_MEMORY);
    CHECK(sizeof(dls_trace_event) <= 32);
}
static void test_trace_records(void) {
    const dls_trace_event *e;
    const uint64_t before = dls_now_us();
    uint64_t begin;
    dls_trace t;
    CHECK_STATUS(dls_trace_init(&t, trace_mem, sizeof trace_mem), DLS_OK);
    begin = dls_trace_begin(&t);
    dls_trace_end(&t, 2, "forward", begin, 64);
    dls_trace_span(&t, 1, "late", 500, 400, 0);
    dls_trace_span(&t, 1, "long", 0, (uint64_t)1 << 40, 0);
    dls_trace_mark(&t, 0, "lost", 7, -3);
    CHECK_INT(dls_trace_events(&t), 4);
    e = dls_trace_at(&t, 0);
    CHECK(e->kind == DLS_TRACE_SPAN && e->track == 2 && e->value == 64);
    CHECK_TEXT(e->name, "forward");
    CHECK(e->at_us >= before && e->at_us + e->duration_us <= dls_now_us());
    CHECK_INT(dls_trace_at(&t, 1)->duration_us, 0);
    CHECK_INT(dls_trace_at(&t, 2)->duration_us, 0xFFFFFFFFu);
    e = dls_trace_at(&t, 3);
    CHECK(e->kind == DLS_TRACE_MARK && e->at_us == 7 && e->value == -3);
    CHECK(dls_trace_at(&t, 4) == NULL);
    dls_trace_clear(&t);
    CHECK_INT(dls_trace_events(&t), 0);
}
static void test_trace_overflow(void) {
    dls_trace t;
    int64_t i, k;
    CHECK_STATUS(dls_trace_init(&t, trace_mem, DLS_TRACE_BYTES(5)), DLS_OK);
    for (i = 0; i < 23; i++) {
        dls_trace_mark(&t, 0, "m", (uint64_t)i, i);
        CHECK_INT(dls_trace_events(&t), i < 5 ? i + 1 : 5);
        CHECK_INT(dls_trace_dropped(&t), i < 5 ? 0 : i - 4);
        for (k = 0; k < (i < 5 ? i + 1 : 5); k++) /* the newest, oldest first */
            CHECK_INT(dls_trace_at(&t, (size_t)k)->value, (i < 5 ? 0 : i - 4) + k);
    }
}
static void test_trace_counters(void) {
    static char name[DLS_TRACE_COUNTERS + 1][8];
    char same[] = "sent";
    dls_trace t;
    int i;
    CHECK_STATUS(dls_trace_init(&t, trace_mem, sizeof trace_mem), DLS_OK);
    dls_trace_count(&t, "sent", 5);
    dls_trace_count(&t, same, 7); /* by its text, not its place */
    dls_trace_count(&t, "waiting", 2);
    dls_trace_count(&t, "waiting", -2);
    dls_trace_count(&t, NULL, 1);
    CHECK_INT(dls_trace_total(&t, "sent"), 12);
    CHECK_INT(dls_trace_total(&t, "waiting"), 0);
    CHECK_INT(dls_trace_total(&t, "other"), 0);
    CHECK_INT(dls_trace_events(&t), 0);
    dls_trace_sample(&t, 99);
    CHECK_INT(dls_trace_events(&t), 2);
    CHECK(dls_trace_at(&t, 0)->kind == DLS_TRACE_LEVEL && dls_trace_at(&t, 0)->value == 12);
    for (i = 0; i <= DLS_TRACE_COUNTERS; i++) {
        snprintf(name[i], sizeof name[i], "c%d", i);
        dls_trace_count(&t, name[i], i + 1);
    }
    CHECK_INT(dls_trace_total(&t, "c0"), 1);
    CHECK_INT(dls_trace_dropped(&t), 3); /* two places were taken */
}

static bool refuse(void *user, const char *text, size_t bytes) {
    size_t *left = (size_t *)user;
    (void)text;
    if (bytes > *left) return false;
    *left -= bytes;
    return true;
}
/* Two peers whose clocks are 1,000 s apart, one file. */
static void test_trace_json(void) {
    static unsigned char other_mem[DLS_TRACE_BYTES(8)];
    dls_trace_buffer b = trace_buffer();
    dls_trace t[2];
    size_t left;
    CHECK_STATUS(dls_trace_init(&t[0], trace_mem, sizeof trace_mem), DLS_OK);
    CHECK_STATUS(dls_trace_init(&t[1], other_mem, sizeof other_mem), DLS_OK);
    t[0].name = "tablet";
    t[0].track[1] = "wire";
    t[1].peer = 1;
    t[1].clock_us = -1000000000;
    dls_trace_span(&t[0], 1, "send", 5000, 5250, 4096);
    dls_trace_mark(&t[1], 0, "lost", 1000006000, 0);
    dls_trace_count(&t[1], "bytes", 77);
    dls_trace_sample(&t[1], 1000006001);
    CHECK_STATUS(dls_trace_write_json(t, 2, dls_trace_to_buffer, &b), DLS_OK);
    CHECK(json_valid(trace_text));
    CHECK_INT(strlen(trace_text), b.used);
    CHECK_TEXT(trace_text, "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":0,\"tid\":0,"
                           "\"args\":{\"name\":\"tablet\"}}");
    CHECK_TEXT(trace_text,
               "\"name\":\"process_name\",\"pid\":1,\"tid\":0,\"args\":{\"name\":\"peer 1\"}");
    CHECK_TEXT(trace_text, "\"thread_name\",\"pid\":0,\"tid\":1,\"args\":{\"name\":\"wire\"}");
    CHECK_TEXT(trace_text,
               "{\"ph\":\"X\",\"name\":\"send\",\"pid\":0,\"tid\":1,\"ts\":0,\"dur\":250,"
               "\"args\":{\"value\":4096}}");
    CHECK_TEXT(trace_text,
               "{\"ph\":\"i\",\"s\":\"p\",\"name\":\"lost\",\"pid\":1,\"tid\":0,\"ts\":1000}");
    CHECK_TEXT(trace_text, "{\"ph\":\"C\",\"name\":\"bytes\",\"pid\":1,\"tid\":0,\"ts\":1001,"
                           "\"args\":{\"value\":77}}");
    CHECK_TEXT(trace_text, "\"dropped\":0");
    CHECK_STATUS(dls_trace_write_json(t, 2, NULL, NULL), DLS_E_ARG);
    for (left = 0; left < b.used; left += 50) { /* a disk that fills up */
        size_t room = left;
        CHECK_STATUS(dls_trace_write_json(t, 2, refuse, &room), DLS_E_IO);
    }
    b.used = 0;
    b.size = 100;
    CHECK_STATUS(dls_trace_write_json(t, 2, dls_trace_to_buffer, &b), DLS_E_IO);
    b = trace_buffer();
    CHECK_STATUS(dls_trace_write_json(t, 0, dls_trace_to_buffer, &b), DLS_OK);
    CHECK(json_valid(trace_text));
}
static void test_trace_csv(void) {
    dls_trace_buffer b = trace_buffer();
    dls_trace t;
    size_t left;
    CHECK_STATUS(dls_trace_init(&t, trace_mem, sizeof trace_mem), DLS_OK);
    t.peer = 3;
    t.name = "a \"small\", odd name";
    t.clock_us = 10;
    dls_trace_span(&t, 9, "x,y", 1, 4, 5);
    dls_trace_mark(&t, 0, "m", 2, 0);
    CHECK_STATUS(dls_trace_write_csv(&t, 1, dls_trace_to_buffer, &b), DLS_OK);
    CHECK(strcmp(trace_text,
                 "peer,peer_name,track,track_name,kind,name,at_us,duration_us,value\n"
                 "3,\"a \"\"small\"\", odd name\",9,\"track 9\",span,\"x,y\",11,3,5\n"
                 "3,\"a \"\"small\"\", odd name\",0,\"track 0\",mark,\"m\",12,0,0\n") == 0);
    CHECK_STATUS(dls_trace_write_csv(&t, 1, NULL, NULL), DLS_E_ARG);
    for (left = 0; left < b.used; left += 20) {
        size_t room = left;
        CHECK_STATUS(dls_trace_write_csv(&t, 1, refuse, &room), DLS_E_IO);
    }
}
/* Names of random bytes, many of them near valid UTF-8, and numbers of any size. */
static void test_trace_names(void) {
    static char name[64][24];
    const unsigned char odd[] = {0x22, 0x5C, 0x0A, 0x1F, 0x7F, 0x80, 0xBF, 0xC0, 0xC2, 0xE0,
                                 0xED, 0xA0, 0x9F, 0xEF, 0xF0, 0x90, 0xF4, 0x8F, 0xF5, 0xFF};
    uint64_t number[4];
    uint32_t at = 0;
    int round, i, k;
    for (round = 0; round < 300; round++) {
        dls_trace_buffer b = trace_buffer();
        dls_trace t;
        CHECK_STATUS(dls_trace_init(&t, trace_mem, sizeof trace_mem), DLS_OK);
        for (i = 0; i < 64; i++) {
            const uint32_t length = dls_rand_at(1, at++) % 23;
            for (k = 0; k < (int)length; k++) {
                const uint32_t r = dls_rand_at(2, at++);
                name[i][k] = (char)(r % 4 != 0 ? odd[(r >> 8) % sizeof odd] : (r >> 8) % 255 + 1);
            }
            name[i][length] = '\0';
            for (k = 0; k < 4; k++) number[k] = (uint64_t)dls_rand_at(3, at++) << 32;
            dls_trace_span(&t, (int32_t)dls_rand_at(4, at), name[i], number[0] | 1, number[1],
                           (int64_t)number[2]);
        }
        t.name = name[0];
        t.track[0] = name[1];
        t.clock_us = (int64_t)number[3];
        dls_trace_mark(&t, 0, NULL, 1, 0);
        CHECK_STATUS(dls_trace_write_json(&t, 1, dls_trace_to_buffer, &b), DLS_OK);
        CHECK(json_valid(trace_text));
        CHECK(utf8_valid(trace_text));
        CHECK_INT(count_of(trace_text, "{\"ph\":"), 64 + 3);
    }
    CHECK(json_valid("{\"a\":[1,-20,\"\\u00ff\"]}") && !json_valid("{\"a\":1,}") &&
          !json_valid("[01]") && !json_valid("[\"\n\"]") && !json_valid("[1] 2"));
    CHECK(utf8_valid("\xC3\xA9\xE2\x82\xAC") && !utf8_valid("\xC0\x80") &&
          !utf8_valid("\xED\xA0\x80"));
}
/* Good characters stay as they are. */
static void test_trace_utf8(void) {
    static const char *const good[] = {"caf\xC3\xA9",      "\xE2\x82\xAC", "\xF0\x9F\x93\xB1",
                                       "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF", "\xEE\x80\x80"};
    dls_trace_buffer b;
    dls_trace t;
    size_t i;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        b = trace_buffer();
        CHECK_STATUS(dls_trace_init(&t, trace_mem, sizeof trace_mem), DLS_OK);
        dls_trace_mark(&t, 0, good[i], 0, 0);
        CHECK_STATUS(dls_trace_write_json(&t, 1, dls_trace_to_buffer, &b), DLS_OK);
        CHECK_TEXT(trace_text, good[i]);
    }
    b = trace_buffer();
    dls_trace_clear(&t);
    dls_trace_mark(&t, 0, "\xED\xA0\x80|\xC3|\xE2\x82", 0, 0);
    CHECK_STATUS(dls_trace_write_json(&t, 1, dls_trace_to_buffer, &b), DLS_OK);
    CHECK_TEXT(trace_text, "\"\\ufffd\\ufffd\\ufffd|\\ufffd|\\ufffd\\ufffd\"");
}
static void trace_tests(void) {
    RUN(trace_off);
    RUN(trace_memory);
    RUN(trace_records);
    RUN(trace_overflow);
    RUN(trace_counters);
    RUN(trace_json);
    RUN(trace_csv);
    RUN(trace_names);
    RUN(trace_utf8);
}
