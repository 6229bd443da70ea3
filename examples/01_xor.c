/* cc -O2 01_xor.c -o 01_xor -lpthread
   The smallest training: exclusive-or, a step at a time. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <stdio.h>

int main(void) {
    const float x[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
    const float y[4] = {0, 1, 1, 0};
    char text[256];
    dls_net *net = dls_net_create(NULL);
    dls_val v = dls_net_input(net, 1, 1, 2);
    dls_train_desc desc = {0};
    dls_target target = {0};
    dls_train *train;
    dls_exec *run;
    int i;

    v = dls_net_dense(net, v, 8, DLS_ACT_TANH);
    v = dls_net_dense(net, v, 1, DLS_ACT_NONE);

    desc.batch = 4;
    desc.loss.kind = DLS_LOSS_BCE; /* outputs are logits */
    desc.optim.kind = DLS_OPTIM_ADAM;
    desc.optim.lr = 0.05f;
    train = dls_train_create(net, &desc);
    if (train == NULL) {
        fprintf(stderr, "%s\n", dls_error_text(dls_net_error(net), text, sizeof text));
        return 1;
    }
    target.values = y;
    for (i = 1; i <= 200; i++) {
        dls_step_stats stats;
        if (dls_train_step(train, x, &target, 4, &stats) != DLS_OK) return 1;
        if (i % 50 == 0) printf("step %3d  loss %.4f\n", i, stats.loss);
    }
    dls_train_destroy(train);

    run = dls_exec_create(net, NULL); /* batch 1, forward only; the same weights */
    for (i = 0; i < 4; i++) {
        memcpy(dls_exec_input(run, 0), x[i], sizeof x[i]);
        if (dls_exec_forward(run, 1) != DLS_OK) return 1;
        printf("%g xor %g = %d\n", x[i][0], x[i][1], dls_exec_output(run)[0] > 0);
        if ((dls_exec_output(run)[0] > 0) != (y[i] > 0.5f)) return 1;
    }
    dls_exec_destroy(run);
    dls_net_destroy(net);
    return 0;
}
