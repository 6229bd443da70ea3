/* Collectives of 1 to 17 engines: see run.sh. All members start the same ops in the same order; who
   goes on, and which bytes move, is random by seed. Results are compared with sums in doubles, and
   the bytes that were sent with the formulas of >>coll.api. */
#define _DEFAULT_SOURCE
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

enum { MOST = 17, MTU = 4096 };

typedef struct world {
    int32_t n, port[MOST][MOST];
    dls_peer *peer[MOST];
    void *mem[MOST], *staging[MOST], *port_mem[MOST][MOST];
    dls_coll coll[MOST];
    dls_rng rng;
} world;
static world w;

static uint32_t below(uint32_t n) { return n == 0 ? 0 : dls_rng_u32(&w.rng) % n; }
static void join(int32_t a, int32_t b, bool call) {
    dls_port_desc d;
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_STREAM;
    d.mtu = MTU;
    d.plain = true;
    d.call = call;
    d.rank = b;
    d.bytes = DLS_PORT_BYTES(DLS_PORT_STREAM, MTU);
    d.mem = w.port_mem[a][b] = malloc(d.bytes);
    w.port[a][b] = dls_peer_port_open(w.peer[a], &d, 1000);
    CHECK(w.port[a][b] >= 0);
}
static void pump(int32_t a, int32_t b) {
    if (a != b && w.port[a][b] >= 0)
        (void)dls_loop_pump(w.peer[a], w.port[a][b], w.peer[b], w.port[b][a], 1000);
}
/* bytes: the longest array for which there must be staging */
static void world_open(int32_t n, int32_t ops, size_t bytes, uint64_t seed) {
    int32_t a, b;
    memset(&w, 0, sizeof w);
    w.n = n;
    w.rng.seed = seed;
    for (a = 0; a < n; a++) {
        dls_peer_desc d;
        memset(&d, 0, sizeof d);
        d.rank = a;
        d.size = n;
        d.ops_max = ops;
        w.mem[a] = malloc(dls_peer_size(&d));
        CHECK_STATUS(dls_peer_init(&w.peer[a], &d, w.mem[a], dls_peer_size(&d)), DLS_OK);
        w.staging[a] = malloc(dls_coll_size(n, bytes));
        CHECK_STATUS(
            dls_coll_init(&w.coll[a], w.peer[a], a, n, w.staging[a], dls_coll_size(n, bytes)),
            DLS_OK);
    }
    for (a = 0; a < n; a++)
        for (b = 0; b < n; b++) w.port[a][b] = -1;
    for (a = 0; a < n; a++)
        for (b = 0; b < a; b++) {
            join(b, a, false);
            join(a, b, true);
        }
    for (a = 0; a < n * n; a++) pump(a / n, a % n);
    for (a = 0; a < n; a++) CHECK_INT(dls_peer_up(w.peer[a]), n);
}
static void world_close(void) {
    int32_t a, b;
    for (a = 0; a < w.n; a++) {
        free(w.mem[a]);
        free(w.staging[a]);
        for (b = 0; b < w.n; b++) free(w.port_mem[a][b]);
    }
}

/* ---- One op: what members bring, what they must get ---- */

