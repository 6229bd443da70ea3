/* board_virt.c - QEMU's riscv32 "virt": 16550 UART, CLINT timer. */
#include "peer.h"

#define UART ((volatile uint8_t *)0x10000000u)
#define MTIME ((volatile uint32_t *)0x0200BFF8u) /* 10 MHz */

void board_init(void) { UART[2] = 1; /* buffers on */ }
uint64_t board_now_us(void) {
    uint32_t high, low;
    do {
        high = MTIME[1];
        low = MTIME[0];
    } while (MTIME[1] != high);
    return ((uint64_t)high << 32 | low) / 10u;
}
size_t board_read(void *to, size_t most) {
    size_t n = 0;
    while (n < most && (UART[5] & 1u) != 0) ((unsigned char *)to)[n++] = UART[0];
    return n;
}
size_t board_write(const void *from, size_t bytes) {
    size_t n = 0;
    while (n < bytes && (UART[5] & 0x20u) != 0) UART[0] = ((const unsigned char *)from)[n++];
    return n;
}
