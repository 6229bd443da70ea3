/* gemm onednn|openblas THREADS SECONDS M N K: row-major C (m x n) = A (m x k) B (k x n), float32.
   Prints "median p10 p90 rate": ms, ms, ms, GFLOP/s.
   Build: cc -O2 gemm.c -lopenblas -ldnnl -lgomp */
#define _POSIX_C_SOURCE 200809L
#include <cblas.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern void openblas_set_num_threads(int threads);
extern void omp_set_num_threads(int threads);

enum { SAMPLES_MAX = 100000 };
static double times[SAMPLES_MAX];

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}
static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static float *matrix(size_t count, size_t period, float low) {
    void *p = NULL;
    if (posix_memalign(&p, 64, count * sizeof(float) + 64) != 0) exit(2);
    for (size_t i = 0; i < count; i++) ((float *)p)[i] = (float)(i % period) * 0.1f + low;
    return (float *)p;
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    const int onednn = strcmp(argv[1], "onednn") == 0, threads = atoi(argv[2]);
    const double seconds = atof(argv[3]);
    const int m = atoi(argv[4]), n = atoi(argv[5]), k = atoi(argv[6]);
    float *a = matrix((size_t)m * (size_t)k, 7, -0.3f),
          *b = matrix((size_t)k * (size_t)n, 5, -0.2f);
    float *c = matrix((size_t)m * (size_t)n, 1, 0);
    const double gflop = 2e-6 * m * n * k;
    const int inner = 1 + (int)(100 / gflop);
    int count = 0;
    double end = 0;
    openblas_set_num_threads(threads);
    omp_set_num_threads(threads);
    for (int warm = 2; count < SAMPLES_MAX && (warm > 0 || count < 5 || now_ms() < end); warm--) {
        const double start = now_ms();
        if (warm == 0) end = start + seconds * 1e3;
        for (int i = 0; i < inner; i++)
            if (onednn)
                dnnl_sgemm('N', 'N', m, n, k, 1, a, k, b, n, 0, c, n);
            else
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, k, b, n, 0, c,
                            n);
        if (warm <= 0) times[count++] = (now_ms() - start) / inner;
    }
    qsort(times, (size_t)count, sizeof times[0], by_size);
    const double median = times[count / 2];
    printf("%.6f %.6f %.6f %.3f\n", median, times[count / 10], times[count * 9 / 10],
           gflop / median);
    return 0;
}
