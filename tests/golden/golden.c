/* golden: forward results, gradients, losses, optimisers and learning rates against what PyTorch
   computed in double (ops.gold, loss.gold, train.gold, made by make_golden.py). Compiled twice: the
   DLS_REAL64 build must agree to the last digits, the float build on every instruction set, strict
   or not, merged or not, to float's. Argument "-v" prints the greatest distances. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

#include "golden/gold.h"

#define REAL (DLS_REAL64 != 0)
static double golden_worst; /* of the present test, for -v */
static int golden_verbose;

static void golden_check(const gold *g, const dls_real *x, double tolerance, const char *what,
                         int index, const char *how) {
    const double far = gold_far(g, x);
    test_checks++;
    if (far > golden_worst) golden_worst = far;
    if (!(far <= tolerance))
        test_report("golden.c", 0, "%s%d (%s) is off by %.3g, allowed %.3g", what, index, how, far,
                    tolerance);
}

/* ---- Networks of one op, in the order of make_golden.py ---- */

static dls_val in(dls_net *net, int32_t h, int32_t w, int32_t c) {
    return dls_net_input(net, h, w, c);
}
#define NET(name) static dls_val net_##name(dls_net *n)

NET(linear) { return dls_net_linear(n, in(n, 3, 2, 7), 9, DLS_ACT_NONE); }
NET(linear_no_bias) { return dls_net_linear_no_bias(n, in(n, 3, 1, 17), 5, DLS_ACT_NONE); }
NET(dense_relu) { return dls_net_dense(n, in(n, 2, 3, 4), 19, DLS_ACT_RELU); }
NET(dense_gelu) { return dls_net_dense(n, in(n, 1, 1, 6), 5, DLS_ACT_GELU); }
NET(matmul) {
    const dls_val a = in(n, 3, 4, 5);
    return dls_net_matmul(n, a, in(n, 3, 5, 6), false);
}
NET(matmul_transposed) {
    const dls_val a = in(n, 2, 4, 5);
    return dls_net_matmul(n, a, in(n, 2, 3, 5), true);
}

static dls_val conv(dls_net *n, dls_val x, int32_t channels, int32_t kh, int32_t kw, int32_t stride,
                    dls_conv_desc d) {
    d.channels = channels;
    d.kernel_h = kh;
    d.kernel_w = kw;
    d.stride_h = stride;
    return dls_net_conv2d_desc(n, x, &d);
}
static dls_conv_desc same(void) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    return d;
}
static dls_conv_desc valid(void) {
    dls_conv_desc d = same();
    d.pad = DLS_PAD_VALID;
    return d;
}
static dls_conv_desc pads(int32_t top, int32_t left, int32_t bottom, int32_t right) {
    dls_conv_desc d = same();
    d.pad = DLS_PAD_EXPLICIT;
    d.pad_top = top;
    d.pad_left = left;
    d.pad_bottom = bottom;
    d.pad_right = right;
    return d;
}
NET(conv_same) { return dls_net_conv2d(n, in(n, 6, 5, 3), 4, 3, DLS_ACT_NONE); }
NET(conv_relu) { return dls_net_conv2d(n, in(n, 9, 9, 8), 8, 3, DLS_ACT_RELU); }
NET(conv_stride_same) { return conv(n, in(n, 7, 6, 3), 5, 3, 3, 2, same()); }
NET(conv_valid_5x5) { return conv(n, in(n, 8, 7, 1), 6, 5, 5, 1, valid()); }
NET(conv_explicit) {
    dls_conv_desc d = pads(2, 0, 1, 1);
    d.stride_w = 1;
    return conv(n, in(n, 6, 7, 2), 3, 3, 2, 2, d);
}
NET(conv_dilated) {
    dls_conv_desc d = valid();
    d.dilation_h = 2;
    d.dilation_w = 3;
    return conv(n, in(n, 9, 8, 3), 4, 3, 3, 1, d);
}
NET(conv_groups) {
    dls_conv_desc d = same();
    d.groups = 2;
    return conv(n, in(n, 5, 5, 6), 8, 3, 3, 1, d);
}
NET(conv_1x1) {
    dls_conv_desc d = same();
    d.no_bias = true;
    return conv(n, in(n, 4, 4, 9), 17, 1, 1, 1, d);
}
NET(conv_1x1_stride) { return conv(n, in(n, 5, 4, 3), 4, 1, 1, 2, same()); }
NET(depthwise) { return dls_net_depthwise(n, in(n, 6, 6, 9), 3, 1, DLS_ACT_NONE); }
NET(depthwise_relu6) { return dls_net_depthwise(n, in(n, 7, 7, 5), 3, 2, DLS_ACT_RELU6); }
NET(depthwise_dilated) {
    dls_conv_desc d = same();
    d.groups = 4;
    d.dilation_h = 2;
    return conv(n, in(n, 9, 9, 4), 4, 3, 3, 1, d);
}
NET(conv_multiplier) {
    dls_conv_desc d = same();
    d.groups = 3;
    return conv(n, in(n, 5, 5, 3), 6, 3, 3, 1, d);
}
static dls_val convt(dls_net *n, dls_val x, int32_t channels, int32_t kh, int32_t kw,
                     dls_conv_desc d) {
    d.channels = channels;
    d.kernel_h = kh;
    d.kernel_w = kw;
    return dls_net_conv_transpose(n, x, &d);
}
NET(convt_same) {
    dls_conv_desc d = same();
    d.stride_h = 2;
    return convt(n, in(n, 3, 4, 3), 5, 3, 3, d);
}
NET(convt_padded) {
    dls_conv_desc d = pads(1, 1, 1, 1);
    d.stride_h = 2;
    d.output_pad_h = d.output_pad_w = 1;
    return convt(n, in(n, 4, 3, 2), 3, 3, 3, d);
}
NET(convt_dilated) {
    dls_conv_desc d = valid();
    d.stride_w = 2;
    d.dilation_h = 2;
    return convt(n, in(n, 4, 4, 3), 2, 3, 2, d);
}

