/* board.h - the few services a bare-metal test has, see board.c. */
#ifndef BOARD_H
#define BOARD_H
#include <stdint.h>

void board_print(const char *text);
void board_print_number(uint32_t number);
void board_exit(uint32_t status);
/* Fills the free stack with a pattern; later: the most bytes of it that were ever used. */
void board_stack_paint(void);
uint32_t board_stack_used(void);
#endif
