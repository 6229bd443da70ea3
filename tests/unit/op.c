/* op: every op, run on every kernel set, one thread or three, for inference and for training, gives
   what the reference interpreter gives; its gradients are those of the reference; threads change
   no bit; and every shape rule refuses what it cannot serve, saying which node and why. */

enum { OP_BATCH = 3 };

static dls_pool *op_pool(void) { /* three threads, made when first wanted */
    static dls_pool *pool;
    if (pool == NULL) {
        dls_pool_desc desc = {3, 0};
        pool = dls_pool_create(&desc);
    }
    return pool;
}
static int32_t op_vocabulary(const dls_net *net) {
    for (int32_t i = 0; i < net->nodes; i++)
        if (net->node[i].op == dls_op_embedding()) return net->node[i].attr.i[0];
    return 1;
}
static const char *op_names(const dls_net *net) { /* for messages: the ops but inputs */
    static char text[256];
    text[0] = '\0';
    for (int32_t i = 0; i < net->nodes && strlen(text) < 200; i++)
        if (strcmp(net->node[i].op->name, "input") != 0)
            snprintf(text + strlen(text), 40, "%s ", net->node[i].op->name);
    return text;
}
static dls_exec *op_exec(dls_net *net, const dls_exec_desc *desc) {
    char text[200];
    dls_exec *exec = dls_exec_create(net, desc);
    test_checks++;
    if (exec == NULL)
        test_report(__FILE__, __LINE__, "no plan for %s: %s", op_names(net),
                    dls_error_text(dls_net_error(net), text, sizeof text));
    return exec;
}

/* sum over y and the direction of what changes: the derivative that backward says, and the one of
   the reference by central differences in double. */
static double op_loss(ref_run *r, const double *weight) {
    const dls_val y = dls_net_output_of(r->net);
    const size_t count = (size_t)r->n * ref_count(dls_net_shape(r->net, y));
    double sum = 0;
    ref_forward(r);
    for (size_t e = 0; e < count; e++) sum += r->val[y][e] * weight[e];
    return sum;
}
typedef struct op_direction {
    double *params, *input[8];
    double slope, scale; /* of the loss along it, and the sum of its terms' sizes */
} op_direction;
/* Moves inputs and weights of r by step times the direction. */
static void op_move(ref_run *r, const op_direction *d, const dls_exec *exec, double step) {
    for (size_t e = 0; e < r->net->param_count; e++)
        ((double *)(uintptr_t)r->params)[e] += step * d->params[e];
    for (int32_t k = 0; dls_exec_input_val(exec, k) >= 0; k++) {
        const dls_val v = dls_exec_input_val(exec, k);
        const size_t count = (size_t)r->n * ref_count(dls_net_shape(r->net, v));
        for (size_t e = 0; e < count; e++) r->val[v][e] += step * d->input[k][e];
    }
}
static void op_term(op_direction *d, double *v, double grad) {
    *v = ref_uniform(-1, 1);
    d->slope += *v * grad;
    d->scale += fabs(*v * grad);
}
static void op_draw_direction(op_direction *d, ref_run *r, dls_exec *exec) {
    const dls_real *grads = dls_exec_grads(exec);
    memset(d, 0, sizeof *d);
    d->params = (double *)calloc(r->net->param_count + 1, sizeof(double));
    for (int32_t i = 0; i < r->net->nodes; i++)
        for (int32_t p = 0; p < r->net->node[i].params; p++) {
            dls_param form;
            size_t at, count;
            (void)dls_net_param_of(r->net, i, p, &form, &at, &count);
            for (size_t e = 0; e < count && (form.flags & DLS_PARAM_STATISTIC) == 0; e++)
                op_term(d, &d->params[at + e], (double)grads[at + e]);
        }
    for (int32_t k = 0; dls_exec_input_val(exec, k) >= 0; k++) {
        const dls_val v = dls_exec_input_val(exec, k);
        const size_t count = (size_t)r->n * ref_count(dls_net_shape(r->net, v));
        const dls_real *grad = dls_exec_input_grad(exec, k);
        d->input[k] = (double *)calloc(count, sizeof(double));
        for (size_t e = 0; e < count && grad != NULL; e++)
            op_term(d, &d->input[k][e], (double)grad[e]);
    }
}
/* exec has run forward on what r holds. */
static void op_check_grads(ref_run *r, dls_exec *exec, double tolerance) {
    const dls_val y = dls_net_output_of(r->net);
    const size_t count = (size_t)r->n * ref_count(dls_net_shape(r->net, y));
    const double step = 1e-6;
    double *weight = (double *)calloc(count, sizeof(double)), up, down;
    op_direction d;
    for (size_t e = 0; e < count; e++) {
        weight[e] = (double)(float)ref_uniform(-1, 1);
        dls_exec_output_grad(exec)[e] = (dls_real)weight[e];
    }
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    op_draw_direction(&d, r, exec);
    op_move(r, &d, exec, step);
    up = op_loss(r, weight);
    op_move(r, &d, exec, -2 * step);
    down = op_loss(r, weight);
    op_move(r, &d, exec, step);
    test_checks++;
    if (!(fabs((up - down) / (2 * step) - d.slope) <= tolerance * (d.scale + 1e-3)))
        test_report(__FILE__, __LINE__, "%s: slope %g, by differences %g (terms %g)",
                    op_names(r->net), d.slope, (up - down) / (2 * step), d.scale);
    free(weight);
    free(d.params);
    for (int32_t k = 0; k < 8; k++) free(d.input[k]);
}

typedef struct op_way {
    dls_isa isa;
    bool strict, pool, train;
} op_way;
static void op_check_way(dls_net *net, ref_run *r, const op_way *way, double tolerance) {
    const dls_val y = dls_net_output_of(net);
    dls_exec_desc desc;
    dls_exec *exec;
    double far;
    memset(&desc, 0, sizeof desc);
    desc.batch = r->n + 1; /* fewer samples than planned is the harder case */
    desc.isa = way->isa;
    desc.strict = way->strict;
    desc.pool = way->pool ? op_pool() : NULL;
    desc.train = desc.input_grad = way->train;
    if ((exec = op_exec(net, &desc)) == NULL) return;
    for (int32_t round = 0; round < 2; round++) { /* the second finds used memory */
        memset(exec->values, 0xFF, exec->memory.values);
        memset(exec->work, 0xFF, exec->memory.scratch);
        ref_feed(r, exec);
        if (way->train)
            CHECK_STATUS(dls_exec_forward_train(exec, r->n, 1, 0, 0), DLS_OK);
        else
            CHECK_STATUS(dls_exec_forward(exec, r->n), DLS_OK);
        r->train = way->train;
        ref_forward(r);
        far = ref_distance(r, y, dls_exec_output(exec));
        test_checks++;
        if (!(far <= tolerance))
            test_report(__FILE__, __LINE__,
                        "%s: isa %d strict %d pool %d train %d round %d: off by %g", op_names(net),
                        way->isa, way->strict, way->pool, way->train, round, far);
    }
    if (way->train) op_check_grads(r, exec, 1e-4);
    dls_exec_destroy(exec);
}
/* Bits of the output and the gradients with one thread and with three. */
static uint64_t op_bits(dls_net *net, const ref_run *r, dls_pool *pool, bool strict) {
    const size_t count = (size_t)r->n * ref_count(dls_net_shape(net, dls_net_output_of(net)));
    dls_exec_desc desc;
    dls_exec *exec;
    uint64_t hash;
    memset(&desc, 0, sizeof desc);
    desc.batch = r->n;
    desc.pool = pool;
    desc.strict = strict;
    desc.train = desc.input_grad = true;
    if ((exec = op_exec(net, &desc)) == NULL) return 0;
    ref_feed(r, exec);
    CHECK_STATUS(dls_exec_forward_train(exec, r->n, 9, 0, 0), DLS_OK);
    hash = dls_hash64_reals(1, dls_exec_output(exec), count);
    for (size_t e = 0; e < count; e++)
        dls_exec_output_grad(exec)[e] = (dls_real)((double)(e * 7 % 11) * 0.25 - 1);
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    hash = dls_hash64_reals(hash, dls_exec_grads(exec), net->param_count);
    for (int32_t k = 0; dls_exec_input_val(exec, k) >= 0; k++)
        if (dls_exec_input_grad(exec, k) != NULL)
            hash = dls_hash64_reals(hash, dls_exec_input_grad(exec, k),
                                    (size_t)r->n *
                                        ref_count(dls_net_shape(net, dls_exec_input_val(exec, k))));
    dls_exec_destroy(exec);
    return hash;
}
/* All of it for one network, which is then destroyed. */
static void op_check(dls_net *net) {
    static const op_way ways[] = {
        {DLS_ISA_SCALAR, false, false, false}, {DLS_ISA_BEST, false, false, false},
        {DLS_ISA_BEST, true, false, false},    {DLS_ISA_BEST, false, true, false},
        {DLS_ISA_SCALAR, false, false, true},  {DLS_ISA_BEST, false, false, true},
        {DLS_ISA_BEST, false, true, true}};
    char text[200];
    ref_run r;
    test_checks++;
    if (dls_net_status(net) != DLS_OK) {
        test_report(__FILE__, __LINE__, "%s: %s", op_names(net),
                    dls_error_text(dls_net_error(net), text, sizeof text));
        dls_net_destroy(net);
        return;
    }
    ref_open(&r, net, OP_BATCH);
    ref_draw_params(net);
    ref_take_params(&r);
    ref_draw_inputs(&r, op_vocabulary(net));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) op_check_way(net, &r, &ways[i], 1e-4);
    CHECK(op_bits(net, &r, NULL, false) == op_bits(net, &r, op_pool(), false));
    CHECK(op_bits(net, &r, NULL, true) == op_bits(net, &r, op_pool(), true));
    ref_close(&r);
    dls_net_destroy(net);
}
/* One input through `make`, an expression of net and x. */
#define OP(h, w, c, make)                                                                          \
    do {                                                                                           \
        dls_net *net = dls_net_create(NULL);                                                       \
        const dls_val x = dls_net_input(net, h, w, c);                                             \
        (void)(make);                                                                              \
        op_check(net);                                                                             \
    } while (0)
