/* kern: elementwise kernels, columns, rows, optimisers, exact reduction. */

/* Lengths around the vector widths and the 16 lanes. */
static size_t some_length(int i) { return (size_t)(i % 4 == 0 ? draw(1, 300) : draw(1, 40)); }
static dls_real *copied(int to, const dls_real *x, size_t n) {
    dls_real *y = slot(to, n);
    memcpy(y, x, n * sizeof *x);
    return y;
}

/* ---- Activations ---- */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double act_value(dls_act act, double slope, double x) {
    const double six = x + 3 < 0 ? 0 : x + 3 > 6 ? 6 : x + 3, k = sqrt(2 / acos(-1.0));
    switch (act) {
    case DLS_ACT_RELU: return x > 0 ? x : 0;
    case DLS_ACT_RELU6: return x > 6 ? 6 : x > 0 ? x : 0;
    case DLS_ACT_LEAKY: return x > 0 ? x : slope * x;
    case DLS_ACT_SIGMOID: return sigmoid(x);
    case DLS_ACT_TANH: return tanh(x);
    case DLS_ACT_SILU: return x * sigmoid(x);
    case DLS_ACT_GELU: return x / 2 * (1 + erf(x / sqrt(2.0)));
    case DLS_ACT_GELU_TANH: return x / 2 * (1 + tanh(k * (x + 0.044715 * x * x * x)));
    case DLS_ACT_HSWISH: return x * six / 6;
    case DLS_ACT_HSIGMOID: return six / 6;
    case DLS_ACT_NONE:
    case DLS_ACT_COUNT: break;
    }
    return x;
}
/* By central difference, except where a kink or a wide argument makes that inexact. */
static double act_slope(dls_act act, double slope, double x) {
    const double e = 1e-4;
    switch (act) {
    case DLS_ACT_RELU: return x > 0;
    case DLS_ACT_RELU6: return x > 0 && x < 6;
    case DLS_ACT_LEAKY: return x > 0 ? 1 : slope;
    case DLS_ACT_HSWISH: return x < -3 ? 0 : x > 3 ? 1 : (2 * x + 3) / 6;
    case DLS_ACT_HSIGMOID: return x > -3 && x < 3 ? 1.0 / 6 : 0;
    default: break;
    }
    return (act_value(act, slope, x + e) - act_value(act, slope, x - e)) / (2 * e);
}
static void act_case(const char *name, int i) {
    const size_t n = some_length(i);
    const float slope = 0.125f;
    const dls_real *x = given(0, n, i % 3 == 2 ? 100 : 8), *dy = given(1, n, 2);
    const dls_real *before = given(2, n, 1);
    (void)name;
    for (int act = 0; act < DLS_ACT_COUNT; act++) {
        for (size_t e = 0; e < n; e++) {
            kern_ref[0][e] = act_value((dls_act)act, (double)slope, (double)x[e]);
            kern_ref[1][e] = (double)dy[e] * act_slope((dls_act)act, (double)slope, (double)x[e]);
            kern_ref[2][e] = kern_ref[1][e] + (double)before[e];
        }
        kern_stashed[0] = kern_stashed[1] = 0;
        EACH_VARIANT(v) {
            dls_real *y = slot(3, n), *same = copied(4, x, n), *dx = slot(5, n);
            const dls_real *ref = dlsi_act_from_y((dls_act)act) ? y : x;
            v->k->act((dls_act)act, slope, x, y, n);
            judge(v, y, kern_ref[0], n, 1e-6);
            v->k->act((dls_act)act, slope, same, same, n);
            judge(v, same, kern_ref[0], n, 1e-6);
            v->k->act_grad((dls_act)act, slope, ref, dy, dx, n, false);
            judge(v, dx, kern_ref[1], n, 2e-6);
            memcpy(dx, before, n * sizeof *dx);
            v->k->act_grad((dls_act)act, slope, ref, dy, dx, n, true);
            judge(v, dx, kern_ref[2], n, 2e-6);
        }
        case_end(i);
    }
    kern_stashed[0] = kern_stashed[1] = 0; /* hashed already */
}
/* A NaN in gives a NaN out: training must see it. */
static void test_kern_act_nan(void) {
    case_start("act_nan", 0);
    EACH_VARIANT(v) {
        for (int act = 0; act < DLS_ACT_COUNT; act++) {
            dls_real *x = slot(0, 19), *y = slot(1, 19);
            for (int e = 0; e < 19; e++) x[e] = e % 7 == 3 ? (dls_real)NAN : 1;
            v->k->act((dls_act)act, 0.1f, x, y, 19);
            for (int e = 0; e < 19; e++) {
                test_checks++;
                if ((y[e] != y[e]) != (e % 7 == 3))
                    test_report("act_nan", 0, "%s: %s of %s is %g", v->name,
                                dls_act_name((dls_act)act), e % 7 == 3 ? "NaN" : "1", (double)y[e]);
            }
            slots_check(v);
        }
    }
}

