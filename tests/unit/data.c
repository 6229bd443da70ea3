/* data: IDX, gzip, CSV and npy give the numbers that were put in, and every way in which a file can
   be wrong is refused with the right status; samples are normalised and augmented within bounds,
   the same wherever they stand in a batch. */

/* ---- gzip: bits and codes written here, apart from the reader's tables ---- */

typedef struct data_bits {
    unsigned char b[6000];
    size_t size;
    int used; /* bits of the last byte */
} data_bits;
static void data_put(data_bits *z, unsigned value, int count) { /* lowest bit first */
    for (int i = 0; i < count; i++) {
        if (z->used == 0) z->b[z->size++] = 0;
        z->b[z->size - 1] |= (unsigned char)((value >> i & 1u) << z->used);
        z->used = (z->used + 1) & 7;
    }
}
/* Symbol of a canonical code with these lengths, highest bit first (RFC 1951, 3.2.2). */
static void data_symbol(data_bits *z, const unsigned char *length, int symbols, int symbol) {
    unsigned code = 0;
    for (int bits = 1; bits <= length[symbol]; bits++) {
        for (int i = 0; i < symbols; i++)
            if (length[i] == bits - 1 && bits > 1) code++;
        code <<= 1;
    }
    for (int i = 0; i < symbol; i++) code += length[i] == length[symbol];
    for (int bit = length[symbol] - 1; bit >= 0; bit--) data_put(z, code >> bit & 1u, 1);
}
static void data_gzip_head(data_bits *z, int flags) {
    const unsigned char head[10] = {31, 139, 8, (unsigned char)flags, 1, 2, 3, 4, 0, 3};
    memset(z, 0, sizeof *z);
    memcpy(z->b, head, sizeof head);
    z->size = sizeof head;
}
static void data_gzip_tail(data_bits *z, const void *text, size_t count) {
    z->used = 0;
    for (int i = 0; i < 4; i++)
        data_put(z, dlsi_crc32((const unsigned char *)text, count) >> 8 * i & 255u, 8);
    for (int i = 0; i < 4; i++) data_put(z, (unsigned)(count >> 8 * i) & 255u, 8);
}
static dls_status data_inflate(const data_bits *z, void *out, size_t room, size_t *written) {
    unsigned char *copy = (unsigned char *)malloc(z->size); /* so that sanitizers see its end */
    memcpy(copy, z->b, z->size);
    const dls_status st = dls_gunzip(copy, z->size, out, room, written);
    free(copy);
    return st;
}
static void data_check_inflates(const data_bits *z, const char *text) {
    char out[6000];
    size_t n = 0;
    CHECK_STATUS(data_inflate(z, out, sizeof out, &n), DLS_OK);
    CHECK_INT(n, strlen(text));
    CHECK(n == strlen(text) && memcmp(out, text, n) == 0);
}

/* 64 lines "7 squared is 49", through gzip -9n: dynamic codes by another's hand. */
static const unsigned char data_squares[] = {
    31,  139, 8,   0,   0,   0,   0,   0,   2,   3,   93,  211, 59,  110, 196, 48,  12,  69,  209,
    158, 171, 240, 18,  196, 143, 40,  105, 57,  1,   146, 34,  101, 50,  200, 254, 243, 220, 249,
    78,  73,  67,  160, 142, 200, 231, 113, 189, 126, 254, 62,  126, 191, 62,  175, 239, 215, 53,
    204, 159, 165, 91,  60,  203, 178, 124, 150, 199, 10,  135, 219, 230, 179, 142, 105, 253, 172,
    179, 109, 161, 219, 177, 253, 172, 187, 236, 60,  235, 237, 230, 3,   23,  12,  241, 232, 11,
    157, 1,   209, 171, 204, 147, 172, 99,  78,  232, 105, 115, 82,  101, 245, 38,  94,  103, 192,
    141, 173, 62,  0,   103, 232, 174, 195, 39,  106, 98,  48,  151, 204, 1,   115, 149, 206, 112,
    172, 187, 44,  96,  158, 113, 44,  96,  158, 171, 45,  96,  110, 153, 3,   230, 190, 207, 192,
    188, 238, 62,  48,  175, 251, 46,  142, 89,  158, 132, 249, 200, 156, 48,  31,  189, 43,  57,
    231, 161, 199, 39,  7,   61,  52,  161, 228, 164, 93,  99,  204, 201, 149, 201, 157, 205, 79,
    90,  72,  2,   238, 169, 173, 229, 126, 219, 172, 110, 4,   221, 167, 246, 95,  204, 72,  11,
    95,  12,  73,  43,  73,  69,  253, 82,  216, 138, 250, 173, 60,  214, 91,  78,  20,  217, 98,
    80,  134, 244, 197, 164, 184, 130, 95,  140, 74,  12,  245, 130, 62,  114, 232, 70,  232, 163,
    134, 219, 28,  76,  157, 244, 19,  250, 232, 251, 20,  244, 177, 212, 107, 38,  195, 169, 27,
    39,  244, 113, 238, 31,  18,  250, 188, 245, 147, 63,  165, 38,  109, 115, 189, 197, 90,  189,
    152, 244, 212, 188, 38,  163, 94,  154, 106, 15,  166, 95,  250, 134, 62,  151, 54,  212, 208,
    231, 214, 30,  27,  250, 60,  218, 246, 63,  224, 249, 228, 254, 136, 4,   0,   0};
static const char *data_squares_text(void) {
    static char text[1400];
    text[0] = '\0';
    for (int i = 0; i < 64; i++) snprintf(text + strlen(text), 40, "%d squared is %d\n", i, i * i);
    return text;
}
static void data_squares_bits(data_bits *z) {
    memset(z, 0, sizeof *z);
    memcpy(z->b, data_squares, sizeof data_squares);
    z->size = sizeof data_squares;
}