/* Two inputs, a and b. */
#define OP2(h, w, c, h2, w2, c2, make)                                                             \
    do {                                                                                           \
        dls_net *net = dls_net_create(NULL);                                                       \
        const dls_val a = dls_net_input(net, h, w, c), b = dls_net_input(net, h2, w2, c2);         \
        (void)(make);                                                                              \
        op_check(net);                                                                             \
    } while (0)

/* ---- Values ---- */

static void test_op_linear(void) {
    OP(1, 1, 13, dls_net_linear(net, x, 9, DLS_ACT_NONE));
    OP(3, 2, 33, dls_net_linear(net, x, 50, DLS_ACT_RELU));
    OP(2, 3, 17, dls_net_linear_no_bias(net, x, 5, DLS_ACT_RELU6));
    OP(2, 3, 17, dls_net_linear(net, x, 64, DLS_ACT_SILU)); /* not fusable: a node of its own */
    OP(3, 4, 5, dls_net_dense(net, x, 21, DLS_ACT_TANH));
    OP(1, 1, 700, dls_net_dense(net, x, 40, DLS_ACT_NONE));
    OP(20, 20, 3, dls_net_linear(net, x, 7, DLS_ACT_RELU)); /* several parts of column sums */
}
static void test_op_tied_linear(void) {
    dls_net *net = dls_net_create(NULL);
    const dls_val ids = dls_net_input_ids(net, 6), e = dls_net_embedding(net, ids, 11, 20);
    (void)dls_net_tied_linear(net, dls_net_act(net, e, DLS_ACT_TANH), e);
    CHECK_INT(dls_net_shape(net, 3).c, 11);
    op_check(net);
    net = dls_net_create(NULL); /* two heads on one table */
    {
        const dls_val id = dls_net_input_ids(net, 4), t = dls_net_embedding(net, id, 9, 6);
        const dls_val y = dls_net_tied_linear(net, dls_net_act(net, t, DLS_ACT_TANH), t);
        (void)dls_net_add(net, y, dls_net_tied_linear(net, t, t), DLS_ACT_NONE);
    }
    op_check(net);
}
static void test_op_matmul(void) {
    OP2(2, 5, 7, 2, 7, 19, dls_net_matmul(net, a, b, false));
    OP2(2, 5, 7, 2, 18, 7, dls_net_matmul(net, a, b, true));
    OP2(1, 33, 40, 1, 40, 35, dls_net_matmul(net, a, b, false));
    OP(3, 6, 6, dls_net_matmul(net, x, x, true)); /* one value as both operands */
}
static dls_val op_conv(dls_net *net, dls_val x, int32_t channels, int32_t kh, int32_t kw,
                       int32_t sh, int32_t sw, int32_t dh, int32_t dw, int32_t groups,
                       dls_act act) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = channels;
    d.kernel_h = kh;
    d.kernel_w = kw;
    d.stride_h = sh;
    d.stride_w = sw;
    d.dilation_h = dh;
    d.dilation_w = dw;
    d.groups = groups;
    d.act = act;
    d.no_bias = groups == 2;
    return dls_net_conv2d_desc(net, x, &d);
}
static void test_op_conv2d(void) {
    OP(7, 9, 6, dls_net_conv2d(net, x, 10, 1, DLS_ACT_RELU));               /* a product */
    OP(9, 7, 3, dls_net_conv2d(net, x, 12, 3, DLS_ACT_NONE));               /* patches */
    OP(9, 11, 1, op_conv(net, x, 17, 5, 3, 2, 1, 1, 1, 1, DLS_ACT_RELU6));  /* patches, stride */
    OP(10, 9, 16, dls_net_conv2d(net, x, 24, 3, DLS_ACT_RELU));             /* Winograd */
    OP(13, 6, 9, dls_net_conv2d(net, x, 8, 3, DLS_ACT_NONE));               /* Winograd, odd */
    OP(8, 9, 7, op_conv(net, x, 11, 5, 5, 1, 1, 1, 1, 1, DLS_ACT_SIGMOID)); /* direct */
    OP(9, 8, 12, op_conv(net, x, 8, 3, 2, 2, 3, 1, 1, 1, DLS_ACT_RELU));    /* strides */
    OP(12, 11, 8, op_conv(net, x, 9, 3, 3, 1, 2, 2, 3, 1, DLS_ACT_NONE));   /* dilation */
    OP(9, 9, 8, op_conv(net, x, 6, 1, 1, 2, 2, 1, 1, 1, DLS_ACT_NONE));     /* stride > kernel */
    OP(6, 7, 12, op_conv(net, x, 8, 3, 3, 1, 1, 1, 1, 2, DLS_ACT_RELU));    /* groups */
    OP(6, 7, 12, op_conv(net, x, 18, 3, 1, 2, 1, 1, 1, 3, DLS_ACT_LEAKY));  /* groups, leaky */
    OP(8, 8, 10, op_conv(net, x, 20, 3, 3, 1, 1, 1, 1, 10, DLS_ACT_NONE));  /* two per channel */
}
static void test_op_depthwise(void) {
    OP(7, 8, 19, dls_net_depthwise(net, x, 3, 1, DLS_ACT_RELU6));
    OP(9, 8, 32, dls_net_depthwise(net, x, 3, 2, DLS_ACT_NONE));
    OP(9, 9, 5, dls_net_depthwise(net, x, 5, 3, DLS_ACT_HSWISH));
    OP(10, 9, 6, op_conv(net, x, 6, 3, 3, 2, 2, 2, 2, 6, DLS_ACT_RELU));
}
static dls_val op_convt(dls_net *net, dls_val x, int32_t channels, int32_t kernel, int32_t stride,
                        int32_t pad, int32_t output_pad, dls_act act) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = channels;
    d.kernel_h = kernel;
    d.stride_h = stride;
    d.act = act;
    if (pad >= 0) {
        d.pad = DLS_PAD_EXPLICIT;
        d.pad_top = d.pad_left = d.pad_bottom = d.pad_right = pad;
        d.output_pad_h = d.output_pad_w = output_pad;
    }
    return dls_net_conv_transpose(net, x, &d);
}
static void test_op_conv_transpose(void) {
    OP(5, 4, 6, op_convt(net, x, 7, 3, 2, -1, 0, DLS_ACT_RELU));
    OP(4, 5, 9, op_convt(net, x, 12, 3, 1, 1, 0, DLS_ACT_NONE)); /* Winograd in it */
    OP(5, 5, 3, op_convt(net, x, 4, 2, 2, 0, 0, DLS_ACT_SIGMOID));
    OP(4, 3, 8, op_convt(net, x, 5, 3, 2, 1, 1, DLS_ACT_NONE));
    OP(4, 3, 8, op_convt(net, x, 5, 1, 1, 0, 0, DLS_ACT_NONE));  /* 1 x 1 */
    OP(3, 3, 8, op_convt(net, x, 5, 1, 3, -1, 0, DLS_ACT_NONE)); /* stride > kernel, same */
}
static void test_op_convt_shapes(void) {
    dls_net *net = dls_net_create(NULL);
    const dls_val x = dls_net_input(net, 5, 4, 6);
    CHECK_INT(dls_net_shape(net, op_convt(net, x, 7, 3, 2, -1, 0, DLS_ACT_NONE)).h, 10);
    CHECK_INT(dls_net_shape(net, op_convt(net, x, 7, 3, 2, -1, 0, DLS_ACT_NONE)).w, 8);
    CHECK_INT(dls_net_shape(net, op_convt(net, x, 7, 3, 2, 0, 0, DLS_ACT_NONE)).h, 11);
    CHECK_INT(dls_net_shape(net, op_convt(net, x, 7, 3, 2, 1, 1, DLS_ACT_NONE)).h, 10);
    CHECK_INT(dls_net_shape(net, op_convt(net, x, 7, 1, 3, -1, 0, DLS_ACT_NONE)).h, 15);
    CHECK_INT(dls_net_shape(net, op_convt(net, x, 7, 1, 3, -1, 0, DLS_ACT_NONE)).c, 7);
    dls_net_destroy(net);
}
static dls_val op_pool2d(dls_net *net, dls_val x, bool max, int32_t kernel, int32_t stride,
                         int32_t pad, bool same, bool count_padding) {
    dls_pool2d_desc d;
    memset(&d, 0, sizeof d);
    d.kernel_h = kernel;
    d.kernel_w = kernel - 1;
    d.stride_h = stride;
    d.same = same;
    d.count_padding = count_padding;
    if (pad > 0) {
        d.pad = DLS_PAD_EXPLICIT;
        d.pad_top = d.pad_right = pad;
        d.pad_left = d.pad_bottom = pad - 1;
    }
    return max ? dls_net_maxpool_desc(net, x, &d) : dls_net_avgpool_desc(net, x, &d);
}
static void test_op_pools(void) {
    OP(7, 9, 5, dls_net_maxpool(net, x, 2));
    OP(9, 7, 18, dls_net_maxpool(net, x, 3));
    OP(7, 9, 16, op_pool2d(net, x, true, 3, 2, 1, false, false));
    OP(6, 8, 3, op_pool2d(net, x, true, 3, 2, 0, true, false));
    OP(8, 6, 5, dls_net_avgpool(net, x, 2));
    OP(7, 9, 17, op_pool2d(net, x, false, 3, 1, 1, false, false));
    OP(7, 9, 4, op_pool2d(net, x, false, 3, 2, 1, false, true));
    OP(7, 8, 4, op_pool2d(net, x, false, 4, 3, 0, true, false));
    OP(5, 6, 21, dls_net_global_avgpool(net, x));
}
static void test_op_norms(void) {
    OP(5, 6, 7, dls_net_batchnorm(net, x, DLS_ACT_RELU));
    OP(1, 1, 40, dls_net_batchnorm(net, x, DLS_ACT_NONE));
    OP(20, 20, 5, dls_net_batchnorm(net, x, DLS_ACT_SILU)); /* several parts of sums */
    OP(4, 5, 12, dls_net_groupnorm(net, x, 3, DLS_ACT_NONE));
    OP(3, 3, 18, dls_net_groupnorm(net, x, 18, DLS_ACT_RELU6));
    OP(3, 3, 8, dls_net_groupnorm(net, x, 1, DLS_ACT_TANH));
    OP(5, 2, 19, dls_net_layernorm(net, x));
    OP(30, 10, 4, dls_net_layernorm(net, x));
    OP(5, 2, 33, dls_net_rmsnorm(net, x));
}
static void test_op_activations(void) {
    for (int32_t act = 0; act < (int32_t)DLS_ACT_COUNT; act++)
        OP(3, 5, 11, dls_net_act(net, x, (dls_act)act));
    OP(3, 5, 7, dls_net_leaky(net, x, 0.2f));
    OP(50, 40, 9, dls_net_act(net, x, DLS_ACT_GELU)); /* long enough to be shared out */
    OP(3, 4, 13, dls_net_softmax(net, x));
    OP(1, 1, 1, dls_net_softmax(net, x));
}
static void test_op_add_mul(void) {
    OP2(4, 5, 6, 4, 5, 6, dls_net_add(net, a, b, DLS_ACT_RELU));
    OP2(4, 5, 6, 1, 1, 6, dls_net_add(net, a, b, DLS_ACT_NONE));    /* per channel */
    OP2(1, 1, 6, 4, 5, 6, dls_net_add(net, a, b, DLS_ACT_SIGMOID)); /* exchanged */
    OP2(4, 5, 6, 4, 5, 6, dls_net_mul(net, a, b));
    OP2(4, 5, 6, 1, 1, 6, dls_net_mul(net, a, b));
    OP2(1, 1, 6, 4, 5, 6, dls_net_mul(net, a, b));
    OP(4, 5, 6, dls_net_add(net, dls_net_param(net, 4, 5, 6, 0.5f), x, DLS_ACT_NONE));
    OP(4, 5, 6, dls_net_mul(net, x, dls_net_param(net, 4, 5, 6, 0.5f)));
    OP(4, 5, 6, dls_net_position(net, x));
    OP(4, 5, 6, dls_net_add(net, x, x, DLS_ACT_RELU6));
    OP(4, 5, 6, dls_net_mul(net, x, x));
    OP(60, 50, 4, dls_net_mul(net, x, x));
}
static void test_op_moves(void) {
    for (int32_t axis = 0; axis < 3; axis++) {
        OP2(4, 3, 5, axis == 0 ? 2 : 4, axis == 1 ? 6 : 3, axis == 2 ? 9 : 5,
            dls_net_concat(net, (const dls_val[]){a, b, a, b, b, a, a, b}, 8, axis));
        OP(6, 5, 7, dls_net_slice(net, x, axis, 1, 3));
    }
    OP(3, 3, 3, dls_net_concat(net, &x, 1, 2));
    OP(4, 3, 5, dls_net_pad(net, x, 1, 2, 3, 0, 0.75f));
    OP(4, 3, 10, dls_net_reshape(net, x, 2, 12, 5));
    for (int32_t i = 0; i < 3; i++) {
        OP(4, 3, 5, dls_net_transpose(net, x, i, (i + 1) % 3, (i + 2) % 3));
        OP(4, 3, 5, dls_net_transpose(net, x, i, (i + 2) % 3, (i + 1) % 3));
    }
    OP(4, 3, 5, dls_net_upsample(net, x, 3, false));
    OP(4, 3, 5, dls_net_upsample(net, x, 2, true));
    OP(1, 5, 3, dls_net_upsample(net, x, 4, true));
    OP(2, 2, 2, dls_net_upsample(net, x, 1, true));
}
static void test_op_split(void) {
    dls_val part[3];
    dls_net *net = dls_net_create(NULL);
    const dls_val x = dls_net_input(net, 2, 9, 4);
    CHECK_INT(dls_net_split(net, x, 1, 3, part), part[0]);
    CHECK_INT(dls_net_shape(net, part[2]).w, 3);
    (void)dls_net_mul(net, part[0], dls_net_add(net, part[1], part[2], DLS_ACT_NONE));
    op_check(net);
}
static void test_op_sequences(void) {
    dls_attention_desc d = {4, 0, false}, grouped = {4, 2, true}, one = {1, 0, true};
    dls_net *net = dls_net_create(NULL);
    const dls_val ids = dls_net_input_ids(net, 7);
    (void)dls_net_position(net, dls_net_embedding(net, ids, 13, 18));
    op_check(net);
    OP(6, 1, 12, dls_net_rope(net, x, 2, 0));
    OP(9, 1, 16, dls_net_rope(net, x, 1, 100.0f));
    OP(7, 1, 36, dls_net_attention_packed(net, x, &d));
    OP(70, 1, 24, dls_net_attention_packed(net, x, &grouped)); /* two blocks of queries */
    OP(5, 1, 21, dls_net_attention_packed(net, x, &one));
    OP2(5, 1, 8, 9, 1, 8, dls_net_attention(net, a, b, b, &d)); /* k and v are one value */
    OP2(6, 1, 8, 6, 1, 4, dls_net_attention(net, a, b, b, &grouped));
    OP2(6, 1, 8, 6, 1, 4,
        dls_net_attention(net, a, b, dls_net_act(net, b, DLS_ACT_TANH), &grouped));
    OP(5, 1, 9, dls_net_lstm(net, x, 7));
    OP(1, 1, 3, dls_net_lstm(net, x, 18));
    OP(6, 1, 9, dls_net_gru(net, x, 7));
    OP(1, 1, 20, dls_net_gru(net, x, 4));
}