/* ---- Two operands ---- */

static void binary_case(const char *name, int i) {
    const size_t n = some_length(i);
    const dls_real *a = given(0, n, 2), *b = given(1, n, 2), *c = given(2, n, 2);
    const dls_real p = (dls_real)0.375, q = (dls_real)-1.25;
    dls_real lo, hi;
    (void)name;
    (void)dlsi_act_clamp((dls_act)(i % 3), &lo, &hi);
    for (size_t e = 0; e < n; e++) {
        const double sum = (double)a[e] + (double)b[e];
        kern_ref[0][e] = sum < (double)lo ? (double)lo : sum > (double)hi ? (double)hi : sum;
        kern_ref[1][e] = (double)a[e] * (double)b[e];
        kern_ref[2][e] = kern_ref[1][e] + (double)c[e];
    }
    EACH_VARIANT(v) {
        dls_real *y = slot(3, n);
        v->k->add(a, b, y, n, lo, hi);
        judge(v, y, kern_ref[0], n, 1e-6);
        v->k->mul(a, b, y, n, false);
        judge(v, y, kern_ref[1], n, 1e-6);
        y = copied(3, c, n);
        v->k->mul(a, b, y, n, true);
        judge(v, y, kern_ref[2], n, 1e-6);
    }
    for (int way = 0; way < 3; way++) {
        const dls_real by = way == 0 ? 0 : way == 1 ? 1 : q;
        for (size_t e = 0; e < n; e++)
            kern_ref[3][e] = (double)p * (double)a[e] + (double)by * (double)c[e];
        case_end(i);
        kern_stashed[0] = kern_stashed[1] = 0;
        EACH_VARIANT(v) {
            dls_real *y = copied(3, c, n);
            for (size_t e = 0; way == 0 && e < n; e++) y[e] = (dls_real)NAN; /* not to be read */
            v->k->axpby(p, a, by, y, n);
            judge(v, y, kern_ref[3], n, 1e-6);
        }
    }
}
static void dropout_case(const char *name, int i) {
    const size_t n = some_length(i);
    const uint64_t seed = 0x123456789ABCDEFull + (uint64_t)i;
    const uint32_t at = i % 2 != 0 ? 0xFFFFFFF0u : (uint32_t)i, threshold = 0x60000000u;
    const dls_real *x = given(0, n, 2), *before = given(1, n, 2), scale = (dls_real)1.6;
    (void)name;
    for (size_t e = 0; e < n; e++) {
        const bool keep = dls_rand_at(seed, at + (uint32_t)e) >= threshold;
        kern_ref[0][e] = keep ? (double)x[e] * (double)scale : 0;
        kern_ref[1][e] = kern_ref[0][e] + (double)before[e];
    }
    EACH_VARIANT(v) {
        dls_real *y = slot(2, n);
        v->k->dropout(x, y, n, seed, at, threshold, scale, false);
        judge(v, y, kern_ref[0], n, 1e-6);
        y = copied(2, before, n);
        v->k->dropout(x, y, n, seed, at, threshold, scale, true);
        judge(v, y, kern_ref[1], n, 1e-6);
    }
}

