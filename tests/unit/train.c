/* train: losses refuse what makes no sense; rates, defaults, clipping and accumulation do what is
   documented; exact mode gives the same bits for any split; checkpoints and stopped fits go on as
   if never interrupted; failures leave weights and memory as they were. What steps compute is in
   golden. */

/* ---- A small task: 3 classes of 6 numbers ---- */

enum { TRAIN_N = 40, TRAIN_IN = 6, TRAIN_CLASSES = 3 };
static dls_real train_x[TRAIN_N * TRAIN_IN];
static float train_floats[TRAIN_N * TRAIN_IN];
static int32_t train_label[TRAIN_N], train_index[TRAIN_N];
static dls_data train_data;

static void train_make_data(void) {
    dls_rng rng = {5, 0};
    for (int32_t i = 0; i < TRAIN_N; i++) {
        train_label[i] = i % TRAIN_CLASSES;
        train_index[i] = (i * 7) % TRAIN_N;
        for (int k = 0; k < TRAIN_IN; k++) {
            const float v =
                0.3f * dls_rng_normal(&rng) + (k % TRAIN_CLASSES == train_label[i] ? 1.0f : 0.0f);
            train_floats[i * TRAIN_IN + k] = v;
            train_x[i * TRAIN_IN + k] = (dls_real)v;
        }
    }
    memset(&train_data, 0, sizeof train_data);
    train_data.x = train_floats;
    train_data.dtype = DLS_F32;
    train_data.shape = dlsi_shape(1, 1, TRAIN_IN);
    train_data.count = TRAIN_N;
    train_data.label = train_label;
    train_data.classes = TRAIN_CLASSES;
}
static dls_net *train_net(bool dropout) {
    dls_net_desc desc = {0, 3};
    dls_net *net = dls_net_create(&desc);
    dls_val x = dls_net_dense(net, dls_net_input(net, 1, 1, TRAIN_IN), 16, DLS_ACT_TANH);
    if (dropout) x = dls_net_dropout(net, x, 0.25f);
    (void)dls_net_dense(net, x, TRAIN_CLASSES, DLS_ACT_NONE);
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    return net;
}
static dls_train_desc train_desc(int32_t batch) {
    dls_train_desc d;
    memset(&d, 0, sizeof d);
    d.batch = batch;
    d.seed = 9;
    d.optim.lr = 0.05f;
    return d;
}
static dls_train *train_open(dls_net *net, const dls_train_desc *d) {
    dls_train *t = dls_train_create(net, d);
    char text[300];
    test_checks++;
    if (t == NULL)
        test_report(__FILE__, __LINE__, "no trainer: %s",
                    dls_error_text(dls_net_error(net), text, sizeof text));
    return t;
}
static void train_close(dls_train *t, dls_net *net) {
    dls_train_destroy(t);
    dls_net_destroy(net);
}
static dls_status train_step(dls_train *t, int32_t first, int32_t n, dls_step_stats *stats) {
    return dls_train_step_data(t, &train_data, NULL, train_index + first, n, stats);
}
/* The hash after `steps` steps of this desc on a fresh network. */
static uint64_t train_hash(const dls_train_desc *d, bool dropout, int32_t steps) {
    dls_net *net = train_net(dropout);
    dls_train *t = train_open(net, d);
    for (int32_t i = 0; i < steps; i++) CHECK_STATUS(train_step(t, i * 8 % 32, 8, NULL), DLS_OK);
    const uint64_t hash = dls_train_hash(t);
    train_close(t, net);
    return hash;
}
/* All weights of a network, to be freed. */
static dls_real *train_weights(dls_net *net) {
    const size_t bytes = dls_net_param_count(net) * sizeof(dls_real);
    dls_real *w = (dls_real *)malloc(bytes);
    memcpy(w, dls_net_params(net), bytes);
    return w;
}
static double train_far(const dls_real *a, const dls_real *b, size_t n) {
    double far = 0;
    for (size_t i = 0; i < n; i++) far = fmax(far, fabs((double)a[i] - (double)b[i]));
    return far;
}
static bool train_same(dls_net *net, const dls_real *w) {
    return memcmp(w, dls_net_params(net), dls_net_param_count(net) * sizeof *w) == 0;
}
static const char *train_text(const dls_error *error) {
    static char text[400];
    return dls_error_text(error, text, sizeof text);
}

/* ---- Losses ---- */

static void test_train_loss_refusals(void) {
    const dls_shape s = {1, 1, 3}, none = {1, 0, 3};
    dls_real z[6] = {1, 2, 3, 4, 5, 6}, values[6] = {0, 1, 0, 1, 0, 0}, g[6];
    int32_t label[2] = {0, 2}, label2[2] = {1, 1};
    float share2[2] = {0.5f, 0.5f};
    dls_loss_sums sums = {1, 2, 3};
    dls_loss_desc d;
    dls_target t;
    dls_cx cx;
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_BEST, false, NULL), DLS_OK);
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_ARG); /* no targets */
    t.label = label;
    CHECK_STATUS(dls_loss(&cx, &d, 0, s, z, &t, 1, g, &sums), DLS_E_ARG);
    CHECK_STATUS(dls_loss(&cx, &d, 2, none, z, &t, 1, g, &sums), DLS_E_ARG);
    for (int kind = DLS_LOSS_MSE; kind <= DLS_LOSS_KL; kind++) { /* these want values */
        d.kind = (dls_loss_kind)kind;
        CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_ARG);
    }
    d.kind = (dls_loss_kind)(DLS_LOSS_KL + 1);
    t.values = values;
    CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_ARG);
    d.kind = DLS_LOSS_CROSS_ENTROPY;
    t.label2 = label2;
    CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_ARG); /* no share */
    t.share2 = share2;
    for (int bad = 0; bad < 4; bad++) {
        label[1] = bad == 0 ? 3 : bad == 1 ? -2 : 2;
        label2[0] = bad == 2 ? 3 : bad == 3 ? -1 : 1;
        CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_ARG);
    }
    label2[0] = 1;
    d.kind = DLS_LOSS_KL; /* its labels are checked too */
    d.alpha = 0.5f;
    label[0] = 7;
    CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_ARG);
    label[0] = 0;
    z[4] = (dls_real)NAN;
    for (int kind = 0; kind <= DLS_LOSS_KL; kind++) {
        d.kind = (dls_loss_kind)kind;
        CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_NUMBER);
        t.label = NULL, t.label2 = NULL;
        CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, NULL, &sums), DLS_E_NUMBER);
        t.label = label, t.label2 = label2;
    }
    z[4] = (dls_real)INFINITY;
    for (int kind = 0; kind <= DLS_LOSS_KL; kind++) {
        d.kind = (dls_loss_kind)kind;
        CHECK_STATUS(dls_loss(&cx, &d, 2, s, z, &t, 1, g, &sums), DLS_E_NUMBER);
    }
    CHECK(sums.loss == 1 && sums.positions == 2 && sums.correct == 3); /* failures add nothing */
}
static void test_train_loss_extremes(void) { /* far logits neither overflow nor lose the loss */
    const dls_shape s = {1, 1, 2};
    dls_real z[2] = {1000, -1000}, values[2] = {0, 1}, g[2];
    int32_t label[1] = {1};
    dls_loss_sums sums = {0, 0, 0};
    dls_loss_desc d;
    dls_target t;
    dls_cx cx;
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_BEST, false, NULL), DLS_OK);
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    t.label = label;
    CHECK_STATUS(dls_loss(&cx, &d, 1, s, z, &t, 1, g, &sums), DLS_OK);
    CHECK_NEAR(sums.loss, 2000, 1e-6);
    CHECK_NEAR(g[0], 1, 1e-6);
    CHECK_NEAR(g[1], -1, 1e-6);
    t.values = values;
    d.kind = DLS_LOSS_BCE;
    sums.loss = 0;
    CHECK_STATUS(dls_loss(&cx, &d, 1, s, z, &t, 1, g, &sums), DLS_OK);
    CHECK_NEAR(sums.loss, 1000, 1e-6);
    CHECK_NEAR(g[0], 0.5, 1e-6);
    CHECK_NEAR(g[1], -0.5, 1e-6);
}
static void test_train_loss_threads(void) { /* the same bits; the first bad row is reported */
    enum { ROWS = 500, K = 4 };
    static dls_real z[ROWS * K], g[2][ROWS * K];
    static int32_t label[ROWS];
    const dls_shape s = {ROWS / 10, 1, K};
    dls_loss_sums sums[2];
    dls_loss_desc d;
    dls_target t;
    dls_cx cx;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    memset(sums, 0, sizeof sums);
    for (int i = 0; i < ROWS * K; i++) z[i] = (dls_real)(dls_rand_at(1, (uint32_t)i) % 1000) / 100;
    for (int i = 0; i < ROWS; i++) label[i] = i % K;
    t.label = label;
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_BEST, false, i == 0 ? NULL : op_pool()), DLS_OK);
        CHECK_STATUS(dls_loss(&cx, &d, 10, s, z, &t, 1, g[i], &sums[i]), DLS_OK);
    }
    CHECK(memcmp(&sums[0], &sums[1], sizeof sums[0]) == 0);
    CHECK(memcmp(g[0], g[1], sizeof g[0]) == 0);
    CHECK(sums[0].positions == ROWS && sums[0].correct > 0);
    label[ROWS - 1] = K;
    CHECK_STATUS(dls_loss(&cx, &d, 10, s, z, &t, 1, g[0], &sums[0]), DLS_E_ARG);
}
/* KL with labels: the gradient is that of the loss, also with class weights, smoothing, second
   labels, ignored positions. */
