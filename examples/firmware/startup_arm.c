/* startup_arm.c - vectors and start of a Cortex-M. No vendor code, no libc start-up. */
#include "semihost.h"

extern uint32_t data_start, data_end, data_load, bss_start, bss_end, stack_bottom, stack_top;
int main(void);
void reset(void);

uintptr_t semihost(uintptr_t operation, const void *argument) {
    register uintptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void fault(void) {
    (void)semihost(0x04, "FAULT\n");
    semihost_exit(70);
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
    board_stack_paint();
    semihost_exit((uint32_t)main());
}

typedef struct vector_table {
    const uint32_t *stack;
    void (*handler[15])(void);
} vector_table;
__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    &stack_top, {reset, fault, fault, fault, fault, fault}};
