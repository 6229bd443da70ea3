/* kern: packing and the matrix product, every way the operands may lie. */

static void pack_case(const char *name, int i) {
    const bool across = draw(0, 1) != 0; /* columns of B contiguous, else its rows */
    const int32_t k = draw(1, 37), n = i % 3 == 0 ? 32 * draw(1, 3) : draw(1, 90);
    const int32_t ld = (across ? n : k) + draw(0, 5);
    const ptrdiff_t b_k = across ? ld : 1, b_col = across ? 1 : ld;
    const dls_real *b =
        given(0, (size_t)ld * (size_t)(across ? k - 1 : n - 1) + (size_t)(across ? n : k), 2);
    (void)name;
    EACH_VARIANT(v) {
        const int32_t nr = v->k->nr, panels = (n + nr - 1) / nr;
        const ptrdiff_t panel = (ptrdiff_t)k * nr + 3; /* three reals between panels stay */
        const size_t size = (size_t)panel * (size_t)panels - 3;
        dls_real *to = slot(1, size);
        size_t wrong = 0;
        for (size_t e = 0; e < size; e++) to[e] = 77;
        v->k->pack(b, b_k, b_col, k, n, to, panel);
        for (size_t e = 0; e < size; e++) {
            const int32_t j = (int32_t)(e / (size_t)panel) * nr + (int32_t)(e % (size_t)panel) % nr;
            const int32_t p = (int32_t)(e % (size_t)panel) / nr;
            const dls_real want = p >= k ? 77 : j < n ? b[p * b_k + j * b_col] : 0;
            wrong += to[e] != want;
        }
        CHECK_INT(wrong, 0);
        slots_check(v);
    }
}

typedef struct gemm_case_sizes {
    int32_t m, n, k, lda_least;
    bool trans_a;
} gemm_case_sizes;
/* Each size takes another road through the kernel. */
static gemm_case_sizes gemm_sizes(int i) {
    gemm_case_sizes s = {0, 0, 0, 0, false};
    s.trans_a = draw(0, 1) != 0;
    s.m = draw(1, 33);
    s.n = draw(1, 70);
    s.k = draw(1, 50);
    switch (i % 10) {
    case 1: s.m = 1, s.n = draw(60, 140); break; /* a vector times a matrix */
    case 2: s.n = 1, s.k = draw(60, 140); break;
    case 3: s.k = draw(257, 530), s.m = draw(1, 9), s.n = draw(1, 20); break; /* blocks of k */
    case 4: s.trans_a = true, s.m = draw(225, 250), s.n = draw(33, 50), s.k = draw(1, 9); break;
    case 5: s.trans_a = false, s.lda_least = 1024, s.m = draw(1, 20), s.n = draw(33, 50); break;
    case 6: s.n = draw(513, 540), s.m = draw(1, 5), s.k = draw(1, 20); break; /* blocks of n */
    case 7: s.m = draw(1, 6), s.n = 16 * draw(1, 3); break;                   /* B where it lies */
    case 8: s.m = draw(1, 150), s.n = draw(100, 400), s.k = draw(100, 400); break;
    case 9: /* blocks of rows that do not end at a tile: more tiles than elsewhere */
        s.m = 64 * draw(0, 3) + draw(61, 63), s.n = draw(1, 20), s.k = draw(1, 20);
        break;
    default: break;
    }
    return s;
}
enum { GEMM_PLAIN, GEMM_CONT, GEMM_RES, GEMM_RES_IS_C };

static void gemm_reference(const dlsi_gemm *g, const dls_real *c0, int how, double *ref) {
    for (int32_t i = 0; i < g->m; i++) {
        for (int32_t j = 0; j < g->n; j++) {
            double s = 0;
            for (int32_t p = 0; p < g->k; p++)
                s += (double)g->a[i * g->a_row + p * g->a_k] *
                     (double)g->b[p * g->b_k + j * g->b_col];
            if (how == GEMM_CONT || how == GEMM_RES_IS_C) s += (double)c0[i * g->ldc + j];
            if (how == GEMM_RES) s += (double)g->res[i * g->ldc + j];
            if (g->bias != NULL) s += (double)g->bias[j];
            s = s < (double)g->lo ? (double)g->lo : s;
            ref[i * g->n + j] = s > (double)g->hi ? (double)g->hi : s;
        }
    }
}
static size_t extent(int32_t rows, int32_t cols, ptrdiff_t ld) {
    return (size_t)(rows - 1) * (size_t)ld + (size_t)cols;
}
/* Runs a variant; C comes back packed; what lies between its rows must not change. */
static void gemm_run(const kern_variant *v, const dlsi_gemm *case_g, const dls_real *c0, int how,
                     bool packed, dls_real *out) {
    dlsi_gemm g = *case_g;
    const size_t size = extent(g.m, g.n, g.ldc);
    const int32_t nr = v->k->nr;
    size_t wrong = 0;
    g.c = slot(4, size);
    memcpy(g.c, c0, size * sizeof *c0);
    if (packed) {
        dls_real *panels = slot(5, (size_t)((g.n + nr - 1) / nr * nr) * (size_t)g.k);
        v->k->pack(g.b, g.b_k, g.b_col, g.k, g.n, panels, (ptrdiff_t)g.k * nr);
        g.b = panels;
        g.b_packed = true;
        g.b_k = g.b_col = 0;
    }
    g.cont = how == GEMM_CONT;
    if (how == GEMM_RES_IS_C) g.res = g.c;
    v->k->gemm(&g, slot(6, dlsi_gemm_thread_reals(&v->cx, &g)));
    for (size_t e = 0; e < size; e++) {
        const size_t i = e / (size_t)g.ldc, j = e % (size_t)g.ldc;
        if (j < (size_t)g.n)
            out[i * (size_t)g.n + j] = g.c[e];
        else
            wrong += memcmp(&g.c[e], &c0[e], sizeof *c0) != 0;
    }
    CHECK_INT(wrong, 0);
}
static dls_real kern_out[200000];

