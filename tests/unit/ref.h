/* ref.h - what a network should compute: a plain interpreter of the graph in double, one loop nest
   per op, written from the formulas of >>net.api and nothing else of the header but its tables of
   nodes. The unit tests compare executors with it, and its differences with their gradients. */
#ifndef REF_H
#define REF_H

#define REF_NODES 128

typedef struct ref_run {
    const dls_net *net;
    int32_t n;              /* samples */
    bool train;             /* batchnorm by the batch's own statistics */
    const double *params;   /* laid out as dls_net_params() */
    double *val[REF_NODES]; /* n samples of each node; inputs are written by the caller */
} ref_run;

static size_t ref_count(dls_shape s) { return (size_t)s.h * (size_t)s.w * (size_t)s.c; }
static size_t ref_at(dls_shape s, int32_t n, int32_t i, int32_t j, int32_t k) {
    return (((size_t)n * (size_t)s.h + (size_t)i) * (size_t)s.w + (size_t)j) * (size_t)s.c +
           (size_t)k;
}
static int32_t ref_lo(int32_t pair) { return pair & 0xFFFF; }
static int32_t ref_hi(int32_t pair) { return pair >> 16 & 0xFFFF; }
static double ref_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
static double ref_act(double x, int32_t act, double slope) {
    switch (act) {
    case DLS_ACT_RELU: return x > 0 ? x : 0;
    case DLS_ACT_RELU6: return x > 6 ? 6 : x > 0 ? x : 0;
    case DLS_ACT_LEAKY: return x > 0 ? x : slope * x;
    case DLS_ACT_SIGMOID: return ref_sigmoid(x);
    case DLS_ACT_TANH: return tanh(x);
    case DLS_ACT_SILU: return x * ref_sigmoid(x);
    case DLS_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case DLS_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case DLS_ACT_HSWISH: return x * fmin(fmax(x + 3, 0), 6) / 6;
    case DLS_ACT_HSIGMOID: return fmin(fmax(x + 3, 0), 6) / 6;
    default: return x;
    }
}

/* One node while it is computed. */
typedef struct ref_node {
    const ref_run *run;
    const dls_attr *a;
    dls_shape x[DLS_OP_INPUTS], y;
    const double *in[DLS_OP_INPUTS];
    bool fixed[DLS_OP_INPUTS];
    const double *w[DLS_OP_PARAMS]; /* NULL: it has no such parameter */
    double *out;
    int32_t n, inputs;
} ref_node;

