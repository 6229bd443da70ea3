/* exec: plans are exact in memory, never let two living values share bytes, and compute what the
   reference does, on random graphs: merged and not, for training, cut in ranges. */

/* ---- Random graphs ---- */

static int32_t exec_pick(int32_t n) { return (int32_t)ref_uniform(0, n - 1e-6); }
static dls_val exec_any(const dls_net *net, dls_val but, bool same_form) { /* or -1 */
    for (int32_t tries = 0; tries < 20; tries++) {
        const dls_val v = exec_pick(dls_net_nodes(net));
        if (net->node[v].dtype != DLS_F32 || (net->node[v].flags & DLSI_NODE_FIXED) != 0) continue;
        if (same_form && !dls_shape_equal(net->node[v].y, net->node[but].y)) continue;
        return v;
    }
    return but;
}
static dls_val exec_recent(const dls_net *net) { /* more often of the last few */
    const int32_t n = dls_net_nodes(net), last = n < 4 ? n : 4;
    dls_val v = exec_pick(3) > 0 ? n - 1 - exec_pick(last) : exec_pick(n);
    while ((net->node[v].flags & DLSI_NODE_FIXED) != 0) v--;
    return v;
}
static dls_act exec_act(void) {
    static const dls_act acts[] = {DLS_ACT_NONE, DLS_ACT_NONE, DLS_ACT_RELU, DLS_ACT_RELU6,
                                   DLS_ACT_TANH};
    return acts[exec_pick(5)];
}
static void exec_grow(dls_net *net) {
    const dls_val x = exec_recent(net), other = exec_any(net, x, true);
    const dls_shape s = net->node[x].y;
    dls_val in[2];
    switch (exec_pick(22)) {
    case 0:
    case 1:
    case 2: (void)dls_net_conv2d(net, x, 8 + exec_pick(5), 3, exec_act()); break;
    case 3: (void)dls_net_conv2d(net, x, s.c, 1 + 2 * exec_pick(2), DLS_ACT_NONE); break;
    case 4: (void)dls_net_conv2d(net, x, 1 + exec_pick(9), 1, exec_act()); break;
    case 5: (void)dls_net_depthwise(net, x, 3, 1, exec_act()); break;
    case 6: (void)dls_net_linear(net, x, s.c, exec_act()); break;
    case 7:
    case 8: (void)dls_net_batchnorm(net, x, exec_act()); break;
    case 9: (void)dls_net_groupnorm(net, x, 1, exec_act()); break;
    case 10: (void)dls_net_act(net, x, (dls_act)exec_pick(DLS_ACT_COUNT)); break;
    case 11:
    case 12:
    case 13: (void)dls_net_add(net, x, other, exec_act()); break;
    case 14: (void)dls_net_mul(net, x, other); break;
    case 15: (void)dls_net_mul(net, x, dls_net_global_avgpool(net, x)); break;
    case 16:
        in[0] = x;
        in[1] = other;
        if (s.c <= 12) (void)dls_net_concat(net, in, 2, 2);
        break;
    case 17: (void)dls_net_slice(net, x, 2, s.c / 2, (s.c + 1) / 2); break;
    case 18:
        (void)dls_net_reshape(net, dls_net_reshape(net, x, s.w, s.h, s.c), s.h, s.w, s.c);
        break;
    case 19:
        (void)dls_net_add(net, x, dls_net_param(net, s.h, s.w, s.c, 0.4f), DLS_ACT_NONE);
        break;
    case 20: (void)dls_net_layernorm(net, x); break;
    default: (void)dls_net_act(net, dls_net_add(net, x, other, DLS_ACT_NONE), DLS_ACT_RELU); break;
    }
}
static dls_net *exec_random(uint32_t seed) {
    dls_net *net = dls_net_create(NULL);
    ref_random = seed * 100000u;
    (void)dls_net_input(net, 3 + exec_pick(4), 3 + exec_pick(4), 2 + exec_pick(10));
    if (exec_pick(4) == 0) (void)dls_net_input(net, 4, 5, 6);
    for (int32_t n = 4 + exec_pick(14); n > 0; n--) exec_grow(net);
    if (exec_pick(4) == 0) dls_net_output(net, exec_recent(net));
    if ((net->node[dls_net_output_of(net)].flags & DLSI_NODE_FIXED) != 0) dls_net_output(net, 0);
    return net;
}

