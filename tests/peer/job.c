/* Data-parallel steps of 1 to 4 engines over memory, and networks cut in stages: the same bits as
   one device, for any shares, with batch statistics, dropout, augmentation, clipping and redone
   passes. */

#define JOB_SAMPLES 50
#define JOB_CLASSES 4
#define JOB_NETS 4

static float job_x[JOB_SAMPLES * 64];
static int32_t job_label[JOB_SAMPLES];
static dls_data job_data(void) {
    dls_data d;
    dls_rng rng = {5, 0};
    int i, k;
    memset(&d, 0, sizeof d);
    for (i = 0; i < JOB_SAMPLES; i++) {
        job_label[i] = (int32_t)below(&rng, JOB_CLASSES);
        for (k = 0; k < 64; k++)
            job_x[i * 64 + k] = dls_rng_uniform(&rng) + (k / 16 == job_label[i] ? 0.5f : 0.0f);
    }
    d.x = job_x;
    d.shape.h = d.shape.w = 8;
    d.shape.c = 1;
    d.count = JOB_SAMPLES;
    d.label = job_label;
    d.classes = JOB_CLASSES;
    return d;
}
static dls_net *job_net(int kind, uint64_t seed) {
    dls_net_desc desc;
    dls_net *net;
    dls_val x, y;
    memset(&desc, 0, sizeof desc);
    desc.seed = seed;
    net = dls_net_create(&desc);
    x = dls_net_input(net, 8, 8, 1);
    if (kind == 0) {
        x = dls_net_dense(net, x, 19, DLS_ACT_RELU);
        x = dls_net_dense(net, x, 11, DLS_ACT_TANH);
    } else if (kind == 1) {
        x = dls_net_conv2d(net, x, 6, 3, DLS_ACT_NONE);
        x = dls_net_batchnorm(net, x, DLS_ACT_RELU);
        x = dls_net_maxpool(net, x, 2);
        x = dls_net_dropout(net, x, 0.3f);
        x = dls_net_conv2d(net, x, 5, 3, DLS_ACT_NONE);
        x = dls_net_batchnorm(net, x, DLS_ACT_RELU6);
        x = dls_net_global_avgpool(net, x);
    } else if (kind == 2) { /* a skip connection */
        x = dls_net_conv2d(net, x, 6, 3, DLS_ACT_RELU);
        y = dls_net_depthwise(net, x, 3, 1, DLS_ACT_SILU);
        y = dls_net_groupnorm(net, y, 3, DLS_ACT_NONE);
        x = dls_net_add(net, x, y, DLS_ACT_RELU);
        x = dls_net_avgpool(net, x, 2);
        x = dls_net_dropout(net, x, 0.1f);
    } else {
        x = dls_net_reshape(net, x, 8, 1, 8);
        x = dls_net_lstm(net, x, 7);
        x = dls_net_layernorm(net, x);
    }
    dls_net_dense(net, x, JOB_CLASSES, DLS_ACT_NONE);
    return net;
}
static dls_train_desc job_desc(int kind, int32_t shards) {
    dls_train_desc d;
    memset(&d, 0, sizeof d);
    d.batch = 13;
    d.shards = shards;
    d.seed = 99;
    d.optim.kind = kind % 2 == 0 ? DLS_OPTIM_SGD : DLS_OPTIM_ADAMW;
    d.optim.lr = kind % 2 == 0 ? 0.1f : 0.01f;
    d.optim.momentum = kind % 2 == 0 ? 0.9f : 0.0f;
    d.optim.clip_norm = kind == 2 ? 0.5f : 0.0f;
    return d;
}
/* The samples of a step: 13, and sometimes fewer than there are shards. */
static int32_t job_index(int step, int32_t *index) {
    const int32_t n = step == 3 ? 5 : step == 5 ? 1 : 13;
    int32_t i;
    for (i = 0; i < n; i++) index[i] = dls_fit_index(7, 0, JOB_SAMPLES, (step * 13 + i) % 50);
    return n;
}
#define JOB_STEPS 7