static void ref_linear(const ref_node *o, const double *table, bool transposed) {
    const int32_t c = o->x[0].c, u = o->y.c, rows = o->n * o->y.h * o->y.w;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t j = 0; j < u; j++) {
            double sum = !transposed && o->w[1] ? o->w[1][j] : 0;
            for (int32_t k = 0; k < c; k++)
                sum += o->in[0][r * c + k] * table[transposed ? j * c + k : k * u + j];
            o->out[r * u + j] = transposed ? sum : ref_act(sum, o->a->i[DLS_ATTR_ACT] & 255, 0.01);
        }
}
static void ref_matmul(const ref_node *o) {
    const bool t = o->a->i[0] != 0;
    for (int32_t n = 0; n < o->n; n++)
        for (int32_t h = 0; h < o->y.h; h++)
            for (int32_t i = 0; i < o->y.w; i++)
                for (int32_t j = 0; j < o->y.c; j++) {
                    double sum = 0;
                    for (int32_t k = 0; k < o->x[0].c; k++)
                        sum +=
                            o->in[0][ref_at(o->x[0], n, h, i, k)] *
                            o->in[1][t ? ref_at(o->x[1], n, h, j, k) : ref_at(o->x[1], n, h, k, j)];
                    o->out[ref_at(o->y, n, h, i, j)] = sum;
                }
}
static void ref_conv(const ref_node *o, bool transposed) {
    const int32_t *a = o->a->i, kh = ref_lo(a[1]), kw = ref_hi(a[1]), sh = ref_lo(a[2]),
                  sw = ref_hi(a[2]), dh = ref_lo(a[3]), dw = ref_hi(a[3]), pt = ref_lo(a[4]),
                  pl = ref_hi(a[4]), groups = a[6];
    const dls_shape big = transposed ? o->y : o->x[0], small = transposed ? o->x[0] : o->y;
    const int32_t cg = big.c / groups, og = small.c / groups;
    const size_t all = (size_t)o->n * ref_count(o->y);
    for (size_t e = 0; e < all; e++) o->out[e] = o->w[1] ? o->w[1][e % (size_t)o->y.c] : 0;
    for (int32_t n = 0; n < o->n; n++)
        for (int32_t i = 0; i < small.h; i++)
            for (int32_t j = 0; j < small.w; j++)
                for (int32_t q = 0; q < small.c; q++)
                    for (int32_t r = 0; r < kh; r++)
                        for (int32_t s = 0; s < kw; s++) {
                            const int32_t y = i * sh + r * dh - pt, x = j * sw + s * dw - pl;
                            if (y < 0 || y >= big.h || x < 0 || x >= big.w) continue;
                            for (int32_t c = 0; c < cg; c++) {
                                const size_t in = ref_at(big, n, y, x, q / og * cg + c);
                                const double w = o->w[0][((r * kw + s) * cg + c) * small.c + q];
                                if (transposed)
                                    o->out[in] += o->in[0][ref_at(small, n, i, j, q)] * w;
                                else
                                    o->out[ref_at(small, n, i, j, q)] += o->in[0][in] * w;
                            }
                        }
    for (size_t e = 0; e < all; e++) o->out[e] = ref_act(o->out[e], a[DLS_ATTR_ACT] & 255, 0.01);
}
static void ref_pool(const ref_node *o, bool max) {
    const int32_t *a = o->a->i;
    const bool whole = a[5] != 0;
    const int32_t kh = whole ? o->x[0].h : ref_lo(a[0]), kw = whole ? o->x[0].w : ref_hi(a[0]);
    for (int32_t n = 0; n < o->n; n++)
        for (int32_t i = 0; i < o->y.h; i++)
            for (int32_t j = 0; j < o->y.w; j++)
                for (int32_t c = 0; c < o->y.c; c++) {
                    double most = -1e300, sum = 0;
                    int32_t count = 0;
                    for (int32_t r = 0; r < kh; r++)
                        for (int32_t s = 0; s < kw; s++) {
                            const int32_t y = i * (whole ? 1 : ref_lo(a[1])) + r - ref_lo(a[2]),
                                          x = j * (whole ? 1 : ref_hi(a[1])) + s - ref_hi(a[2]);
                            if (y < 0 || y >= o->x[0].h || x < 0 || x >= o->x[0].w) continue;
                            most = fmax(most, o->in[0][ref_at(o->x[0], n, y, x, c)]);
                            sum += o->in[0][ref_at(o->x[0], n, y, x, c)];
                            count++;
                        }
                    o->out[ref_at(o->y, n, i, j, c)] = max ? most : sum / (a[4] ? kh * kw : count);
                }
}
/* (x - mean) / deviation * gain + bias over a set of elements: first, then `inner` consecutive ones
   of every `step`, `outer` times. Channel of an element: its number modulo c. */
