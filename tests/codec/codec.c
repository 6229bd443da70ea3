/* Gradient codecs and robust aggregation: sums with what is owed, sizes, golden bytes, hostile
   messages, and each rule against a plain one. One program, also run on other CPUs. Arguments: a
   name for the lines it prints. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

static void *take(size_t bytes) {
    void *p = malloc(bytes + 1);
    if (p == NULL) exit(2);
    memset(p, 0, bytes + 1);
    return p;
}
static float *floats(size_t n) { return (float *)take(n * sizeof(float)); }
/* Heavy tails, as gradients have: a normal number times a power of two. */
static void draw(float *x, size_t n, uint64_t seed, double scale) {
    dls_rng rng = {seed, 0};
    for (size_t i = 0; i < n; i++) {
        const int power = (int)(dls_rng_u32(&rng) % 8u);
        x[i] = (float)(scale * (double)dls_rng_normal(&rng) / (double)(1 << power));
    }
}
static double length2(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* A codec with its memory of exactly the size asked for. */
typedef struct sender {
    dls_codec codec;
    void *mem;
    unsigned char *out;
    size_t max, bytes;
} sender;
static void open_sender(sender *s, const dls_codec_desc *d, size_t n) {
    const size_t size = dls_codec_size(d, n);
    CHECK(size > 0);
    s->mem = malloc(size);
    CHECK_STATUS(dls_codec_init(&s->codec, d, n, s->mem, size), DLS_OK);
    s->max = dls_codec_bytes_max(d, n);
    s->out = (unsigned char *)malloc(s->max + 1);
    s->out[s->max] = 0xA5;
    s->bytes = 0;
}
static void close_sender(sender *s) {
    CHECK_INT(s->out[s->max], 0xA5);
    free(s->mem);
    free(s->out);
}

/* ---- Numbers of 16 bits ---- */

static float slow_half(uint32_t h) { /* by its definition */
    const int e = (int)(h >> 10 & 31u);
    const double m = (double)(h & 1023u) / 1024.0;
    const double x = e == 0 ? ldexp(m, -14) : ldexp(1.0 + m, e - 15);
    return (float)((h & 0x8000u) != 0 ? -x : x);
}
static void test_halves(void) {
    for (uint32_t h = 0; h < 0x10000u; h++) {
        const float x = slow_half(h);
        if ((h & 0x7C00u) == 0x7C00u) continue;
        if (dlsi_float_bits(dlsi_half_float(h)) != dlsi_float_bits(x)) CHECK_INT(h, -1);
        if (dlsi_half(x) != h) CHECK_INT(dlsi_half(x), h);
        if ((h & 0x7FFFu) >= 0x7BFFu) continue;
        /* half-way goes to the even one, anything beyond to the nearer */
        const float next = slow_half(h + 1), middle = 0.5f * (x + next);
        const uint32_t even = (h & 1u) == 0 ? h : h + 1;
        if (dlsi_half(middle) != even) CHECK_INT(dlsi_half(middle), even);
        if (dlsi_half(nextafterf(middle, x)) != h) CHECK_INT(h, -2);
        if (dlsi_half(nextafterf(middle, next)) != h + 1) CHECK_INT(h, -3);
    }
    CHECK_INT(dlsi_half(1e30f), 0x7BFF);
    CHECK_INT(dlsi_half(-65519.9f), 0xFBFF);
    CHECK_INT(dlsi_half(1e-30f), 0);
    CHECK_INT(dlsi_half(65504.0f), 0x7BFF);
    CHECK_INT(dlsi_brain(1.0f), 0x3F80);
    CHECK_INT(dlsi_brain(1.00390625f), 0x3F80); /* a tie: to even */
    CHECK_INT(dlsi_brain(1.01171875f), 0x3F82);
    CHECK_INT(dlsi_brain(3.4e38f), 0x7F7F);
}

/* ---- Every kind, every length ---- */

static const dls_codec_desc kinds[] = {
    {DLS_CODEC_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_F16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_BF16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_Q8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_Q8, true, 0, 0, 0, 0, 0, 0, 0, 0, 7},
    {DLS_CODEC_Q4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_Q4, true, 0, 0, 0, 0, 0, 0, 0, 0, 7},
    {DLS_CODEC_SIGN, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_TOPK, 0, 0, 16, 0.05f, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_TOPK, 0, 0, 8, 0.05f, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_TOPK, 0, 0, 2, 0.05f, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_TOPK, 0, 0.95f, 2, 0.02f, 0, 0, 0, 0, 0, 0},
    {DLS_CODEC_TOPK, 0, 0, 8, 0.03f, 2, 0.9f, 0, 0, 0, 0},
    {DLS_CODEC_TOPK, 0, 0, 16, 1.0f, 0, 0, 0, 0, 0, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Header and body as the table of the format says, from its own arithmetic. */
static size_t expected_bytes(const dls_codec_desc *d, size_t n) {
    size_t at, bytes = 8;
    switch (d->kind) {
    case DLS_CODEC_F32: return bytes + 4 * n;
    case DLS_CODEC_F16:
    case DLS_CODEC_BF16: return bytes + 2 * n;
    case DLS_CODEC_SIGN:
        for (at = 0; at < n; at += 256) bytes += 2 + ((n - at < 256 ? n - at : 256) + 7) / 8;
        return bytes;
    default:
        for (at = 0; at < n; at += 64) {
            const size_t count = n - at < 64 ? n - at : 64;
            bytes += 2 + (d->kind == DLS_CODEC_Q8 ? count : (count + 1) / 2);
        }
        return bytes;
    }
}
static void test_lengths(void) {
    static const size_t lengths[] = {1,   2,   3,   7,   63,  64,   65,   127,  128,  129,
                                     255, 256, 257, 321, 400, 1000, 4096, 5000, 20001};
    for (int k = 0; k < KINDS; k++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            const size_t n = lengths[l];
            float *g = floats(n), *x = floats(n), *twice = floats(n);
            dls_codec_info info;
            sender s;
            open_sender(&s, &kinds[k], n);
            draw(g, n, n, 1.0);
            CHECK_STATUS(dls_codec_encode(&s.codec, 3, 1, g, s.out, s.max, &s.bytes), DLS_OK);
            CHECK(s.bytes <= s.max);
            if (kinds[k].kind != DLS_CODEC_TOPK) CHECK_INT(s.bytes, expected_bytes(&kinds[k], n));
            if (kinds[k].kind != DLS_CODEC_TOPK) CHECK_INT(s.bytes, s.max);
            CHECK_STATUS(dls_codec_check(s.out, s.bytes, &info), DLS_OK);
            CHECK_INT(info.kind, kinds[k].kind);
            CHECK_INT(info.n, n);
            if (kinds[k].kind == DLS_CODEC_TOPK && kinds[k].density == 1.0f)
                CHECK_INT(info.sent, n);
            CHECK_STATUS(dls_codec_decode(s.out, s.bytes, n, x, 1.0f, false), DLS_OK);
            if (kinds[k].kind == DLS_CODEC_F32) CHECK(memcmp(x, g, 4 * n) == 0);
            for (size_t i = 0; i < n; i++) twice[i] = 1.0f;
            CHECK_STATUS(dls_codec_decode(s.out, s.bytes, n, twice, 0.5f, true), DLS_OK);
            for (size_t i = 0; i < n; i++)
                if (twice[i] != 1.0f + 0.5f * x[i]) CHECK_NEAR(twice[i], 1.0f + 0.5f * x[i], 0);
            CHECK_STATUS(dls_codec_decode(s.out, s.bytes, n + 1, x, 1.0f, false), DLS_E_SHAPE);
            CHECK_STATUS(dls_codec_encode(&s.codec, 3, 1, g, s.out, 0, &s.bytes), DLS_E_MEMORY);
            close_sender(&s);
            free(g);
            free(x);
            free(twice);
        }
}
static double worst_error(dls_codec_kind kind, double scale) { /* relative to a block's greatest */
    enum { N = 6400 };
    static float g[N], x[N];
    dls_codec_desc d;
    double worst = 0;
    sender s;
    memset(&d, 0, sizeof d);
    d.kind = kind;
    draw(g, N, 5, scale);
    open_sender(&s, &d, N);
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
    CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
    for (size_t at = 0; at < N; at += 64) {
        double most = 0, error = 0;
        for (size_t i = at; i < at + 64; i++) {
            most = fmax(most, fabs((double)g[i]));
            error = fmax(error, fabs((double)g[i] - (double)x[i]));
        }
        worst = fmax(worst, error / most);
    }
    close_sender(&s);
    return worst;
}
/* The power of two in the header: what a plain half would lose is there, from 1e-30 to 1e30. */
static void test_range(void) {
    static const double scales[] = {1e-30, 1e-12, 1.0, 1e12, 1e30};
    for (int i = 0; i < 5; i++) {
        CHECK(worst_error(DLS_CODEC_F16, scales[i]) < 1.0 / 2047);
        CHECK(worst_error(DLS_CODEC_BF16, scales[i]) < 1.0 / 255);
        CHECK(worst_error(DLS_CODEC_Q8, scales[i]) < 0.5 / 126);
        CHECK(worst_error(DLS_CODEC_Q4, scales[i]) < 0.5 / 6.98);
    }
}

/* ---- What is owed ---- */

/* Over many steps: all that was sent and what is owed is all that came in. */
static void test_sums(void) {
    enum { N = 3333, STEPS = 40 };
    static float g[N], x[N];
    static double in[N], sent[N];
    for (int k = 3; k < KINDS; k++) {
        double error = 0, size = 0;
        sender s;
        if (kinds[k].no_feedback || kinds[k].decay != 0 || kinds[k].momentum != 0) continue;
        memset(in, 0, sizeof in);
        memset(sent, 0, sizeof sent);
        open_sender(&s, &kinds[k], N);
        for (int step = 0; step < STEPS; step++) {
            draw(g, N, (uint64_t)step, 1.0);
            CHECK_STATUS(dls_codec_encode(&s.codec, (uint64_t)step, 0, g, s.out, s.max, &s.bytes),
                         DLS_OK);
            CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
            for (int i = 0; i < N; i++) {
                in[i] += (double)g[i];
                sent[i] += (double)x[i];
            }
        }
        memset(x, 0, sizeof x);
        dls_codec_flush(&s.codec, x);
        for (int i = 0; i < N; i++) {
            const double off = sent[i] + (double)x[i] - in[i];
            error += off * off;
            size += in[i] * in[i];
        }
        if (!(sqrt(error / size) < 1e-6)) CHECK_NEAR(sqrt(error / size), 0, 1e-6);
        CHECK(s.codec.error[7] == 0.0f); /* told once only */
        close_sender(&s);
    }
}
/* Local steps: e = 0.95 e + delta - sent, in doubles. */
static void test_decay(void) {
    enum { N = 2000 };
    static float g[N], x[N];
    static double e[N];
    double error = 0, size = 0;
    sender s;
    open_sender(&s, &kinds[11], N);
    for (int step = 0; step < 30; step++) {
        draw(g, N, (uint64_t)step + 100, 1.0);
        CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
        CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
        for (int i = 0; i < N; i++) e[i] = (double)0.95f * e[i] + (double)g[i] - (double)x[i];
    }
    for (int i = 0; i < N; i++) {
        const double off = e[i] - (double)s.codec.error[i];
        error += off * off;
        size += e[i] * e[i];
    }
    CHECK_NEAR(sqrt(error / size), 0, 1e-6);
    close_sender(&s);
}
/* DGC written down as in the paper, selection by a sort. */
static int by_size(const void *a, const void *b) {
    const float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x < y) - (x > y);
}
static void test_momentum(void) {
    enum { N = 1500 };
    static float g[N], x[N], u[N], v[N], sorted[N];
    dls_codec_desc d;
    sender s;
    memset(&d, 0, sizeof d);
    d.kind = DLS_CODEC_TOPK;
    d.density = 0.04f;
    d.value_bits = 16;
    d.momentum = 0.9f;
    open_sender(&s, &d, N);
    for (int step = 0; step < 25; step++) {
        const size_t k = N * 4 / 100;
        dls_codec_info info;
        draw(g, N, (uint64_t)step + 50, 1.0);
        CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
        CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
        CHECK_STATUS(dls_codec_check(s.out, s.bytes, &info), DLS_OK);
        CHECK_INT(info.sent, k);
        for (int i = 0; i < N; i++) {
            u[i] = 0.9f * u[i] + g[i];
            v[i] = v[i] + u[i];
        }
        memcpy(sorted, v, sizeof v);
        qsort(sorted, N, sizeof *sorted, by_size);
        for (int i = 0; i < N; i++) {
            const bool chosen = fabsf(v[i]) >= fabsf(sorted[k - 1]);
            if (chosen)
                CHECK_NEAR(x[i], v[i], fabs((double)v[i]) / 2000 + 1e-6);
            else
                CHECK(x[i] == 0.0f);
            if (!chosen) continue;
            u[i] = 0.0f;
            v[i] -= x[i]; /* the residue of rounding stays */
        }
    }
    CHECK(memcmp(u, s.codec.velocity, sizeof u) == 0);
    CHECK(memcmp(v, s.codec.error, sizeof v) == 0);
    close_sender(&s);
}
/* What a message may lose, |x - C(x)|^2 at most: TOPK (1 - k/n) |x|^2; SIGN |x|^2 - |x|_1^2 /
   count in each block; Q half a step for each element. */
static double loss_limit(const dls_codec_desc *d, const float *g, size_t n, double share) {
    const size_t block = d->kind == DLS_CODEC_SIGN ? 256 : 64;
    double limit = 0;
    if (d->kind == DLS_CODEC_TOPK) return (1 - share + 2.4e-7) * length2(g, n);
    for (size_t at = 0; at < n; at += block) {
        const size_t count = n - at < block ? n - at : block;
        double sum = 0, most = 0;
        for (size_t i = at; i < at + count; i++) {
            sum += fabs((double)g[i]);
            most = fmax(most, fabs((double)g[i]));
        }
        most *= 0.5005 / (d->kind == DLS_CODEC_Q8 ? 127 : 7);
        limit += d->kind == DLS_CODEC_SIGN ? length2(g + at, count) - sum * sum / (double)count
                                           : most * most * (double)count;
    }
    return limit * (1 + 1e-5);
}
static void test_contraction(void) {
    enum { N = 4000 };
    static float g[N], x[N];
    for (int k = 3; k < KINDS; k++)
        for (uint64_t seed = 0; seed < 10; seed++) {
            dls_codec_info info;
            double off = 0, limit;
            sender s;
            if (kinds[k].no_feedback) continue;
            draw(g, N, seed + 900, 1.0);
            open_sender(&s, &kinds[k], N);
            CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
            CHECK_STATUS(dls_codec_check(s.out, s.bytes, &info), DLS_OK);
            CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
            for (int i = 0; i < N; i++) off += pow((double)g[i] - (double)x[i], 2);
            limit = loss_limit(&kinds[k], g, N, (double)info.sent / N);
            if (!(off <= limit)) printf("  kind %d: lost %g of %g\n", k, off, limit);
            CHECK(off <= limit && off < length2(g, N));
            close_sender(&s);
        }
}
static void test_stochastic(void) {
    enum { N = 64, DRAWS = 1000000 / N };
    for (int k = 0; k < 2; k++) {
        const dls_codec_desc *d = &kinds[k == 0 ? 4 : 6];
        const double steps = k == 0 ? 127 : 7;
        float g[N], x[N];
        double mean = 0, in = 0, variance = 0;
        uint64_t seen = 0;
        sender s;
        open_sender(&s, d, N);
        for (int i = 0; i < N; i++) g[i] = (float)i / 70.0f - 0.35f;
        g[0] = 1.0f; /* the scale */
        for (int i = 1; i < N; i++) {
            const double y = fabs((double)g[i]) * steps, part = y - floor(y);
            in += (double)g[i];
            variance += part * (1 - part) / (steps * steps);
        }
        for (int j = 0; j < DRAWS; j++) {
            CHECK_STATUS(dls_codec_encode(&s.codec, (uint64_t)j, 9, g, s.out, s.max, &s.bytes),
                         DLS_OK);
            CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
            for (int i = 1; i < N; i++) {
                mean += (double)x[i];
                if (fabs((double)(x[i] - g[i])) > 1.002 / steps) CHECK_NEAR(x[i], g[i], 0);
            }
            seen |= (uint64_t)1 << (int)(fabsf(x[40]) * (float)steps * 8) % 64;
        }
        /* the half scale is up to 2^-10 larger than 1 / steps: so is the variance, about */
        CHECK_NEAR(mean / DRAWS, in, 4 * sqrt(variance * 1.01 / DRAWS));
        CHECK((seen & (seen - 1)) != 0); /* it does go both ways */
        close_sender(&s);
    }
    CHECK(dls_codec_seed(1, 2, 3) != dls_codec_seed(1, 3, 2));
}

/* ---- Selection ---- */

static void test_select(void) {
    enum { N = 3000 };
    static float x[N], sorted[N];
    static uint32_t bin[1 << DLSI_BIN_BITS];
    for (uint64_t seed = 0; seed < 60; seed++) {
        const size_t n = 1 + dls_rand_at(seed, 1) % N, k = 1 + dls_rand_at(seed, 2) % n;
        size_t equal, above = 0, same = 0;
        float kth;
        draw(x, n, seed, seed % 3 == 0 ? 1e-38 : 1.0); /* denormals, too */
        if (seed % 4 == 1)                             /* many alike */
            for (size_t i = 0; i < n; i++) x[i] = (float)((int)(x[i] * 4.0f));
        memcpy(sorted, x, n * sizeof *x);
        qsort(sorted, n, sizeof *sorted, by_size);
        kth = dlsi_bits_float(dlsi_topk_select(x, n, k, bin, &equal));
        CHECK(kth == fabsf(sorted[k - 1]));
        for (size_t i = 0; i < n; i++) {
            above += fabsf(x[i]) > kth;
            same += fabsf(x[i]) == kth;
        }
        CHECK_INT(above + equal, k);
        CHECK(equal >= 1 && equal <= same);
    }
}
static void test_ties(void) {
    enum { N = 200 };
    static float g[N], x[N];
    dls_codec_desc d = kinds[8];
    sender s;
    int sent = 0;
    dls_codec_info info;
    d.density = 0.1f;
    for (int i = 0; i < N; i++) g[i] = i % 2 == 0 ? 1.0f : -1.0f;
    g[150] = 3.0f;
    open_sender(&s, &d, N);
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
    CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
    for (int i = 0; i < N; i++) sent += x[i] != 0.0f;
    CHECK_INT(sent, 20);
    for (int i = 0; i < 19; i++) CHECK(x[i] == g[i]); /* the lowest of the equals */
    CHECK(x[150] == 3.0f);
    memset(g, 0, sizeof g); /* zeros are not sent */
    dls_codec_flush(&s.codec, NULL);
    g[3] = 1e-40f;
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
    CHECK_STATUS(dls_codec_check(s.out, s.bytes, &info), DLS_OK);
    CHECK_INT(info.sent, 1);
    g[3] = 0.0f;
    dls_codec_flush(&s.codec, NULL);
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
    CHECK_STATUS(dls_codec_check(s.out, s.bytes, &info), DLS_OK);
    CHECK_INT(info.sent, 0);
    CHECK_INT(s.bytes, 13);
    CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 1.0f, false), DLS_OK);
    close_sender(&s);
}
/* Bits per element sent, beside the entropy of a random choice. */
static void test_ratio(void) {
    enum { N = 400000 };
    static const double density[] = {0.03, 0.01, 0.001}, ratio8[] = {70, 190, 1500};
    float *g = floats(N);
    dls_rng rng = {1, 0};
    for (int i = 0; i < N; i++) g[i] = dls_rng_normal(&rng);
    for (int j = 0; j < 3; j++) {
        const double p = density[j];
        const double entropy = (-p * log2(p) - (1 - p) * log2(1 - p)) / p;
        dls_codec_desc d = kinds[9];
        dls_codec_info info;
        double bits;
        sender s;
        d.density = (float)p;
        open_sender(&s, &d, N);
        CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
        CHECK_STATUS(dls_codec_check(s.out, s.bytes, &info), DLS_OK);
        bits = 8.0 * (double)(s.bytes - 13) / (double)info.sent - 8.25;
        printf("  density %.3f: gaps %.2f bits, entropy %.2f; ratio %.0f\n", p, bits, entropy,
               4.0 * N / (double)s.bytes);
        CHECK(bits < 1.02 * entropy);
        CHECK(4.0 * N / (double)s.bytes > ratio8[j]);
        close_sender(&s);
    }
    free(g);
}

