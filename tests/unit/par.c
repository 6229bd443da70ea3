/* par: each task runs once, whatever the threads and the count; pools are made in the memory given
   and end; contexts refuse what the CPU lacks; the matrix product is right and refuses nonsense. */

typedef struct par_job {
    unsigned char *seen;
    dls_pool *pool;
    int32_t threads, bad_thread;
    int64_t sum;
} par_job;
static void par_task(void *arg, int32_t task, int32_t thread) {
    par_job *job = (par_job *)arg;
    if (thread < 0 || thread >= job->threads)
        __atomic_fetch_add(&job->bad_thread, 1, __ATOMIC_RELAXED);
    if (job->seen != NULL) __atomic_fetch_add(&job->seen[task], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&job->sum, task, __ATOMIC_RELAXED);
}
static void test_par_every_task_once(void) {
    static unsigned char seen[3000];
    static const int32_t counts[] = {0, 1, 2, 3, 7, 8, 9, 100, 3000, -5};
    for (int32_t threads = 1; threads <= 8; threads++) {
        const dls_pool_desc desc = {threads, threads % 2 ? 1 : 200};
        dls_pool *pool = dls_pool_create(&desc);
        CHECK_INT(dls_pool_threads(pool), threads);
        for (int round = 0; round < 20; round++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
                par_job job = {seen, NULL, threads, 0, 0};
                int wrong = 0;
                memset(seen, 0, sizeof seen);
                dls_parallel_for(pool, counts[c], par_task, &job);
                for (int32_t i = 0; i < 3000; i++) wrong += seen[i] != (i < counts[c]);
                CHECK_INT(wrong, 0);
                CHECK_INT(job.bad_thread, 0);
            }
        dls_pool_destroy(pool);
    }
}
/* Many short jobs one after another, some when the workers sleep: the ticket's turns wrap. */
static void test_par_many_jobs(void) {
    const dls_pool_desc desc = {3, 1};
    dls_pool *pool = dls_pool_create(&desc);
    int64_t wrong = 0;
    for (int i = 0; i < 70000; i++) {
        par_job job = {NULL, NULL, 3, 0, 0};
        dls_parallel_for(pool, 2 + i % 3, par_task, &job);
        wrong += job.sum != (i % 3 == 0 ? 1 : i % 3 == 1 ? 3 : 6);
    }
    CHECK_INT(wrong, 0);
    for (int i = 0; i < 20; i++) {
        const uint64_t start = dls_now_us();
        par_job job = {NULL, NULL, 3, 0, 0};
        while (dls_now_us() - start < 300) {}
        dls_parallel_for(pool, 100, par_task, &job);
        CHECK_INT(job.sum, 4950);
    }
    dls_pool_destroy(pool);
}
static void test_par_more_than_a_ticket_holds(void) {
    const dls_pool_desc desc = {2, 0};
    dls_pool *pool = dls_pool_create(&desc);
    par_job job = {NULL, NULL, 2, 0, 0};
    const int64_t n = (1 << 24) + 5;
    dls_parallel_for(pool, (int32_t)n, par_task, &job);
    CHECK_INT(job.sum, n * (n - 1) / 2);
    dls_pool_destroy(pool);
}
static void par_outer(void *arg, int32_t task, int32_t thread) {
    par_job inner = {NULL, NULL, 1, 0, 0};
    dls_parallel_for(NULL, task + 1, par_task, &inner); /* without a pool: by this thread */
    (void)thread;
    __atomic_fetch_add(&((par_job *)arg)->sum, inner.sum, __ATOMIC_RELAXED);
}
static void test_par_without_a_pool(void) {
    par_job job = {NULL, NULL, 1, 0, 0}, nested = {NULL, NULL, 4, 0, 0};
    const dls_pool_desc desc = {4, 0};
    dls_pool *pool = dls_pool_create(&desc);
    dls_parallel_for(NULL, 10, par_task, &job);
    CHECK_INT(job.sum, 45);
    CHECK_INT(job.bad_thread, 0);
    CHECK_INT(dls_pool_threads(NULL), 1);
    dls_pool_close(NULL);
    dls_pool_destroy(NULL);
    dls_parallel_for(pool, 5, par_outer, &nested);
    CHECK_INT(nested.sum, 0 + 1 + 3 + 6 + 10);
    dls_pool_destroy(pool);
}
static void test_par_pool_memory(void) {
    const dls_pool_desc desc = {2, 0}, negative = {-1, 0}, many = {DLS_THREADS_MAX + 1, 0};
    const size_t bytes = dls_pool_size(&desc);
    unsigned char *mem = (unsigned char *)malloc(bytes + 32);
    dls_pool *pool = (dls_pool *)mem;
    memset(mem, 0xA5, bytes + 32);
    CHECK_STATUS(dls_pool_init(&pool, &desc, mem, bytes - 1), DLS_E_MEMORY);
    CHECK(pool == NULL);
    CHECK_STATUS(dls_pool_init(&pool, &desc, NULL, bytes), DLS_E_MEMORY);
    CHECK_STATUS(dls_pool_init(&pool, &negative, mem, bytes), DLS_E_ARG);
    CHECK_STATUS(dls_pool_init(&pool, &many, mem, SIZE_MAX / 2), DLS_E_ARG);
    CHECK(dls_pool_create(&negative) == NULL);
    CHECK(dls_pool_create(&many) == NULL);
    CHECK_STATUS(dls_pool_init(&pool, &desc, mem, bytes), DLS_OK);
    {
        par_job job = {NULL, NULL, 2, 0, 0};
        dls_parallel_for(pool, 1000, par_task, &job);
        CHECK_INT(job.sum, 499500);
    }
    dls_pool_close(pool);
    for (size_t i = 0; i < 32; i++) CHECK_INT(mem[bytes + i], 0xA5);
    free(mem);
    pool = dls_pool_create(NULL);
    CHECK_INT(dls_pool_threads(pool), dls_cpu_count());
    dls_pool_destroy(pool);
    unit_mallocs_left = 0;
    CHECK(dls_pool_create(&desc) == NULL);
    unit_mallocs_left = -1;
}