/* TensorFlow's rule of same padding: an odd row or column goes to the end. */
static void test_op_same_padding(void) {
    dls_net *net = dls_net_create(NULL);
    const dls_val x = dls_net_input(net, 6, 5, 1);
    dls_exec *exec;
    dls_real *w;
    (void)op_conv(net, x, 1, 3, 3, 2, 2, 1, 1, 1, DLS_ACT_NONE);
    CHECK_INT(dls_net_shape(net, 1).h, 3);
    CHECK_INT(dls_net_shape(net, 1).w, 3);
    exec = op_exec(net, NULL);
    for (int32_t i = 0; i < 30; i++) ((dls_real *)dls_exec_input(exec, 0))[i] = 1;
    CHECK_STATUS(dlsi_net_need_params(net, true), DLS_OK);
    w = dls_net_params(net);
    for (int32_t i = 0; i < 9; i++) w[i] = 1;
    dls_net_touch(net);
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_OK);
    CHECK_NEAR(dls_exec_output(exec)[0], 6, 0); /* rows 0..2, columns -1..1 */
    CHECK_NEAR(dls_exec_output(exec)[1], 9, 0);
    CHECK_NEAR(dls_exec_output(exec)[8], 4, 0); /* rows 4..6, columns 3..5 */
    dls_exec_destroy(exec);
    dls_net_destroy(net);
}

