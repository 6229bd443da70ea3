/* board_mps2.c - Arm's MPS2 boards as QEMU has them, an386 (Cortex-M4F) and an500 (M7): CMSDK UART;
   their Ethernet is in lan9118.c. */
#include "peer.h"

#define UART(offset) (*(volatile uint32_t *)(0x40004000u + (offset)))
#define SYSTICK(offset) (*(volatile uint32_t *)(0xE000E010u + (offset)))
#define TICKS_PER_US 25u

void board_init(void) {
    SYSTICK(4) = 0xFFFFFFu;
    SYSTICK(8) = 0;
    SYSTICK(0) = 5;  /* on, by the processor's clock, no interrupt */
    UART(0x10) = 16; /* the fastest */
    UART(0x08) = 3;  /* on, both ways */
}
/* Counts what SysTick has counted down since the last call: twice a second is often enough. */
uint64_t board_now_us(void) {
    static uint64_t ticks;
    static uint32_t last = 0xFFFFFFu;
    const uint32_t now = SYSTICK(8);
    ticks += (last - now) & 0xFFFFFFu;
    last = now;
    return ticks / TICKS_PER_US;
}
size_t board_read(void *to, size_t most) {
    size_t n = 0;
    while (n < most && (UART(4) & 2u) != 0) ((unsigned char *)to)[n++] = (unsigned char)UART(0);
    return n;
}
size_t board_write(const void *from, size_t bytes) {
    size_t n = 0;
    while (n < bytes && (UART(4) & 1u) == 0) UART(0) = ((const unsigned char *)from)[n++];
    return n;
}
