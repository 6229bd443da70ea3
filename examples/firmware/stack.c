/* stack.c - how much stack is used: it is filled with a pattern, and what lost it was used. */
#include "board.h"
#include "semihost.h"

#define PATTERN 0xA5A5A5A5u

extern uint32_t stack_bottom, stack_top;

void board_stack_paint(void) {
    const uintptr_t end = (uintptr_t)__builtin_frame_address(0) - 64; /* below it: in use */
    volatile uint32_t *p;
    for (p = &stack_bottom; (uintptr_t)p < end; p++) *p = PATTERN;
}
uint32_t board_stack_used(void) {
    const volatile uint32_t *p = &stack_bottom;
    while (p < &stack_top && *p == PATTERN) p++;
    return (uint32_t)((uintptr_t)&stack_top - (uintptr_t)p);
}
