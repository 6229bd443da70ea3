/* image: files to tensors through the user's stb_image: values, channels, resizing, refusals.
   Argument: a folder to write in. */
#define STB_IMAGE_IMPLEMENTATION
#define STBI_NO_SIMD
#define STBI_NO_LINEAR /* libm */
#define STBI_NO_HDR
#include <stb_image.h>

#define DLS_ENABLE_STB_IMAGE 1
#define DLS_ENABLE_SIMD 0
#define DLS_ENABLE_PEERS 0
#define DLS_ENABLE_THREADS 0
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

static const char *image_folder;
static const char *image_file(const char *text, const unsigned char *pixels, size_t count) {
    static char path[600];
    snprintf(path, sizeof path, "%.500s/image.pnm", image_folder);
    FILE *file = fopen(path, "wb");
    if (file == NULL) return path;
    fputs(text, file);
    if (count > 0) (void)fwrite(pixels, 1, count, file);
    fclose(file);
    return path;
}
static unsigned char image_rgb[6 * 4 * 3]; /* 6 wide, 4 high */
static const char *image_colours(void) {
    for (int i = 0; i < 72; i++) image_rgb[i] = (unsigned char)(i * 37 % 256);
    return image_file("P6\n6 4\n255\n", image_rgb, 72);
}
static double image_pixel(int y, int x, int c) { return image_rgb[(y * 6 + x) * 3 + c] / 255.0; }

static void test_image_same_size(void) {
    const dls_shape s = {4, 6, 3};
    dls_real x[72];
    CHECK_STATUS(dls_image_load(image_colours(), s, x), DLS_OK);
    for (int i = 0; i < 72; i++) CHECK_NEAR(x[i], image_rgb[i] / 255.0, 1e-6);
}
static void test_image_smaller(void) {
    const dls_shape s = {2, 4, 3}; /* rows in pairs; columns 1, 2, 1, 2 wide */
    static const int from[] = {0, 1, 3, 4, 6};
    dls_real x[24];
    CHECK_STATUS(dls_image_load(image_colours(), s, x), DLS_OK);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int c = 0; c < 3; c++) {
                double sum = 0;
                for (int b = from[j]; b < from[j + 1]; b++)
                    sum += image_pixel(2 * i, b, c) + image_pixel(2 * i + 1, b, c);
                CHECK_NEAR(x[(i * 4 + j) * 3 + c], sum / (2 * (from[j + 1] - from[j])), 1e-6);
            }
}
static void test_image_larger(void) {
    const dls_shape s = {8, 12, 3};
    dls_real x[288];
    CHECK_STATUS(dls_image_load(image_colours(), s, x), DLS_OK);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 12; j++)
            for (int c = 0; c < 3; c++)
                CHECK_NEAR(x[(i * 12 + j) * 3 + c], image_pixel(i / 2, j / 2, c), 1e-6);
}
static void test_image_channels(void) {
    const dls_shape grey = {4, 6, 1}, alpha = {4, 6, 4}, colour = {1, 2, 3};
    dls_real x[96];
    CHECK_STATUS(dls_image_load(image_colours(), grey, x), DLS_OK);
    for (int i = 0; i < 24; i++) {
        const unsigned char *p = image_rgb + 3 * i;
        CHECK_NEAR(x[i], ((p[0] * 77 + p[1] * 150 + p[2] * 29) >> 8) / 255.0, 1e-6);
    }
    CHECK_STATUS(dls_image_load(image_colours(), alpha, x), DLS_OK);
    for (int i = 0; i < 96; i++)
        CHECK_NEAR(x[i], i % 4 == 3 ? 1 : image_rgb[i / 4 * 3 + i % 4] / 255.0, 1e-6);
    CHECK_STATUS(dls_image_load(image_file("P5\n2 1\n255\n", image_rgb + 1, 2), colour, x), DLS_OK);
    for (int i = 0; i < 6; i++) CHECK_NEAR(x[i], image_rgb[1 + i / 3] / 255.0, 1e-6);
}
static void test_image_refusals(void) {
    const dls_shape two = {4, 6, 2}, none = {0, 6, 3}, good = {4, 6, 3};
    dls_real x[72];
    CHECK_STATUS(dls_image_load(image_colours(), two, x), DLS_E_ARG);
    CHECK_STATUS(dls_image_load(image_colours(), none, x), DLS_E_ARG);
    CHECK_STATUS(dls_image_load("no/such.png", good, x), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_image_load(image_file("hello", NULL, 0), good, x), DLS_E_FORMAT);
    CHECK_STATUS(dls_image_load(image_file("", NULL, 0), good, x), DLS_E_FORMAT);
    CHECK_STATUS(dls_image_load(image_file("\x89PNG\r\n\x1a\n", image_rgb, 40), good, x),
                 DLS_E_FORMAT);
}

int main(int argc, char **argv) {
    image_folder = argc > 1 ? argv[1] : ".";
    test_start("golden", 1, argv);
    RUN(image_same_size);
    RUN(image_smaller);
    RUN(image_larger);
    RUN(image_channels);
    RUN(image_refusals);
    return test_end();
}