/* Stores that live at one time lie apart, inside the planned bytes; the bound is one. */
static void exec_check_stores(dls_net *net, const dls_exec_desc *desc, uint32_t seed) {
    dlsi_plan p;
    size_t end = 0;
    int bad = 0;
    CHECK_STATUS(dlsi_net_plan(&p, net, desc), DLS_OK);
    for (int32_t i = 0; i < p.stores; i++) {
        const dlsi_store *a = &net->store[i];
        if (a->offset + a->bytes > end && a->bytes > 0) end = a->offset + a->bytes;
        bad += a->offset % DLS_ALIGN != 0;
        for (int32_t j = 0; j < i; j++) {
            const dlsi_store *b = &net->store[j];
            bad += a->bytes > 0 && b->bytes > 0 && a->first <= b->last && b->first <= a->last &&
                   a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
        }
    }
    test_checks++;
    if (bad != 0 || end != p.values || p.live_peak > p.values)
        test_report(__FILE__, __LINE__, "seed %u: %d conflicts, %zu of %zu bytes, bound %zu", seed,
                    bad, end, p.values, p.live_peak);
}
/* Fills what forward may not rely on. */
static void exec_poison(dls_exec *exec) {
    memset(exec->values, 0xFF, exec->memory.values);
    memset(exec->work, 0xFF, exec->memory.scratch);
}
static void exec_check_way(dls_net *net, ref_run *r, const dls_exec_desc *desc, uint32_t seed) {
    dls_exec *exec = op_exec(net, desc);
    double far;
    if (exec == NULL) return;
    exec_check_stores(net, desc, seed);
    r->train = desc->train;
    ref_forward(r);
    for (int32_t round = 0; round < 2; round++) {
        exec_poison(exec);
        ref_feed(r, exec);
        CHECK_STATUS(desc->train ? dls_exec_forward_train(exec, r->n, 3, 0, 0)
                                 : dls_exec_forward(exec, r->n),
                     DLS_OK);
        far = ref_distance(r, dls_net_output_of(net), dls_exec_output(exec));
        test_checks++;
        if (!(far < 1e-3))
            test_report(__FILE__, __LINE__, "seed %u train %d fuse %d isa %d: off by %g, %s", seed,
                        desc->train, !desc->no_fuse, desc->isa, far, op_names(net));
    }
    if (desc->train && dls_exec_output_grad(exec) != NULL) op_check_grads(r, exec, 1e-3);
    dls_exec_destroy(exec);
}
static void test_exec_random_graphs(void) {
    for (uint32_t seed = 1; seed <= 300; seed++) {
        dls_net *net = exec_random(seed);
        dls_exec_desc desc;
        ref_run r;
        CHECK_STATUS(dls_net_status(net), DLS_OK);
        ref_open(&r, net, 2);
        ref_draw_params(net);
        ref_take_params(&r);
        ref_draw_inputs(&r, 1);
        memset(&desc, 0, sizeof desc);
        desc.batch = 2;
        exec_check_way(net, &r, &desc, seed);
        desc.no_fuse = true;
        exec_check_way(net, &r, &desc, seed);
        desc.isa = DLS_ISA_SCALAR;
        exec_check_way(net, &r, &desc, seed);
        desc.isa = DLS_ISA_BEST;
        desc.train = desc.input_grad = true;
        exec_check_way(net, &r, &desc, seed);
        ref_close(&r);
        dls_net_destroy(net);
    }
}

/* ---- Cuts: ranges one after another, values carried over by hand, give the whole's bits ---- */

