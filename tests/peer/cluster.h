/* Up to 8 engines, joined pairwise by pipes of small capacity, and a clock that only tests move.
   Engines live between canaries; a write outside is seen by cluster_close. */
#define CLUSTER_MAX 8
#define PIPE_BYTES 700
#define CANARY 64

typedef struct pipe_half {
    unsigned char bytes[PIPE_BYTES];
    size_t used;
} pipe_half;

typedef struct cluster {
    int32_t n;
    dls_peer *peer[CLUSTER_MAX];
    unsigned char *mem[CLUSTER_MAX];
    size_t bytes[CLUSTER_MAX];
    int32_t link[CLUSTER_MAX][CLUSTER_MAX]; /* port of engine a, to b; -1: none */
    unsigned char *port_mem[CLUSTER_MAX][CLUSTER_MAX];
    pipe_half wire[CLUSTER_MAX][CLUSTER_MAX];       /* on its way from a to b */
    bool cut[CLUSTER_MAX][CLUSTER_MAX];             /* bytes from a to b vanish */
    dls_status rx_status[CLUSTER_MAX][CLUSTER_MAX]; /* first error of b taking bytes of a */
    uint64_t now;
    dls_rng rng;
} cluster;

static uint32_t below(dls_rng *rng, uint32_t n) { return n == 0 ? 0 : dls_rng_u32(rng) % n; }

static dls_peer *engine_make(const dls_peer_desc *desc, unsigned char **mem, size_t *bytes) {
    dls_peer *peer = NULL;
    *bytes = dls_peer_size(desc);
    *mem = (unsigned char *)malloc(*bytes + 2 * CANARY);
    memset(*mem, 0xA5, *bytes + 2 * CANARY);
    CHECK_STATUS(dls_peer_init(&peer, desc, *mem + CANARY, *bytes), DLS_OK);
    return peer;
}
static void engine_free(unsigned char *mem, size_t bytes) {
    size_t i, bad = 0;
    for (i = 0; i < CANARY; i++) bad += (mem[i] != 0xA5) + (mem[CANARY + bytes + i] != 0xA5);
    CHECK_INT(bad, 0);
    free(mem);
}