/* ---- dropout ---- */

static void test_op_dropout(void) {
    dls_net *net = dls_net_create(NULL);
    dls_exec_desc desc;
    dls_exec *exec;
    static dls_real whole[8 * 500];
    const dls_real *y;
    size_t kept = 0, wrong = 0;
    (void)dls_net_dropout(net, dls_net_input(net, 1, 1, 500), 0.25f);
    memset(&desc, 0, sizeof desc);
    desc.batch = 8;
    desc.train = desc.input_grad = true;
    exec = op_exec(net, &desc);
    for (int32_t e = 0; e < 4000; e++) ((dls_real *)dls_exec_input(exec, 0))[e] = 3;
    CHECK_STATUS(dls_exec_forward_train(exec, 8, 77, 0, 0), DLS_OK);
    y = dls_exec_output(exec);
    memcpy(whole, y, sizeof whole);
    for (int32_t e = 0; e < 4000; e++) {
        kept += y[e] != 0;
        wrong += y[e] != 0 && fabs((double)y[e] - 4) > 1e-5;
    }
    CHECK_INT(wrong, 0);
    CHECK(kept > 2890 && kept < 3110); /* 3000, four deviations */
    for (int32_t e = 0; e < 4000; e++) dls_exec_output_grad(exec)[e] = 1;
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK); /* by the same mask */
    for (int32_t e = 0; e < 4000; e++)
        wrong += fabs((double)dls_exec_input_grad(exec, 0)[e] - (double)whole[e] / 3) > 1e-5;
    CHECK_INT(wrong, 0);
    for (int32_t e = 0; e < 4000; e++) ((dls_real *)dls_exec_input(exec, 0))[e] = 3;
    CHECK_STATUS(dls_exec_forward_train(exec, 3, 77, 5, 8), DLS_OK); /* samples 5, 6, 7 of 8 */
    CHECK(memcmp(dls_exec_output(exec), whole + 5 * 500, 1500 * sizeof(dls_real)) == 0);
    for (int32_t e = 0; e < 4000; e++) ((dls_real *)dls_exec_input(exec, 0))[e] = 3;
    CHECK_STATUS(dls_exec_forward_train(exec, 8, 78, 0, 0), DLS_OK); /* another step */
    CHECK(memcmp(dls_exec_output(exec), whole, sizeof whole) != 0);
    for (int32_t e = 0; e < 4000; e++) ((dls_real *)dls_exec_input(exec, 0))[e] = 3;
    CHECK_STATUS(dls_exec_forward(exec, 8), DLS_OK); /* not training: as it is */
    for (int32_t e = 0; e < 4000; e++) wrong += dls_exec_output(exec)[e] != 3;
    for (int32_t e = 0; e < 4000; e++) dls_exec_output_grad(exec)[e] = 2;
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    for (int32_t e = 0; e < 4000; e++) wrong += dls_exec_input_grad(exec, 0)[e] != 2;
    CHECK_INT(wrong, 0);
    dls_exec_destroy(exec);
    dls_net_destroy(net);
}

/* Statistics: backward writes the batch's mean and unbiased variance, times the batch's share. */
static void test_op_batchnorm_statistics(void) {
    dls_net *net = dls_net_create(NULL);
    dls_exec_desc desc;
    dls_exec *exec;
    size_t mean, variance;
    (void)dls_net_batchnorm(net, dls_net_input(net, 1, 1, 1), DLS_ACT_NONE);
    memset(&desc, 0, sizeof desc);
    desc.batch = 4;
    desc.train = true;
    exec = op_exec(net, &desc);
    for (int32_t e = 0; e < 4; e++) ((dls_real *)dls_exec_input(exec, 0))[e] = (dls_real)(e * e);
    CHECK_STATUS(dls_exec_forward_train(exec, 4, 0, 0, 8), DLS_OK); /* 0 1 4 9, half of 8 */
    for (int32_t e = 0; e < 4; e++) dls_exec_output_grad(exec)[e] = 0;
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    CHECK_STATUS(dls_net_param_of(net, 1, 2, NULL, &mean, NULL), DLS_OK);
    CHECK_STATUS(dls_net_param_of(net, 1, 3, NULL, &variance, NULL), DLS_OK);
    CHECK_NEAR(dls_exec_grads(exec)[mean], 3.5 / 2, 1e-5);
    CHECK_NEAR(dls_exec_grads(exec)[variance], 49.0 / 3 / 2, 1e-4);
    CHECK_STATUS(dls_exec_backward(exec, true), DLS_OK); /* added */
    CHECK_NEAR(dls_exec_grads(exec)[mean], 3.5, 1e-5);
    dls_exec_destroy(exec);
    dls_net_destroy(net);
}

static void test_op_softmax_of_logits(void) {
    dls_real z[4] = {1000, 1001, 999, -2000}, p[4];
    dls_softmax(z, 4, 1.0, p);
    CHECK_NEAR(p[0], 0.24472847, 1e-6);
    CHECK_NEAR(p[1], 0.66524096, 1e-6);
    CHECK_NEAR(p[3], 0, 1e-30);
    dls_softmax(z, 3, 2.0, z); /* in place, warmer */
    CHECK_NEAR(z[0], 0.30719589, 1e-6);
    CHECK_NEAR(z[0] + z[1] + z[2], 1, 1e-6);
}

/* ---- Rows ---- */