static void ref_normalise(const ref_node *o, size_t first, size_t inner, size_t step, size_t outer,
                          bool centred, double mean, double variance, bool given) {
    const size_t c = (size_t)o->y.c;
    double sum = 0, square = 0;
    for (size_t r = 0; r < outer; r++)
        for (size_t k = 0; k < inner; k++) sum += o->in[0][first + r * step + k];
    if (!given) mean = centred ? sum / (double)(inner * outer) : 0;
    for (size_t r = 0; r < outer; r++)
        for (size_t k = 0; k < inner; k++) square += pow(o->in[0][first + r * step + k] - mean, 2);
    if (!given) variance = square / (double)(inner * outer);
    for (size_t r = 0; r < outer; r++)
        for (size_t k = 0; k < inner; k++) {
            const size_t e = first + r * step + k;
            const double y =
                (o->in[0][e] - mean) / sqrt(variance + (double)o->a->f[0]) * o->w[0][e % c] +
                (o->w[1] ? o->w[1][e % c] : 0);
            o->out[e] = ref_act(y, o->a->i[DLS_ATTR_ACT] & 255, 0.01);
        }
}
static void ref_norm(const ref_node *o, const char *name) {
    const size_t c = (size_t)o->y.c, pixels = (size_t)o->y.h * (size_t)o->y.w, n = (size_t)o->n;
    if (strcmp(name, "batchnorm") == 0) {
        for (size_t k = 0; k < c; k++)
            ref_normalise(o, k, 1, c, n * pixels, true, o->w[2][k], o->w[3][k], !o->run->train);
    } else if (strcmp(name, "groupnorm") == 0) {
        const size_t groups = (size_t)o->a->i[0];
        for (size_t g = 0; g < n * groups; g++)
            ref_normalise(o, g / groups * pixels * c + g % groups * (c / groups), c / groups, c,
                          pixels, true, 0, 0, false);
    } else {
        for (size_t r = 0; r < n * pixels; r++)
            ref_normalise(o, r * c, c, c, 1, strcmp(name, "layernorm") == 0, 0, 0, false);
    }
}
static void ref_softmax(const ref_node *o) {
    const int32_t c = o->y.c, rows = o->n * o->y.h * o->y.w;
    for (int32_t r = 0; r < rows; r++) {
        double sum = 0, most = -1e300;
        for (int32_t k = 0; k < c; k++) most = fmax(most, o->in[0][r * c + k]);
        for (int32_t k = 0; k < c; k++) sum += exp(o->in[0][r * c + k] - most);
        for (int32_t k = 0; k < c; k++) o->out[r * c + k] = exp(o->in[0][r * c + k] - most) / sum;
    }
}
static void ref_binary(const ref_node *o, bool mul) {
    const size_t count = ref_count(o->y), c = (size_t)o->y.c;
    for (size_t n = 0; n < (size_t)o->n; n++)
        for (size_t e = 0; e < count; e++) {
            const double a = o->in[0][n * count + e];
            const double b = o->fixed[1]                   ? o->in[1][e]
                             : ref_count(o->x[1]) == count ? o->in[1][n * count + e]
                                                           : o->in[1][n * c + e % c];
            o->out[n * count + e] = mul ? a * b : ref_act(a + b, o->a->i[DLS_ATTR_ACT] & 255, 0.01);
        }
}
/* Every element of y from an element of x: concat, slice, pad, reshape, transpose. */
static void ref_move(const ref_node *o, const char *name) {
    const int32_t *a = o->a->i;
    for (int32_t n = 0; n < o->n; n++)
        for (int32_t i = 0; i < o->y.h; i++)
            for (int32_t j = 0; j < o->y.w; j++)
                for (int32_t k = 0; k < o->y.c; k++) {
                    int32_t at[3] = {i, j, k}, from[3] = {i, j, k}, input = 0;
                    double v;
                    if (strcmp(name, "concat") == 0)
                        for (; input < o->inputs; input++) {
                            const dls_shape s = o->x[input];
                            const int32_t size = a[0] == 0 ? s.h : a[0] == 1 ? s.w : s.c;
                            if (from[a[0]] < size) break;
                            from[a[0]] -= size;
                        }
                    if (strcmp(name, "slice") == 0) from[a[0]] += a[1];
                    if (strcmp(name, "transpose") == 0)
                        for (int32_t e = 0; e < 3; e++) from[a[e]] = at[e];
                    if (strcmp(name, "pad") == 0) {
                        from[0] -= a[0];
                        from[1] -= a[1];
                    }
                    v = (double)o->a->f[0];
                    if (strcmp(name, "reshape") == 0 || strcmp(name, "dropout") == 0)
                        v = o->in[0][ref_at(o->y, n, i, j, k)];
                    else if (from[0] >= 0 && from[0] < o->x[input].h && from[1] >= 0 &&
                             from[1] < o->x[input].w)
                        v = o->in[input][ref_at(o->x[input], n, from[0], from[1], from[2])];
                    o->out[ref_at(o->y, n, i, j, k)] = v;
                }
}
static double ref_clamped(const ref_node *o, int32_t n, int32_t i, int32_t j, int32_t k) {
    const dls_shape s = o->x[0];
    i = i < 0 ? 0 : i >= s.h ? s.h - 1 : i;
    j = j < 0 ? 0 : j >= s.w ? s.w - 1 : j;
    return o->in[0][ref_at(s, n, i, j, k)];
}
static void ref_upsample(const ref_node *o) {
    const int32_t f = o->a->i[0];
    for (int32_t n = 0; n < o->n; n++)
        for (int32_t i = 0; i < o->y.h; i++)
            for (int32_t j = 0; j < o->y.w; j++)
                for (int32_t k = 0; k < o->y.c; k++) {
                    const double v = (i + 0.5) / f - 0.5, u = (j + 0.5) / f - 0.5;
                    const int32_t r = (int32_t)floor(v), s = (int32_t)floor(u);
                    const double b = v - r, q = u - s;
                    o->out[ref_at(o->y, n, i, j, k)] =
                        o->a->i[1] == 0 ? ref_clamped(o, n, i / f, j / f, k)
                                        : (1 - b) * ((1 - q) * ref_clamped(o, n, r, s, k) +
                                                     q * ref_clamped(o, n, r, s + 1, k)) +
                                              b * ((1 - q) * ref_clamped(o, n, r + 1, s, k) +
                                                   q * ref_clamped(o, n, r + 1, s + 1, k));
                }
}
static void ref_embedding(const ref_node *o) {
    const int32_t d = o->y.c, rows = o->n * o->y.h;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t k = 0; k < d; k++) o->out[r * d + k] = o->w[0][(int32_t)o->in[0][r] * d + k];
}
static void ref_rope(const ref_node *o) {
    const int32_t heads = o->a->i[0], half = o->y.c / heads / 2;
    for (int32_t n = 0; n < o->n; n++)
        for (int32_t t = 0; t < o->y.h; t++)
            for (int32_t h = 0; h < heads; h++)
                for (int32_t i = 0; i < half; i++) {
                    const double angle = t * pow((double)o->a->f[0], -(double)i / half);
                    const size_t p = ref_at(o->y, n, t, 0, h * 2 * half + i), q = p + (size_t)half;
                    o->out[p] = o->in[0][p] * cos(angle) - o->in[0][q] * sin(angle);
                    o->out[q] = o->in[0][q] * cos(angle) + o->in[0][p] * sin(angle);
                }
}
static void ref_attention(const ref_node *o) {
    const int32_t heads = o->a->i[0], kv = o->a->i[1], d = o->y.c / heads;
    const bool packed = o->inputs == 1;
    const dls_shape ks = o->x[packed ? 0 : 1];
    const double *kin = o->in[packed ? 0 : 1], *vin = o->in[packed ? 0 : 2];
    for (int32_t n = 0; n < o->n; n++)
        for (int32_t h = 0; h < heads; h++)
            for (int32_t t = 0; t < o->y.h; t++) {
                const int32_t g = h / (heads / kv), seen = o->a->i[2] ? t + 1 : ks.h;
                const int32_t k0 = (packed ? heads * d : 0) + g * d,
                              v0 = (packed ? (heads + kv) * d : 0) + g * d;
                double p[256], sum = 0, most = -1e300;
                for (int32_t s = 0; s < seen; s++) {
                    p[s] = 0;
                    for (int32_t e = 0; e < d; e++)
                        p[s] += o->in[0][ref_at(o->x[0], n, t, 0, h * d + e)] *
                                kin[ref_at(ks, n, s, 0, k0 + e)] / sqrt((double)d);
                    most = fmax(most, p[s]);
                }
                for (int32_t s = 0; s < seen; s++) sum += p[s] = exp(p[s] - most);
                for (int32_t e = 0; e < d; e++) {
                    double y = 0;
                    for (int32_t s = 0; s < seen; s++)
                        y += p[s] / sum * vin[ref_at(ks, n, s, 0, v0 + e)];
                    o->out[ref_at(o->y, n, t, 0, h * d + e)] = y;
                }
            }
}
static void ref_rnn(const ref_node *o, bool lstm) {
    const int32_t hidden = o->y.c, gates = (lstm ? 4 : 3) * hidden, c = o->x[0].c;
    double g[256], r[256], cell[64], before[64];
    for (int32_t n = 0; n < o->n; n++) {
        for (int32_t j = 0; j < hidden; j++) cell[j] = before[j] = 0;
        for (int32_t t = 0; t < o->y.h; t++) {
            for (int32_t j = 0; j < gates; j++) {
                g[j] = o->w[2][j];
                r[j] = 0;
                for (int32_t k = 0; k < c; k++)
                    g[j] += o->in[0][ref_at(o->x[0], n, t, 0, k)] * o->w[0][k * gates + j];
                for (int32_t k = 0; k < hidden; k++) r[j] += before[k] * o->w[1][k * gates + j];
            }
            for (int32_t j = 0; j < hidden; j++) {
                const double a = ref_sigmoid(g[j] + r[j]),
                             b = ref_sigmoid(g[hidden + j] + r[hidden + j]);
                double y;
                if (lstm) {
                    cell[j] = b * cell[j] + a * tanh(g[2 * hidden + j] + r[2 * hidden + j]);
                    y = ref_sigmoid(g[3 * hidden + j] + r[3 * hidden + j]) * tanh(cell[j]);
                } else {
                    const double m = tanh(g[2 * hidden + j] + a * (r[2 * hidden + j] + o->w[3][j]));
                    y = (1 - b) * m + b * before[j];
                }
                o->out[ref_at(o->y, n, t, 0, j)] = y;
            }
            for (int32_t j = 0; j < hidden; j++) before[j] = o->out[ref_at(o->y, n, t, 0, j)];
        }
    }
}