/* ---- Columns ---- */

static void columns_case(const char *name, int i) {
    const size_t rows = (size_t)draw(1, 40);
    const int32_t c = draw(1, i % 3 == 0 ? 70 : 20);
    const size_t n = rows * (size_t)c;
    const dls_real *x = given(0, n, 2), *shift = given(1, (size_t)c, 1);
    const dls_real *scale = given(2, (size_t)c, 1), *before = given(3, (size_t)c, 1);
    dls_real lo, hi;
    (void)name;
    (void)dlsi_act_clamp((dls_act)(i % 3), &lo, &hi);
    memset(kern_ref[0], 0, (size_t)c * sizeof(double));
    memset(kern_ref[1], 0, 2 * (size_t)c * sizeof(double));
    for (size_t e = 0; e < n; e++) {
        const size_t col = e % (size_t)c;
        const double d = (double)x[e] - (double)shift[col];
        const double y = (double)x[e] * (double)scale[col] + (double)shift[col];
        kern_ref[0][col] += (double)x[e];
        kern_ref[1][col] += d;
        kern_ref[1][(size_t)c + col] += d * d;
        kern_ref[3][e] = y < (double)lo ? (double)lo : y > (double)hi ? (double)hi : y;
    }
    for (size_t e = 0; e < (size_t)c; e++) kern_ref[2][e] = kern_ref[0][e] + (double)before[e];
    EACH_VARIANT(v) {
        dls_real *sum = slot(4, (size_t)c), *squares = slot(5, (size_t)c), *y = slot(6, n);
        v->k->col_sum(x, rows, c, sum, false);
        judge(v, sum, kern_ref[0], (size_t)c, 1e-5);
        v->k->col_stats(x, rows, c, shift, sum, squares);
        judge(v, sum, kern_ref[1], (size_t)c, 1e-5);
        judge(v, squares, kern_ref[1] + c, (size_t)c, 1e-5);
        sum = copied(4, before, (size_t)c);
        v->k->col_sum(x, rows, c, sum, true);
        judge(v, sum, kern_ref[2], (size_t)c, 1e-5);
        v->k->col_affine(x, rows, c, scale, shift, y, lo, hi);
        judge(v, y, kern_ref[3], n, 1e-6);
    }
}
static void col_grad_case(const char *name, int i) {
    const size_t rows = (size_t)draw(1, 30);
    const int32_t c = draw(1, i % 3 == 0 ? 70 : 20);
    const size_t n = rows * (size_t)c;
    const dls_real *x = given(0, n, 2), *dy = given(1, n, 2), *before = given(2, n, 1);
    const dls_real *mean = given(3, (size_t)c, 1), *scale = given(4, (size_t)c, 2);
    const dls_real *shift = given(5, (size_t)c, 2), *a = given(6, (size_t)c, 1);
    const dls_real *b = given(7, (size_t)c, 1), *d = given(8, (size_t)c, 1);
    dls_real lo, hi;
    (void)name;
    (void)dlsi_act_clamp((dls_act)(i % 3), &lo, &hi);
    memset(kern_ref[0], 0, 2 * (size_t)c * sizeof(double));
    for (size_t e = 0; e < n; e++) {
        const size_t col = e % (size_t)c;
        const double y = (double)x[e] * (double)scale[col] + (double)shift[col];
        const double g = y > (double)lo && y < (double)hi ? (double)dy[e] : 0;
        kern_ref[0][col] += g;
        kern_ref[0][(size_t)c + col] += g * ((double)x[e] - (double)mean[col]);
        kern_ref[1][e] = g * (double)a[col] + (double)x[e] * (double)b[col] + (double)d[col];
        kern_ref[2][e] = kern_ref[1][e] + (double)before[e];
    }
    EACH_VARIANT(v) {
        dls_real *sum = slot(9, (size_t)c), *product = slot(10, (size_t)c), *dx = slot(11, n);
        v->k->col_grad_stats(x, dy, rows, c, mean, scale, shift, lo, hi, sum, product);
        judge(v, sum, kern_ref[0], (size_t)c, 1e-5);
        judge(v, product, kern_ref[0] + c, (size_t)c, 1e-5);
        v->k->col_grad(x, dy, rows, c, a, b, d, scale, shift, lo, hi, dx, false);
        judge(v, dx, kern_ref[1], n, 1e-6);
        dx = copied(11, before, n);
        v->k->col_grad(x, dy, rows, c, a, b, d, scale, shift, lo, hi, dx, true);
        judge(v, dx, kern_ref[2], n, 1e-6);
    }
}

