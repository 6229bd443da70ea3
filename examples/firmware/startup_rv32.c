/* startup_rv32.c - start of a bare RV32 in machine mode. */
#include "semihost.h"

extern uint32_t data_start, data_end, data_load, bss_start, bss_end;
int main(void);
void start(void);

__attribute__((naked, section(".vectors"), used)) void entry(void) {
    __asm__ volatile(".option push\n.option norelax\n\tla gp, __global_pointer$\n.option pop\n"
                     "\tla sp, stack_top\n\tla t0, fault\n\t.option arch, +zicsr\n"
                     "\tcsrw mtvec, t0\n\ttail start");
}

/* The three instructions, uncompressed, are how a debugger knows the call. */
__attribute__((naked, noinline)) uintptr_t semihost(uintptr_t operation, const void *argument) {
    (void)operation;
    (void)argument;
    __asm__ volatile(".balign 16\n.option push\n.option norvc\n\tslli x0, x0, 0x1f\n\tebreak\n"
                     "\tsrai x0, x0, 7\n.option pop\n\tret");
}

__attribute__((aligned(4), used)) void fault(void) {
    (void)semihost(0x04, "FAULT\n");
    semihost_exit(70);
}

__attribute__((used)) void start(void) {
    const uint32_t *from = &data_load;
    uint32_t *to;
    for (to = &data_start; to < &data_end;) *(volatile uint32_t *)to++ = *from++;
    for (to = &bss_start; to < &bss_end;) *(volatile uint32_t *)to++ = 0;
    board_stack_paint();
    semihost_exit((uint32_t)main());
}
