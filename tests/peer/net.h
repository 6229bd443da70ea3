/* Up to 8 engines on links that lose, double, delay, reorder and damage, with a clock that stands
   still until something is due: datagrams between all by address, serial lines between two. Engines
   are ticked at their deadlines and never else; every packet stands in a block of its exact
   size. */
#define NET_MAX 8
#define NET_LINES 4
#define NET_MTU 300

typedef struct net_item { /* a packet, or bytes of a serial line, on its way */
    uint64_t at;
    int32_t from, to, line; /* line -1: a packet */
    size_t n;
    unsigned char *bytes;
} net_item;
typedef struct net_line {
    int32_t end[2], port[2];
    unsigned char *mem[2];
    uint64_t free_at[2]; /* when end 0, 1 may write again */
} net_line;
typedef struct net {
    int32_t n, lines, items, room;
    dls_peer *peer[NET_MAX];
    unsigned char *mem[NET_MAX];
    size_t bytes[NET_MAX];
    bool dead[NET_MAX], cut[NET_MAX][NET_MAX]; /* from, to */
    int32_t air[NET_MAX];                      /* the PACKET port, -1: none */
    int32_t mtu;
    net_line line[NET_LINES];
    net_item *item;
    uint64_t now, delay, jitter, byte_us;
    uint32_t loss, twice, damage; /* in 1000 packets; damage: in 10000 bytes of a line too */
    long sent, late_work;         /* packets; what tx had to say before the deadline */
    size_t sent_bytes[NET_MAX];
    dls_rng rng;
} net;

/* ---- Keys ---- */

typedef struct net_keys {
    unsigned char root_seed[32], root[32], psk[32], secret[NET_MAX][32], small[NET_MAX][32];
    unsigned char signed_roster[2048];
    size_t signed_bytes;
    dls_device device[NET_MAX];
    dls_roster roster;
} net_keys;

static void keys_sign(net_keys *k, uint32_t epoch) {
    k->roster.epoch = epoch;
    k->signed_bytes = dls_roster_bytes(k->roster.count);
    CHECK_STATUS(dls_roster_write(&k->roster, k->root_seed, k->signed_roster, k->signed_bytes),
                 DLS_OK);
}
/* Devices 10, 20, ...; coords and small are sets of bits. */
static void keys_make(net_keys *k, int32_t n, uint32_t coords, uint32_t small) {
    int32_t i;
    memset(k, 0, sizeof *k);
    dls_hash(k->root_seed, 32, NULL, 0, "root", 4);
    dls_hash(k->psk, 32, NULL, 0, "psk", 3);
    dls_ed25519_public(k->root, k->root_seed);
    for (i = 0; i < n; i++) {
        dls_device *d = &k->device[i];
        d->id = (uint32_t)(i + 1) * 10;
        d->role = DLS_ROLE_JOIN | DLS_ROLE_TRAIN;
        snprintf(d->name, sizeof d->name, "dev%d", (int)i);
        if ((coords >> i & 1u) != 0) d->role |= DLS_ROLE_COORD;
        if ((small >> i & 1u) != 0) {
            d->flags = DLS_DEVICE_SMALL;
            dls_device_psk(k->small[i], k->psk, 77, d->id);
        } else {
            dls_hash(k->secret[i], 32, NULL, 0, d->name, sizeof d->name);
            dls_x25519_public(d->public_key, k->secret[i]);
        }
    }
    k->roster.group = 77;
    k->roster.count = n;
    k->roster.device = k->device;
    keys_sign(k, 1);
}
static dls_peer_desc keys_desc(const net_keys *k, int32_t rank) {
    const bool small = (k->device[rank].flags & DLS_DEVICE_SMALL) != 0;
    dls_peer_desc d;
    memset(&d, 0, sizeof d);
    d.roster = &k->roster;
    d.id = k->device[rank].id;
    d.secret = small ? NULL : k->secret[rank];
    d.psk = small ? k->small[rank] : k->psk;
    d.root = k->root;
    d.boot = 1;
    d.heartbeat_us = 20000;
    d.timeout_us = 200000;
    return d;
}
static dls_peer_desc plain_desc(int32_t rank, int32_t n) {
    dls_peer_desc d = cluster_desc(rank, n);
    d.heartbeat_us = 20000;
    d.timeout_us = 200000;
    d.boot = 1;
    return d;
}

/* ---- Building ---- */

