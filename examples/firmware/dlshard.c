/* dlshard.c - the one file that compiles the implementation. */
#include <stddef.h>
int board_random(void *to, size_t bytes); /* DLS_RANDOM, see Makefile */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