static void exec_carry(dls_net *net, const dls_real *const *held, dls_exec *to, int32_t n) {
    for (int32_t k = 0; dls_exec_input_val(to, k) >= 0; k++) {
        const dls_val v = dls_exec_input_val(to, k);
        if (held[v] != NULL)
            memcpy(dls_exec_input(to, k), held[v],
                   (size_t)n * ref_count(dls_net_shape(net, v)) * sizeof(dls_real));
        else
            test_report(__FILE__, __LINE__, "value %d is wanted but was not carried", v);
    }
}
static int exec_check_cut(dls_net *net, ref_run *r, int32_t at, const dls_real *whole,
                          bool strict) {
    const dls_val y = dls_net_output_of(net);
    const dls_real *held[REF_NODES] = {NULL};
    dls_val carried[32];
    const int32_t count = dls_net_cut(net, at, carried, 32);
    dls_exec_desc desc;
    dls_exec *a, *b;
    if (count < 0 || y < at) return 0;
    memset(&desc, 0, sizeof desc);
    desc.batch = r->n;
    desc.strict = strict;
    desc.last = at;
    a = op_exec(net, &desc);
    desc.first = at;
    desc.last = 0;
    b = op_exec(net, &desc);
    if (a != NULL && b != NULL) {
        exec_poison(a);
        exec_poison(b);
        ref_feed(r, a);
        CHECK_STATUS(dls_exec_forward(a, r->n), DLS_OK);
        for (int32_t k = 0; k < count; k++) {
            held[carried[k]] = (const dls_real *)dls_exec_value(a, carried[k]);
            /* inputs of the network that both ranges read come from outside, twice */
        }
        ref_feed(r, b);
        for (int32_t k = 0; dls_exec_input_val(b, k) >= 0; k++) {
            const dls_val v = dls_exec_input_val(b, k);
            CHECK(held[v] != NULL || v >= at);
            if (v >= at) held[v] = (const dls_real *)dls_exec_input(b, k);
        }
        exec_carry(net, held, b, r->n);
        CHECK_STATUS(dls_exec_forward(b, r->n), DLS_OK);
        CHECK(memcmp(dls_exec_output(b), whole,
                     (size_t)r->n * ref_count(dls_net_shape(net, y)) * sizeof(dls_real)) == 0);
    }
    if (a != NULL) dls_exec_destroy(a);
    if (b != NULL) dls_exec_destroy(b);
    return 1;
}
static void test_exec_cuts(void) {
    int done = 0;
    for (uint32_t seed = 1001; seed <= 1080; seed++) {
        dls_net *net = exec_random(seed);
        const size_t count = 2 * ref_count(dls_net_shape(net, dls_net_output_of(net)));
        dls_real *whole = (dls_real *)malloc(count * sizeof *whole);
        dls_exec_desc desc;
        ref_run r;
        ref_open(&r, net, 2);
        ref_draw_params(net);
        ref_draw_inputs(&r, 1);
        memset(&desc, 0, sizeof desc);
        desc.batch = 2;
        for (int32_t strict = 0; strict < 2; strict++) {
            dls_exec *exec;
            desc.strict = strict != 0;
            exec = op_exec(net, &desc);
            ref_feed(&r, exec);
            CHECK_STATUS(dls_exec_forward(exec, 2), DLS_OK);
            memcpy(whole, dls_exec_output(exec), count * sizeof *whole);
            dls_exec_destroy(exec);
            for (int32_t at = 1; at < dls_net_nodes(net); at++)
                done += exec_check_cut(net, &r, at, whole, strict != 0);
        }
        free(whole);
        ref_close(&r);
        dls_net_destroy(net);
    }
    CHECK(done > 400);
}
static void test_exec_cut_places(void) {
    dls_net *net = dls_net_create(NULL);
    const dls_val x = dls_net_input(net, 4, 4, 8), c = dls_net_conv2d(net, x, 8, 3, DLS_ACT_NONE);
    const dls_val b = dls_net_batchnorm(net, c, DLS_ACT_NONE);
    const dls_val p = dls_net_param(net, 4, 4, 8, 0);
    const dls_val s = dls_net_add(net, dls_net_add(net, b, x, DLS_ACT_RELU), p, DLS_ACT_NONE);
    dls_val out[4];
    (void)dls_net_act(net, s, DLS_ACT_TANH);
    CHECK_INT(dls_net_cut(net, 0, out, 4), -1);
    CHECK_INT(dls_net_cut(net, dls_net_nodes(net), out, 4), -1);
    CHECK_INT(dls_net_cut(net, 1, out, 4), 1);
    CHECK_INT(out[0], x);
    CHECK_INT(dls_net_cut(net, 2, out, 4), -1); /* between conv, norm and sum: one call */
    CHECK_INT(dls_net_cut(net, 3, out, 4), -1);
    CHECK_INT(dls_net_cut(net, 5, out, 4), 1); /* weights are everywhere: p need not travel */
    CHECK_INT(out[0], 4);
    CHECK_INT(dls_net_cut(net, 5, out, 0), -1);
    dls_net_output(net, 4); /* the output travels even if nobody reads it later */
    CHECK_INT(dls_net_cut(net, 6, out, 4), 2);
    dls_net_destroy(net);
}

/* ---- Merged inference ---- */