/* ---- The same bytes on every CPU ---- */

static void test_golden(void) {
    static const uint64_t golden[KINDS] = {
        0x36bb938f7f406390u, 0xcda4c0b8931367cbu, 0x04f5cb1409913b57u, 0x186cdb02c5d045d0u,
        0x83d0f5937937da99u, 0x7dc5770464b6d040u, 0x0c2d860ae631f3a6u, 0x137633b22c7c5e14u,
        0xc92ad87c8cdd66a3u, 0xbc44b3057ee9a386u, 0x3295a95dcb18cb18u, 0xedc2ef74425aa89eu,
        0xc04a064ad5c0e926u, 0x6e6e62aa089c25e4u};
    enum { N = 3001 };
    static float g[N], x[N];
    for (int k = 0; k < KINDS; k++) {
        uint64_t hash = 1;
        sender s;
        open_sender(&s, &kinds[k], N);
        for (int step = 0; step < 4; step++) {
            dls_rng rng = {(uint64_t)step, 0};
            for (int i = 0; i < N; i++)
                g[i] = (dls_rng_uniform(&rng) - 0.5f) * (dls_rng_uniform(&rng) - 0.5f) *
                       dls_rng_uniform(&rng);
            CHECK_STATUS(dls_codec_encode(&s.codec, (uint64_t)step, 5, g, s.out, s.max, &s.bytes),
                         DLS_OK);
            hash = dls_hash64(hash, s.out, s.bytes & ~(size_t)7);
            hash ^= s.bytes;
            CHECK_STATUS(dls_codec_decode(s.out, s.bytes, N, x, 0.3f, false), DLS_OK);
            for (int i = 0; i < N; i++) {
                unsigned char word[8] = {0};
                dlsi_store32(word, dlsi_float_bits(x[i]));
                hash = dls_hash64(hash, word, 8);
            }
        }
        if (hash != golden[k]) CHECK_INT(k, -1);
        if (hash != golden[k]) printf("  kind %d: 0x%016llxu\n", k, (unsigned long long)hash);
        close_sender(&s);
    }
}
/* A message small enough to write down by hand, from the text of the format. */
static void test_bytes(void) {
    static const float g[5] = {1.0f, -0.5f, 0.0f, 0.25f, 0.0f};
    static const unsigned char q8[] = {3, 8, 6, 0xF2, 5, 0, 0, 0};
    static const unsigned char topk[] = {6,    16,   0,    0xF2, 5, 0,    0, 0,
                                         2,    0,    0,    0,    0, 0x03, /* two gaps of 0: 1 1 */
                                         0x00, 0x74, 0x00, 0xF0};         /* 2^14, -2^13 */
    dls_codec_desc d = kinds[3];
    sender s;
    float x[5];
    open_sender(&s, &d, 5);
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
    CHECK_INT(s.bytes, 15);
    CHECK(memcmp(s.out, q8, sizeof q8) == 0);
    CHECK_INT(dlsi_load16(s.out + 8), 0x5809); /* 2^14 / 127 = 129.007, up to 129.125 */
    CHECK(memcmp(s.out + 10, "\x7f\xc1\x00\x20\x00", 5) == 0);
    close_sender(&s);
    d = kinds[8];
    d.density = 0.4f;
    open_sender(&s, &d, 5);
    CHECK_STATUS(dls_codec_encode(&s.codec, 0, 0, g, s.out, s.max, &s.bytes), DLS_OK);
    CHECK_INT(s.bytes, sizeof topk);
    CHECK(memcmp(s.out, topk, sizeof topk) == 0);
    CHECK_STATUS(dls_codec_decode(topk, sizeof topk, 5, x, 2.0f, false), DLS_OK);
    CHECK(x[0] == 2.0f && x[1] == -1.0f && x[2] == 0.0f && x[3] == 0.0f);
    close_sender(&s);
}

#include "codec/hostile.c"
#include "codec/robust.c"

int main(int argc, char **argv) {
    test_start(argc > 1 ? argv[1] : "codec", argc > 1 ? argc - 1 : argc, argv + (argc > 1));
    RUN(halves);
    RUN(lengths);
    RUN(range);
    RUN(sums);
    RUN(decay);
    RUN(momentum);
    RUN(contraction);
    RUN(stochastic);
    RUN(select);
    RUN(ties);
    RUN(ratio);
    RUN(golden);
    RUN(bytes);
    hostile_tests();
    robust_tests();
    return test_end();
}
