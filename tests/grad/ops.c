/* grad: a case of every op, of every attribute of it, and of combinations that plan differently:
   values used twice, broadcasts, parameters as operands, chains that run in place. */

static dls_conv_desc conv_desc(int32_t channels, int32_t kernel, int32_t stride) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = channels;
    d.kernel_h = kernel;
    d.stride_h = stride;
    return d;
}
static void test_grad_conv2d(void) {
    dls_conv_desc d = conv_desc(4, 3, 1);
    for (int act = 0; act < DLS_ACT_COUNT; act++) {
        d.act = (dls_act)act;
        d.slope = act == DLS_ACT_LEAKY ? 0.25f : 0;
        NET("conv act", 5, 4, 3, x = dls_net_conv2d_desc(net, x, &d));
    }
    for (int32_t kernel = 1; kernel <= 5; kernel++) {
        for (int32_t stride = 1; stride <= 3; stride++) {
            d = conv_desc(5, kernel, stride);
            NET("conv same", 7, 6, 3, x = dls_net_conv2d_desc(net, x, &d));
            d.pad = DLS_PAD_VALID;
            NET("conv valid", 7, 6, 3, x = dls_net_conv2d_desc(net, x, &d));
        }
    }
    d = conv_desc(6, 3, 2);
    d.kernel_w = 2, d.stride_w = 1, d.dilation_h = 2, d.dilation_w = 3, d.no_bias = true;
    NET("conv all unlike", 9, 8, 4, x = dls_net_conv2d_desc(net, x, &d));
    d.pad = DLS_PAD_EXPLICIT;
    d.pad_top = 2, d.pad_left = 1, d.pad_right = 3;
    NET("conv explicit", 9, 8, 4, x = dls_net_conv2d_desc(net, x, &d));
    for (d.groups = 1; d.groups <= 6; d.groups += d.groups == 3 ? 3 : 1) {
        d = (d.pad = DLS_PAD_SAME, d.stride_h = 1, d.act = DLS_ACT_RELU, d);
        NET("conv groups", 6, 7, 6, x = dls_net_conv2d_desc(net, x, &d));
    }
    d = conv_desc(8, 3, 1);
    d.groups = 4;
    NET("depthwise twice", 5, 5, 4, x = dls_net_conv2d_desc(net, x, &d));
    NET("conv wide", 9, 7, 9, x = dls_net_conv2d(net, x, 18, 3, DLS_ACT_RELU));
    NET("conv 1x1 wide", 4, 5, 17, x = dls_net_conv2d(net, x, 33, 1, DLS_ACT_RELU6));
    NET("conv of a row", 1, 9, 3, x = dls_net_conv2d(net, x, 4, 3, DLS_ACT_NONE));
    for (int32_t stride = 1; stride <= 2; stride++) {
        NET("depthwise 3", 7, 8, 5, x = dls_net_depthwise(net, x, 3, stride, DLS_ACT_RELU6));
        NET("depthwise 5", 7, 8, 17, x = dls_net_depthwise(net, x, 5, stride, DLS_ACT_HSWISH));
    }
}
static void test_grad_conv_transpose(void) {
    dls_conv_desc d;
    for (int act = 0; act < DLS_ACT_COUNT; act++) {
        d = conv_desc(4, 3, 2);
        d.act = (dls_act)act;
        NET("up act", 3, 4, 3, x = dls_net_conv_transpose(net, x, &d));
    }
    for (int32_t kernel = 1; kernel <= 4; kernel++) {
        for (int32_t stride = 1; stride <= 3; stride++) {
            d = conv_desc(5, kernel, stride);
            NET("up same", 4, 5, 3, x = dls_net_conv_transpose(net, x, &d));
            d.pad = DLS_PAD_VALID;
            NET("up valid", 4, 5, 3, x = dls_net_conv_transpose(net, x, &d));
        }
    }
    d = conv_desc(9, 3, 2);
    d.kernel_w = 2, d.stride_w = 3, d.dilation_h = 2, d.no_bias = true;
    d.pad = DLS_PAD_EXPLICIT;
    d.pad_top = 1, d.pad_right = 1, d.output_pad_h = 1, d.output_pad_w = 2;
    NET("up explicit", 4, 5, 8, x = dls_net_conv_transpose(net, x, &d));
}
static void test_grad_linear(void) {
    for (int act = 0; act < DLS_ACT_COUNT; act++) {
        NET("dense act", 3, 2, 5, x = dls_net_dense(net, x, 4, (dls_act)act));
        NET("linear act", 3, 1, 5, x = dls_net_linear(net, x, 7, (dls_act)act));
    }
    NET("linear without bias", 3, 2, 5, x = dls_net_linear_no_bias(net, x, 4, DLS_ACT_RELU));
    NET("dense wide", 1, 1, 37, x = dls_net_dense(net, x, 35, DLS_ACT_NONE));
    NET("matmul", 2, 3, 4,
        x = dls_net_matmul(
            net, x, dls_net_transpose(net, dls_net_act(net, x, DLS_ACT_TANH), 0, 2, 1), false));
    NET("matmul transposed", 2, 3, 4,
        x = dls_net_matmul(net, x, dls_net_act(net, x, DLS_ACT_TANH), true));
    NET("matmul with itself", 2, 3, 4, x = dls_net_matmul(net, x, x, true));
}
static void pool_cases(const char *name,
                       dls_val (*pool)(dls_net *, dls_val, const dls_pool2d_desc *)) {
    for (int i = 0; i < 12; i++) {
        dls_pool2d_desc d;
        memset(&d, 0, sizeof d);
        d.kernel_h = 1 + i % 3;
        d.kernel_w = i % 2 != 0 ? 3 : 0;
        d.stride_h = i % 4 == 0 ? 0 : i % 4;
        d.stride_w = i % 5 == 0 ? 2 : 0;
        d.same = i == 6 || i == 7;
        d.count_padding = i >= 9;
        if (i >= 8 && d.kernel_h > 1 && (d.kernel_w == 0 || d.kernel_w > 1)) {
            d.pad = DLS_PAD_EXPLICIT;
            d.pad_top = d.pad_left = d.pad_right = 1;
        }
        NET(name, 7, 6, 3, x = pool(net, x, &d));
    }
}
static void test_grad_pools(void) {
    pool_cases("maxpool", dls_net_maxpool_desc);
    pool_cases("avgpool", dls_net_avgpool_desc);
    NET("maxpool 2", 6, 6, 3, x = dls_net_maxpool(net, x, 2));
    NET("avgpool 2", 6, 6, 3, x = dls_net_avgpool(net, x, 2));
    NET("global", 5, 4, 3, x = dls_net_global_avgpool(net, x));
}
static void test_grad_norms(void) {
    for (int act = 0; act <= DLS_ACT_RELU6; act++) {
        NET("batchnorm", 4, 3, 5, x = dls_net_batchnorm(net, x, (dls_act)act));
        NET("batchnorm wide", 2, 3, 19, x = dls_net_batchnorm(net, x, (dls_act)act));
        for (int32_t groups = 1; groups <= 6; groups += groups == 3 ? 3 : 1)
            NET("groupnorm", 4, 3, 6, x = dls_net_groupnorm(net, x, groups, (dls_act)act));
    }
    NET("layernorm", 4, 2, 6, x = dls_net_layernorm(net, x));
    NET("layernorm wide", 3, 1, 37, x = dls_net_layernorm(net, x));
    NET("rmsnorm", 4, 2, 6, x = dls_net_rmsnorm(net, x));
    NET("rmsnorm wide", 3, 1, 37, x = dls_net_rmsnorm(net, x));
}
static void test_grad_act(void) {
    for (int act = 1; act < DLS_ACT_COUNT; act++) {
        NET("act", 3, 2, 7, x = dls_net_act(net, x, (dls_act)act));
        NET("act after conv", 3, 2, 7, x = dls_net_conv2d(net, x, 7, 1, DLS_ACT_NONE);
            x = dls_net_act(net, x, (dls_act)act));
    }
    NET("leaky", 3, 2, 5, x = dls_net_leaky(net, x, 0.25f));
    NET("softmax", 3, 2, 5, x = dls_net_softmax(net, x));
    NET("softmax wide", 2, 1, 37, x = dls_net_softmax(net, x));
}
static void test_grad_add_mul(void) {
    for (int act = 0; act < DLS_ACT_COUNT; act++)
        NET("add", 3, 2, 5,
            x = dls_net_add(net, x, dls_net_act(net, x, DLS_ACT_TANH), (dls_act)act));
    NET("mul", 3, 2, 5, x = dls_net_mul(net, x, dls_net_act(net, x, DLS_ACT_TANH)));
    NET("add x x", 3, 2, 5, x = dls_net_act(net, x, DLS_ACT_TANH);
        x = dls_net_add(net, x, x, DLS_ACT_RELU));
    NET("mul x x", 3, 2, 5, x = dls_net_act(net, x, DLS_ACT_TANH); x = dls_net_mul(net, x, x));
    NET("param + x", 3, 2, 5,
        x = dls_net_add(net, dls_net_param(net, 3, 2, 5, 0.5f), x, DLS_ACT_NONE));
    NET("x + param", 3, 2, 5,
        x = dls_net_add(net, x, dls_net_param(net, 3, 2, 5, 0.5f), DLS_ACT_RELU));
    NET("param * x", 3, 2, 5, x = dls_net_mul(net, dls_net_param(net, 3, 2, 5, 0.5f), x));
    NET("x * param", 3, 2, 5, x = dls_net_mul(net, x, dls_net_param(net, 3, 2, 5, 0.5f)));
    for (int swap = 0; swap < 2; swap++) { /* one value per channel and sample, either side */
        NET("gate", 3, 2, 5,
            dls_val g = dls_net_act(net, dls_net_global_avgpool(net, x), DLS_ACT_SIGMOID);
            x = swap ? dls_net_mul(net, g, x) : dls_net_mul(net, x, g));
        NET("shift", 3, 2, 5,
            dls_val g = dls_net_act(net, dls_net_global_avgpool(net, x), DLS_ACT_SIGMOID);
            x = swap ? dls_net_add(net, g, x, DLS_ACT_RELU) : dls_net_add(net, x, g, DLS_ACT_NONE));
    }
}
static void test_grad_layout(void) {
    for (int32_t axis = 0; axis < 3; axis++) {
        for (int32_t count = 1; count <= 5; count += 2)
            NET("concat", 3, 2, 4, dls_val v[5];
                for (int i = 0; i < 5; i++) v[i] = dls_net_act(net, x, (dls_act)(i + 4));
                x = dls_net_concat(net, v, count, axis));
        NET("concat x x", 3, 2, 4, dls_val v[2]; v[0] = v[1] = dls_net_act(net, x, DLS_ACT_TANH);
            x = dls_net_concat(net, v, 2, axis));
        NET("slice", 4, 3, 5, x = dls_net_slice(net, x, axis, 1, 2));
        NET("split", 4, 6, 2, dls_val v[2]; x = dls_net_act(net, x, DLS_ACT_TANH);
            dls_net_split(net, x, axis, 2, v); x = dls_net_mul(net, v[0], v[1]));
    }
    NET("pad", 4, 2, 3, x = dls_net_pad(net, x, 1, 2, 0, 3, 0.5f));
    NET("reshape", 4, 2, 3, x = dls_net_reshape(net, x, 2, 3, 4);
        x = dls_net_act(net, x, DLS_ACT_TANH); x = dls_net_reshape(net, x, 1, 1, 24));
    for (int32_t a = 0; a < 3; a++)
        for (int32_t b = 0; b < 3; b++)
            if (a != b) NET("transpose", 4, 2, 3, x = dls_net_transpose(net, x, a, b, 3 - a - b));
    for (int32_t factor = 1; factor <= 3; factor++) {
        NET("nearest", 3, 2, 3, x = dls_net_upsample(net, x, factor, false));
        NET("bilinear", 3, 2, 3, x = dls_net_upsample(net, x, factor, true));
    }
    NET("dropout", 3, 2, 5, x = dls_net_dropout(net, x, 0.375f));
    NET("dropout of a chain", 3, 2, 5, x = dls_net_dense(net, x, 8, DLS_ACT_RELU);
        x = dls_net_dropout(net, x, 0.5f); x = dls_net_dense(net, x, 3, DLS_ACT_NONE));
}
static void test_grad_sequence(void) {
    dls_attention_desc d;
    memset(&d, 0, sizeof d);
    NET("rope", 5, 1, 12, x = dls_net_rope(net, x, 3, 0));
    NET("rope base", 5, 1, 8, x = dls_net_rope(net, x, 1, 100));
    for (int causal = 0; causal < 2; causal++) {
        d.causal = causal != 0;
        d.heads = 2;
        d.kv_heads = 0;
        NET("attention", 5, 1, 6,
            x = dls_net_attention(net, x, dls_net_act(net, x, DLS_ACT_TANH),
                                  dls_net_act(net, x, DLS_ACT_SIGMOID), &d));
        NET("attention to itself", 5, 1, 6, x = dls_net_attention(net, x, x, x, &d));
        NET("attention packed", 5, 1, 18, x = dls_net_attention_packed(net, x, &d));
        d.heads = 4;
        d.kv_heads = 2;
        NET("attention grouped", 70, 1, 16, x = dls_net_attention_packed(net, x, &d));
        d.kv_heads = 1;
        NET("attention one kv", 9, 1, 18, x = dls_net_attention_packed(net, x, &d));
    }
    d.causal = false;
    d.heads = 2;
    d.kv_heads = 0;
    NET("attention across", 5, 1, 6, dls_val y = dls_net_slice(net, x, 0, 1, 3);
        x = dls_net_attention(net, x, y, y, &d));
    NET("lstm", 4, 1, 3, x = dls_net_lstm(net, x, 5));
    NET("lstm of lstm", 5, 1, 3, x = dls_net_lstm(net, dls_net_lstm(net, x, 4), 6));
    NET("gru", 4, 1, 3, x = dls_net_gru(net, x, 5));
    NET("gru of gru", 5, 1, 3, x = dls_net_gru(net, dls_net_gru(net, x, 17), 6));
    {
        dls_net *net = dls_net_create(NULL);
        const dls_val table = dls_net_embedding(net, dls_net_input_ids(net, 6), 11, 8);
        dls_val x = dls_net_layernorm(net, dls_net_position(net, table));
        x = dls_net_tied_linear(net, x, table);
        (void)x;
        grad_case("embedding, position, tied weights", net);
    }
}