static void test_train_loss_kl_labels(void) {
    const dls_shape s = {3, 1, 3};
    const float weights[3] = {0.5f, 2, 1}, share2[1] = {0.25f};
    const int32_t label[3] = {1, -1, 2}, label2[1] = {0};
    dls_real z[9] = {1, -1, 2, 0, 1, 0, -2, 1, 1}, teacher[9] = {2, 0, 1, 1, 1, 3, 0, 1, -1}, g[9];
    dls_loss_desc d;
    dls_target t;
    dls_cx cx;
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_SCALAR, false, NULL), DLS_OK);
    memset(&d, 0, sizeof d);
    d.kind = DLS_LOSS_KL;
    d.alpha = 0.4f;
    d.temperature = 2;
    d.smoothing = 0.1f;
    d.class_weights = weights;
    t.label = label, t.label2 = label2, t.share2 = share2, t.values = teacher;
    dls_loss_sums sums = {0, 0, 0};
    CHECK_STATUS(dls_loss(&cx, &d, 1, s, z, &t, 1, g, &sums), DLS_OK);
    CHECK(sums.positions == 3);
    for (int i = 0; i < 9; i++) {
        dls_loss_sums side[2] = {{0, 0, 0}, {0, 0, 0}};
        const dls_real keep = z[i];
        for (int k = 0; k < 2; k++) {
            z[i] = keep + (dls_real)(k == 0 ? 0.0078125 : -0.0078125);
            CHECK_STATUS(dls_loss(&cx, &d, 1, s, z, &t, 1, NULL, &side[k]), DLS_OK);
        }
        z[i] = keep;
        CHECK_NEAR(g[i], (side[0].loss - side[1].loss) / 0.015625, 1e-4);
    }
}

/* ---- Rates and defaults ---- */

static void test_train_rates(void) {
    static const double defaults[] = {1e-2, 1e-3, 1e-3, 1e-2, 1e-4};
    static const int32_t slots[] = {0, 2, 2, 1, 1}, with_momentum[] = {1, 2, 2, 2, 1};
    dls_optim_desc d;
    memset(&d, 0, sizeof d);
    for (int kind = 0; kind <= DLS_OPTIM_LION; kind++) {
        d.kind = (dls_optim_kind)kind;
        CHECK_NEAR(dls_optim_lr(&d, 0), defaults[kind], 1e-9);
        CHECK_NEAR(dls_optim_lr(&d, 1000000), defaults[kind], 1e-9);
        CHECK_INT(dls_optim_slots(&d), slots[kind]);
        d.momentum = 0.5f;
        CHECK_INT(dls_optim_slots(&d), with_momentum[kind]);
        d.momentum = 0;
    }
    d.lr = 0.5f;
    d.warmup_steps = 4;
    for (int step = 0; step < 4; step++) CHECK_NEAR(dls_optim_lr(&d, step), (step + 1) / 8.0, 0);
    CHECK_NEAR(dls_optim_lr(&d, 4), 0.5, 0);
    d.schedule = DLS_SCHEDULE_STEP; /* by 0.1 every 1000 unless told */
    CHECK_NEAR(dls_optim_lr(&d, 1003), 0.5, 0);
    CHECK_NEAR(dls_optim_lr(&d, 1004), 0.05, 1e-8);
    CHECK_NEAR(dls_optim_lr(&d, 3004), 0.0005, 1e-10);
    d.schedule = DLS_SCHEDULE_COSINE; /* no steps to spread over: constant */
    CHECK_NEAR(dls_optim_lr(&d, 50), 0.5, 0);
    d.total_steps = 24;
    d.lr_min = 0.125f;
    CHECK_NEAR(dls_optim_lr(&d, 4), 0.5, 0);
    CHECK_NEAR(dls_optim_lr(&d, 14), 0.3125, 1e-12);
    CHECK_NEAR(dls_optim_lr(&d, 24), 0.125, 0);
    CHECK_NEAR(dls_optim_lr(&d, 9999), 0.125, 0);
}

/* ---- Trainers ---- */

