/* A net and data so small that thousands of steps take a second, and the hash of its state after
   each step on one device: what every run must come to. */
#define TINY_SAMPLES 26
#define TINY_STEPS 6000
static float tiny_x[TINY_SAMPLES * 16];
static int32_t tiny_label[TINY_SAMPLES];
static uint64_t tiny_hash[TINY_STEPS + 1];

static dls_data tiny_data(void) {
    dls_data d;
    int i;
    memset(&d, 0, sizeof d);
    for (i = 0; i < TINY_SAMPLES; i++) tiny_label[i] = i % 3;
    for (i = 0; i < TINY_SAMPLES * 16; i++)
        tiny_x[i] = (float)(dls_rand_at(8, (uint32_t)i) & 255) / 255 +
                    (i % 16 / 5 == tiny_label[i / 16] ? 0.5f : 0.0f);
    d.x = tiny_x;
    d.dtype = DLS_F32;
    d.shape.h = d.shape.w = 4;
    d.shape.c = 1;
    d.count = TINY_SAMPLES;
    d.label = tiny_label;
    d.classes = 3;
    return d;
}
static dls_net *tiny_net(uint64_t seed) {
    dls_net_desc desc;
    dls_net *net;
    dls_val x;
    memset(&desc, 0, sizeof desc);
    desc.seed = seed;
    net = dls_net_create(&desc);
    if (net == NULL) return NULL;
    x = dls_net_input(net, 4, 4, 1);
    x = dls_net_conv2d(net, x, 3, 3, DLS_ACT_NONE);
    x = dls_net_batchnorm(net, x, DLS_ACT_RELU);
    x = dls_net_dropout(net, x, 0.1f);
    dls_net_dense(net, x, 3, DLS_ACT_NONE);
    return net;
}
static dls_train_desc tiny_desc(void) {
    dls_train_desc d;
    memset(&d, 0, sizeof d);
    d.batch = 7;
    d.shards = 7;
    d.seed = 4;
    d.optim.kind = DLS_OPTIM_ADAMW;
    d.optim.lr = 0.02f;
    d.optim.clip_norm = 1.0f;
    return d;
}
/* Fills tiny_hash. False: it failed. */
static bool tiny_alone(int32_t steps) {
    const dls_data data = tiny_data();
    const dls_train_desc d = tiny_desc();
    dls_net *net = tiny_net(1);
    dls_train *train = dls_train_create(net, &d);
    const int32_t per_epoch = (TINY_SAMPLES + d.batch - 1) / d.batch;
    dls_status st = train != NULL ? DLS_OK : DLS_E_MEMORY;
    int32_t step, i, index[7];
    for (step = 0; step < steps && st == DLS_OK; step++) {
        const int32_t first = step % per_epoch * d.batch;
        tiny_hash[step] = dls_train_hash(train);
        for (i = 0; i < d.batch && first + i < TINY_SAMPLES; i++)
            index[i] = dls_fit_index(d.seed, step / per_epoch, TINY_SAMPLES, first + i);
        st = dls_train_step_data(train, &data, NULL, index, i, NULL);
    }
    if (st == DLS_OK) tiny_hash[steps] = dls_train_hash(train);
    dls_train_destroy(train);
    dls_net_destroy(net);
    return st == DLS_OK;
}
