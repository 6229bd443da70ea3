/* Messages cut short, changed and made up; errors that must leave no trace; saved states; merging;
   PowerSGD beside a plain one in doubles; the choice of a codec. Part of codec.c. */

/* ---- What must be refused ---- */

static void test_hostile(void) {
    enum { N = 300 };
    static float g[N], x[N];
    for (int k = 0; k < KINDS; k++) {
        unsigned char *copy;
        size_t accepted = 0;
        sender s;
        draw(g, N, 77, 1.0);
        open_sender(&s, &kinds[k], N);
        CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
        for (size_t cut = 0; cut < s.bytes;
             cut++) { /* exact blocks: a sanitizer sees a step past */
            copy = (unsigned char *)take(cut);
            memcpy(copy, s.out, cut);
            if (dls_codec_decode(copy, cut, N, x, 1.0f, false) == DLS_OK) CHECK_INT(cut, -1);
            free(copy);
        }
        copy = (unsigned char *)take(s.bytes + 1);
        memcpy(copy, s.out, s.bytes);
        CHECK_STATUS(dls_codec_check(copy, s.bytes + 1, NULL), DLS_E_FORMAT);
        for (size_t bit = 0; bit < 8 * s.bytes; bit++) { /* what passes is finite, n long */
            copy[bit / 8] = (unsigned char)(copy[bit / 8] ^ 1 << bit % 8);
            if (dls_codec_decode(copy, s.bytes, N, x, 1.0f, false) == DLS_OK) {
                accepted++;
                for (int i = 0; i < N; i++)
                    if (!isfinite(x[i])) CHECK_INT(bit, -2);
                if (bit < 24 || (bit >= 32 && bit < 64)) CHECK_INT(bit, -3);
            }
            copy[bit / 8] = (unsigned char)(copy[bit / 8] ^ 1 << bit % 8);
        }
        CHECK(accepted > 0);
        free(copy);
        close_sender(&s);
    }
}
static void test_refused(void) {
    float x[3] = {5, 5, 5};
    static const unsigned char nan32[] = {0, 32, 0, 0, 1, 0, 0, 0, 0, 0, 0xC0, 0x7F};
    static const unsigned char inf16[] = {1, 16, 0, 0, 1, 0, 0, 0, 0x00, 0x7C};
    static const unsigned char nan_bf[] = {2, 16, 0, 0, 1, 0, 0, 0, 0xC0, 0x7F};
    static const unsigned char huge16[] = {1, 16, 0, 113, 1, 0, 0, 0, 0xFF, 0x7B};
    static const unsigned char scale8[] = {3, 8, 6, 113, 1, 0, 0, 0, 0xFF, 0x7B, 1};
    static const unsigned char inf_sign[] = {5, 1, 8, 0, 1, 0, 0, 0, 0x00, 0x7C, 1};
    static const unsigned char power[] = {7, 0, 0, 0, 1, 0, 0, 0};
    static const unsigned char none[] = {0, 32, 0, 0, 0, 0, 0, 0};
    static const unsigned char past[] = {6, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0x08, 0, 0};
    static const unsigned char many[] = {6, 16, 0,    0, 3, 0, 0, 0, 4, 0, 0,
                                         0, 0,  0x0F, 0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char rice[] = {6, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 32, 1, 0, 0};
    static const unsigned char slack[] = {6, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0x03, 0, 0};
    static const unsigned char good[] = {6, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0x04, 0, 0x3C};
#define REFUSED(m, status)                                                                         \
    do {                                                                                           \
        dls_codec_info info_;                                                                      \
        CHECK_STATUS(dls_codec_check(m, sizeof m, &info_), status);                                \
        CHECK_STATUS(dls_codec_decode(m, sizeof m, (m)[4], x, 1.0f, true), status);                \
        CHECK(x[0] == 5 && x[1] == 5 && x[2] == 5);                                                \
    } while (0)
    REFUSED(nan32, DLS_E_NUMBER);
    REFUSED(inf16, DLS_E_NUMBER);
    REFUSED(nan_bf, DLS_E_NUMBER);
    REFUSED(huge16, DLS_E_NUMBER);
    REFUSED(scale8, DLS_E_NUMBER);
    REFUSED(inf_sign, DLS_E_NUMBER);
    REFUSED(power, DLS_E_FORMAT);
    REFUSED(none, DLS_E_FORMAT);
    REFUSED(past, DLS_E_FORMAT);
    REFUSED(many, DLS_E_FORMAT);
    REFUSED(rice, DLS_E_FORMAT);
    REFUSED(slack, DLS_E_FORMAT);
    CHECK_STATUS(dls_codec_decode(good, sizeof good, 3, x, 1.0f, true), DLS_OK);
    CHECK(x[0] == 5 && x[1] == 5 && x[2] == 6);
}
/* NaN, infinity and sums of both kinds: refused by the sender, whose state stays as it was. */
static void test_numbers(void) {
    enum { N = 130 };
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3.0e38f, -3.0e38f};
    float g[N];
    for (int k = 0; k < KINDS; k++)
        for (int b = 0; b < 5; b++)
            for (int at = 0; at < N; at += 43) {
                uint64_t before, after;
                sender s;
                open_sender(&s, &kinds[k], N);
                draw(g, N, 3, 1.0);
                CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
                before = dls_hash64(0, s.codec.state, 4 * s.codec.state_count);
                g[at] = bad[b];
                CHECK_STATUS(dls_codec_encode(&s.codec, 1, 0, g, s.out, s.max, &s.bytes),
                             DLS_E_NUMBER);
                CHECK_INT(s.bytes, 0);
                after = dls_hash64(0, s.codec.state, 4 * s.codec.state_count);
                CHECK(before == after);
                close_sender(&s);
            }
}
static void test_descs(void) {
    dls_codec_desc d;
    dls_codec c;
    char mem[64];
    memset(&d, 0, sizeof d);
    CHECK_INT(dls_codec_size(&d, 0), 0);
    CHECK(dls_codec_size(&d, 1000000) < 200); /* nothing is kept */
    d.kind = DLS_CODEC_Q8;
    CHECK_STATUS(dls_codec_init(&c, &d, 1000, mem, sizeof mem), DLS_E_MEMORY);
    CHECK(dls_codec_size(&d, 1000) <= 4000 + 2 * DLS_ALIGN);
    d.kind = DLS_CODEC_SIGN;
    d.no_feedback = true;
    CHECK_STATUS(dls_codec_init(&c, &d, 1000, mem, sizeof mem), DLS_E_ARG);
    memset(&d, 0, sizeof d);
    d.kind = DLS_CODEC_TOPK;
    d.value_bits = 4;
    CHECK_INT(dls_codec_bytes_max(&d, 100), 0);
    d.value_bits = 0;
    d.density = NAN;
    CHECK_INT(dls_codec_size(&d, 100), 0);
    d.density = 0;
    d.warmup = 5;
    CHECK_INT(dls_codec_size(&d, 100), 0);
    d.warmup = 4;
    d.density = 0.001f;
    CHECK(dls_codec_density(&d, 0) == 0.25f && dls_codec_density(&d, 2) == 0.015625f);
    CHECK(dls_codec_density(&d, 3) == 0.004f && dls_codec_density(&d, 4) == 0.001f);
    d.density = 0.01f; /* warm-up never sends less */
    CHECK(dls_codec_density(&d, 3) == 0.01f);
    d.kind = DLS_CODEC_POWER;
    CHECK_INT(dls_codec_size(&d, 100), 0); /* no shape */
    d.rows = 10;
    d.cols = 10;
    CHECK(dls_codec_size(&d, 100) > 0);
    CHECK_INT(dls_codec_bytes_max(&d, 100), 0);
    d.rank = 11;
    CHECK_INT(dls_codec_size(&d, 100), 0);
    CHECK_TEXT(dls_codec_name(DLS_CODEC_TOPK), "top-k");
}
/* Warm-up: the message of 25 % fits where bytes_max said, and less is sent from epoch to epoch. */
static void test_warmup(void) {
    enum { N = 10000 };
    static float g[N];
    dls_codec_desc d;
    size_t last = SIZE_MAX;
    sender s;
    memset(&d, 0, sizeof d);
    d.kind = DLS_CODEC_TOPK;
    d.density = 0.001f;
    d.warmup = 4;
    open_sender(&s, &d, N);
    for (int epoch = 0; epoch < 6; epoch++) {
        dls_codec_info info;
        draw(g, N, (uint64_t)epoch, 1.0);
        s.codec.density = dls_codec_density(&d, epoch);
        CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
        CHECK_STATUS(dls_codec_check(s.out, s.bytes, &info), DLS_OK);
        CHECK_NEAR(info.sent, N * (double)s.codec.density, 1);
        CHECK(epoch > 4 ? info.sent == last : info.sent < last);
        last = info.sent;
    }
    s.codec.density = 2.0f;
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_E_ARG);
    close_sender(&s);
}

