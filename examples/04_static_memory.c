/* cc -O2 04_static_memory.c -o 04_static_memory
   As firmware does it: no heap, no threads, no files. A model file lies in (what could be) flash,
   its weights are used where they are, and one static block holds all that changes. */
#define DLS_PROFILE 1 /* DLS_PROFILE_MCU */
#define DLS_ENABLE_MESSAGES 1
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <stdio.h> /* of this demonstration only */

/* Only the ops the model uses are linked. */
static const dls_op *find(const char *name) {
    if (strcmp(name, "input") == 0) return dls_op_input();
    if (strcmp(name, "conv2d") == 0) return dls_op_conv2d();
    if (strcmp(name, "maxpool") == 0) return dls_op_maxpool();
    if (strcmp(name, "reshape") == 0) return dls_op_reshape();
    if (strcmp(name, "linear") == 0) return dls_op_linear();
    return NULL;
}

/* Stands for the flashing step on a PC: builds a small CNN and writes its file. */
static union {
    float align;
    unsigned char bytes[48 * 1024];
} flash;
static size_t make_flash(void) {
    static unsigned char block[16 * 1024];
    static float weights[8 * 1024];
    dls_net *net;
    dls_val x;
    if (dls_net_init(&net, NULL, block, sizeof block) != DLS_OK) return 0;
    x = dls_net_input(net, 12, 12, 1);
    x = dls_net_conv2d(net, x, 8, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    if (dls_net_param_count(net) > 8 * 1024) return 0;
    if (dls_net_bind_params(net, weights) != DLS_OK || dls_net_init_params(net) != DLS_OK) return 0;
    if (dls_model_write(net, flash.bytes, sizeof flash.bytes) != DLS_OK) return 0;
    return dls_model_size(net);
}

int main(void) {
    static unsigned char net_block[8 * 1024], run_block[16 * 1024];
    const size_t flashed = make_flash();
    dls_net_desc desc = {0};
    dls_model model;
    dls_error error;
    dls_exec *run;
    dls_net *net;
    char text[160];
    int i;

    if (dls_model_open(&model, flash.bytes, flashed, &error) != DLS_OK) {
        printf("%s\n", dls_error_text(&error, text, sizeof text));
        return 1;
    }
    desc.nodes_max = model.nodes;
    printf("model %d nodes, %d bytes of flash; network tables %d bytes\n", (int)model.nodes,
           (int)flashed, (int)dls_net_size(&desc));
    if (dls_net_init(&net, &desc, net_block, sizeof net_block) != DLS_OK) return 1;
    if (dls_model_build(&model, net, find) != DLS_OK ||
        dls_net_bind_params(net, (dls_real *)(uintptr_t)dls_model_params_in_place(&model)) !=
            DLS_OK) {
        printf("%s\n", dls_error_text(dls_net_error(net), text, sizeof text));
        return 1;
    }
    printf("executor %d bytes of RAM, known before it is made\n", (int)dls_exec_size(net, NULL));
    if (dls_exec_init(&run, net, NULL, run_block, sizeof run_block) != DLS_OK) {
        printf("%s\n", dls_error_text(dls_net_error(net), text, sizeof text));
        return 1;
    }
    for (i = 0; i < 12 * 12; i++) ((float *)dls_exec_input(run, 0))[i] = (float)(i % 7) / 7.0f;
    if (dls_exec_forward(run, 1) != DLS_OK) return 1;
    for (i = 0; i < 10; i++) printf("%s%.3f", i > 0 ? " " : "outputs ", dls_exec_output(run)[i]);
    printf("\n");
    return 0;
}
