/* semihost.h - what a debugger, here QEMU, does for a program: not there on a real board. */
#ifndef SEMIHOST_H
#define SEMIHOST_H
#include <stddef.h>
#include <stdint.h>

uintptr_t semihost(uintptr_t operation, const void *argument); /* startup_*.c */
void semihost_exit(uint32_t status);
void board_stack_paint(void); /* stack.c */
#endif
