/* Whole networks, trained, resumed and run on every instruction set. "net --golden" prints the
   hashes of golden.h: for those who change, on purpose, what networks compute. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

#include "net/nets.c"
#include "net/net.c"

static void net_print_goldens(void) {
    for (int i = 0; i < NET_CASES; i++)
        printf("golden {\"%s\", 0x%016llXu, 0x%016llXu, 0x%016llXu},\n", net_cases[i].name,
               (unsigned long long)net_hashes[i][0], (unsigned long long)net_hashes[i][1],
               (unsigned long long)net_hashes[i][2]);
}

int main(int argc, char **argv) {
    net_print = argc > 1 && strcmp(argv[1], "--golden") == 0;
    test_start("net", net_print ? 1 : argc, argv);
    whole_net_tests();
    if (net_print) net_print_goldens();
    return test_end();
}
