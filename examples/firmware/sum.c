/* sum.c - see sum.h. Static memory, no libc but memset. */
#include "sum.h"
#include <string.h>

#define PAUSE_US 20000 /* between rounds, so that a demonstration leaves a slow line room */

void sum_add(int32_t *total, uint32_t id, uint32_t round) {
    uint32_t i;
    for (i = 0; i < SUM_COUNT; i++) {
        const uint32_t x = dls_rand_at(id, round * SUM_COUNT + i) + (uint32_t)total[i];
        memcpy(&total[i], &x, 4);
    }
}
/* The same on devices of either byte order. */
uint32_t sum_hash(const int32_t *total) {
    uint32_t crc = 0;
    int32_t i;
    for (i = 0; i < SUM_COUNT; i++) {
        const uint32_t x = (uint32_t)total[i];
        unsigned char byte[4];
        byte[0] = (unsigned char)(x & 255u);
        byte[1] = (unsigned char)(x >> 8 & 255u);
        byte[2] = (unsigned char)(x >> 16 & 255u);
        byte[3] = (unsigned char)(x >> 24);
        crc = dls_crc32c(crc, byte, sizeof byte);
    }
    return crc;
}

dls_status sum_init(sum *s, dls_peer *peer, uint32_t id) {
    memset(s, 0, sizeof *s);
    s->peer = peer;
    s->id = id;
    return dls_coll_init(&s->coll, peer, 0, SUM_MEMBERS, s->staging, sizeof s->staging);
}
bool sum_poll(sum *s, uint64_t now) {
    dls_status status;
    dls_view v;
    dls_peer_view(s->peer, &v);
    if (v.number == 0 || v.mine < 0) return false;
    if (v.number != s->view) {
        if (dls_coll_view(&s->coll, &v) != DLS_OK) return false; /* my roster is too old: later */
        s->view = v.number;
        s->round = 0;
        s->under_way = false;
    }
    if (!s->under_way) {
        if (now < s->next) return false;
        memset(s->total, 0, sizeof s->total);
        sum_add(s->total, s->id, s->round);
        /* an error: not all members have found one another yet */
        s->under_way = dls_coll_allreduce(&s->coll, s->total, SUM_COUNT, DLS_REDUCE_SUM_I32) ==
                       DLS_OK;
        if (!s->under_way) s->next = now + PAUSE_US;
        return false;
    }
    if (!dls_coll_poll(&s->coll, &status)) return false;
    s->under_way = false;
    s->next = now + PAUSE_US;
    if (status != DLS_OK) return false; /* a member was lost: the next view begins anew */
    s->round++;
    return true;
}

char *sum_number(char *to, uint32_t number, uint32_t base) {
    char digit[11];
    int32_t n = 0;
    do {
        digit[n++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    while (n > 0) *to++ = digit[--n];
    *to = 0;
    return to;
}
void sum_line(const sum *s, char *line) {
    dls_view v;
    int32_t i;
    dls_peer_view(s->peer, &v);
    memcpy(line, "sum ", 4);
    line = sum_number(line + 4, s->view, 10);
    *line++ = ' ';
    line = sum_number(line, s->round, 10);
    for (i = 0; i < v.count && i < SUM_MEMBERS; i++) {
        *line++ = i == 0 ? ' ' : ',';
        line = sum_number(line, dls_peer_id(s->peer, v.rank[i]), 10);
    }
    *line++ = ' ';
    line = sum_number(line, sum_hash(s->total), 16);
    *line++ = '\n';
    *line = 0;
}