static const size_t width_of[] = {4, 1, 8, 4, 8, 4, 4};
static double bring(int32_t who, dls_reduce type, size_t i, uint32_t salt) {
    const uint32_t x = dls_rand_at((uint64_t)who << 32 | salt, (uint32_t)i);
    if (type == DLS_REDUCE_MAX_U8) return x & 255u;
    if (type == DLS_REDUCE_SUM_I32 || type == DLS_REDUCE_SUM_I64) return (int32_t)x / 64;
    return (double)(float)((int32_t)x * (1.0 / 65536 / 256));
}
static void put(unsigned char *to, dls_reduce type, size_t i, double v) {
    const int32_t i32 = (int32_t)v;
    const int64_t i64 = (int64_t)v;
    const float f32 = (float)v;
    to += i * width_of[type];
    if (type == DLS_REDUCE_SUM_I32)
        memcpy(to, &i32, 4);
    else if (type == DLS_REDUCE_MAX_U8)
        *to = (unsigned char)v;
    else if (type == DLS_REDUCE_SUM_I64)
        memcpy(to, &i64, 8);
    else if (type == DLS_REDUCE_SUM_F64)
        memcpy(to, &v, 8);
    else
        memcpy(to, &f32, 4);
}
static double get(const unsigned char *from, dls_reduce type, size_t i) {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    from += i * width_of[type];
    memcpy(&i32, from, type == DLS_REDUCE_MAX_U8 ? 1 : 4);
    memcpy(&f32, from, type == DLS_REDUCE_MAX_U8 ? 1 : 4);
    if (type == DLS_REDUCE_SUM_I32) return i32;
    if (type == DLS_REDUCE_MAX_U8) return *from;
    if (type != DLS_REDUCE_SUM_I64 && type != DLS_REDUCE_SUM_F64) return f32;
    memcpy(&i64, from, 8);
    memcpy(&f64, from, 8);
    return type == DLS_REDUCE_SUM_I64 ? (double)i64 : f64;
}
static double reduced(int32_t n, dls_reduce type, size_t i, uint32_t salt) {
    double sum = bring(0, type, i, salt);
    int32_t a;
    for (a = 1; a < n; a++) {
        const double x = bring(a, type, i, salt);
        if (type == DLS_REDUCE_MAX_U8 || type == DLS_REDUCE_MAX_F32)
            sum = x > sum ? x : sum;
        else if (type == DLS_REDUCE_MIN_F32)
            sum = x < sum ? x : sum;
        else
            sum += x;
    }
    return sum;
}
/* Shard d as >>coll.api says. */
static void shard(const dls_coll_op *op, int32_t n, int32_t d, size_t *first, size_t *end) {
    size_t all = 0, before = 0;
    int32_t i;
    for (i = 0; i < n; i++) {
        if (i < d) before += op->shares != NULL ? op->shares[i] : 1;
        all += op->shares != NULL ? op->shares[i] : 1;
    }
    *first = op->count * before / all;
    *end = op->count * (before + (op->shares != NULL ? op->shares[d] : 1)) / all;
}
typedef struct task {
    dls_coll_op op;
    uint32_t salt;
    unsigned char *in[MOST], *out[MOST];
    int32_t handle[MOST], state[MOST]; /* state: 0 not begun, 1 under way, 2 over */
} task;
static size_t blocks_of(const task *t) { return t->op.kind == DLS_COLL_ALLTOALL ? (size_t)w.n : 1; }
static void task_make(task *t, const dls_coll_op *op, uint32_t salt) {
    int32_t a;
    size_t i, n;
    memset(t, 0, sizeof *t);
    t->op = *op;
    t->salt = salt;
    n = blocks_of(t) * op->count;
    for (a = 0; a < w.n; a++) {
        t->in[a] = (unsigned char *)malloc(n * 8 + 1);
        t->out[a] = (unsigned char *)malloc(n * 8 + 1);
        memset(t->out[a], 0x77, n * 8 + 1);
        for (i = 0; i < n; i++) put(t->in[a], op->type, i, bring(a, op->type, i, salt));
    }
}
static void task_free(task *t) {
    int32_t a;
    for (a = 0; a < w.n; a++) {
        free(t->in[a]);
        free(t->out[a]);
    }
}
static bool member_of(const task *t, int32_t a) { /* pairs: root sends to the one after it */
    return t->op.kind < DLS_COLL_SEND || a == t->op.root || a == (t->op.root + 1) % w.n;
}
static dls_status task_begin(task *t, int32_t a) {
    dls_coll_op op = t->op;
    const size_t n = blocks_of(t) * op.count * width_of[op.type];
    const bool in_place =
        op.kind != DLS_COLL_ALLTOALL && op.kind < DLS_COLL_SEND && t->salt % 2 == 0;
    if (in_place && n > 0) memcpy(t->out[a], t->in[a], n);
    op.in = in_place ? NULL : t->in[a];
    op.out = t->out[a];
    if (op.kind == DLS_COLL_SEND && a != op.root)
        op.kind = DLS_COLL_RECV;
    else if (op.kind == DLS_COLL_SEND)
        op.root = (op.root + 1) % w.n;
    t->state[a] = 1;
    return dls_coll_start(&w.coll[a], &op, &t->handle[a]);
}
static bool task_over(task *t, int32_t a, dls_status *st) {
    if (t->state[a] != 1 || !dls_coll_done(&w.coll[a], t->handle[a], st)) return false;
    t->state[a] = 2;
    return true;
}
/* What member a must have at element i; false: anything. */
static bool expected(const task *t, int32_t a, size_t i, double *v) {
    const dls_coll_op *op = &t->op;
    const bool root = a == op->root;
    size_t first, end;
    int32_t d = 0;
    *v = 0;
    switch (op->kind) {
    case DLS_COLL_ALLREDUCE: break;
    case DLS_COLL_REDUCE:
        if (!root) return false;
        break;
    case DLS_COLL_REDUCE_SCATTER:
        shard(op, w.n, a, &first, &end);
        if (i < first || i >= end) return false;
        break;
    case DLS_COLL_BROADCAST: *v = bring(op->root, op->type, i, t->salt); return true;
    case DLS_COLL_SEND:
        *v = bring(op->root, op->type, i, t->salt);
        return a == (op->root + 1) % w.n;
    case DLS_COLL_ALLGATHER:
    case DLS_COLL_GATHER:
        for (shard(op, w.n, 0, &first, &end); i >= end;) shard(op, w.n, ++d, &first, &end);
        *v = bring(d, op->type, i, t->salt);
        return root || op->kind == DLS_COLL_ALLGATHER || d == a;
    case DLS_COLL_SCATTER:
        shard(op, w.n, a, &first, &end);
        *v = bring(op->root, op->type, i, t->salt);
        return root || (i >= first && i < end);
    case DLS_COLL_ALLTOALL:
        d = (int32_t)(i / op->count);
        *v = bring(d, op->type, (size_t)a * op->count + i % op->count, t->salt);
        return true;
    default: return false;
    }
    *v = reduced(w.n, op->type, i, t->salt);
    return true;
}
static int task_wrong(const task *t) {
    const dls_reduce type = t->op.type;
    const bool sums = type == DLS_REDUCE_SUM_F32 && t->op.kind <= DLS_COLL_REDUCE_SCATTER;
    const size_t n = blocks_of(t) * t->op.count, step = n > 30000 ? 97 : 1;
    int wrong = 0;
    int32_t a;
    size_t i;
    double v;
    for (a = 0; a < w.n; a++) {
        if (!member_of(t, a)) continue;
        for (i = 0; i < n; i += step)
            if (expected(t, a, i, &v))
                wrong += !(fabs(get(t->out[a], type, i) - v) <=
                           (sums ? 1e-6 * 128 * w.n : 1e-9 * fabs(v)));
        if (a > 0 && t->op.kind == DLS_COLL_ALLREDUCE) /* the same bits everywhere */
            wrong += memcmp(t->out[a], t->out[0], n * width_of[type]) != 0;
        wrong += t->out[a][n * width_of[type]] != 0x77;
    }
    return wrong;
}
/* All tasks, each member beginning them in order, up to `ahead` at once. Returns wrong values. */
static int run_tasks(task *t, int32_t count, int32_t ahead) {
    int32_t first[MOST] = {0}, left = 0, a, k;
    int wrong = 0;
    long turn;
    for (a = 0; a < w.n; a++)
        for (k = 0; k < count; k++) left += member_of(&t[k], a);
    for (turn = 0; left > 0 && turn < 3000000; turn++) {
        a = (int32_t)below((uint32_t)w.n);
        pump(a, (int32_t)below((uint32_t)w.n));
        for (k = first[a]; k < count && k < first[a] + ahead; k++) {
            dls_status st = DLS_OK;
            if (!member_of(&t[k], a)) t[k].state[a] = 2;
            if (t[k].state[a] == 0) {
                st = task_begin(&t[k], a);
                CHECK_STATUS(st, DLS_OK);
                if (st != DLS_OK) return 1000000;
                break;
            }
            if (!task_over(&t[k], a, &st)) continue;
            CHECK_STATUS(st, DLS_OK);
            left--;
        }
        while (first[a] < count && t[first[a]].state[a] == 2) first[a]++;
    }
    CHECK_INT(left, 0);
    for (k = 0; k < count && left == 0; k++) wrong += task_wrong(&t[k]);
    return wrong;
}
static int run_one(const dls_coll_op *op, uint32_t salt) {
    static task t;
    int wrong;
    task_make(&t, op, salt);
    wrong = run_tasks(&t, 1, 1);
    task_free(&t);
    return wrong;
}
static dls_coll_op op_of(dls_coll_kind kind, dls_coll_algo algo, dls_reduce type, size_t count) {
    dls_coll_op op;
    memset(&op, 0, sizeof op);
    op.kind = kind;
    op.algo = algo;
    op.type = type;
    op.count = count;
    return op;
}

