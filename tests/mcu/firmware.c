/* firmware.c - what a microcontroller runs: a trained CNN straight from flash, in a static block,
   without heap, threads, files or console of the library. Its outputs must be the host's, bit for
   bit; tools/size measures this program. WITH_MODEL: model.h, made by make_model.c. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "board.h"

#define IN_FLASH __attribute__((section(".model"), aligned(8)))
#define IN_ARENA __attribute__((section(".arena"), aligned(8)))
#define OF_TEST __attribute__((section(".harness"), noinline)) /* not counted as firmware */
#define OF_FIRMWARE __attribute__((noinline))
#ifdef WITH_MODEL
#include "model.h"
#else /* enough to link, for its size */
#define IMAGES 1
static const uint32_t model_words[64] IN_FLASH = {0};
static const uint32_t model_bytes IN_FLASH = sizeof model_words;
static const unsigned char images[IMAGES][28 * 28] IN_FLASH = {{0}};
static const uint32_t expected[IMAGES][10] IN_FLASH = {{0}};
#endif

static unsigned char net_block[6 * 1024] IN_ARENA;
static unsigned char run_block[24 * 1024] IN_ARENA;

/* Only these ops are linked. */
static const dls_op *find(const char *name) {
    const dls_op *const mine[] = {dls_op_input(), dls_op_conv2d(), dls_op_maxpool(),
                                  dls_op_reshape(), dls_op_linear()};
    size_t i, k;
    for (i = 0; i < sizeof mine / sizeof *mine; i++) { /* strcmp, without newlib's large one */
        for (k = 0; mine[i]->name[k] == name[k] && name[k] != 0; k++) {
        }
        if (mine[i]->name[k] == name[k]) return mine[i];
    }
    return NULL;
}

/* All that a firmware does at start. */
OF_FIRMWARE static dls_status start(dls_net **net, dls_exec **run) {
    dls_net_desc desc = {0, 0};
    dls_model model;
    dls_status st = dls_model_open(&model, model_words, model_bytes, NULL);
    if (st != DLS_OK) return st;
    desc.nodes_max = model.nodes;
    st = dls_net_init(net, &desc, net_block, sizeof net_block);
    if (st == DLS_OK) st = dls_model_build(&model, *net, find);
    if (st == DLS_OK) /* only read, so flash will do */
        st = dls_net_bind_params(*net, (dls_real *)(uintptr_t)dls_model_params_in_place(&model));
    if (st == DLS_OK) st = dls_exec_init(run, *net, NULL, run_block, sizeof run_block);
    return st;
}

/* One inference. Returns the most likely class, negative on failure. */
OF_FIRMWARE static int32_t classify(dls_exec *run, const unsigned char *image) {
    float *in = (float *)dls_exec_input(run, 0);
    const float *out = dls_exec_output(run);
    int32_t i, best = 0;
    for (i = 0; i < 28 * 28; i++) in[i] = (float)image[i] * (1.0f / 255.0f);
    if (dls_exec_forward(run, 1) != DLS_OK) return -1;
    for (i = 1; i < 10; i++)
        if (out[i] > out[best]) best = i;
    return best;
}

static const char text_status[] IN_FLASH = "status", text_images[] IN_FLASH = "images";
static const char text_equal[] IN_FLASH = "equal", text_stack_run[] IN_FLASH = "stack_run";
static const char text_stack_start[] IN_FLASH = "stack_start";
static const char text_space[] IN_FLASH = " ", text_end[] IN_FLASH = "\n";
OF_TEST static void say(const char *what, uint32_t number) {
    board_print(what);
    board_print(text_space);
    board_print_number(number);
    board_print(text_end);
}

OF_TEST int main(void) {
    dls_net *net = NULL;
    dls_exec *run = NULL;
    uint32_t i, equal = 0;
    dls_status st;
    board_stack_paint();
    st = start(&net, &run);
    if (st != DLS_OK) {
        say(text_status, (uint32_t)st);
        return 1;
    }
    say(text_stack_start, board_stack_used());
    board_stack_paint();
    for (i = 0; i < IMAGES; i++) {
        const int32_t class_of = classify(run, images[i]);
        equal += memcmp(dls_exec_output(run), expected[i], sizeof expected[i]) == 0;
        if (class_of < 0) return 1;
    }
    say(text_stack_run, board_stack_used());
    say(text_images, IMAGES);
    say(text_equal, equal);
    return equal == IMAGES ? 0 : 1;
}