static void test_data_gunzip(void) {
    const char *text = data_squares_text();
    char out[1400];
    size_t n;
    data_bits z;
    data_squares_bits(&z);
    data_check_inflates(&z, text);
    CHECK_STATUS(dls_gunzip(data_squares, sizeof data_squares, NULL, 0, &n), DLS_OK);
    CHECK_INT(n, strlen(text));
    CHECK_STATUS(dls_gunzip(data_squares, sizeof data_squares, out, strlen(text), &n), DLS_OK);
    for (size_t room = 0; room < strlen(text); room++) { /* every place where room may end */
        CHECK_STATUS(data_inflate(&z, out, room, &n), DLS_E_MEMORY);
        CHECK(n <= room);
    }
    CHECK(dlsi_crc32((const unsigned char *)"123456789", 9) == 0xCBF43926u);
}
static void test_data_gunzip_damage(void) {
    const char *text = data_squares_text();
    char out[1400];
    data_bits z, cut;
    size_t n;
    data_squares_bits(&z);
    for (cut = z; cut.size-- > 0;) CHECK(data_inflate(&cut, out, sizeof out, &n) != DLS_OK);
    for (size_t bit = 0; bit < 8 * z.size; bit++) { /* some bits of the header mean nothing here */
        z.b[bit / 8] ^= (unsigned char)(1u << bit % 8);
        const dls_status st = data_inflate(&z, out, sizeof out, &n);
        CHECK(st != DLS_OK || (n == strlen(text) && memcmp(out, text, n) == 0));
        CHECK(st != DLS_OK || bit < 80 || bit / 8 == z.size - 9); /* nor those after the end */
        z.b[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    z.b[z.size - 8] ^= 1;
    CHECK_STATUS(data_inflate(&z, out, sizeof out, &n), DLS_E_CHECKSUM);
    z.b[z.size - 8] ^= 1;
    z.b[z.size - 4] ^= 1;
    CHECK_STATUS(data_inflate(&z, out, sizeof out, &n), DLS_E_FORMAT);
}
static void test_data_gunzip_headers(void) {
    for (int flags = 0; flags < 256; flags++) {
        data_bits z;
        size_t n;
        char out[8];
        data_gzip_head(&z, flags);
        if ((flags & 4) != 0) data_put(&z, 3, 16), data_put(&z, 0, 24);
        if ((flags & 8) != 0) data_put(&z, 'n', 8), data_put(&z, 0, 8);
        if ((flags & 16) != 0) data_put(&z, 'c', 8), data_put(&z, 0, 8);
        if ((flags & 2) != 0) data_put(&z, 0, 16);
        data_put(&z, 1, 3); /* last, stored */
        z.used = 0;
        data_put(&z, 2, 16);
        data_put(&z, 0xFFFD, 16);
        data_put(&z, 'o', 8), data_put(&z, 'k', 8);
        data_gzip_tail(&z, "ok", 2);
        if (flags < 32) data_check_inflates(&z, "ok");
        if (flags >= 32) CHECK_STATUS(data_inflate(&z, out, sizeof out, &n), DLS_E_FORMAT);
        for (int i = 0; i < 3; i++) { /* magic and method */
            z.b[i] ^= 4;
            CHECK_STATUS(data_inflate(&z, out, sizeof out, &n), DLS_E_FORMAT);
            z.b[i] ^= 4;
        }
        if ((flags & 4) != 0) { /* an extra field that goes on past the end */
            z.b[11] = 255;
            CHECK_STATUS(data_inflate(&z, out, sizeof out, &n), DLS_E_FORMAT);
        }
    }
}
/* Blocks of every kind, one after the other. */
static void test_data_gunzip_blocks(void) {
    unsigned char literal[288], distance[30];
    char text[5000];
    data_bits z;
    memset(distance, 5, sizeof distance);
    for (int i = 0; i < 288; i++) literal[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    data_gzip_head(&z, 0);
    data_put(&z, 0, 3); /* stored: "abc" */
    z.used = 0;
    data_put(&z, 3, 16), data_put(&z, 0xFFFC, 16);
    data_put(&z, 'a', 8), data_put(&z, 'b', 8), data_put(&z, 'c', 8);
    data_put(&z, 0, 3); /* stored, empty, not at a byte's start */
    z.used = 0;
    data_put(&z, 0, 16), data_put(&z, 0xFFFF, 16);
    data_put(&z, 3, 3); /* last, fixed codes */
    data_symbol(&z, literal, 288, 'x');
    data_symbol(&z, literal, 288, 200);
    data_symbol(&z, literal, 288, 285); /* 258 bytes from 1 back */
    data_symbol(&z, distance, 30, 0);
    data_symbol(&z, literal, 288, 257 + 27); /* 227 + 5 bits */
    data_put(&z, 30, 5);
    data_symbol(&z, distance, 30, 15); /* 193 + 6 bits: 256 back */
    data_put(&z, 63, 6);
    data_symbol(&z, literal, 288, 257); /* 3 from 5 + 1 bit back */
    data_symbol(&z, distance, 30, 4);
    data_put(&z, 1, 1);
    data_symbol(&z, literal, 288, 256);
    strcpy(text, "abcx");
    size_t n = 4;
    for (int i = 0; i < 259; i++) text[n++] = (char)200;
    for (int i = 0; i < 257; i++, n++) text[n] = text[n - 256];
    for (int i = 0; i < 3; i++, n++) text[n] = text[n - 6];
    text[n] = '\0';
    data_gzip_tail(&z, text, n);
    data_check_inflates(&z, text);
}

/* A dynamic block's header for these code lengths, by a code of all 19 symbols. spare: what is
   wrong with it, see test_data_gunzip_dynamic_damage. */
static const unsigned char data_code_lengths[19] = {4, 4, 4, 4, 4, 4, 4, 4, 4, 4,
                                                    4, 4, 4, 5, 5, 5, 5, 5, 5};
static void data_dynamic_head(data_bits *z, int literals, int distances) {
    static const unsigned char order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                            11, 4,  12, 3, 13, 2, 14, 1, 15};
    data_put(z, 5, 3);
    data_put(z, (unsigned)literals - 257u, 5);
    data_put(z, (unsigned)distances - 1u, 5);
    data_put(z, 15, 4);
    for (int i = 0; i < 19; i++) data_put(z, data_code_lengths[order[i]], 3);
}
static void data_length(data_bits *z, int symbol) { data_symbol(z, data_code_lengths, 19, symbol); }
/* Lengths 1, 2, 3 ... 14, 15, 15 for the literals 'a', 'b', ..., so that codes are longer than the
   fast table; the last two are 256 and 257. One distance, of one bit. */
static void data_long_codes(unsigned char *literal) {
    memset(literal, 0, 288);
    for (int i = 0; i < 14; i++) literal['a' + i] = (unsigned char)(i + 1);
    literal[256] = literal[257] = 15;
}
static void data_long_head(data_bits *z, const unsigned char *literal) {
    data_gzip_head(z, 0);
    data_dynamic_head(z, 258, 1);
    data_length(z, 18), data_put(z, 97 - 11, 7); /* zeros to 'a' */
    for (int i = 0; i < 14; i++) data_length(z, literal['a' + i]);
    data_length(z, 18), data_put(z, 127, 7);
    data_length(z, 17), data_put(z, 4, 3); /* 138 + 7 zeros: 111 to 255 */
    data_length(z, 15);
    data_length(z, 15);
    data_length(z, 1); /* the distance */
}
static void test_data_gunzip_dynamic(void) {
    unsigned char literal[288], distance[1] = {1};
    const char *text = "abcdefghijklmnnnnnanm";
    data_bits z;
    data_long_codes(literal);
    data_long_head(&z, literal);
    for (const char *s = "abcdefghijklmn"; *s != '\0'; s++) data_symbol(&z, literal, 258, *s);
    data_symbol(&z, literal, 258, 257);
    data_symbol(&z, distance, 1, 0); /* three more n */
    for (const char *s = "nanm"; *s != '\0'; s++) data_symbol(&z, literal, 258, *s);
    data_symbol(&z, literal, 258, 256);
    data_gzip_tail(&z, text, strlen(text));
    data_check_inflates(&z, text);

    data_gzip_head(&z, 0); /* repeats of the last length: 16 */
    memset(literal, 0, sizeof literal);
    memset(literal + 'a', 3, 7);
    literal[256] = 3;
    data_dynamic_head(&z, 257, 1);
    data_length(&z, 18), data_put(&z, 97 - 11, 7);
    data_length(&z, 3);
    data_length(&z, 16), data_put(&z, 3, 2);
    data_length(&z, 18), data_put(&z, 127, 7);
    data_length(&z, 17), data_put(&z, 256 - 104 - 138 - 3 - 7, 3);
    for (int i = 0; i < 7; i++) data_length(&z, 0);
    data_length(&z, 3);
    data_length(&z, 0); /* no distance at all */
    for (const char *s = "gabe"; *s != '\0'; s++) data_symbol(&z, literal, 257, *s);
    data_symbol(&z, literal, 257, 256);
    data_gzip_tail(&z, "gabe", 4);
    data_check_inflates(&z, "gabe");
}
static void data_check_bad(data_bits *z) { /* with enough behind it to read on */
    char out[5000];
    size_t n;
    for (int i = 0; i < 40; i++) data_put(z, 0, 8);
    data_gzip_tail(z, "", 0);
    CHECK_STATUS(data_inflate(z, out, sizeof out, &n), DLS_E_FORMAT);
}
static void data_block(data_bits *z, unsigned kind) { /* after a header: last, of that kind */
    data_gzip_head(z, 0);
    data_put(z, 1 | kind << 1, 3);
}
static void test_data_gunzip_bad_blocks(void) {
    unsigned char literal[288], distance[32];
    data_bits z;
    memset(distance, 5, sizeof distance);
    for (int i = 0; i < 288; i++) literal[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    data_block(&z, 3), data_check_bad(&z);
    data_block(&z, 0), z.used = 0;
    data_put(&z, 3, 16), data_put(&z, 0xFFFB, 16), data_check_bad(&z); /* length and complement */
    for (int s = 286; s < 288; s++)
        data_block(&z, 1), data_symbol(&z, literal, 288, s), data_check_bad(&z);
    for (int d = 0; d < 32; d++) { /* further back than there is, or no distance */
        data_block(&z, 1);
        if (d > 0) data_symbol(&z, literal, 288, 'a');
        data_symbol(&z, literal, 288, 257);
        data_symbol(&z, distance, 32, d == 1 ? 2 : d);
        data_check_bad(&z);
    }
    data_gzip_head(&z, 0), data_dynamic_head(&z, 288, 1), data_check_bad(&z);
    data_gzip_head(&z, 0), data_dynamic_head(&z, 257, 31), data_check_bad(&z);
    data_gzip_head(&z, 0), data_put(&z, 5, 3), data_put(&z, 0, 10), data_put(&z, 15, 4);
    for (int i = 0; i < 19; i++) data_put(&z, 1, 3); /* 19 codes of one bit */
    data_check_bad(&z);
    data_gzip_head(&z, 0), data_dynamic_head(&z, 257, 1);
    data_length(&z, 16), data_check_bad(&z);              /* repeats what was before the first */
    data_gzip_head(&z, 0), data_dynamic_head(&z, 257, 1); /* repeats past the last */
    data_length(&z, 18), data_put(&z, 127, 7), data_length(&z, 18), data_put(&z, 127, 7);
    data_check_bad(&z);
    data_gzip_head(&z, 0), data_dynamic_head(&z, 257, 1); /* no end of block */
    for (int i = 0; i < 4; i++) data_length(&z, 2);
    data_length(&z, 18), data_put(&z, 127, 7), data_length(&z, 18), data_put(&z, 105, 7);
    data_check_bad(&z);
    data_gzip_head(&z, 0), data_dynamic_head(&z, 257, 1); /* too many short codes */
    for (int i = 0; i < 257; i++) data_length(&z, 7);
    data_length(&z, 1), data_check_bad(&z);
    data_gzip_head(&z, 0), data_dynamic_head(&z, 257, 3); /* too many distances of one bit */
    for (int i = 0; i < 257; i++) data_length(&z, i == 256 ? 1 : 0);
    for (int i = 0; i < 3; i++) data_length(&z, 1);
    data_check_bad(&z);
    data_gzip_head(&z, 0), data_dynamic_head(&z, 257, 1); /* a code nobody has */
    for (int i = 0; i < 257; i++) data_length(&z, i == 256 ? 2 : 0);
    data_length(&z, 1);
    for (int i = 0; i < 3; i++) data_put(&z, 255, 8);
    data_check_bad(&z);
}

/* ---- IDX ---- */

/* An IDX file of bytes: axes, then values 0, 1, 2 ...; returns its size. */
static size_t data_idx(unsigned char *b, int axes, const unsigned *dim) {
    size_t n = 4, count = 1;
    b[0] = b[1] = 0;
    b[2] = 8;
    b[3] = (unsigned char)axes;
    for (int i = 0; i < axes; i++) {
        for (int k = 3; k >= 0; k--) b[n++] = (unsigned char)(dim[i] >> 8 * k);
        count *= dim[i];
    }
    for (size_t i = 0; i < count; i++) b[n++] = (unsigned char)i;
    return n;
}
static void test_data_idx(void) {
    static const dls_shape shape[] = {{0, 0, 0}, {1, 1, 1}, {1, 1, 4}, {4, 3, 1}, {4, 3, 2}};
    const unsigned dim[4] = {3, 4, 3, 2};
    unsigned char x[200], y[20];
    const size_t ny = data_idx(y, 1, dim);
    for (int axes = 1; axes <= 4; axes++) {
        const size_t n = data_idx(x, axes, dim);
        dls_data d;
        CHECK_STATUS(dls_data_from_idx(&d, x, n, y, ny, NULL), DLS_OK);
        if (axes > 1) CHECK(dls_shape_equal(d.shape, shape[axes]));
        if (axes == 1) CHECK_INT(dls_shape_count(d.shape), 1);
        CHECK_INT(d.count, 3);
        CHECK_INT(d.dtype, DLS_U8);
        CHECK(d.x == x + 4 + 4 * axes);
        CHECK_STATUS(dls_data_from_idx(&d, x, n, NULL, 0, NULL), DLS_OK); /* no labels */
    }
}
static void test_data_idx_malformed(void) {
    const unsigned dim[3] = {2, 4, 3}, three[1] = {3};
    unsigned char x[200], y[20], copy[200];
    const size_t n = data_idx(x, 3, dim), ny = data_idx(y, 1, dim);
    char text[300];
    dls_error e;
    dls_data d;
    for (size_t i = 0; i < n; i++)
        CHECK_STATUS(dls_data_from_idx(&d, x, i, y, ny, NULL), DLS_E_FORMAT);
    CHECK_STATUS(dls_data_from_idx(&d, x, n + 1, y, ny, NULL), DLS_E_FORMAT);
    for (size_t i = 0; i < ny; i++)
        CHECK_STATUS(dls_data_from_idx(&d, x, n, y, i, NULL), DLS_E_FORMAT);
    CHECK_STATUS(dls_data_from_idx(&d, x, n, y, ny + 1, NULL), DLS_E_FORMAT);
    for (int i = 0; i < 16; i++) /* any bit of the header */
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, x, n);
            copy[i] ^= (unsigned char)(1 << bit);
            CHECK_STATUS(dls_data_from_idx(&d, copy, n, y, ny, NULL), DLS_E_FORMAT);
        }
    for (int i = 0; i < 8; i++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, y, ny);
            copy[i] ^= (unsigned char)(1 << bit);
            CHECK_STATUS(dls_data_from_idx(&d, x, n, copy, ny, NULL), DLS_E_FORMAT);
        }
    memcpy(copy, x, n);
    copy[4] = copy[8] = copy[12] = 0x80; /* 2^31 each: their product overflows */
    dlsi_error_clear(&e);
    CHECK_STATUS(dls_data_from_idx(&d, copy, n, y, ny, &e), DLS_E_FORMAT);
    memset(copy + 4, 255, 12);
    CHECK_STATUS(dls_data_from_idx(&d, copy, n, y, ny, &e), DLS_E_FORMAT);
    dlsi_error_clear(&e);
    CHECK_STATUS(dls_data_from_idx(&d, x, n, copy, data_idx(copy, 1, three), &e), DLS_E_FORMAT);
    CHECK_TEXT(dls_error_text(&e, text, sizeof text), "2 images but 3 labels");
}

