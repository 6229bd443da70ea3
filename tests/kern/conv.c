/* kern: correlation and its gradients, depthwise, Winograd, pools, at odd geometries. */

/* A random geometry: kernels up to 5 x 5, strides, dilations, padding, pixels farther apart than
   their channels (as in grouped convolution), outputs likewise. False: the kernel does not fit. */
static bool corr_geometry(dlsi_corr *g, int i, bool per_channel) {
    const int32_t pb = draw(0, 2), pr = draw(0, 2);
    memset(g, 0, sizeof *g);
    g->h = draw(1, 11);
    g->w = draw(1, i % 4 == 0 ? 40 : 14);
    g->c = draw(1, i % 3 == 0 ? 20 : 7);
    g->kh = draw(1, 5);
    g->kw = draw(1, 5);
    g->sh = draw(1, 3);
    g->sw = draw(1, 3);
    g->dh = draw(1, 2);
    g->dw = draw(1, 2);
    g->pt = draw(0, 2);
    g->pl = draw(0, 2);
    g->oc = per_channel ? g->c : draw(1, i % 3 == 1 ? 40 : 9);
    if (i % 5 == 0) g->kh = g->kw = g->sh = g->sw = g->dh = g->dw = 1;
    if (g->h + g->pt + pb < g->dh * (g->kh - 1) + 1) return false;
    if (g->w + g->pl + pr < g->dw * (g->kw - 1) + 1) return false;
    g->oh = (g->h + g->pt + pb - g->dh * (g->kh - 1) - 1) / g->sh + 1;
    g->ow = (g->w + g->pl + pr - g->dw * (g->kw - 1) - 1) / g->sw + 1;
    g->x_pix = g->c + draw(0, 1) * draw(0, 3);
    g->y_pix = g->oc + draw(0, 1) * draw(0, 3);
    g->x_row = g->w * g->x_pix;
    g->y_row = g->ow * g->y_pix;
    (void)dlsi_act_clamp((dls_act)draw(0, 2), &g->lo, &g->hi);
    return true;
}
static size_t x_reals(const dlsi_corr *g) {
    return (size_t)(g->h * g->w - 1) * (size_t)g->x_pix + (size_t)g->c;
}
static size_t y_reals(const dlsi_corr *g) {
    return (size_t)(g->oh * g->ow - 1) * (size_t)g->y_pix + (size_t)g->oc;
}
/* Calls visit for every product: tap (r, s) of output pixel `to` meets the pixel at `from`. */
typedef void (*tap_fn)(const dlsi_corr *g, ptrdiff_t to, ptrdiff_t from, int32_t tap);
static void each_tap(const dlsi_corr *g, tap_fn visit) {
    for (int32_t y = 0; y < g->oh; y++) {
        for (int32_t x = 0; x < g->ow; x++) {
            for (int32_t tap = 0; tap < g->kh * g->kw; tap++) {
                const int32_t yy = y * g->sh + tap / g->kw * g->dh - g->pt;
                const int32_t xx = x * g->sw + tap % g->kw * g->dw - g->pl;
                if (yy < 0 || xx < 0 || yy >= g->h || xx >= g->w) continue;
                visit(g, y * g->y_row + x * g->y_pix, yy * g->x_row + xx * g->x_pix, tap);
            }
        }
    }
}
static const dls_real *tap_dy; /* what the gradient visitors read */
static double *tap_sum;
static void visit_corr(const dlsi_corr *g, ptrdiff_t to, ptrdiff_t from, int32_t tap) {
    for (int32_t c = 0; c < g->c; c++)
        for (int32_t o = 0; o < g->oc; o++)
            tap_sum[to + o] +=
                (double)g->x[from + c] * (double)g->b[((ptrdiff_t)tap * g->c + c) * g->oc + o];
}
static void visit_corr_dw(const dlsi_corr *g, ptrdiff_t to, ptrdiff_t from, int32_t tap) {
    for (int32_t c = 0; c < g->c; c++)
        for (int32_t o = 0; o < g->oc; o++)
            tap_sum[((ptrdiff_t)tap * g->c + c) * g->oc + o] +=
                (double)g->x[from + c] * (double)tap_dy[to + o];
}
static void visit_depthwise(const dlsi_corr *g, ptrdiff_t to, ptrdiff_t from, int32_t tap) {
    for (int32_t c = 0; c < g->c; c++)
        tap_sum[to + c] += (double)g->x[from + c] * (double)g->b[(ptrdiff_t)tap * g->c + c];
}
static void visit_depthwise_dw(const dlsi_corr *g, ptrdiff_t to, ptrdiff_t from, int32_t tap) {
    for (int32_t c = 0; c < g->c; c++)
        tap_sum[(ptrdiff_t)tap * g->c + c] += (double)g->x[from + c] * (double)tap_dy[to + c];
}
/* Bias, residual and clamp on sums laid out as y, then packed: pixels without gaps. */
static void finish(const dlsi_corr *g, double *sum) {
    for (int32_t p = 0; p < g->oh * g->ow; p++) {
        for (int32_t o = 0; o < g->oc; o++) {
            const ptrdiff_t at = p * g->y_pix + o;
            double v = sum[at];
            if (g->bias != NULL) v += (double)g->bias[o];
            if (g->res != NULL) v += (double)g->res[at];
            v = v < (double)g->lo ? (double)g->lo : v;
            sum[(ptrdiff_t)p * g->oc + o] = v > (double)g->hi ? (double)g->hi : v;
        }
    }
}
/* y in a slot, preset; afterwards its pixels go to kern_out, and the gaps must be untouched. */
static dls_real *y_slot(const dlsi_corr *g) {
    dls_real *y = slot(6, y_reals(g));
    for (size_t e = 0; e < y_reals(g); e++) y[e] = 77;
    return y;
}
static void y_take(const dlsi_corr *g, const dls_real *y) {
    size_t wrong = 0;
    for (size_t e = 0; e < y_reals(g); e++) {
        const size_t p = e / (size_t)g->y_pix, o = e % (size_t)g->y_pix;
        if (o < (size_t)g->oc)
            kern_out[p * (size_t)g->oc + o] = y[e];
        else
            wrong += y[e] != 77;
    }
    CHECK_INT(wrong, 0);
}