static dls_pool2d_desc window(int32_t kh, int32_t kw, int32_t stride, int32_t pad) {
    dls_pool2d_desc d;
    memset(&d, 0, sizeof d);
    d.kernel_h = kh;
    d.kernel_w = kw;
    d.stride_h = d.stride_w = stride;
    if (pad > 0) d.pad = DLS_PAD_EXPLICIT;
    d.pad_top = d.pad_left = d.pad_bottom = d.pad_right = pad;
    return d;
}
NET(maxpool) { return dls_net_maxpool(n, in(n, 6, 7, 3), 2); }
NET(maxpool_3x3) {
    const dls_pool2d_desc d = window(3, 3, 2, 1);
    return dls_net_maxpool_desc(n, in(n, 7, 6, 5), &d);
}
NET(maxpool_overlap) {
    const dls_pool2d_desc d = window(2, 3, 1, 0);
    return dls_net_maxpool_desc(n, in(n, 5, 5, 2), &d);
}
NET(avgpool) { return dls_net_avgpool(n, in(n, 6, 4, 3), 2); }
NET(avgpool_inside) {
    const dls_pool2d_desc d = window(3, 3, 2, 1);
    return dls_net_avgpool_desc(n, in(n, 5, 6, 3), &d);
}
NET(avgpool_whole) {
    dls_pool2d_desc d = window(3, 3, 2, 1);
    d.count_padding = true;
    return dls_net_avgpool_desc(n, in(n, 5, 6, 3), &d);
}
NET(global_avgpool) { return dls_net_global_avgpool(n, in(n, 5, 4, 7)); }

NET(batchnorm) { return dls_net_batchnorm(n, in(n, 4, 3, 5), DLS_ACT_NONE); }
NET(batchnorm_relu) { return dls_net_batchnorm(n, in(n, 4, 3, 5), DLS_ACT_RELU); }
NET(groupnorm) { return dls_net_groupnorm(n, in(n, 3, 4, 6), 3, DLS_ACT_NONE); }
NET(groupnorm_silu) { return dls_net_groupnorm(n, in(n, 3, 2, 5), 1, DLS_ACT_SILU); }
NET(layernorm) { return dls_net_layernorm(n, in(n, 3, 2, 13)); }
NET(rmsnorm) { return dls_net_rmsnorm(n, in(n, 3, 2, 11)); }