static void ref_one(const ref_node *o, const char *name) {
    if (strcmp(name, "linear") == 0)
        ref_linear(o, o->w[0], false);
    else if (strcmp(name, "matmul") == 0)
        ref_matmul(o);
    else if (strcmp(name, "conv2d") == 0)
        ref_conv(o, false);
    else if (strcmp(name, "conv_transpose") == 0)
        ref_conv(o, true);
    else if (strcmp(name, "maxpool") == 0)
        ref_pool(o, true);
    else if (strcmp(name, "avgpool") == 0)
        ref_pool(o, false);
    else if (strstr(name, "norm") != NULL)
        ref_norm(o, name);
    else if (strcmp(name, "softmax") == 0)
        ref_softmax(o);
    else if (strcmp(name, "add") == 0 || strcmp(name, "mul") == 0)
        ref_binary(o, name[0] == 'm');
    else if (strcmp(name, "upsample") == 0)
        ref_upsample(o);
    else if (strcmp(name, "embedding") == 0)
        ref_embedding(o);
    else if (strcmp(name, "rope") == 0)
        ref_rope(o);
    else if (strcmp(name, "attention") == 0)
        ref_attention(o);
    else if (strcmp(name, "lstm") == 0 || strcmp(name, "gru") == 0)
        ref_rnn(o, name[0] == 'l');
    else if (strcmp(name, "act") == 0) {
        for (size_t e = 0; e < (size_t)o->n * ref_count(o->y); e++)
            o->out[e] = ref_act(o->in[0][e], o->a->i[DLS_ATTR_ACT], (double)o->a->f[0]);
    } else
        ref_move(o, name); /* concat, slice, pad, reshape, transpose, dropout */
}
/* Computes every node but inputs. */
static void ref_forward(ref_run *r) {
    for (int32_t i = 0; i < r->net->nodes; i++) {
        const dlsi_node *node = &r->net->node[i];
        const char *name = node->op->name;
        ref_node o;
        memset(&o, 0, sizeof o);
        o.run = r;
        o.a = &node->attr;
        o.y = node->y;
        o.n = r->n;
        o.inputs = node->inputs;
        o.out = r->val[i];
        for (int32_t k = 0; k < node->params; k++) o.w[k] = r->params + dlsi_param_at(node, k);
        for (int32_t k = 0; k < node->inputs; k++) {
            o.x[k] = r->net->node[node->in[k]].y;
            o.in[k] = r->val[node->in[k]];
            o.fixed[k] = strcmp(r->net->node[node->in[k]].op->name, "param") == 0;
        }
        if (strcmp(name, "input") == 0) continue;
        if (strcmp(name, "param") == 0)
            memcpy(r->val[i], o.w[0], ref_count(o.y) * sizeof(double));
        else if (strcmp(name, "tied_linear") == 0)
            ref_linear(&o, r->params + r->net->node[node->in[1]].param, true);
        else
            ref_one(&o, name);
    }
}