#define PORT_MTU 4096
static int32_t cluster_port(cluster *c, int32_t a, int32_t b, bool call) {
    dls_port_desc d;
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_STREAM;
    d.mtu = PORT_MTU;
    d.plain = true;
    d.call = call;
    d.rank = b;
    d.bytes = DLS_PORT_BYTES(DLS_PORT_STREAM, PORT_MTU);
    if (c->port_mem[a][b] == NULL) c->port_mem[a][b] = (unsigned char *)malloc(d.bytes);
    d.mem = c->port_mem[a][b];
    return dls_peer_port_open(c->peer[a], &d, c->now);
}
static void cluster_join(cluster *c, int32_t a, int32_t b) { /* b calls a */
    c->link[a][b] = cluster_port(c, a, b, false);
    c->link[b][a] = cluster_port(c, b, a, true);
    c->wire[a][b].used = c->wire[b][a].used = 0;
    CHECK(c->link[a][b] >= 0 && c->link[b][a] >= 0);
}
static void cluster_part(cluster *c, int32_t a, int32_t b) { /* the stream between a and b breaks */
    if (c->link[a][b] < 0) return;
    dls_peer_port_close(c->peer[a], c->link[a][b], c->now);
    dls_peer_port_close(c->peer[b], c->link[b][a], c->now);
    c->link[a][b] = c->link[b][a] = -1;
}
/* Up to most bytes of a towards b: out of a's engine, or out of the pipe into b's. */
static size_t cluster_move(cluster *c, int32_t a, int32_t b, size_t most, bool out) {
    pipe_half *w = &c->wire[a][b];
    size_t size;
    dls_status st;
    if (c->link[a][b] < 0) return 0;
    if (out) {
        const void *from = dls_peer_tx_span(c->peer[a], c->link[a][b], &size, c->now);
        if (size > most) size = most;
        if (size > PIPE_BYTES - w->used) size = PIPE_BYTES - w->used;
        if (size == 0) return 0;
        memcpy(w->bytes + w->used, from, size);
        if (!c->cut[a][b]) w->used += size;
        dls_peer_tx_done(c->peer[a], c->link[a][b], size, c->now);
        return size;
    }
    size = w->used < most ? w->used : most;
    if (size == 0) return 0;
    st = dls_peer_rx(c->peer[b], c->link[b][a], w->bytes, size, c->now);
    if (st != DLS_OK && c->rx_status[a][b] == DLS_OK) c->rx_status[a][b] = st;
    memmove(w->bytes, w->bytes + size, w->used - size);
    w->used -= size;
    return size;
}
/* The driver's duty: streams that an engine is done with are closed, once what it wrote arrived. */
static void cluster_reap(cluster *c) {
    int32_t a, b;
    for (a = 0; a < c->n; a++)
        for (b = 0; b < c->n; b++)
            if (a != b && c->link[a][b] >= 0 && dls_peer_port_done(c->peer[a], c->link[a][b])) {
                while (cluster_move(c, a, b, PIPE_BYTES, false) > 0) {}
                cluster_part(c, a, b);
            }
}
/* Moves random pieces between random pairs until nothing moves any more. */
static void cluster_pump(cluster *c, uint32_t piece) {
    int32_t idle = 0, a, b;
    while (idle < 2) {
        size_t moved = 0;
        int32_t turn;
        for (turn = 0; turn < 64; turn++) {
            a = (int32_t)below(&c->rng, (uint32_t)c->n);
            b = (int32_t)below(&c->rng, (uint32_t)c->n);
            if (a == b) continue;
            moved += cluster_move(c, a, b, 1 + below(&c->rng, piece), below(&c->rng, 2) == 0);
        }
        if (moved == 0) /* random turns found nothing: look at all */
            for (a = 0; a < c->n; a++)
                for (b = 0; b < c->n; b++)
                    if (a != b)
                        moved += cluster_move(c, a, b, piece, true) +
                                 cluster_move(c, a, b, piece, false);
        cluster_reap(c);
        idle = moved == 0 ? idle + 1 : 0;
    }
}
static dls_peer_desc cluster_desc(int32_t rank, int32_t n) {
    static const char *const names[CLUSTER_MAX] = {"ada",  "ben",  "cleo", "dan",
                                                   "elke", "finn", "gus",  "hana"};
    dls_peer_desc d;
    memset(&d, 0, sizeof d);
    d.rank = rank;
    d.size = n;
    d.name = names[rank];
    d.group = 77;
    d.heartbeat_us = 1000;
    d.timeout_us = 10000;
    return d;
}
/* n engines; when joined, all see each other and their events are taken. */
static void cluster_open(cluster *c, int32_t n, uint64_t seed, bool joined) {
    dls_peer_event e;
    int32_t a, b;
    memset(c, 0, sizeof *c);
    c->n = n;
    c->rng.seed = seed;
    c->now = 5000000;
    for (a = 0; a < n; a++) {
        const dls_peer_desc d = cluster_desc(a, n);
        c->peer[a] = engine_make(&d, &c->mem[a], &c->bytes[a]);
        for (b = 0; b < n; b++) c->link[a][b] = -1;
    }
    if (!joined) return;
    for (a = 0; a < n; a++)
        for (b = a + 1; b < n; b++) cluster_join(c, a, b);
    cluster_pump(c, 100);
    for (a = 0; a < n; a++) {
        CHECK_INT(dls_peer_up(c->peer[a]), n);
        while (dls_peer_next_event(c->peer[a], &e)) CHECK_INT(e.type, DLS_PEER_UP);
    }
}
static void cluster_close(cluster *c) {
    int32_t a;
    int32_t b;
    for (a = 0; a < c->n; a++) {
        engine_free(c->mem[a], c->bytes[a]);
        for (b = 0; b < c->n; b++) free(c->port_mem[a][b]);
    }
}
