/* copy.h - what each copy of the implementation in one program computes: a small network's output
   from its seed, as a hash. Included by files that define COPY, the name of their function. */
#include <stdint.h>
uint64_t COPY(void);
uint64_t COPY(void) {
    static const float image[8 * 8] = {0.5f, -1.0f, 2.0f, 0.25f};
    uint64_t hash = 0;
    dls_net *net = dls_net_create(NULL);
    dls_exec *run;
    dls_val x = dls_net_input(net, 8, 8, 1);
    x = dls_net_conv2d(net, x, 4, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    run = dls_exec_create(net, NULL);
    if (run != NULL) {
        memcpy(dls_exec_input(run, 0), image, sizeof image);
        if (dls_exec_forward(run, 1) == DLS_OK)
            hash = dls_hash64_reals(1, dls_exec_output(run), 10);
    }
    dls_exec_destroy(run);
    dls_net_destroy(net);
    return hash;
}
