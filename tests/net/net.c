/* net: whole networks trained some steps. Their state (weights, optimiser, step count) is hashed:
   strict: the same on every CPU, at any thread count; fast: the same for AVX2, AVX-512 and NEON, at
   any thread count; exact: the same for any split of the shards over trainers. The hashes are in
   golden.h. Inference is compared with the forward pass of training. */

typedef struct net_golden {
    const char *name;
    uint64_t strict, fast, exact;
} net_golden;
static const net_golden net_goldens[] = {
#include "net/golden.h"
    {NULL, 0, 0, 0}};
static bool net_quick, net_print;
static uint64_t net_hashes[NET_CASES][3]; /* as measured, for --golden */

static const net_golden *net_golden_of(const net_case *c) {
    const net_golden *g = net_goldens;
    while (g->name != NULL && strcmp(g->name, c->name) != 0) g++;
    return g;
}
static void net_expect(const net_case *c, int which, const char *what, uint64_t got) {
    const net_golden *g = net_golden_of(c);
    const uint64_t want = which == 0 ? g->strict : which == 1 ? g->fast : g->exact;
    net_hashes[c - net_cases][which] = got;
    test_checks++;
    if (got != want && !net_print)
        test_report(c->name, 0, "%s: state %016llX, not %016llX", what, (unsigned long long)got,
                    (unsigned long long)want);
}

typedef struct net_way {
    dls_isa isa;
    bool strict;
    int32_t threads, shards;
} net_way;

static dls_train *net_trainer(const net_case *c, dls_net *net, const net_way *way, dls_pool *pool) {
    dls_train_desc d;
    dls_train *t;
    memset(&d, 0, sizeof d);
    d.batch = NET_BATCH;
    c->train(&d);
    if (way->shards != 0) d.accumulate = 0;
    d.shards = way->shards;
    d.seed = 5;
    d.isa = way->isa;
    d.strict = way->strict;
    d.pool = pool;
    t = dls_train_create(net, &d);
    CHECK(t != NULL);
    return t;
}
/* Trains a fresh network; its state hash. */
static uint64_t net_train(const net_case *c, const net_way *way) {
    const dls_pool_desc threads = {way->threads, 0};
    dls_pool *pool = way->threads > 1 ? dls_pool_create(&threads) : NULL;
    dls_net *net = net_make(c);
    dls_train *t = net_trainer(c, net, way, pool);
    uint64_t hash = 0;
    for (int s = 0; t != NULL && s < NET_STEPS; s++) {
        dls_step_stats stats;
        CHECK_STATUS(dls_train_step_data(t, &net_input.data, NULL, net_step_index(&net_input, s),
                                         NET_BATCH, &stats),
                     DLS_OK);
        CHECK(stats.loss > 0 && stats.loss < 10);
    }
    if (t != NULL) hash = dls_train_hash(t);
    dls_train_destroy(t);
    dls_net_destroy(net);
    dls_pool_destroy(pool);
    return hash;
}
static void net_train_all(const net_case *c, bool strict, int32_t shards) {
    net_fill(c, &net_input);
    for (int isa = DLS_ISA_SCALAR; isa < DLS_ISA_COUNT; isa++) {
        if (!dls_isa_usable((dls_isa)isa) || (!strict && isa == DLS_ISA_SCALAR)) continue;
        for (int32_t threads = 1; threads <= (net_quick ? 2 : 3); threads++) {
            const net_way way = {(dls_isa)isa, strict, threads, shards};
            char what[64];
            snprintf(what, sizeof what, "%s, %d threads", dls_isa_name((dls_isa)isa), (int)threads);
            net_expect(c, shards != 0 ? 2 : strict ? 0 : 1, what, net_train(c, &way));
        }
    }
}
static void test_net_strict(void) {
    for (int i = 0; i < NET_CASES; i++) net_train_all(&net_cases[i], true, 0);
}
static void test_net_fast(void) {
    for (int i = 0; i < NET_CASES; i++) net_train_all(&net_cases[i], false, 0);
}
static void test_net_exact(void) {
    for (int i = 0; i < NET_CASES; i++) net_train_all(&net_cases[i], true, NET_SHARDS);
}

