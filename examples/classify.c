/* cc -O2 classify.c -o classify -lpthread
   Loads a model that train or collective saved and classifies a set of labelled IDX images; or
   image files, when built with -DWITH_STB -lm and stb_image.h (Debian: libstb-dev).
   ./classify collective.dls data/mnist-test [COUNT]     ./classify collective.dls photo.png ... */
#ifdef WITH_STB
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#define DLS_ENABLE_STB_IMAGE 1
#endif
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <stdio.h>
#include <stdlib.h>

static int fail(const dls_error *error) {
    char text[320];
    fprintf(stderr, "classify: %s\n", dls_error_text(error, text, sizeof text));
    return 1;
}

/* The most probable class and its probability. */
static int best(const float *logits, int classes, double *probability) {
    float p[1000];
    int i, k = 0;
    if (classes > 1000) classes = 1000;
    dls_softmax(logits, classes, 1.0, p);
    for (i = 1; i < classes; i++)
        if (p[i] > p[k]) k = i;
    *probability = (double)p[k];
    return k;
}

/* Digits as the terminal can show them. */
static void draw(const float *x, dls_shape s) {
    static const char ink[] = " .:-=+*#%@";
    int i, j;
    for (i = 0; i < s.h; i += 2) {
        for (j = 0; j < s.w; j++) {
            const float v = x[(i * s.w + j) * s.c];
            putchar(ink[v <= 0 ? 0 : v >= 1 ? 9 : (int)(v * 9.99f)]);
        }
        putchar('\n');
    }
}

static int classify_set(dls_net *net, dls_exec *run, const char *name, int count) {
    const int classes = dls_net_shape(net, dls_net_output_of(net)).c;
    dls_data data;
    dls_error error;
    int32_t i, right = 0;
    double p;
    if (dls_data_open(&data, name, &error) != DLS_OK) return fail(&error);
    if (count < 1 || count > data.count) count = data.count;
    if (dls_shape_count(data.shape) != dls_shape_count(dls_net_shape(net, 0)))
        return fprintf(stderr, "classify: images of '%s' do not fit the model's input\n", name), 1;
    for (i = 0; i < count; i++) {
        int k;
        float *x = dls_exec_input(run, 0);
        if (dls_data_fetch(&data, NULL, 0, &i, 1, x, NULL, NULL, NULL, NULL) != DLS_OK) return 1;
        if (i == 0) draw(x, data.shape);
        if (dls_exec_forward(run, 1) != DLS_OK) return fail(dls_exec_error(run));
        k = best(dls_exec_output(run), classes, &p);
        right += k == data.label[i];
        if (i < 5)
            printf("image %d: class %d (%.1f %%), label %d\n", (int)i, k, 100 * p,
                   (int)data.label[i]);
    }
    printf("%d of %d right: %.2f %%\n", (int)right, count, 100.0 * right / count);
    dls_data_close(&data);
    return 0;
}

#ifdef WITH_STB
static int classify_file(dls_net *net, dls_exec *run, const char *path) {
    const dls_shape s = dls_net_shape(net, 0);
    double p;
    int k;
    if (dls_image_load(path, s, dls_exec_input(run, 0)) != DLS_OK)
        return fprintf(stderr, "classify: '%s' is no image that stb_image reads\n", path), 1;
    draw(dls_exec_input(run, 0), s);
    if (dls_exec_forward(run, 1) != DLS_OK) return fail(dls_exec_error(run));
    k = best(dls_exec_output(run), dls_net_shape(net, dls_net_output_of(net)).c, &p);
    printf("%s: class %d (%.1f %%)\n", path, k, 100 * p);
    return 0;
}
#else
static int classify_file(dls_net *net, dls_exec *run, const char *path) {
    (void)net, (void)run;
    return fprintf(stderr, "classify: '%s': build with -DWITH_STB to read image files\n", path), 1;
}
#endif

int main(int argc, char **argv) {
    dls_error error;
    dls_net *net;
    dls_exec *run;
    int i, bad = 0;
    if (argc < 3)
        return fprintf(stderr, "usage: classify MODEL DATA [COUNT] | MODEL IMAGE...\n"), 2;
    if (dls_net_load(&net, argv[1], &error) != DLS_OK) return fail(&error);
    run = dls_exec_create(net, NULL);
    if (run == NULL) return fail(dls_net_error(net));
    if (strchr(strrchr(argv[2], '/') != NULL ? strrchr(argv[2], '/') : argv[2], '.') == NULL)
        bad = classify_set(net, run, argv[2], argc > 3 ? atoi(argv[3]) : 0);
    else
        for (i = 2; i < argc; i++) bad |= classify_file(net, run, argv[i]);
    dls_exec_destroy(run);
    dls_net_destroy(net);
    return bad;
}