static void train_refused(dls_net *net, const dls_train_desc *d, const char *part) {
    CHECK_INT(dls_train_size(net, d), 0);
    CHECK_TEXT(train_text(dls_net_error(net)), part);
    CHECK(dls_train_create(net, d) == NULL);
    CHECK_TEXT(train_text(dls_net_error(net)), part);
}
static void test_train_descs(void) {
    dls_net *net = train_net(false), *broken = dls_net_create(NULL);
    dls_train *t;
    for (int bad = 0; bad < 9; bad++) {
        dls_train_desc d = train_desc(bad == 0 ? -1 : 8);
        if (bad == 1) d.accumulate = -1;
        if (bad == 2) d.accumulate = 9;
        if (bad == 3) d.shards = -1;
        if (bad == 4) d.shards = 9;
        if (bad == 5) d.shards = 2, d.accumulate = 2;
        if (bad == 6) d.batch = 1000, d.shards = 257;
        if (bad == 7) d.optim.kind = (dls_optim_kind)5;
        if (bad == 8) d.loss.kind = (dls_loss_kind)4;
        train_refused(net, &d, bad < 7 ? "must not exceed" : "no optimiser");
        CHECK_STATUS(dls_train_init(&t, net, &d, NULL, 0), DLS_E_ARG);
        CHECK(t == NULL);
    }
    (void)dls_net_dense(broken, DLS_VAL_NONE, 4, DLS_ACT_NONE);
    CHECK_INT(dls_train_size(broken, NULL), 0);
    CHECK(dls_train_create(broken, NULL) == NULL);
    CHECK(dls_train_init(&t, broken, NULL, NULL, 0) == dls_net_status(broken));
    dls_net_destroy(broken);
    t = dls_train_create(net, NULL); /* every default */
    CHECK(t != NULL && dls_train_steps(t) == 0);
    train_close(t, net);
}
static void test_train_memory(void) { /* as many bytes as it said, none more, none while it runs */
    for (int way = 0; way < 3; way++) {
        dls_net *net = train_net(false);
        dls_train_desc d = train_desc(8);
        d.shards = way == 1 ? 4 : 0;
        d.optim.kind = way == 2 ? DLS_OPTIM_ADAM : DLS_OPTIM_SGD;
        const size_t bytes = dls_train_size(net, &d);
        unsigned char *raw = (unsigned char *)malloc(bytes + 192), *mem;
        dls_train *t = NULL;
        mem = raw + (64 - (uintptr_t)raw % 64) % 64;
        memset(mem, 0xA5, bytes + 64);
        CHECK(bytes > 0);
        CHECK_STATUS(dls_train_init(&t, net, &d, mem, bytes - 1), DLS_E_MEMORY);
        CHECK(t == NULL);
        CHECK_STATUS(dls_train_init(&t, net, &d, NULL, bytes), DLS_E_MEMORY);
        CHECK_STATUS(dls_train_init(&t, net, &d, mem, bytes), DLS_OK);
        const size_t taken = unit_mallocs;
        for (int i = 0; i < 3; i++) CHECK_STATUS(train_step(t, 0, 8, NULL), DLS_OK);
        CHECK_INT(unit_mallocs, taken);
        for (size_t i = 0; i < 64; i++) CHECK(mem[bytes + i] == 0xA5);
        dls_net_destroy(net);
        free(raw);
    }
    dls_net *net = train_net(false);
    unit_mallocs_left = 0;
    CHECK(dls_train_create(net, NULL) == NULL);
    unit_mallocs_left = -1;
    CHECK_TEXT(train_text(dls_net_error(net)), "no memory");
    dls_train_destroy(NULL);
    dls_net_destroy(net);
}
static void test_train_step_refusals(void) {
    dls_net *net = train_net(false);
    dls_train_desc desc = train_desc(8);
    dls_train *t = train_open(net, &desc);
    dls_real *w = train_weights(net);
    float values[TRAIN_N * 4];
    int32_t bad_index[1] = {TRAIN_N}, bad_label[8] = {0, 1, 2, 3, 0, 0, 0, 0};
    const dls_error *e = dls_exec_error(dls_train_exec(t));
    dls_target target;
    dls_data d = train_data;
    memset(&target, 0, sizeof target);
    memset(values, 0, sizeof values);
    target.label = bad_label;
    CHECK_STATUS(dls_train_step(t, NULL, &target, 8, NULL), DLS_E_ARG);
    CHECK_STATUS(dls_train_step(t, train_x, NULL, 8, NULL), DLS_E_ARG);
    CHECK_STATUS(dls_train_step_data(t, NULL, NULL, train_index, 8, NULL), DLS_E_ARG);
    CHECK_STATUS(dls_train_step_data(t, &d, NULL, NULL, 8, NULL), DLS_E_ARG);
    CHECK_STATUS(dls_train_step(t, train_x, &target, 0, NULL), DLS_E_ARG);
    CHECK_STATUS(dls_train_step(t, train_x, &target, 9, NULL), DLS_E_ARG);
    CHECK_TEXT(train_text(e), "9 samples in a step; the trainer is for 1 to 8");
    CHECK_STATUS(dls_train_step(t, train_x, &target, 8, NULL), DLS_E_ARG);
    CHECK_TEXT(train_text(e), "labels below the outputs");
    CHECK_STATUS(dls_train_step_data(t, &d, NULL, bad_index, 1, NULL), DLS_E_ARG);
    d.shape.c = 5;
    CHECK_STATUS(dls_train_step_data(t, &d, NULL, train_index, 8, NULL), DLS_E_SHAPE);
    CHECK_TEXT(train_text(e), "samples of 5 elements do not fit the network's input of 6");
    d = train_data, d.dtype = DLS_I32;
    CHECK_STATUS(dls_train_step_data(t, &d, NULL, train_index, 8, NULL), DLS_E_SHAPE);
    d = train_data, d.values = values, d.values_each = 4;
    CHECK_STATUS(dls_train_step_data(t, &d, NULL, train_index, 8, NULL), DLS_E_SHAPE);
    CHECK_TEXT(train_text(e), "4 target values a sample do not fit the output of 3");
    d = train_data, d.classes = 4;
    CHECK_STATUS(dls_train_step_data(t, &d, NULL, train_index, 8, NULL), DLS_E_SHAPE);
    CHECK_TEXT(train_text(e), "4 classes in the data, 3 outputs");
    d = train_data, d.label = NULL;
    CHECK_STATUS(dls_train_step_data(t, &d, NULL, train_index, 8, NULL), DLS_E_ARG);
    CHECK(train_same(net, w) && dls_train_steps(t) == 0); /* none of them changed anything */
    free(w);
    train_close(t, net);

    net = dls_net_create(NULL); /* labels of samples, but several positions */
    (void)dls_net_linear(net, dls_net_input(net, 2, 1, 3), 3, DLS_ACT_NONE);
    t = train_open(net, &desc);
    CHECK_STATUS(dls_train_step_data(t, &train_data, NULL, train_index, 8, NULL), DLS_E_SHAPE);
    CHECK_TEXT(train_text(dls_exec_error(dls_train_exec(t))), "the output has 2 positions");
    train_close(t, net);

    net = dls_net_create(NULL); /* nothing goes in */
    (void)dls_net_param(net, 1, 1, 3, 1);
    t = dls_train_create(net, &desc);
    if (t != NULL) CHECK_STATUS(train_step(t, 0, 8, NULL), DLS_E_STATE);
    CHECK(t != NULL || dls_net_error(net)->status != DLS_OK);
    train_close(t, net);
}
static void test_train_accumulate(void) { /* parts of a step are the step, and save memory */
    dls_step_stats whole, parts;
    for (int way = 0; way < 3; way++) {
        dls_net *a = train_net(false), *b = train_net(false);
        dls_train_desc d = train_desc(16);
        d.optim.clip_norm = way == 1 ? 0.1f : 0;
        dls_train *ta = train_open(a, &d);
        const size_t bytes = dls_train_size(a, &d);
        d.accumulate = way == 2 ? 16 : 3;
        dls_train *tb = train_open(b, &d);
        CHECK(dls_train_size(b, &d) < bytes);
        for (int i = 0; i < 10; i++) {
            const int32_t n = i == 9 ? 2 : 16 - i; /* fewer samples than parts, too */
            CHECK_STATUS(train_step(ta, i, n, &whole), DLS_OK);
            CHECK_STATUS(train_step(tb, i, n, &parts), DLS_OK);
            CHECK_NEAR(parts.loss, whole.loss, 1e-5);
            CHECK_NEAR(parts.accuracy, whole.accuracy, 1e-9);
            CHECK_NEAR(parts.grad_norm, whole.grad_norm, 1e-5);
        }
        CHECK(train_far(dls_net_params(a), dls_net_params(b), dls_net_param_count(a)) < 1e-5);
        train_close(ta, a);
        train_close(tb, b);
    }
}
/* Positions labelled -1 are as if they were not there: whole, in parts, in shards. */
static void test_train_ignored(void) {
    int32_t label[8] = {0, -1, 2, -1, 1, -1, 0, -1}, few[4] = {0, 2, 1, 0}, none[8];
    dls_real x[4 * TRAIN_IN];
    for (int i = 0; i < 4; i++)
        memcpy(x + i * TRAIN_IN, train_x + 2 * i * TRAIN_IN, TRAIN_IN * sizeof *x);
    for (int i = 0; i < 8; i++) none[i] = -1;
    for (int way = 0; way < 4; way++) {
        dls_net *a = train_net(false), *b = train_net(false);
        dls_train_desc d = train_desc(8);
        dls_train *ta = train_open(a, &d);
        dls_step_stats sa, sb;
        dls_data data = train_data;
        dls_target t;
        memset(&t, 0, sizeof t);
        d.accumulate = way == 1 ? 3 : 0;
        d.shards = way >= 2 ? 4 : 0;
        dls_train *tb = train_open(b, &d);
        data.label = label;
        data.count = 8;
        for (int i = 0; i < 3; i++) {
            const int32_t index[8] = {0, 1, 2, 3, 4, 5, 6, 7};
            t.label = few;
            CHECK_STATUS(dls_train_step(ta, x, &t, 4, &sa), DLS_OK);
            t.label = label;
            if (way < 3) CHECK_STATUS(dls_train_step(tb, train_x, &t, 8, &sb), DLS_OK);
            if (way == 3) CHECK_STATUS(dls_train_step_data(tb, &data, NULL, index, 8, &sb), DLS_OK);
            CHECK_NEAR(sb.loss, sa.loss, 1e-5);
            CHECK_NEAR(sb.accuracy, sa.accuracy, 1e-6);
        }
        CHECK(train_far(dls_net_params(a), dls_net_params(b), dls_net_param_count(a)) < 1e-5);
        t.label = none;
        dls_real *w = train_weights(b);
        CHECK_STATUS(dls_train_step(tb, train_x, &t, 8, &sb), DLS_OK);
        CHECK(sb.loss == 0 && train_same(b, w));
        free(w);
        train_close(ta, a);
        train_close(tb, b);
    }
}
static void test_train_clip(void) { /* a step of SGD with rate 1 is as long as clip_norm */
    dls_net *net = train_net(false);
    dls_train_desc d = train_desc(16);
    dls_step_stats stats;
    const size_t n = dls_net_param_count(net);
    d.optim.lr = 1;
    d.optim.clip_norm = 0.01f;
    dls_train *t = train_open(net, &d);
    dls_real *w = train_weights(net), *w2;
    double sum = 0;
    CHECK_STATUS(train_step(t, 0, 16, &stats), DLS_OK);
    for (size_t i = 0; i < n; i++) sum += pow((double)w[i] - (double)dls_net_params(net)[i], 2);
    CHECK(stats.grad_norm > 0.1);
    CHECK_NEAR(sqrt(sum), 0.01, 1e-6);
    dls_train_destroy(t);
    memcpy(dls_net_params(net), w, n * sizeof *w);
    d.optim.clip_norm = 1e6f; /* never reached: as without */
    t = train_open(net, &d);
    const double norm = stats.grad_norm;
    CHECK_STATUS(train_step(t, 0, 16, &stats), DLS_OK);
    CHECK_NEAR(stats.grad_norm, norm, 0);
    dls_train_destroy(t);
    w2 = train_weights(net);
    sum = 0;
    for (size_t i = 0; i < n; i++) sum += pow((double)w[i] - (double)w2[i], 2);
    CHECK_NEAR(sqrt(sum), norm, 1e-5);
    memcpy(dls_net_params(net), w, n * sizeof *w);
    d.optim.clip_norm = 0;
    t = train_open(net, &d);
    CHECK_STATUS(train_step(t, 0, 16, &stats), DLS_OK);
    CHECK(stats.grad_norm == 0);
    CHECK(train_far(w2, dls_net_params(net), n) < 1e-6);
    free(w);
    free(w2);
    train_close(t, net);
}
static void test_train_number(void) { /* NaN and infinity stop a step before weights change */
    static dls_real x[8 * TRAIN_IN];
    for (int way = 0; way < 8; way++) {
        dls_net *net = train_net(false);
        dls_train_desc d = train_desc(8);
        dls_target target;
        dls_real values[24], *w = train_weights(net);
        const bool gradients = way >= 4; /* else the loss itself */
        memset(&target, 0, sizeof target);
        for (int i = 0; i < 24; i++) values[i] = gradients ? (dls_real)1e22 : (dls_real)0;
        if (way % 4 == 1 || (gradients && way % 4 == 0)) d.optim.clip_norm = 1;
        if (way % 4 == 2) d.shards = 4;
        if (way % 4 == 3) d.accumulate = 2, d.optim.clip_norm = 1;
        d.loss.kind = DLS_LOSS_MSE;
        target.values = values;
        for (int i = 0; i < 8 * TRAIN_IN; i++) x[i] = (dls_real)1e17;
        if (!gradients) x[9] = (dls_real)NAN;
        dls_train *t = train_open(net, &d);
        CHECK_STATUS(dls_train_step(t, x, &target, 8, NULL), DLS_E_NUMBER);
        CHECK(dls_exec_error(dls_train_exec(t))->status == DLS_E_NUMBER);
        CHECK(train_same(net, w) && dls_train_steps(t) == 0);
        CHECK_STATUS(train_step(t, 0, 8, NULL), DLS_E_ARG); /* no values there */
        d.loss.kind = DLS_LOSS_CROSS_ENTROPY;
        target.label = train_label;
        free(w);
        train_close(t, net);
    }
}
static void test_train_bits(void) { /* threads do not change a bit; seeds do, where they should */
    for (int way = 0; way < 4; way++) {
        dls_train_desc d = train_desc(8), p;
        d.shards = way == 1 ? 4 : 0;
        d.accumulate = way == 2 ? 3 : 0;
        d.optim.clip_norm = way == 3 ? 0.1f : 0;
        p = d;
        p.pool = op_pool();
        const uint64_t hash = train_hash(&d, true, 6);
        CHECK(hash == train_hash(&p, true, 6));
        CHECK(hash != train_hash(&d, true, 5));
        p.seed++;
        CHECK(hash != train_hash(&p, true, 6)); /* another dropout */
        CHECK(train_hash(&d, false, 6) == train_hash(&p, false, 6));
    }
}

