/* What a gradient case is checked for, in two builds of one program.
   DLS_REAL64: analytic gradients against central differences, to 1e-6; the output and all gradients
   of every case are written to a file. Float: the same cases, for every kernel variant, against
   that file. Parameters and inputs are multiples of 2^-12, so that both builds start alike; they
   are random, so that no value lies on a kink. */
#ifndef GRAD_H
#define GRAD_H

static FILE *grad_file;             /* doubles, case after case */
static unsigned char grad_seen[64]; /* ops of grad_ops that a case contains */
static const char *const grad_ops[] = {
/* all rows, from the header: made by run.sh */
#include "ops.h"
};
#define GRAD_OPS (sizeof grad_ops / sizeof *grad_ops)
#if DLS_REAL64
#define GRAD_STEP 1e-6 /* small: the fewer values step over a kink of ReLU */
static double grad_worst;
#endif

static dls_real on_grid(double x) { return (dls_real)(floor(x * 4096 + 0.5) / 4096); }

static void mark_ops(const dls_net *net) {
    for (dls_val v = 0; v < dls_net_nodes(net); v++)
        for (size_t i = 0; i < GRAD_OPS; i++)
            if (strcmp(grad_ops[i], dls_net_op_of(net, v)->name) == 0) grad_seen[i] = 1;
}
/* Initial weights, shaken: gains and biases must not be all alike. */
static void shake(dls_net *net) {
    dls_rng rng = {99, 0};
    for (dls_val v = 0; v < dls_net_nodes(net); v++) {
        dls_param p;
        size_t at, count;
        for (int32_t i = 0; dls_net_param_of(net, v, i, &p, &at, &count) == DLS_OK; i++) {
            for (size_t e = at; e < at + count; e++) {
                const double by = p.flags & DLS_PARAM_STATISTIC ? 0 : 0.125;
                dls_net_params(net)[e] =
                    on_grid((double)dls_net_params(net)[e] + by * (double)dls_rng_normal(&rng));
            }
        }
    }
    dls_net_touch(net);
}

/* One array of a case: to the file, or compared with it. */
static void grad_exchange(const char *name, const char *what, const dls_real *x, size_t n) {
#if DLS_REAL64
    const double count = (double)n;
    (void)name;
    (void)what;
    CHECK(fwrite(&count, sizeof count, 1, grad_file) == 1);
    CHECK(fwrite(x, sizeof *x, n, grad_file) == n);
#else
    double count = 0, worst = 0, most = 0;
    static double want[100000];
    size_t at = 0;
    CHECK(fread(&count, sizeof count, 1, grad_file) == 1);
    CHECK_INT(count, n);
    if (count != (double)n || n > sizeof want / sizeof *want) return;
    CHECK(fread(want, sizeof *want, n, grad_file) == n);
    for (size_t i = 0; i < n; i++) most = fabs(want[i]) > most ? fabs(want[i]) : most;
    for (size_t i = 0; i < n; i++) {
        const double e = fabs((double)x[i] - want[i]) / (most > 1 ? most : 1);
        if (!(e <= worst)) worst = e, at = i;
    }
    if (!(worst <= 1e-4))
        test_report(name, 0, "%s[%zu] is %.7g, in doubles %.7g", what, at, (double)x[at], want[at]);
#endif
}

/* Forward and backward of n samples on given kernels; output and gradients go to the exchange. */
static void grad_run(const char *name, dls_net *net, int32_t n, dls_isa isa, bool strict) {
    dls_exec_desc d;
    dls_exec *e;
    dls_rng rng = {5, 0};
    const size_t outputs = (size_t)n * dls_shape_count(dls_net_shape(net, dls_net_output_of(net)));
    memset(&d, 0, sizeof d);
    d.batch = n;
    d.isa = isa;
    d.strict = strict;
    d.train = d.input_grad = true;
    e = dls_exec_create(net, &d);
    CHECK(e != NULL);
    if (e == NULL) return;
    for (int32_t k = 0; dls_exec_input(e, k) != NULL; k++) {
        const dls_val v = dls_exec_input_val(e, k);
        const size_t count = (size_t)n * dls_shape_count(dls_net_shape(net, v));
        dls_real *x = (dls_real *)dls_exec_input(e, k);
        int32_t *ids = (int32_t *)dls_exec_input(e, k);
        for (size_t i = 0; i < count; i++) {
            if (dls_exec_input_grad(e, k) == NULL)
                ids[i] = (int32_t)(dls_rng_u32(&rng) % 11);
            else
                x[i] = on_grid((double)dls_rng_normal(&rng));
        }
    }
    CHECK_STATUS(dls_exec_forward_train(e, n, 3, 0, 0), DLS_OK);
    grad_exchange(name, "output", dls_exec_output(e), outputs);
    for (size_t i = 0; i < outputs; i++)
        dls_exec_output_grad(e)[i] = on_grid((double)dls_rng_normal(&rng));
    CHECK_STATUS(dls_exec_backward(e, false), DLS_OK);
    for (dls_val v = 0; v < dls_net_nodes(net); v++) {
        dls_param p;
        size_t at, count;
        for (int32_t i = 0; dls_net_param_of(net, v, i, &p, &at, &count) == DLS_OK; i++)
            grad_exchange(name, p.name, dls_exec_grads(e) + at, count);
    }
    for (int32_t k = 0; dls_exec_input(e, k) != NULL; k++)
        if (dls_exec_input_grad(e, k) != NULL)
            grad_exchange(name, "input", dls_exec_input_grad(e, k),
                          (size_t)n *
                              dls_shape_count(dls_net_shape(net, dls_exec_input_val(e, k))));
    dls_exec_destroy(e);
}

/* Checks the net and destroys it. */
static void grad_case(const char *name, dls_net *net) {
    char text[300];
    if (dls_net_status(net) != DLS_OK) {
        test_report(name, 0, "not built: %s",
                    dls_error_text(dls_net_error(net), text, sizeof text));
        dls_net_destroy(net);
        return;
    }
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    shake(net);
    mark_ops(net);
    for (int32_t n = 1; n <= 3; n += 2) {
#if DLS_REAL64
        dls_grad_report r;
        const dls_status st = dls_grad_check(net, n, (uint64_t)n + 7, GRAD_STEP, 64, &r);
        CHECK_STATUS(st, DLS_OK);
        if (!(r.worst < 1e-6))
            test_report(name, 0, "%d samples: relative error %g of node %d, tensor %d, element %zu",
                        (int)n, r.worst, (int)r.node, (int)r.index, r.element);
        if (r.worst > grad_worst) grad_worst = r.worst;
        grad_run(name, net, n, DLS_ISA_BEST, false);
#else
        const long at = ftell(grad_file);
        for (int isa = DLS_ISA_SCALAR; isa < DLS_ISA_COUNT; isa++) {
            for (int strict = 0; strict < 2; strict++) {
                if (!dls_isa_usable((dls_isa)isa)) continue;
                CHECK(fseek(grad_file, at, SEEK_SET) == 0);
                grad_run(name, net, n, (dls_isa)isa, strict != 0);
            }
        }
#endif
    }
    dls_net_destroy(net);
}
/* NET(name, h, w, c, statements that end with the output in x) */
#define NET(name, h, w, c, ...)                                                                    \
    do {                                                                                           \
        dls_net *net = dls_net_create(NULL);                                                       \
        dls_val x = dls_net_input(net, h, w, c);                                                   \
        __VA_ARGS__;                                                                               \
        (void)x;                                                                                   \
        grad_case(name, net);                                                                      \
    } while (0)
#endif
