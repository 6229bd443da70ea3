/* A link simulator with virtual time, in nanoseconds: senders of two kinds, ours (dls_flow) and a
   model of a CUBIC or Reno TCP, share one bottleneck with a FIFO queue of so many bytes; behind it
   each has its own propagation delay, and its acks come back over a path without a queue. Random
   and burst losses happen behind the bottleneck, so lost packets have used its time. One seed, one
   course of events. */
#ifndef SIM_H
#define SIM_H

typedef struct sim_desc {
    double rate;                         /* bytes per second */
    double queue;                        /* bytes */
    double loss, ack_loss, dup, reorder; /* probabilities per packet */
    double burst;              /* losses come in runs of about so many packets; 0: single ones */
    double jitter_us;          /* uniform, in order */
    double reorder_us;         /* what a reordered packet is late */
    double down_from, down_to; /* seconds: nothing passes in either direction */
    uint32_t mtu;
    int32_t ring;
    uint64_t seed;
} sim_desc;

enum { SIM_FLOW, SIM_CUBIC, SIM_RENO };
typedef struct sim_packet {
    int32_t next; /* of the free ones */
    int32_t end;  /* which endpoint it is for */
    int32_t bytes;
    bool ack;
    uint64_t pn, sent;
    uint32_t id;
    int32_t body_bytes;
    unsigned char body[DLS_FLOW_ACK_BYTES];
} sim_packet;

enum { SIM_WAITING = 0, SIM_UNDER_WAY, SIM_ARRIVED };
typedef struct sim_end {
    int32_t kind;
    double start, stop; /* seconds of sending */
    uint64_t delay;     /* one way, ns */
    bool busy, rx_busy; /* its wake-up is in the heap; its receiver's */
    uint64_t wake_at, rx_wake_at, last_arrival, last_ack_arrival;
    uint64_t delivered, sent; /* bytes, first arrivals only */
    /* ours */
    dls_flow tx, rx;
    dls_path path;
    dls_sent *ring;
    uint64_t pn, rx_pn;
    uint32_t next_id, ids_max, limit; /* limit: contents to send, 0: endless */
    uint8_t *id_state;                /* bit 0: arrived, bit 1: acked, 2: queued again, 4: out */
    uint32_t *again, again_n, acked, lost, wrong, probes, again_max;
    uint64_t clock_skew; /* what this end's clock says more than the simulator's */
    /* TCP */
    double cwnd, ssthresh, w_max, k, epoch, w_est, srtt, min_rtt, round_min;
    uint64_t snd, una_time, recover, high;
    double *sent_at;
    uint8_t *state; /* 1: out, 2: acked, 3: lost */
    uint64_t lowest;
    int32_t flight, samples;
    uint64_t round_end;
} sim_end;

typedef struct sim_event {
    uint64_t time, order;
    int32_t what, index;
} sim_event;
enum { SIM_ARRIVE, SIM_WAKE, SIM_LINK };

#define SIM_ENDS 6
typedef struct sim {
    sim_desc d;
    sim_end end[SIM_ENDS];
    int32_t ends;
    uint64_t now, order;
    sim_event *heap;
    int32_t heap_n, heap_max;
    sim_packet *packet;
    int32_t packets, free_packet;
    int32_t *fifo;
    uint32_t fifo_in, fifo_out; /* of 65536 */
    double queued;
    bool link_busy;
    int32_t burst_left;
    uint64_t drops, losses;
    dls_rng rng;
} sim;

static double sim_random(sim *s) { return dls_rng_uniform(&s->rng); }
static bool sim_chance(sim *s, double p) { return p > 0 && sim_random(s) < p; }