static void test_par_contexts(void) {
    dls_cx cx;
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_BEST, false, NULL), DLS_OK);
    CHECK_INT(cx.isa, dls_isa_best());
    CHECK(cx.pool == NULL && !cx.strict);
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_SCALAR, true, op_pool()), DLS_OK);
    CHECK(cx.isa == DLS_ISA_SCALAR && cx.strict && cx.pool == op_pool());
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_COUNT, false, NULL), DLS_E_UNSUPPORTED);
    CHECK_STATUS(dls_cx_init(&cx, (dls_isa)77, false, NULL), DLS_E_UNSUPPORTED);
    CHECK_STATUS(dls_cx_init(&cx, (dls_isa)-1, false, NULL), DLS_E_UNSUPPORTED);
    for (int isa = 1; isa < (int)DLS_ISA_COUNT; isa++)
        CHECK_STATUS(dls_cx_init(&cx, (dls_isa)isa, false, NULL),
                     dls_isa_usable((dls_isa)isa) ? DLS_OK : DLS_E_UNSUPPORTED);
    CHECK(dls_isa_usable(DLS_ISA_SCALAR) && dls_isa_usable(dls_isa_best()));
    CHECK(!(dls_isa_usable(DLS_ISA_NEON) && dls_isa_usable(DLS_ISA_AVX2)));
    CHECK_TEXT(dls_isa_name(DLS_ISA_SCALAR), "scalar");
    CHECK_TEXT(dls_isa_name(DLS_ISA_AVX512), "avx512");
    CHECK(dls_isa_name((dls_isa)99) != NULL && dls_isa_name(DLS_ISA_BEST) != NULL);
    CHECK_TEXT(dls_act_name(DLS_ACT_GELU_TANH), "gelu_tanh");
    CHECK_TEXT(dls_act_name(DLS_ACT_HSIGMOID), "hsigmoid");
    CHECK_TEXT(dls_act_name(DLS_ACT_COUNT), "?");
}

