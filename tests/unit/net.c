/* net: memory of a network, its limits and first error, what can be asked of it, its weights. */

static void test_net_memory_is_exact(void) {
    for (int32_t max = 1; max <= 600; max = max * 3 + 1) {
        const dls_net_desc desc = {max, 5};
        const size_t bytes = dls_net_size(&desc);
        for (size_t skew = 0; skew < 3; skew++) {
            unsigned char *block = (unsigned char *)malloc(bytes + 128), *mem = block + 32 + skew;
            dls_net *net = NULL;
            dls_val x;
            memset(block, 0xC3, bytes + 128);
            CHECK_STATUS(dls_net_init(&net, &desc, mem, bytes - 1), DLS_E_MEMORY);
            CHECK(net == NULL);
            CHECK_STATUS(dls_net_init(&net, &desc, mem, bytes), DLS_OK);
            x = dls_net_input(net, 4, 4, 4);
            for (int32_t i = 1; i < max; i++) x = dls_net_act(net, x, DLS_ACT_RELU);
            CHECK_STATUS(dls_net_status(net), DLS_OK);
            CHECK(dls_exec_size(net, NULL) > 0); /* the planning scratch is inside as well */
            CHECK(dls_net_act(net, x, DLS_ACT_RELU) < 0);
            CHECK_STATUS(dls_net_status(net), DLS_E_LIMIT);
            for (size_t i = 0; i < 32 + skew; i++) CHECK_INT(block[i], 0xC3);
            for (size_t i = 32 + skew + bytes; i < bytes + 128; i++) CHECK_INT(block[i], 0xC3);
            free(block);
        }
    }
}
static void test_net_refuses(void) {
    static unsigned char mem[200000];
    const dls_net_desc none = {-1, 0}, many = {10923, 0}, most = {10922, 0}, few = {2, 0};
    dls_net *net = (dls_net *)mem;
    char text[200];
    CHECK_INT(dls_net_size(&none), 0);
    CHECK_INT(dls_net_size(&many), 0);
    CHECK(dls_net_size(&most) > 10922 * sizeof(dlsi_node));
    CHECK(dls_net_size(NULL) > DLS_NODES_DEFAULT * sizeof(dlsi_node));
    CHECK_STATUS(dls_net_init(&net, &none, mem, sizeof mem), DLS_E_ARG);
    CHECK(net == NULL);
    CHECK_STATUS(dls_net_init(&net, &many, mem, sizeof mem), DLS_E_ARG);
    CHECK_STATUS(dls_net_init(&net, &few, NULL, sizeof mem), DLS_E_MEMORY);
    CHECK_STATUS(dls_net_init_abi(&net, &few, mem, sizeof mem, DLS_ABI ^ 0x100u), DLS_E_ABI);
    CHECK(net == NULL);
    CHECK_STATUS(dls_net_init_abi(&net, &few, mem, sizeof mem, DLS_ABI), DLS_OK);
    (void)dls_net_input(net, 1, 1, 1);
    (void)dls_net_input(net, 1, 1, 1);
    CHECK(dls_net_input(net, 1, 1, 1) < 0);
    CHECK_TEXT(dls_error_text(dls_net_error(net), text, sizeof text), "raise nodes_max above 2");
    CHECK(dls_net_create(&none) == NULL);
    CHECK(dls_net_create_abi(NULL, DLS_ABI + 1) == NULL);
    unit_mallocs_left = 0;
    CHECK(dls_net_create(NULL) == NULL);
    unit_mallocs_left = -1;
    dls_net_destroy(NULL);
}
static void test_net_output(void) {
    dls_net *net = dls_net_create(NULL);
    const dls_val x = dls_net_input(net, 2, 1, 3), y = dls_net_act(net, x, DLS_ACT_RELU);
    char text[200];
    CHECK_INT(dls_net_output_of(net), y);
    dls_net_output(net, x);
    CHECK_INT(dls_net_output_of(net), x);
    (void)dls_net_softmax(net, y);
    CHECK_INT(dls_net_output_of(net), x); /* chosen once, stays */
    dls_net_output(net, 3);
    CHECK_STATUS(dls_net_status(net), DLS_E_ARG);
    CHECK_TEXT(dls_error_text(dls_net_error(net), text, sizeof text), "output 3");
    dls_net_destroy(net);
}
static void test_net_looking(void) {
    dls_net *net = dls_net_create(NULL);
    const dls_val x = dls_net_input(net, 8, 8, 3), a = dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU);
    const dls_val b = dls_net_conv2d(net, a, 16, 3, DLS_ACT_NONE);
    const dls_val s = dls_net_add(net, b, a, DLS_ACT_RELU);
    dls_val in[DLS_OP_INPUTS];
    dls_param p;
    size_t at, count;
    CHECK_INT(dls_net_nodes(net), 4);
    CHECK_INT(dls_net_shape(net, s).c, 16);
    CHECK_INT(dls_net_shape(net, 4).h + dls_net_shape(net, -1).w, 0);
    CHECK(dls_net_op_of(net, b) == dls_op_conv2d());
    CHECK(dls_net_op_of(net, 4) == NULL && dls_net_op_of(net, -1) == NULL);
    CHECK_INT(dls_net_inputs_of(net, s, in), 2);
    CHECK(in[0] == b && in[1] == a);
    CHECK_INT(dls_net_inputs_of(net, x, in), 0);
    CHECK_INT(dls_net_inputs_of(net, 9, in), 0);
    CHECK_NEAR(dls_net_macs(net, 1, 2), 64.0 * 16 * 27, 0);
    CHECK_NEAR(dls_net_macs(net, 2, 3), 64.0 * 16 * 144, 0);
    CHECK_NEAR(dls_net_macs(net, -5, 99), 64.0 * 16 * (27 + 144) + 64 * 16, 0);
    CHECK_NEAR(dls_net_macs(net, 3, 2), 0, 0);
    CHECK_INT(dls_net_param_count(net), 432 + 16 + 2304 + 16);
    CHECK_STATUS(dls_net_param_of(net, b, 0, &p, &at, &count), DLS_OK);
    CHECK(at == 448 && count == 2304);
    CHECK_STATUS(dls_net_param_of(net, b, 2, &p, &at, &count), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_net_param_of(net, b, -1, NULL, NULL, NULL), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_net_param_of(net, 4, 0, NULL, NULL, NULL), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_net_param_of(net, s, 0, NULL, NULL, NULL), DLS_E_NOT_FOUND);
    dls_net_destroy(net);
}
static dls_net *net_small(uint64_t seed, int32_t units, dls_act act) {
    const dls_net_desc desc = {0, seed};
    dls_net *net = dls_net_create(&desc);
    (void)dls_net_linear(net, dls_net_input(net, 1, 1, 6), units, act);
    return net;
}
static void test_net_hash(void) {
    dls_net *a = net_small(1, 300, DLS_ACT_RELU), *b = net_small(2, 300, DLS_ACT_RELU);
    CHECK(dls_net_hash(a) == dls_net_hash(b)); /* not of the seed, nor of weights */
    (void)dlsi_net_need_params(a, true);
    CHECK(dls_net_hash(a) == dls_net_hash(b));
    dls_net_output(b, 0);
    CHECK(dls_net_hash(a) != dls_net_hash(b));
    dls_net_destroy(b);
    b = net_small(1, 301, DLS_ACT_RELU);
    CHECK(dls_net_hash(a) != dls_net_hash(b));
    dls_net_destroy(b);
    b = net_small(1, 300, DLS_ACT_NONE);
    CHECK(dls_net_hash(a) != dls_net_hash(b));
    dls_net_destroy(b);
    dls_net_destroy(a);
}
static void test_net_initial_weights(void) {
    dls_net *net = net_small(1, 300, DLS_ACT_RELU), *same = net_small(1, 300, DLS_ACT_TANH),
            *other = net_small(2, 300, DLS_ACT_RELU);
    double square = 0, most = 0;
    size_t bias, count;
    CHECK(dls_net_params(net) == NULL);
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    CHECK(dls_net_params(net) != NULL);
    CHECK_STATUS(dlsi_net_need_params(same, true), DLS_OK);
    CHECK_STATUS(dlsi_net_need_params(other, true), DLS_OK);
    CHECK_STATUS(dls_net_param_of(net, 1, 1, NULL, &bias, &count), DLS_OK);
    CHECK(memcmp(dls_net_params(net), dls_net_params(same), 1800 * sizeof(dls_real)) == 0);
    CHECK(memcmp(dls_net_params(net), dls_net_params(other), 1800 * sizeof(dls_real)) != 0);
    for (size_t i = 0; i < 1800; i++) {
        square += pow((double)dls_net_params(net)[i], 2) / 1800;
        most = fmax(most, fabs((double)dls_net_params(net)[i]));
    }
    CHECK_NEAR(square, 2.0 / 6, 0.02); /* He et al.: variance 2 / inputs */
    CHECK(most <= 1 && most > 0.98);
    for (size_t i = 0; i < count; i++) CHECK_NEAR(dls_net_params(net)[bias + i], 0, 0);
    dls_net_destroy(net);
    dls_net_destroy(same);
    dls_net_destroy(other);
    net = dls_net_create(NULL);
    (void)dls_net_batchnorm(net, dls_net_input(net, 1, 1, 3), DLS_ACT_NONE);
    (void)dls_net_param(net, 40, 50, 1, 0.5f);
    CHECK_STATUS(dlsi_net_need_params(net, true), DLS_OK);
    CHECK_NEAR(dls_net_params(net)[2], 1, 0); /* gain, bias, mean, variance, each padded to 16 */
    CHECK_NEAR(dls_net_params(net)[3], 0, 0);
    CHECK_NEAR(dls_net_params(net)[16], 0, 0);
    CHECK_NEAR(dls_net_params(net)[50], 1, 0);
    for (square = 0, count = 64; count < 2064; count++)
        square += pow((double)dls_net_params(net)[count], 2) / 2000;
    CHECK_NEAR(square, 0.25, 0.03);
    dls_net_destroy(net);
}
static void test_net_bound_weights(void) {
    static unsigned char mem[20000];
    static dls_real weights[64], x[2] = {3, 4};
    const dls_net_desc desc = {4, 0};
    dls_exec *exec;
    dls_net *net;
    CHECK_STATUS(dls_net_init(&net, &desc, mem, sizeof mem), DLS_OK);
    (void)dls_net_linear_no_bias(net, dls_net_input(net, 1, 1, 2), 1, DLS_ACT_NONE);
    exec = dls_exec_create(net, NULL);
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_E_STATE); /* not on the heap: nobody binds them */
    CHECK_STATUS(dls_exec_error(exec)->status, DLS_E_STATE);
    CHECK_STATUS(dls_net_bind_params(net, NULL), DLS_E_ARG);
    CHECK_STATUS(dls_net_bind_params(net, weights), DLS_OK);
    CHECK(dls_net_params(net) == weights);
    weights[0] = 10;
    weights[1] = 1;
    memcpy(dls_exec_input(exec, 0), x, sizeof x);
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_OK);
    CHECK_NEAR(dls_exec_output(exec)[0], 34, 0);
    weights[0] = 20; /* changed from outside, and told */
    dls_net_touch(net);
    memcpy(dls_exec_input(exec, 0), x, sizeof x);
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_OK);
    CHECK_NEAR(dls_exec_output(exec)[0], 64, 0);
    CHECK(dls_net_act(net, 1, DLS_ACT_RELU) < 0); /* it cannot grow now */
    CHECK_STATUS(dls_net_status(net), DLS_E_STATE);
    CHECK_STATUS(dls_net_bind_params(net, weights), DLS_E_STATE);
    CHECK_STATUS(dls_exec_forward(exec, 1), DLS_E_STATE);
    dls_exec_destroy(exec);
}

static void net_tests(void) {
    RUN(net_memory_is_exact);
    RUN(net_refuses);
    RUN(net_output);
    RUN(net_looking);
    RUN(net_hash);
    RUN(net_initial_weights);
    RUN(net_bound_weights);
}
