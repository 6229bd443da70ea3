/* board.h - the few services a bare-metal test has, see board.c. */
#ifndef BOARD_H
#define BOARD_H
#include "../../examples/firmware/board.h"

void board_print_number(uint32_t number);
void board_exit(uint32_t status);
/* Fills the free stack with a pattern, for board_stack_used(). */
void board_stack_paint(void);
#endif
