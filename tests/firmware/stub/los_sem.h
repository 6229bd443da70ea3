#ifndef LOS_SEM_H
#define LOS_SEM_H
#include "los_task.h"
UINT32 LOS_BinarySemCreate(UINT16 count, UINT32 *handle);
UINT32 LOS_SemPend(UINT32 handle, UINT32 ticks);
UINT32 LOS_SemPost(UINT32 handle);
#endif
