/* Frames and hellos: layout byte for byte, round trips, damage never passes for a frame. */

static void test_wire_frame_layout(void) {
    static const unsigned char want[12] = {3, 1, 2, 0, 0x34, 0x12, 0, 0, 0xD4, 0xC3, 0xB2, 0xA1};
    const dls_frame f = {DLS_FRAME_DATA, 2, 0x1234, 0xA1B2C3D4u};
    unsigned char to[DLS_FRAME_HEAD];
    uint32_t crc;
    dls_frame_write(&f, to);
    CHECK(memcmp(to, want, sizeof want) == 0);
    crc = dls_crc32c(0, want, sizeof want);
    CHECK_INT(to[12] | to[13] << 8 | to[14] << 16 | (long long)to[15] << 24, crc);
}
static const dls_frame wire_good[] = {{DLS_FRAME_HELLO, 0, DLS_HELLO_BYTES, 0},
                                      {DLS_FRAME_PING, 0, 0, 0},
                                      {DLS_FRAME_BYE, 0, 0, 9},
                                      {DLS_FRAME_DATA, 0, 0, 1},
                                      {DLS_FRAME_DATA, 3, DLS_FRAME_MOST, ~0u},
                                      {DLS_FRAME_DATA, 1, 65535, 0x80000000u}};

static void test_wire_frame_round_trip(void) {
    size_t i;
    for (i = 0; i < sizeof wire_good / sizeof *wire_good; i++) {
        unsigned char to[DLS_FRAME_HEAD];
        dls_frame back;
        dls_frame_write(&wire_good[i], to);
        CHECK_STATUS(dls_frame_read(&back, to), DLS_OK);
        CHECK(back.type == wire_good[i].type && back.flags == wire_good[i].flags);
        CHECK(back.bytes == wire_good[i].bytes && back.tag == wire_good[i].tag);
    }
}
static void test_wire_frame_bit_flips(void) {
    unsigned char to[DLS_FRAME_HEAD];
    dls_frame back;
    long passed = 0, other = 0;
    size_t i;
    int a, b;
    for (i = 0; i < sizeof wire_good / sizeof *wire_good; i++)
        for (a = 0; a < 128; a++)
            for (b = a; b < 128; b++) { /* one bit where b = a, else two */
                dls_status st;
                dls_frame_write(&wire_good[i], to);
                to[a / 8] ^= (unsigned char)(1 << a % 8);
                if (b != a) to[b / 8] ^= (unsigned char)(1 << b % 8);
                st = dls_frame_read(&back, to);
                passed += st == DLS_OK;
                other += st != DLS_E_CHECKSUM;
            }
    CHECK_INT(passed, 0);
    CHECK_INT(other, 0);
}
/* Headers with a right checksum and a wrong field. */
static void test_wire_frame_bounds(void) {
    static const struct {
        dls_frame f;
        unsigned char version;
        dls_status want;
    } rows[] = {{{0, 0, 0, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_TYPES, 0, 0, 0}, 1, DLS_E_FORMAT},
                {{255, 0, 0, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_PING, 0, 0, 0}, 0, DLS_E_VERSION},
                {{DLS_FRAME_PING, 0, 0, 0}, 2, DLS_E_VERSION},
                {{DLS_FRAME_PING, 1, 0, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_PING, 0, 1, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_BYE, 0, 16, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_HELLO, 0, DLS_HELLO_BYTES - 1, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_HELLO, 0, DLS_HELLO_BYTES + 1, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_HELLO, 0, 0, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_DATA, 4, 1, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_DATA, 0x8001, 1, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_DATA, 0, DLS_FRAME_MOST + 1, 0}, 1, DLS_E_FORMAT},
                {{DLS_FRAME_DATA, 3, 0xFFFFFFFFu, 0}, 1, DLS_E_FORMAT}};
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned char to[DLS_FRAME_HEAD];
        dls_frame back;
        uint32_t crc;
        dls_frame_write(&rows[i].f, to);
        to[1] = rows[i].version;
        crc = dls_crc32c(0, to, 12);
        to[12] = (unsigned char)crc;
        to[13] = (unsigned char)(crc >> 8);
        to[14] = (unsigned char)(crc >> 16);
        to[15] = (unsigned char)(crc >> 24);
        CHECK_STATUS(dls_frame_read(&back, to), rows[i].want);
    }
}
static void test_wire_frame_random_bytes(void) {
    dls_rng rng = {31, 0};
    long passed = 0;
    int i, k;
    for (i = 0; i < 200000; i++) {
        unsigned char to[DLS_FRAME_HEAD];
        dls_frame back;
        for (k = 0; k < 16; k += 4) {
            const uint32_t v = dls_rng_u32(&rng);
            memcpy(to + k, &v, 4);
        }
        if (i % 2 == 0) to[0] = 3, to[1] = 1; /* the rest of a header is noise */
        passed += dls_frame_read(&back, to) == DLS_OK;
    }
    CHECK_INT(passed, 0);
}