static void sim_push(sim *s, uint64_t time, int32_t what, int32_t index) {
    sim_event e;
    int32_t i;
    e.time = time;
    e.order = s->order++;
    e.what = what;
    e.index = index;
    if (s->heap_n == s->heap_max) {
        s->heap_max = s->heap_max * 2 + 1024;
        s->heap = (sim_event *)realloc(s->heap, (size_t)s->heap_max * sizeof *s->heap);
    }
    for (i = s->heap_n++; i > 0; i = (i - 1) / 2) {
        const sim_event *up = &s->heap[(i - 1) / 2];
        if (up->time < e.time || (up->time == e.time && up->order < e.order)) break;
        s->heap[i] = *up;
    }
    s->heap[i] = e;
}
static bool sim_before(const sim_event *a, const sim_event *b) {
    return a->time < b->time || (a->time == b->time && a->order < b->order);
}
static sim_event sim_pop(sim *s) {
    const sim_event first = s->heap[0], last = s->heap[--s->heap_n];
    int32_t i = 0;
    for (;;) {
        int32_t k = 2 * i + 1;
        if (k >= s->heap_n) break;
        if (k + 1 < s->heap_n && sim_before(&s->heap[k + 1], &s->heap[k])) k++;
        if (sim_before(&last, &s->heap[k])) break;
        s->heap[i] = s->heap[k];
        i = k;
    }
    s->heap[i] = last;
    return first;
}
static int32_t sim_packet_new(sim *s) {
    int32_t i = s->free_packet;
    if (i < 0) {
        i = s->packets++;
        if ((i & (i - 1)) == 0)
            s->packet = (sim_packet *)realloc(s->packet, ((size_t)i * 2 + 1) * sizeof *s->packet);
    } else
        s->free_packet = s->packet[i].next;
    memset(&s->packet[i], 0, offsetof(sim_packet, body));
    return i;
}
static void sim_packet_free(sim *s, int32_t i) {
    s->packet[i].next = s->free_packet;
    s->free_packet = i;
}
static bool sim_down(const sim *s) {
    const double t = (double)s->now * 1e-9;
    return t >= s->d.down_from && t < s->d.down_to;
}
static void sim_wake(sim *s, int32_t end, uint64_t at) {
    sim_end *e = &s->end[end];
    if (e->busy && e->wake_at <= at) return;
    e->busy = true;
    e->wake_at = at;
    sim_push(s, at, SIM_WAKE, end);
}

/* ---- Link ---- */

static void sim_arrive_later(sim *s, int32_t packet, bool ack) {
    sim_packet *p = &s->packet[packet];
    sim_end *e = &s->end[p->end];
    uint64_t *last = ack ? &e->last_ack_arrival : &e->last_arrival;
    uint64_t at = s->now + e->delay + (uint64_t)(s->d.jitter_us * 1000 * sim_random(s));
    if (at < *last) at = *last;
    if (sim_chance(s, s->d.reorder))
        at += (uint64_t)(s->d.reorder_us * 1000);
    else
        *last = at;
    if (sim_chance(s, s->d.dup)) {
        const int32_t copy = sim_packet_new(s);
        s->packet[copy] = s->packet[packet];
        sim_push(s, at + 1000, SIM_ARRIVE, copy);
    }
    sim_push(s, at, SIM_ARRIVE, packet);
}
static bool sim_lost(sim *s) {
    if (sim_down(s)) return true;
    if (s->burst_left > 0) {
        s->burst_left--;
        return true;
    }
    if (s->d.burst <= 1) return sim_chance(s, s->d.loss);
    if (!sim_chance(s, s->d.loss / s->d.burst)) return false;
    s->burst_left = (int32_t)(s->d.burst * 2 * sim_random(s));
    return true;
}
static void sim_link_next(sim *s) {
    const sim_packet *p = &s->packet[s->fifo[s->fifo_out & 65535]];
    s->link_busy = true;
    sim_push(s, s->now + (uint64_t)((double)p->bytes * 1e9 / s->d.rate), SIM_LINK, 0);
}
static void sim_link_done(sim *s) {
    const int32_t packet = s->fifo[s->fifo_out++ & 65535];
    s->queued -= s->packet[packet].bytes;
    s->link_busy = false;
    if (s->fifo_in != s->fifo_out) sim_link_next(s);
    if (sim_lost(s)) {
        s->losses++;
        sim_packet_free(s, packet);
    } else
        sim_arrive_later(s, packet, false);
}
static void sim_send(sim *s, int32_t packet) {
    sim_packet *p = &s->packet[packet];
    p->sent = s->now;
    if (p->ack) {
        if (sim_down(s) || sim_chance(s, s->d.ack_loss))
            sim_packet_free(s, packet);
        else
            sim_arrive_later(s, packet, true);
        return;
    }
    if ((s->queued > 0 && s->queued + p->bytes > s->d.queue) || s->fifo_in - s->fifo_out > 65535) {
        s->drops++;
        sim_packet_free(s, packet);
        return;
    }
    s->queued += p->bytes;
    s->fifo[s->fifo_in++ & 65535] = packet;
    if (!s->link_busy) sim_link_next(s);
}

/* ---- Ours: end sends contents 0, 1, 2 ... and those that were lost again ---- */

static uint64_t sim_us(const sim *s, const sim_end *e) { return s->now / 1000 + e->clock_skew; }

