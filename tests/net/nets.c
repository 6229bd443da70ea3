/* net: small relatives of the networks people train, with the optimiser and loss they come with.
   Together they contain every op that sums, every optimiser, clipping, schedules, dropout. */

enum { NET_BATCH = 6, NET_SAMPLES = 12, NET_STEPS = 3, NET_SHARDS = 4 };

typedef struct net_case {
    const char *name;
    dls_val (*build)(dls_net *net);
    void (*train)(dls_train_desc *d);
} net_case;

static dls_val mlp_build(dls_net *net) {
    dls_val x = dls_net_input(net, 7, 5, 1);
    x = dls_net_dense(net, x, 70, DLS_ACT_RELU);
    x = dls_net_dense(net, x, 17, DLS_ACT_TANH);
    return dls_net_dense(net, x, 10, DLS_ACT_NONE);
}
static void mlp_train(dls_train_desc *d) {
    d->optim.lr = 0.1f;
    d->optim.momentum = 0.9f;
    d->accumulate = 2;
}
static dls_val lenet_build(dls_net *net) {
    dls_val x = dls_net_input(net, 12, 12, 1);
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 6, 5, DLS_ACT_RELU), 2);
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU), 2);
    x = dls_net_dense(net, x, 30, DLS_ACT_SIGMOID);
    return dls_net_dense(net, x, 10, DLS_ACT_NONE);
}
static void lenet_train(dls_train_desc *d) {
    d->optim.kind = DLS_OPTIM_ADAM;
    d->optim.weight_decay = 0.01f;
    d->loss.smoothing = 0.1f;
}
static dls_val resnet_conv(dls_net *net, dls_val x, int32_t channels, int32_t kernel,
                           int32_t stride, dls_act act) {
    dls_conv_desc d;
    memset(&d, 0, sizeof d);
    d.channels = channels;
    d.kernel_h = kernel;
    d.stride_h = stride;
    d.no_bias = true;
    return dls_net_batchnorm(net, dls_net_conv2d_desc(net, x, &d), act);
}
static dls_val resnet8_build(dls_net *net) {
    dls_val x = resnet_conv(net, dls_net_input(net, 8, 8, 3), 8, 3, 1, DLS_ACT_RELU);
    for (int32_t i = 0; i < 3; i++) {
        const int32_t channels = 8 + 8 * i, stride = i == 0 ? 1 : 2;
        dls_val y = resnet_conv(net, x, channels, 3, stride, DLS_ACT_RELU);
        y = resnet_conv(net, y, channels, 3, 1, DLS_ACT_NONE);
        if (i > 0) x = resnet_conv(net, x, channels, 1, stride, DLS_ACT_NONE);
        x = dls_net_add(net, y, x, DLS_ACT_RELU);
    }
    return dls_net_dense(net, dls_net_global_avgpool(net, x), 10, DLS_ACT_NONE);
}
static void resnet8_train(dls_train_desc *d) {
    d->optim.lr = 0.05f;
    d->optim.momentum = 0.9f;
    d->optim.nesterov = true;
    d->optim.weight_decay = 0.0005f;
}
static dls_val mobile_build(dls_net *net) {
    dls_val x = resnet_conv(net, dls_net_input(net, 9, 9, 3), 8, 3, 2, DLS_ACT_RELU6);
    for (int32_t i = 0; i < 2; i++) {
        dls_val y = resnet_conv(net, x, 20, 1, 1, DLS_ACT_RELU6), gate;
        y = dls_net_batchnorm(net, dls_net_depthwise(net, y, 3, 1, DLS_ACT_NONE), DLS_ACT_RELU6);
        gate = dls_net_dense(net, dls_net_global_avgpool(net, y), 5, DLS_ACT_SILU);
        gate = dls_net_dense(net, gate, 20, DLS_ACT_HSIGMOID);
        y = resnet_conv(net, dls_net_mul(net, y, gate), 8, 1, 1, DLS_ACT_NONE);
        x = dls_net_add(net, x, y, DLS_ACT_NONE);
    }
    x = dls_net_conv2d(net, x, 24, 1, DLS_ACT_HSWISH);
    x = dls_net_dropout(net, dls_net_global_avgpool(net, x), 0.25f);
    return dls_net_dense(net, x, 10, DLS_ACT_NONE);
}
static void mobile_train(dls_train_desc *d) {
    d->optim.kind = DLS_OPTIM_RMSPROP;
    d->optim.lr = 0.002f;
    d->optim.momentum = 0.9f;
    d->optim.schedule = DLS_SCHEDULE_STEP;
    d->optim.step_every = 2;
}
static dls_val gpt_build(dls_net *net) {
    dls_attention_desc a;
    const dls_val table = dls_net_embedding(net, dls_net_input_ids(net, 10), 29, 24);
    dls_val x = dls_net_position(net, table), y;
    memset(&a, 0, sizeof a);
    a.heads = 2;
    a.causal = true;
    for (int32_t i = 0; i < 2; i++) {
        y = dls_net_linear(net, dls_net_layernorm(net, x), 72, DLS_ACT_NONE);
        y = dls_net_linear(net, dls_net_attention_packed(net, y, &a), 24, DLS_ACT_NONE);
        x = dls_net_add(net, x, dls_net_dropout(net, y, 0.1f), DLS_ACT_NONE);
        y = dls_net_linear(net, dls_net_layernorm(net, x), 48,
                           i == 0 ? DLS_ACT_GELU : DLS_ACT_GELU_TANH);
        x = dls_net_add(net, x, dls_net_linear(net, y, 24, DLS_ACT_NONE), DLS_ACT_NONE);
    }
    return dls_net_tied_linear(net, dls_net_rmsnorm(net, dls_net_rope(net, x, 2, 0)), table);
}
static void gpt_train(dls_train_desc *d) {
    d->optim.kind = DLS_OPTIM_ADAMW;
    d->optim.clip_norm = 0.5f;
    d->optim.schedule = DLS_SCHEDULE_COSINE;
    d->optim.warmup_steps = 1;
    d->optim.total_steps = 5;
}
static dls_val lstm_build(dls_net *net) {
    dls_val x = dls_net_lstm(net, dls_net_input(net, 7, 1, 5), 12);
    x = dls_net_gru(net, x, 10);
    return dls_net_dense(net, x, 4, DLS_ACT_NONE);
}
static void lstm_train(dls_train_desc *d) {
    d->optim.kind = DLS_OPTIM_LION;
    d->loss.kind = DLS_LOSS_MSE;
}
static dls_val unet_build(dls_net *net) {
    dls_conv_desc up;
    dls_val skip = dls_net_conv2d(net, dls_net_input(net, 8, 6, 2), 8, 3, DLS_ACT_RELU), v[3], x;
    x = dls_net_conv2d(net, dls_net_avgpool(net, skip, 2), 12, 3, DLS_ACT_LEAKY);
    memset(&up, 0, sizeof up);
    up.channels = 8;
    up.stride_h = 2;
    v[0] = skip;
    v[1] = dls_net_conv_transpose(net, x, &up);
    v[2] = dls_net_upsample(net, x, 2, true);
    x = dls_net_groupnorm(net, dls_net_concat(net, v, 3, 2), 4, DLS_ACT_RELU);
    return dls_net_conv2d(net, x, 2, 1, DLS_ACT_NONE);
}
static void unet_train(dls_train_desc *d) {
    d->optim.kind = DLS_OPTIM_ADAMW;
    d->loss.kind = DLS_LOSS_BCE;
}
static const net_case net_cases[] = {
    {"mlp", mlp_build, mlp_train},
    {"lenet", lenet_build, lenet_train},
    {"resnet8", resnet8_build, resnet8_train},
    {"mobile", mobile_build, mobile_train},
    {"gpt", gpt_build, gpt_train},
    {"lstm", lstm_build, lstm_train},
    {"unet", unet_build, unet_train},
};
enum { NET_CASES = sizeof net_cases / sizeof *net_cases };