/* ---- Rows ---- */

static void reduce_case(const char *name, int i) {
    const size_t n = some_length(i);
    const dls_real *a = given(0, n, 3), *b = given(1, n, 3);
    double ref[3] = {0, 0, (double)a[0]};
    (void)name;
    for (size_t e = 0; e < n; e++) {
        ref[0] += (double)a[e];
        ref[1] += (double)a[e] * (double)b[e];
        if ((double)a[e] > ref[2]) ref[2] = (double)a[e];
    }
    EACH_VARIANT(v) {
        dls_real out[3];
        out[0] = v->k->sum(a, n);
        out[1] = v->k->dot(a, b, n);
        out[2] = v->k->row_max(a, n);
        CHECK(out[2] == (dls_real)ref[2]);
        judge(v, out, ref, 3, 2e-5);
    }
}
static void softmax_case(const char *name, int i) {
    const size_t rows = (size_t)draw(1, 5), c = some_length(i), n = rows * c;
    const double scale = i % 2 != 0 ? 0.25 : 1, size = i % 5 == 4 ? 90 : 5;
    const dls_real *x = given(0, n, size), *dy = given(1, n, 2), *before = given(2, n, 1);
    (void)name;
    for (size_t r = 0; r < rows; r++) {
        double most = (double)x[r * c] * scale, sum = 0, dot = 0;
        for (size_t e = r * c; e < (r + 1) * c; e++)
            most = (double)x[e] * scale > most ? (double)x[e] * scale : most;
        for (size_t e = r * c; e < (r + 1) * c; e++) sum += exp((double)x[e] * scale - most);
        kern_ref[1][r] = most + log(sum);
        for (size_t e = r * c; e < (r + 1) * c; e++) {
            kern_ref[0][e] = exp((double)x[e] * scale - most) / sum;
            dot += kern_ref[0][e] * (double)dy[e];
        }
        for (size_t e = r * c; e < (r + 1) * c; e++) {
            kern_ref[2][e] = kern_ref[0][e] * ((double)dy[e] - dot);
            kern_ref[3][e] = kern_ref[2][e] + (double)before[e];
        }
    }
    EACH_VARIANT(v) {
        dls_real *y = copied(3, x, n), *log_sum = slot(4, rows), *dx = slot(5, n);
        v->k->softmax(y, y, rows, (int32_t)c, (dls_real)scale, log_sum);
        judge(v, y, kern_ref[0], n, 1e-5);
        judge(v, log_sum, kern_ref[1], rows, 1e-6);
        v->k->softmax(x, dx, rows, (int32_t)c, (dls_real)scale, NULL);
        CHECK(memcmp(dx, y, n * sizeof *y) == 0);
        v->k->softmax_grad(y, dy, dx, rows, (int32_t)c, false);
        judge(v, dx, kern_ref[2], n, 1e-5);
        memcpy(dx, before, n * sizeof *dx);
        v->k->softmax_grad(y, dy, dx, rows, (int32_t)c, true);
        judge(v, dx, kern_ref[3], n, 1e-5);
    }
}
static void score_case(const char *name, int i) {
    const size_t n = some_length(i);
    const dls_real *s = given(0, n, 4), *ds = given(1, n, 2);
    const double scale = 0.5, log_sum = 2.5, dot = 0.125;
    (void)name;
    for (size_t e = 0; e < n; e++) {
        kern_ref[0][e] = exp((double)s[e] * scale - log_sum);
        kern_ref[1][e] = kern_ref[0][e] * ((double)ds[e] - dot) * scale;
    }
    EACH_VARIANT(v) {
        dls_real *p = copied(2, s, n), *dp = copied(3, ds, n);
        v->k->score_grad(p, dp, n, (dls_real)scale, (dls_real)log_sum, (dls_real)dot);
        judge(v, p, kern_ref[0], n, 1e-6);
        judge(v, dp, kern_ref[1], n, 1e-6);
    }
}
typedef struct norm_inputs {
    const dls_real *x, *dy, *gain, *bias, *before;
    size_t rows, c;
    bool centred;
} norm_inputs;
/* ref 0: y; 1: dx; 2: mean, istd and dgain of the columns; 3: dx added to before. */
static void norm_reference(const norm_inputs *p) {
    const size_t c = p->c;
    double *stats = kern_ref[2], *dgain = kern_ref[2] + 2 * p->rows;
    memset(dgain, 0, c * sizeof *dgain);
    for (size_t r = 0; r < p->rows; r++) {
        const dls_real *x = p->x + r * c, *dy = p->dy + r * c;
        double mean = 0, square = 0, istd, g_sum = 0, gx_sum = 0;
        for (size_t e = 0; e < c; e++) mean += (double)x[e] / (double)c;
        if (!p->centred) mean = 0;
        for (size_t e = 0; e < c; e++)
            square += ((double)x[e] - mean) * ((double)x[e] - mean) / (double)c;
        istd = 1 / sqrt(square + 1e-5);
        stats[r] = mean;
        stats[p->rows + r] = istd;
        for (size_t e = 0; e < c; e++) {
            const double hat = ((double)x[e] - mean) * istd,
                         gain = p->gain ? (double)p->gain[e] : 1;
            kern_ref[0][r * c + e] = hat * gain + (p->bias ? (double)p->bias[e] : 0);
            g_sum += gain * (double)dy[e] / (double)c;
            gx_sum += gain * (double)dy[e] * hat / (double)c;
            dgain[e] += (double)dy[e] * hat;
        }
        for (size_t e = 0; e < c; e++) {
            const double hat = ((double)x[e] - mean) * istd,
                         gain = p->gain ? (double)p->gain[e] : 1;
            const double d = gain * (double)dy[e] - (p->centred ? g_sum : 0) - hat * gx_sum;
            kern_ref[1][r * c + e] = istd * d;
            kern_ref[3][r * c + e] = istd * d + (double)p->before[r * c + e];
        }
    }
}
static void norm_case(const char *name, int i) {
    norm_inputs p;
    size_t n;
    (void)name;
    memset(&p, 0, sizeof p);
    p.rows = (size_t)draw(1, 6);
    p.c = some_length(i) + 1;
    n = p.rows * p.c;
    p.centred = i % 2 == 0;
    p.x = given(0, n, 2);
    p.dy = given(1, n, 2);
    p.before = given(2, n, 1);
    if (i % 3 != 2) p.gain = given(3, p.c, 2);
    if (i % 3 == 0) p.bias = given(4, p.c, 2);
    norm_reference(&p);
    EACH_VARIANT(v) {
        dls_real *y = slot(5, n), *mean = p.centred ? slot(6, p.rows) : NULL;
        dls_real *istd = slot(7, p.rows), *dx = slot(8, n), *dgain = slot(9, p.c);
        const int32_t c = (int32_t)p.c;
        v->k->norm(p.x, y, p.rows, c, p.gain, p.bias, (dls_real)1e-5, mean, istd);
        judge(v, y, kern_ref[0], n, 2e-5);
        if (mean != NULL) judge(v, mean, kern_ref[2], p.rows, 1e-6);
        judge(v, istd, kern_ref[2] + p.rows, p.rows, 2e-5);
        v->k->norm_grad(p.x, p.dy, dx, p.rows, c, p.gain, mean, istd, false);
        judge(v, dx, kern_ref[1], n, 1e-4);
        memcpy(dx, p.before, n * sizeof *dx);
        v->k->norm_grad(p.x, p.dy, dx, p.rows, c, p.gain, mean, istd, true);
        judge(v, dx, kern_ref[3], n, 1e-4);
        v->k->norm_grad_gain(p.x, p.dy, p.rows, c, mean, istd, dgain);
        judge(v, dgain, kern_ref[2] + 2 * p.rows, p.c, 2e-5);
    }
}