/* ---- Exact mode ---- */

/* Hash after five steps in which `devices` trainers share the shards of each: device i works on
   those up to its bound, in rising or falling order. *redone counts repeated passes. */
static uint64_t train_exact(int devices, const int *bound, bool falling, int *redone) {
    dls_train_desc d = train_desc(20);
    dls_augment mix = {0, false, 0, 0, 0.5f};
    dls_train *t[3];
    dls_net *net[3];
    uint64_t hash;
    d.shards = 8;
    for (int i = 0; i < devices; i++) net[i] = train_net(true), t[i] = train_open(net[i], &d);
    for (int step = 0; step < 5;) {
        const int32_t n = step == 4 ? 5 : 20 - step; /* also fewer samples than shards */
        dls_exact all, e;
        dls_step_stats stats;
        bool redo = false, verdict = false;
        for (int i = 0; i < devices; i++) {
            const int from = i == 0 ? 0 : bound[i - 1];
            CHECK_STATUS(dls_train_begin(t[i], n), DLS_OK);
            for (int k = from; k < bound[i]; k++)
                CHECK_STATUS(dls_train_shard_data(t[i], &train_data, &mix, train_index + step,
                                                  falling ? from + bound[i] - 1 - k : k),
                             DLS_OK);
        }
        dls_train_exact(t[0], &all);
        for (int i = 1; i < devices; i++) {
            dls_train_exact(t[i], &e);
            CHECK(e.sums_count == all.sums_count && e.shards == 8);
            for (size_t k = 0; k < all.sums_count; k++) /* may wrap when scales are to be redone */
                all.sums[k] = (int32_t)((uint32_t)all.sums[k] + (uint32_t)e.sums[k]);
            for (size_t k = 0; k < all.scales_count; k++)
                if (e.scales[k] > all.scales[k]) all.scales[k] = e.scales[k];
        }
        for (int i = 1; i < devices; i++) {
            dls_train_exact(t[i], &e);
            memcpy(e.sums, all.sums, all.sums_count * sizeof *all.sums);
            memcpy(e.scales, all.scales, all.scales_count);
        }
        for (int i = 0; i < devices; i++) {
            CHECK_STATUS(dls_train_commit(t[i], &verdict, &stats), DLS_OK);
            if (i == 0) redo = verdict;
            CHECK(verdict == redo); /* all come to the same */
        }
        step += !redo;
        *redone += redo;
        if (*redone > 20) break;
    }
    hash = dls_train_hash(t[0]);
    for (int i = 0; i < devices; i++) {
        CHECK(dls_train_hash(t[i]) == hash && dls_train_steps(t[i]) == 5);
        train_close(t[i], net[i]);
    }
    return hash;
}
static void test_train_exact_splits(void) {
    static const int one[] = {8}, even[] = {4, 8}, odd[] = {1, 8}, three[] = {1, 3, 8},
                     idle[] = {0, 8, 8};
    int redone[6] = {0, 0, 0, 0, 0, 0};
    const uint64_t hash = train_exact(1, one, false, &redone[0]);
    CHECK(hash == train_exact(1, one, true, &redone[1]));
    CHECK(hash == train_exact(2, even, false, &redone[2]));
    CHECK(hash == train_exact(2, odd, true, &redone[3]));
    CHECK(hash == train_exact(3, three, false, &redone[4]));
    CHECK(hash == train_exact(3, idle, true, &redone[5]));
    CHECK(redone[0] > 0 && redone[0] < 10); /* the first scales are a guess */
    for (int i = 1; i < 6; i++) CHECK_INT(redone[i], redone[0]);
}
static void
test_train_exact_step(void) { /* one call does the same, and about what fast mode does */
    static const int one[] = {8};
    dls_augment mix = {0, false, 0, 0, 0.5f};
    dls_net *net = train_net(true), *fast = train_net(false), *slow = train_net(false);
    dls_train_desc d = train_desc(20);
    dls_step_stats stats, other;
    int redone = 0, counted = 0;
    const uint64_t hash = train_exact(1, one, false, &redone);
    d.shards = 8;
    dls_train *t = train_open(net, &d), *tf, *ts = train_open(slow, &d);
    for (int step = 0; step < 5; step++) {
        CHECK_STATUS(dls_train_step_data(t, &train_data, &mix, train_index + step,
                                         step == 4 ? 5 : 20 - step, &stats),
                     DLS_OK);
        counted += stats.redone;
    }
    CHECK(dls_train_hash(t) == hash);
    CHECK_INT(counted, redone);
    d.shards = 0;
    tf = train_open(fast, &d);
    for (int step = 0; step < 30; step++) {
        CHECK_STATUS(train_step(ts, step % 20, 20, &stats), DLS_OK);
        CHECK_STATUS(train_step(tf, step % 20, 20, &other), DLS_OK);
        CHECK_NEAR(stats.loss, other.loss, 1e-5);
        CHECK_NEAR(stats.accuracy, other.accuracy, 1e-6);
    }
    CHECK(train_far(dls_net_params(slow), dls_net_params(fast), dls_net_param_count(fast)) < 1e-5);
    train_close(t, net);
    train_close(tf, fast);
    train_close(ts, slow);
}
static void test_train_exact_order(void) { /* calls out of order */
    dls_net *net = train_net(false);
    dls_train_desc d = train_desc(8);
    dls_train *t = train_open(net, &d);
    bool redo;
    CHECK_STATUS(dls_train_begin(t, 8), DLS_E_STATE);
    CHECK_TEXT(train_text(dls_exec_error(dls_train_exec(t))), "set train_desc.shards");
    dls_train_destroy(t);
    d.shards = 4;
    t = train_open(net, &d);
    CHECK_STATUS(dls_train_begin(t, 9), DLS_E_ARG);
    CHECK_STATUS(dls_train_begin(t, 0), DLS_E_ARG);
    CHECK_STATUS(dls_train_commit(t, &redo, NULL), DLS_E_STATE);
    CHECK_STATUS(dls_train_shard_data(t, &train_data, NULL, train_index, 0), DLS_E_ARG);
    CHECK_STATUS(dls_train_begin(t, 8), DLS_OK);
    CHECK_STATUS(dls_train_shard_data(t, &train_data, NULL, train_index, 4), DLS_E_ARG);
    CHECK_STATUS(dls_train_shard_data(t, &train_data, NULL, train_index, -1), DLS_E_ARG);
    CHECK_TEXT(train_text(dls_exec_error(dls_train_exec(t))), "shard -1 failed");
    train_close(t, net);
}

