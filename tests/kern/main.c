/* Every kernel of every variant this CPU can run, against a reference in double, and against each
   other bit by bit. "kern --golden" prints the hashes of golden.h: for those who change, on
   purpose, what kernels compute. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

#include "kern/kern.h"
#include "kern/matrix.c"
#include "kern/conv.c"
#include "kern/element.c"

int main(int argc, char **argv) {
    kern_print = argc > 1 && strcmp(argv[1], "--golden") == 0;
    test_start("kern", kern_print ? 1 : argc, argv);
    kern_start();
    matrix_tests();
    conv_tests();
    element_tests();
    return test_end();
}
