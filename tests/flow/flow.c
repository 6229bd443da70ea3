/* Serial framing and loss recovery, by calls and in a simulated network. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include "test.h"

#include "flow/cobs.c"
#include "flow/sim.h"

#include "flow/recovery.c"

#include "flow/network.c"

int main(int argc, char **argv) {
    test_start("flow", argc, argv);
    cobs_tests();
    recovery_tests();
    network_tests();
    return test_end();
}
