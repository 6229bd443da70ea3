/* board.c - start-up, console and stack gauge of examples/firmware, and what tests print with. */
#include "../../examples/firmware/semihost.c"
#include "../../examples/firmware/stack.c"
#include "../../examples/firmware/startup_arm.c"
#include "board.h"

void board_print_number(uint32_t number) {
    char text[11];
    char *p = text + sizeof text;
    *--p = 0;
    do {
        *--p = (char)('0' + number % 10u);
        number /= 10u;
    } while (number > 0);
    board_print(p);
}
void board_exit(uint32_t status) { semihost_exit(status); }
