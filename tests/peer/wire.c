/* Every codec of the wire: layout, round trips, every truncation, every field rule, versions. */

static void test_wire_init(void) {
    static const unsigned char want[16] = {1,    1,    3,    0,    0x44, 0x33, 0x22, 0x11,
                                           0x88, 0x77, 0x66, 0x55, 0xCC, 0xBB, 0xAA, 0x99};
    static const dls_init_head in = {1, 3, 0x11223344u, 0x55667788u, 0x99AABBCCu};
    unsigned char p[DLS_INIT_BYTES];
    dls_init_head out;
    size_t n, bit, ok = 0;
    int32_t type, pattern;
    memset(p, 0, sizeof p);
    dls_init_head_write(&in, p);
    CHECK(memcmp(p, want, 16) == 0);
    for (type = 0; type < 256; type++)
        for (pattern = 0; pattern < 256; pattern++) {
            const bool good =
                (type == 1 || type == 2) && (pattern == 0 || pattern == 1 || pattern == 3);
            const size_t size = pattern == 0 ? DLS_INIT_PLAIN : DLS_INIT_BYTES;
            p[0] = (unsigned char)type;
            p[2] = (unsigned char)pattern;
            if (pattern == 0) dlsi_store32(p + 28, dls_crc32c(0, p, 28));
            ok += dls_init_head_read(&out, p, size) == DLS_OK && !good;
            ok += dls_init_head_read(&out, p, size) != DLS_OK && good;
        }
    CHECK_INT(ok, 0);
    dls_init_head_write(&in, p);
    for (n = 0; n < DLS_INIT_BYTES + 20; n++) { /* keyed: one size; blocks of exactly n */
        unsigned char *copy = (unsigned char *)malloc(n > 0 ? n : 1);
        memset(copy, 0, n);
        memcpy(copy, p, n < sizeof p ? n : sizeof p);
        CHECK((dls_init_head_read(&out, copy, n) == DLS_OK) == (n == DLS_INIT_BYTES));
        if (n > 2) copy[2] = 0;
        if (n >= DLS_INIT_PLAIN) dlsi_store32(copy + 28, dls_crc32c(0, copy, 28));
        CHECK((dls_init_head_read(&out, copy, n) == DLS_OK) == (n == DLS_INIT_PLAIN));
        free(copy);
    }
    CHECK_STATUS(dls_init_head_read(&out, p, sizeof p), DLS_OK);
    CHECK(out.type == 1 && out.pattern == 3 && out.index == in.index && out.id == in.id &&
          out.group_or_index == in.group_or_index);
    for (bit = 0; bit < 32; bit++) { /* of the first four bytes; 1 -> 3 and 0 -> 2, 1 are others */
        dls_status st;
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
        st = dls_init_head_read(&out, p, sizeof p);
        CHECK_STATUS(st, bit / 8 == 1 ? DLS_E_VERSION : bit == 17 ? DLS_OK : DLS_E_FORMAT);
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}
/* Nothing but a checksum guards a plain one. */
static void test_wire_init_plain(void) {
    static const dls_init_head in = {2, 0, 1, 2, 3};
    unsigned char p[DLS_INIT_PLAIN];
    dls_init_head out;
    size_t bit, ok = 0;
    memset(p, 9, sizeof p);
    dls_init_head_write(&in, p);
    dlsi_store32(p + 28, dls_crc32c(0, p, 28));
    CHECK_STATUS(dls_init_head_read(&out, p, sizeof p), DLS_OK);
    for (bit = 0; bit < 8 * sizeof p; bit++) {
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ok += dls_init_head_read(&out, p, sizeof p) == DLS_OK;
        if (bit >= 32) CHECK_STATUS(dls_init_head_read(&out, p, sizeof p), DLS_E_CHECKSUM);
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CHECK_INT(ok, 0);
}
static void test_wire_data(void) {
    static const dls_data_head in = {0xBEEF, 0x12345678u};
    static const unsigned char want[8] = {4, 0, 0xEF, 0xBE, 0x78, 0x56, 0x34, 0x12};
    unsigned char p[8];
    dls_data_head out;
    size_t n;
    dls_data_head_write(&in, p);
    CHECK(memcmp(p, want, 8) == 0);
    for (n = 0; n <= 8; n++) CHECK((dls_data_head_read(&out, p, n) == DLS_OK) == (n == 8));
    CHECK(out.index == in.index && out.counter == in.counter);
    for (n = 0; n < 16; n++) {
        p[n / 8] ^= (unsigned char)(1u << n % 8);
        /* the lowest bit of the second byte is the phase */
        CHECK_STATUS(dls_data_head_read(&out, p, 8), n == 8 ? DLS_OK : DLS_E_FORMAT);
        p[n / 8] ^= (unsigned char)(1u << n % 8);
    }
}
static void test_wire_frames(void) {
    static const size_t head[] = {1, 2, 5, 9, 1, 10};
    int32_t kind, body;
    for (kind = 0; kind < 256; kind++) {
        const size_t h = kind < DLS_FRAME_KINDS ? head[kind] : 0;
        CHECK_INT(dls_frame_head_bytes((dls_frame_kind)kind), h);
        for (body = 0; h > 0 && body < 40; body += 13) {
            const bool fixed = kind == DLS_FRAME_ACK || kind == DLS_FRAME_CONTROL;
            unsigned char p[64];
            dls_frame in, out;
            size_t n, used;
            memset(&in, 0, sizeof in);
            memset(p, 0x55, sizeof p);
            in.kind = (uint8_t)kind;
            in.bytes = (size_t)body;
            in.hops = 3;
            in.a = kind == DLS_FRAME_CONTROL ? 0xA1B2 : 0xA1B2C3D4u;
            in.b = 0x01020304u;
            dls_frame_write(&in, p);
            CHECK(p[h] == 0x55);
            for (n = 0; n < h + (size_t)body + 3; n++) { /* cut short, and with more behind */
                unsigned char *copy = (unsigned char *)malloc(n > 0 ? n : 1);
                dls_status st;
                memcpy(copy, p, n);
                st = dls_frame_read(&out, copy, n, &used);
                CHECK_STATUS(st, n < h || (fixed && n < h + (size_t)body) ? DLS_E_FORMAT : DLS_OK);
                if (st == DLS_OK) {
                    CHECK_INT(used, fixed ? h + (size_t)body : kind == DLS_FRAME_PING ? 1 : n);
                    CHECK(out.kind == kind && out.body == copy + h && out.bytes == used - h);
                }
                free(copy);
            }
            if (kind == DLS_FRAME_CHUNK || kind == DLS_FRAME_RELAY)
                CHECK(out.a == in.a && out.b == in.b &&
                      out.hops == (kind == DLS_FRAME_RELAY ? 3 : 0));
            if (kind == DLS_FRAME_CONTROL) CHECK_INT(out.a, in.a);
        }
    }
}
/* Types we do not know are skipped, unless flag 1 forbids; payloads may grow, not shrink. */
static void test_wire_controls(void) {
    static const size_t least[] = {0, 32, 16, 5, 4, 0, 0, 8, 14, 18, 4, 57, 4};
    int32_t type;
    size_t n, cut, used;
    for (type = 0; type < 256; type++)
        for (n = 0; n < 60; n++) {
            const bool known = type > 0 && type < DLS_CONTROL_TYPES;
            unsigned char *p = (unsigned char *)malloc(4 + n);
            dls_control c;
            dls_status st;
            memset(p, 0, 4 + n);
            p[0] = (unsigned char)type;
            p[2] = (unsigned char)n;
            st = dls_control_read(&c, p, 4 + n, &used);
            CHECK_STATUS(st, known && n < least[type] ? DLS_E_FORMAT : DLS_OK);
            CHECK(c.type == type && c.bytes == n && c.payload == p + 4 && used == 4 + n);
            p[1] = 1;
            st = dls_control_read(&c, p, 4 + n, &used);
            CHECK_STATUS(st, !known ? DLS_E_VERSION : n < least[type] ? DLS_E_FORMAT : DLS_OK);
            p[1] = 0xFE;
            if (!known) CHECK_STATUS(dls_control_read(&c, p, 4 + n, &used), DLS_OK);
            for (cut = 0; cut < 4 + n; cut += 3)
                CHECK_STATUS(dls_control_read(&c, p, cut, &used), DLS_E_FORMAT);
            free(p);
        }
}
static void test_wire_hello(void) {
    dls_hello in, out;
    unsigned char p[DLS_HELLO_BYTES + 8];
    size_t n, bit, ok = 0;
    memset(&in, 0, sizeof in);
    in.major = DLS_VERSION_MAJOR;
    in.minor = 777;
    in.size = 5;
    in.wants = 8;
    in.real_bytes = 4;
    in.flags = 1;
    strcpy(in.name, "nineteen characters");
    dls_hello_write(&in, p);
    for (n = 0; n <= sizeof p; n++)
        CHECK_STATUS(dls_hello_read(&out, p, n), n < DLS_HELLO_BYTES ? DLS_E_FORMAT : DLS_OK);
    CHECK(out.major == in.major && out.minor == 777 && out.size == 5 && out.wants == 8 &&
          out.real_bytes == 4 && out.flags == 1 && strcmp(out.name, in.name) == 0);
    for (bit = 0; bit < 8 * DLS_HELLO_BYTES; bit++) {
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (bit / 8 < 2) CHECK_STATUS(dls_hello_read(&out, p, sizeof p), DLS_E_VERSION);
        if (bit / 8 >= 12 && bit % 8 == 7)
            CHECK_STATUS(dls_hello_read(&out, p, sizeof p), DLS_E_FORMAT);
        ok += dls_hello_read(&out, p, sizeof p) == DLS_OK;
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CHECK(ok > 80); /* minor versions, sizes, letters */
    in.wants = 0;
    dls_hello_write(&in, p);
    CHECK_STATUS(dls_hello_read(&out, p, sizeof p), DLS_E_FORMAT);
    in.wants = 1;
    strcpy(in.name, "\033[2J");
    dls_hello_write(&in, p);
    CHECK_STATUS(dls_hello_read(&out, p, sizeof p), DLS_E_FORMAT);
}

/* Feeds a line in pieces; returns packets that came, the last one in *got. */
static int32_t cobs_feed(dls_cobs *c, const unsigned char *line, size_t n, size_t piece,
                         size_t *got) {
    int32_t packets = 0;
    size_t at = 0, taken, size;
    while (at < n) {
        size = dls_cobs_read(c, line + at, n - at < piece ? n - at : piece, &taken);
        CHECK(taken > 0 && taken <= n - at);
        at += taken;
        if (size > 0) *got = size;
        packets += size > 0;
    }
    return packets;
}
static void test_wire_cobs(void) {
    dls_rng rng = {5, 0};
    size_t n, i, got = 0;
    int32_t kind;
    for (n = 1; n < 1100; n += n < 20 || (n > 240 && n < 270) || (n > 495 && n < 520) ? 1 : 97)
        for (kind = 0; kind < 3; kind++) { /* zeros, none, random */
            const size_t most = DLS_COBS_BYTES(n);
            unsigned char *packet = (unsigned char *)malloc(n),
                          *mem = (unsigned char *)malloc(n + 4);
            unsigned char *line = (unsigned char *)malloc(most);
            dls_cobs c;
            size_t size, zeros = 0;
            for (i = 0; i < n; i++)
                packet[i] = (unsigned char)(kind == 0   ? 0
                                            : kind == 1 ? 1 + i % 255
                                                        : dls_rng_u32(&rng) & (i % 3 ? 255u : 1u));
            CHECK_INT(dls_cobs_write(line, most - 1, packet, n), 0);
            size = dls_cobs_write(line, most, packet, n);
            CHECK(size > n + 4 && size <= most);
            for (i = 0; i < size; i++) zeros += line[i] == 0;
            CHECK(zeros == 1 && line[size - 1] == 0);
            dls_cobs_init(&c, mem, n + 4);
            CHECK_INT(cobs_feed(&c, line, size, 1 + below(&rng, 9), &got), 1);
            CHECK(got == n && memcmp(mem, packet, n) == 0 && c.bad == 0);
            if (n > 1) { /* a byte too little to hold it: skipped, and the next one is in step */
                dls_cobs_init(&c, mem, n + 3);
                CHECK_INT(cobs_feed(&c, line, size, 7, &got), 0);
                CHECK_INT(c.bad, 1);
            }
            free(packet);
            free(mem);
            free(line);
        }
    CHECK_INT(dls_cobs_write(&rng, sizeof rng, &n, 0), 0);
}
/* No flipped bit, lost or added byte passes; the frame after next at the latest is whole. */
static void test_wire_cobs_noise(void) {
    unsigned char packet[40], mem[44], line[3 * DLS_COBS_BYTES(40)], bad[sizeof line + 1];
    dls_rng rng = {6, 0};
    size_t one, n, bit, got = 0, i;
    dls_cobs c;
    long passed = 0;
    for (i = 0; i < sizeof packet; i++) packet[i] = (unsigned char)(dls_rng_u32(&rng) & 3u);
    one = dls_cobs_write(line, sizeof line, packet, sizeof packet);
    memcpy(line + one, line, one);
    memcpy(line + 2 * one, line, one);
    n = 3 * one;
    for (bit = 0; bit < 8 * one; bit++) {
        memcpy(bad, line, n);
        bad[bit / 8] ^= (unsigned char)(1u << bit % 8);
        dls_cobs_init(&c, mem, sizeof mem);
        passed += cobs_feed(&c, bad, n, 5, &got) != (bit / 8 == one - 1 ? 1 : 2);
        passed += memcmp(mem, packet, sizeof packet) != 0 || c.bad == 0;
    }
    for (i = 0; i < one; i++) { /* byte i is lost, or doubled */
        memcpy(bad, line, n);
        memmove(bad + i, bad + i + 1, n - i - 1);
        dls_cobs_init(&c, mem, sizeof mem);
        passed += cobs_feed(&c, bad, n - 1, 5, &got) < 1;
        memcpy(bad, line, i);
        memcpy(bad + i, line + i, 1);
        memcpy(bad + i + 1, line + i, n - i);
        dls_cobs_init(&c, mem, sizeof mem);
        passed += cobs_feed(&c, bad, n + 1, 5, &got) < 2;
        passed += memcmp(mem, packet, sizeof packet) != 0;
    }
    CHECK_INT(passed, 0);
    dls_cobs_init(&c, mem, sizeof mem);
    for (i = 0; i < 20000; i++) {
        bad[0] = (unsigned char)(dls_rng_u32(&rng) % 40);
        passed += cobs_feed(&c, bad, 1, 1, &got);
    }
    CHECK_INT(passed, 0);
    CHECK(c.bad > 100);
}
/* All inputs of up to 2 bytes, and random ones, to each decoder, in blocks of their size. */
static void test_wire_short_inputs(void) {
    dls_rng rng = {7, 0};
    long i, ok = 0;
    for (i = 0; i < 65536 + 257 + 20000; i++) {
        const size_t n = i == 0 ? 0 : i < 257 ? 1 : i < 65536 + 257 ? 2 : below(&rng, 120);
        unsigned char *p = (unsigned char *)malloc(n > 0 ? n : 1);
        dls_init_head init;
        dls_data_head data;
        dls_frame frame;
        dls_control control;
        dls_hello hello;
        size_t used = 0, k;
        for (k = 0; k < n; k++) p[k] = (unsigned char)dls_rng_u32(&rng);
        if (n == 1) p[0] = (unsigned char)(i - 1);
        if (n == 2) p[0] = (unsigned char)(i - 257), p[1] = (unsigned char)((i - 257) >> 8);
        ok += dls_init_head_read(&init, p, n) == DLS_OK && n < DLS_INIT_PLAIN;
        ok += dls_data_head_read(&data, p, n) == DLS_OK && n < 8;
        ok += dls_control_read(&control, p, n, &used) == DLS_OK && used > n;
        ok += dls_hello_read(&hello, p, n) == DLS_OK && n < DLS_HELLO_BYTES;
        ok += dls_frame_read(&frame, p, n, &used) == DLS_OK && (used > n || used == 0);
        free(p);
    }
    CHECK_INT(ok, 0);
}
static void wire_tests(void) {
    RUN(wire_init);
    RUN(wire_init_plain);
    RUN(wire_data);
    RUN(wire_frames);
    RUN(wire_controls);
    RUN(wire_hello);
    RUN(wire_cobs);
    RUN(wire_cobs_noise);
    RUN(wire_short_inputs);
}