/* How many nodes run in another's call. */
static int exec_merged(const dls_exec *exec) {
    int n = 0;
    for (int32_t i = exec->first; i < exec->last; i++)
        n += (exec->slot[i].flags & DLSI_SLOT_MERGED) != 0;
    return n;
}
static void exec_check_merge(dls_net *net, int merged) {
    dls_exec_desc desc;
    ref_run r;
    ref_open(&r, net, 3);
    ref_draw_params(net);
    ref_take_params(&r);
    ref_draw_inputs(&r, 1);
    memset(&desc, 0, sizeof desc);
    desc.batch = 3;
    exec_check_way(net, &r, &desc, 0);
    desc.no_fuse = true;
    exec_check_way(net, &r, &desc, 0);
    if (dls_isa_best() != DLS_ISA_SCALAR) {
        dls_exec *exec = op_exec(net, NULL);
        CHECK_INT(exec_merged(exec), merged);
        dls_exec_destroy(exec);
    }
    ref_close(&r);
    dls_net_destroy(net);
}
static void test_exec_merges(void) {
    static const int32_t kernels[] = {1, 3, 5};
    for (int32_t i = 0; i < 6; i++) { /* conv, norm, sum with a shortcut, relu */
        dls_net *net = dls_net_create(NULL);
        const int32_t c = i < 3 ? 16 : 3;
        const dls_val x = dls_net_conv2d(net, dls_net_input(net, 7, 6, c), c, 3, DLS_ACT_RELU);
        dls_val y = dls_net_conv2d(net, x, c, kernels[i % 3], DLS_ACT_NONE);
        y = dls_net_add(net, dls_net_batchnorm(net, y, DLS_ACT_NONE), x, DLS_ACT_NONE);
        (void)dls_net_act(net, y, DLS_ACT_RELU6);
        exec_check_merge(net, 3);
    }
    for (int32_t i = 0; i < 3; i++) { /* the shortcut is what the convolution itself reads */
        dls_net *net = dls_net_create(NULL);
        const dls_val x = dls_net_conv2d(net, dls_net_input(net, 7, 6, 16), 16, 1, DLS_ACT_RELU);
        const dls_val y = i == 0   ? dls_net_conv2d(net, x, 16, 3, DLS_ACT_NONE)
                          : i == 1 ? dls_net_depthwise(net, x, 3, 1, DLS_ACT_NONE)
                                   : dls_net_linear(net, x, 16, DLS_ACT_NONE);
        (void)dls_net_add(net, y, x, DLS_ACT_RELU);
        exec_check_merge(net, 1);
    }
    { /* and the same through an alias */
        dls_net *net = dls_net_create(NULL);
        const dls_val x = dls_net_conv2d(net, dls_net_input(net, 6, 6, 16), 16, 1, DLS_ACT_RELU);
        const dls_val z = dls_net_reshape(net, dls_net_reshape(net, x, 4, 9, 16), 6, 6, 16);
        (void)dls_net_add(net, dls_net_conv2d(net, x, 16, 5, DLS_ACT_NONE), z, DLS_ACT_NONE);
        exec_check_merge(net, 1);
    }
    { /* depthwise and norm; a value read twice is not merged away */
        dls_net *net = dls_net_create(NULL);
        const dls_val x = dls_net_depthwise(net, dls_net_input(net, 6, 5, 12), 3, 1, DLS_ACT_NONE);
        const dls_val y = dls_net_batchnorm(net, x, DLS_ACT_RELU);
        const dls_val z = dls_net_linear(net, y, 12, DLS_ACT_NONE);
        (void)dls_net_add(net, dls_net_act(net, z, DLS_ACT_RELU), z, DLS_ACT_NONE);
        exec_check_merge(net, 1);
    }
}

/* ---- Memory ---- */