static void net_open(net *w, uint64_t seed) {
    memset(w, 0, sizeof *w);
    w->rng.seed = seed;
    w->now = 5000000;
    w->delay = 100;
    w->byte_us = 87; /* 115200 baud */
    w->mtu = NET_MTU;
    w->room = 4096;
    w->item = (net_item *)malloc((size_t)w->room * sizeof *w->item);
}
static int32_t net_add(net *w, const dls_peer_desc *desc) {
    const int32_t i = w->n++;
    w->peer[i] = engine_make(desc, &w->mem[i], &w->bytes[i]);
    w->air[i] = -1;
    return i;
}
static void net_air(net *w, int32_t i) {
    dls_port_desc d;
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_PACKET;
    d.mtu = w->mtu;
    d.plain = true;
    w->air[i] = dls_peer_port_open(w->peer[i], &d, w->now);
    CHECK(w->air[i] >= 0);
}
static dls_addr net_addr(int32_t i) {
    dls_addr a;
    memset(&a, 0, sizeof a);
    a.size = 3;
    a.bytes[0] = 192;
    a.bytes[2] = (uint8_t)i;
    return a;
}
static void net_call(net *w, int32_t a, int32_t b) {
    const dls_addr to = net_addr(b);
    dls_peer_call(w->peer[a], b, w->air[a], &to, w->now);
}
static void net_line_end(net *w, net_line *l, int32_t side) {
    dls_port_desc d;
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_SERIAL;
    d.mtu = w->mtu;
    d.plain = true;
    d.call = side == 0;
    d.rank = l->end[1];
    d.bytes = DLS_PORT_BYTES(DLS_PORT_SERIAL, w->mtu);
    if (l->mem[side] == NULL) l->mem[side] = (unsigned char *)malloc(d.bytes);
    d.mem = l->mem[side];
    l->port[side] = dls_peer_port_open(w->peer[l->end[side]], &d, w->now);
    CHECK(l->port[side] >= 0);
}
/* a calls b over a serial line. */
static void net_wire(net *w, int32_t a, int32_t b) {
    net_line *l = &w->line[w->lines++];
    memset(l, 0, sizeof *l);
    l->end[0] = a;
    l->end[1] = b;
    net_line_end(w, l, 0);
    net_line_end(w, l, 1);
}
static void net_close(net *w) {
    int32_t i;
    for (i = 0; i < w->n; i++) {
        if (w->peer[i] != NULL && !w->dead[i]) dls_peer_close(w->peer[i]);
        if (w->mem[i] != NULL) engine_free(w->mem[i], w->bytes[i]);
    }
    for (i = 0; i < w->lines; i++) {
        free(w->line[i].mem[0]);
        free(w->line[i].mem[1]);
    }
    for (i = 0; i < w->items; i++) free(w->item[i].bytes);
    free(w->item);
}

/* ---- Moving ---- */

