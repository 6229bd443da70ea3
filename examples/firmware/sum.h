/* sum.h - all-reduce of a small array over the members of the current view, by a star: members send
   theirs to the coordinator, which sends back the sum. Again and again; a new view starts over at
   round 0. Used by the firmware and by the hosts of its test. */
#ifndef SUM_H
#define SUM_H
#include "dlshard.h"

#define SUM_COUNT 64
#define SUM_LINE 160

typedef struct sum {
    dls_peer *peer;
    uint32_t id;    /* mine */
    uint32_t view;  /* number of the view at work, 0: none yet */
    uint32_t round; /* of this view */
    int32_t step;   /* transfers of this round so far */
    int32_t op;     /* the one under way, -1: none */
    uint64_t next;  /* when the coordinator begins a round */
    unsigned char total[4 * SUM_COUNT], part[4 * SUM_COUNT]; /* int32, little-endian as they travel */
} sum;

void sum_init(sum *s, dls_peer *peer, uint32_t id);
/* Goes on; true: a round is finished, its result in s->total until the next call. */
bool sum_poll(sum *s, uint64_t now);
/* "sum VIEW ROUND ID,ID,... HASH\n" of the round just finished. line: SUM_LINE bytes. */
void sum_line(const sum *s, char *line);
/* Adds what device id gives in a round; with every member's added: what all must have. */
void sum_add(unsigned char *total, uint32_t id, uint32_t round);
uint32_t sum_hash(const unsigned char *total);
/* Text with a number after it, in base 10 or 16. Returns the end. */
char *sum_number(char *to, uint32_t number, uint32_t base);
#endif
