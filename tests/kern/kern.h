/* What the kernel tests share: the variants this machine can run, memory that faults past its
   ends, and the judge. A case fills its inputs once, computes a reference in double, and gives what
   each variant writes to judge(): within a tolerance of the reference, the same bits as the other
   variants of its class, nothing written beside the output. There are two classes: exact (scalar
   and strict: one rounding after every multiply and add) and fast (fused). The bits of the first
   KERN_HASHED cases of a test are hashed and compared with golden.h, which holds for every CPU. */
#ifndef KERN_H
#define KERN_H
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct kern_variant {
    const char *name;
    const dlsi_kern *k;
    dls_cx cx;
    bool exact;
} kern_variant;

#define KERN_VARIANTS_MAX 8
#define KERN_HASHED 8 /* cases of a test that a slow emulator runs too */
static kern_variant kern_variant_of[KERN_VARIANTS_MAX];
static int kern_variants;
static bool kern_quick, kern_print;

#if DLSI_VARIANTS == 1 /* one variant: the header calls it directly and keeps no table */
static const dlsi_kern kern_only = {1,
                                    4,
                                    4,
                                    false,
                                    dlsi_pack_scalar,
                                    dlsi_gemm_scalar,
                                    dlsi_corr_scalar,
                                    dlsi_corr_dw_scalar,
                                    dlsi_depthwise_scalar,
                                    dlsi_depthwise_dw_scalar,
                                    NULL,
                                    NULL,
                                    NULL,
                                    NULL,
                                    NULL,
                                    dlsi_act_scalar,
                                    dlsi_act_grad_scalar,
                                    dlsi_add_scalar,
                                    dlsi_mul_scalar,
                                    dlsi_axpby_scalar,
                                    dlsi_dropout_scalar,
                                    dlsi_col_sum_scalar,
                                    dlsi_col_stats_scalar,
                                    dlsi_col_affine_scalar,
                                    dlsi_col_grad_stats_scalar,
                                    dlsi_col_grad_scalar,
                                    dlsi_softmax_scalar,
                                    dlsi_softmax_grad_scalar,
                                    dlsi_score_grad_scalar,
                                    dlsi_norm_scalar,
                                    dlsi_norm_grad_scalar,
                                    dlsi_norm_grad_gain_scalar,
                                    dlsi_row_max_scalar,
                                    dlsi_sum_scalar,
                                    dlsi_dot_scalar,
                                    dlsi_maxpool_scalar,
                                    dlsi_maxpool_grad_scalar,
                                    dlsi_avgpool_scalar,
                                    dlsi_avgpool_grad_scalar,
                                    dlsi_sgd_scalar,
                                    dlsi_adam_scalar,
                                    dlsi_rmsprop_scalar,
                                    dlsi_lion_scalar,
                                    dlsi_max_abs_scalar,
                                    dlsi_exact_add_scalar,
                                    dlsi_exact_get_scalar};
#define KERN_TABLE(cx) (&kern_only)
#else
#define KERN_TABLE(cx) ((const dlsi_kern *)(cx).kern)
#endif

static void kern_find_variants(void) {
    static char name[KERN_VARIANTS_MAX][24];
    kern_variants = 0;
    for (int isa = DLS_ISA_SCALAR; isa < DLS_ISA_COUNT; isa++) {
        for (int strict = 0; strict < 2; strict++) {
            kern_variant *v = &kern_variant_of[kern_variants];
            bool known = false;
            if (dls_cx_init(&v->cx, (dls_isa)isa, strict != 0, NULL) != DLS_OK) continue;
            v->k = KERN_TABLE(v->cx);
            for (int i = 0; i < kern_variants; i++) known |= kern_variant_of[i].k == v->k;
            if (known) continue; /* strict AVX-512 is strict AVX2 */
            v->exact = strict != 0 || isa == DLS_ISA_SCALAR;
            snprintf(name[kern_variants], sizeof name[0], "%s%s", dls_isa_name((dls_isa)isa),
                     strict ? " strict" : "");
            v->name = name[kern_variants++];
        }
    }
}

/* ---- Memory: a slot lies between two pages that fault ---- */

