/* board.c - start-up and semihosting console of a Cortex-M that QEMU plays. No vendor code, no
   libc: what the firmware links of those is what dlshard.h needs. */
#include "board.h"

extern uint32_t data_start, data_end, data_load, bss_start, bss_end, stack_bottom, stack_top;
int main(void);
void reset(void);

/* Arm semihosting: a breakpoint that the debugger, here QEMU, answers. */
static void semihost(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

void board_print(const char *text) { semihost(0x04, text); } /* SYS_WRITE0 */

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

void board_exit(uint32_t status) { /* SYS_EXIT_EXTENDED, application exit */
    const uint32_t argument[2] = {0x20026u, status};
    semihost(0x20, argument);
    for (;;) {
    }
}

#define PAINT 0xA5A5A5A5u
#define PAINTED 4096u /* words below the stack pointer that are watched */

void board_stack_paint(void) {
    uint32_t *sp, *p;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    for (p = sp - PAINTED; p < sp - 16; p++) *(volatile uint32_t *)p = PAINT;
}

uint32_t board_stack_used(void) {
    uint32_t *sp, *p;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    for (p = sp - PAINTED + 64; p < sp && *(volatile uint32_t *)p == PAINT; p++) {
    }
    return (uint32_t)(sp - p) * 4u;
}

static void fault(void) {
    board_print("FAULT\n");
    board_exit(70);
}

void reset(void) {
    const uint32_t *from = &data_load;
    uint32_t *to;
    for (to = &data_start; to < &data_end;) *(volatile uint32_t *)to++ = *from++;
    for (to = &bss_start; to < &bss_end;) *(volatile uint32_t *)to++ = 0;
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: the floating-point unit on */
    __asm__ volatile("dsb\n\tisb");
#endif
    board_exit((uint32_t)main());
}

typedef struct vector_table {
    const uint32_t *stack;
    void (*handler[15])(void);
} vector_table;
__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    &stack_top, {reset, fault, fault, fault, fault, fault}};