static dls_net *net_make(const net_case *c) {
    const dls_net_desc d = {0, 42};
    dls_net *net = dls_net_create(&d);
    (void)c->build(net);
    CHECK_STATUS(dls_net_status(net), DLS_OK);
    return net;
}

/* Data for any of them: reals or ids; a label per sample, and values: in [0, 1), or tokens. */
typedef struct net_data {
    dls_data data;
    union {
        float reals[NET_SAMPLES * 300];
        int32_t ids[NET_SAMPLES * 300];
    } x;
    int32_t label[NET_SAMPLES], index[NET_SAMPLES];
    float values[NET_SAMPLES * 300];
} net_data;
static net_data net_input;

static void net_fill(const net_case *c, net_data *d) {
    dls_net *net = net_make(c);
    const dls_shape in = dls_net_shape(net, 0), out = dls_net_shape(net, dls_net_output_of(net));
    const size_t inputs = dls_shape_count(in), positions = (size_t)out.h * (size_t)out.w;
    const bool ids = strcmp(c->name, "gpt") == 0;
    dls_rng rng = {7, 0};
    for (size_t i = 0; i < NET_SAMPLES * inputs; i++) {
        if (ids)
            d->x.ids[i] = (int32_t)(dls_rng_u32(&rng) % 29);
        else
            d->x.reals[i] = 2 * dls_rng_uniform(&rng) - 1;
    }
    for (size_t i = 0; i < NET_SAMPLES; i++)
        d->label[i] = (int32_t)(dls_rng_u32(&rng) % (uint32_t)out.c);
    for (size_t i = 0; i < NET_SAMPLES * dls_shape_count(out); i++)
        d->values[i] = ids ? 0 : dls_rng_uniform(&rng);
    for (size_t i = 0; ids && i < NET_SAMPLES * positions; i++) /* a next token each, one-hot */
        d->values[i * (size_t)out.c + dls_rng_u32(&rng) % (uint32_t)out.c] = 1;
    for (int32_t i = 0; i < NET_SAMPLES; i++) d->index[i] = i * 5 % NET_SAMPLES;
    memset(&d->data, 0, sizeof d->data);
    d->data.x = d->x.reals;
    d->data.dtype = ids ? DLS_I32 : DLS_F32;
    d->data.shape = in;
    d->data.count = NET_SAMPLES;
    if (positions == 1) d->data.label = d->label;
    d->data.values = d->values;
    d->data.values_each = (int32_t)dls_shape_count(out);
    d->data.classes = out.c;
    dls_net_destroy(net);
}
/* Samples of step s: `index` walks over the data. */
static const int32_t *net_step_index(const net_data *d, int s) {
    static int32_t index[NET_BATCH];
    for (int i = 0; i < NET_BATCH; i++) index[i] = d->index[(s * NET_BATCH + i) % NET_SAMPLES];
    return index;
}