static void test_op_find(void) {
    static const struct {
        const char *name;
        const dls_op *(*row)(void);
    } rows[] = {
        {"input", dls_op_input},
        {"param", dls_op_param},
        {"conv2d", dls_op_conv2d},
        {"conv_transpose", dls_op_conv_transpose},
        {"linear", dls_op_linear},
        {"tied_linear", dls_op_tied_linear},
        {"matmul", dls_op_matmul},
        {"maxpool", dls_op_maxpool},
        {"avgpool", dls_op_avgpool},
        {"batchnorm", dls_op_batchnorm},
        {"groupnorm", dls_op_groupnorm},
        {"layernorm", dls_op_layernorm},
        {"rmsnorm", dls_op_rmsnorm},
        {"act", dls_op_act},
        {"softmax", dls_op_softmax},
        {"add", dls_op_add},
        {"mul", dls_op_mul},
        {"concat", dls_op_concat},
        {"slice", dls_op_slice},
        {"pad", dls_op_pad},
        {"reshape", dls_op_reshape},
        {"transpose", dls_op_transpose},
        {"upsample", dls_op_upsample},
        {"dropout", dls_op_dropout},
        {"embedding", dls_op_embedding},
        {"rope", dls_op_rope},
        {"attention", dls_op_attention},
        {"lstm", dls_op_lstm},
        {"gru", dls_op_gru},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const dls_op *op = dls_op_find(rows[i].name);
        CHECK(op != NULL && op == rows[i].row());
        if (op == NULL) continue;
        CHECK(strcmp(op->name, rows[i].name) == 0);
        CHECK(op->shape != NULL && op->inputs_min <= op->inputs_max);
        CHECK((op->forward == NULL) == (op->inputs_max == 0)); /* input and param alone */
        CHECK((op->pack != NULL) == (op->merge == DLS_MERGE_HEAD));
        CHECK((op->affine != NULL) == (op->merge == DLS_MERGE_NORM));
    }
    CHECK(dls_op_find("conv") == NULL);
    CHECK(dls_op_find("") == NULL);
    CHECK(dls_op_find("LINEAR") == NULL);
}

static void op_param(dls_val (*make)(dls_net *, dls_val), int32_t index, const char *name,
                     const int32_t *dim, unsigned flags) {
    dls_net *net = dls_net_create(NULL);
    const dls_val y = make(net, dls_net_input(net, 6, 1, 4));
    dls_param p;
    size_t at = 1, count = 0;
    CHECK_STATUS(dls_net_param_of(net, y, index, &p, &at, &count), DLS_OK);
    CHECK(strcmp(p.name, name) == 0);
    for (int32_t i = 0; i < 4; i++) CHECK_INT(p.dim[i], dim[i]);
    CHECK_INT(count, dim[0] * dim[1] * dim[2] * dim[3]);
    CHECK_INT(at % 16, 0);
    CHECK_INT(p.flags, flags);
    CHECK(at + count <= dls_net_param_count(net));
    dls_net_destroy(net);
}
static dls_val op_make_conv(dls_net *net, dls_val x) {
    return op_conv(net, x, 5, 3, 2, 1, 1, 1, 1, 1, DLS_ACT_NONE);
}
static dls_val op_make_convt(dls_net *net, dls_val x) {
    return op_convt(net, x, 5, 3, 1, -1, 0, DLS_ACT_NONE);
}
static dls_val op_make_linear(dls_net *net, dls_val x) {
    return dls_net_linear(net, x, 7, DLS_ACT_NONE);
}
static dls_val op_make_norm(dls_net *net, dls_val x) {
    return dls_net_batchnorm(net, x, DLS_ACT_NONE);
}
static dls_val op_make_lstm(dls_net *net, dls_val x) { return dls_net_lstm(net, x, 3); }
static dls_val op_make_gru(dls_net *net, dls_val x) { return dls_net_gru(net, x, 3); }
static void test_op_params(void) {
    op_param(op_make_conv, 0, "weight", (const int32_t[]){3, 2, 4, 5}, 0);
    op_param(op_make_conv, 1, "bias", (const int32_t[]){1, 1, 1, 5}, DLS_PARAM_NO_DECAY);
    op_param(op_make_convt, 0, "weight", (const int32_t[]){3, 3, 5, 4}, 0);
    op_param(op_make_convt, 1, "bias", (const int32_t[]){1, 1, 1, 5}, DLS_PARAM_NO_DECAY);
    op_param(op_make_linear, 0, "weight", (const int32_t[]){1, 1, 4, 7}, 0);
    op_param(op_make_norm, 3, "variance", (const int32_t[]){1, 1, 1, 4},
             DLS_PARAM_NO_DECAY | DLS_PARAM_STATISTIC);
    op_param(op_make_lstm, 1, "weight_h", (const int32_t[]){1, 1, 3, 12}, 0);
    op_param(op_make_gru, 3, "bias_n", (const int32_t[]){1, 1, 1, 3}, DLS_PARAM_NO_DECAY);
}

/* ---- Refusals ---- */

static void op_refused(dls_net *net, dls_val made, int line, const char *expression,
                       dls_status status, const char *where, const char *what) {
    char text[256] = "no error";
    const dls_error *error = dls_net_error(net);
    (void)dls_error_text(error, text, sizeof text);
    test_checks++;
    if (made >= 0 || dls_net_status(net) != status || strstr(text, where) == NULL ||
        strstr(text, what) == NULL)
        test_report(__FILE__, line, "%s: %d, %s", expression, made, text);
    CHECK(dls_net_act(net, 0, DLS_ACT_RELU) < 0); /* sticky */
    CHECK_STATUS(dls_net_status(net), status);
    CHECK_INT(dls_exec_size(net, NULL), 0);
    dls_net_destroy(net);
}
/* make: an expression of net; x: 6 x 6 x 4, s: a sequence 5 x 1 x 12, ids: 5 ids, p: a parameter
   of x's form. */