/* One step of several trainers, each with some of the shards, reduced by hand, last one first. */
enum { PEERS_MOST = 3 };
static void net_peers_step(dls_train **t, int peers, const int32_t *shards, int s) {
    bool redo = true;
    for (int again = 0; again < 4 && redo; again++) {
        dls_exact e[PEERS_MOST];
        int32_t shard = 0;
        for (int p = 0; p < peers; p++) {
            CHECK_STATUS(dls_train_begin(t[p], NET_BATCH), DLS_OK);
            for (int32_t k = 0; k < shards[p]; k++, shard++)
                CHECK_STATUS(dls_train_shard_data(t[p], &net_input.data, NULL,
                                                  net_step_index(&net_input, s), shard),
                             DLS_OK);
            dls_train_exact(t[p], &e[p]);
        }
        CHECK_INT(shard, NET_SHARDS);
        for (int p = peers - 2; p >= 0; p--) {
            for (size_t i = 0; i < e[0].sums_count; i++) { /* may wrap, when it must be redone */
                const uint32_t sum = (uint32_t)e[p].sums[i] + (uint32_t)e[p + 1].sums[i];
                memcpy(&e[p].sums[i], &sum, sizeof sum);
            }
            for (size_t i = 0; i < e[0].scales_count; i++)
                if (e[p + 1].scales[i] > e[p].scales[i]) e[p].scales[i] = e[p + 1].scales[i];
        }
        for (int p = 0; p < peers; p++) {
            bool mine = false;
            if (p > 0) memcpy(e[p].sums, e[0].sums, e[0].sums_count * sizeof *e[0].sums);
            if (p > 0) memcpy(e[p].scales, e[0].scales, e[0].scales_count);
            CHECK_STATUS(dls_train_commit(t[p], &mine, NULL), DLS_OK);
            CHECK(p == 0 || mine == redo);
            redo = mine;
        }
    }
    CHECK(!redo);
}
static void net_split(const net_case *c, int peers, const int32_t *shards) {
    dls_net *net[PEERS_MOST];
    dls_train *t[PEERS_MOST];
    net_fill(c, &net_input);
    for (int p = 0; p < peers; p++) {
        const net_way way = {p == 0 ? DLS_ISA_SCALAR : DLS_ISA_BEST, true, 1, NET_SHARDS};
        net[p] = net_make(c);
        t[p] = net_trainer(c, net[p], &way, NULL);
        if (t[p] == NULL) return;
    }
    for (int s = 0; s < NET_STEPS; s++) net_peers_step(t, peers, shards, s);
    for (int p = 0; p < peers; p++) {
        net_expect(c, 2, "split over trainers", dls_train_hash(t[p]));
        dls_train_destroy(t[p]);
        dls_net_destroy(net[p]);
    }
}
static void test_net_exact_split(void) {
    static const int32_t shares[][PEERS_MOST] = {{2, 2}, {1, 3}, {1, 1, 2}, {4, 0}, {2, 1, 1}};
    for (int i = 0; i < NET_CASES; i++)
        for (int k = 0; k < (net_quick ? 2 : 5); k++)
            net_split(&net_cases[i], shares[k][2] != 0 ? 3 : 2, shares[k]);
}

/* ---- Inference ---- */

static double net_difference(const dls_real *a, const dls_real *b, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = fabs((double)a[i] - (double)b[i]) / (1 + fabs((double)b[i]));
        if (!(e <= worst)) worst = e;
    }
    return worst;
}
/* Trained two steps, so that statistics and weights are not the initial ones. */
static dls_net *net_trained(const net_case *c) {
    const net_way way = {DLS_ISA_SCALAR, true, 1, 0};
    dls_net *net = net_make(c);
    dls_train *t = net_trainer(c, net, &way, NULL);
    for (int s = 0; t != NULL && s < 2; s++)
        CHECK_STATUS(dls_train_step_data(t, &net_input.data, NULL, net_step_index(&net_input, s),
                                         NET_BATCH, NULL),
                     DLS_OK);
    dls_train_destroy(t);
    return net;
}
/* Outputs of NET_BATCH samples, `batch` at a time. */
static void net_infer(dls_net *net, dls_exec_desc d, int32_t batch, dls_real *out) {
    const size_t in = dls_shape_count(dls_net_shape(net, 0)) * sizeof(float);
    const size_t each = dls_shape_count(dls_net_shape(net, dls_net_output_of(net)));
    dls_exec *e;
    d.batch = batch;
    e = dls_exec_create(net, &d);
    CHECK(e != NULL);
    for (int32_t i = 0; e != NULL && i < NET_BATCH; i += batch) {
        memcpy(dls_exec_input(e, 0), (const char *)net_input.data.x + (size_t)i * in,
               (size_t)batch * in);
        CHECK_STATUS(dls_exec_forward(e, batch), DLS_OK);
        memcpy(out + (size_t)i * each, dls_exec_output(e), (size_t)batch * each * sizeof *out);
    }
    dls_exec_destroy(e);
}
static void net_infer_case(const net_case *c) {
    static dls_real train[2000], plain[2000], fused[2000], one[2000];
    dls_exec_desc d;
    dls_net *net;
    size_t n;
    net_fill(c, &net_input);
    net = net_trained(c);
    n = NET_BATCH * dls_shape_count(dls_net_shape(net, dls_net_output_of(net)));
    for (int isa = DLS_ISA_SCALAR; isa < DLS_ISA_COUNT; isa++) {
        for (int strict = 0; strict < 2; strict++) {
            if (!dls_isa_usable((dls_isa)isa)) continue;
            memset(&d, 0, sizeof d);
            d.isa = (dls_isa)isa;
            d.strict = strict != 0;
            net_infer(net, d, NET_BATCH, fused);
            net_infer(net, d, 1, one);
            d.no_fuse = true;
            net_infer(net, d, NET_BATCH, plain);
            d.train = true;
            net_infer(net, d, NET_BATCH, train);
            CHECK(net_difference(plain, train, n) < 1e-5);
            CHECK(net_difference(fused, train, n) < 1e-4);
            if (strict) CHECK(memcmp(one, fused, n * sizeof *one) == 0); /* any batch, same bits */
            CHECK(net_difference(one, fused, n) < 1e-4);
        }
    }
    dls_net_destroy(net);
}
static void test_net_inference(void) {
    for (int i = 0; i < NET_CASES; i++) net_infer_case(&net_cases[i]);
}