static dls_net *exec_cnn(void) {
    dls_net *net = dls_net_create(NULL);
    dls_val x = dls_net_input(net, 12, 12, 1);
    x = dls_net_conv2d(net, x, 8, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_batchnorm(net, dls_net_conv2d(net, x, 12, 3, DLS_ACT_NONE), DLS_ACT_RELU);
    x = dls_net_dropout(net, x, 0.3f);
    (void)dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}
static void test_exec_memory_is_exact(void) {
    dls_net *net = exec_cnn();
    for (int32_t way = 0; way < 8; way++) {
        dls_exec_desc desc;
        size_t bytes;
        (void)dlsi_net_need_params(net, true);
        memset(&desc, 0, sizeof desc);
        desc.batch = 1 + way;
        desc.train = desc.input_grad = way % 2 != 0;
        desc.isa = way < 4 ? DLS_ISA_BEST : DLS_ISA_SCALAR;
        desc.pool = way % 4 > 1 ? op_pool() : NULL;
        bytes = dls_exec_size(net, &desc);
        for (size_t skew = 0; skew < 128; skew += 37) {
            unsigned char *block = (unsigned char *)malloc(bytes + 512), *mem = block + 128 + skew;
            const size_t mallocs = unit_mallocs;
            dls_exec_memory m;
            dls_exec *exec;
            memset(block, 0x9C, bytes + 512);
            CHECK_STATUS(dls_exec_init(&exec, net, &desc, mem, bytes - 1), DLS_E_MEMORY);
            CHECK(exec == NULL);
            CHECK_STATUS(dls_exec_init(&exec, net, &desc, NULL, bytes), DLS_E_MEMORY);
            CHECK_STATUS(dls_exec_init(&exec, net, &desc, mem, bytes), DLS_OK);
            memset(dls_exec_input(exec, 0), 0, sizeof(dls_real) * 144 * (size_t)desc.batch);
            if (desc.train) {
                CHECK_STATUS(dls_exec_forward_train(exec, desc.batch, 1, 0, 0), DLS_OK);
                memset(dls_exec_output_grad(exec), 0, sizeof(dls_real) * 10 * (size_t)desc.batch);
                CHECK_STATUS(dls_exec_backward(exec, true), DLS_OK);
            }
            CHECK_STATUS(dls_exec_forward(exec, desc.batch), DLS_OK);
            CHECK_INT(unit_mallocs, mallocs); /* nothing allocates after init */
            for (size_t i = 0; i < 128 + skew; i++) CHECK_INT(block[i], 0x9C);
            for (size_t i = 128 + skew + bytes; i < bytes + 512; i++) CHECK_INT(block[i], 0x9C);
            dls_exec_memory_of(exec, &m);
            CHECK_INT(m.total, bytes);
            CHECK(m.live_peak <= m.values &&
                  m.tables + m.values + m.scratch + m.packed + m.grads <= bytes);
            CHECK_INT(m.grads, desc.train ? dls_net_param_count(net) * sizeof(dls_real) : 0);
            free(block);
        }
    }
    dls_net_destroy(net);
}
static void test_exec_allocation_fails(void) {
    dls_net *net = exec_cnn();
    dls_exec *exec;
    char text[200];
    unit_mallocs_left = 0;
    CHECK(dls_exec_create(net, NULL) == NULL);
    CHECK_TEXT(dls_error_text(dls_net_error(net), text, sizeof text), "no memory for the executor");
    unit_mallocs_left = 1; /* the executor, but not the weights */
    exec = dls_exec_create(net, NULL);
    CHECK(exec != NULL);
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_E_MEMORY);
    CHECK_STATUS(dls_exec_error(exec)->status, DLS_E_MEMORY);
    unit_mallocs_left = -1;
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_OK); /* later there is some */
    CHECK_STATUS(dls_exec_error(exec)->status, DLS_OK);
    dls_exec_destroy(exec);
    dls_exec_destroy(NULL);
    dls_net_destroy(net);
}

/* ---- Calls that do not fit ---- */

