/* abi_other.c - believes that numbers are doubles; init functions must tell it otherwise. */
#include "dlshard.h"

dls_status other_init(void *mem, size_t bytes);
int other_create(void);

dls_status other_init(void *mem, size_t bytes) {
    dls_net *net = NULL;
    return dls_net_init(&net, NULL, mem, bytes);
}
/* 1 when a network was made all the same. */
int other_create(void) { return dls_net_create(NULL) != NULL; }