static uint64_t job_alone(int kind, int32_t shards, double *loss, int32_t *redone) {
    const dls_data data = job_data();
    const dls_train_desc d = job_desc(kind, shards);
    dls_augment augment;
    dls_net *net = job_net(kind, 3);
    dls_train *train = dls_train_create(net, &d);
    int32_t index[13];
    uint64_t hash;
    int step;
    memset(&augment, 0, sizeof augment);
    augment.shift = kind == 1;
    augment.flip = kind == 2;
    augment.mixup = kind == 1 ? 0.4f : 0.0f;
    *loss = *redone = 0;
    for (step = 0; step < JOB_STEPS; step++) {
        const int32_t n = job_index(step, index);
        dls_step_stats stats;
        CHECK_STATUS(dls_train_step_data(train, &data, &augment, index, n, &stats), DLS_OK);
        *loss += stats.loss;
        *redone += stats.redone;
    }
    hash = dls_train_hash(train);
    dls_train_destroy(train);
    dls_net_destroy(net);
    return hash;
}
static void job_together(int kind, int32_t shards, int32_t n, const int32_t *shares, uint64_t want,
                         double want_loss) {
    static cluster c;
    static dls_coll coll[4];
    const dls_data data = job_data();
    const dls_train_desc d = job_desc(kind, shards);
    dls_augment augment;
    dls_net *net[4];
    dls_train *train[4];
    dls_job job[4];
    void *staging[4];
    double loss[4] = {0};
    int64_t samples = 0, all = 0;
    int32_t index[13], a, b, k;
    int step;
    memset(&augment, 0, sizeof augment);
    augment.shift = kind == 1;
    augment.flip = kind == 2;
    augment.mixup = kind == 1 ? 0.4f : 0.0f;
    memset(job, 0, sizeof job);
    cluster_open(&c, n, (uint64_t)kind * 100 + (uint64_t)n, true);
    for (a = 0; a < n; a++) {
        dls_exact e;
        net[a] = job_net(kind, 3);
        train[a] = dls_train_create(net[a], &d);
        dls_train_exact(train[a], &e);
        staging[a] = malloc(dls_coll_size(n, e.sums_count * 4));
        CHECK_STATUS(dls_coll_init(&coll[a], c.peer[a], a, n, staging[a],
                                   dls_coll_size(n, e.sums_count * 4)),
                     DLS_OK);
        job[a].train = train[a];
        job[a].coll = &coll[a];
        job[a].shares = shares;
    }
    for (step = 0; step < JOB_STEPS; step++) {
        const int32_t size = job_index(step, index);
        bool over[4] = {false};
        int32_t left = n;
        long turns = 0;
        for (k = 0, a = (int32_t)below(&c.rng, (uint32_t)n); k < n; k++, a = (a + 1) % n)
            CHECK_STATUS(dls_job_begin(&job[a], &data, &augment, index, size), DLS_OK);
        while (left > 0 && ++turns < 1000000) {
            dls_step_stats stats;
            dls_status st;
            a = (int32_t)below(&c.rng, (uint32_t)n);
            b = (int32_t)below(&c.rng, (uint32_t)n);
            if (a != b)
                (void)dls_loop_pump(c.peer[a], c.link[a][b], c.peer[b], c.link[b][a], c.now);
            if (over[a] || !dls_job_poll(&job[a], &st, &stats)) continue;
            CHECK_STATUS(st, DLS_OK);
            over[a] = true;
            loss[a] += stats.loss;
            left--;
        }
        CHECK_INT(left, 0);
        all += size;
    }
    for (a = 0; a < n; a++) {
        CHECK(dls_train_hash(train[a]) == want);
        CHECK(loss[a] == want_loss);
        CHECK_INT(dls_train_steps(train[a]), JOB_STEPS);
        if (shares != NULL && shares[a] == 0) CHECK_INT(job[a].samples, 0);
        samples += job[a].samples;
        dls_train_destroy(train[a]);
        dls_net_destroy(net[a]);
        free(staging[a]);
    }
    CHECK_INT(samples >= all, 1); /* more where passes were redone */
    cluster_close(&c);
}
static void job_all(int kind) {
    static const int32_t shares[3][4] = {{1, 1, 1, 1}, {1, 2, 5, 1}, {3, 0, 1, 0}};
    static const int32_t shards[3] = {8, 3, 13};
    const long blocks = test_blocks;
    int32_t n, k, i;
    for (i = 0; i < 3; i++) {
        double loss;
        int32_t redone;
        const uint64_t want = job_alone(kind, shards[i], &loss, &redone);
        CHECK(redone > 0); /* or the redo path was not tried */
        for (n = 1; n <= 4; n++) {
            job_together(kind, shards[i], n, NULL, want, loss);
            for (k = 0; k < 3; k++)
                if (i == 0 || n == 3) job_together(kind, shards[i], n, shares[k], want, loss);
        }
    }
    CHECK_INT(test_blocks - blocks, 0);
}
static void test_job_mlp_equals_one_device(void) { job_all(0); }
static void test_job_batchnorm_dropout_equals_one_device(void) { job_all(1); }
static void test_job_skip_groupnorm_equals_one_device(void) { job_all(2); }
static void test_job_lstm_equals_one_device(void) { job_all(3); }

