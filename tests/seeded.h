/* seeded.h - dlshard.h with its implementation, where random numbers, keys and ephemerals too, are
   drawn from random_state: the same seed gives the same run. */
#ifndef SEEDED_H
#define SEEDED_H
#include <stddef.h>
int sim_random(void *to, size_t bytes);
#define DLS_RANDOM(to, bytes) sim_random(to, bytes)
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

static dls_rng random_state;
int sim_random(void *to, size_t bytes) {
    unsigned char *p = (unsigned char *)to;
    while (bytes-- > 0) *p++ = (unsigned char)dls_rng_u32(&random_state);
    return 0;
}
#endif