/* ---- Tests ---- */

static dls_coll_model grouped(int32_t *group, int32_t n) {
    dls_coll_model m;
    int32_t i;
    memset(&m, 0, sizeof m);
    for (i = 0; i < n; i++) group[i] = i % 3 == 1 ? 7 : i < n / 2 ? 1 : 2;
    m.group = group;
    m.far_bytes_per_us = 10;
    m.far_latency_us = 500;
    return m;
}
static void test_allreduce_by_every_algorithm(void) {
    static const size_t counts[] = {0, 1, 2, 5, 16, 17, 1000, 4099};
    int32_t n, algo, group[MOST];
    int wrong = 0;
    size_t i;
    uint32_t salt = 0;
    for (n = 1; n <= MOST; n++) {
        const dls_coll_model model = grouped(group, n);
        world_open(n, 0, 4099 * 8, (uint64_t)n);
        for (algo = 0; algo < n; algo++) w.coll[algo].model = &model;
        for (algo = DLS_COLL_AUTO; algo < DLS_COLL_ALGOS; algo++)
            for (i = 0; i < sizeof counts / sizeof *counts; i++) {
                dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, (dls_coll_algo)algo,
                                       (dls_reduce)(salt % 7), counts[i]);
                op.root = (int32_t)(salt % (uint32_t)n);
                wrong += run_one(&op, salt++);
            }
        world_close();
    }
    CHECK_INT(wrong, 0);
}
static void test_every_kind(void) {
    static const size_t counts[] = {0, 1, 3, 17, 1000};
    int32_t n, kind, algo;
    int wrong = 0, known = 0;
    size_t i;
    uint32_t salt = 0;
    for (n = 1; n <= MOST; n += n < 9 ? 1 : 4) {
        world_open(n, 0, 1000 * 8, (uint64_t)n);
        for (kind = DLS_COLL_BROADCAST; kind <= DLS_COLL_BARRIER; kind++)
            for (algo = DLS_COLL_AUTO; algo < DLS_COLL_ALGOS; algo++)
                for (i = 0; i < sizeof counts / sizeof *counts; i++) {
                    dls_coll_op op =
                        op_of((dls_coll_kind)kind, (dls_coll_algo)algo, (dls_reduce)(salt % 7),
                              kind == DLS_COLL_BARRIER ? 0 : counts[i]);
                    op.root = (int32_t)(salt % (uint32_t)n);
                    if (algo > DLS_COLL_DIRECT && n > 1 && dls_coll_cost(NULL, n, &op, op.algo) < 0)
                        continue;
                    known++;
                    wrong += run_one(&op, salt++);
                }
        world_close();
    }
    CHECK(known > 1000);
    CHECK_INT(wrong, 0);
}
static void test_large(void) { /* many segments, lanes, staging that is far too small for all */
    static const int32_t members[] = {2, 3, 4, 7};
    int32_t i, algo;
    int wrong = 0;
    for (i = 0; i < 4; i++) {
        world_open(members[i], 0, 1000000 * 4, 5);
        for (algo = DLS_COLL_DIRECT; algo < DLS_COLL_GROUPS; algo++) {
            const dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, (dls_coll_algo)algo,
                                         DLS_REDUCE_SUM_F32, members[i] == 3 ? 1000000 : 300007);
            wrong += run_one(&op, (uint32_t)algo);
        }
        world_close();
    }
    CHECK_INT(wrong, 0);
}
/* Floats by DIRECT and STAR, with any shares and root: sums in the order of places, bit by
   bit. */
