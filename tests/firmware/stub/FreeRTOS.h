/* As much of FreeRTOS as examples/firmware/rtos/freertos.c uses, to compile it against. */
#ifndef FREERTOS_H
#define FREERTOS_H
#include <stddef.h>
#include <stdint.h>
typedef long BaseType_t;
typedef unsigned long UBaseType_t;
typedef uint32_t TickType_t, StackType_t;
typedef struct StaticTask {
    uint32_t space[32];
} StaticTask_t;
#define pdFALSE ((BaseType_t)0)
#define pdTRUE ((BaseType_t)1)
#define configTICK_RATE_HZ ((TickType_t)1000)
#define pdMS_TO_TICKS(ms) ((TickType_t)(ms)*configTICK_RATE_HZ / (TickType_t)1000)
#define portYIELD_FROM_ISR(higher) ((void)(higher))
#endif