/* ---- Checkpoints ---- */

static void test_train_save_load(void) {
    char path[700];
    snprintf(path, sizeof path, "%s", port_path("train.dls"));
    for (int way = 0; way < 8; way++) {
        dls_net *a = train_net(true), *b = train_net(true), *loaded = NULL;
        dls_train_desc d = train_desc(8);
        d.optim.kind = (dls_optim_kind)(way < 5 ? way : way - 5);
        if (way == 5 || way == 6) d.shards = 4; /* exact: predicted scales are kept too */
        if (way == 5 || way == 7) d.optim.momentum = 0.9f;
        dls_train *ta = train_open(a, &d), *tb = train_open(b, &d);
        for (int i = 0; i < 4; i++) CHECK_STATUS(train_step(ta, i * 8, 8, NULL), DLS_OK);
        CHECK_STATUS(dls_train_save(ta, path, NULL), DLS_OK);
        CHECK_STATUS(dls_train_load(tb, path, NULL), DLS_OK);
        CHECK(dls_train_hash(tb) == dls_train_hash(ta) && dls_train_steps(tb) == 4);
        for (int i = 0; i < 4; i++) {
            CHECK_STATUS(train_step(ta, i * 8, 8, NULL), DLS_OK);
            CHECK_STATUS(train_step(tb, i * 8, 8, NULL), DLS_OK);
        }
        CHECK(dls_train_hash(tb) == dls_train_hash(ta));
        CHECK_STATUS(dls_net_load(&loaded, path, NULL), DLS_OK); /* a model file as well */
        CHECK(loaded != NULL && dls_net_hash(loaded) == dls_net_hash(a));
        dls_net_destroy(loaded);
        train_close(ta, a);
        train_close(tb, b);
    }
    (void)remove(path);
}
static void test_train_load_refusals(void) {
    dls_net *net = train_net(false), *other = train_net(true);
    dls_train_desc d = train_desc(8);
    char path[700];
    dls_error e;
    dls_train *t = train_open(net, &d), *u;
    snprintf(path, sizeof path, "%s", port_path("train.dls"));
    CHECK_STATUS(train_step(t, 0, 8, NULL), DLS_OK);
    CHECK_STATUS(dls_train_save(t, path, &e), DLS_OK);
    for (int bad = 0; bad < 5; bad++) {
        dls_train_desc b = d;
        if (bad == 0) b.optim.kind = DLS_OPTIM_ADAM;
        if (bad == 1) b.optim.momentum = 0.5f;
        if (bad == 2) b.shards = 4;
        if (bad == 3) b.seed++;
        u = train_open(bad == 4 ? other : net, &b);
        const uint64_t hash = dls_train_hash(u);
        CHECK_STATUS(dls_train_load(u, path, &e), DLS_E_MISMATCH);
        CHECK_TEXT(train_text(&e), path);
        CHECK(dls_train_hash(u) == hash); /* untouched */
        dls_train_destroy(u);
    }
    for (long left = 0; left < 2; left++) {
        unit_mallocs_left = left;
        CHECK_STATUS(left == 0 ? dls_train_save(t, path, &e) : dls_train_load(t, "no/such", &e),
                     left == 0 ? DLS_E_MEMORY : DLS_E_NOT_FOUND);
        unit_mallocs_left = -1;
    }
    unit_mallocs_left = 0;
    CHECK_STATUS(dls_train_load(t, path, &e), DLS_E_MEMORY);
    unit_mallocs_left = -1;
    CHECK_STATUS(dls_train_save(t, "no/such/folder/x", &e), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_net_save(net, path, &e), DLS_OK); /* a model only */
    CHECK_STATUS(dls_train_load(t, path, &e), DLS_E_STATE);
    CHECK_TEXT(train_text(&e), "load it with dls_net_load");
    CHECK_STATUS(dlsi_port_write_file(path, "DLSHMODL?", 9, &e), DLS_OK);
    CHECK_STATUS(dls_train_load(t, path, &e), DLS_E_FORMAT);
    (void)remove(path);
    train_close(t, net);
    dls_net_destroy(other);
}
/* Every bit of the training section is under a checksum. */
static void test_train_load_damage(void) {
    dls_net *net = train_net(false);
    dls_train_desc d = train_desc(8);
    char path[700];
    dls_model m;
    void *bytes;
    size_t n, at, length;
    d.optim.momentum = 0.9f;
    d.shards = 4;
    dls_train *t = train_open(net, &d);
    snprintf(path, sizeof path, "%s", port_path("train.dls"));
    CHECK_STATUS(train_step(t, 0, 8, NULL), DLS_OK);
    CHECK_STATUS(dls_train_save(t, path, NULL), DLS_OK);
    CHECK_STATUS(dlsi_port_read_file(path, &bytes, &n, NULL), DLS_OK);
    CHECK_STATUS(dls_model_open(&m, bytes, n, NULL), DLS_OK);
    at = m.at[DLSI_TRAIN], length = m.length[DLSI_TRAIN];
    CHECK(at > 0 && length > 64);
    const uint64_t hash = dls_train_hash(t);
    for (size_t i = 0; i < length; i += i < 64 ? 1 : 61) {
        ((unsigned char *)bytes)[at + i] ^= 1;
        CHECK_STATUS(dlsi_port_write_file(path, bytes, n, NULL), DLS_OK);
        CHECK_STATUS(dls_train_load(t, path, NULL), DLS_E_CHECKSUM);
        ((unsigned char *)bytes)[at + i] ^= 1;
    }
    CHECK(dls_train_hash(t) == hash);
    unit_free(bytes);
    (void)remove(path);
    train_close(t, net);
}

