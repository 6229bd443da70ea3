/* grad: every loss with every field of its desc and target. */

enum { LOSS_N = 3, LOSS_H = 2, LOSS_K = 5, LOSS_ALL = LOSS_N * LOSS_H * LOSS_K };
typedef struct loss_inputs {
    dls_real z[LOSS_ALL], values[LOSS_ALL];
    int32_t label[LOSS_N * LOSS_H], label2[LOSS_N * LOSS_H];
    float share2[LOSS_N];
} loss_inputs;

static void loss_fill(loss_inputs *in) {
    dls_rng rng = {17, 0};
    for (int i = 0; i < LOSS_ALL; i++) {
        in->z[i] = on_grid(2 * (double)dls_rng_normal(&rng));
        in->values[i] = on_grid((double)dls_rng_uniform(&rng));
    }
    for (int i = 0; i < LOSS_N * LOSS_H; i++) {
        in->label[i] = i == 3 ? -1 : (int32_t)(dls_rng_u32(&rng) % LOSS_K); /* one is ignored */
        in->label2[i] = (int32_t)(dls_rng_u32(&rng) % LOSS_K);
    }
    for (int i = 0; i < LOSS_N; i++) in->share2[i] = 0.25f * (float)i;
}
static double loss_value(const dls_loss_desc *d, const loss_inputs *in, const dls_target *target,
                         const dls_cx *cx, double scale, dls_real *grad) {
    const dls_shape shape = {LOSS_H, 1, LOSS_K};
    dls_loss_sums sums;
    memset(&sums, 0, sizeof sums);
    CHECK_STATUS(dls_loss(cx, d, LOSS_N, shape, in->z, target, scale, grad, &sums), DLS_OK);
    return sums.loss * scale;
}
static void loss_case(const char *name, const dls_loss_desc *d, loss_inputs *in,
                      const dls_target *target) {
    const double scale = 0.5;
    dls_cx cx;
    dls_real grad[LOSS_ALL], value;
#if DLS_REAL64
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_BEST, false, NULL), DLS_OK);
    value = (dls_real)loss_value(d, in, target, &cx, scale, grad);
    for (int i = 0; i < LOSS_ALL; i++) {
        const double e = 1e-5, keep = in->z[i];
        double up, down, numeric;
        in->z[i] = keep + e;
        up = loss_value(d, in, target, &cx, scale, NULL);
        in->z[i] = keep - e;
        down = loss_value(d, in, target, &cx, scale, NULL);
        in->z[i] = keep;
        numeric = (up - down) / (2 * e);
        test_checks++;
        if (!(fabs(numeric - grad[i]) < 1e-8))
            test_report(name, 0, "gradient %g of logit %d, numeric %g", grad[i], i, numeric);
    }
    grad_exchange(name, "loss", &value, 1);
    grad_exchange(name, "gradient", grad, LOSS_ALL);
#else
    const long at = ftell(grad_file);
    for (int isa = DLS_ISA_SCALAR; isa < DLS_ISA_COUNT; isa++) {
        for (int strict = 0; strict < 2; strict++) {
            if (dls_cx_init(&cx, (dls_isa)isa, strict != 0, NULL) != DLS_OK) continue;
            CHECK(fseek(grad_file, at, SEEK_SET) == 0);
            value = (dls_real)loss_value(d, in, target, &cx, scale, grad);
            grad_exchange(name, "loss", &value, 1);
            grad_exchange(name, "gradient", grad, LOSS_ALL);
        }
    }
#endif
}
static void test_grad_loss(void) {
    static const float weights[LOSS_K] = {0.5f, 2, 1, 0.25f, 3};
    static loss_inputs in;
    dls_loss_desc d;
    dls_target labels, values, both, mixed;
    memset(&d, 0, sizeof d);
    memset(&labels, 0, sizeof labels);
    loss_fill(&in);
    values = labels;
    labels.label = in.label;
    values.values = in.values;
    both = labels;
    both.values = in.values;
    mixed = labels;
    mixed.label2 = in.label2;
    mixed.share2 = in.share2;
    loss_case("cross-entropy", &d, &in, &labels);
    d.smoothing = 0.25f;
    loss_case("cross-entropy smoothed", &d, &in, &labels);
    d.class_weights = weights;
    loss_case("cross-entropy weighted and smoothed", &d, &in, &labels);
    d.smoothing = 0;
    loss_case("cross-entropy weighted", &d, &in, &labels);
    d.class_weights = NULL;
    loss_case("cross-entropy mixed", &d, &in, &mixed);
    loss_case("cross-entropy of probabilities", &d, &in, &values);
    d.kind = DLS_LOSS_MSE;
    loss_case("mean square", &d, &in, &values);
    d.kind = DLS_LOSS_BCE;
    loss_case("binary cross-entropy", &d, &in, &values);
    d.kind = DLS_LOSS_KL;
    loss_case("distillation", &d, &in, &values);
    d.temperature = 3;
    loss_case("distillation, temperature 3", &d, &in, &values);
    d.alpha = 0.375f;
    loss_case("distillation and labels", &d, &in, &both);
}