static void corr_case(const char *name, int i) {
    dlsi_corr g;
    size_t weights;
    const dls_real *w;
    (void)name;
    while (!corr_geometry(&g, i, false)) {}
    weights = (size_t)(g.kh * g.kw * g.c * g.oc);
    g.x = given(0, x_reals(&g), 1);
    g.b = w = given(1, weights, 1);
    if (draw(0, 1)) g.bias = given(2, (size_t)g.oc, 1);
    if (draw(0, 1)) g.res = given(3, y_reals(&g), 1);
    memset(tap_sum = kern_ref[0], 0, y_reals(&g) * sizeof *tap_sum);
    each_tap(&g, visit_corr);
    finish(&g, kern_ref[0]);
    EACH_VARIANT(v) {
        const int32_t nr = v->k->nr, k = g.kh * g.kw * g.c, panels = (g.oc + nr - 1) / nr;
        const int32_t row = g.oh / 2, panel = panels / 2; /* in four parts */
        g.b = w;
        g.b_k = g.oc;
        g.b_panel = nr;
        if (v->k->vw > 1) {
            dls_real *packed = slot(5, (size_t)(panels * nr * k));
            v->k->pack(w, g.oc, 1, k, g.oc, packed, (ptrdiff_t)k * nr);
            g.b = packed;
            g.b_k = nr;
            g.b_panel = (ptrdiff_t)k * nr;
        }
        g.y = y_slot(&g);
        v->k->corr(&g, 0, row, 0, panel);
        v->k->corr(&g, 0, row, panel, panels);
        v->k->corr(&g, row, g.oh, panel, panels);
        v->k->corr(&g, row, g.oh, 0, panel);
        y_take(&g, g.y);
        judge(v, kern_out, kern_ref[0], (size_t)(g.oh * g.ow * g.oc), 1e-5);
    }
}
static void corr_dw_case(const char *name, int i) {
    const bool per_channel = strcmp(name, "depthwise_dw") == 0;
    dlsi_corr g;
    size_t weights;
    (void)name;
    while (!corr_geometry(&g, i, per_channel)) {}
    weights = (size_t)(g.kh * g.kw * g.c * (per_channel ? 1 : g.oc));
    g.x = given(0, x_reals(&g), 1);
    g.y = given(1, y_reals(&g), 1);
    tap_dy = g.y;
    g.b_k = g.oc;
    memset(tap_sum = kern_ref[0], 0, weights * sizeof *tap_sum);
    each_tap(&g, per_channel ? visit_depthwise_dw : visit_corr_dw);
    EACH_VARIANT(v) {
        dls_real *dw = slot(6, weights);
        const int32_t row = g.oh / 3;
        if (per_channel) {
            for (size_t e = 0; e < weights; e++) dw[e] = 0;
            v->k->depthwise_dw(&g, 0, row, dw);
            v->k->depthwise_dw(&g, row, g.oh, dw);
        } else {
            for (size_t e = 0; e < weights; e++) dw[e] = 77;
            v->k->corr_dw(&g, 0, row, dw, false);
            v->k->corr_dw(&g, row, g.oh, dw, true);
        }
        judge(v, dw, kern_ref[0], weights, 2e-5);
    }
}
static void depthwise_case(const char *name, int i) {
    dlsi_corr g;
    (void)name;
    while (!corr_geometry(&g, i, true)) {}
    g.x = given(0, x_reals(&g), 1);
    g.b = given(1, (size_t)(g.kh * g.kw * g.c), 1);
    g.b_k = g.c;
    if (draw(0, 1)) g.bias = given(2, (size_t)g.oc, 1);
    if (draw(0, 1)) g.res = given(3, y_reals(&g), 1);
    memset(tap_sum = kern_ref[0], 0, y_reals(&g) * sizeof *tap_sum);
    each_tap(&g, visit_depthwise);
    finish(&g, kern_ref[0]);
    EACH_VARIANT(v) {
        g.y = y_slot(&g);
        v->k->depthwise(&g, 0, g.oh / 2);
        v->k->depthwise(&g, g.oh / 2, g.oh);
        y_take(&g, g.y);
        judge(v, kern_out, kern_ref[0], (size_t)(g.oh * g.ow * g.oc), 1e-5);
    }
}