/* ---- Files ---- */

static char data_name[600];
static const char *data_path(const char *end) { /* name of a data set, and its files */
    static char path[700];
    snprintf(data_name, sizeof data_name, "%s", port_path("data"));
    snprintf(path, sizeof path, "%s%s", data_name, end);
    return path;
}
static void data_write(const char *end, const void *bytes, size_t count) {
    CHECK_STATUS(dlsi_port_write_file(data_path(end), bytes, count, NULL), DLS_OK);
}
static void data_remove(const char *end) { (void)remove(data_path(end)); }
/* bytes as a gzip file of stored blocks; stated: the length its trailer claims. */
static void data_write_gz(const char *end, const unsigned char *bytes, size_t count,
                          size_t stated) {
    data_bits z;
    data_gzip_head(&z, 0);
    data_put(&z, 1, 3);
    z.used = 0;
    data_put(&z, (unsigned)count, 16), data_put(&z, ~(unsigned)count & 0xFFFFu, 16);
    for (size_t i = 0; i < count; i++) data_put(&z, bytes[i], 8);
    data_gzip_tail(&z, bytes, count);
    for (int i = 0; i < 4; i++) z.b[z.size - 4 + (size_t)i] = (unsigned char)(stated >> 8 * i);
    data_write(end, z.b, z.size);
}
/* Opening with every allocation failing in turn gives DLS_E_MEMORY and leaks nothing. */
static void data_check_short_memory(const char *name) {
    for (long left = 0; left < 50; left++) {
        const size_t taken = unit_mallocs - unit_frees;
        dls_data d;
        unit_mallocs_left = left;
        const dls_status st = dls_data_open(&d, name, NULL);
        unit_mallocs_left = -1;
        if (st == DLS_OK) {
            CHECK(left > 0);
            dls_data_close(&d);
            CHECK_INT(unit_mallocs - unit_frees, taken);
            return;
        }
        CHECK_STATUS(st, DLS_E_MEMORY);
        CHECK_INT(unit_mallocs - unit_frees, taken);
    }
    CHECK(!"opened at last");
}
static void data_check_refused(const char *name, dls_status status, const char *part) {
    const size_t taken = unit_mallocs - unit_frees;
    char text[900];
    dls_error e;
    dls_data d;
    CHECK_STATUS(dls_data_open(&d, name, &e), status);
    CHECK_TEXT(dls_error_text(&e, text, sizeof text), part);
    CHECK_STATUS(dls_data_open(&d, name, NULL), status);
    CHECK(d.count == 0 && d.owned[0] == NULL && d.owned[1] == NULL);
    CHECK_INT(unit_mallocs - unit_frees, taken);
}
static void test_data_open_idx(void) {
    const unsigned dim[3] = {2, 4, 3};
    unsigned char x[100], y[20];
    const size_t n = data_idx(x, 3, dim), ny = data_idx(y, 1, dim);
    dls_data d;
    y[8] = 7;
    for (int way = 0; way < 4; way++) { /* images, labels: plain or not */
        if ((way & 1) == 0) data_write("-images-idx3-ubyte", x, n);
        if ((way & 1) != 0) data_write_gz("-images-idx3-ubyte.gz", x, n, n);
        if ((way & 2) == 0) data_write("-labels-idx1-ubyte", y, ny);
        if ((way & 2) != 0) data_write_gz("-labels-idx1-ubyte.gz", y, ny, ny);
        CHECK_STATUS(dls_data_open(&d, data_name, NULL), DLS_OK);
        CHECK_INT(d.count, 2);
        CHECK_INT(d.classes, 8);
        CHECK(d.label != NULL && d.label[0] == 7 && d.label[1] == 1);
        CHECK(d.x != NULL && memcmp(d.x, x + 16, 24) == 0);
        dls_data_close(&d);
        CHECK(d.x == NULL && d.label == NULL && d.count == 0);
        dls_data_close(&d); /* twice is harmless */
        data_check_short_memory(data_name);
        data_remove("-images-idx3-ubyte"), data_remove("-images-idx3-ubyte.gz");
        data_check_refused(data_name, DLS_E_NOT_FOUND, "can be opened");
        data_write("-images-idx3-ubyte", x, n);
        data_remove("-labels-idx1-ubyte"), data_remove("-labels-idx1-ubyte.gz");
        data_check_refused(data_name, DLS_E_NOT_FOUND, data_name);
        data_write("-labels-idx1-ubyte", y, ny - 1);
        data_check_refused(data_name, DLS_E_FORMAT, "labels are not");
        data_remove("-images-idx3-ubyte"), data_remove("-labels-idx1-ubyte");
    }
}
static void test_data_file_read(void) {
    const unsigned char text[] = "some text";
    const char *path = data_path(".gz");
    dls_error e;
    void *bytes;
    size_t n;
    data_write_gz(".gz", text, 9, 9);
    CHECK_STATUS(dls_file_read(path, &bytes, &n, NULL), DLS_OK);
    CHECK(n == 9 && memcmp(bytes, text, 10) == 0); /* and a zero */
    unit_free(bytes);
    for (size_t stated = 0; stated < 12; stated++) { /* trailers that lie */
        if (stated == 9) continue;
        data_write_gz(".gz", text, 9, stated);
        CHECK_STATUS(dls_file_read(path, &bytes, &n, &e), DLS_E_FORMAT);
        CHECK(bytes == NULL && n == 0);
    }
    data_write_gz(".gz", text, 9, 0xFFFFFFF0u); /* refused before memory is taken */
    unit_mallocs_left = 1;
    CHECK_STATUS(dls_file_read(path, &bytes, &n, &e), DLS_E_FORMAT);
    unit_mallocs_left = -1;
    data_write(".gz", "\x1f\x8b hello", 8);
    CHECK_STATUS(dls_file_read(path, &bytes, &n, &e), DLS_E_FORMAT);
    data_write(".gz", "\x1f", 1); /* too short to be anything but itself */
    CHECK_STATUS(dls_file_read(path, &bytes, &n, &e), DLS_OK);
    CHECK_INT(n, 1);
    unit_free(bytes);
    CHECK_STATUS(dls_file_read("no/such", &bytes, &n, &e), DLS_E_NOT_FOUND);
    data_remove(".gz");
}