/* ---- Fit ---- */

static dls_fit_desc train_fit_desc(void) {
    dls_fit_desc d;
    memset(&d, 0, sizeof d);
    d.train = train_desc(16);
    d.train.optim.momentum = 0.9f;
    d.train.optim.schedule = DLS_SCHEDULE_COSINE;
    d.epochs = 4;
    d.threads = 1;
    return d;
}
static void test_train_fit_index(void) { /* each epoch is a permutation, and another one */
    int32_t same = 0, differ = 0;
    for (int32_t count = 1; count <= 67; count += 11)
        for (int32_t epoch = 0; epoch < 3; epoch++) {
            bool seen[67] = {false};
            for (int32_t i = 0; i < count; i++) {
                const int32_t at = dls_fit_index(4, epoch, count, i);
                CHECK(at >= 0 && at < count && !seen[at]);
                if (at >= 0 && at < count) seen[at] = true;
                differ += at != dls_fit_index(4, epoch + 1, count, i);
                same += at == dls_fit_index(4, epoch, count, i);
            }
        }
    CHECK(same > 0 && differ > same / 2);
}
static void test_train_fit(void) {
    dls_net *net = train_net(false), *by_hand = train_net(false);
    dls_fit_desc d = train_fit_desc();
    dls_fit_report report;
    dls_step_stats stats;
    double last = 0;
    CHECK_STATUS(dls_fit(net, &train_data, &d, &report), DLS_OK);
    CHECK(report.steps == 12 && report.samples == 160 && report.epochs == 4); /* 16 + 16 + 8 */
    CHECK(report.seconds > 0 && report.samples_per_s > 0 && report.redone == 0);
    d.train.optim.total_steps = 12; /* which fit had found by itself */
    dls_train *t = train_open(by_hand, &d.train);
    for (int32_t step = 0; step < 12; step++) {
        int32_t index[16], n = step % 3 == 2 ? 8 : 16;
        for (int32_t i = 0; i < n; i++)
            index[i] = dls_fit_index(9, step / 3, TRAIN_N, step % 3 * 16 + i);
        CHECK_STATUS(dls_train_step_data(t, &train_data, NULL, index, n, &stats), DLS_OK);
        if (step >= 9) last += stats.loss / 3;
    }
    CHECK(report.state_hash == dls_train_hash(t));
    CHECK_NEAR(report.loss, last, 1e-9);
    dls_train_destroy(t);
    d = train_fit_desc();
    d.epochs = 60; /* it learns */
    d.threads = 3;
    CHECK_STATUS(dls_fit(net, &train_data, &d, &report), DLS_OK);
    CHECK(report.accuracy > 0.99 && report.loss < 0.2);
    d.steps = 5; /* counts before epochs */
    CHECK_STATUS(dls_fit(net, &train_data, &d, &report), DLS_OK);
    CHECK(report.steps == 5 && report.epochs == 1);
    CHECK_STATUS(dls_fit(net, &train_data, &d, NULL), DLS_OK);
    dls_net_destroy(net);
    dls_net_destroy(by_hand);
}
static uint64_t train_fit_hash(const dls_fit_desc *d) {
    dls_net *net = train_net(true);
    dls_fit_report r;
    CHECK_STATUS(dls_fit(net, &train_data, d, &r), DLS_OK);
    dls_net_destroy(net);
    return r.state_hash;
}
static void test_train_fit_threads(void) {
    dls_fit_desc d = train_fit_desc();
    const uint64_t hash = train_fit_hash(&d);
    d.threads = 3;
    CHECK(hash == train_fit_hash(&d));
    d.threads = 0;
    d.train.pool = op_pool();
    CHECK(hash == train_fit_hash(&d));
}
typedef struct train_watch {
    int64_t calls, last, stop_at; /* stop at the first report from that step on */
    bool odd;                     /* something reported that cannot be */
} train_watch;
static bool train_progress(void *user, const dls_progress *p) {
    train_watch *w = (train_watch *)user;
    w->odd = w->odd || p->step <= w->last || p->step > p->steps || p->epoch < 1 ||
             p->epoch > p->epochs || !(p->loss > 0) || p->accuracy < 0 || p->accuracy > 1 ||
             !(p->samples_per_s > 0) || p->seconds < 0 || p->lr < 0;
    w->last = p->step;
    w->calls++;
    return w->stop_at == 0 || p->step < w->stop_at;
}
static void test_train_fit_stop(void) { /* stopped anywhere, resumed: as if never stopped */
    char path[700];
    snprintf(path, sizeof path, "%s", port_path("fit.dls"));
    for (int way = 0; way < 2; way++) {
        dls_net *net = train_net(true);
        dls_fit_desc d = train_fit_desc();
        train_watch w = {0, 0, 0, false};
        dls_fit_report r;
        d.train.shards = way == 0 ? 0 : 4;
        d.epochs = 4000; /* long enough for a report every millisecond */
        d.augment.mixup = 0.3f;
        const uint64_t hash = train_fit_hash(&d);
        d.progress = train_progress;
        d.user = &w;
        d.progress_ms = 1;
        d.checkpoint = path;
        w.stop_at = 5;
        CHECK_STATUS(dls_fit(net, &train_data, &d, &r), DLS_E_STOPPED);
        CHECK(r.steps == w.last && w.last >= 5 && w.last < 12000 && !w.odd);
        dls_net_destroy(net);
        net = train_net(true);
        d.resume = path;
        w.stop_at = 0;
        CHECK_STATUS(dls_fit(net, &train_data, &d, &r), DLS_OK);
        CHECK(w.last == 12000 && !w.odd && w.calls > 2);
        CHECK(r.state_hash == hash);
        CHECK(r.epochs == 4000);
        CHECK_STATUS(dls_fit(net, &train_data, &d, &r), DLS_OK); /* nothing is left to do */
        CHECK(r.steps == 0 && r.state_hash == hash);
        dls_net_destroy(net);
    }
    (void)remove(path);
}
static void test_train_progress_text(void) { /* a line, cut to any size */
    const dls_progress p = {30, 40, 3, 4, 0.25, 0.5, 1000, 0.01, 6};
    char text[160], cut[160];
    CHECK(dls_progress_text(&p, 8, text, sizeof text) == text);
    CHECK_TEXT(text, "[######..] epoch 3/4  step 30/40");
    CHECK(strlen(text) < 128);
    for (size_t n = 1; n <= strlen(text); n++) {
        memset(cut, 'x', sizeof cut);
        (void)dls_progress_text(&p, 8, cut, n);
        CHECK(strlen(cut) < n && cut[n] == 'x');
    }
    CHECK(strncmp(dls_progress_text(&p, 0, text, sizeof text), "epoch 3/4", 9) == 0);
}
static void test_train_fit_checkpoints(void) { /* every so many steps: a crash loses few */
    dls_net *net = train_net(false);
    dls_fit_desc d = train_fit_desc();
    dls_fit_report r;
    char path[700];
    snprintf(path, sizeof path, "%s", port_path("fit.dls"));
    const uint64_t hash = train_fit_hash(&d);
    (void)hash;
    d.checkpoint = path;
    d.checkpoint_every = 5;
    int32_t label[TRAIN_N]; /* step 8 meets a label that is none: fit fails after step 5's file */
    dls_data bad = train_data;
    memcpy(label, train_label, sizeof label);
    bad.label = label;
    d.train.optim.total_steps = 12;
    d.epochs = 1, d.steps = 7;
    CHECK_STATUS(dls_fit(net, &bad, &d, &r), DLS_OK);
    d.steps = 12;
    for (int32_t i = 0; i < TRAIN_N; i++) label[i] = 3;
    d.resume = path;
    CHECK_STATUS(dls_fit(net, &bad, &d, &r), DLS_E_ARG);
    CHECK(r.steps == 0);
    CHECK_TEXT(train_text(dls_net_error(net)), "labels below the outputs");
    CHECK_STATUS(dls_fit(net, &train_data, &d, &r), DLS_OK); /* what was saved is sound */
    CHECK(r.steps == 5);
    dls_net *whole = train_net(false);
    d.resume = d.checkpoint = NULL;
    dls_fit_report straight;
    CHECK_STATUS(dls_fit(whole, &train_data, &d, &straight), DLS_OK);
    CHECK(straight.state_hash == r.state_hash);
    d.checkpoint = "no/such/folder/x";
    CHECK_STATUS(dls_fit(whole, &train_data, &d, &r), DLS_E_NOT_FOUND);
    CHECK(r.steps == 5); /* found when the first was due */
    d.checkpoint_every = 0;
    CHECK_STATUS(dls_fit(whole, &train_data, &d, &r), DLS_E_NOT_FOUND);
    CHECK(r.steps == 12);
    d.checkpoint = NULL;
    d.resume = "no/such";
    CHECK_STATUS(dls_fit(whole, &train_data, &d, &r), DLS_E_NOT_FOUND);
    CHECK_TEXT(train_text(dls_net_error(whole)), "no/such");
    dls_net_destroy(whole);
    dls_net_destroy(net);
    (void)remove(path);
}
static void test_train_fit_refusals(void) {
    dls_net *net = train_net(false), *broken = dls_net_create(NULL);
    dls_fit_desc d = train_fit_desc();
    dls_data empty = train_data;
    dls_status st = DLS_E_MEMORY;
    empty.count = 0;
    CHECK_STATUS(dls_fit(net, &empty, &d, NULL), DLS_E_ARG);
    CHECK_TEXT(train_text(dls_net_error(net)), "empty");
    (void)dls_net_dense(broken, DLS_VAL_NONE, 4, DLS_ACT_NONE);
    CHECK(dls_fit(broken, &train_data, &d, NULL) == dls_net_status(broken));
    d.train.shards = 17;
    CHECK_STATUS(dls_fit(net, &train_data, &d, NULL), DLS_E_ARG);
    d.train.shards = 0;
    d.threads = 3;
    for (long left = 0; left < 40 && st != DLS_OK; left++) { /* each allocation fails in turn */
        const size_t taken = unit_mallocs - unit_frees;
        unit_mallocs_left = left;
        st = dls_fit(net, &train_data, &d, NULL);
        unit_mallocs_left = -1;
        CHECK(st == DLS_OK ? left > 1 : st == DLS_E_MEMORY);
        CHECK_INT(unit_mallocs - unit_frees, taken);
    }
    CHECK_STATUS(st, DLS_OK);
    dls_net_destroy(broken);
    dls_net_destroy(net);
}