static void net_put(net *w, int32_t from, int32_t to, int32_t line, const void *bytes, size_t n,
                    uint64_t at) {
    net_item *e = &w->item[w->items];
    if (w->items == w->room) return; /* a full network loses packets, too */
    w->items++;
    e->at = at;
    e->from = from;
    e->to = to;
    e->line = line;
    e->n = n;
    e->bytes = (unsigned char *)malloc(n > 0 ? n : 1);
    if (n > 0) memcpy(e->bytes, bytes, n);
}
static void net_send_packet(net *w, int32_t from, int32_t to, const unsigned char *bytes,
                            size_t n) {
    uint32_t copies = below(&w->rng, 1000) < w->loss ? 0 : 1;
    if (copies > 0 && below(&w->rng, 1000) < w->twice) copies = 2;
    for (; copies > 0; copies--) {
        net_put(w, from, to, -1, bytes, n, w->now + w->delay + below(&w->rng, (uint32_t)w->jitter));
        if (below(&w->rng, 1000) < w->damage && w->items > 0)
            w->item[w->items - 1].bytes[below(&w->rng, (uint32_t)n)] ^=
                (unsigned char)(1u << below(&w->rng, 8));
    }
}
/* Everything engine i has to say on its packet port. Returns packets. */
static int32_t net_drain_air(net *w, int32_t i) {
    int32_t packets = 0;
    while (w->air[i] >= 0 && packets < 10000) {
        unsigned char *buf = (unsigned char *)malloc((size_t)w->mtu);
        dls_addr to;
        const size_t n = dls_peer_tx_packet(w->peer[i], w->air[i], &to, buf, w->now);
        if (n > 0 && n <= (size_t)w->mtu && to.size == 3 && to.bytes[2] < w->n)
            net_send_packet(w, i, to.bytes[2], buf, n);
        CHECK(n <= (size_t)w->mtu);
        free(buf);
        if (n == 0) break;
        packets++;
        w->sent_bytes[i] += n;
    }
    CHECK(packets < 10000);
    w->sent += packets;
    return packets;
}
/* Up to 16 bytes of one end of a line, when it may write. */
static int32_t net_drain_line(net *w, int32_t k, int32_t side) {
    net_line *l = &w->line[k];
    const int32_t i = l->end[side];
    unsigned char part[16];
    size_t size, n, at = 0;
    const void *from;
    if (w->dead[i] || l->port[side] < 0) return 0;
    from = dls_peer_tx_span(w->peer[i], l->port[side], &size, w->now);
    if (size == 0 || l->free_at[side] > w->now) return 0;
    if (size > sizeof part) size = sizeof part;
    memcpy(part, from, size);
    dls_peer_tx_done(w->peer[i], l->port[side], size, w->now);
    l->free_at[side] = w->now + size * w->byte_us;
    for (n = 0; n < size; n++) {
        if (below(&w->rng, 10000) < w->damage) {
            if (below(&w->rng, 2) == 0) continue; /* lost */
            part[n] ^= (unsigned char)(1u << below(&w->rng, 8));
        }
        part[at++] = part[n];
    }
    net_put(w, i, l->end[1 - side], k, part, at, l->free_at[side]);
    return 1;
}
static int32_t net_drain(net *w, int32_t i) {
    int32_t k, said = net_drain_air(w, i);
    for (k = 0; k < w->lines; k++) {
        if (w->line[k].end[0] == i) said += net_drain_line(w, k, 0);
        if (w->line[k].end[1] == i) said += net_drain_line(w, k, 1);
    }
    return said;
}
static void net_arrive(net *w) {
    int32_t i, k;
    for (;;) {
        net_item e;
        dls_addr from;
        k = -1;
        for (i = 0; i < w->items; i++)
            if (w->item[i].at <= w->now && (k < 0 || w->item[i].at < w->item[k].at)) k = i;
        if (k < 0) return;
        e = w->item[k];
        /* in order: bytes of a line never overtake */
        memmove(&w->item[k], &w->item[k + 1], (size_t)(--w->items - k) * sizeof e);
        from = net_addr(e.from);
        if (!w->dead[e.to] && !w->cut[e.from][e.to]) {
            if (e.line < 0)
                dls_peer_rx_packet(w->peer[e.to], w->air[e.to], &from, e.bytes, e.n, w->now);
            else
                (void)dls_peer_rx(w->peer[e.to],
                                  w->line[e.line].port[w->line[e.line].end[0] == e.to ? 0 : 1],
                                  e.bytes, e.n, w->now);
        }
        free(e.bytes);
    }
}
/* What is due at `now`. Then nothing may be due any more, or a driver would spin. */
static void net_settle(net *w) {
    int32_t i;
    net_arrive(w);
    for (i = 0; i < w->n; i++) {
        if (w->dead[i]) continue;
        if (dls_peer_deadline(w->peer[i]) <= w->now) dls_peer_tick(w->peer[i], w->now);
        (void)net_drain(w, i);
        if (dls_peer_deadline(w->peer[i]) <= w->now) dls_peer_tick(w->peer[i], w->now);
        (void)net_drain(w, i);
        CHECK(dls_peer_deadline(w->peer[i]) > w->now);
    }
}
static uint64_t net_next(const net *w) {
    uint64_t next = UINT64_MAX;
    int32_t i;
    for (i = 0; i < w->items; i++) next = w->item[i].at < next ? w->item[i].at : next;
    for (i = 0; i < w->n; i++) {
        const uint64_t due = w->dead[i] ? UINT64_MAX : dls_peer_deadline(w->peer[i]);
        next = due < next ? due : next;
    }
    return next;
}
/* Lets time pass. Just before something is due, engines must have nothing to say. */
static void net_run(net *w, uint64_t us) {
    const uint64_t end = w->now + us;
    int32_t i;
    net_settle(w);
    for (;;) {
        uint64_t next = net_next(w);
        if (next <= w->now) next = w->now + 1;
        if (next > end) break;
        if (next - 1 > w->now && below(&w->rng, 8) == 0) {
            w->now = next - 1;
            for (i = 0; i < w->n; i++)
                if (!w->dead[i]) w->late_work += net_drain(w, i);
        }
        if (next > w->now) w->now = next;
        net_settle(w);
    }
    w->now = end;
    net_settle(w);
}
static bool net_all_up(const net *w) {
    int32_t i, k;
    for (i = 0; i < w->n; i++)
        for (k = 0; k < w->n; k++)
            if (!w->dead[i] && !w->dead[k] && !dls_peer_is_up(w->peer[i], k)) return false;
    return true;
}
static bool net_until_up(net *w, uint64_t us) {
    const uint64_t end = w->now + us;
    while (w->now < end && !net_all_up(w)) net_run(w, 1000);
    return net_all_up(w);
}
/* Takes all events; returns how many of them were losses. */
static int32_t net_lost(net *w) {
    dls_peer_event e;
    int32_t i, lost = 0;
    for (i = 0; i < w->n; i++)
        while (!w->dead[i] && dls_peer_next_event(w->peer[i], &e)) lost += e.type == DLS_PEER_LOST;
    return lost;
}

