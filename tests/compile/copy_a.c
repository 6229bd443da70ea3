/* copy_a.c - a private copy of the implementation. */
#define DLSHARD_STATIC
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#define COPY copy_a
#include "copy.h"