static void test_float_sums_have_one_order(void) {
    static const uint16_t shares[MOST] = {3, 0, 1, 9, 2, 2, 65535};
    static task t;
    int32_t n, way;
    long wrong = 0;
    size_t i;
    for (n = 2; n <= 7; n++) {
        world_open(n, 0, 40000, 3);
        for (way = 0; way < 4; way++) {
            dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, way < 2 ? DLS_COLL_DIRECT : DLS_COLL_STAR,
                                   DLS_REDUCE_SUM_F32, 5003);
            op.shares = way == 1 ? shares : NULL;
            op.root = way == 3 ? n - 1 : 0;
            task_make(&t, &op, 9);
            wrong += run_tasks(&t, 1, 1);
            for (i = 0; i < op.count; i++) {
                float sum = (float)bring(0, op.type, i, 9), got;
                int32_t a;
                for (a = 1; a < n; a++) sum += (float)bring(a, op.type, i, 9);
                memcpy(&got, t.out[0] + 4 * i, 4);
                wrong += memcmp(&got, &sum, 4) != 0;
            }
            task_free(&t);
        }
        world_close();
    }
    CHECK_INT(wrong, 0);
}
static uint64_t sent(int32_t a) { return w.coll[a].sent_bytes; }
static uint64_t log_of(int32_t n) {
    uint64_t log = 0;
    while (n >> (log + 1) > 0) log++;
    return log;
}
/* Bytes of arrays that member a sends in an all-reduce of n 4-byte elements. */
static uint64_t formula(const dls_coll_op *op, int32_t n, int32_t a) {
    const uint64_t all = op->count * 4, log = log_of(n), most = 1u << log;
    const uint64_t v = (uint64_t)((a - op->root + n) % n);
    uint64_t children = 0;
    size_t first, end;
    switch (op->algo) {
    case DLS_COLL_DIRECT:
        shard(op, n, a, &first, &end);
        return all - (end - first) * 4 + (uint64_t)(n - 1) * (end - first) * 4;
    case DLS_COLL_RING: return 2 * (uint64_t)(n - 1) * (all / (uint64_t)n);
    case DLS_COLL_DOUBLING:
        return (uint64_t)a >= most ? all : log * all + ((uint64_t)a + most < (uint64_t)n ? all : 0);
    case DLS_COLL_HALVING:
        return (uint64_t)a >= most
                   ? all
                   : 2 * (all - all / most) + ((uint64_t)a + most < (uint64_t)n ? all : 0);
    case DLS_COLL_STAR: return a == op->root ? (uint64_t)(n - 1) * all : all;
    case DLS_COLL_TREE:
        while (1u << children < (uint64_t)n && (v >> children & 1u) == 0 &&
               v + (1u << children) < (uint64_t)n)
            children++;
        return (v != 0 ? all : 0) + children * all;
    default: return 0;
    }
}
static void test_bytes_equal_the_formula(void) {
    static const uint16_t shares[MOST] = {1, 2, 0, 4, 1, 8, 16, 3, 5, 7, 11, 1, 1, 1, 1, 1, 9};
    int32_t n, algo, a;
    for (n = 2; n <= MOST; n++) {
        world_open(n, 0, 40000, 4);
        for (algo = DLS_COLL_DIRECT; algo <= DLS_COLL_GROUPS; algo++) {
            uint64_t before[MOST];
            dls_coll_op op =
                op_of(DLS_COLL_ALLREDUCE, (dls_coll_algo)algo, DLS_REDUCE_SUM_I32, (size_t)n * 16);
            if (algo == DLS_COLL_GROUPS) { /* once more, uneven */
                op.algo = DLS_COLL_DIRECT;
                op.shares = shares;
            }
            op.root = n / 2;
            for (a = 0; a < n; a++) before[a] = sent(a);
            CHECK_INT(run_one(&op, 2), 0);
            for (a = 0; a < n; a++) CHECK_INT(sent(a) - before[a], formula(&op, n, a));
        }
        world_close();
    }
}
/* Random ops, several at once, with messages of pairs between them, few engine ops, and a rhythm
   that makes the next op foreseen; receives that were posted ahead in vain are given back. */
