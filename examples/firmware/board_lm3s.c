/* board_lm3s.c - QEMU's lm3s6965evb: Cortex-M3, 256 KiB of flash, 64 KiB of RAM, PL011 UART. */
#include "peer.h"

#define UART(offset) (*(volatile uint32_t *)(0x4000C000u + (offset)))
#define SYSTICK(offset) (*(volatile uint32_t *)(0xE000E010u + (offset)))
#define TICKS_PER_US_TIMES_2 25u /* 12.5 MHz after reset */

void board_init(void) {
    SYSTICK(4) = 0xFFFFFFu;
    SYSTICK(8) = 0;
    SYSTICK(0) = 5;       /* on, by the processor's clock, no interrupt */
    UART(0x2C) = 0x70;    /* 8 bits, buffers on */
    UART(0x30) = 0x301;   /* on, both ways */
}
/* Counts what SysTick has counted down since the last call: one a second is often enough. */
uint64_t board_now_us(void) {
    static uint64_t ticks;
    static uint32_t last = 0xFFFFFFu;
    const uint32_t now = SYSTICK(8);
    ticks += (last - now) & 0xFFFFFFu;
    last = now;
    return ticks * 2 / TICKS_PER_US_TIMES_2;
}
size_t board_read(void *to, size_t most) {
    size_t n = 0;
    while (n < most && (UART(0x18) & 0x10u) == 0) ((unsigned char *)to)[n++] = (unsigned char)UART(0);
    return n;
}
size_t board_write(const void *from, size_t bytes) {
    size_t n = 0;
    while (n < bytes && (UART(0x18) & 0x20u) == 0) UART(0) = ((const unsigned char *)from)[n++];
    return n;
}