static void sim_flow_take(sim_end *e) {
    uint32_t ref[4];
    while (dls_flow_next_acked(&e->tx, ref)) {
        if (ref[0] == UINT32_MAX) continue; /* a probe without content */
        e->wrong += (e->id_state[ref[0]] & 4) == 0 || ref[1] != ~ref[0] || ref[3] != 77;
        e->id_state[ref[0]] = (uint8_t)((e->id_state[ref[0]] & ~4) | 2);
        e->acked++;
    }
    while (dls_flow_next_lost(&e->tx, ref)) {
        if (ref[0] == UINT32_MAX) continue;
        e->wrong += (e->id_state[ref[0]] & 4) == 0 || ref[1] != ~ref[0];
        e->id_state[ref[0]] &= (uint8_t)~4;
        e->lost++;
        if (e->again_n == e->again_max) {
            e->again_max = e->again_max * 2 + 64;
            e->again = (uint32_t *)realloc(e->again, e->again_max * sizeof *e->again);
        }
        e->again[e->again_n++] = ref[0];
    }
}
static void sim_flow_send(sim *s, int32_t end, uint32_t id) {
    sim_end *e = &s->end[end];
    const int32_t packet = sim_packet_new(s);
    sim_packet *p = &s->packet[packet];
    uint32_t ref[4] = {0, 0, 0, 77};
    ref[0] = id;
    ref[1] = ~id;
    p->end = end;
    p->bytes = id == UINT32_MAX ? 30 : (int32_t)s->d.mtu;
    p->pn = e->pn++;
    p->id = id;
    if (id != UINT32_MAX) {
        e->wrong += (e->id_state[id] & 4) != 0;
        e->id_state[id] |= 4;
    }
    e->sent += (uint64_t)p->bytes;
    dls_flow_sent(&e->tx, p->pn, (uint32_t)p->bytes, true, ref, sim_us(s, e));
    sim_send(s, packet);
}
static void sim_flow_wake(sim *s, int32_t end) {
    sim_end *e = &s->end[end];
    const double t = (double)s->now * 1e-9;
    const bool sending = t >= e->start && t < e->stop;
    uint64_t deadline;
    dls_flow_tick(&e->tx, sim_us(s, e));
    sim_flow_take(e);
    while (sending && dls_flow_room(&e->tx, sim_us(s, e)) > 0) {
        uint32_t id;
        if (e->again_n > 0) {
            id = e->again[0];
            memmove(e->again, e->again + 1, --e->again_n * sizeof *e->again);
        } else if (e->limit > 0 && e->next_id == e->limit)
            break;
        else {
            if (e->next_id == e->ids_max) {
                e->ids_max = e->ids_max * 2 + 65536;
                e->id_state = (uint8_t *)realloc(e->id_state, e->ids_max);
                memset(e->id_state + e->next_id, 0, e->ids_max - e->next_id);
            }
            id = e->next_id++;
        }
        if ((e->id_state[id] & 2) != 0) continue;
        sim_flow_send(s, end, id);
    }
    if (dls_flow_probe(&e->tx)) {
        e->probes++;
        sim_flow_send(s, end, UINT32_MAX);
    }
    deadline = dls_flow_deadline(&e->tx);
    if (deadline != UINT64_MAX) {
        uint64_t at = (deadline - e->clock_skew) * 1000;
        if (at <= s->now) at = s->now + 1000;
        sim_wake(s, end, at);
    }
    if (t < e->start) sim_wake(s, end, (uint64_t)(e->start * 1e9));
}
static void sim_flow_ack(sim *s, int32_t end) {
    sim_end *e = &s->end[end];
    const uint64_t now = s->now / 1000;
    uint64_t deadline;
    if (dls_flow_ack_due(&e->rx, now)) {
        const int32_t packet = sim_packet_new(s);
        sim_packet *p = &s->packet[packet];
        p->end = end;
        p->ack = true;
        p->pn = e->rx_pn++;
        p->body_bytes = (int32_t)dls_flow_ack_write(&e->rx, p->body, sizeof p->body, now);
        dls_flow_sent(&e->rx, p->pn, (uint32_t)p->body_bytes, false, NULL, now);
        sim_send(s, packet);
    }
    deadline = dls_flow_deadline(&e->rx);
    if (deadline != UINT64_MAX) {
        const uint64_t at = deadline * 1000 > s->now ? deadline * 1000 : s->now + 1000;
        if (e->rx_busy && e->rx_wake_at <= at) return;
        e->rx_busy = true;
        e->rx_wake_at = at;
        sim_push(s, at, SIM_WAKE, end + SIM_ENDS); /* the receiver's */
    }
}
static void sim_flow_arrive(sim *s, int32_t end, const sim_packet *p) {
    sim_end *e = &s->end[end];
    if (p->ack) {
        size_t used = 0;
        e->wrong += dls_flow_ack_read(&e->tx, p->body, (size_t)p->body_bytes, &used,
                                      sim_us(s, e)) != DLS_OK;
        e->wrong += used != (size_t)p->body_bytes;
        sim_flow_take(e);
        dls_flow_received(&e->tx, p->pn, false, sim_us(s, e));
        sim_flow_wake(s, end);
        return;
    }
    if (p->id != UINT32_MAX && (e->id_state[p->id] & 1) == 0) {
        e->id_state[p->id] |= 1;
        e->delivered += (uint64_t)p->bytes;
    }
    dls_flow_received(&e->rx, p->pn, true, s->now / 1000);
    sim_flow_ack(s, end);
}