/* ---- Optimisers: one update against its formula ---- */

typedef struct optim_case_of {
    size_t n;
    const dls_real *w, *g, *m, *v;
    dlsi_adam p;
    double scale, momentum;
    bool has_m, nesterov;
} optim_case_of;
static void optim_case_start(optim_case_of *o, int i) {
    memset(o, 0, sizeof *o);
    o->n = some_length(i);
    o->w = given(0, o->n, 2);
    o->g = given(1, o->n, 2);
    o->m = given(2, o->n, 1);
    o->v = given(3, o->n, 1);
    for (size_t e = 0; e < o->n; e++) ((dls_real *)o->v)[e] += (dls_real)1.0625; /* a square */
    o->p.lr = 0.01f;
    o->p.beta1 = 0.9f;
    o->p.beta2 = 0.99f;
    o->p.eps = 1e-6f;
    o->p.decay = i % 3 == 0 ? 0.0f : 0.05f;
    o->p.correct1 = 1.5f;
    o->p.correct2 = 1.25f;
    o->p.decoupled = i % 2 != 0;
    o->scale = 0.5;
    o->momentum = 0.75;
    o->has_m = i % 4 != 0;
    o->nesterov = i % 4 == 3;
}
static void sgd_case(const char *name, int i) {
    optim_case_of o;
    (void)name;
    optim_case_start(&o, i);
    for (size_t e = 0; e < o.n; e++) {
        double d = (double)o.g[e] * o.scale + (double)o.p.decay * (double)o.w[e];
        if (o.has_m) {
            kern_ref[1][e] = o.momentum * (double)o.m[e] + d;
            d = o.nesterov ? d + o.momentum * kern_ref[1][e] : kern_ref[1][e];
        }
        kern_ref[0][e] = (double)o.w[e] - (double)o.p.lr * d;
    }
    EACH_VARIANT(v) {
        dls_real *w = copied(4, o.w, o.n), *m = o.has_m ? copied(5, o.m, o.n) : NULL;
        v->k->sgd(w, o.g, m, o.n, o.p.lr, (float)o.momentum, o.p.decay, o.nesterov,
                  (dls_real)o.scale);
        judge(v, w, kern_ref[0], o.n, 1e-6);
        if (m != NULL) judge(v, m, kern_ref[1], o.n, 1e-6);
    }
}
static void adam_case(const char *name, int i) {
    optim_case_of o;
    (void)name;
    optim_case_start(&o, i);
    for (size_t e = 0; e < o.n; e++) {
        const double b1 = (double)o.p.beta1, b2 = (double)o.p.beta2, w = (double)o.w[e];
        const double lr = (double)o.p.lr, decay = (double)o.p.decay;
        const double d = (double)o.g[e] * o.scale + (o.p.decoupled ? 0 : decay * w);
        const double m = b1 * (double)o.m[e] + (1 - b1) * d;
        const double u = b2 * (double)o.v[e] + (1 - b2) * d * d;
        kern_ref[1][e] = m;
        kern_ref[2][e] = u;
        kern_ref[0][e] =
            w * (o.p.decoupled ? 1 - lr * decay : 1) -
            lr * (double)o.p.correct1 * m / (sqrt(u) * (double)o.p.correct2 + (double)o.p.eps);
    }
    EACH_VARIANT(v) {
        dls_real *w = copied(4, o.w, o.n), *m = copied(5, o.m, o.n), *u = copied(6, o.v, o.n);
        v->k->adam(w, o.g, m, u, o.n, &o.p, (dls_real)o.scale);
        judge(v, w, kern_ref[0], o.n, 1e-6);
        judge(v, m, kern_ref[1], o.n, 1e-6);
        judge(v, u, kern_ref[2], o.n, 1e-6);
    }
}
static void rmsprop_case(const char *name, int i) {
    optim_case_of o;
    (void)name;
    optim_case_start(&o, i);
    for (size_t e = 0; e < o.n; e++) {
        const double b2 = (double)o.p.beta2, w = (double)o.w[e];
        double d = (double)o.g[e] * o.scale + (double)o.p.decay * w;
        const double u = b2 * (double)o.v[e] + (1 - b2) * d * d;
        d /= sqrt(u) + (double)o.p.eps;
        if (o.has_m) d += o.momentum * (double)o.m[e];
        kern_ref[1][e] = d;
        kern_ref[2][e] = u;
        kern_ref[0][e] = w - (double)o.p.lr * d;
    }
    EACH_VARIANT(v) {
        dls_real *w = copied(4, o.w, o.n), *u = copied(6, o.v, o.n);
        dls_real *m = o.has_m ? copied(5, o.m, o.n) : NULL;
        v->k->rmsprop(w, o.g, u, m, o.n, &o.p, (float)o.momentum, (dls_real)o.scale);
        judge(v, w, kern_ref[0], o.n, 1e-6);
        if (m != NULL) judge(v, m, kern_ref[1], o.n, 1e-6);
        judge(v, u, kern_ref[2], o.n, 1e-6);
    }
}
static void lion_case(const char *name, int i) {
    optim_case_of o;
    (void)name;
    optim_case_start(&o, i);
    ((dls_real *)o.g)[0] = ((dls_real *)o.m)[0] = 0; /* no direction: no step */
    for (size_t e = 0; e < o.n; e++) {
        const double b1 = (double)o.p.beta1, b2 = (double)o.p.beta2, lr = (double)o.p.lr;
        const double d = (double)o.g[e] * o.scale, u = b1 * (double)o.m[e] + (1 - b1) * d;
        kern_ref[0][e] = (double)o.w[e] * (1 - lr * (double)o.p.decay) - lr * (u > 0   ? 1
                                                                               : u < 0 ? -1
                                                                                       : 0);
        kern_ref[1][e] = b2 * (double)o.m[e] + (1 - b2) * d;
    }
    EACH_VARIANT(v) {
        dls_real *w = copied(4, o.w, o.n), *m = copied(5, o.m, o.n);
        v->k->lion(w, o.g, m, o.n, &o.p, (dls_real)o.scale);
        judge(v, w, kern_ref[0], o.n, 1e-6);
        judge(v, m, kern_ref[1], o.n, 1e-6);
    }
}