static void exec_refused(dls_net *net, int32_t batch, int32_t first, int32_t last, int32_t isa,
                         dls_status status, const char *what) {
    char text[200];
    dls_exec_desc desc;
    dls_exec *exec = NULL;
    static unsigned char mem[64];
    memset(&desc, 0, sizeof desc);
    desc.batch = batch;
    desc.first = first;
    desc.last = last;
    desc.isa = (dls_isa)isa;
    CHECK_INT(dls_exec_size(net, &desc), 0);
    CHECK_STATUS(dls_net_error(net)->status, status);
    CHECK_TEXT(dls_error_text(dls_net_error(net), text, sizeof text), what);
    CHECK_STATUS(dls_exec_init(&exec, net, &desc, mem, sizeof mem), status);
    CHECK(exec == NULL && dls_exec_create(net, &desc) == NULL);
}
static void test_exec_refuses(void) {
    dls_net *net = dls_net_create(NULL);
    dls_exec_desc desc;
    dls_exec *exec;
    char text[200];
    exec_refused(net, 1, 0, 0, 0, DLS_E_STATE, "the network is empty");
    dls_net_destroy(net);
    net = exec_cnn();
    exec_refused(net, -1, 0, 0, 0, DLS_E_ARG, "batch -1");
    exec_refused(net, 1, -1, 0, 0, DLS_E_ARG, "range -1..");
    exec_refused(net, 1, 3, 3, 0, DLS_E_ARG, "range 3..3");
    exec_refused(net, 1, 0, 99, 0, DLS_E_ARG, "0..99");
    exec_refused(net, 1, 0, 0, 77, DLS_E_UNSUPPORTED, "instruction set");
    exec_refused(net, INT32_MAX, 0, 0, 0, DLS_E_LIMIT, "samples");
    memset(&desc, 0, sizeof desc);
    desc.batch = 2;
    exec = op_exec(net, &desc);
    CHECK(dls_exec_input(exec, 1) == NULL && dls_exec_input(exec, -1) == NULL);
    CHECK_INT(dls_exec_input_val(exec, 1), DLS_VAL_NONE);
    CHECK(dls_exec_value(exec, -1) == NULL && dls_exec_value(exec, 99) == NULL);
    CHECK(dls_exec_value(exec, 1) == NULL); /* not kept to the end */
    CHECK(dls_exec_value(exec, dls_net_output_of(net)) == (const void *)dls_exec_output(exec));
    CHECK(dls_exec_grads(exec) == NULL && dls_exec_output_grad(exec) == NULL);
    CHECK(dls_exec_input_grad(exec, 0) == NULL);
    CHECK_STATUS(dls_exec_forward(exec, 0), DLS_E_ARG);
    CHECK_STATUS(dls_exec_forward(exec, 3), DLS_E_ARG);
    CHECK_TEXT(dls_error_text(dls_exec_error(exec), text, sizeof text),
               "3 samples; the plan is for 1 to 2");
    CHECK_STATUS(dls_exec_forward_train(exec, 1, 0, 0, 0), DLS_E_STATE);
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_E_STATE);
    dls_exec_destroy(exec);
    desc.train = true;
    exec = op_exec(net, &desc);
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_E_STATE); /* before any forward */
    CHECK_TEXT(dls_error_text(dls_exec_error(exec), text, sizeof text), "forward call before");
    CHECK(dls_exec_input_grad(exec, 0) == NULL); /* not asked for */
    CHECK_INT(dls_exec_input_val(exec, 0), 0);
    dls_exec_destroy(exec);
    dls_net_destroy(net);
}
static void test_exec_bad_ids(void) {
    dls_net *net = dls_net_create(NULL);
    const dls_val ids = dls_net_input_ids(net, 2);
    dls_exec *exec;
    char text[200];
    (void)dls_net_embedding(net, ids, 5, 3);
    exec = op_exec(net, NULL);
    for (int32_t id = -1; id <= 5; id++) {
        const bool good = id >= 0 && id < 5;
        ((int32_t *)dls_exec_input(exec, 0))[0] = 0;
        ((int32_t *)dls_exec_input(exec, 0))[1] = id;
        CHECK_STATUS(dls_exec_forward(exec, 1), good ? DLS_OK : DLS_E_ARG);
        if (!good)
            CHECK_TEXT(dls_error_text(dls_exec_error(exec), text, sizeof text),
                       "node 1 (embedding)");
    }
    dls_exec_destroy(exec);
    dls_net_destroy(net);
}

/* ---- Executors that share a network ---- */

static void test_exec_share_weights(void) {
    dls_net *net = dls_net_create(NULL);
    dls_exec_desc desc;
    dls_exec *infer, *train, *strict;
    const dls_real x[4] = {1, 2, 3, 4};
    size_t before;
    (void)dls_net_linear(net, dls_net_input(net, 1, 1, 4), 1, DLS_ACT_NONE);
    memset(&desc, 0, sizeof desc);
    infer = op_exec(net, &desc);
    desc.strict = true;
    strict = op_exec(net, &desc);
    desc.strict = false;
    desc.train = true;
    train = op_exec(net, &desc);
    for (int32_t step = 0; step < 3; step++) {
        dls_exec *all[3];
        all[0] = infer, all[1] = train, all[2] = strict;
        if (step == 0) (void)dlsi_net_need_params(net, true);
        for (int32_t k = 0; k < 4; k++) dls_net_params(net)[k] = (dls_real)(step + 1);
        dls_net_touch(net);
        for (int32_t k = 0; k < 3; k++) {
            memcpy(dls_exec_input(all[k], 0), x, sizeof x);
            CHECK_STATUS(dls_exec_forward(all[k], 1), DLS_OK);
            CHECK_NEAR(dls_exec_output(all[k])[0], 10 * (step + 1), 1e-6);
        }
    }
    dls_exec_output_grad(train)[0] = 2;
    CHECK_STATUS(dls_exec_backward(train, false), DLS_OK);
    CHECK_NEAR(dls_exec_grads(train)[3], 8, 1e-6);
    memcpy(dls_exec_input(train, 0), x, sizeof x);
    CHECK_STATUS(dls_exec_forward(train, 1), DLS_OK);
    dls_exec_output_grad(train)[0] = 1;
    CHECK_STATUS(dls_exec_backward(train, true), DLS_OK); /* added */
    CHECK_NEAR(dls_exec_grads(train)[3], 12, 1e-6);
    dls_exec_output_grad(train)[0] = 1;
    CHECK_STATUS(dls_exec_backward(train, false), DLS_OK); /* written */
    CHECK_NEAR(dls_exec_grads(train)[3], 4, 1e-6);
    before = unit_frees;
    dls_exec_destroy(infer);
    dls_exec_destroy(train);
    dls_exec_destroy(strict);
    CHECK_INT(unit_frees - before, 3);
    dls_net_destroy(net);
}