/* ---- TCP: SACK by unique numbers, CUBIC of RFC 9438 with HyStart as in Linux, or Reno ---- */

#define SIM_TCP_MAX 4000000
static void sim_tcp_send(sim *s, int32_t end) {
    sim_end *e = &s->end[end];
    const double t = (double)s->now * 1e-9;
    while (t >= e->start && t < e->stop && e->flight + 1 <= e->cwnd && e->snd < SIM_TCP_MAX) {
        const int32_t packet = sim_packet_new(s);
        sim_packet *p = &s->packet[packet];
        p->end = end;
        p->bytes = 1500;
        p->pn = e->snd++;
        e->sent_at[p->pn] = t;
        e->state[p->pn] = 1;
        e->flight++;
        sim_send(s, packet);
    }
    if (e->flight > 0) sim_wake(s, end, s->now + (uint64_t)((e->srtt * 2 + 0.2) * 1e9));
    if (t < e->start) sim_wake(s, end, (uint64_t)(e->start * 1e9));
}
static void sim_tcp_cut(sim *s, sim_end *e) {
    const double beta = e->kind == SIM_RENO ? 0.5 : 0.7;
    (void)s;
    e->w_max = e->cwnd < e->w_max ? e->cwnd * (1 + beta) / 2 : e->cwnd;
    e->cwnd = e->ssthresh = e->cwnd * beta < 2 ? 2 : e->cwnd * beta;
    e->epoch = -1;
    e->recover = e->snd;
}
static void sim_tcp_grow(sim_end *e, double t) {
    double target;
    if (e->cwnd < e->ssthresh) {
        e->cwnd += 1;
        return;
    }
    if (e->kind == SIM_RENO) {
        e->cwnd += 1 / e->cwnd;
        return;
    }
    if (e->epoch < 0) {
        e->epoch = t;
        if (e->w_max < e->cwnd) e->w_max = e->cwnd;
        e->k = cbrt((e->w_max - e->cwnd) / 0.4);
        e->w_est = e->cwnd;
    }
    e->w_est += (e->w_est < e->w_max ? 0.53 : 1) / e->cwnd;
    target = 0.4 * pow(t - e->epoch + e->srtt - e->k, 3) + e->w_max;
    if (target > 1.5 * e->cwnd) target = 1.5 * e->cwnd;
    if (target > e->cwnd) e->cwnd += (target - e->cwnd) / e->cwnd;
    if (e->w_est > e->cwnd) e->cwnd = e->w_est;
}
static void sim_tcp_acked(sim *s, sim_end *e, uint64_t pn) {
    const double t = (double)s->now * 1e-9, rtt = t - e->sent_at[pn];
    if (e->state[pn] == 1) e->flight--;
    if (e->state[pn] == 2) return;
    e->state[pn] = 2;
    e->srtt = e->srtt == 0 ? rtt : e->srtt * 0.875 + rtt * 0.125;
    if (e->min_rtt == 0 || rtt < e->min_rtt) e->min_rtt = rtt;
    if (pn >= e->round_end) {
        e->round_end = e->snd;
        e->round_min = 1e9;
        e->samples = 0;
    }
    if (rtt < e->round_min) e->round_min = rtt;
    if (++e->samples == 8 && e->cwnd < e->ssthresh && e->cwnd >= 16) {
        double eta = e->min_rtt / 8;
        if (eta < 0.004) eta = 0.004;
        if (eta > 0.016) eta = 0.016;
        if (e->round_min > e->min_rtt + eta) e->ssthresh = e->cwnd;
    }
    if (pn >= e->recover) sim_tcp_grow(e, t);
}
static void sim_tcp_arrive(sim *s, int32_t end, const sim_packet *p) {
    sim_end *e = &s->end[end];
    if (!p->ack) {
        const int32_t packet = sim_packet_new(s);
        s->packet[packet].end = end;
        s->packet[packet].ack = true;
        s->packet[packet].pn = p->pn;
        if (e->state[p->pn] != 3) e->delivered += (uint64_t)p->bytes;
        sim_send(s, packet);
        return;
    }
    e->una_time = s->now;
    sim_tcp_acked(s, e, p->pn);
    if (p->pn > e->high) e->high = p->pn;
    for (; e->lowest + 3 <= e->high; e->lowest++)
        if (e->state[e->lowest] == 1) {
            e->state[e->lowest] = 3;
            e->flight--;
            if (e->lowest >= e->recover) sim_tcp_cut(s, e);
        }
    sim_tcp_send(s, end);
}
static void sim_tcp_wake(sim *s, int32_t end) {
    sim_end *e = &s->end[end];
    if (e->flight > 0 && (double)(s->now - e->una_time) * 1e-9 > e->srtt * 2 + 0.19) {
        sim_tcp_cut(s, e); /* timeout: all is lost */
        for (; e->lowest < e->snd; e->lowest++)
            if (e->state[e->lowest] == 1) e->state[e->lowest] = 3;
        e->flight = 0;
        e->cwnd = 1;
        e->una_time = s->now;
    }
    sim_tcp_send(s, end);
}

