/* copy_b.c - another private copy of the implementation. */
#define DLSHARD_STATIC
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#define COPY copy_b
#include "copy.h"
