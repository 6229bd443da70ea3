/* abi_main.c - the implementation, in float; abi_other.c was compiled with DLS_REAL64=1. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include <stdio.h>

dls_status other_init(void *mem, size_t bytes);
int other_create(void);

int main(void) {
    static union {
        uint64_t align;
        unsigned char bytes[256 * 1024];
    } block;
    dls_net *net = NULL;
    const dls_status mine = dls_net_init(&net, NULL, block.bytes, sizeof block.bytes);
    const dls_status other = other_init(block.bytes, sizeof block.bytes);
    printf("mine: %s\nother: %s\n", dls_status_text(mine), dls_status_text(other));
    return mine != DLS_OK || other != DLS_E_ABI || other_create();
}