/* ---- Winograd: filter, gather, 36 products, scatter; only the fast variants use it ---- */

/* `flip` asks for the filters of the input's gradient: taps reversed, channels exchanged. */
static void wino_reference(const dlsi_wino *q, const dls_real *w, bool flip, double *ref) {
    for (int32_t p = 0; p < q->n * q->oh * q->ow; p++) {
        const int32_t image = p / (q->oh * q->ow), y = p / q->ow % q->oh, x = p % q->ow;
        for (int32_t o = 0; o < q->oc; o++) {
            double s = q->bias != NULL ? (double)q->bias[o] : 0;
            if (q->res != NULL) s += (double)q->res[p * q->oc + o];
            for (int32_t tap = 0; tap < 9; tap++) {
                const int32_t yy = y + tap / 3 - q->pt, xx = x + tap % 3 - q->pl;
                if (yy < 0 || xx < 0 || yy >= q->h || xx >= q->w) continue;
                for (int32_t c = 0; c < q->c; c++)
                    s += (double)q->x[((image * q->h + yy) * q->w + xx) * q->c + c] *
                         (double)(flip ? w[((8 - tap) * q->oc + o) * q->c + c]
                                       : w[(tap * q->c + c) * q->oc + o]);
            }
            s = s < (double)q->lo ? (double)q->lo : s;
            ref[p * q->oc + o] = s > (double)q->hi ? (double)q->hi : s;
        }
    }
}
static void wino_geometry(dlsi_wino *q) {
    memset(q, 0, sizeof *q);
    q->n = draw(1, 2);
    q->h = draw(1, 11);
    q->w = draw(1, 11);
    q->c = draw(1, 20);
    q->oc = draw(1, 40);
    q->pt = draw(q->h < 3 ? 1 : 0, 1);
    q->pl = draw(q->w < 3 ? 1 : 0, 1);
    q->oh = q->h + 2 * q->pt - 2 < 1 ? 1 : q->h + 2 * q->pt - 2;
    q->ow = q->w + 2 * q->pl - 2 < 1 ? 1 : q->w + 2 * q->pl - 2;
    q->th = (q->oh + 3) / 4;
    q->tw = (q->ow + 3) / 4;
    (void)dlsi_act_clamp((dls_act)draw(0, 2), &q->lo, &q->hi);
}
/* Tiles [t0, t1): m[point] = v[point] u[point]. */
static void wino_products(const kern_variant *v, const dlsi_wino *q, int32_t tiles,
                          const dls_real *in, const dls_real *u, dls_real *m) {
    const size_t u_point = (size_t)((q->oc + v->k->nr - 1) / v->k->nr * v->k->nr * q->c);
    for (size_t p = 0; p < DLSI_WINO_POINTS; p++) {
        dlsi_gemm e;
        memset(&e, 0, sizeof e);
        e.a = in + p * (size_t)(tiles * q->c);
        e.a_row = q->c;
        e.a_k = 1;
        e.b = u + p * u_point;
        e.b_packed = true;
        e.c = m + p * (size_t)(tiles * q->oc);
        e.ldc = e.n = q->oc;
        e.m = tiles;
        e.k = q->c;
        (void)dlsi_act_clamp(DLS_ACT_NONE, &e.lo, &e.hi);
        v->k->gemm(&e, slot(8, dlsi_gemm_thread_reals(&v->cx, &e)));
    }
}
static void wino_case(const char *name, int i) {
    const bool flip = i % 2 != 0;
    dlsi_wino q;
    const dls_real *w;
    int32_t tiles;
    (void)name;
    wino_geometry(&q);
    tiles = q.n * q.th * q.tw;
    q.x = given(0, (size_t)(q.n * q.h * q.w * q.c), 1);
    w = given(1, (size_t)(9 * q.c * q.oc), 1);
    if (draw(0, 1)) q.bias = given(2, (size_t)q.oc, 1);
    if (draw(0, 1)) q.res = given(3, (size_t)(q.n * q.oh * q.ow * q.oc), 1);
    wino_reference(&q, w, flip, kern_ref[0]);
    EACH_VARIANT(v) {
        const int32_t nr = v->k->nr;
        const size_t u_reals = (size_t)(36 * ((q.oc + nr - 1) / nr * nr) * q.c);
        dls_real *u;
        if (!v->k->fast_conv) continue;
        u = slot(5, u_reals);
        v->k->wino_filter(w, (ptrdiff_t)q.c * q.oc, flip ? 1 : q.oc, flip ? q.c : 1, flip, q.c,
                          q.oc, u);
        q.y = slot(6, (size_t)(q.n * q.oh * q.ow * q.oc));
        for (int32_t t0 = 0, t1; t0 < tiles; t0 = t1) { /* in two parts */
            dls_real *in, *m;
            t1 = t0 == 0 ? (tiles + 1) / 2 : tiles;
            in = slot(4, (size_t)(36 * (t1 - t0) * q.c));
            m = slot(7, (size_t)(36 * (t1 - t0) * q.oc));
            v->k->wino_gather(&q, t0, t1, in);
            wino_products(v, &q, t1 - t0, in, u, m);
            v->k->wino_scatter(&q, t0, t1, m);
        }
        judge(v, q.y, kern_ref[0], (size_t)(q.n * q.oh * q.ow * q.oc), 1e-4);
    }
}
static void wino_grad_reference(const dlsi_wino *q, const dls_real *add, double *ref) {
    for (int32_t e = 0; e < 9 * q->c * q->oc; e++) {
        const int32_t tap = e / (q->c * q->oc), c = e / q->oc % q->c, o = e % q->oc;
        double s = add != NULL ? (double)add[e] : 0;
        for (int32_t p = 0; p < q->n * q->oh * q->ow; p++) {
            const int32_t image = p / (q->oh * q->ow), yy = p / q->ow % q->oh + tap / 3 - q->pt;
            const int32_t xx = p % q->ow + tap % 3 - q->pl;
            if (yy < 0 || xx < 0 || yy >= q->h || xx >= q->w) continue;
            s += (double)q->x[((image * q->h + yy) * q->w + xx) * q->c + c] *
                 (double)q->y[p * q->oc + o];
        }
        ref[e] = s;
    }
}
static void wino_grad_case(const char *name, int i) {
    const dls_real *before = NULL;
    dlsi_wino q;
    int32_t tiles;
    size_t weights;
    (void)name;
    wino_geometry(&q);
    tiles = q.n * q.th * q.tw;
    weights = (size_t)(9 * q.c * q.oc);
    q.x = given(0, (size_t)(q.n * q.h * q.w * q.c), 1);
    q.y = given(1, (size_t)(q.n * q.oh * q.ow * q.oc), 1);
    if (i % 2 != 0) before = given(2, weights, 1);
    wino_grad_reference(&q, before, kern_ref[0]);
    EACH_VARIANT(v) {
        dls_real *in, *dy, *u, *dw;
        if (!v->k->fast_conv) continue;
        in = slot(4, (size_t)(36 * tiles * q.c));
        dy = slot(5, (size_t)(36 * tiles * q.oc));
        u = slot(7, (size_t)(36 * q.c * q.oc));
        v->k->wino_gather(&q, 0, tiles, in);
        v->k->wino_gather_dy(&q, 0, tiles, dy);
        for (ptrdiff_t p = 0; p < DLSI_WINO_POINTS; p++) {
            dlsi_gemm e;
            memset(&e, 0, sizeof e);
            e.a = in + p * tiles * q.c;
            e.a_row = 1;
            e.a_k = q.c;
            e.b = dy + p * tiles * q.oc;
            e.b_k = q.oc;
            e.b_col = 1;
            e.c = u + p * q.c * q.oc;
            e.ldc = e.n = q.oc;
            e.m = q.c;
            e.k = tiles;
            (void)dlsi_act_clamp(DLS_ACT_NONE, &e.lo, &e.hi);
            v->k->gemm(&e, slot(8, dlsi_gemm_thread_reals(&v->cx, &e)));
        }
        dw = slot(6, weights);
        if (before != NULL) memcpy(dw, before, weights * sizeof *dw);
        v->k->wino_filter_grad(u, q.c, q.oc, dw, before != NULL);
        judge(v, dw, kern_ref[0], weights, 2e-4);
    }
}

