/* sum.h - all-reduce of a small array over the members of the current view, again and again; a new
   view starts over at round 0. Used by the firmware and by the hosts of its test. */
#ifndef SUM_H
#define SUM_H
#include "dlshard.h"

#define SUM_COUNT 64
#define SUM_MEMBERS 8
#define SUM_LINE 160

typedef struct sum {
    dls_peer *peer;
    dls_coll coll;
    uint32_t id;    /* mine */
    uint32_t view;  /* number of the view at work, 0: none yet */
    uint32_t round; /* rounds of this view so far */
    bool under_way;
    uint64_t next; /* when the next round may begin */
    int32_t total[SUM_COUNT];
    uint64_t staging[128]; /* dls_coll_size(SUM_MEMBERS, sizeof total) bytes or more */
} sum;

/* Errors: as dls_coll_init(). */
dls_status sum_init(sum *s, dls_peer *peer, uint32_t id);
/* Goes on; true: a round is finished, its result in s->total until the next call. */
bool sum_poll(sum *s, uint64_t now);
/* "sum VIEW ROUNDS ID,ID,... HASH\n" after a round. line: SUM_LINE bytes. */
void sum_line(const sum *s, char *line);
/* Adds what device id gives in a round, from 0; with every member's added: what all must have. */
void sum_add(int32_t *total, uint32_t id, uint32_t round);
uint32_t sum_hash(const int32_t *total);
/* Writes a number in base 10 or 16 and a zero. Returns the end. */
char *sum_number(char *to, uint32_t number, uint32_t base);
#endif