/* ---- Combinations ---- */

static dls_val residual_block(dls_net *net, dls_val x, int32_t channels, int32_t stride) {
    dls_conv_desc d = conv_desc(channels, 3, stride);
    dls_val y;
    d.no_bias = true;
    y = dls_net_batchnorm(net, dls_net_conv2d_desc(net, x, &d), DLS_ACT_RELU);
    d.stride_h = 1;
    y = dls_net_batchnorm(net, dls_net_conv2d_desc(net, y, &d), DLS_ACT_NONE);
    if (stride > 1) {
        d.stride_h = stride;
        d.kernel_h = 1;
        x = dls_net_batchnorm(net, dls_net_conv2d_desc(net, x, &d), DLS_ACT_NONE);
    }
    return dls_net_add(net, y, x, DLS_ACT_RELU);
}
static dls_val gpt_block(dls_net *net, dls_val x, int32_t c) {
    dls_attention_desc d;
    dls_val y = dls_net_linear(net, dls_net_layernorm(net, x), 3 * c, DLS_ACT_NONE);
    memset(&d, 0, sizeof d);
    d.heads = 2;
    d.causal = true;
    y = dls_net_linear(net, dls_net_attention_packed(net, y, &d), c, DLS_ACT_NONE);
    x = dls_net_add(net, x, dls_net_dropout(net, y, 0.25f), DLS_ACT_NONE);
    y = dls_net_linear(net, dls_net_layernorm(net, x), 2 * c, DLS_ACT_GELU);
    return dls_net_add(net, x, dls_net_linear(net, y, c, DLS_ACT_NONE), DLS_ACT_NONE);
}
static void test_grad_combinations(void) {
    NET("resnet", 8, 8, 3, x = dls_net_conv2d(net, x, 8, 3, DLS_ACT_NONE);
        x = dls_net_batchnorm(net, x, DLS_ACT_RELU); x = residual_block(net, x, 8, 1);
        x = residual_block(net, x, 12, 2); x = dls_net_global_avgpool(net, x);
        x = dls_net_dense(net, x, 4, DLS_ACT_NONE));
    NET("inverted residual", 6, 6, 4, dls_val y = dls_net_conv2d(net, x, 12, 1, DLS_ACT_RELU6);
        y = dls_net_depthwise(net, y, 3, 1, DLS_ACT_RELU6);
        dls_val gate = dls_net_dense(net, dls_net_global_avgpool(net, y), 12, DLS_ACT_HSIGMOID);
        y = dls_net_mul(net, y, gate); y = dls_net_conv2d(net, y, 4, 1, DLS_ACT_NONE);
        x = dls_net_add(net, x, y, DLS_ACT_NONE));
    NET("u-net", 8, 6, 3, dls_val skip = dls_net_conv2d(net, x, 5, 3, DLS_ACT_RELU); dls_val v[2];
        x = dls_net_conv2d(net, dls_net_maxpool(net, skip, 2), 7, 3, DLS_ACT_LEAKY); v[0] = skip;
        v[1] = dls_net_upsample(net, x, 2, true); x = dls_net_concat(net, v, 2, 2);
        x = dls_net_groupnorm(net, x, 2, DLS_ACT_RELU);
        x = dls_net_conv2d(net, x, 2, 1, DLS_ACT_NONE));
    NET("transformer", 7, 1, 8, x = dls_net_position(net, x); x = gpt_block(net, x, 8);
        x = gpt_block(net, x, 8); x = dls_net_rmsnorm(net, x));
    NET("used three times", 3, 2, 4, dls_val y = dls_net_conv2d(net, x, 4, 1, DLS_ACT_RELU);
        x = dls_net_add(net, y, dls_net_mul(net, y, dls_net_act(net, y, DLS_ACT_SILU)),
                        DLS_ACT_NONE));
    NET("two branches of one slice", 4, 3, 4, dls_val y = dls_net_slice(net, x, 2, 1, 2);
        dls_val v[3]; v[0] = dls_net_conv2d(net, y, 3, 3, DLS_ACT_RELU); v[1] = y;
        v[2] = dls_net_slice(net, x, 2, 0, 1); x = dls_net_concat(net, v, 3, 2));
    {
        dls_net *net = dls_net_create(NULL); /* two inputs */
        dls_val a = dls_net_input(net, 3, 1, 4), b = dls_net_input(net, 5, 1, 4);
        dls_attention_desc d;
        memset(&d, 0, sizeof d);
        d.heads = 1;
        b = dls_net_attention(net, a, b, dls_net_act(net, b, DLS_ACT_TANH), &d);
        (void)b;
        grad_case("two inputs", net);
    }
}
static void test_grad_every_op_has_a_case(void) {
    CHECK(GRAD_OPS > 20);
    for (size_t i = 0; i < GRAD_OPS; i++) {
        test_checks++;
        if (!grad_seen[i]) test_report("grad/ops.c", 0, "no case has the op \"%s\"", grad_ops[i]);
        CHECK(dls_op_find(grad_ops[i]) != NULL);
    }
}
static void op_tests(void) {
    RUN(grad_conv2d);
    RUN(grad_conv_transpose);
    RUN(grad_linear);
    RUN(grad_pools);
    RUN(grad_norms);
    RUN(grad_act);
    RUN(grad_add_mul);
    RUN(grad_layout);
    RUN(grad_sequence);
    RUN(grad_combinations);
    if (test_only == NULL) RUN(grad_every_op_has_a_case);
}