/* ---- Saved states ---- */

static void test_saved(void) {
    enum { N = 700 };
    static float g[N];
    for (int k = 0; k < KINDS; k++) {
        sender a, b;
        unsigned char *saved, *again;
        size_t bytes;
        open_sender(&a, &kinds[k], N);
        open_sender(&b, &kinds[k], N);
        for (int step = 0; step < 3; step++) {
            draw(g, N, (uint64_t)step, 1.0);
            CHECK_STATUS(dls_codec_encode(&a.codec, (uint64_t)step, 0, g, a.out, a.max, &a.bytes),
                         DLS_OK);
        }
        bytes = dls_codec_saved_bytes(&a.codec);
        saved = (unsigned char *)take(bytes);
        again = (unsigned char *)take(bytes);
        CHECK_STATUS(dls_codec_save(&a.codec, saved, bytes - 1), DLS_E_MEMORY);
        CHECK_STATUS(dls_codec_save(&a.codec, saved, bytes), DLS_OK);
        CHECK_STATUS(dls_codec_load(&b.codec, saved, bytes), DLS_OK);
        CHECK_STATUS(dls_codec_encode(&a.codec, 9, 0, g, a.out, a.max, &a.bytes), DLS_OK);
        CHECK_STATUS(dls_codec_encode(&b.codec, 9, 0, g, b.out, b.max, &b.bytes), DLS_OK);
        CHECK_INT(a.bytes, b.bytes);
        CHECK(memcmp(a.out, b.out, a.bytes) == 0);
        CHECK_STATUS(dls_codec_save(&b.codec, again, bytes), DLS_OK);
        CHECK_STATUS(dls_codec_load(&b.codec, saved, bytes - 1), DLS_E_FORMAT);
        saved[4] ^= 1;
        CHECK_STATUS(dls_codec_load(&b.codec, saved, bytes), DLS_E_MISMATCH);
        saved[4] ^= 1;
        if (b.codec.state_count > 0) {
            saved[bytes - 1] ^= 1;
            CHECK_STATUS(dls_codec_load(&b.codec, saved, bytes), DLS_E_CHECKSUM);
            dlsi_store32(saved + 16, 0x7FC00000u);
            dlsi_store32(saved + 12, dls_crc32c(0, saved + 16, bytes - 16));
            CHECK_STATUS(dls_codec_load(&b.codec, saved, bytes), DLS_E_NUMBER);
            CHECK_STATUS(dls_codec_save(&b.codec, saved, bytes), DLS_OK);
            CHECK(memcmp(saved, again, bytes) == 0); /* refusals changed nothing */
        }
        free(saved);
        free(again);
        close_sender(&a);
        close_sender(&b);
    }
}