#define REFUSED(status, where, what, make)                                                         \
    do {                                                                                           \
        dls_net *net = dls_net_create(NULL);                                                       \
        const dls_val x = dls_net_input(net, 6, 6, 4), s = dls_net_input(net, 5, 1, 12);           \
        const dls_val ids = dls_net_input_ids(net, 5), p = dls_net_param(net, 6, 6, 4, 0);         \
        (void)x, (void)s, (void)ids, (void)p;                                                      \
        op_refused(net, make, __LINE__, #make, status, where, what);                               \
    } while (0)

/* A node with these attributes, past what the builders would make. */
static dls_val op_raw(dls_net *net, const dls_op *op, dls_val x, int32_t i0, int32_t i7, float f0,
                      float f1) {
    dls_attr a;
    memset(&a, 0, sizeof a);
    a.i[0] = i0;
    a.i[DLS_ATTR_ACT] = i7;
    a.f[0] = f0;
    a.f[1] = f1;
    return dls_net_op(net, op, &x, 1, &a);
}

static void test_op_refuses_inputs(void) {
    dls_attr odd = {{4, 4, 4, 7, 0, 0, 0, 0}, {0, 0}};
    REFUSED(DLS_E_SHAPE, "node 4 (input)", "axes 0 x 3 x 1", dls_net_input(net, 0, 3, 1));
    REFUSED(DLS_E_SHAPE, "(input)", "-2", dls_net_input(net, 3, -2, 1));
    REFUSED(DLS_E_SHAPE, "(input)", "65536 x 65536", dls_net_input(net, 65536, 65536, 1));
    REFUSED(DLS_E_SHAPE, "(input)", "not too many", dls_net_input(net, 46341, 46341, 1));
    REFUSED(DLS_E_SHAPE, "(input)", "2147483647", dls_net_input(net, 1, 1, INT32_MAX));
    REFUSED(DLS_E_SHAPE, "(input)", "axes", dls_net_input_ids(net, 0));
    REFUSED(DLS_E_ARG, "(input)", "dtype 7", dls_net_op(net, dls_op_input(), NULL, 0, &odd));
    REFUSED(DLS_E_SHAPE, "(param)", "axes", dls_net_param(net, 3, 0, 3, 0.1f));
    REFUSED(DLS_E_ARG, "", "'linear' does not take 0 inputs",
            dls_net_op(net, dls_op_linear(), NULL, 0, NULL));
    REFUSED(DLS_E_ARG, "", "'NULL' does not take", dls_net_op(net, NULL, &x, 1, NULL));
    REFUSED(DLS_E_ARG, "", "input 0 of 'act'", dls_net_act(net, 99, DLS_ACT_RELU));
    REFUSED(DLS_E_ARG, "", "(-1)", dls_net_softmax(net, DLS_VAL_NONE));
    REFUSED(DLS_E_ARG, "", "input 1 of 'add'", dls_net_add(net, x, 50, DLS_ACT_NONE));
}
static void test_op_refuses_kinds(void) { /* integers and parameters, where reals are needed */
    static const dls_val bad_of[2] = {2, 3};
    for (int32_t k = 0; k < 2; k++) {
        const dls_val bad = bad_of[k]; /* ids, p */
        const char *what = k == 0 ? "integers" : "parameter can only";
        const dls_attention_desc d = {1, 0, false};
        REFUSED(DLS_E_SHAPE, "node 4 (linear)", what, dls_net_linear(net, bad, 3, DLS_ACT_NONE));
        REFUSED(DLS_E_SHAPE, "(conv2d)", what, dls_net_conv2d(net, bad, 3, 1, DLS_ACT_NONE));
        REFUSED(DLS_E_SHAPE, "(conv_transpose)", what, op_convt(net, bad, 3, 1, 1, 0, 0, 0));
        REFUSED(DLS_E_SHAPE, "(tied_linear)", what, dls_net_tied_linear(net, bad, x));
        REFUSED(DLS_E_SHAPE, "(matmul)", what, dls_net_matmul(net, bad, bad, false));
        REFUSED(DLS_E_SHAPE, "(maxpool)", what, dls_net_maxpool(net, bad, 1));
        REFUSED(DLS_E_SHAPE, "(avgpool)", what, dls_net_global_avgpool(net, bad));
        REFUSED(DLS_E_SHAPE, "(batchnorm)", what, dls_net_batchnorm(net, bad, DLS_ACT_NONE));
        REFUSED(DLS_E_SHAPE, "(groupnorm)", what, dls_net_groupnorm(net, bad, 1, DLS_ACT_NONE));
        REFUSED(DLS_E_SHAPE, "(layernorm)", what, dls_net_layernorm(net, bad));
        REFUSED(DLS_E_SHAPE, "(rmsnorm)", what, dls_net_rmsnorm(net, bad));
        REFUSED(DLS_E_SHAPE, "(act)", what, dls_net_act(net, bad, DLS_ACT_RELU));
        REFUSED(DLS_E_SHAPE, "(softmax)", what, dls_net_softmax(net, bad));
        REFUSED(DLS_E_SHAPE, "(concat)", what, dls_net_concat(net, &bad, 1, 0));
        REFUSED(DLS_E_SHAPE, "(slice)", what, dls_net_slice(net, bad, 0, 0, 1));
        REFUSED(DLS_E_SHAPE, "(pad)", what, dls_net_pad(net, bad, 0, 0, 0, 0, 0));
        REFUSED(DLS_E_SHAPE, "(reshape)", what, dls_net_reshape(net, bad, 1, 1, 5));
        REFUSED(DLS_E_SHAPE, "(transpose)", what, dls_net_transpose(net, bad, 0, 1, 2));
        REFUSED(DLS_E_SHAPE, "(upsample)", what, dls_net_upsample(net, bad, 1, false));
        REFUSED(DLS_E_SHAPE, "(dropout)", what, dls_net_dropout(net, bad, 0.5f));
        REFUSED(DLS_E_SHAPE, "(rope)", what, dls_net_rope(net, bad, 1, 0));
        REFUSED(DLS_E_SHAPE, "(attention)", what, dls_net_attention_packed(net, bad, &d));
        REFUSED(DLS_E_SHAPE, "(lstm)", what, dls_net_lstm(net, bad, 3));
        REFUSED(DLS_E_SHAPE, "(gru)", what, dls_net_gru(net, bad, 3));
    }
    REFUSED(DLS_E_SHAPE, "(add)", "integers", dls_net_add(net, ids, ids, DLS_ACT_NONE));
    REFUSED(DLS_E_SHAPE, "(add)", "both are parameters", dls_net_add(net, p, p, DLS_ACT_NONE));
    REFUSED(DLS_E_SHAPE, "(mul)", "operands differ: 6 and 5 rows", dls_net_mul(net, x, s));
    REFUSED(DLS_E_SHAPE, "(add)", "operands differ", dls_net_add(net, s, p, DLS_ACT_NONE));
    REFUSED(DLS_E_SHAPE, "(embedding)", "from input_ids", dls_net_embedding(net, x, 3, 3));
}
static void test_op_refuses_products(void) {
    dls_attr more = {{7, 0, 0, 0, 0, 0, 0, 0}, {0, 0}};
    dls_val in[2] = {1, 0};
    REFUSED(DLS_E_ARG, "(linear)", "0 units on 12", dls_net_linear(net, s, 0, DLS_ACT_NONE));
    REFUSED(DLS_E_ARG, "(linear)", "-1 units", dls_net_dense(net, x, -1, DLS_ACT_NONE));
    REFUSED(DLS_E_ARG, "(linear)", "too many", dls_net_linear(net, s, INT32_MAX, DLS_ACT_NONE));
    REFUSED(DLS_E_ARG, "(linear)", "activation 4 cannot be fused",
            op_raw(net, dls_op_linear(), s, 3, DLS_ACT_SIGMOID, 0, 0));
    REFUSED(DLS_E_ARG, "(linear)", "activation 200", op_raw(net, dls_op_linear(), s, 3, 200, 0, 0));
    REFUSED(DLS_E_SHAPE, "(tied_linear)", "12 channels, but the tied table has 4",
            dls_net_tied_linear(net, s, x));
    REFUSED(DLS_E_ARG, "(tied_linear)", "vocabulary of 0",
            (in[1] = 1, more.i[0] = 0, dls_net_op(net, dls_op_tied_linear(), in, 2, &more)));
    REFUSED(DLS_E_SHAPE, "(tied_linear)", "no table",
            (more.i[0] = 7, dls_net_op(net, dls_op_tied_linear(), in, 2, &more)));
    REFUSED(DLS_E_SHAPE, "node 5 (tied_linear)", "no table of the right size",
            (in[1] = dls_net_embedding(net, ids, 8, 12),
             dls_net_op(net, dls_op_tied_linear(), in, 2, &more)));
    REFUSED(DLS_E_ARG, "", "input 1 of 'tied_linear'", dls_net_tied_linear(net, s, 77));
    REFUSED(DLS_E_SHAPE, "(matmul)", "inner axes 4 and 6", dls_net_matmul(net, x, x, false));
    REFUSED(DLS_E_SHAPE, "(matmul)", "rows (6 of a)", dls_net_matmul(net, x, s, true));
    REFUSED(DLS_E_SHAPE, "(matmul)", "too large",
            dls_net_matmul(net, dls_net_input(net, 1, 65536, 1), dls_net_input(net, 1, 65536, 1),
                           true));
    REFUSED(DLS_E_ARG, "(embedding)", "0 x 3", dls_net_embedding(net, ids, 0, 3));
    REFUSED(DLS_E_ARG, "(embedding)", "too large", dls_net_embedding(net, ids, 1 << 20, 1 << 20));
    REFUSED(DLS_E_ARG, "(embedding)", "3 x -1", dls_net_embedding(net, ids, 3, -1));
}
static dls_val op_conv_bad(dls_net *net, dls_val x, int32_t what) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = 8;
    switch (what) {
    case 0: d.pad = DLS_PAD_EXPLICIT, d.pad_top = -1; break;
    case 1: d.pad = DLS_PAD_EXPLICIT, d.pad_right = 32768; break;
    case 2: d.pad = DLS_PAD_VALID, d.kernel_h = 7; break;
    case 3: d.pad = DLS_PAD_VALID, d.kernel_h = 3, d.dilation_h = 3; break;
    case 4: d.stride_h = -2; break;
    case 5: d.dilation_w = -2; break;
    case 6: d.groups = 3; break;
    case 7: d.groups = -1; break;
    case 8: d.channels = 9, d.groups = 2; break;
    case 9: d.channels = 0; break;
    case 10: d.kernel_h = 1025, d.pad = DLS_PAD_SAME; break;
    case 11: d.channels = INT32_MAX; break;
    case 12: d.stride_h = INT32_MAX; break;
    case 13: d.kernel_h = INT32_MAX; break;
    case 14: d.channels = 1 << 25, d.kernel_h = 1; break; /* weights fit, the output does not */
    default: d.dilation_h = INT32_MAX; break;
    }
    return dls_net_conv2d_desc(net, x, &d);
}
static dls_val op_convt_bad(dls_net *net, dls_val x, int32_t what) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = 8;
    d.kernel_h = 3;
    d.stride_h = 2;
    d.pad = DLS_PAD_EXPLICIT;
    switch (what) {
    case 0: d.groups = 2; break;
    case 1: d.output_pad_h = 2; break;
    case 2: d.output_pad_w = 2; break;
    case 3: d.output_pad_h = 256; break; /* must not spill into another field */
    case 4: d.output_pad_w = -1; break;
    case 5: d.pad_top = 20; break;
    case 6: d.output_pad_w = 128; break;
    default: d.kernel_h = 1, d.stride_h = 400, d.pad = DLS_PAD_SAME; break;
    }
    return dls_net_conv_transpose(net, x, &d);
}
static void test_op_refuses_convolutions(void) {
    REFUSED(DLS_E_ARG, "node 4 (conv2d)", "kernel", dls_net_conv2d(net, x, 8, 0, DLS_ACT_NONE));
    REFUSED(DLS_E_ARG, "(conv2d)", "kernel", dls_net_conv2d(net, x, 8, -3, DLS_ACT_NONE));
    REFUSED(DLS_E_ARG, "(conv2d)", "stride", dls_net_depthwise(net, x, 3, 0, DLS_ACT_NONE));
    REFUSED(DLS_E_ARG, "(conv2d)", "kernel", op_conv_bad(net, x, 0));
    REFUSED(DLS_E_ARG, "(conv2d)", "kernel", op_conv_bad(net, x, 1));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "does not fit in 6 x 6", op_conv_bad(net, x, 2));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "does not fit in 6 x 6", op_conv_bad(net, x, 3));
    REFUSED(DLS_E_ARG, "(conv2d)", "stride", op_conv_bad(net, x, 4));
    REFUSED(DLS_E_ARG, "(conv2d)", "dilation", op_conv_bad(net, x, 5));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "3 groups must divide 4", op_conv_bad(net, x, 6));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "-1 groups", op_conv_bad(net, x, 7));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "2 groups must divide 4 input and 9", op_conv_bad(net, x, 8));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "0 output channels", op_conv_bad(net, x, 9));
    REFUSED(DLS_E_ARG, "(conv2d)", "at most 1024", op_conv_bad(net, x, 10));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "too many weights", op_conv_bad(net, x, 11));
    REFUSED(DLS_E_ARG, "(conv2d)", "stride", op_conv_bad(net, x, 12));
    REFUSED(DLS_E_ARG, "(conv2d)", "kernel", op_conv_bad(net, x, 13));
    REFUSED(DLS_E_SHAPE, "(conv2d)", "output is too large", op_conv_bad(net, x, 14));
    REFUSED(DLS_E_ARG, "(conv2d)", "dilation", op_conv_bad(net, x, 15));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "groups must be 1 (have 2)", op_convt_bad(net, x, 0));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "output padding", op_convt_bad(net, x, 1));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "output padding", op_convt_bad(net, x, 2));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "", op_convt_bad(net, x, 3));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "", op_convt_bad(net, x, 4));
    REFUSED(DLS_E_SHAPE, "(conv_transpose)", "does not fit", op_convt_bad(net, x, 5));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "", op_convt_bad(net, x, 6));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "", op_convt_bad(net, x, 7));
    REFUSED(DLS_E_ARG, "(conv_transpose)", "kernel", op_convt(net, x, 3, -1, 1, 0, 0, 0));
}
static dls_val op_pool_bad(dls_net *net, dls_val x, int32_t what) {
    dls_pool2d_desc d;
    memset(&d, 0, sizeof d);
    d.kernel_h = 3;
    d.pad = DLS_PAD_EXPLICIT;
    switch (what) {
    case 0: d.pad_top = 3; break;
    case 1: d.pad_left = -1; break;
    case 2: d.pad_bottom = 65537; break; /* must not be taken for 1 */
    case 3: d.stride_h = -1; break;
    case 4: d.stride_h = INT32_MAX, d.pad = DLS_PAD_SAME, d.same = true; break;
    default: d.kernel_h = INT32_MAX, d.pad = DLS_PAD_SAME, d.same = true; break;
    }
    return dls_net_maxpool_desc(net, x, &d);
}
static void test_op_refuses_pools(void) {
    REFUSED(DLS_E_SHAPE, "(maxpool)", "window of 7 x 7", dls_net_maxpool(net, x, 7));
    REFUSED(DLS_E_SHAPE, "(maxpool)", "window of 0 x 0", dls_net_maxpool(net, x, 0));
    REFUSED(DLS_E_SHAPE, "(avgpool)", "window of", dls_net_avgpool(net, x, -4));
    for (int32_t what = 0; what < 6; what++)
        REFUSED(DLS_E_SHAPE, "(maxpool)", "window", op_pool_bad(net, x, what));
}
static void test_op_refuses_norms(void) {
    const float nan = dlsi_bits_float(0x7FC00000u);
    REFUSED(DLS_E_ARG, "(batchnorm)", "eps", op_raw(net, dls_op_batchnorm(), x, 0, 0, 0, 0.1f));
    REFUSED(DLS_E_ARG, "(batchnorm)", "share", op_raw(net, dls_op_batchnorm(), x, 0, 0, 1, 1.5f));
    REFUSED(DLS_E_ARG, "(batchnorm)", "share", op_raw(net, dls_op_batchnorm(), x, 0, 0, 1, nan));
    REFUSED(DLS_E_ARG, "(batchnorm)", "fused", op_raw(net, dls_op_batchnorm(), x, 0, 5, 1, 0));
    REFUSED(DLS_E_SHAPE, "(groupnorm)", "3 groups must divide 4",
            dls_net_groupnorm(net, x, 3, DLS_ACT_NONE));
    REFUSED(DLS_E_SHAPE, "(groupnorm)", "0 groups", dls_net_groupnorm(net, x, 0, DLS_ACT_NONE));
    REFUSED(DLS_E_SHAPE, "(groupnorm)", "eps", op_raw(net, dls_op_groupnorm(), x, 2, 0, nan, 0));
    REFUSED(DLS_E_ARG, "(groupnorm)", "fused", op_raw(net, dls_op_groupnorm(), x, 2, 9, 1, 0));
    REFUSED(DLS_E_ARG, "(layernorm)", "eps", op_raw(net, dls_op_layernorm(), x, 0, 0, 0, 0));
    REFUSED(DLS_E_ARG, "(rmsnorm)", "eps", op_raw(net, dls_op_rmsnorm(), x, 0, 0, -1, 0));
    REFUSED(DLS_E_ARG, "(act)", "no activation 11", dls_net_act(net, x, DLS_ACT_COUNT));
    REFUSED(DLS_E_ARG, "(act)", "no activation -1", op_raw(net, dls_op_act(), x, 0, -1, 0, 0));
    REFUSED(DLS_E_ARG, "(act)", "slope", dls_net_leaky(net, x, -0.5f));
    REFUSED(DLS_E_ARG, "(act)", "slope", dls_net_leaky(net, x, nan));
    REFUSED(DLS_E_ARG, "(dropout)", "probability", dls_net_dropout(net, x, 1.0f));
    REFUSED(DLS_E_ARG, "(dropout)", "probability", dls_net_dropout(net, x, -0.1f));
    REFUSED(DLS_E_ARG, "(dropout)", "probability", dls_net_dropout(net, x, nan));
}
static void test_op_refuses_moves(void) {
    dls_val two[2] = {0, 1}, part[4];
    REFUSED(DLS_E_ARG, "(concat)", "axis 3", dls_net_concat(net, &x, 1, 3));
    REFUSED(DLS_E_ARG, "(concat)", "axis -1", dls_net_concat(net, &x, 1, -1));
    REFUSED(DLS_E_SHAPE, "(concat)", "input 1 differs", dls_net_concat(net, two, 2, 0));
    REFUSED(DLS_E_ARG, "", "1 to 64 values, not 0", dls_net_concat(net, two, 0, 0));
    REFUSED(DLS_E_ARG, "", "not 65", dls_net_concat(net, two, 65, 0));
    REFUSED(DLS_E_SHAPE, "(concat)", "too large",
            (two[0] = two[1] = dls_net_input(net, 1, 1, 1 << 30), dls_net_concat(net, two, 2, 2)));
    REFUSED(DLS_E_ARG, "(slice)", "axis 3", dls_net_slice(net, x, 3, 0, 1));
    REFUSED(DLS_E_SHAPE, "(slice)", "4 from 3 is not inside an axis of 6",
            dls_net_slice(net, x, 0, 3, 4));
    REFUSED(DLS_E_SHAPE, "(slice)", "from -1", dls_net_slice(net, x, 1, -1, 2));
    REFUSED(DLS_E_SHAPE, "(slice)", "0 from", dls_net_slice(net, x, 2, 0, 0));
    REFUSED(DLS_E_SHAPE, "(slice)", "", dls_net_slice(net, x, 2, INT32_MAX, INT32_MAX));
    REFUSED(DLS_E_SHAPE, "", "axis of 4 does not split in 3", dls_net_split(net, x, 2, 3, part));
    REFUSED(DLS_E_SHAPE, "", "0 equal", dls_net_split(net, x, 2, 0, part));
    REFUSED(DLS_E_ARG, "(slice)", "axis 7", dls_net_split(net, x, 7, 1, part));
    REFUSED(DLS_E_ARG, "(pad)", "padding -1", dls_net_pad(net, x, 0, -1, 0, 0, 0));
    REFUSED(DLS_E_ARG, "(pad)", "too large", dls_net_pad(net, x, INT32_MAX, 0, 0, 0, 0));
    REFUSED(DLS_E_SHAPE, "(pad)", "too large", dls_net_pad(net, x, 99999, 9999, 0, 0, 0));
    REFUSED(DLS_E_SHAPE, "(reshape)", "3 x 3 x 15", dls_net_reshape(net, x, 3, 3, 15));
    REFUSED(DLS_E_SHAPE, "(reshape)", "-12", dls_net_reshape(net, x, -12, -12, 1));
    REFUSED(DLS_E_ARG, "(transpose)", "0, 0, 2", dls_net_transpose(net, x, 0, 0, 2));
    REFUSED(DLS_E_ARG, "(transpose)", "0, 1, 3", dls_net_transpose(net, x, 0, 1, 3));
    REFUSED(DLS_E_ARG, "(transpose)", "-1", dls_net_transpose(net, x, -1, 1, 2));
    REFUSED(DLS_E_ARG, "(upsample)", "factor 0", dls_net_upsample(net, x, 0, false));
    REFUSED(DLS_E_ARG, "(upsample)", "factor 1025", dls_net_upsample(net, x, 1025, true));
    REFUSED(DLS_E_ARG, "(upsample)", "too large",
            dls_net_upsample(net, dls_net_input(net, 4096, 4096, 1), 1024, false));
}
static dls_val op_att(dls_net *net, dls_val q, dls_val k, dls_val v, int32_t heads, int32_t kv,
                      bool causal) {
    dls_attention_desc d;
    d.heads = heads;
    d.kv_heads = kv;
    d.causal = causal;
    return k < 0 ? dls_net_attention_packed(net, q, &d) : dls_net_attention(net, q, k, v, &d);
}
static void test_op_refuses_sequences(void) {
    dls_val two[2] = {1, 1};
    dls_attr a = {{2, 2, 0, 0, 0, 0, 0, 0}, {0, 0}};
    REFUSED(DLS_E_SHAPE, "(rope)", "5 heads on 12", dls_net_rope(net, s, 5, 0));
    REFUSED(DLS_E_SHAPE, "(rope)", "must be even", dls_net_rope(net, s, 4, 0));
    REFUSED(DLS_E_SHAPE, "(rope)", "base", dls_net_rope(net, s, 2, 0.5f));
    REFUSED(DLS_E_SHAPE, "(rope)", "width 1", dls_net_rope(net, x, 2, 0));
    REFUSED(DLS_E_SHAPE, "(rope)", "0 heads", dls_net_rope(net, s, 0, 0));
    REFUSED(DLS_E_ARG, "(attention)", "-1 query heads", op_att(net, s, -1, -1, -1, 0, false));
    REFUSED(DLS_E_ARG, "(attention)", "3 key heads", op_att(net, s, -1, -1, 4, 3, false));
    REFUSED(DLS_E_ARG, "(attention)", "-4 key", op_att(net, s, -1, -1, 4, -4, false));
    REFUSED(DLS_E_ARG, "(attention)", "65537", op_att(net, s, -1, -1, 65537, 1, false));
    REFUSED(DLS_E_SHAPE, "(attention)", "width must be 1", op_att(net, x, -1, -1, 1, 1, false));
    REFUSED(DLS_E_SHAPE, "(attention)", "have 12", op_att(net, s, -1, -1, 3, 3, false));
    REFUSED(DLS_E_SHAPE, "(attention)", "channels are not", op_att(net, s, s, s, 4, 2, false));
    REFUSED(DLS_E_SHAPE, "(attention)", "causal t differs",
            (two[0] = dls_net_input(net, 6, 1, 12), op_att(net, two[0], s, s, 4, 4, true)));
    REFUSED(DLS_E_SHAPE, "(attention)", "channels",
            (two[0] = dls_net_input(net, 6, 1, 12), op_att(net, s, two[0], s, 4, 4, false)));
    REFUSED(DLS_E_SHAPE, "(attention)", "channels",
            (two[0] = s, dls_net_op(net, dls_op_attention(), two, 2, &a)));
    REFUSED(DLS_E_ARG, "(lstm)", "0 hidden units", dls_net_lstm(net, s, 0));
    REFUSED(DLS_E_ARG, "(lstm)", "too many", dls_net_lstm(net, s, INT32_MAX));
    REFUSED(DLS_E_ARG, "(lstm)", "width", dls_net_lstm(net, x, 3));
    REFUSED(DLS_E_ARG, "(gru)", "-3 hidden units", dls_net_gru(net, s, -3));
    REFUSED(DLS_E_ARG, "(gru)", "too many", dls_net_gru(net, s, 1 << 30));
    REFUSED(DLS_E_ARG, "(gru)", "width", dls_net_gru(net, x, 3));
}

