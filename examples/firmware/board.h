/* board.h - what the hardware does: board_*.c, lan9118.c, and semihost.c in a real one's place. */
#ifndef FIRMWARE_BOARD_H
#define FIRMWARE_BOARD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void board_init(void);
/* Microseconds since the start; never jumps back. */
uint64_t board_now_us(void);
/* Unpredictable bytes; 0: done. Keys depend on it: a product reads its true random generator. */
int board_random(void *to, size_t bytes);
/* Greater at every start; a product counts in flash. */
uint32_t board_boot(void);
void board_print(const char *text);
/* The most bytes of stack that were ever used; startup_*.c fills it with a pattern. */
uint32_t board_stack_used(void);
/* UART: bytes that came, or went; never waits. */
size_t board_read(void *to, size_t most);
size_t board_write(const void *from, size_t bytes);
/* Ethernet: whole frames; eth_receive: 0 when there is none. */
bool eth_open(uint8_t *mac6);
void eth_send(const void *frame, size_t bytes);
size_t eth_receive(void *frame, size_t most);
#endif
