/* coll_mpi.c BYTES...: MPI_Allreduce of floats, as coll.c measures its own; run by coll.sh. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static double busy(void) {
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}
static int by_time(const void *a, const void *b) {
    const double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}
int main(int argc, char **argv) {
    int rank, a;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (a = 1; a < argc; a++) {
        const long n = atol(argv[a]) / 4;
        float *x = malloc((size_t)n * 4), *y = malloc((size_t)n * 4);
        double *t, used = 0;
        int k = (int)(3e7 / ((double)n + 3e4)), i;
        long j;
        k = k > 300 ? 300 : k < 7 ? 7 : k;
        t = malloc((size_t)k * sizeof *t);
        for (j = 0; j < n; j++) x[j] = 1, y[j] = 0;
        for (i = -3; i < k; i++) {
            double from;
            if (i == 0) used = busy();
            if (n > 1 << 20) MPI_Barrier(MPI_COMM_WORLD);
            from = MPI_Wtime();
            MPI_Allreduce(x, y, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
            if (i >= 0) t[i] = (MPI_Wtime() - from) * 1e6;
        }
        used = (busy() - used) / k;
        qsort(t, (size_t)k, sizeof *t, by_time);
        if (rank == 0)
            printf("%ld %.1f %.1f %.1f %.1f\n", n * 4, t[k / 2], t[k / 10], t[k * 9 / 10], used);
        fflush(stdout);
        free(x);
        free(y);
        free(t);
    }
    MPI_Finalize();
    return 0;
}