/* Shapes a hostile file may name: legal, but too large to run here. Planning must answer. */
static void test_op_enormous_shapes(void) {
    dls_net *net = dls_net_create(NULL);
    dls_exec_desc desc;
    memset(&desc, 0, sizeof desc);
    (void)op_conv(net, dls_net_input(net, 1, 1, (1 << 30) - 1), 1, 1, 1, 2, 2, 1, 1, 1, 0);
    CHECK_STATUS(dls_net_status(net), DLS_OK);
    CHECK(dls_exec_size(net, NULL) > (size_t)1 << 32);
    dls_net_destroy(net);
    net = dls_net_create(NULL); /* 256 taps of 4 channels along 2^22 columns */
    (void)op_conv(net, dls_net_input(net, 1, 1 << 22, 4), 1, 16, 16, 1, 1, 1, 1, 1, 0);
    CHECK_STATUS(dls_net_status(net), DLS_OK);
    CHECK(dls_exec_size(net, NULL) > (size_t)1 << 30);
    desc.train = true;
    CHECK(dls_exec_size(net, &desc) > (size_t)1 << 30);
    desc.batch = INT32_MAX; /* rows of all samples would not be an int32 */
    CHECK_INT(dls_exec_size(net, &desc), 0);
    CHECK_STATUS(dls_net_error(net)->status, DLS_E_LIMIT);
    dls_net_destroy(net);
    net = dls_net_create(NULL);
    (void)dls_net_linear(net, dls_net_input(net, 4, 1, 4), 4, DLS_ACT_NONE);
    desc.batch = 1 << 29;
    CHECK_INT(dls_exec_size(net, &desc), 0);
    CHECK_STATUS(dls_net_error(net)->status, DLS_E_LIMIT);
    dls_net_destroy(net);
}

static void op_tests(void) {
    RUN(op_linear);
    RUN(op_tied_linear);
    RUN(op_matmul);
    RUN(op_conv2d);
    RUN(op_depthwise);
    RUN(op_conv_transpose);
    RUN(op_convt_shapes);
    RUN(op_pools);
    RUN(op_norms);
    RUN(op_activations);
    RUN(op_add_mul);
    RUN(op_moves);
    RUN(op_split);
    RUN(op_sequences);
    RUN(op_same_padding);
    RUN(op_dropout);
    RUN(op_batchnorm_statistics);
    RUN(op_softmax_of_logits);
    RUN(op_find);
    RUN(op_params);
    RUN(op_refuses_inputs);
    RUN(op_refuses_kinds);
    RUN(op_refuses_products);
    RUN(op_refuses_convolutions);
    RUN(op_refuses_pools);
    RUN(op_refuses_norms);
    RUN(op_refuses_moves);
    RUN(op_refuses_sequences);
    RUN(op_enormous_shapes);
}