/* Shards are handed out without gap or overlap, in proportion, none to a share of 0. */
static void test_job_shards(void) {
    dls_rng rng = {17, 0};
    int i;
    for (i = 0; i < 20000; i++) {
        const int32_t size = 1 + (int32_t)below(&rng, 9), shards = (int32_t)below(&rng, 257);
        int32_t shares[9], at = 0, r;
        int64_t total = 0;
        for (r = 0; r < size; r++) {
            shares[r] = (int32_t)below(&rng, i % 3 == 0 ? 4 : 100);
            if (i % 7 == 0) shares[r] = (int32_t)(dls_rng_u32(&rng) >> 1); /* up to 2^31 - 1 */
            if (below(&rng, 9) == 0) shares[r] = -5;                       /* as 0 */
            total += shares[r] > 0 ? shares[r] : 0;
        }
        for (r = 0; r < size; r++) {
            const int32_t own = shares[r] > 0 ? shares[r] : 0;
            int32_t first, count;
            dls_job_shards(i % 5 == 0 ? NULL : shares, size, shards, r, &first, &count);
            CHECK_INT(first, at);
            CHECK(count >= 0);
            at += count;
            if (i % 5 == 0 || total == 0)
                CHECK(count - shards / size <= 1 && count >= shards / size);
            else
                CHECK_NEAR(count, (double)own * shards / (double)total, 1.0);
            if (i % 5 != 0 && total > 0 && own == 0) CHECK_INT(count, 0);
        }
        CHECK_INT(at, shards);
    }
}
/* What cannot be begun says so, and the job can be used afterwards. */
static void test_job_errors(void) {
    const dls_data good = job_data();
    dls_data data = good;
    dls_train_desc d = job_desc(0, 0);
    dls_net *net = job_net(0, 3);
    dls_train *fast = dls_train_create(net, &d), *train;
    unsigned char staging[100000];
    int32_t index[13], label[JOB_SAMPLES], n = job_index(0, index);
    dls_coll coll;
    dls_job job;
    dls_step_stats stats;
    dls_status st;
    char text[200];
    d.shards = 8;
    train = dls_train_create(net, &d);
    memset(&job, 0, sizeof job);
    CHECK_STATUS(dls_coll_init(&coll, NULL, 0, 1, staging, sizeof staging), DLS_OK);
    job.coll = &coll;
    job.train = fast;
    CHECK_STATUS(dls_job_begin(&job, &data, NULL, index, n), DLS_E_STATE);
    dls_error_text(dls_exec_error(dls_train_exec(fast)), text, sizeof text);
    CHECK_TEXT(text, "shards");
    job.train = train;
    CHECK_STATUS(dls_job_begin(&job, &data, NULL, index, 0), DLS_E_ARG);
    CHECK_STATUS(dls_job_begin(&job, &data, NULL, index, 14), DLS_E_ARG);
    index[4] = JOB_SAMPLES;
    CHECK_STATUS(dls_job_begin(&job, &data, NULL, index, n), DLS_E_ARG);
    index[4] = -1;
    CHECK_STATUS(dls_job_begin(&job, &data, NULL, index, n), DLS_E_ARG);
    n = job_index(0, index);
    memcpy(label, job_label, sizeof label);
    data.label = label;
    label[index[12]] = JOB_CLASSES;
    CHECK_STATUS(dls_job_begin(&job, &data, NULL, index, n), DLS_E_ARG);
    job_x[index[12] * 64 + 3] = NAN;
    CHECK_STATUS(dls_job_begin(&job, &good, NULL, index, n), DLS_E_NUMBER);
    (void)job_data(); /* sound again */
    CHECK_STATUS(dls_job_begin(&job, &good, NULL, index, n), DLS_OK);
    CHECK(dls_job_poll(&job, &st, &stats));
    CHECK_STATUS(st, DLS_OK);
    CHECK_INT(dls_train_steps(train), 1);
    dls_train_destroy(fast);
    dls_train_destroy(train);
    dls_net_destroy(net);
}
/* A peer vanishes between two engines' steps: both others end with DLS_E_PEER, their trainers as
   they were after the last whole step. */