#define NET_ACT(name, act)                                                                         \
    NET(act_##name) { return dls_net_act(n, in(n, 3, 4, 5), act); }
NET_ACT(relu, DLS_ACT_RELU)
NET_ACT(relu6, DLS_ACT_RELU6)
NET_ACT(leaky, DLS_ACT_LEAKY)
NET_ACT(sigmoid, DLS_ACT_SIGMOID)
NET_ACT(tanh, DLS_ACT_TANH)
NET_ACT(silu, DLS_ACT_SILU)
NET_ACT(gelu, DLS_ACT_GELU)
NET_ACT(gelu_tanh, DLS_ACT_GELU_TANH)
NET_ACT(hswish, DLS_ACT_HSWISH)
NET_ACT(hsigmoid, DLS_ACT_HSIGMOID)
NET(act_leaky_slope) { return dls_net_leaky(n, in(n, 3, 4, 5), 0.2f); }
NET(softmax) { return dls_net_softmax(n, in(n, 3, 2, 11)); }

NET(add) {
    const dls_val a = in(n, 3, 2, 5);
    return dls_net_add(n, a, in(n, 3, 2, 5), DLS_ACT_RELU);
}
NET(add_channels) {
    const dls_val a = in(n, 3, 2, 5);
    return dls_net_add(n, a, in(n, 1, 1, 5), DLS_ACT_NONE);
}
NET(add_param) { return dls_net_position(n, in(n, 4, 1, 5)); }
NET(mul) {
    const dls_val a = in(n, 3, 2, 5);
    return dls_net_mul(n, a, in(n, 3, 2, 5));
}
NET(mul_channels) {
    const dls_val a = in(n, 3, 2, 5);
    return dls_net_mul(n, a, in(n, 1, 1, 5));
}
NET(mul_param) {
    const dls_val a = in(n, 4, 1, 5);
    return dls_net_mul(n, a, dls_net_param(n, 4, 1, 5, 0));
}
static dls_val concat(dls_net *n, int32_t axis) {
    dls_val x[3];
    for (int32_t i = 0; i < 3; i++)
        x[i] = in(n, axis == 0 ? i + 1 : 3, axis == 1 ? i + 1 : 2, axis == 2 ? i + 1 : 4);
    return dls_net_concat(n, x, 3, axis);
}
NET(concat0) { return concat(n, 0); }
NET(concat1) { return concat(n, 1); }
NET(concat2) { return concat(n, 2); }
NET(slice0) { return dls_net_slice(n, in(n, 3, 4, 5), 0, 1, 2); }
NET(slice1) { return dls_net_slice(n, in(n, 3, 4, 5), 1, 1, 2); }
NET(slice2) { return dls_net_slice(n, in(n, 3, 4, 5), 2, 1, 2); }
NET(pad) { return dls_net_pad(n, in(n, 3, 2, 4), 1, 2, 3, 0, -1.5f); }
NET(transpose) { return dls_net_transpose(n, in(n, 3, 4, 5), 2, 0, 1); }
NET(transpose_rows) { return dls_net_transpose(n, in(n, 3, 4, 5), 1, 0, 2); }
NET(upsample_nearest) { return dls_net_upsample(n, in(n, 3, 2, 4), 3, false); }
NET(upsample_bilinear2) { return dls_net_upsample(n, in(n, 3, 4, 3), 2, true); }
NET(upsample_bilinear3) { return dls_net_upsample(n, in(n, 3, 4, 3), 3, true); }

NET(embedding) { return dls_net_embedding(n, dls_net_input_ids(n, 5), 10, 6); }
NET(tied_linear) {
    const dls_val e = dls_net_embedding(n, dls_net_input_ids(n, 5), 10, 6);
    return dls_net_tied_linear(n, dls_net_act(n, e, DLS_ACT_TANH), e);
}
static dls_val attention(dls_net *n, int32_t t, int32_t s, int32_t d, int32_t heads,
                         int32_t kv_heads, bool causal) {
    dls_attention_desc a;
    memset(&a, 0, sizeof a);
    a.heads = heads;
    a.kv_heads = kv_heads;
    a.causal = causal;
    if (s == 0) return dls_net_attention_packed(n, in(n, t, 1, d * (heads + 2 * kv_heads)), &a);
    const dls_val q = in(n, t, 1, d * heads), k = in(n, s, 1, d * kv_heads);
    return dls_net_attention(n, q, k, in(n, s, 1, d * kv_heads), &a);
}
NET(attention) { return attention(n, 9, 9, 4, 2, 2, false); }
NET(attention_causal) { return attention(n, 9, 9, 4, 2, 2, true); }
NET(attention_grouped) { return attention(n, 9, 9, 4, 4, 2, true); }
NET(attention_cross) { return attention(n, 4, 7, 5, 2, 1, false); }
NET(attention_packed) { return attention(n, 6, 0, 3, 4, 2, true); }
NET(rope) { return dls_net_rope(n, in(n, 7, 1, 12), 2, 0); }
NET(rope_base) { return dls_net_rope(n, in(n, 40, 1, 12), 3, 500); }
NET(lstm) { return dls_net_lstm(n, in(n, 6, 1, 4), 5); }
NET(gru) { return dls_net_gru(n, in(n, 6, 1, 4), 5); }
NET(block) {
    const dls_val table = dls_net_embedding(n, dls_net_input_ids(n, 5), 10, 8);
    const dls_val qkv = dls_net_linear(n, dls_net_layernorm(n, table), 24, DLS_ACT_NONE);
    dls_attention_desc a;
    dls_val part[3], h, m;
    memset(&a, 0, sizeof a);
    a.heads = 2;
    a.causal = true;
    (void)dls_net_split(n, qkv, 2, 3, part);
    h = dls_net_attention(n, dls_net_rope(n, part[0], 2, 0), dls_net_rope(n, part[1], 2, 0),
                          part[2], &a);
    h = dls_net_add(n, table, dls_net_linear(n, h, 8, DLS_ACT_NONE), DLS_ACT_NONE);
    m = dls_net_linear(n, dls_net_layernorm(n, h), 16, DLS_ACT_GELU_TANH);
    h = dls_net_add(n, h, dls_net_linear(n, m, 8, DLS_ACT_NONE), DLS_ACT_NONE);
    return dls_net_tied_linear(n, h, table);
}

/* ---- A case on one kernel set: training, then inference, merged and not ---- */

#define PARAMS_MAX 16
typedef struct golden_param {
    size_t at, count;
} golden_param;
typedef struct golden_way {
    dls_isa isa;
    bool strict;
    double tolerance;
    char name[32];
} golden_way;

/* Every kernel set of this machine into way[]; returns their count. */
static int golden_ways(golden_way *way) {
    int count = 0;
    for (int isa = DLS_ISA_SCALAR; isa < DLS_ISA_COUNT; isa++)
        for (int strict = 0; strict < 2; strict++) {
            golden_way *w = &way[count];
            if (!dls_isa_usable((dls_isa)isa)) continue;
            w->isa = (dls_isa)isa;
            w->strict = strict != 0;
            w->tolerance = REAL ? 1e-13 : 1e-5;
            snprintf(w->name, sizeof w->name, "%s%s", dls_isa_name(w->isa),
                     strict ? " strict" : "");
            count++;
        }
    return count;
}
/* Places of all parameter tensors, in order. */
static int golden_params(const dls_net *net, golden_param *p) {
    int count = 0;
    dls_param form;
    for (dls_val v = 0; v < dls_net_nodes(net); v++)
        for (int32_t i = 0;
             dls_net_param_of(net, v, i, &form, &p[count].at, &p[count].count) == DLS_OK &&
             count < PARAMS_MAX - 1;
             i++)
            count++;
    return count;
}
static void golden_load_params(dls_net *net, const char *name, const golden_param *p, int count) {
    CHECK(gold_find("%s/w%d", name, count) == NULL); /* no more in the file than in the network */
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    for (int i = 0; i < count; i++) {
        const gold *w = gold_find("%s/w%d", name, i);
        CHECK(w != NULL);
        if (w == NULL) return;
        CHECK_INT(w->count, p[i].count);
        if (w->count == p[i].count) gold_to(w, dls_net_params(net) + p[i].at);
    }
    dls_net_touch(net);
}
static bool golden_load_inputs(dls_exec *exec, const dls_net *net, const char *name) {
    for (int32_t i = 0; dls_exec_input(exec, i) != NULL; i++) {
        const dls_val v = dls_exec_input_val(exec, i);
        const gold *x = gold_find("%s/x%d", name, i);
        const size_t each = dls_shape_count(dls_net_shape(net, v));
        CHECK(x != NULL);
        if (x == NULL) return false;
        CHECK_INT(x->count, x->dim[0] * each);
        if (x->count != x->dim[0] * each) return false;
        if (net->node[v].dtype == DLS_I32)
            for (size_t k = 0; k < x->count; k++)
                ((int32_t *)dls_exec_input(exec, i))[k] = (int32_t)x->v[k];
        else
            gold_to(x, (dls_real *)dls_exec_input(exec, i));
    }
    return true;
}
static void golden_train(dls_net *net, const char *name, int32_t n, const golden_param *p,
                         int params, const golden_way *way) {
    dls_exec_desc d;
    memset(&d, 0, sizeof d);
    d.batch = n;
    d.isa = way->isa;
    d.strict = way->strict;
    d.train = d.input_grad = true;
    dls_exec *exec = dls_exec_create(net, &d);
    CHECK(exec != NULL);
    if (exec == NULL || !golden_load_inputs(exec, net, name)) return;
    CHECK_STATUS(dls_exec_forward_train(exec, n, 1, 0, 0), DLS_OK);
    golden_check(gold_find("%s/y", name), dls_exec_output(exec), way->tolerance, "y", 0, way->name);
    gold_to(gold_find("%s/dy", name), dls_exec_output_grad(exec));
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    for (int32_t i = 0; dls_exec_input(exec, i) != NULL; i++)
        if (net->node[dls_exec_input_val(exec, i)].dtype != DLS_I32)
            golden_check(gold_find("%s/dx%d", name, i), dls_exec_input_grad(exec, i),
                         way->tolerance, "dx", i, way->name);
    for (int i = 0; i < params; i++)
        golden_check(gold_find("%s/dw%d", name, i), dls_exec_grads(exec) + p[i].at, way->tolerance,
                     "dw", i, way->name);
    dls_exec_destroy(exec);
}
static void golden_infer(dls_net *net, const char *name, int32_t n, const golden_way *way,
                         bool no_fuse) {
    const gold *y = gold_find("%s/yi", name);
    dls_exec_desc d;
    memset(&d, 0, sizeof d);
    d.batch = n;
    d.isa = way->isa;
    d.strict = way->strict;
    d.no_fuse = no_fuse;
    dls_exec *exec = dls_exec_create(net, &d);
    CHECK(exec != NULL);
    if (exec == NULL || !golden_load_inputs(exec, net, name)) return;
    CHECK_STATUS(dls_exec_forward(exec, n), DLS_OK);
    golden_check(y != NULL ? y : gold_find("%s/y", name), dls_exec_output(exec), way->tolerance,
                 "inferred y", 0, way->name);
    dls_exec_destroy(exec);
}
static void golden_op(const char *name, dls_val (*make)(dls_net *)) {
    golden_param p[PARAMS_MAX];
    golden_way way[2 * DLS_ISA_COUNT];
    const gold *y = gold_find("%s/y", name);
    dls_net *net = dls_net_create(NULL);
    const dls_shape s = dls_net_shape(net, make(net));
    CHECK(y != NULL);
    CHECK_STATUS(dls_net_status(net), DLS_OK);
    if (y == NULL || dls_net_status(net) != DLS_OK) return;
    CHECK_INT(y->axes, 4);
    CHECK(s.h == (int32_t)y->dim[1] && s.w == (int32_t)y->dim[2] && s.c == (int32_t)y->dim[3]);
    const int params = golden_params(net, p), ways = golden_ways(way);
    golden_load_params(net, name, p, params);
    for (int i = 0; i < ways && test_bad_checks == 0; i++) {
        const int32_t n = (int32_t)y->dim[0];
        golden_train(net, name, n, p, params, &way[i]);
        golden_infer(net, name, n, &way[i], false);
        golden_infer(net, name, n, &way[i], true);
    }
    dls_net_destroy(net);
}
/* Runs a test named after the arithmetic and the case. */
static const char *golden_now;
static void (*golden_body)(void);
static void golden_call(void) {
    golden_worst = 0;
    golden_body();
    if (golden_verbose) printf("# %-24s %.2g\n", golden_now, golden_worst);
}
static void golden_run(const char *name, void (*body)(void)) {
    char title[96];
    snprintf(title, sizeof title, "%s %s", REAL ? "double" : "float", name);
    golden_now = name;
    golden_body = body;
    test_run(title, golden_call);
}
static dls_val (*golden_make)(dls_net *);
static void golden_op_body(void) { golden_op(golden_now, golden_make); }
#define OP(name) (golden_make = net_##name, golden_run(#name, golden_op_body))

static void golden_ops(void) {
    OP(linear), OP(linear_no_bias), OP(dense_relu), OP(dense_gelu);
    OP(matmul), OP(matmul_transposed);
    OP(conv_same), OP(conv_relu), OP(conv_stride_same), OP(conv_valid_5x5), OP(conv_explicit);
    OP(conv_dilated), OP(conv_groups), OP(conv_1x1), OP(conv_1x1_stride), OP(conv_multiplier);
    OP(depthwise), OP(depthwise_relu6), OP(depthwise_dilated);
    OP(convt_same), OP(convt_padded), OP(convt_dilated);
    OP(maxpool), OP(maxpool_3x3), OP(maxpool_overlap);
    OP(avgpool), OP(avgpool_inside), OP(avgpool_whole), OP(global_avgpool);
    OP(batchnorm), OP(batchnorm_relu), OP(groupnorm), OP(groupnorm_silu);
    OP(layernorm), OP(rmsnorm);
    OP(act_relu), OP(act_relu6), OP(act_leaky), OP(act_leaky_slope), OP(act_sigmoid);
    OP(act_tanh), OP(act_silu), OP(act_gelu), OP(act_gelu_tanh), OP(act_hswish), OP(act_hsigmoid);
    OP(softmax), OP(add), OP(add_channels), OP(add_param), OP(mul), OP(mul_channels), OP(mul_param);
    OP(concat0), OP(concat1), OP(concat2), OP(slice0), OP(slice1), OP(slice2), OP(pad);
    OP(transpose), OP(transpose_rows);
    OP(upsample_nearest), OP(upsample_bilinear2), OP(upsample_bilinear3);
    OP(embedding), OP(tied_linear), OP(attention), OP(attention_causal), OP(attention_grouped);
    OP(attention_cross), OP(attention_packed), OP(rope), OP(rope_base), OP(lstm), OP(gru);
    OP(block);
}

/* ---- Losses ---- */

typedef struct golden_loss {
    const char *name;
    dls_loss_kind kind;
    float smoothing, temperature, alpha;
} golden_loss;
static const golden_loss golden_losses[] = {
    {"ce", DLS_LOSS_CROSS_ENTROPY, 0, 0, 0},
    {"ce_smooth", DLS_LOSS_CROSS_ENTROPY, 0.1f, 0, 0},
    {"ce_weights", DLS_LOSS_CROSS_ENTROPY, 0, 0, 0},
    {"ce_both", DLS_LOSS_CROSS_ENTROPY, 0.2f, 0, 0},
    {"ce_ignored", DLS_LOSS_CROSS_ENTROPY, 0, 0, 0},
    {"ce_soft", DLS_LOSS_CROSS_ENTROPY, 0, 0, 0},
    {"ce_mixup", DLS_LOSS_CROSS_ENTROPY, 0, 0, 0},
    {"mse", DLS_LOSS_MSE, 0, 0, 0},
    {"bce", DLS_LOSS_BCE, 0, 0, 0},
    {"kl", DLS_LOSS_KL, 0, 0, 0},
    {"kl_hot", DLS_LOSS_KL, 0, 3, 0},
    {"kl_labels", DLS_LOSS_KL, 0, 2, 0.3f},
};
static const golden_loss *golden_the_loss;

static int32_t *golden_ints(const gold *g, int32_t *to) {
    for (size_t i = 0; g != NULL && i < g->count; i++) to[i] = (int32_t)g->v[i];
    return g != NULL ? to : NULL;
}
static float *golden_floats(const gold *g, float *to) {
    for (size_t i = 0; g != NULL && i < g->count; i++) to[i] = (float)g->v[i];
    return g != NULL ? to : NULL;
}
static void golden_loss_way(const golden_loss *l, const golden_way *way) {
    const gold *z = gold_find("%s/z", l->name), *values = gold_find("%s/values", l->name);
    const gold *sum = gold_find("%s/sum", l->name), *correct = gold_find("%s/correct", l->name);
    dls_real x[128], t[128], grad[128];
    int32_t label[16], label2[16];
    float weights[16], share2[16];
    dls_loss_desc d;
    dls_target target;
    dls_loss_sums sums = {0, 0, 0}, quiet = {0, 0, 0};
    dls_cx cx;
    CHECK(z != NULL && sum != NULL && z->count <= 128);
    if (z == NULL || sum == NULL) return;
    const dls_shape s = {3, 2, (int32_t)z->dim[3]};
    memset(&d, 0, sizeof d);
    memset(&target, 0, sizeof target);
    d.kind = l->kind;
    d.smoothing = l->smoothing;
    d.temperature = l->temperature;
    d.alpha = l->alpha;
    d.class_weights = golden_floats(gold_find("%s/weights", l->name), weights);
    target.label = golden_ints(gold_find("%s/label", l->name), label);
    target.label2 = golden_ints(gold_find("%s/label2", l->name), label2);
    target.share2 = golden_floats(gold_find("%s/share2", l->name), share2);
    if (values != NULL) gold_to(values, t), target.values = t;
    gold_to(z, x);
    CHECK_STATUS(dls_cx_init(&cx, way->isa, way->strict, NULL), DLS_OK);
    CHECK_STATUS(dls_loss(&cx, &d, 2, s, x, &target, 0.25, grad, &sums), DLS_OK);
    golden_check(gold_find("%s/grad", l->name), grad, way->tolerance, "grad", 0, way->name);
    CHECK_NEAR(sums.loss, sum->v[0], way->tolerance * (1 + fabs(sum->v[0])));
    if (correct != NULL) {
        CHECK_NEAR(sums.correct, correct->v[0], 0);
        CHECK_NEAR(sums.positions, gold_find("%s/positions", l->name)->v[0], 0);
    }
    CHECK_STATUS(dls_loss(&cx, &d, 2, s, x, &target, 0.25, NULL, &quiet), DLS_OK); /* no gradient */
    CHECK_NEAR(quiet.loss, sum->v[0], way->tolerance * (1 + fabs(sum->v[0])));
    CHECK_STATUS(dls_loss(&cx, &d, 2, s, x, &target, 0.25, x, &quiet),
                 DLS_OK); /* over the logits */
    CHECK(memcmp(x, grad, z->count * sizeof *x) == 0);
}
static void golden_loss_body(void) {
    golden_way way[2 * DLS_ISA_COUNT];
    const int ways = golden_ways(way);
    for (int i = 0; i < ways; i++) golden_loss_way(golden_the_loss, &way[i]);
}

/* ---- 100 steps of each optimiser on two networks ---- */

typedef struct golden_course {
    const char *name;
    dls_optim_kind kind;
    float lr, momentum, decay, clip;
    bool nesterov, all;
    double float_tolerance; /* how far float may drift, 0: 2e-5; Lion: a sign or two */
} golden_course;
static const golden_course golden_courses[] = {
    {"sgd", DLS_OPTIM_SGD, 0.05f, 0, 0, 0, false, false, 0},
    {"sgd_decay", DLS_OPTIM_SGD, 0.05f, 0, 0.02f, 0, false, false, 0},
    {"momentum", DLS_OPTIM_SGD, 0.02f, 0.9f, 0, 0, false, false, 0},
    {"nesterov", DLS_OPTIM_SGD, 0.02f, 0.9f, 0.01f, 0, true, false, 0},
    {"nesterov_all", DLS_OPTIM_SGD, 0.02f, 0.8f, 0.05f, 0, true, true, 0},
    {"adam", DLS_OPTIM_ADAM, 0.003f, 0, 0, 0, false, false, 0},
    {"adam_decay", DLS_OPTIM_ADAM, 0.003f, 0, 0.05f, 0, false, false, 0},
    {"adamw", DLS_OPTIM_ADAMW, 0.003f, 0, 0, 0, false, false, 0},
    {"adamw_all", DLS_OPTIM_ADAMW, 0.003f, 0, 0.3f, 0, false, true, 0},
    {"rmsprop", DLS_OPTIM_RMSPROP, 0.002f, 0, 0, 0, false, false, 0},
    {"rmsprop_momentum", DLS_OPTIM_RMSPROP, 0.001f, 0.7f, 0.05f, 0, false, false, 0},
    {"lion", DLS_OPTIM_LION, 0.001f, 0, 0, 0, false, false, 5e-3},
    {"lion_decay", DLS_OPTIM_LION, 0.001f, 0, 0.5f, 0, false, false, 5e-3},
    {"clip", DLS_OPTIM_SGD, 0.05f, 0.9f, 0, 0.3f, false, false, 0},
    {"adam_clip", DLS_OPTIM_ADAM, 0.003f, 0, 0, 0.2f, false, false, 0},
    {"cosine", DLS_OPTIM_SGD, 0.05f, 0.9f, 0, 0, false, false, 0},
    {"step", DLS_OPTIM_SGD, 0.1f, 0, 0, 0, false, false, 0},
};
static const golden_course *golden_the_course;
static const char *golden_the_net;

static dls_optim_desc golden_optim(const golden_course *c) {
    dls_optim_desc d;
    memset(&d, 0, sizeof d);
    d.kind = c->kind;
    d.lr = c->lr;
    d.momentum = c->momentum;
    d.weight_decay = c->decay;
    d.clip_norm = c->clip;
    d.nesterov = c->nesterov;
    d.decay_all = c->all;
    if (strcmp(c->name, "cosine") == 0) {
        d.schedule = DLS_SCHEDULE_COSINE;
        d.warmup_steps = 10;
        d.total_steps = 100;
        d.lr_min = 0.001f;
    } else if (strcmp(c->name, "step") == 0) {
        d.schedule = DLS_SCHEDULE_STEP;
        d.step_every = 30;
        d.gamma = 0.5f;
    }
    return d;
}
static dls_net *golden_student(const char *name) {
    dls_net *net = dls_net_create(NULL);
    if (strcmp(name, "mlp") == 0) {
        (void)dls_net_dense(net, dls_net_dense(net, in(net, 1, 1, 6), 8, DLS_ACT_TANH), 3,
                            DLS_ACT_NONE);
    } else {
        dls_conv_desc d = same();
        d.no_bias = true;
        dls_val x = conv(net, in(net, 6, 6, 2), 4, 3, 3, 1, d);
        x = dls_net_maxpool(net, dls_net_batchnorm(net, x, DLS_ACT_RELU), 2);
        (void)dls_net_dense(net, x, 3, DLS_ACT_NONE);
    }
    return net;
}
/* accumulate, shards: as in dls_train_desc. */
static void golden_walk(const golden_course *c, const golden_way *way, int32_t accumulate,
                        int32_t shards, double tolerance) {
    golden_param p[PARAMS_MAX];
    const char *name = golden_the_net;
    const gold *x = gold_find("%s/x", name), *losses = gold_find("%s/%s/losses", name, c->name);
    dls_net *net = golden_student(name);
    dls_real all[24 * 72], loss[100];
    int32_t label[24];
    dls_train_desc d;
    dls_target target;
    dls_step_stats stats;
    dls_train *train;
    CHECK(x != NULL && losses != NULL && x->count <= 24 * 72 && losses->count == 100);
    const int params = golden_params(net, p);
    golden_load_params(net, name, p, params);
    memset(&d, 0, sizeof d);
    memset(&target, 0, sizeof target);
    d.batch = 8;
    d.accumulate = accumulate;
    d.shards = shards;
    d.isa = way->isa;
    d.strict = way->strict;
    d.optim = golden_optim(c);
    train = dls_train_create(net, &d);
    CHECK(train != NULL);
    if (train == NULL || test_bad_checks != 0) return;
    gold_to(x, all);
    (void)golden_ints(gold_find("%s/label", name), label);
    for (int step = 0; step < 100; step++) {
        const size_t at = (size_t)(step * 8 % 24), each = x->count / 24;
        target.label = label + at;
        CHECK_STATUS(dls_train_step(train, all + at * each, &target, 8, &stats), DLS_OK);
        loss[step] = (dls_real)stats.loss;
    }
    golden_check(losses, loss, tolerance, "losses", accumulate, way->name);
    for (int i = 0; i < params; i++)
        golden_check(gold_find("%s/%s/w%d", name, c->name, i), dls_net_params(net) + p[i].at,
                     tolerance, "w", i, way->name);
    dls_train_destroy(train);
    dls_net_destroy(net);
}
static void golden_course_body(void) {
    golden_way way[2 * DLS_ISA_COUNT];
    const golden_course *c = golden_the_course;
    const double drift = c->float_tolerance > 0 ? c->float_tolerance : 2e-5;
    const int ways = golden_ways(way);
    for (int i = 0; i < ways; i++) golden_walk(c, &way[i], 1, 0, REAL ? 1e-11 : drift);
    if (strcmp(golden_the_net, "mlp") != 0) return; /* parts and shards normalise on their own */
    golden_walk(c, &way[ways - 1], 3, 0, REAL ? 1e-11 : drift);
    golden_walk(c, &way[ways - 1], 0, 4, REAL ? 1e-6 : drift); /* sums of 28 bits */
}

static void golden_rates_body(void) {
    static const char *const names[] = {"cosine", "step", "warmup"};
    for (int i = 0; i < 3; i++) {
        const gold *g = gold_find("rate/%s", names[i]);
        dls_optim_desc d;
        memset(&d, 0, sizeof d);
        d.lr = 0.05f;
        d.lr_min = 0.001f;
        d.schedule = i == 1 ? DLS_SCHEDULE_STEP : DLS_SCHEDULE_COSINE;
        d.total_steps = i == 2 ? 60 : 100;
        d.warmup_steps = i == 2 ? 10 : 0;
        d.step_every = 30;
        d.gamma = 0.5f;
        CHECK(g != NULL && g->count == 100);
        for (int step = 0; g != NULL && step < 100; step++)
            CHECK_NEAR(dls_optim_lr(&d, step), g->v[step], 1e-15);
    }
}

int main(int argc, char **argv) {
    char title[96];
    size_t i;
    if (argc > 1 && strcmp(argv[1], "-v") == 0) golden_verbose = 1, argc--, argv++;
    test_start("golden", argc, argv);
    gold_read("golden/ops.gold");
    gold_read("golden/loss.gold");
    gold_read("golden/train.gold");
    golden_ops();
    for (i = 0; i < sizeof golden_losses / sizeof *golden_losses; i++) {
        golden_the_loss = &golden_losses[i];
        snprintf(title, sizeof title, "loss %s", golden_the_loss->name);
        golden_run(title, golden_loss_body);
    }
    for (i = 0; i < 2 * sizeof golden_courses / sizeof *golden_courses; i++) {
        golden_the_course = &golden_courses[i / 2];
        golden_the_net = i % 2 == 0 ? "mlp" : "cnn";
        snprintf(title, sizeof title, "%s %s", golden_the_net, golden_the_course->name);
        golden_run(title, golden_course_body);
    }
    golden_run("rates", golden_rates_body);
    return test_end();
}