/* ---- Exact reduction ---- */

static void exact_case(const char *name, int i) {
    const size_t n = some_length(i);
    dls_real *x = given(0, n, 1000);
    const dls_real scale = i % 2 != 0 ? (dls_real)0.5 : (dls_real)2;
    double most = 0;
    (void)name;
    for (size_t e = 0; e < n; e++) {
        if (e % 3 == 0) x[e] = (dls_real)(int)x[e]; /* halves after scaling: ties */
        if (e % 7 == 6) x[e] *= (dls_real)4e6;      /* beyond 2^30: cut */
        most = fabs((double)x[e]) > most ? fabs((double)x[e]) : most;
    }
    EACH_VARIANT(v) {
        int32_t *sum = (int32_t *)(void *)slot(1, n);
        dls_real *back = slot(2, n), found;
        size_t wrong = 0;
        v->k->exact_add(sum, x, n, scale, true);
        for (size_t e = 0; e < n; e++) {
            double want = rint((double)(x[e] * scale));
            want = want > 1073741824.0 ? 1073741824.0 : want < -1073741824.0 ? -1073741824.0 : want;
            wrong += (double)sum[e] != want;
        }
        CHECK_INT(wrong, 0);
        judge_bits(v, sum, n);
        v->k->exact_add(sum, x, n, scale / 4, false);
        judge_bits(v, sum, n);
        v->k->exact_get(sum, back, n, (dls_real)0.25);
        for (size_t e = 0; e < n; e++) wrong += back[e] != (dls_real)sum[e] * (dls_real)0.25;
        CHECK_INT(wrong, 0);
        judge_bits(v, back, n);
        found = v->k->max_abs(x, n);
        CHECK(found == (dls_real)most);
        judge_bits(v, &found, 1);
    }
}
/* NaN and infinity anywhere count as infinity; nothing as zero. */
static void test_kern_max_abs_bad(void) {
    case_start("max_abs_bad", 1);
    EACH_VARIANT(v) {
        for (size_t n = 1; n < 40; n += 3) {
            dls_real *x = given(0, n, 2);
            for (size_t e = 0; e < n; e++) {
                const dls_real keep = x[e];
                x[e] = (dls_real)NAN;
                CHECK(isinf(v->k->max_abs(x, n)));
                x[e] = -(dls_real)INFINITY;
                CHECK(isinf(v->k->max_abs(x, n)));
                x[e] = keep;
                CHECK(isfinite(v->k->max_abs(x, n)));
            }
        }
        CHECK(v->k->max_abs(NULL, 0) == 0);
    }
}