/* ---- Merging ---- */

static void merge_case(int parts, double density, bool dense_part, bool sparse_out) {
    enum { N = 5003, MOST = 8 };
    static float g[N], x[N], y[N];
    static double sum[N];
    dls_codec_part part[MOST];
    sender s[MOST];
    unsigned char *out;
    size_t max = dls_codec_merge_max(N), bytes;
    dls_codec_info info;
    double off = 0;
    memset(part, 0, sizeof part);
    memset(sum, 0, sizeof sum);
    for (int p = 0; p < parts; p++) {
        dls_codec_desc d = kinds[8 + p % 3];
        if (dense_part && p == 1) d = kinds[3];
        d.density = (float)density;
        open_sender(&s[p], &d, N);
        draw(g, N, (uint64_t)p + 40, 1.0);
        CHECK_STATUS(dls_codec_encode(&s[p].codec, 0, 0, g, s[p].out, s[p].max, &s[p].bytes),
                     DLS_OK);
        part[p].in = s[p].out;
        part[p].bytes = s[p].bytes;
        part[p].weight = 1.0f / (float)(p + 1);
        CHECK_STATUS(dls_codec_decode(s[p].out, s[p].bytes, N, x, 1.0f, false), DLS_OK);
        for (int i = 0; i < N; i++) sum[i] += (double)part[p].weight * (double)x[i];
    }
    out = (unsigned char *)take(max);
    CHECK_STATUS(dls_codec_merge(part, parts, N, out, max - 1, &bytes), DLS_E_MEMORY);
    CHECK_STATUS(dls_codec_merge(part, parts, N, out, max, &bytes), DLS_OK);
    CHECK_STATUS(dls_codec_check(out, bytes, &info), DLS_OK);
    CHECK_INT(info.kind, sparse_out ? DLS_CODEC_TOPK : DLS_CODEC_Q4);
    CHECK_STATUS(dls_codec_decode(out, bytes, N, y, 1.0f, false), DLS_OK);
    for (int i = 0; i < N; i++) {
        off = fmax(off, fabs(sum[i] - (double)y[i]));
        if (sparse_out) CHECK_NEAR(y[i], sum[i], fabs(sum[i]) / 2000 + 1e-5);
    }
    CHECK(off < 0.5);
    part[0].weight = NAN;
    CHECK_STATUS(dls_codec_merge(part, parts, N, out, max, &bytes), DLS_E_NUMBER);
    part[0].weight = 3e38f;
    CHECK_STATUS(dls_codec_merge(part, parts, N, out, max, &bytes), DLS_E_NUMBER);
    part[0].weight = 1.0f;
    part[0].bytes--;
    CHECK_STATUS(dls_codec_merge(part, parts, N, out, max, &bytes), DLS_E_FORMAT);
    part[0].bytes++;
    CHECK_STATUS(dls_codec_merge(part, parts, N + 1, out, 2 * max, &bytes), DLS_E_SHAPE);
    CHECK_STATUS(dls_codec_merge(part, 0, N, out, max, &bytes), DLS_E_ARG);
    for (int p = 0; p < parts; p++) close_sender(&s[p]);
    free(out);
}
static void test_merge(void) {
    merge_case(1, 0.05, false, true);
    merge_case(4, 0.02, false, true);
    merge_case(8, 0.01, false, true);
    merge_case(8, 0.05, false, false); /* more than 12 % together */
    merge_case(3, 0.01, true, false);
}