/* ---- CSV ---- */

static void data_csv(const char *text, int32_t rows, int32_t cols) {
    dls_data d;
    data_write(".csv", text, strlen(text));
    CHECK_STATUS(dls_data_open(&d, data_path(".csv"), NULL), DLS_OK);
    CHECK_INT(d.count, rows);
    CHECK_INT(d.shape.c, cols);
    CHECK_INT(d.dtype, DLS_F32);
    for (int32_t i = 0; i < d.count; i++) { /* labels 2, 3, ...; values 10 row + column, halves */
        CHECK_INT(d.label[i], i + 2);
        for (int32_t k = 0; k < d.shape.c; k++)
            CHECK_NEAR(((const float *)d.x)[i * cols + k], 10 * i + k - 0.5, 0);
    }
    CHECK_INT(d.classes, rows + 2);
    dls_data_close(&d);
}
static void data_bad_csv(const char *text, const char *line) {
    data_write(".csv", text, strlen(text));
    data_check_refused(data_path(".csv"), DLS_E_FORMAT, line);
}
static void test_data_csv(void) {
    const unsigned char zipped[] = "2,-.5\n3,9.5\n";
    dls_data d;
    data_csv("2,-0.5,0.5\n3,9.5,10.5\n", 2, 2);
    data_csv("label,a,b\n2,-0.5,0.5\n3,9.5,10.5", 2, 2); /* a header; no last line end */
    data_csv("2;-0.5;5e-1\r\n\r\n3;950e-2;+1.05E+1\r\n\n", 2, 2);
    data_csv("\"2\", \"-0.5\"\n3 ,\t9.5\n", 2, 1);
    data_csv("2,-00000.50000000000000000000\n", 1, 1);
    data_write_gz(".csv", zipped, 12, 12);
    CHECK_STATUS(dls_data_open(&d, data_path(".csv"), NULL), DLS_OK);
    CHECK_INT(d.count, 2);
    dls_data_close(&d);
    data_check_short_memory(data_path(".csv"));
    data_bad_csv("", "line 1");
    data_bad_csv("label,a\n", "line 1");
    data_bad_csv("1,2\n1\n", "line 2");
    data_bad_csv("1\n", "line 1");
    data_bad_csv("1,2\n3,4,5\n", "line 2");
    data_bad_csv("1,2,3\n\n3,4\n", "line 3");
    data_bad_csv("1,2\n2,x\n", "line 2");
    data_bad_csv("a,b\nc,d\n", "line 2");
    data_bad_csv("1,x\n", "line 1");
    data_bad_csv("1,2x\n", "line 1");
    data_bad_csv("-1,2\n", "line 1");
    data_bad_csv("0.5,2\n", "line 1");
    data_bad_csv("1,2\n1e9,2\n", "line 2");
    data_bad_csv("1,2\n1e999,2\n", "line 2");
    data_bad_csv("1,2\r3,4\n", "line 1");
    data_remove(".csv");
    data_check_refused(data_path(".csv"), DLS_E_NOT_FOUND, "cannot open");
}