static void test_kern_act(void) { kern_cases("act", 48, act_case); }
static void test_kern_binary(void) { kern_cases("binary", 48, binary_case); }
static void test_kern_dropout(void) { kern_cases("dropout", 24, dropout_case); }
static void test_kern_columns(void) { kern_cases("columns", 60, columns_case); }
static void test_kern_col_grad(void) { kern_cases("col_grad", 60, col_grad_case); }
static void test_kern_reduce(void) { kern_cases("reduce", 60, reduce_case); }
static void test_kern_softmax(void) { kern_cases("softmax", 60, softmax_case); }
static void test_kern_score_grad(void) { kern_cases("score_grad", 24, score_case); }
static void test_kern_norm(void) { kern_cases("norm", 72, norm_case); }
static void test_kern_sgd(void) { kern_cases("sgd", 48, sgd_case); }
static void test_kern_adam(void) { kern_cases("adam", 48, adam_case); }
static void test_kern_rmsprop(void) { kern_cases("rmsprop", 48, rmsprop_case); }
static void test_kern_lion(void) { kern_cases("lion", 48, lion_case); }
static void test_kern_exact(void) { kern_cases("exact", 48, exact_case); }
static void element_tests(void) {
    RUN(kern_act);
    RUN(kern_act_nan);
    RUN(kern_binary);
    RUN(kern_dropout);
    RUN(kern_columns);
    RUN(kern_col_grad);
    RUN(kern_reduce);
    RUN(kern_softmax);
    RUN(kern_score_grad);
    RUN(kern_norm);
    RUN(kern_sgd);
    RUN(kern_adam);
    RUN(kern_rmsprop);
    RUN(kern_lion);
    RUN(kern_exact);
    RUN(kern_max_abs_bad);
}