/* ---- PowerSGD ---- */

typedef struct plain_power { /* in doubles, straight from the paper */
    int rows, cols, rank, workers;
    double *m, *p, *q; /* m: workers of them */
} plain_power;
static void plain_orthonormal(double *p, int rows, int rank) { /* p: rows x rank */
    for (int k = 0; k < rank; k++) {
        double norm = 0;
        for (int j = 0; j < k; j++) {
            double dot = 0;
            for (int i = 0; i < rows; i++) dot += p[i * rank + j] * p[i * rank + k];
            for (int i = 0; i < rows; i++) p[i * rank + k] -= dot * p[i * rank + j];
        }
        for (int i = 0; i < rows; i++) norm += p[i * rank + k] * p[i * rank + k];
        for (int i = 0; i < rows; i++) p[i * rank + k] /= sqrt(norm);
    }
}
static void plain_step(const plain_power *w, double *to) {
    memset(w->p, 0, (size_t)(w->rows * w->rank) * sizeof(double));
    for (int d = 0; d < w->workers; d++)
        for (int i = 0; i < w->rows; i++)
            for (int j = 0; j < w->cols; j++)
                for (int k = 0; k < w->rank; k++)
                    w->p[i * w->rank + k] +=
                        w->m[(d * w->rows + i) * w->cols + j] * w->q[j * w->rank + k] / w->workers;
    plain_orthonormal(w->p, w->rows, w->rank);
    memset(w->q, 0, (size_t)(w->cols * w->rank) * sizeof(double));
    for (int d = 0; d < w->workers; d++)
        for (int i = 0; i < w->rows; i++)
            for (int j = 0; j < w->cols; j++)
                for (int k = 0; k < w->rank; k++)
                    w->q[j * w->rank + k] +=
                        w->m[(d * w->rows + i) * w->cols + j] * w->p[i * w->rank + k] / w->workers;
    for (int i = 0; i < w->rows; i++)
        for (int j = 0; j < w->cols; j++) {
            to[i * w->cols + j] = 0;
            for (int k = 0; k < w->rank; k++)
                to[i * w->cols + j] += w->p[i * w->rank + k] * w->q[j * w->rank + k];
            for (int d = 0; d < w->workers; d++)
                w->m[(d * w->rows + i) * w->cols + j] -= to[i * w->cols + j];
        }
}
static void power_mean(float *const *part, int workers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (int d = 0; d < workers; d++) sum += (double)part[d][i];
        for (int d = 0; d < workers; d++) part[d][i] = (float)(sum / workers);
    }
}
static void power_case(int rows, int cols, int rank) {
    enum { WORKERS = 3, STEPS = 6 };
    const size_t n = (size_t)(rows * cols);
    float *g = floats(n), *to[WORKERS], *part[WORKERS];
    double *ref = (double *)take(n * sizeof *ref), error = 0, size = 0;
    plain_power w = {rows, cols, rank, WORKERS, NULL, NULL, NULL};
    dls_codec_desc d;
    sender s[WORKERS];
    size_t count = 0;
    memset(&d, 0, sizeof d);
    d.kind = DLS_CODEC_POWER;
    d.rows = rows;
    d.cols = cols;
    d.rank = rank;
    d.seed = 11;
    w.m = (double *)take(n * WORKERS * sizeof(double));
    w.p = (double *)take((size_t)(rows * rank) * sizeof(double));
    w.q = (double *)take((size_t)(cols * rank) * sizeof(double));
    for (int k = 0; k < WORKERS; k++) {
        const size_t bytes = dls_codec_size(&d, n);
        s[k].mem = take(bytes);
        CHECK_STATUS(dls_codec_init(&s[k].codec, &d, n, s[k].mem, bytes), DLS_OK);
        to[k] = floats(n);
    }
    for (int j = 0; j < cols; j++)
        for (int k = 0; k < rank; k++) w.q[j * rank + k] = (double)s[0].codec.q[k * cols + j];
    for (int step = 0; step < STEPS; step++) {
        for (int k = 0; k < WORKERS; k++) {
            draw(g, n, (uint64_t)(10 * step + k), 1.0);
            for (size_t i = 0; i < n; i++) w.m[(size_t)k * n + i] += (double)g[i];
            CHECK_STATUS(dls_codec_power_begin(&s[k].codec, g, &part[k], &count), DLS_OK);
            CHECK_STATUS(dls_codec_power_end(&s[k].codec, to[k]), DLS_E_STATE);
        }
        CHECK_INT(count, rows * rank);
        power_mean(part, WORKERS, count);
        for (int k = 0; k < WORKERS; k++)
            CHECK_STATUS(dls_codec_power_middle(&s[k].codec, &part[k], &count), DLS_OK);
        CHECK_INT(count, cols * rank);
        power_mean(part, WORKERS, count);
        for (int k = 0; k < WORKERS; k++)
            CHECK_STATUS(dls_codec_power_end(&s[k].codec, to[k]), DLS_OK);
        plain_step(&w, ref);
        CHECK(memcmp(to[0], to[2], n * sizeof(float)) == 0); /* alike everywhere */
        for (size_t i = 0; i < n; i++) {
            error += pow((double)to[0][i] - ref[i], 2);
            size += ref[i] * ref[i];
        }
    }
    CHECK_NEAR(sqrt(error / size), 0, 2e-5);
    for (size_t i = 0, k = 1; i < n; i++) CHECK_NEAR(s[k].codec.error[i], w.m[k * n + i], 1e-3);
    for (int k = 0; k < WORKERS; k++) {
        free(s[k].mem);
        free(to[k]);
    }
    free(g);
    free(ref);
    free(w.m);
    free(w.p);
    free(w.q);
}
static void test_power(void) {
    power_case(8, 8, 1);
    power_case(70, 33, 2);
    power_case(16, 200, 4);
    power_case(1, 50, 1);
}
/* A gradient of rank 1 sent at rank 2: exact, the dead row is drawn anew, nothing is NaN. */
static void test_power_edges(void) {
    enum { R = 12, C = 20, N = R * C };
    float g[N], to[N], *part;
    dls_codec_desc d;
    sender s;
    size_t count, bytes;
    unsigned char *saved;
    memset(&d, 0, sizeof d);
    d.kind = DLS_CODEC_POWER;
    d.rows = R;
    d.cols = C;
    d.rank = 2;
    bytes = dls_codec_size(&d, N);
    s.mem = take(bytes);
    CHECK_STATUS(dls_codec_init(&s.codec, &d, N, s.mem, bytes), DLS_OK);
    bytes = dls_codec_saved_bytes(&s.codec);
    saved = (unsigned char *)take(bytes);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < N; i++)
            g[i] = round == 2 ? 0.0f : (float)(i / C + 1) * (float)(i % C - 7) * 0.01f;
        CHECK_STATUS(dls_codec_power_begin(&s.codec, g, &part, &count), DLS_OK);
        CHECK_STATUS(dls_codec_power_begin(&s.codec, g, &part, &count), DLS_E_STATE);
        CHECK_STATUS(dls_codec_save(&s.codec, saved, bytes), DLS_E_STATE);
        CHECK_STATUS(dls_codec_power_middle(&s.codec, &part, &count), DLS_OK);
        CHECK_STATUS(dls_codec_power_end(&s.codec, to), DLS_OK);
        for (int i = 0; i < N; i++) CHECK_NEAR(to[i], g[i], 1e-5);
        CHECK(length2(s.codec.q, C) > 0 && length2(s.codec.q + C, C) > 0);
    }
    CHECK_STATUS(dls_codec_save(&s.codec, saved, bytes), DLS_OK);
    CHECK_STATUS(dls_codec_load(&s.codec, saved, bytes), DLS_OK);
    g[5] = NAN;
    CHECK_STATUS(dls_codec_power_begin(&s.codec, g, &part, &count), DLS_E_NUMBER);
    g[5] = 1.0f;
    CHECK_STATUS(dls_codec_power_begin(&s.codec, g, &part, &count), DLS_OK);
    part[0] = INFINITY; /* from another device */
    CHECK_STATUS(dls_codec_power_middle(&s.codec, &part, &count), DLS_E_NUMBER);
    memset(to, 0, sizeof to);
    dls_codec_flush(&s.codec, to); /* the step's gradient is owed still */
    for (int i = 0; i < N; i++) CHECK_NEAR(to[i], g[i], 1e-4);
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, saved, bytes, &count), DLS_E_UNSUPPORTED);
    free(saved);
    free(s.mem);
}

