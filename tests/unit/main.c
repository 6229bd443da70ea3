/* One program for the unit tests of every section: the implementation is compiled once and the
   tests may call private dlsi_ functions. A file per section. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

#include "unit/base.c"

int main(int argc, char **argv) {
    test_start("unit", argc, argv);
    base_tests();
    return test_end();
}