/* ---- Running a network both ways ---- */

static uint32_t ref_random; /* position in the stream of ref_uniform */
static double ref_uniform(double lo, double hi) {
    return lo + (hi - lo) * (double)(dls_rand_at(12345, ref_random++) >> 8) / 16777216.0;
}
static void ref_open(ref_run *r, const dls_net *net, int32_t n) {
    memset(r, 0, sizeof *r);
    r->net = net;
    r->n = n;
    for (int32_t i = 0; i < net->nodes && i < REF_NODES; i++)
        r->val[i] = (double *)calloc((size_t)n * ref_count(net->node[i].y), sizeof(double));
    r->params = (const double *)calloc(net->param_count + 1, sizeof(double));
}
static void ref_close(ref_run *r) {
    for (int32_t i = 0; i < REF_NODES; i++) free(r->val[i]);
    free((void *)(uintptr_t)r->params);
}
/* Weights drawn so that everything matters: gains and variances about 1, the rest about 0. */
static void ref_draw_params(dls_net *net) {
    if (net->params == NULL) (void)dlsi_net_need_params(net, true);
    for (int32_t i = 0; i < net->nodes; i++)
        for (int32_t p = 0; p < net->node[i].params; p++) {
            dls_param form;
            size_t at, count, inner;
            if (dls_net_param_of(net, i, p, &form, &at, &count) != DLS_OK) continue;
            inner = count / (size_t)(form.dim[3] > 0 ? form.dim[3] : 1);
            for (size_t e = 0; e < count; e++) {
                const bool ones = form.init == DLS_INIT_ONE;
                const double scale = ones ? 0.3 : 1.5 / sqrt((double)(inner > 0 ? inner : 1));
                net->params[at + e] = (dls_real)((ones ? 1.0 : 0.0) + ref_uniform(-scale, scale));
            }
        }
    dls_net_touch(net);
}
/* Fresh inputs, alike in r and the floats it hands out; ids below vocabulary. */
static void ref_draw_inputs(ref_run *r, int32_t vocabulary) {
    for (int32_t i = 0; i < r->net->nodes; i++) {
        const dlsi_node *node = &r->net->node[i];
        const size_t count = (size_t)r->n * ref_count(node->y);
        if (strcmp(node->op->name, "input") != 0) continue;
        for (size_t e = 0; e < count; e++)
            r->val[i][e] = node->dtype == DLS_I32 ? floor(ref_uniform(0, vocabulary - 0.001))
                                                  : (double)(float)ref_uniform(-2, 2);
    }
}
static void ref_take_params(ref_run *r) {
    double *to = (double *)(uintptr_t)r->params;
    for (size_t e = 0; e < r->net->param_count; e++) to[e] = (double)r->net->params[e];
}
/* Writes values that an executor takes in, inputs and imports, from r. */
static void ref_feed(const ref_run *r, dls_exec *exec) {
    for (int32_t k = 0; dls_exec_input_val(exec, k) >= 0; k++) {
        const dls_val v = dls_exec_input_val(exec, k);
        const size_t count = (size_t)r->n * ref_count(dls_net_shape(r->net, v));
        void *to = dls_exec_input(exec, k);
        for (size_t e = 0; e < count; e++) {
            if (r->net->node[v].dtype == DLS_I32)
                ((int32_t *)to)[e] = (int32_t)r->val[v][e];
            else
                ((dls_real *)to)[e] = (dls_real)r->val[v][e];
        }
    }
}
/* Largest difference between a value and the reference, relative to the largest element. */
static double ref_distance(const ref_run *r, dls_val v, const dls_real *y) {
    const size_t count = (size_t)r->n * ref_count(dls_net_shape(r->net, v));
    double most = 1e-3, far = 0;
    if (y == NULL) return 1e9;
    for (size_t e = 0; e < count; e++) {
        const double d = fabs((double)y[e] - r->val[v][e]);
        most = fmax(most, fabs(r->val[v][e]));
        if (!(d <= far)) far = d == d ? d : 1e9;
    }
    return far / most;
}
#endif