/* ---- All ---- */

static void sim_init(sim *s, const sim_desc *d) {
    memset(s, 0, sizeof *s);
    s->d = *d;
    s->rng.seed = d->seed;
    s->free_packet = -1;
    s->fifo = (int32_t *)malloc(65536 * sizeof *s->fifo);
}
/* kind SIM_x; rtt_us: propagation there and back; seconds from, to. */
static sim_end *sim_add(sim *s, int32_t kind, double rtt_us, double from, double to) {
    sim_end *e = &s->end[s->ends++];
    e->kind = kind;
    e->delay = (uint64_t)(rtt_us * 500);
    e->start = from;
    e->stop = to;
    if (kind == SIM_FLOW) {
        e->ring = (dls_sent *)malloc((size_t)s->d.ring * sizeof *e->ring);
        CHECK_STATUS(dls_flow_init(&e->tx, e->ring, s->d.ring, s->d.mtu,
                                   s->d.ring > 16 ? &e->path : NULL, 0),
                     DLS_OK);
        CHECK_STATUS(
            dls_flow_init(&e->rx, (dls_sent *)calloc(4, sizeof(dls_sent)), 4, s->d.mtu, NULL, 0),
            DLS_OK);
    } else {
        e->cwnd = 10;
        e->ssthresh = 1e9;
        e->epoch = -1;
        e->sent_at = (double *)malloc(SIM_TCP_MAX * sizeof *e->sent_at);
        e->state = (uint8_t *)calloc(SIM_TCP_MAX, 1);
    }
    sim_wake(s, s->ends - 1, (uint64_t)(from * 1e9));
    return e;
}
static void sim_step(sim *s) {
    const sim_event event = sim_pop(s);
    s->now = event.time;
    if (event.what == SIM_LINK)
        sim_link_done(s);
    else if (event.what == SIM_ARRIVE) {
        const sim_packet p = s->packet[event.index]; /* a copy: packets may move */
        sim_packet_free(s, event.index);
        if (s->end[p.end].kind == SIM_FLOW)
            sim_flow_arrive(s, p.end, &p);
        else
            sim_tcp_arrive(s, p.end, &p);
    } else if (event.index >= SIM_ENDS) {
        sim_end *e = &s->end[event.index - SIM_ENDS];
        if (!e->rx_busy || e->rx_wake_at != event.time) return;
        e->rx_busy = false;
        sim_flow_ack(s, event.index - SIM_ENDS);
    } else {
        sim_end *e = &s->end[event.index];
        if (!e->busy || e->wake_at != event.time) return;
        e->busy = false;
        if (e->kind == SIM_FLOW)
            sim_flow_wake(s, event.index);
        else
            sim_tcp_wake(s, event.index);
    }
}
static void sim_run(sim *s, double until) {
    while (s->heap_n > 0 && (double)s->heap[0].time * 1e-9 < until) sim_step(s);
    s->now = (uint64_t)(until * 1e9);
}
static void sim_free(sim *s) {
    int32_t i;
    for (i = 0; i < s->ends; i++) {
        sim_end *e = &s->end[i];
        free(e->ring);
        free(e->rx.ring);
        free(e->id_state);
        free(e->again);
        free(e->sent_at);
        free(e->state);
    }
    free(s->heap);
    free(s->packet);
    free(s->fifo);
}
#endif