static void gemm_case(const char *name, int i) {
    const gemm_case_sizes s = gemm_sizes(i);
    const bool trans_b = draw(0, 1) != 0 && i % 10 != 7, packed = draw(0, 2) == 0;
    const ptrdiff_t lda =
        s.lda_least != 0 ? s.lda_least : (s.trans_a ? s.m : s.k) + draw(0, 1) * draw(0, 7);
    const ptrdiff_t ldb = (trans_b ? s.k : s.n) + draw(0, 1) * draw(0, 7);
    const int how = draw(0, 3);
    const dls_real *c0;
    dlsi_gemm g;
    (void)name;
    memset(&g, 0, sizeof g);
    g.m = s.m;
    g.n = s.n;
    g.k = s.k;
    g.a_row = s.trans_a ? 1 : lda;
    g.a_k = s.trans_a ? lda : 1;
    g.b_k = trans_b ? 1 : ldb;
    g.b_col = trans_b ? ldb : 1;
    g.ldc = g.n + draw(0, 1) * draw(0, 5);
    g.a = given(0, s.trans_a ? extent(s.k, s.m, lda) : extent(s.m, s.k, lda), 1);
    g.b = given(1, trans_b ? extent(s.n, s.k, ldb) : extent(s.k, s.n, ldb), 1);
    if (draw(0, 1)) g.bias = given(2, (size_t)g.n, 1);
    if (how == GEMM_RES) g.res = given(3, extent(g.m, g.n, g.ldc), 1);
    (void)dlsi_act_clamp((dls_act)draw(0, 2), &g.lo, &g.hi);
    c0 = given(7, extent(g.m, g.n, g.ldc), 1);
    gemm_reference(&g, c0, how, kern_ref[0]);
    EACH_VARIANT(v) {
        gemm_run(v, &g, c0, how, packed, kern_out);
        judge(v, kern_out, kern_ref[0], (size_t)g.m * (size_t)g.n, 1e-5);
    }
}

/* The public call: transposes, adding, one to three threads, all the same bits. */
static void gemm_public_case(const char *name, int i) {
    dls_gemm_desc d;
    dlsi_gemm g;
    const dls_real *c0;
    (void)name;
    memset(&d, 0, sizeof d);
    d.trans_a = (i & 2) != 0;
    d.trans_b = (i & 4) != 0;
    d.add = draw(0, 1) != 0;
    d.act = (dls_act)draw(0, 2);
    d.m = draw(1, 60);
    d.n = draw(1, i % 3 == 0 ? 200 : 30);
    d.k = draw(1, 40);
    d.a = given(0, (size_t)d.m * (size_t)d.k, 1);
    d.b = given(1, (size_t)d.k * (size_t)d.n, 1);
    if (!d.add) d.bias = given(2, (size_t)d.n, 1);
    c0 = given(3, (size_t)d.m * (size_t)d.n, 1);
    dlsi_gemm_from_desc(&d, &g);
    gemm_reference(&g, c0, d.add ? GEMM_CONT : GEMM_PLAIN, kern_ref[0]);
    EACH_VARIANT(v) {
        for (int32_t threads = 1; threads <= 3; threads++) {
            const dls_pool_desc pool = {threads, 0};
            dls_cx cx = v->cx;
            cx.pool = threads > 1 ? dls_pool_create(&pool) : NULL;
            d.c = slot(4, (size_t)d.m * (size_t)d.n);
            memcpy(d.c, c0, (size_t)d.m * (size_t)d.n * sizeof *c0);
            CHECK_STATUS(dls_gemm(&cx, &d, slot(5, dls_gemm_work(&cx, &d) / sizeof(dls_real))),
                         DLS_OK);
            variant_start(v);
            judge(v, d.c, kern_ref[0], (size_t)d.m * (size_t)d.n, 1e-5);
            dls_pool_destroy(cx.pool);
        }
    }
}

static void test_kern_pack(void) { kern_cases("pack", 60, pack_case); }
static void test_kern_gemm(void) { kern_cases("gemm", 180, gemm_case); }
static void test_kern_gemm_public(void) { kern_cases("gemm_public", 48, gemm_public_case); }
static void matrix_tests(void) {
    RUN(kern_pack);
    RUN(kern_gemm);
    RUN(kern_gemm_public);
}