/* ---- Pools ---- */

/* Geometry of a pool: padding smaller than the window; quantised values, so that windows tie. */
static void pool_geometry(dlsi_corr *g, int i) {
    dls_real *x;
    memset(g, 0, sizeof *g);
    g->c = g->oc = draw(1, i % 3 == 0 ? 40 : 9);
    g->kh = draw(1, 4);
    g->kw = draw(1, 4);
    g->sh = draw(1, 3);
    g->sw = draw(1, 3);
    g->dh = g->dw = 1;
    g->pt = draw(0, g->kh - 1);
    g->pl = draw(0, g->kw - 1);
    g->h = draw(g->kh, 11);
    g->w = draw(g->kw, 15);
    g->oh = (g->h + 2 * g->pt - g->kh) / g->sh + 1;
    g->ow = (g->w + 2 * g->pl - g->kw) / g->sw + 1;
    g->x_pix = g->y_pix = g->c;
    g->x_row = g->w * g->x_pix;
    g->y_row = g->ow * g->y_pix;
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g->lo, &g->hi);
    g->x = x = given(0, x_reals(g), 4);
    for (size_t e = 0; e < x_reals(g); e++) x[e] = (dls_real)(int)x[e];
}
/* Window of output (y, x): taps inside the image, row-major, into from[]; returns their count. */
static int pool_window(const dlsi_corr *g, int32_t y, int32_t x, ptrdiff_t *from) {
    int n = 0;
    for (int32_t tap = 0; tap < g->kh * g->kw; tap++) {
        const int32_t yy = y * g->sh + tap / g->kw - g->pt, xx = x * g->sw + tap % g->kw - g->pl;
        if (yy >= 0 && xx >= 0 && yy < g->h && xx < g->w) from[n++] = yy * g->x_row + xx * g->x_pix;
    }
    return n;
}
/* how 0: greatest, 1: mean of those inside, 2: mean of the whole window. Adds to dx. */
static void pool_reference(const dlsi_corr *g, int how, const dls_real *dy, double *yr,
                           double *dx) {
    ptrdiff_t from[32];
    for (int32_t p = 0; p < g->oh * g->ow; p++) {
        const int n = pool_window(g, p / g->ow, p % g->ow, from);
        for (int32_t c = 0; c < g->c; c++) {
            const double d = (double)dy[p * g->y_pix + c];
            const double divisor = how == 2 ? g->kh * g->kw : n > 0 ? n : 1;
            double v = how == 0 ? (double)g->lo : 0;
            int most = 0;
            for (int t = 0; t < n; t++) {
                const double e = (double)g->x[from[t] + c];
                if (how == 0 && e > v) v = e, most = t;
                if (how != 0) v += e / divisor, dx[from[t] + c] += d / divisor;
            }
            if (how == 0 && n > 0) dx[from[most] + c] += d;
            yr[(ptrdiff_t)p * g->oc + c] = v;
        }
    }
}
static void pool_case(const char *name, int i) {
    const int how = strcmp(name, "maxpool") == 0 ? 0 : 1 + i % 2;
    const dls_real *dy;
    dlsi_corr g;
    size_t n;
    pool_geometry(&g, i);
    n = x_reals(&g);
    dy = given(1, y_reals(&g), 1);
    memset(kern_ref[1], 0, n * sizeof(double));
    pool_reference(&g, how, dy, kern_ref[0], kern_ref[1]);
    EACH_VARIANT(v) {
        const int32_t row = g.oh / 2;
        dls_real *dx = slot(7, n);
        g.y = y_slot(&g);
        for (size_t e = 0; e < n; e++) dx[e] = 0;
        if (how == 0) {
            v->k->maxpool(&g, 0, row);
            v->k->maxpool(&g, row, g.oh);
            v->k->maxpool_grad(&g, g.y, dy, dx);
        } else {
            v->k->avgpool(&g, 0, row, how == 2);
            v->k->avgpool(&g, row, g.oh, how == 2);
            v->k->avgpool_grad(&g, dy, dx, how == 2);
        }
        y_take(&g, g.y);
        judge(v, kern_out, kern_ref[0], (size_t)(g.oh * g.ow * g.oc), 1e-5);
        judge(v, dx, kern_ref[1], n, 1e-5);
    }
}

static void test_kern_corr(void) { kern_cases("corr", 200, corr_case); }
static void test_kern_corr_dw(void) { kern_cases("corr_dw", 150, corr_dw_case); }
static void test_kern_depthwise(void) { kern_cases("depthwise", 150, depthwise_case); }
static void test_kern_depthwise_dw(void) { kern_cases("depthwise_dw", 150, corr_dw_case); }
static void test_kern_wino(void) { kern_cases("wino", 60, wino_case); }
static void test_kern_wino_grad(void) { kern_cases("wino_grad", 40, wino_grad_case); }
static void test_kern_maxpool(void) { kern_cases("maxpool", 120, pool_case); }
static void test_kern_avgpool(void) { kern_cases("avgpool", 120, pool_case); }
static void conv_tests(void) {
    bool wino = false;
    EACH_VARIANT(v) wino |= v->k->fast_conv;
    RUN(kern_corr);
    RUN(kern_corr_dw);
    RUN(kern_depthwise);
    RUN(kern_depthwise_dw);
    if (wino) RUN(kern_wino);
    if (wino) RUN(kern_wino_grad);
    RUN(kern_maxpool);
    RUN(kern_avgpool);
}