/* ---- npy ---- */

static size_t data_npy(unsigned char *b, int version, const char *head, const void *values,
                       size_t count) {
    const size_t length = strlen(head), at = version == 1 ? 10 : 12;
    memcpy(b, "\x93NUMPY", 6);
    b[6] = (unsigned char)version;
    b[7] = 0;
    for (size_t i = 8; i < at; i++) b[i] = (unsigned char)(length >> 8 * (i - 8));
    memcpy(b + at, head, length);
    memcpy(b + at + length, values, count);
    return at + length + count;
}
static dls_status data_open_npy(int version, const char *head, size_t count, dls_data *d) {
    unsigned char b[600], values[200];
    for (size_t i = 0; i < sizeof values; i++) values[i] = (unsigned char)(i % 50);
    data_write(".npy", b, data_npy(b, version, head, values, count));
    return dls_data_open(d, data_path(".npy"), NULL);
}
static void data_bad_npy(const char *head, size_t count) {
    dls_data d;
    CHECK_STATUS(data_open_npy(1, head, count, &d), DLS_E_FORMAT);
    data_check_refused(data_path(".npy"), DLS_E_FORMAT, ".npy");
}
#define NPY(descr, shape)                                                                          \
    "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }   \n"
static void test_data_npy(void) {
    static const struct {
        const char *head;
        size_t bytes;
        int32_t count;
        dls_shape shape;
        dls_dtype dtype;
    } good[] = {
        {NPY("|u1", "(3,)"), 3, 3, {1, 1, 1}, DLS_U8},
        {NPY("|u1", "(3, 4)"), 12, 3, {1, 1, 4}, DLS_U8},
        {NPY("<f4", "(2, 3, 4)"), 96, 2, {3, 4, 1}, DLS_F32},
        {NPY("<i4", "(2L, 3L)"), 24, 2, {1, 1, 3}, DLS_I32},
        {NPY("|u1", "(2, 3, 4, 2)"), 48, 2, {3, 4, 2}, DLS_U8},
        {"{\"shape\":(2,1),\"fortran_order\":False,\"descr\":\"<f4\"}", 8, 2, {1, 1, 1}, DLS_F32}};
    dls_data d;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        for (int version = 1; version <= 3; version++) {
            CHECK_STATUS(data_open_npy(version, good[i].head, good[i].bytes, &d), DLS_OK);
            CHECK_INT(d.count, good[i].count);
            CHECK(dls_shape_equal(d.shape, good[i].shape));
            CHECK_INT(d.dtype, good[i].dtype);
            CHECK(d.label == NULL && d.classes == 0);
            if (d.dtype == DLS_I32) CHECK_INT(((const int32_t *)d.x)[1], 0x07060504);
            if (d.dtype == DLS_F32) CHECK_INT(dlsi_float_bits(((const float *)d.x)[1]), 0x07060504);
            if (d.dtype == DLS_U8) CHECK_INT(((const unsigned char *)d.x)[2], 2);
            dls_data_close(&d);
        }
    data_remove(".npy");
    data_check_refused(data_path(".npy"), DLS_E_NOT_FOUND, "cannot open");
}
static void test_data_npy_malformed(void) {
    static const char *const heads[] = {NPY("<f8", "(3,)"),
                                        NPY(">f4", "(3,)"),
                                        NPY(">i4", "(3,)"),
                                        NPY("|u2", "(3,)"),
                                        NPY("|u1", "()"),
                                        NPY("|u1", "(0,)"),
                                        NPY("|u1", "(-3,)"),
                                        NPY("|u1", "(1,1,1,1,12)"),
                                        NPY("|u1", "(x,)"),
                                        NPY("|u1", "3"),
                                        NPY("|u1", "(13,)"),
                                        NPY("|u1", "(11,)"),
                                        NPY("<f4", "(4,)"),
                                        NPY("|u1", "(4294967297,)"),
                                        NPY("|u1", "(12, 1073741824, 1073741824, 16)"),
                                        NPY("|u1", "(1e30,)"),
                                        "{'descr': '|u1', 'fortran_order': True, 'shape': (12,)}",
                                        "{'fortran_order': False, 'shape': (12,), 'more': 0}",
                                        "{'descr': '|u1', 'shape': (12,), 'more': 0}",
                                        "{'descr': '|u1', 'fortran_order': False, 'x': 0}",
                                        "{'fortran_order': False, 'shape': (12,), 'descr': '|",
                                        "{'fortran_order': False, 'shape': (12,), 'descr'   ",
                                        ""};
    unsigned char b[300];
    dls_data d;
    size_t n;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) data_bad_npy(heads[i], 12);
    n = data_npy(b, 1, NPY("|u1", "(4,)"), "abcd", 4);
    for (size_t i = 0; i < n; i++) {
        data_write(".npy", b, i);
        CHECK_STATUS(dls_data_open(&d, data_path(".npy"), NULL), DLS_E_FORMAT);
    }
    for (int i = 0; i < 6; i++) {
        b[i] ^= 1;
        data_write(".npy", b, n);
        CHECK_STATUS(dls_data_open(&d, data_path(".npy"), NULL), DLS_E_FORMAT);
        b[i] ^= 1;
    }
    for (int i = 0; i < 3; i++) { /* version 0, 4, and a header as long as can be */
        b[6] = i == 0 ? 0 : i == 1 ? 4 : 1;
        if (i == 2) b[8] = b[9] = 255;
        data_write(".npy", b, n);
        CHECK_STATUS(dls_data_open(&d, data_path(".npy"), NULL), DLS_E_FORMAT);
    }
    data_remove(".npy");
}
static void test_data_npy_labels(void) {
    static const struct {
        const char *head, *values;
        size_t bytes;
        dls_status status;
    } labels[] = {{NPY("|u1", "(3,)"), "\2\0\5", 3, DLS_OK},
                  {NPY("<i4", "(3, 1)"), "\2\0\0\0\0\0\0\0\5\0\0\0", 12, DLS_OK},
                  {NPY("|u1", "(2,)"), "\2\0", 2, DLS_E_FORMAT},
                  {NPY("|u1", "(3, 2)"), "\2\0\5\2\0\5", 6, DLS_E_FORMAT},
                  {NPY("<f4", "(3,)"), "\2\0\0\0\0\0\0\0\5\0\0\0", 12, DLS_E_FORMAT},
                  {NPY("<i4", "(3,)"), "\2\0\0\0\377\377\377\377\5\0\0\0", 12, DLS_E_FORMAT},
                  {NPY("<i4", "(3,)"), "\2\0\0\0\0\0\0\177\5\0\0\0", 12, DLS_E_FORMAT},
                  {"", "", 0, DLS_E_FORMAT}};
    unsigned char b[300];
    dls_data d;
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        data_write("-labels.npy", b,
                   data_npy(b, 1, labels[i].head, labels[i].values, labels[i].bytes));
        CHECK_STATUS(data_open_npy(1, NPY("<f4", "(3, 2)"), 24, &d), labels[i].status);
        if (labels[i].status != DLS_OK) {
            data_check_refused(data_path(".npy"), DLS_E_FORMAT, "labels beside");
            continue;
        }
        CHECK(d.label != NULL && d.label[0] == 2 && d.label[1] == 0 && d.label[2] == 5);
        CHECK_INT(d.classes, 6);
        dls_data_close(&d);
        data_check_short_memory(data_path(".npy"));
    }
    data_remove("-labels.npy"), data_remove(".npy");
}