static void test_several_at_once(void) {
    static task t[40];
    int wrong = 0;
    uint64_t seed;
    int32_t k, ahead;
    for (seed = 0; seed < 60; seed++) {
        const int32_t n = 2 + (int32_t)(seed % 6), count = 40;
        const bool rhythm = seed % 2 == 0;
        w.rng.seed = 0;
        world_open(n, seed % 3 == 0 ? 0 : seed % 3 == 1 ? 12 : 64, 20000, seed);
        ahead = 1 + (int32_t)below(8);
        for (k = 0; k < count; k++) {
            const uint32_t r = rhythm && below(16) > 0 ? (uint32_t)k % 3 * 977 : below(100000);
            dls_coll_op op = op_of((dls_coll_kind)(r % 11 == DLS_COLL_RECV ? 0 : r % 11),
                                   DLS_COLL_AUTO, (dls_reduce)(r % 7), r % 9 == 0 ? 5000 : r % 40);
            op.root = (int32_t)(r / 11 % (uint32_t)n);
            op.tag = r % 3;
            if (op.kind == DLS_COLL_BARRIER) op.count = 0;
            if (op.kind == DLS_COLL_ALLREDUCE) op.algo = (dls_coll_algo)(r / 7 % 7);
            task_make(&t[k], &op, (uint32_t)k);
        }
        wrong += run_tasks(t, count, ahead);
        for (k = 0; k < count; k++) task_free(&t[k]);
        world_close();
    }
    CHECK_INT(wrong, 0);
}
/* Member `victim` vanishes after some moves: all others end, and none with a wrong result. */
static void test_lost_member(void) {
    static task t;
    int32_t n, algo, a, b, turn, moves, left, refused = 0;
    int wrong = 0;
    size_t i;
    for (n = 2; n <= 6; n += 2)
        for (algo = DLS_COLL_DIRECT; algo < DLS_COLL_GROUPS; algo++)
            for (moves = 0; moves < 30; moves += 7) {
                const int32_t victim = (algo + moves) % n;
                const dls_coll_op op =
                    op_of(DLS_COLL_ALLREDUCE, (dls_coll_algo)algo, DLS_REDUCE_SUM_F32, 20000);
                world_open(n, 0, 80000, (uint64_t)moves);
                task_make(&t, &op, 1);
                for (a = 0; a < n; a++) CHECK_STATUS(task_begin(&t, a), DLS_OK);
                for (turn = 0, left = n - 1; turn < 4000 && left > 0; turn++) {
                    for (b = 0; turn == moves && b < n; b++) {
                        if (b == victim) continue;
                        dls_peer_port_close(w.peer[b], w.port[b][victim], 1000);
                        dls_peer_port_close(w.peer[victim], w.port[victim][b], 1000);
                        w.port[b][victim] = w.port[victim][b] = -1;
                    }
                    a = (int32_t)below((uint32_t)n);
                    pump(a, (int32_t)below((uint32_t)n));
                    for (a = 0; a < n; a++) {
                        dls_status st = DLS_OK;
                        if ((a == victim && turn >= moves) || !task_over(&t, a, &st)) continue;
                        left -= a != victim;
                        CHECK(st == DLS_E_PEER || st == DLS_OK);
                        for (i = 0; st == DLS_OK && i < op.count; i += 97)
                            wrong +=
                                fabs(get(t.out[a], op.type, i) - reduced(n, op.type, i, 1)) > 1e-3;
                        refused += st == DLS_E_PEER;
                    }
                }
                CHECK_INT(left, 0);
                task_free(&t);
                world_close();
            }
    CHECK(refused > 50);
    CHECK_INT(wrong, 0);
}
static void test_refused(void) {
    static int32_t data[8];
    dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, DLS_COLL_AUTO, DLS_REDUCE_SUM_I32, 8);
    dls_status st;
    int32_t handle, i;
    world_open(3, 0, 64, 1);
    op.out = NULL;
    CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_E_ARG);
    op.out = data;
    op.root = 3;
    CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_E_ARG);
    op.root = 0;
    op.algo = DLS_COLL_GROUPS;
    CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_E_UNSUPPORTED);
    op.algo = DLS_COLL_DIRECT;
    op.count = 1000000;
    CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_E_MEMORY);
    op.kind = DLS_COLL_SEND;
    op.in = data;
    op.count = 8;
    CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_E_ARG); /* to myself */
    op.kind = DLS_COLL_ALLTOALL;
    CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_E_ARG); /* in place */
    CHECK(dls_coll_done(&w.coll[0], 5, &st));
    CHECK_STATUS(st, DLS_E_ARG);
    op.kind = DLS_COLL_ALLREDUCE;
    op.in = NULL;
    for (i = 0; i < 16; i++) CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_OK);
    CHECK_STATUS(dls_coll_start(&w.coll[0], &op, &handle), DLS_E_LIMIT);
    world_close();
}
/* The model: what theory says, and the text. */
static void test_model(void) {
    static const double rate[4] = {2.5, 12.5, 12.5, 37.5}; /* 20, 100, 100, 300 Mbit/s */
    dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, DLS_COLL_AUTO, DLS_REDUCE_SUM_F32, 4 << 20);
    dls_coll_model m;
    uint16_t shares[MOST];
    double random[MOST];
    char text[300];
    dls_rng rng;
    int32_t i, k, n;
    memset(&m, 0, sizeof m);
    memset(&rng, 0, sizeof rng);
    m.rate = rate;
    m.add_per_us = 1e9;
    m.latency_us = 1;
    dls_coll_shares(&m, 4, shares);
    op.shares = shares;
    CHECK_NEAR(dls_coll_cost(&m, 4, &op, DLS_COLL_DIRECT) / (16777216 / 2.5), 1, 0.001);
    CHECK(dls_coll_cost(&m, 4, &op, DLS_COLL_RING) >
          1.4 * dls_coll_cost(&m, 4, &op, DLS_COLL_DIRECT));
    for (k = 0; k < 2000; k++) { /* T* = max(n / least, 2 (N - 1) n / sum) */
        double sum = 0, least = 1e9, bound;
        n = 3 + (int32_t)(dls_rng_u32(&rng) % 15);
        for (i = 0; i < n; i++) {
            random[i] = 1 + dls_rng_u32(&rng) % 100;
            sum += random[i];
            least = random[i] < least ? random[i] : least;
        }
        m.rate = random;
        dls_coll_shares(&m, n, shares);
        bound = 2.0 * (n - 1) / sum > 1 / least ? 2.0 * (n - 1) / sum : 1 / least;
        CHECK_NEAR(dls_coll_cost(&m, n, &op, DLS_COLL_DIRECT) / (bound * 16777216), 1, 0.005);
    }
    memset(&m, 0, sizeof m);
    op.shares = NULL;
    CHECK_INT(dls_coll_choose(NULL, 2, &op), DLS_COLL_DIRECT);
    op.count = 1;
    CHECK_INT(dls_coll_choose(NULL, 2, &op), DLS_COLL_DOUBLING);
    CHECK_INT(dls_coll_choose(NULL, 13, &op), DLS_COLL_STAR);
    m.shared = true;
    m.latency_us = 2000; /* Wi-Fi */
    m.bytes_per_us = 12.5;
    op.count = 256;
    CHECK_INT(dls_coll_choose(&m, 8, &op), DLS_COLL_STAR);
    CHECK_TEXT(dls_coll_explain(&m, 8, &op, text, sizeof text),
               "star for 1024 bytes among 8 on one medium");
    CHECK_TEXT(text, "doubling");
}
/* A codec that keeps 16 of 32 bits: two lossy steps, the same bits everywhere. */
static size_t half_bytes(void *user, size_t count) {
    (void)user;
    return 2 * count;
}
static void half_encode(void *user, const float *from, size_t at, size_t count, bool final,
                        void *to) {
    size_t i;
    (void)at;
    *(int *)user += final;
    for (i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, from + i, 4);
        ((unsigned char *)to)[2 * i] = (unsigned char)(bits >> 16 & 255);
        ((unsigned char *)to)[2 * i + 1] = (unsigned char)(bits >> 24);
    }
}
static void half_decode(void *user, const void *from, size_t count, float *to, bool add) {
    const unsigned char *p = (const unsigned char *)from;
    size_t i;
    (void)user;
    for (i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)p[2 * i] << 16 | (uint32_t)p[2 * i + 1] << 24;
        float x;
        memcpy(&x, &bits, 4);
        to[i] = add ? to[i] + x : x;
    }
}
static void test_codec(void) {
    static task t;
    static const uint16_t shares[7] = {1, 2, 3, 0, 5, 6, 7};
    dls_coll_codec codec;
    int finals = 0;
    int32_t n, a;
    size_t i;
    memset(&codec, 0, sizeof codec);
    codec.bytes = half_bytes;
    codec.encode = half_encode;
    codec.decode = half_decode;
    codec.user = &finals;
    for (n = 2; n <= 7; n++) {
        dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, DLS_COLL_AUTO, DLS_REDUCE_SUM_F32, 500000);
        int wrong = 0;
        uint64_t bytes = 0;
        op.codec = &codec;
        op.shares = n > 4 ? shares : NULL;
        world_open(n, 0, 2000000, 2);
        task_make(&t, &op, 4);
        finals = 0;
        (void)run_tasks(&t, 1, 1);
        for (i = 0; i < op.count; i += 7) {
            float got;
            memcpy(&got, t.out[0] + 4 * i, 4);
            wrong += fabs(got - reduced(n, op.type, i, 4)) > 128.0 * (n + 1) / 128;
        }
        for (a = 1; a < n; a++) wrong += memcmp(t.out[a], t.out[0], op.count * 4) != 0;
        for (a = 0; a < n; a++) bytes += sent(a);
        CHECK_INT(wrong, 0);
        CHECK_INT(bytes, (uint64_t)2 * (uint64_t)(n - 1) * op.count * 2);
        CHECK(finals > 0);
        task_free(&t);
        world_close();
    }
}

