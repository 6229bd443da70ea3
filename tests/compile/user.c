/* user.c - a file that only declares, and uses the shared implementation of another. */
#include "dlshard.h"
#include <string.h>
#define COPY copy_user
#include "copy.h"