/* ---- Samples: normalised, augmented ---- */

enum { DATA_H = 6, DATA_W = 5, DATA_N = 40 };
/* Bytes of 2 channels, all non-zero: sample, row and column tell themselves apart. */
static void data_images(dls_data *d, unsigned char *x) {
    for (int n = 0, i = 0; n < DATA_N; n++)
        for (int e = 0; e < DATA_H * DATA_W * 2; e++, i++)
            x[i] = (unsigned char)(1 + (n * 7 + e * 3) % 250);
    memset(d, 0, sizeof *d);
    d->x = x;
    d->dtype = DLS_U8;
    d->shape = dlsi_shape(DATA_H, DATA_W, 2);
    d->count = DATA_N;
}
static void test_data_fetch(void) {
    static unsigned char x[DATA_N * DATA_H * DATA_W * 2];
    const int32_t index[3] = {5, 0, 39}, ints[6] = {1, 2, 3, 4, 5, 6};
    const float reals[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, values[4] = {1, 2, 3, 4};
    int32_t label[40], got[3], ids[6];
    dls_real y[3 * 60], v[4];
    dls_data d;
    data_images(&d, x);
    for (int32_t i = 0; i < 40; i++) label[i] = 100 + i;
    d.label = label;
    for (int way = 0; way < 2; way++) { /* without and with normalisation of channel 1 */
        d.mean[1] = 0.25f;
        d.std[1] = way == 0 ? 0.0f : 0.5f;
        CHECK_STATUS(dls_data_fetch(&d, NULL, 1, index, 3, y, got, NULL, NULL, NULL), DLS_OK);
        for (int n = 0; n < 3; n++) {
            CHECK_INT(got[n], 100 + index[n]);
            for (int e = 0; e < 60; e++) {
                double want = x[index[n] * 60 + e] / 255.0;
                if (way == 1 && e % 2 == 1) want = (want - 0.25) / 0.5;
                CHECK_NEAR(y[n * 60 + e], want, 2e-6);
            }
        }
    }
    memset(&d, 0, sizeof d); /* five channels: the fourth's numbers serve the rest */
    d.x = reals;
    d.dtype = DLS_F32;
    d.shape = dlsi_shape(1, 1, 5);
    d.count = 2;
    d.values = values;
    d.values_each = 2;
    for (int c = 0; c < 4; c++) d.mean[c] = (float)c, d.std[c] = (float)(c + 1);
    CHECK_STATUS(dls_data_fetch(&d, NULL, 1, index + 1, 1, y, NULL, NULL, NULL, v), DLS_OK);
    CHECK(v[0] == 1 && v[1] == 2);
    for (int c = 0; c < 5; c++)
        CHECK_NEAR(y[c], (c - (c < 3 ? c : 3)) / (c < 3 ? c + 1.0 : 4.0), 1e-6);
    CHECK_STATUS(dls_data_fetch(&d, NULL, 1, index + 1, 1, NULL, NULL, NULL, NULL, NULL), DLS_OK);
    CHECK_STATUS(dls_data_fetch(&d, NULL, 1, index, 3, y, NULL, NULL, NULL, NULL), DLS_E_ARG);
    CHECK_STATUS(dls_data_fetch(&d, NULL, 1, index + 1, 1, y, got, NULL, NULL, NULL), DLS_E_ARG);
    got[0] = -1;
    CHECK_STATUS(dls_data_fetch(&d, NULL, 1, got, 1, y, NULL, NULL, NULL, NULL), DLS_E_ARG);
    d.x = ints;
    d.dtype = DLS_I32;
    d.shape = dlsi_shape(3, 1, 1);
    got[0] = 1, got[1] = 0;
    CHECK_STATUS(dls_data_fetch(&d, NULL, 1, got, 2, ids, NULL, NULL, NULL, NULL), DLS_OK);
    for (int i = 0; i < 6; i++) CHECK_INT(ids[i], 1 + (i + 3) % 6);
}
/* Sample n augmented, as bytes: the nearest of 255 levels. */
static void data_augmented(const dls_data *d, const dls_augment *a, uint64_t seed, int32_t n,
                           int *y) {
    dls_real x[60];
    CHECK_STATUS(dls_data_fetch(d, a, seed, &n, 1, x, NULL, NULL, NULL, NULL), DLS_OK);
    for (int e = 0; e < 60; e++) y[e] = (int)(255.0 * (double)x[e] + 0.5);
}
/* Whether y is sample n moved by dy, dx, then mirrored or not. */
static bool data_is_moved(const dls_data *d, int n, int dy, int dx, bool flip, const int *y) {
    for (int e = 0; e < 60; e++) {
        const int i = e / 10 - dy, j = (flip ? DATA_W - 1 - e / 2 % 5 : e / 2 % 5) - dx;
        const bool in = i >= 0 && i < DATA_H && j >= 0 && j < DATA_W;
        if (y[e] != (in ? ((const unsigned char *)d->x)[n * 60 + (i * DATA_W + j) * 2 + e % 2] : 0))
            return false;
    }
    return true;
}
/* Draws all samples by some seeds; each must be a movement by at most `most`, mirrored only if
   flip may be, and every one of these must be seen. */
static void data_check_moves(const dls_augment *a, int most, bool flips) {
    static unsigned char x[DATA_N * 60];
    int seen[9][9][2], y[60], drawn = 0, mirrored = 0;
    dls_data d;
    data_images(&d, x);
    memset(seen, 0, sizeof seen);
    for (uint64_t seed = 1; seed <= 60; seed++)
        for (int n = 0; n < DATA_N; n++) {
            int found = 0;
            data_augmented(&d, a, seed, n, y);
            for (int k = 0; k < 81 * 2; k++) {
                const int dy = k / 2 / 9 - 4, dx = k / 2 % 9 - 4;
                if (!data_is_moved(&d, n, dy, dx, k % 2 != 0, y)) continue;
                if (abs(dy) > most || abs(dx) > most || (k % 2 != 0 && !flips)) continue;
                seen[dy + 4][dx + 4][k % 2]++;
                mirrored += k % 2;
                found++;
            }
            CHECK_INT(found, 1);
            drawn++;
        }
    for (int dy = -most; dy <= most; dy++)
        for (int dx = -most; dx <= most; dx++)
            for (int flip = 0; flip < (flips ? 2 : 1); flip++)
                CHECK(seen[dy + 4][dx + 4][flip] > 0);
    if (flips) CHECK(mirrored > drawn * 2 / 5 && mirrored < drawn * 3 / 5);
}
static void test_data_augment_moves(void) {
    dls_augment a;
    memset(&a, 0, sizeof a);
    a.shift = 2;
    data_check_moves(&a, 2, false);
    a.flip = true;
    data_check_moves(&a, 2, true);
    a.shift = 0;
    data_check_moves(&a, 0, true);
    a.crop = 1;
    data_check_moves(&a, 1, true);
    a.shift = 1; /* both: up to two */
    data_check_moves(&a, 2, true);
}
static void test_data_augment_cutout(void) {
    static unsigned char x[DATA_N * 60];
    int y[60], whole = 0, places = 0;
    bool seen[DATA_H][DATA_W];
    dls_augment a;
    dls_data d;
    data_images(&d, x);
    memset(&a, 0, sizeof a);
    memset(seen, 0, sizeof seen);
    a.cutout = 3;
    for (int n = 0; n < DATA_N * 5; n++) {
        int top = 99, left = 99, bottom = -1, right = -1, zeros = 0;
        data_augmented(&d, &a, (uint64_t)n, n % DATA_N, y);
        for (int e = 0; e < 60; e++) {
            const int i = e / 10, j = e / 2 % 5;
            CHECK(y[e] == 0 || y[e] == x[n % DATA_N * 60 + e]);
            if (y[e] != 0) continue;
            zeros++;
            seen[i][j] = true;
            top = i < top ? i : top, bottom = i > bottom ? i : bottom;
            left = j < left ? j : left, right = j > right ? j : right;
        }
        CHECK(zeros == (bottom - top + 1) * (right - left + 1) * 2); /* one rectangle */
        CHECK(bottom - top < 3 && right - left < 3 && zeros >= 8);   /* the rest hangs over */
        whole += zeros == 18;
    }
    CHECK(whole > 20);
    for (int i = 0; i < DATA_H * DATA_W; i++) places += seen[i / DATA_W][i % DATA_W];
    CHECK_INT(places, DATA_H * DATA_W);
}
static void test_data_augment_normalised(void) { /* what is blank is a zero of the image */
    static unsigned char x[DATA_N * 60];
    const int32_t n = 0;
    dls_real y[60];
    dls_augment a;
    dls_data d;
    data_images(&d, x);
    memset(&a, 0, sizeof a);
    a.cutout = 99;
    d.mean[0] = 0.5f, d.std[0] = 0.25f;
    CHECK_STATUS(dls_data_fetch(&d, &a, 1, &n, 1, y, NULL, NULL, NULL, NULL), DLS_OK);
    for (int e = 0; e < 60; e++) CHECK_NEAR(y[e], e % 2 == 0 ? -2 : 0, 1e-6);
}
static void test_data_augment_anywhere(void) { /* the same alone, in a batch, in another order */
    static unsigned char x[DATA_N * 60];
    int32_t index[DATA_N], label[DATA_N], label2[DATA_N], again2;
    static dls_real all[DATA_N * 60];
    float share[DATA_N], again;
    dls_real y[60];
    dls_augment a = {2, true, 1, 2, 0.4f};
    int differ = 0;
    dls_data d;
    data_images(&d, x);
    for (int32_t i = 0; i < DATA_N; i++) index[i] = DATA_N - 1 - i, label[i] = i % 4;
    d.label = label;
    CHECK_STATUS(dls_data_fetch(&d, &a, 9, index, DATA_N, all, NULL, label2, share, NULL), DLS_OK);
    for (int i = 0; i < DATA_N; i++) {
        CHECK_STATUS(dls_data_fetch(&d, &a, 9, index + i, 1, y, NULL, &again2, &again, NULL),
                     DLS_OK);
        CHECK(memcmp(y, all + i * 60, sizeof y) == 0 && again2 == label2[i] && again == share[i]);
        CHECK_STATUS(dls_data_fetch(&d, &a, 10, index + i, 1, y, NULL, &again2, &again, NULL),
                     DLS_OK);
        differ += memcmp(y, all + i * 60, sizeof y) != 0;
    }
    CHECK(differ >= DATA_N - 2); /* another seed is another draw */
}
static void test_data_mixup(void) {
    float x[20]; /* samples are 2^n: a mixture tells its parts */
    int32_t label[20], label2, n;
    dls_augment a;
    dls_real y;
    dls_data d;
    float share;
    double low = 1, high = 0, sum = 0;
    memset(&a, 0, sizeof a);
    memset(&d, 0, sizeof d);
    for (n = 0; n < 20; n++) x[n] = (float)(1 << n), label[n] = n;
    d.x = x, d.dtype = DLS_F32, d.shape = dlsi_shape(1, 1, 1), d.count = 20, d.label = label;
    a.mixup = 1;
    for (int i = 0; i < 2000; i++) {
        n = i % 20;
        CHECK_STATUS(dls_data_fetch(&d, &a, (uint64_t)i, &n, 1, &y, NULL, &label2, &share, NULL),
                     DLS_OK);
        CHECK(share >= 0 && share <= 1 && label2 >= 0 && label2 < 20);
        CHECK_NEAR(y, (1 - (double)share) * x[n] + (double)share * x[label2], 1e-6 * x[19]);
        low = share < low ? share : low, high = share > high ? share : high, sum += share;
    }
    CHECK(low < 0.01 && high > 0.99); /* Beta(1, 1) is uniform */
    CHECK_NEAR(sum / 2000, 0.5, 0.03);
    a.mixup = 0.1f;
    sum = 0;
    for (n = 0; n < 20; n++) { /* Beta(0.1, 0.1): mostly near 0 or 1 */
        CHECK_STATUS(dls_data_fetch(&d, &a, 7, &n, 1, &y, NULL, &label2, &share, NULL), DLS_OK);
        sum += share > 0.1f && share < 0.9f;
    }
    CHECK(sum < 10);
    a.mixup = 0, a.shift = 0, n = 3; /* not asked for: second labels say so */
    for (int way = 0; way < 2; way++, a.flip = true) {
        label2 = -5, share = -5;
        CHECK_STATUS(dls_data_fetch(&d, &a, 7, &n, 1, &y, NULL, &label2, &share, NULL), DLS_OK);
        CHECK(label2 == 3 && share == 0 && y == (dls_real)8);
    }
    CHECK_STATUS(dls_data_fetch(&d, &a, 7, &n, 1, &y, NULL, &label2, NULL, NULL), DLS_E_ARG);
}

static void data_tests(void) {
    RUN(data_gunzip);
    RUN(data_gunzip_damage);
    RUN(data_gunzip_headers);
    RUN(data_gunzip_blocks);
    RUN(data_gunzip_dynamic);
    RUN(data_gunzip_bad_blocks);
    RUN(data_idx);
    RUN(data_idx_malformed);
    RUN(data_open_idx);
    RUN(data_file_read);
    RUN(data_csv);
    RUN(data_npy);
    RUN(data_npy_malformed);
    RUN(data_npy_labels);
    RUN(data_fetch);
    RUN(data_augment_moves);
    RUN(data_augment_cutout);
    RUN(data_augment_normalised);
    RUN(data_augment_anywhere);
    RUN(data_mixup);
}
