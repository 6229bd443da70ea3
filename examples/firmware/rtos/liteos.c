/* liteos.c - the peer as a LiteOS-M task that sleeps until bytes come or its engine has work. Build
   it with peer.c (-DPEER_RTOS), sum.c, dlshard.c, a link_*.c and your product's board_*(). */
#include "los_sem.h"
#include "los_task.h"
#include "../peer.h"
#include <string.h>

#define STACK_BYTES 4096u /* about 2.1 KiB are used on a Cortex-M */
#define PRIORITY 10u

UINT32 peer_task_start(VOID);
VOID peer_task_wake(VOID);

static UINT32 bytes_came;

static VOID *run(UINT32 unused) {
    (VOID)unused;
    peer_open();
    for (;;) {
        peer_turn();
        (VOID)LOS_SemPend(bytes_came, LOS_MS2Tick(peer_sleep_ms()));
    }
    return NULL;
}

/* LOS_OK, or the kernel's error. */
UINT32 peer_task_start(VOID) {
    static CHAR name[] = "dlshard";
    TSK_INIT_PARAM_S desc;
    UINT32 task, status = LOS_BinarySemCreate(0, &bytes_came);
    if (status != LOS_OK) return status;
    memset(&desc, 0, sizeof desc);
    desc.pfnTaskEntry = run;
    desc.usTaskPrio = PRIORITY;
    desc.uwStackSize = STACK_BYTES;
    desc.pcName = name;
    return LOS_TaskCreate(&task, &desc);
}

/* For the interrupt of the UART or the Ethernet, once bytes are there. */
VOID peer_task_wake(VOID) { (VOID)LOS_SemPost(bytes_came); }
