/* freertos.c - the peer as a FreeRTOS task that sleeps until bytes come or its engine has work.
   Build it with peer.c (-DPEER_RTOS), sum.c, dlshard.c, a link_*.c and your product's board_*(); static
   allocation and direct-to-task notifications must be configured. */
#include "FreeRTOS.h"
#include "task.h"
#include "../peer.h"

#define STACK_WORDS 1024u /* 4 KiB: about 2.1 are used on a Cortex-M */

void peer_task_start(void);
void peer_task_wake(void);

static StaticTask_t control;
static StackType_t stack[STACK_WORDS];
static TaskHandle_t task;

static void run(void *unused) {
    (void)unused;
    peer_open();
    for (;;) {
        peer_turn();
        (void)ulTaskNotifyTake(pdTRUE, pdMS_TO_TICKS(peer_sleep_ms()));
    }
}

void peer_task_start(void) {
    task = xTaskCreateStatic(run, "dlshard", STACK_WORDS, NULL, tskIDLE_PRIORITY + 2u, stack,
                             &control);
}

/* For the interrupt of the UART or the Ethernet, once bytes are there. */
void peer_task_wake(void) {
    BaseType_t higher = pdFALSE;
    vTaskNotifyGiveFromISR(task, &higher);
    portYIELD_FROM_ISR(higher);
}