#define SLOT_BYTES ((size_t)2 << 20)
#define SLOTS 16
#define SLOT_FENCE 64 /* reals beside the used part that must stay as they were */
#define SLOT_WORD 0x7FC0DEADu
typedef struct kern_slot {
    unsigned char *mem;
    dls_real *at;
    size_t n;
} kern_slot;
static kern_slot kern_slots[SLOTS];
static bool kern_low; /* this case's slots begin after a page that faults, else they end at one */
static const char *volatile kern_now = "?", *volatile kern_now_variant = "?";

static void kern_fault(int number) {
    char line[160];
    const int n = snprintf(line, sizeof line, "FAIL %s: %s, %s: signal %d, memory out of bounds\n",
                           test_suite, kern_now, kern_now_variant, number);
    if (write(1, line, (size_t)n) != n) _exit(2);
    _exit(1);
}
/* KERN_SOFT=1: pages beside slots do not fault, for emulators that load what a mask forbids. */
static void kern_start(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const bool soft = getenv("KERN_SOFT") != NULL;
    for (int i = 0; i < SLOTS; i++) {
        unsigned char *m = (unsigned char *)mmap(NULL, SLOT_BYTES + 2 * page, PROT_NONE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m == MAP_FAILED || mprotect(m + page, SLOT_BYTES, PROT_READ | PROT_WRITE) != 0 ||
            (soft && mprotect(m, SLOT_BYTES + 2 * page, PROT_READ | PROT_WRITE) != 0)) {
            perror("mmap");
            exit(2);
        }
        kern_slots[i].mem = m + page;
    }
    signal(SIGSEGV, kern_fault);
    signal(SIGBUS, kern_fault);
    kern_find_variants();
}
static uint32_t *slot_fence(const kern_slot *s, bool after) {
    return (uint32_t *)(void *)(after ? s->at + s->n : s->at - SLOT_FENCE);
}
/* n reals of slot i, at the edge of a faulting page, with a fence on the other side. Odd n in slots
   that end at a page are not aligned to more than 4 bytes. */
static dls_real *slot(int i, size_t n) {
    kern_slot *s = &kern_slots[i];
    uint32_t *fence;
    if ((n + SLOT_FENCE) * sizeof(dls_real) > SLOT_BYTES) {
        printf("FAIL %s: %s: %zu reals do not fit a slot\n", test_suite, kern_now, n);
        exit(1);
    }
    s->n = n;
    s->at = (dls_real *)(void *)(kern_low ? s->mem : s->mem + SLOT_BYTES - n * sizeof(dls_real));
    fence = slot_fence(s, kern_low);
    for (int k = 0; k < SLOT_FENCE; k++) fence[k] = SLOT_WORD;
    return s->at;
}
static void slots_check(const kern_variant *v) {
    for (int i = 0; i < SLOTS; i++) {
        const kern_slot *s = &kern_slots[i];
        const uint32_t *fence;
        if (s->at == NULL) continue;
        fence = slot_fence(s, kern_low);
        for (int k = 0; k < SLOT_FENCE; k++) {
            if (fence[k] == SLOT_WORD) continue;
            test_report(kern_now, 0, "%s: wrote beside slot %d", v->name, i);
            break;
        }
    }
}

/* ---- Random inputs: the same on every machine ---- */

static dls_rng kern_rng;
static int32_t draw(int32_t least, int32_t most) {
    return least + (int32_t)(dls_rng_u32(&kern_rng) % (uint32_t)(most - least + 1));
}
static void fill(dls_real *x, size_t n, double size) {
    for (size_t i = 0; i < n; i++)
        x[i] = (dls_real)(size * (2.0 * (double)dls_rng_uniform(&kern_rng) - 1.0));
}
/* n random reals in slot i. */
static dls_real *given(int i, size_t n, double size) {
    dls_real *x = slot(i, n);
    fill(x, n, size);
    return x;
}
static double kern_ref[4][400000]; /* references of a case */

/* ---- The judge ---- */

#define STASH 500000
static uint32_t kern_stash[2][STASH]; /* what the first variant of each class wrote */
static size_t kern_stashed[2], kern_cursor;
static uint64_t kern_hash[2];