/* ---- Traffic: many messages, posted in random order, checked byte by byte ---- */

typedef struct net_message {
    int32_t from, to, send, recv; /* ops; -1: not posted, -2: done */
    uint32_t tag;
    size_t n;
    unsigned char *out, *in;
} net_message;
#define NET_MESSAGES 64
typedef struct net_traffic {
    net_message m[NET_MESSAGES];
    int32_t count;
} net_traffic;

static void traffic_make(net *w, net_traffic *t, int32_t count, const uint8_t *pairs, int32_t n,
                         size_t most) {
    int32_t i;
    size_t k;
    memset(t, 0, sizeof *t);
    t->count = count;
    for (i = 0; i < count; i++) {
        net_message *m = &t->m[i];
        const uint8_t *pair = pairs + 2 * below(&w->rng, (uint32_t)n);
        const bool back = below(&w->rng, 2) == 0;
        m->from = pair[back ? 1 : 0];
        m->to = pair[back ? 0 : 1];
        m->send = m->recv = -1;
        m->tag = below(&w->rng, 5);
        m->n = below(&w->rng, 4) == 0 ? below(&w->rng, 3) : below(&w->rng, (uint32_t)most);
        m->out = (unsigned char *)malloc(m->n > 0 ? m->n : 1);
        m->in = (unsigned char *)malloc(m->n > 0 ? m->n : 1);
        for (k = 0; k < m->n; k++) m->out[k] = (unsigned char)dls_rng_u32(&w->rng);
    }
}
/* Posts one side of message i, unless an earlier of its pair and tag must come first. */
static void traffic_post(net *w, net_traffic *t, int32_t i, bool send) {
    net_message *m = &t->m[i];
    int32_t k;
    if ((send ? m->send : m->recv) != -1) return;
    for (k = 0; k < i; k++)
        if (t->m[k].from == m->from && t->m[k].to == m->to && t->m[k].tag == m->tag &&
            (send ? t->m[k].send : t->m[k].recv) == -1)
            return;
    if (send) {
        m->send = dls_peer_send(w->peer[m->from], m->to, m->tag, m->out, m->n);
        dls_peer_op_class(w->peer[m->from], m->send, (dls_class)below(&w->rng, 3));
    } else {
        m->recv = dls_peer_recv(w->peer[m->to], m->from, m->tag, m->in, m->n);
    }
}
static int32_t traffic_poll(net *w, net_traffic *t) {
    int32_t i, left = 0;
    for (i = 0; i < t->count; i++) {
        net_message *m = &t->m[i];
        dls_status st;
        if (m->send >= 0 && dls_peer_op_done(w->peer[m->from], m->send, &st)) {
            CHECK_STATUS(st, DLS_OK);
            m->send = -2;
        }
        if (m->recv >= 0 && dls_peer_op_done(w->peer[m->to], m->recv, &st)) {
            CHECK_STATUS(st, DLS_OK);
            CHECK(memcmp(m->in, m->out, m->n) == 0);
            m->recv = -2;
        }
        left += (m->send != -2) + (m->recv != -2);
    }
    return left;
}
static void traffic_run(net *w, int32_t count, const uint8_t *pairs, int32_t n, size_t most,
                        uint64_t us) {
    static net_traffic t;
    const uint64_t end = w->now + us;
    int32_t i, left = 1;
    traffic_make(w, &t, count, pairs, n, most);
    while (left > 0 && w->now < end) {
        for (i = 0; i < 8; i++)
            traffic_post(w, &t, (int32_t)below(&w->rng, (uint32_t)count), below(&w->rng, 2) == 0);
        net_run(w, 500);
        left = traffic_poll(w, &t);
    }
    CHECK_INT(left, 0);
    for (i = 0; i < count; i++) {
        free(t.m[i].out);
        free(t.m[i].in);
    }
}
