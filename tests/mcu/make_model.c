/* make_model.c - trains the CNN that the firmware runs, on the examples' MNIST images, and prints
   model.h: the model file, some test images, and the bits of the host's strict outputs for them.
   make_model DATA_FOLDER > model.h */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <stdio.h>
#include <stdlib.h>

#define IMAGES 16

static dls_net *small_cnn(void) {
    dls_net *net = dls_net_create(NULL);
    dls_val x = dls_net_input(net, 28, 28, 1);
    x = dls_net_conv2d(net, x, 4, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_conv2d(net, x, 8, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}

static void print_words(const char *declaration, const void *bytes, size_t count) {
    const unsigned char *p = (const unsigned char *)bytes;
    size_t i;
    printf("%s = {", declaration);
    for (i = 0; i + 4 <= count; i += 4)
        printf("%s0x%08lx,", i % 32 == 0 ? "\n    " : " ",
               (unsigned long)p[i] | (unsigned long)p[i + 1] << 8 | (unsigned long)p[i + 2] << 16 |
                   (unsigned long)p[i + 3] << 24);
    printf("};\n");
}

static int die(const char *what, const dls_error *error) {
    char text[200];
    fprintf(stderr, "%s: %s\n", what, error ? dls_error_text(error, text, sizeof text) : "failed");
    return 1;
}

/* The host's outputs for image i of data. */
static int infer(dls_exec *run, const dls_data *data, int32_t i) {
    const unsigned char *image = (const unsigned char *)data->x + (size_t)i * 28 * 28;
    float *in = (float *)dls_exec_input(run, 0);
    int32_t k, best = 0;
    for (k = 0; k < 28 * 28; k++) in[k] = (float)image[k] * (1.0f / 255.0f);
    if (dls_exec_forward(run, 1) != DLS_OK) exit(die("forward", dls_exec_error(run)));
    for (k = 1; k < 10; k++)
        if (dls_exec_output(run)[k] > dls_exec_output(run)[best]) best = k;
    return best == data->label[i];
}

int main(int argc, char **argv) {
    dls_net *net = small_cnn();
    dls_exec_desc how = {0};
    dls_fit_desc fit = {0};
    dls_fit_report report;
    dls_error error;
    dls_data train, test;
    dls_exec *run;
    void *file;
    char path[512];
    size_t bytes;
    int32_t i, right = 0;

    snprintf(path, sizeof path, "%s/mnist-train", argc > 1 ? argv[1] : ".");
    if (dls_data_open(&train, path, &error) != DLS_OK) return die(path, &error);
    snprintf(path, sizeof path, "%s/mnist-test", argc > 1 ? argv[1] : ".");
    if (dls_data_open(&test, path, &error) != DLS_OK) return die(path, &error);
    fit.epochs = 2;
    fit.train.optim.kind = DLS_OPTIM_ADAM;
    fit.train.strict = true;
    if (dls_fit(net, &train, &fit, &report) != DLS_OK) return die("fit", dls_net_error(net));

    bytes = dls_model_size(net);
    file = calloc(1, bytes + 4);
    if (file == NULL || dls_model_write(net, file, bytes) != DLS_OK) return die("write", NULL);
    how.strict = true;
    run = dls_exec_create(net, &how);
    if (run == NULL) return die("executor", dls_net_error(net));
    for (i = 0; i < 500; i++) right += infer(run, &test, i);
    fprintf(stderr, "right %d of 500\n", (int)right);

    printf("/* Made by make_model.c. */\n#define IMAGES %d\n", IMAGES);
    printf("static const uint32_t model_bytes IN_FLASH = %lu;\n", (unsigned long)bytes);
    print_words("static const uint32_t model_words[] IN_FLASH", file, (bytes + 3) / 4 * 4);
    printf("static const uint32_t expected[IMAGES][10] IN_FLASH = {\n");
    for (i = 0; i < IMAGES; i++) {
        int32_t k;
        infer(run, &test, i);
        printf("    {");
        for (k = 0; k < 10; k++) {
            uint32_t bits;
            memcpy(&bits, &dls_exec_output(run)[k], 4);
            printf(" 0x%08lx,", (unsigned long)bits);
        }
        printf("},\n");
    }
    printf("};\nstatic const unsigned char images[IMAGES][28 * 28] IN_FLASH = {\n");
    for (i = 0; i < IMAGES; i++) {
        const unsigned char *image = (const unsigned char *)test.x + (size_t)i * 28 * 28;
        int32_t k;
        printf("    {");
        for (k = 0; k < 28 * 28; k++) printf("%s%d,", k % 28 == 0 ? "\n    " : "", image[k]);
        printf("},\n");
    }
    printf("};\n");
    return right >= 400 ? 0 : die("accuracy", NULL);
}