/* C against sums in double, in every storage. */
static void par_gemm(const dls_cx *cx, int32_t m, int32_t n, int32_t k, int32_t form) {
    static dls_real a[120 * 120], b[120 * 120], c[120 * 120], bias[120];
    dls_gemm_desc d;
    void *work;
    double far = 0;
    memset(&d, 0, sizeof d);
    d.m = m;
    d.n = n;
    d.k = k;
    d.a = a;
    d.b = b;
    d.c = c;
    d.trans_a = (form & 1) != 0;
    d.trans_b = (form & 2) != 0;
    d.add = (form & 4) != 0;
    d.bias = (form & 8) != 0 && !d.add ? bias : NULL;
    d.act = (form & 8) != 0 && !d.add ? DLS_ACT_RELU6 : DLS_ACT_NONE;
    d.lda = (form & 16) != 0 ? (d.trans_a ? m : k) + 3 : 0;
    d.ldb = (form & 16) != 0 ? (d.trans_b ? k : n) + 5 : 0;
    d.ldc = (form & 16) != 0 ? n + 2 : 0;
    for (int i = 0; i < 120 * 120; i++) {
        a[i] = (dls_real)(float)ref_uniform(-1, 1);
        b[i] = (dls_real)(float)ref_uniform(-1, 1);
        c[i] = (dls_real)0.5;
    }
    for (int i = 0; i < 120; i++) bias[i] = (dls_real)(float)ref_uniform(-1, 1);
    work = dlsi_heap_take(dls_gemm_work(cx, &d) + 1);
    CHECK_STATUS(dls_gemm(cx, &d, work), DLS_OK);
    for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < n; j++) {
            const ptrdiff_t lda = d.lda       ? d.lda
                                  : d.trans_a ? m
                                              : k,
                            ldb = d.ldb       ? d.ldb
                                  : d.trans_b ? k
                                              : n,
                            ldc = d.ldc ? d.ldc : n;
            double sum = d.add ? 0.5 : d.bias != NULL ? (double)bias[j] : 0;
            for (int32_t p = 0; p < k; p++)
                sum += (double)a[d.trans_a ? p * lda + i : i * lda + p] *
                       (double)b[d.trans_b ? j * ldb + p : p * ldb + j];
            if (d.act != DLS_ACT_NONE) sum = ref_act(sum, DLS_ACT_RELU6, 0);
            far = fmax(far, fabs(sum - (double)c[i * ldc + j]));
            if (j == n - 1 && ldc > n) CHECK(c[i * ldc + n] == (dls_real)0.5); /* not touched */
        }
    CHECK_NEAR(far, 0, 2e-5);
    dlsi_heap_give(work);
}
static void test_par_gemm(void) {
    for (int way = 0; way < 4; way++) {
        dls_cx cx;
        CHECK_STATUS(dls_cx_init(&cx, way == 0 ? DLS_ISA_SCALAR : DLS_ISA_BEST, way == 2,
                                 way == 3 ? op_pool() : NULL),
                     DLS_OK);
        for (int32_t form = 0; form < 32; form++) {
            par_gemm(&cx, 1, 1, 1, form);
            par_gemm(&cx, 17, 33, 5, form);
            par_gemm(&cx, 60, 7, 70, form);
            par_gemm(&cx, 3, 100, 40, form);
        }
    }
}
static void test_par_gemm_refuses(void) {
    dls_real m[64] = {0};
    dls_gemm_desc good, d;
    dls_cx cx;
    CHECK_STATUS(dls_cx_init(&cx, DLS_ISA_SCALAR, false, NULL), DLS_OK);
    memset(&good, 0, sizeof good);
    good.m = good.n = good.k = 4;
    good.a = good.b = good.c = m;
#define PAR_BAD(change)                                                                            \
    do {                                                                                           \
        d = good;                                                                                  \
        change;                                                                                    \
        CHECK_STATUS(dls_gemm(&cx, &d, m + 32), DLS_E_ARG);                                        \
    } while (0)
    PAR_BAD(d.m = 0);
    PAR_BAD(d.n = -1);
    PAR_BAD(d.k = 0);
    PAR_BAD(d.a = NULL);
    PAR_BAD(d.b = NULL);
    PAR_BAD(d.c = NULL);
    PAR_BAD(d.act = DLS_ACT_TANH);
    PAR_BAD(d.act = DLS_ACT_COUNT);
    PAR_BAD(d.lda = 3);
    PAR_BAD((d.trans_a = true, d.m = 5, d.lda = 4));
    PAR_BAD(d.ldb = 3);
    PAR_BAD((d.trans_b = true, d.k = 5, d.lda = 5, d.ldb = 4));
    PAR_BAD(d.ldc = 3);
    PAR_BAD(d.lda = -4);
#undef PAR_BAD
}

static void par_tests(void) {
    RUN(par_every_task_once);
    RUN(par_many_jobs);
    RUN(par_more_than_a_ticket_holds);
    RUN(par_without_a_pool);
    RUN(par_pool_memory);
    RUN(par_contexts);
    RUN(par_gemm);
    RUN(par_gemm_refuses);
}