/* ---- Files: written here, read by another CPU ---- */

static const char *net_path(const char *dir, const net_case *c, const char *ending) {
    static char path[4][512];
    static int next;
    snprintf(path[next = (next + 1) % 4], sizeof path[0], "%s/%s.%s", dir, c->name, ending);
    return path[next];
}
static bool net_same_files(const char *a, const char *b) {
    void *x = NULL, *y = NULL;
    size_t m = 0, n = 1;
    bool same;
    CHECK_STATUS(dls_file_read(a, &x, &m, NULL), DLS_OK);
    CHECK_STATUS(dls_file_read(b, &y, &n, NULL), DLS_OK);
    same = x != NULL && y != NULL && m == n && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}
/* Model after one step and checkpoint after two, in `out`. */
static void net_write(const net_case *c, const char *out) {
    const net_way way = {DLS_ISA_BEST, true, 1, 0};
    dls_net *net = net_make(c);
    dls_train *t = net_trainer(c, net, &way, NULL);
    for (int s = 0; t != NULL && s < NET_STEPS - 1; s++) {
        CHECK_STATUS(dls_train_step_data(t, &net_input.data, NULL, net_step_index(&net_input, s),
                                         NET_BATCH, NULL),
                     DLS_OK);
        if (s == 0) CHECK_STATUS(dls_net_save(net, net_path(out, c, "dls"), NULL), DLS_OK);
    }
    if (t != NULL) CHECK_STATUS(dls_train_save(t, net_path(out, c, "check"), NULL), DLS_OK);
    dls_train_destroy(t);
    dls_net_destroy(net);
}
/* Goes on from the checkpoint to the golden state; the model, saved again, is the same file. */
static void net_read(const net_case *c, const char *in, const char *out) {
    const net_way way = {DLS_ISA_BEST, true, 1, 0};
    dls_net *net = NULL;
    dls_train *t;
    CHECK_STATUS(dls_net_load(&net, net_path(in, c, "dls"), NULL), DLS_OK);
    if (net == NULL) return;
    CHECK_STATUS(dls_net_save(net, net_path(out, c, "again"), NULL), DLS_OK);
    CHECK(net_same_files(net_path(in, c, "dls"), net_path(out, c, "again")));
    t = net_trainer(c, net, &way, NULL);
    CHECK_STATUS(dls_train_load(t, net_path(in, c, "check"), NULL), DLS_OK);
    CHECK_INT(dls_train_steps(t), NET_STEPS - 1);
    CHECK_STATUS(dls_train_step_data(t, &net_input.data, NULL,
                                     net_step_index(&net_input, NET_STEPS - 1), NET_BATCH, NULL),
                 DLS_OK);
    net_expect(c, 0, "resumed from a file", dls_train_hash(t));
    dls_train_destroy(t);
    dls_net_destroy(net);
}
static void test_net_files(void) {
    const char *out = getenv("NET_OUT"), *in = getenv("NET_IN");
    if (out == NULL) out = ".";
    for (int i = 0; i < NET_CASES; i++) {
        const net_case *c = &net_cases[i];
        net_fill(c, &net_input);
        net_write(c, out);
        net_read(c, in != NULL ? in : out, out);
        if (in == NULL) continue;
        CHECK(net_same_files(net_path(in, c, "dls"), net_path(out, c, "dls")));
        CHECK(net_same_files(net_path(in, c, "check"), net_path(out, c, "check")));
    }
}

static void whole_net_tests(void) {
    RUN(net_strict);
    if (dls_isa_best() != DLS_ISA_SCALAR) RUN(net_fast);
    RUN(net_exact);
    RUN(net_exact_split);
    RUN(net_inference);
    RUN(net_files);
}
