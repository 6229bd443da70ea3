/* Digits of 8 x 8 pixels, made of those of examples/data by mean over 3 x 3, and a net for them. */
#define DIGITS_MAX 2000
static unsigned char digits_x[DIGITS_MAX * 64];
static int32_t digits_label[DIGITS_MAX];

static dls_data digits_open(int32_t count) {
    dls_data d, from;
    int32_t i, r, k, c;
    memset(&d, 0, sizeof d);
    if (dls_data_open(&from, "../examples/data/mnist-test", NULL) != DLS_OK) {
        printf("no data\n");
        exit(2);
    }
    if (count > from.count) count = from.count;
    for (i = 0; i < count; i++) {
        const unsigned char *p = (const unsigned char *)from.x + i * 784;
        digits_label[i] = from.label[i];
        for (r = 0; r < 8; r++)
            for (c = 0; c < 8; c++) {
                int32_t sum = 0;
                for (k = 0; k < 9; k++) sum += p[(2 + 3 * r + k / 3) * 28 + 2 + 3 * c + k % 3];
                digits_x[i * 64 + r * 8 + c] = (unsigned char)(sum / 9);
            }
    }
    dls_data_close(&from);
    d.x = digits_x;
    d.dtype = DLS_U8;
    d.shape.h = d.shape.w = 8;
    d.shape.c = 1;
    d.count = count;
    d.label = digits_label;
    d.classes = 10;
    return d;
}
static dls_data digits_slice(const dls_data *all, int32_t first, int32_t count) {
    dls_data d = *all;
    d.x = (const unsigned char *)all->x + first * 64;
    d.label = all->label + first;
    d.count = count;
    return d;
}
static dls_net *digits_net(void) {
    dls_net_desc desc;
    dls_net *net;
    dls_val x;
    memset(&desc, 0, sizeof desc);
    desc.seed = 3;
    net = dls_net_create(&desc);
    x = dls_net_input(net, 8, 8, 1);
    x = dls_net_dense(net, x, 16, DLS_ACT_RELU);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}
static dls_train *digits_train(dls_net *net, int32_t batch, float lr, float momentum) {
    dls_train_desc d;
    memset(&d, 0, sizeof d);
    d.batch = batch;
    d.seed = 4;
    d.optim.lr = lr;
    d.optim.momentum = momentum;
    return dls_train_create(net, &d);
}