/* ---- Eval ---- */

static void test_train_eval(void) {
    dls_net *net = train_net(true); /* dropout does nothing here */
    dls_exec_desc ed;
    dls_eval_report r;
    dls_loss_desc loss;
    dls_loss_sums sums = {0, 0, 0};
    dls_target t;
    float values[TRAIN_N * 3];
    dls_data d = train_data;
    memset(&loss, 0, sizeof loss);
    memset(&ed, 0, sizeof ed);
    memset(&t, 0, sizeof t);
    ed.batch = TRAIN_N;
    dls_exec *exec = dls_exec_create(net, &ed);
    memcpy(dls_exec_input(exec, 0), train_x, sizeof train_x);
    CHECK_STATUS(dls_exec_forward(exec, TRAIN_N), DLS_OK);
    t.label = train_label;
    CHECK_STATUS(dls_loss(&exec->cx, &loss, TRAIN_N, dlsi_shape(1, 1, 3), dls_exec_output(exec), &t,
                          1, NULL, &sums),
                 DLS_OK);
    for (int32_t batch = 0; batch < 50; batch += 7) { /* 0: 64; else batches that do not divide */
        CHECK_STATUS(dls_eval(net, &d, &loss, batch, batch == 7 ? op_pool() : NULL, &r), DLS_OK);
        CHECK_NEAR(r.loss, sums.loss / TRAIN_N, 1e-6);
        CHECK_NEAR(r.accuracy, sums.correct / TRAIN_N, 1e-9);
        CHECK_INT(r.samples, TRAIN_N);
    }
    CHECK_STATUS(dls_eval(net, &d, NULL, 0, NULL, &r), DLS_OK); /* cross-entropy */
    CHECK_NEAR(r.loss, sums.loss / TRAIN_N, 1e-6);
    loss.kind = DLS_LOSS_MSE;
    double want = 0;
    for (int i = 0; i < TRAIN_N * 3; i++) {
        values[i] = (float)(i % 5);
        want += pow((double)dls_exec_output(exec)[i] - (double)values[i], 2) / (TRAIN_N * 3);
    }
    d.label = NULL, d.values = values, d.values_each = 3;
    CHECK_STATUS(dls_eval(net, &d, &loss, 9, NULL, &r), DLS_OK);
    CHECK_NEAR(r.loss, want, 1e-5);
    d.values_each = 2;
    CHECK_STATUS(dls_eval(net, &d, &loss, 9, NULL, &r), DLS_E_SHAPE);
    d = train_data, d.shape.c = 7;
    CHECK_STATUS(dls_eval(net, &d, &loss, 9, NULL, &r), DLS_E_SHAPE);
    CHECK_TEXT(train_text(dls_net_error(net)), "samples of 7 elements");
    d = train_data, d.label = NULL;
    CHECK_STATUS(dls_eval(net, &d, &loss, 9, NULL, &r), DLS_E_ARG);
    CHECK_STATUS(dls_eval(net, &train_data, &loss, -1, NULL, &r), DLS_E_ARG);
    loss.kind = DLS_LOSS_CROSS_ENTROPY;
    dls_status st = DLS_E_MEMORY;
    for (long left = 0; left < 10 && st != DLS_OK; left++) {
        const size_t taken = unit_mallocs - unit_frees;
        unit_mallocs_left = left;
        st = dls_eval(net, &train_data, &loss, 0, NULL, &r);
        unit_mallocs_left = -1;
        CHECK(st == DLS_OK ? left > 1 : st == DLS_E_MEMORY);
        CHECK_INT(unit_mallocs - unit_frees, taken);
    }
    CHECK_STATUS(st, DLS_OK);
    dls_exec_destroy(exec);
    dls_net_destroy(net);
}