/* ---- Beside the codecs ---- */

static void test_clip(void) {
    enum { N = 1000 };
    static float g[N], x[N];
    double norm, before;
    draw(g, N, 8, 10.0);
    before = sqrt(length2(g, N));
    CHECK_NEAR(dls_codec_norm(g, N), before, 1e-9 * before);
    CHECK_STATUS(dls_codec_clip(g, N, 2.0f, 16, &norm), DLS_OK);
    CHECK_NEAR(norm, before, 1e-9 * before);
    CHECK_NEAR(dls_codec_norm(g, N), 0.5, 1e-6);
    memcpy(x, g, sizeof g);
    CHECK_STATUS(dls_codec_clip(g, N, 2.1f, 16, NULL), DLS_OK); /* short enough: untouched */
    CHECK(memcmp(x, g, sizeof g) == 0);
    g[999] = NAN;
    CHECK_STATUS(dls_codec_clip(g, N, 2.0f, 16, &norm), DLS_E_NUMBER);
    CHECK(memcmp(x, g, sizeof g - 4) == 0);
}
static void test_choose(void) {
    static const dls_codec_option option[] = {
        {"q8", 26e3, 60, 40}, {"top-k", 1.6e3, 150, 5}, {"f16", 50e3, 20, 20}};
    dls_codec_case at = {25000, 2.5e6, 300, 0}; /* 20 Mbit/s, 100 kB */
    dls_codec_choice c;
    CHECK_STATUS(dls_codec_choose(&at, option, 3, &c), DLS_OK);
    CHECK_INT(c.option, 1);
    CHECK_NEAR(c.dense_us, 40300, 1e-6);
    CHECK_NEAR(c.best_us, 150 + 300 + 640 + 5, 1e-6);
    CHECK_TEXT(c.why, "top-k: dense float32 takes 40.30 ms");
    at.bytes_per_s = 1.25e10; /* a link faster than the codecs */
    CHECK_STATUS(dls_codec_choose(&at, option, 3, &c), DLS_OK);
    CHECK_INT(c.option, -1);
    CHECK_TEXT(c.why, "dense:");
    at.bytes_per_s = 2.5e6; /* all of the wire is hidden behind backward */
    at.hidden_us = 50000;
    CHECK_STATUS(dls_codec_choose(&at, option, 3, &c), DLS_OK);
    CHECK_INT(c.option, -1);
    CHECK_NEAR(c.best_us, 0, 0);
    at.hidden_us = 0;
    at.bytes_per_s = 5e8; /* q8 wins by less than 5 %: noise */
    at.latency_us = 2000;
    CHECK_STATUS(dls_codec_choose(&at, option, 3, &c), DLS_OK);
    CHECK_INT(c.option, -1);
    CHECK_STATUS(dls_codec_choose(&at, NULL, 0, &c), DLS_OK);
    at.bytes_per_s = 0;
    CHECK_STATUS(dls_codec_choose(&at, option, 3, &c), DLS_E_ARG);
    at.bytes_per_s = NAN;
    CHECK_STATUS(dls_codec_choose(&at, option, 3, &c), DLS_E_ARG);
}

static void hostile_tests(void) {
    RUN(hostile);
    RUN(refused);
    RUN(numbers);
    RUN(descs);
    RUN(warmup);
    RUN(saved);
    RUN(merge);
    RUN(power);
    RUN(power_edges);
    RUN(clip);
    RUN(choose);
}