static void test_job_peer_lost(void) {
    static cluster c;
    const dls_data data = job_data();
    const dls_train_desc d = job_desc(0, 8);
    int moves;
    for (moves = 0; moves < 60; moves += 3) {
        dls_coll coll[3];
        dls_net *net[3];
        dls_train *train[3];
        dls_job job[3];
        void *staging[3];
        uint64_t before = 0;
        int32_t index[13], a, b, n = job_index(0, index), turn;
        bool over[3] = {false};
        dls_status st[3] = {DLS_OK, DLS_OK, DLS_OK};
        dls_step_stats stats;
        memset(job, 0, sizeof job);
        cluster_open(&c, 3, (uint64_t)moves, true);
        for (a = 0; a < 3; a++) {
            net[a] = job_net(0, 3);
            train[a] = dls_train_create(net[a], &d);
            staging[a] = malloc(60000);
            CHECK_STATUS(dls_coll_init(&coll[a], c.peer[a], a, 3, staging[a], 60000), DLS_OK);
            job[a].train = train[a];
            job[a].coll = &coll[a];
            before = dls_train_hash(train[a]);
            CHECK_STATUS(dls_job_begin(&job[a], &data, NULL, index, n), DLS_OK);
        }
        for (turn = 0; turn < 4000; turn++) {
            if (turn == moves) {
                cluster_part(&c, 0, 1);
                cluster_part(&c, 2, 1);
            }
            a = (int32_t)below(&c.rng, 3);
            b = (int32_t)below(&c.rng, 3);
            (void)cluster_move(&c, a, b, 600, true);
            (void)cluster_move(&c, a, b, 600, false);
            if (!over[a] && (a != 1 || turn < moves))
                over[a] = dls_job_poll(&job[a], &st[a], &stats);
        }
        for (a = 0; a < 3; a++) {
            if (a != 1) CHECK(over[a]);
            if (a != 1) CHECK_STATUS(st[a], DLS_E_PEER);
            CHECK(dls_train_hash(train[a]) == before);
            dls_train_destroy(train[a]);
            dls_net_destroy(net[a]);
            free(staging[a]);
        }
        cluster_close(&c);
    }
}

/* ---- Stages ---- */