/* ---- Gradient check ---- */

/* y = x^2 w, whose backward is right, or wrong in x, or wrong in w. */
static int train_wrong;
static dls_status train_square_shape(const dls_op_site *site, dls_op_spec *spec) {
    spec->y = site->x[0];
    spec->params = 1;
    memset(&spec->param[0], 0, sizeof spec->param[0]);
    spec->param[0].name = "w";
    for (int i = 0; i < 4; i++) spec->param[0].dim[i] = 1;
    spec->param[0].init = DLS_INIT_ONE;
    spec->keep_x = 1;
    return DLS_OK;
}
static dls_status train_square_forward(const dls_op_call *c) {
    const dls_real *x = (const dls_real *)c->x[0];
    const size_t n = (size_t)c->n * dls_shape_count(c->ys);
    for (size_t i = 0; i < n; i++) ((dls_real *)c->y)[i] = x[i] * x[i] * c->w[0][0];
    return DLS_OK;
}
static dls_status train_square_backward(const dls_op_call *c) {
    const dls_real *x = (const dls_real *)c->x[0];
    const size_t n = (size_t)c->n * dls_shape_count(c->ys);
    dls_real dw = 0;
    for (size_t i = 0; i < n; i++) {
        const dls_real g = c->dy[i] * x[i] * (dls_real)(train_wrong == 1 ? 2.2 : 2) * c->w[0][0];
        dw += c->dy[i] * x[i] * x[i];
        if (c->dx[0] != NULL) c->dx[0][i] = (c->dx_add & 1) != 0 ? c->dx[0][i] + g : g;
    }
    if (train_wrong == 2) dw *= (dls_real)1.2;
    if (c->dw[0] != NULL) c->dw[0][0] = c->dw_add ? c->dw[0][0] + dw : dw;
    return DLS_OK;
}
static const dls_op train_square = {"square",
                                    1,
                                    1,
                                    DLS_MERGE_NONE,
                                    train_square_shape,
                                    train_square_forward,
                                    train_square_backward,
                                    NULL,
                                    NULL};
static void test_train_grad_check(void) {
    dls_grad_report r;
    for (train_wrong = 0; train_wrong < 3; train_wrong++) {
        dls_net *net = dls_net_create(NULL);
        dls_val x = dls_net_input(net, 2, 2, 3);
        x = dls_net_op(net, &train_square, &x, 1, NULL);
        CHECK_STATUS(dls_grad_check(net, 2, 3, 0, 0, &r), DLS_OK);
        if (train_wrong == 0) CHECK(r.worst < 1e-2);
        if (train_wrong != 0) CHECK(r.worst > 0.05 && r.worst < 1);
        if (train_wrong == 1) CHECK(r.node == -1 && r.index == 0 && r.element < 24);
        if (train_wrong == 2) CHECK(r.node == x && r.index == 0 && r.element == 0);
        dls_net_destroy(net);
    }
    dls_net *net = dls_net_create(NULL); /* ids as inputs, statistics left out, few probes */
    dls_val x = dls_net_embedding(net, dls_net_input_ids(net, 4), 11, 5);
    x = dls_net_batchnorm(net, dls_net_linear(net, x, 7, DLS_ACT_TANH), DLS_ACT_NONE);
    (void)dls_net_dense(net, dls_net_dropout(net, x, 0.3f), 4, DLS_ACT_NONE);
    CHECK_STATUS(dls_grad_check(net, 3, 1, 3e-3, 10, &r), DLS_OK);
    CHECK(r.worst < 2e-2);
    dls_status st = DLS_E_MEMORY;
    for (long left = 0; left < 20 && st != DLS_OK; left++) {
        const size_t taken = unit_mallocs - unit_frees;
        unit_mallocs_left = left;
        st = dls_grad_check(net, 3, 1, 0, 2, &r);
        unit_mallocs_left = -1;
        CHECK(st == DLS_OK ? left > 2 : st == DLS_E_MEMORY);
        CHECK_INT(unit_mallocs - unit_frees, taken);
    }
    CHECK_STATUS(st, DLS_OK);
    CHECK_STATUS(dls_grad_check(net, 0, 1, 0, 0, &r), DLS_E_ARG);
    CHECK_STATUS(dls_grad_check(net, -1, 1, 0, 0, &r), DLS_E_ARG);
    dls_net_destroy(net);
    net = dls_net_create(NULL);
    (void)dls_net_dense(net, DLS_VAL_NONE, 4, DLS_ACT_NONE);
    CHECK(dls_grad_check(net, 1, 1, 0, 0, &r) == dls_net_status(net));
    dls_net_destroy(net);
}

/* Tensors that are nodes of the graph (dls_net_param, dls_net_position) are trained too, by fast
   steps as by exact ones. */
static void test_train_param_nodes(void) {
    dls_real after[2][64];
    for (int exact = 0; exact < 2; exact++) {
        dls_net *net = dls_net_create(NULL);
        dls_val x = dls_net_position(net, dls_net_input(net, 1, 1, TRAIN_IN));
        dls_train_desc desc;
        dls_target target;
        dls_train *train;
        memset(&desc, 0, sizeof desc);
        memset(&target, 0, sizeof target);
        (void)dls_net_dense(net, x, TRAIN_CLASSES, DLS_ACT_NONE);
        desc.batch = 8;
        desc.shards = exact;
        desc.optim.lr = 0.5f;
        target.label = train_label;
        train = dls_train_create(net, &desc);
        CHECK(train != NULL);
        CHECK_STATUS(dls_train_step(train, train_x, &target, 8, NULL), DLS_OK);
        memcpy(after[exact], dls_net_params(net), dls_net_param_count(net) * sizeof(dls_real));
        dls_train_destroy(train);
        dls_net_destroy(net);
    }
    for (int k = 0; k < TRAIN_IN; k++) { /* the position, zeros at first */
        CHECK(fabs((double)after[0][k]) > 1e-4);
        CHECK_NEAR(after[0][k], after[1][k], 1e-5);
    }
}

static void train_tests(void) {
    train_make_data();
    RUN(train_param_nodes);
    RUN(train_loss_refusals);
    RUN(train_loss_extremes);
    RUN(train_loss_threads);
    RUN(train_loss_kl_labels);
    RUN(train_rates);
    RUN(train_descs);
    RUN(train_memory);
    RUN(train_step_refusals);
    RUN(train_accumulate);
    RUN(train_ignored);
    RUN(train_clip);
    RUN(train_number);
    RUN(train_bits);
    RUN(train_exact_splits);
    RUN(train_exact_step);
    RUN(train_exact_order);
    RUN(train_save_load);
    RUN(train_load_refusals);
    RUN(train_load_damage);
    RUN(train_fit_index);
    RUN(train_fit);
    RUN(train_fit_threads);
    RUN(train_fit_stop);
    RUN(train_progress_text);
    RUN(train_fit_checkpoints);
    RUN(train_fit_refusals);
    RUN(train_eval);
    RUN(train_grad_check);
}
