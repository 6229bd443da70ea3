/* One program for the unit tests of every section: the implementation is compiled once and the
   tests may call private dlsi_ functions. A file per section. */
#include <stddef.h>
static void *unit_malloc(size_t bytes);
static void unit_free(void *mem);
#define DLS_MALLOC(bytes) unit_malloc(bytes)
#define DLS_FREE(mem) unit_free(mem)
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

/* The library's allocator, counted, and made to fail on demand. */
static size_t unit_mallocs, unit_frees;
static long unit_mallocs_left = -1; /* before they fail; negative: never */
static void *unit_malloc(size_t bytes) {
    if (unit_mallocs_left == 0) return NULL;
    if (unit_mallocs_left > 0) unit_mallocs_left--;
    unit_mallocs++;
    return malloc(bytes);
}
static void unit_free(void *mem) {
    if (mem != NULL) unit_frees++;
    free(mem);
}

#include "unit/ref.h"

#include "unit/base.c"
#include "unit/port.c"
#include "unit/trace.c"
#include "unit/tensor.c"
#include "unit/op.c" /* before par: it has the pool */
#include "unit/par.c"
#include "unit/net.c"
#include "unit/exec.c"
#include "unit/data.c"
#include "unit/train.c"

int main(int argc, char **argv) {
    test_start("unit", argc, argv);
    base_tests();
    port_tests();
    trace_tests();
    tensor_tests();
    par_tests();
    op_tests();
    net_tests();
    exec_tests();
    data_tests();
    train_tests();
    return test_end();
}