static dls_hello wire_hello(void) {
    dls_hello h;
    memset(&h, 0, sizeof h);
    h.major = DLS_VERSION_MAJOR;
    h.minor = DLS_VERSION_MINOR;
    h.rank = 1;
    h.size = 3;
    h.real_bytes = (uint32_t)sizeof(dls_real);
    h.group = 0x1122334455667788u;
    strcpy(h.name, "glasses");
    return h;
}
static void test_wire_hello_layout(void) {
    static const unsigned char at8[16] = {1,    0,    0,    0,    3,    0,    0,    0,
                                          0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
    const dls_hello h = wire_hello();
    unsigned char to[DLS_HELLO_BYTES];
    memset(to, 0xEE, sizeof to);
    dls_hello_write(&h, to);
    CHECK(memcmp(to, "DLSP", 4) == 0);
    CHECK_INT(to[4] | to[5] << 8, DLS_VERSION_MAJOR);
    CHECK_INT(to[6] | to[7] << 8, DLS_VERSION_MINOR);
    CHECK(memcmp(to + 8, at8, sizeof at8) == 0);
    CHECK_INT(to[24], sizeof(dls_real));
    CHECK(memcmp(to + 28, "glasses\0\0\0\0\0\0\0\0\0\0\0\0", 20) == 0);
}
/* A flipped bit is refused, or changes the field it stands in and nothing else. */
static void test_wire_hello_bit_flips(void) {
    const dls_hello h = wire_hello();
    unsigned char to[DLS_HELLO_BYTES], again[DLS_HELLO_BYTES];
    dls_hello back;
    int a;
    dls_hello_write(&h, to);
    CHECK_STATUS(dls_hello_read(&back, to), DLS_OK);
    CHECK(memcmp(&back.name, &h.name, sizeof h.name) == 0 && back.group == h.group);
    CHECK(back.rank == h.rank && back.size == h.size && back.real_bytes == h.real_bytes);
    for (a = 0; a < DLS_HELLO_BYTES * 8; a++) {
        dls_status st;
        size_t i;
        dls_hello_write(&h, to);
        to[a / 8] ^= (unsigned char)(1 << a % 8);
        st = dls_hello_read(&back, to);
        if (a < 32) CHECK_STATUS(st, DLS_E_FORMAT);
        if (a >= 32 && a < 48) CHECK_STATUS(st, DLS_E_VERSION);
        if (a >= 48 && a < 28 * 8) CHECK_STATUS(st, DLS_OK);
        if (a / 8 == DLS_HELLO_BYTES - 1) CHECK_STATUS(st, DLS_E_FORMAT); /* not terminated */
        if (st != DLS_OK) continue;
        dls_hello_write(&back, again);
        CHECK(memcmp(again, to, sizeof to) == 0);
        for (i = 0; i < strlen(back.name); i++) CHECK(back.name[i] >= ' ' && back.name[i] <= '~');
    }
}
static void test_wire_hello_names(void) {
    unsigned char to[DLS_HELLO_BYTES];
    dls_hello h = wire_hello(), back;
    int c;
    for (c = 1; c < 256; c++) { /* names reach terminals: escape sequences must not */
        h.name[3] = (char)c;
        dls_hello_write(&h, to);
        CHECK_STATUS(dls_hello_read(&back, to), c >= ' ' && c <= '~' ? DLS_OK : DLS_E_FORMAT);
    }
    memset(h.name, 'x', sizeof h.name);
    dls_hello_write(&h, to);
    CHECK_STATUS(dls_hello_read(&back, to), DLS_E_FORMAT);
}

static void wire_tests(void) {
    RUN(wire_frame_layout);
    RUN(wire_frame_round_trip);
    RUN(wire_frame_bit_flips);
    RUN(wire_frame_bounds);
    RUN(wire_frame_random_bytes);
    RUN(wire_hello_layout);
    RUN(wire_hello_bit_flips);
    RUN(wire_hello_names);
}
