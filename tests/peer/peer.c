/* Everything of peers in one program: the implementation is compiled once. The engine's tests move
   bytes by hand through small pipes, in random pieces by fixed seeds; time is a number. Only node.c
   opens sockets. Every allocation is counted: engines must make none, and none may be left over. */
#define _DEFAULT_SOURCE
#include <stdlib.h>

static long test_blocks, test_takes; /* alive; ever made. Several threads count */
static void *test_malloc(size_t bytes) {
    void *p = malloc(bytes);
    if (p != NULL) {
        (void)__atomic_add_fetch(&test_blocks, 1, __ATOMIC_RELAXED);
        (void)__atomic_add_fetch(&test_takes, 1, __ATOMIC_RELAXED);
    }
    return p;
}
static void test_free(void *p) {
    if (p != NULL) (void)__atomic_sub_fetch(&test_blocks, 1, __ATOMIC_RELAXED);
    free(p);
}
#define DLS_MALLOC(bytes) test_malloc(bytes)
#define DLS_FREE(p) test_free(p)
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

#include "peer/cluster.h"

#include "peer/net.h"

#include "peer/wire.c"

#include "peer/engine.c"

#include "peer/lossy.c"

#include "peer/lines.c"

#include "peer/hostile.c"

#include "peer/views.c"

#include "peer/renew.c"

#include "peer/coll.c"

#include "peer/job.c"

#include "peer/node.c"

int main(int argc, char **argv) {
    test_start("peer", argc, argv);
    alarm(280); /* a hang is a crash that says so */
    wire_tests();
    engine_tests();
    lossy_tests();
    lines_tests();
    hostile_tests();
    views_tests();
    renew_tests();
    coll_tests();
    job_tests();
    node_tests();
    return test_end();
}