static void case_start(const char *name, int i) {
    kern_now = name;
    kern_rng.seed = dls_hash64((uint64_t)i, name, strlen(name));
    kern_rng.next = 0;
    kern_low = (i & 1) != 0;
    kern_stashed[0] = kern_stashed[1] = 0;
    for (int k = 0; k < SLOTS; k++) kern_slots[k].at = NULL;
}
static void variant_start(const kern_variant *v) {
    kern_now_variant = v->name;
    kern_cursor = 0;
}
/* Same bits as the class's first variant. */
static void judge_bits(const kern_variant *v, const void *out, size_t n) {
    uint32_t *stash = kern_stash[v->exact ? 0 : 1];
    size_t *stashed = &kern_stashed[v->exact ? 0 : 1], wrong = 0, at = 0;
    test_checks++;
    if (kern_cursor + n > STASH) {
        test_report(kern_now, 0, "the stash is full");
        return;
    }
    if (*stashed < kern_cursor + n) {
        memcpy(stash + kern_cursor, out, n * 4);
        *stashed = kern_cursor + n;
    } else if (memcmp(stash + kern_cursor, out, n * 4) != 0) {
        for (size_t i = n; i-- > 0;)
            if (memcmp(stash + kern_cursor + i, (const char *)out + i * 4, 4) != 0) wrong++, at = i;
        test_report(kern_now, 0, "%s: other bits than its class at %zu of %zu, first at %zu",
                    v->name, wrong, n, at);
    }
    kern_cursor += n;
    slots_check(v);
}
/* Near the reference. */
static void judge_near(const kern_variant *v, const dls_real *out, const double *ref, size_t n,
                       double tolerance) {
    double worst = 0;
    size_t at = 0;
    test_checks++;
    for (size_t i = 0; i < n; i++) {
        const double e = fabs((double)out[i] - ref[i]) / (1.0 + fabs(ref[i]));
        if (!(e <= worst)) worst = e, at = i;
    }
    if (!(worst <= tolerance))
        test_report(kern_now, 0, "%s: %.9g, not %.9g, at %zu of %zu", v->name, (double)out[at],
                    ref[at], at, n);
}
static void judge(const kern_variant *v, const dls_real *out, const double *ref, size_t n,
                  double tolerance) {
    judge_near(v, out, ref, n, tolerance);
    judge_bits(v, out, n);
}

static uint64_t kern_hash_words(uint64_t hash, const uint32_t *x, size_t n) {
    for (size_t i = 0; i < n; i++) { /* as bytes, little-endian first, on every machine */
        const unsigned char b[8] = {(unsigned char)x[i],
                                    (unsigned char)(x[i] >> 8),
                                    (unsigned char)(x[i] >> 16),
                                    (unsigned char)(x[i] >> 24),
                                    0,
                                    0,
                                    0,
                                    0};
        hash = dls_hash64(hash, b, 8);
    }
    return hash;
}
static void case_end(int i) {
    if (i >= KERN_HASHED) return;
    for (int c = 0; c < 2; c++)
        kern_hash[c] = kern_hash_words(kern_hash[c], kern_stash[c], kern_stashed[c]);
}

typedef struct kern_golden {
    const char *test;
    uint64_t exact, fast;
} kern_golden;
static const kern_golden kern_goldens[] = {
#include "kern/golden.h"
    {NULL, 0, 0}};

/* All cases of a test: KERN_HASHED for an emulator, else as many as asked for. */
static void kern_cases(const char *name, int cases, void (*one)(const char *name, int i)) {
    const kern_golden *g = kern_goldens;
    bool fast = false;
    kern_hash[0] = kern_hash[1] = 0;
    for (int i = 0; i < (kern_quick ? KERN_HASHED : cases); i++) {
        case_start(name, i);
        one(name, i);
        case_end(i);
    }
    for (int i = 0; i < kern_variants; i++) fast |= !kern_variant_of[i].exact;
    if (kern_print) {
        printf("golden {\"%s\", 0x%016llXu, 0x%016llXu},\n", name, (unsigned long long)kern_hash[0],
               (unsigned long long)kern_hash[1]);
        return;
    }
    while (g->test != NULL && strcmp(g->test, name) != 0) g++;
    if (g->test == NULL)
        test_report(kern_now, 0, "%s has no entry in kern/golden.h", name);
    else if (g->exact != kern_hash[0])
        test_report(kern_now, 0, "scalar and strict bits are not those of kern/golden.h");
    else if (fast && g->fast != kern_hash[1])
        test_report(kern_now, 0, "fast bits are not those of kern/golden.h");
}
#define EACH_VARIANT(v)                                                                            \
    for (const kern_variant *v = kern_variant_of; v < kern_variant_of + kern_variants; v++)        \
        if (variant_start(v), true)
#endif
