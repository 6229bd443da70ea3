/* sum.c - see sum.h. Static memory, no libc but memset. */
#include "sum.h"
#include <string.h>

static uint32_t load32(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static void store32(unsigned char *p, uint32_t v) {
    p[0] = (unsigned char)(v & 255u);
    p[1] = (unsigned char)(v >> 8 & 255u);
    p[2] = (unsigned char)(v >> 16 & 255u);
    p[3] = (unsigned char)(v >> 24);
}
static void add(unsigned char *total, const unsigned char *part) {
    int32_t i;
    for (i = 0; i < SUM_COUNT; i++)
        store32(total + 4 * i, load32(total + 4 * i) + load32(part + 4 * i));
}
void sum_add(unsigned char *total, uint32_t id, uint32_t round) {
    uint32_t i;
    for (i = 0; i < SUM_COUNT; i++)
        store32(total + 4 * i, load32(total + 4 * i) + dls_rand_at(id, round * SUM_COUNT + i));
}
uint32_t sum_hash(const unsigned char *total) { return dls_crc32c(0, total, 4 * SUM_COUNT); }

static void begin(sum *s, uint32_t round, uint64_t now) {
    s->round = round;
    s->step = 0;
    s->next = now + 20000;
    memset(s->total, 0, sizeof s->total);
    sum_add(s->total, s->id, round);
}
void sum_init(sum *s, dls_peer *peer, uint32_t id) {
    memset(s, 0, sizeof *s);
    s->peer = peer;
    s->id = id;
    s->op = -1;
}
/* The coordinator hears of all others in turn, then answers them; step counts both passes. */
static void transfer(sum *s, const dls_view *v, uint32_t tag) {
    const int32_t mine = v->mine;
    const bool leads = v->rank[mine] == v->coordinator;
    const int32_t place = s->step % v->count, whom = leads ? v->rank[place] : v->coordinator;
    const bool hears = leads ? s->step < v->count : s->step == 1;
    if (leads && place == mine)
        s->step++;
    else if (hears)
        s->op = dls_peer_recv(s->peer, whom, tag + (leads ? 0u : 1u), leads ? s->part : s->total,
                              sizeof s->total);
    else
        s->op = dls_peer_send(s->peer, whom, tag + (leads ? 1u : 0u), s->total, sizeof s->total);
}
bool sum_poll(sum *s, uint64_t now) {
    dls_status status;
    dls_view v;
    int32_t steps;
    bool leads;
    dls_peer_view(s->peer, &v);
    if (v.number != s->view) {
        if (s->op >= 0) dls_peer_op_drop(s->peer, s->op);
        s->op = -1;
        s->view = v.number;
        begin(s, 0, now);
    }
    if (v.number == 0 || v.mine < 0 || v.coordinator < 0) return false;
    leads = v.rank[v.mine] == v.coordinator;
    steps = leads ? 2 * v.count : 2;
    if (s->step == steps) begin(s, s->round + 1, now);
    if (s->op < 0) {
        if (s->step > 0 || now >= s->next || !leads)
            transfer(s, &v, v.number << 8 | (s->round & 127u) << 1);
    } else if (dls_peer_op_done(s->peer, s->op, &status)) {
        s->op = -1;
        if (status != DLS_OK) return false; /* again, unless a view without that peer comes first */
        if (leads && s->step < v.count) add(s->total, s->part);
        s->step++;
    }
    return s->step == steps;
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
    for (i = 0; i < v.count && i < 8; i++) {
        *line++ = i == 0 ? ' ' : ',';
        line = sum_number(line, dls_peer_id(s->peer, v.rank[i]), 10);
    }
    *line++ = ' ';
    line = sum_number(line, sum_hash(s->total), 16);
    *line++ = '\n';
    *line = 0;
}
