/* cc -O2 03_custom_op.c -o 03_custom_op -lpthread
   An op of one's own: a row with a shape rule, a forward and a backward function, checked against
   central differences. Here: softclip y = x / (1 + |x|) times a trained gain per channel. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <math.h>
#include <stdio.h>

static dls_status softclip_shape(const dls_op_site *site, dls_op_spec *spec) {
    if (site->dtype[0] != DLS_F32)
        return dls_op_fail(site, DLS_E_SHAPE, "softclip wants reals", 0, 0, 0);
    spec->y = site->x[0];
    spec->dtype = DLS_F32;
    spec->params = 1;
    spec->param[0].name = "gain";
    spec->param[0].dim[0] = spec->param[0].dim[1] = spec->param[0].dim[2] = 1;
    spec->param[0].dim[3] = site->x[0].c;
    spec->param[0].init = DLS_INIT_ONE;
    spec->param[0].flags = DLS_PARAM_NO_DECAY;
    spec->keep_x = 1; /* backward reads the input */
    spec->macs = (double)dls_shape_count(spec->y);
    return DLS_OK;
}

static dls_status softclip_forward(const dls_op_call *call) {
    const size_t n = (size_t)call->n * dls_shape_count(call->ys), c = (size_t)call->ys.c;
    const dls_real *x = (const dls_real *)call->x[0];
    dls_real *y = (dls_real *)call->y;
    size_t i;
    for (i = 0; i < n; i++) y[i] = call->w[0][i % c] * x[i] / (1 + (dls_real)fabs((double)x[i]));
    return DLS_OK;
}

static dls_status softclip_backward(const dls_op_call *call) {
    const size_t n = (size_t)call->n * dls_shape_count(call->ys), c = (size_t)call->ys.c;
    const dls_real *x = (const dls_real *)call->x[0];
    size_t i;
    for (i = 0; call->dw[0] != NULL && !call->dw_add && i < c; i++) call->dw[0][i] = 0;
    for (i = 0; i < n; i++) {
        const dls_real d = 1 / (1 + (dls_real)fabs((double)x[i]));
        const dls_real dx = call->dy[i] * call->w[0][i % c] * d * d;
        if (call->dw[0] != NULL) call->dw[0][i % c] += call->dy[i] * x[i] * d;
        if (call->dx[0] != NULL)
            call->dx[0][i] = (call->dx_add & 1u) != 0 ? call->dx[0][i] + dx : dx;
    }
    if (call->dw[0] != NULL && call->ready != NULL) call->ready(call->ready_user, call->dw[0], c);
    return DLS_OK;
}

static const dls_op softclip = {
    "softclip",        1,    1,   DLS_MERGE_NONE, softclip_shape, softclip_forward,
    softclip_backward, NULL, NULL};

int main(void) {
    dls_net *net = dls_net_create(NULL);
    dls_val x = dls_net_input(net, 4, 4, 3);
    dls_grad_report report;
    char text[320];
    x = dls_net_conv2d(net, x, 6, 3, DLS_ACT_NONE);
    x = dls_net_op(net, &softclip, &x, 1, NULL);
    x = dls_net_dense(net, x, 2, DLS_ACT_NONE);
    if (dls_grad_check(net, 3, 1, 0, 0, &report) != DLS_OK) {
        fprintf(stderr, "%s\n", dls_error_text(dls_net_error(net), text, sizeof text));
        return 1;
    }
    printf("softclip: worst difference from central differences %.2e (float32)\n", report.worst);
    dls_net_destroy(net);
    return report.worst < 3e-2 ? 0 : 1;
}