/* Runs net in the ranges at[]; values that cross travel through `store`. */
static bool job_staged(dls_net *net, int32_t stages, const int32_t *at, const float *x, int32_t n,
                       float *y, size_t y_count) {
    static float store[64][13 * 8 * 8 * 6];
    int32_t s, i;
    for (s = 0; s < stages; s++) {
        dls_exec_desc d;
        dls_exec *exec;
        dls_val out[16], v;
        int32_t outs;
        memset(&d, 0, sizeof d);
        d.batch = 13;
        d.first = at[s];
        d.last = at[s + 1];
        exec = dls_exec_create(net, &d);
        CHECK(exec != NULL);
        if (exec == NULL) return false;
        for (i = 0; (v = dls_exec_input_val(exec, i)) >= 0; i++)
            memcpy(dls_exec_input(exec, i), s == 0 ? x : store[v],
                   (size_t)n * dls_shape_count(dls_net_shape(net, v)) * sizeof(float));
        CHECK_STATUS(dls_exec_forward(exec, n), DLS_OK);
        outs = s + 1 < stages ? dls_net_cut(net, at[s + 1], out, 16) : 0;
        CHECK(outs >= 0);
        for (i = 0; i < outs; i++)
            if (dls_exec_value(exec, out[i]) != NULL)
                memcpy(store[out[i]], dls_exec_value(exec, out[i]),
                       (size_t)n * dls_shape_count(dls_net_shape(net, out[i])) * sizeof(float));
        if (s + 1 == stages) memcpy(y, dls_exec_output(exec), y_count * sizeof(float));
        dls_exec_destroy(exec);
    }
    return true;
}
static void test_job_stages_equal_whole(void) {
    static const int32_t shares[4] = {1, 5, 2, 1};
    const dls_data data = job_data();
    int32_t stages, at[64], index[13], i, weighted, cuts = 0;
    int kind;
    for (kind = 0; kind < JOB_NETS; kind++) {
        dls_net *net = job_net(kind, 3);
        const dls_train_desc d = job_desc(kind, 8);
        dls_train *train = dls_train_create(net, &d);
        const int32_t one[2] = {0, dls_net_nodes(net)};
        float whole[13 * JOB_CLASSES], parts[13 * JOB_CLASSES];
        for (i = 0; i < 4; i++) /* statistics and weights of use */
            CHECK_STATUS(dls_train_step_data(train, &data, NULL, index, job_index(i, index), NULL),
                         DLS_OK);
        CHECK(job_staged(net, 1, one, job_x, 13, whole, 13 * JOB_CLASSES));
        for (stages = 1; stages <= 4; stages++)
            for (weighted = 0; weighted < 2; weighted++) {
                const dls_status st = dls_job_cut(net, stages, weighted ? shares : NULL, at);
                if (st != DLS_OK) {
                    CHECK_STATUS(st, DLS_E_ARG);
                    CHECK(stages > 3);
                    continue;
                }
                CHECK_INT(at[0], 0);
                CHECK_INT(at[stages], dls_net_nodes(net));
                for (i = 0; i < stages; i++) CHECK(at[i] < at[i + 1]);
                memset(parts, 0, sizeof parts);
                CHECK(job_staged(net, stages, at, job_x, 13, parts, 13 * JOB_CLASSES));
                CHECK(memcmp(parts, whole, sizeof whole) == 0);
                cuts++;
            }
        CHECK_STATUS(dls_job_cut(net, 0, NULL, at), DLS_E_ARG);
        CHECK_STATUS(dls_job_cut(net, 60, NULL, at), DLS_E_ARG); /* more stages than nodes */
        dls_train_destroy(train);
        dls_net_destroy(net);
    }
    CHECK(cuts >= 26);
}
/* Shares move the cuts: the more a stage may take, the more multiply-adds it gets. */
static void test_job_cut_by_shares(void) {
    static const int32_t light[2] = {1, 9}, heavy[2] = {9, 1};
    dls_net *net = dls_net_create(NULL);
    dls_val x = dls_net_input(net, 1, 1, 32);
    int32_t a[3], b[3], e[3], i;
    for (i = 0; i < 20; i++) x = dls_net_dense(net, x, 32, DLS_ACT_RELU);
    CHECK_STATUS(dls_job_cut(net, 2, light, a), DLS_OK);
    CHECK_STATUS(dls_job_cut(net, 2, heavy, b), DLS_OK);
    CHECK_STATUS(dls_job_cut(net, 2, NULL, e), DLS_OK);
    CHECK_NEAR(dls_net_macs(net, 0, a[1]) / dls_net_macs(net, 0, 21), 0.1, 0.051);
    CHECK_NEAR(dls_net_macs(net, 0, b[1]) / dls_net_macs(net, 0, 21), 0.9, 0.051);
    CHECK_NEAR(dls_net_macs(net, 0, e[1]) / dls_net_macs(net, 0, 21), 0.5, 0.051);
    dls_net_destroy(net);
}

static void job_tests(void) {
    RUN(job_shards);
    RUN(job_errors);
    RUN(job_mlp_equals_one_device);
    RUN(job_batchnorm_dropout_equals_one_device);
    RUN(job_skip_groupnorm_equals_one_device);
    RUN(job_lstm_equals_one_device);
    RUN(job_peer_lost);
    RUN(job_stages_equal_whole);
    RUN(job_cut_by_shares);
}