/* ---- Over lossy datagrams, in virtual time, windows of 4 packets ---- */

enum { AIR = 5, AIR_OPS = 12 };
static struct {
    dls_coll coll[AIR];
    void *mem[AIR];
    float data[AIR][AIR_OPS][3000];
    int32_t handle[AIR][AIR_OPS], begun[AIR], over[AIR];
    int bad;
} air;
static dls_coll_op air_op(int32_t k) {
    dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, (dls_coll_algo)(k % 7), DLS_REDUCE_SUM_F32,
                           k % 3 == 0 ? 3000 : (size_t)k);
    op.root = k % AIR;
    return op;
}
static void air_step(void *user, dls_sim *sim, int32_t i) {
    dls_peer *peer = dls_sim_peer(sim, i);
    int32_t k;
    (void)user;
    if (peer == NULL || dls_peer_up(peer) < AIR) return;
    if (air.coll[i].peer == NULL) {
        air.mem[i] = malloc(dls_coll_size(AIR, 12000));
        if (dls_coll_init(&air.coll[i], peer, i, AIR, air.mem[i], dls_coll_size(AIR, 12000)) !=
            DLS_OK)
            air.bad++;
    }
    while (air.begun[i] < AIR_OPS && air.begun[i] < air.over[i] + 3) {
        dls_coll_op op = air_op(air.begun[i]);
        size_t j;
        for (j = 0; j < op.count; j++) air.data[i][air.begun[i]][j] = (float)(i + 1);
        op.out = air.data[i][air.begun[i]];
        if (dls_coll_start(&air.coll[i], &op, &air.handle[i][air.begun[i]]) != DLS_OK) return;
        air.begun[i]++;
    }
    for (k = air.over[i]; k < air.begun[i]; k++) {
        dls_status st;
        if (!dls_coll_done(&air.coll[i], air.handle[i][k], &st)) break;
        air.bad += st != DLS_OK;
        air.over[i]++;
    }
}
static void test_lossy_links(void) {
    dls_peer_desc peer[AIR];
    dls_sim_desc d;
    int32_t i, k, seed;
    for (seed = 0; seed < 6; seed++) {
        dls_sim *sim;
        memset(&d, 0, sizeof d);
        memset(peer, 0, sizeof peer);
        memset(&air, 0, sizeof air);
        for (i = 0; i < AIR; i++) {
            peer[i].rank = i;
            peer[i].size = AIR;
            peer[i].window = 4;
            peer[i].ops_max = seed % 2 == 0 ? 8 : 0;
            peer[i].timeout_us = 60000000;
        }
        d.peers = AIR;
        d.seed = (uint64_t)seed;
        d.peer = peer;
        d.drop = d.duplicate = d.reorder = seed * 10000;
        d.step = air_step;
        sim = dls_sim_create(&d);
        CHECK(sim != NULL);
        if (sim == NULL) return;
        for (k = 0; k < 600; k++) {
            dls_sim_run(sim, dls_sim_now(sim) + 100000);
            for (i = 0; i < AIR && air.over[i] == AIR_OPS; i++) {}
            if (i == AIR) break;
        }
        for (i = 0; i < AIR; i++) {
            CHECK_INT(air.over[i], AIR_OPS);
            for (k = 0; k < air.over[i]; k++) {
                const dls_coll_op op = air_op(k);
                size_t j;
                for (j = 0; j < op.count; j++) air.bad += air.data[i][k][j] != 15.0f;
            }
            free(air.mem[i]);
        }
        CHECK_INT(air.bad, 0);
        dls_sim_destroy(sim);
    }
}

