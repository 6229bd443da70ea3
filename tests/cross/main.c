/* The unit, kernel and whole-network tests in one program, small enough for an emulator. Its
   numbers are those of kern/golden.h and net/golden.h, whatever the CPU: SIMD or none, 32 or 64
   bits, little- or big-endian. Arguments: a name for the lines it prints, then which tests. */
#include "test.h"

/* Unit tests that stay at home: two take for granted what only builds with SIMD have (packed
   weights) or 64 bits; one draws its ways from the instruction sets there are, so that elsewhere it
   meets other graphs, with kinks of their own, and takes long. */
static void cross_run(const char *name, void (*test)(void)) {
    static const char *const not_here[] = {"op_find", "op_enormous_shapes", "exec_random_graphs"};
    for (size_t i = 0; i < sizeof not_here / sizeof *not_here; i++)
        if (strcmp(name, not_here[i]) == 0) return;
    test_run(name, test);
}
#undef RUN
#define RUN(name) cross_run(#name, test_##name)

#define main unit_main
#include "unit/main.c"
#undef main

#include "kern/kern.h"
#include "kern/matrix.c"
#include "kern/conv.c"
#include "kern/element.c"
#include "net/nets.c"
#include "net/net.c"

int main(int argc, char **argv) {
    kern_quick = net_quick = true;
    test_start(argc > 1 ? argv[1] : "cross", argc - 1, argv + 1);
    kern_start();
    printf("note: %s: best instruction set %s, %d variants of kernels\n", test_suite,
           dls_isa_name(dls_isa_best()), kern_variants);
    base_tests();
    tensor_tests();
    par_tests();
    op_tests();
    net_tests();
    exec_tests();
    matrix_tests();
    conv_tests();
    element_tests();
    whole_net_tests();
    return test_end();
}