/* ---- A custom op ---- */

/* Each trained weight's gradient is told of once, final, the last layer's first. */
typedef struct told {
    const dls_real *grads;
    dls_real value[4000];
    int count[4000];
    size_t first; /* where the first part lies */
    int calls;
} told;
static void note_ready(void *user, dls_real *x, size_t count) {
    told *t = (told *)user;
    const size_t at = (size_t)(x - t->grads);
    if (t->calls++ == 0) t->first = at;
    for (size_t i = at; i < at + count && i < 4000; i++) {
        t->count[i]++;
        t->value[i] = t->grads[i];
    }
}
static void test_exec_on_ready(void) {
    dls_net *net = dls_net_create(NULL);
    dls_exec_desc d;
    dls_param p;
    size_t at, count, wrong = 0, seen = 0;
    static told t;
    dls_val x = dls_net_input(net, 8, 8, 2), last;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    x = dls_net_batchnorm(net, dls_net_conv2d(net, x, 6, 3, DLS_ACT_NONE), DLS_ACT_RELU);
    x = dls_net_dense(net, dls_net_maxpool(net, x, 2), 12, DLS_ACT_RELU);
    last = dls_net_dense(net, x, 5, DLS_ACT_NONE);
    d.batch = 4;
    d.train = true;
    dls_exec *exec = dls_exec_create(net, &d);
    t.grads = dls_exec_grads(exec);
    CHECK(dls_net_param_count(net) < 4000);
    for (int i = 0; i < 4 * 8 * 8 * 2; i++)
        ((dls_real *)dls_exec_input(exec, 0))[i] = (dls_real)(i % 13) / 13;
    dls_exec_on_ready(exec, note_ready, &t);
    CHECK_STATUS(dls_exec_forward_train(exec, 4, 1, 0, 0), DLS_OK);
    for (int i = 0; i < 20; i++) dls_exec_output_grad(exec)[i] = (dls_real)(i % 3 - 1);
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    for (dls_val v = 0; v < dls_net_nodes(net); v++)
        for (int32_t i = 0; dls_net_param_of(net, v, i, &p, &at, &count) == DLS_OK; i++) {
            if (v == last) CHECK(i != 0 || t.first >= at);
            if ((p.flags & DLS_PARAM_STATISTIC) != 0) continue;
            for (size_t k = at; k < at + count; k++, seen++)
                wrong += t.count[k] != 1 || t.value[k] != t.grads[k];
        }
    CHECK_INT(wrong, 0);
    CHECK(seen > 700);
    dls_exec_on_ready(exec, NULL, NULL);
    t.calls = 0;
    CHECK_STATUS(dls_exec_forward_train(exec, 4, 1, 0, 0), DLS_OK);
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    CHECK_INT(t.calls, 0);
    dls_exec_destroy(exec);
    dls_net_destroy(net);
}