/* ---- A member over TCP: prints the hashes of what it got ---- */

static int mix(int32_t rank, const char *peers) {
    static unsigned char data[8 * 5000];
    dls_peer_desc d;
    dls_tcp_desc t;
    dls_coll coll;
    dls_peer *peer;
    dls_tcp *tcp;
    void *mem;
    int32_t i, type, algo;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    d.rank = t.rank = rank;
    d.size = t.size = 3;
    d.timeout_us = 30000000;
    if (dls_peer_init(&peer, &d, malloc(dls_peer_size(&d)), dls_peer_size(&d)) != DLS_OK) return 1;
    t.peer = peer;
    t.peers = peers;
    if (dls_tcp_init(&tcp, &t, malloc(dls_tcp_size(&t)), dls_tcp_size(&t), NULL) != DLS_OK)
        return 1;
    for (i = 0; dls_peer_up(peer) < 3 && i < 3000; i++) dls_tcp_poll(tcp, 10000, NULL, NULL, NULL);
    mem = malloc(dls_coll_size(3, sizeof data));
    if (dls_coll_init(&coll, peer, rank, 3, mem, dls_coll_size(3, sizeof data)) != DLS_OK) return 1;
    for (type = DLS_REDUCE_SUM_I32; type <= DLS_REDUCE_MIN_F32; type++)
        for (algo = DLS_COLL_DIRECT; algo < DLS_COLL_GROUPS; algo++) {
            dls_coll_op op = op_of(DLS_COLL_ALLREDUCE, (dls_coll_algo)algo, (dls_reduce)type, 5000);
            int32_t handle, wrong = 0;
            uint64_t hash = 1;
            dls_status st;
            w.n = 3;
            for (i = 0; i < 5000; i++)
                put(data, op.type, (size_t)i, bring(rank, op.type, (size_t)i, 1));
            op.out = data;
            st = dls_coll_start(&coll, &op, &handle);
            while (st == DLS_OK && !dls_coll_done(&coll, handle, &st))
                dls_tcp_poll(tcp, 100000, NULL, NULL, NULL);
            for (i = 0; i < 5000; i++) {
                const double v = get(data, op.type, (size_t)i);
                wrong += !(fabs(v - reduced(3, op.type, (size_t)i, 1)) <= 1e-3);
                hash = hash * 6364136223846793005u + (uint64_t)(int64_t)(v * 65536.0);
            }
            printf("%d %d %llu%s\n", (int)type, (int)algo, (unsigned long long)hash,
                   st != DLS_OK ? dls_status_text(st)
                   : wrong > 0  ? " bad"
                                : "");
        }
    dls_peer_leave(peer);
    for (i = 0; i < 50 && dls_peer_up(peer) > 1; i++) dls_tcp_poll(tcp, 10000, NULL, NULL, NULL);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "ports") == 0) {
        printf("127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d\n", (int)dls_tcp_free_port(),
               (int)dls_tcp_free_port(), (int)dls_tcp_free_port());
        return 0;
    }
    if (argc > 3 && strcmp(argv[1], "mix") == 0) return mix(atoi(argv[2]), argv[3]);
    test_start("coll", argc, argv);
    RUN(refused);
    RUN(model);
    RUN(allreduce_by_every_algorithm);
    RUN(every_kind);
    RUN(float_sums_have_one_order);
    RUN(bytes_equal_the_formula);
    RUN(several_at_once);
    RUN(codec);
    RUN(lost_member);
    RUN(lossy_links);
    RUN(large);
    return test_end();
}
