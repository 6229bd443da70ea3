/* semihost.c - console, random bytes and boot count from the host that runs QEMU. A PRODUCT MUST
   NOT: it reads a true random generator and counts its starts in flash. */
#include "semihost.h"
#include "board.h"

void board_print(const char *text) { (void)semihost(0x04, text); } /* SYS_WRITE0 */

void semihost_exit(uint32_t status) { /* SYS_EXIT_EXTENDED, application exit */
    uintptr_t argument[2];
    argument[0] = 0x20026u;
    argument[1] = status;
    for (;;) (void)semihost(0x20, argument);
}

int board_random(void *to, size_t bytes) {
    static const char path[] = "/dev/urandom";
    uintptr_t argument[3], file, left;
    argument[0] = (uintptr_t)path;
    argument[1] = 1; /* "rb" */
    argument[2] = sizeof path - 1;
    file = semihost(0x01, argument); /* SYS_OPEN */
    if (file == UINTPTR_MAX) return -1;
    argument[0] = file;
    argument[1] = (uintptr_t)to;
    argument[2] = bytes;
    left = semihost(0x06, argument); /* SYS_READ: bytes not read */
    (void)semihost(0x02, argument);  /* SYS_CLOSE */
    return left == 0 ? 0 : -1;
}

uint32_t board_boot(void) { return (uint32_t)semihost(0x11, NULL); } /* SYS_TIME, seconds */