/* y = x^2 w with one w per channel; fails for n above 3 when training. */
static dls_status exec_square_shape(const dls_op_site *site, dls_op_spec *spec) {
    if (site->attr->i[0] != 7)
        return dls_op_fail(site, DLS_E_ARG, "attribute {0}, not {1}", site->attr->i[0], 7, 0);
    spec->y = site->x[0];
    spec->params = 1;
    spec->param[0].name = "scale";
    spec->param[0].dim[0] = spec->param[0].dim[1] = spec->param[0].dim[2] = 1;
    spec->param[0].dim[3] = site->x[0].c;
    spec->param[0].init = DLS_INIT_ONE;
    spec->keep_x = 1;
    spec->work_thread = 64;
    spec->saved_sample = sizeof(dls_real);
    return DLS_OK;
}
static dls_status exec_square_forward(const dls_op_call *call) {
    const size_t count = (size_t)call->n * ref_count(call->ys), c = (size_t)call->ys.c;
    const dls_real *x = (const dls_real *)call->x[0];
    if (call->train && call->n > 3) return DLS_E_UNSUPPORTED;
    memset(dls_op_scratch(call, dls_pool_threads(call->cx->pool) - 1), 0xEE, 64);
    ((dls_real *)call->saved)[call->n - 1] = 1;
    for (size_t e = 0; e < count; e++) ((dls_real *)call->y)[e] = x[e] * x[e] * call->w[0][e % c];
    return DLS_OK;
}
static dls_status exec_square_backward(const dls_op_call *call) {
    const size_t count = (size_t)call->n * ref_count(call->ys), c = (size_t)call->ys.c;
    const dls_real *x = (const dls_real *)call->x[0];
    if (!call->dw_add) memset(call->dw[0], 0, c * sizeof(dls_real));
    for (size_t e = 0; e < count; e++) {
        const dls_real g = 2 * x[e] * call->w[0][e % c] * call->dy[e];
        call->dw[0][e % c] += x[e] * x[e] * call->dy[e];
        if (call->dx[0] != NULL) call->dx[0][e] = (call->dx_add & 1u ? call->dx[0][e] : 0) + g;
    }
    return DLS_OK;
}
static dls_status exec_rude_shape(const dls_op_site *site, dls_op_spec *spec) {
    (void)site, (void)spec;
    return DLS_E_UNSUPPORTED; /* without a word */
}
static void test_exec_custom_op(void) {
    static const dls_op row = {"square",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               exec_square_shape,
                               exec_square_forward,
                               exec_square_backward,
                               NULL,
                               NULL};
    static const dls_op rude = {
        "rude", 0, 1, DLS_MERGE_NONE, exec_rude_shape, exec_square_forward, NULL, NULL, NULL};
    dls_net *net = dls_net_create(NULL);
    const dls_val x = dls_net_input(net, 1, 1, 2);
    const dls_attr good = {{7, 0, 0, 0, 0, 0, 0, 0}, {0, 0}};
    dls_val y = dls_net_op(net, &row, &x, 1, &good);
    dls_exec_desc desc;
    dls_exec *exec;
    char text[200];
    (void)dls_net_add(net, y, x, DLS_ACT_NONE);
    CHECK(dls_net_op_of(net, y) == &row);
    memset(&desc, 0, sizeof desc);
    desc.batch = 4;
    desc.train = desc.input_grad = true;
    desc.pool = op_pool();
    exec = op_exec(net, &desc);
    for (int32_t e = 0; e < 8; e++) ((dls_real *)dls_exec_input(exec, 0))[e] = (dls_real)e;
    CHECK_STATUS(dls_exec_forward_train(exec, 3, 1, 0, 0), DLS_OK);
    CHECK_NEAR(dls_exec_output(exec)[3], 12, 0);
    for (int32_t e = 0; e < 6; e++) dls_exec_output_grad(exec)[e] = 1;
    CHECK_STATUS(dls_exec_backward(exec, false), DLS_OK);
    CHECK_NEAR(dls_exec_input_grad(exec, 0)[3], 7, 0);
    CHECK_NEAR(dls_exec_grads(exec)[1], 1 + 9 + 25, 0);
    CHECK_STATUS(dls_exec_forward_train(exec, 4, 1, 0, 0), DLS_E_UNSUPPORTED);
    CHECK_TEXT(dls_error_text(dls_exec_error(exec), text, sizeof text), "node 1 (square)");
    dls_exec_destroy(exec);
    dls_net_destroy(net);
    REFUSED(DLS_E_ARG, "node 4 (square)", "attribute 0, not 7", dls_net_op(net, &row, &x, 1, NULL));
    REFUSED(DLS_E_SHAPE, "node 4 (rude)", "refused", dls_net_op(net, &rude, &x, 1, NULL));
    REFUSED(DLS_E_ARG, "", "'rude' does not take 2",
            dls_net_op(net, &rude, (dls_val[]){0, 1}, 2, NULL));
}

static void exec_tests(void) {
    RUN(exec_random_graphs);
    RUN(exec_cuts);
    RUN(exec_cut_places);
    RUN(exec_merges);
    RUN(exec_memory_is_exact);
    RUN(exec_allocation_fails);
    RUN(exec_refuses);
    RUN(exec_bad_ids);
    RUN(exec_share_weights);
    RUN(exec_on_ready);
    RUN(exec_custom_op);
}
