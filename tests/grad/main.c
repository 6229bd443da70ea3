/* Gradients. Compiled twice: with DLS_REAL64=1 against central differences, plain against the
   doubles' gradients, which the first program leaves in the file named by GRAD_FILE. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

#include "grad/grad.h"
#include "grad/ops.c"
#include "grad/loss.c"

int main(int argc, char **argv) {
    const char *path = getenv("GRAD_FILE");
    test_start(DLS_REAL64 ? "grad64" : "grad32", argc, argv);
    grad_file = fopen(path != NULL ? path : "grad.bin", DLS_REAL64 ? "wb" : "rb");
    if (grad_file == NULL) {
        printf("FAIL grad: cannot open GRAD_FILE\n");
        return 1;
    }
    op_tests();
    RUN(grad_loss);
#if DLS_REAL64
    printf("note: worst relative error of all cases %.2g\n", grad_worst);
#endif
    fclose(grad_file);
    return test_end();
}
