/* copy_shared.c - the usual, shared implementation. */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#define COPY copy_shared
#include "copy.h"
