/* As much of LiteOS-M as examples/firmware/rtos/liteos.c uses, to compile it against. */
#ifndef LOS_TASK_H
#define LOS_TASK_H
#include <stdint.h>
#define VOID void
#define LOS_OK 0U
typedef uint32_t UINT32;
typedef uint16_t UINT16;
typedef char CHAR;
typedef VOID *(*TSK_ENTRY_FUNC)(UINT32 argument);
typedef struct tagTskInitParam {
    TSK_ENTRY_FUNC pfnTaskEntry;
    UINT16 usTaskPrio;
    UINT32 uwArg, uwStackSize;
    CHAR *pcName;
    UINT32 uwResved;
} TSK_INIT_PARAM_S;
UINT32 LOS_TaskCreate(UINT32 *id, TSK_INIT_PARAM_S *desc);
UINT32 LOS_MS2Tick(UINT32 ms);
#endif
