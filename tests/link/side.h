/* A group with keys made in memory, and sides: one engine each with whatever links a test gives it.
   Everything lives in malloc'ed blocks of the exact sizes, so that sanitizers see all. */
#define SIDES 4
typedef struct group {
    dls_root root;
    dls_device device[SIDES];
    unsigned char secret[SIDES][32], root32[32], small_psk[SIDES][32];
    dls_roster roster;
} group;
typedef struct side {
    dls_peer *peer;
    dls_links *links;
    dls_udp *udp;
    dls_tcp *tcp;
    dls_lan *lan;
    dls_serial *serial;
    void *mem[16];
    int mems;
} side;

/* Devices 1..n; small: bits of those that are. Device 1 coordinates. */
static void group_make(group *g, int n, unsigned small) {
    int i;
    memset(g, 0, sizeof *g);
    CHECK_STATUS(dls_root_make(&g->root, NULL), DLS_OK);
    dls_ed25519_public(g->root32, g->root.seed);
    for (i = 0; i < n; i++) {
        dls_device *d = &g->device[i];
        d->id = (uint32_t)i + 1;
        d->role = DLS_ROLE_JOIN | DLS_ROLE_TRAIN;
        snprintf(d->name, sizeof d->name, "dev%d", i + 1);
        if ((small >> i & 1) != 0) {
            d->flags = DLS_DEVICE_SMALL;
            dls_device_psk(g->small_psk[i], g->root.psk, g->root.group, d->id);
        } else {
            CHECK_STATUS(dls_random(g->secret[i], 32), DLS_OK);
            dls_x25519_public(d->public_key, g->secret[i]);
        }
    }
    g->roster.group = g->root.group;
    g->roster.epoch = 1;
    g->roster.count = n;
    g->roster.device = g->device;
}
static void *side_take(side *s, size_t bytes) {
    void *p = malloc(bytes);
    s->mem[s->mems++] = p;
    return p;
}
static dls_peer_desc side_desc(const group *g, int i, uint32_t boot) {
    dls_peer_desc d;
    memset(&d, 0, sizeof d);
    d.heartbeat_us = 100000;
    d.timeout_us = 1000000;
    if (g == NULL) {
        d.rank = i;
        d.size = 2;
        d.group = 5;
        return d;
    }
    d.roster = &g->roster;
    d.id = (uint32_t)i + 1;
    d.psk = (g->device[i].flags & DLS_DEVICE_SMALL) != 0 ? g->small_psk[i] : g->root.psk;
    d.secret = (g->device[i].flags & DLS_DEVICE_SMALL) != 0 ? NULL : g->secret[i];
    d.root = g->root32;
    d.boot = boot;
    return d;
}
/* g NULL: without keys, rank i of 2. */
static bool side_open(side *s, const group *g, int i, uint32_t boot) {
    const dls_peer_desc d = side_desc(g, i, boot);
    dls_links_desc l;
    memset(s, 0, sizeof *s);
    memset(&l, 0, sizeof l);
    CHECK_STATUS(dls_peer_init(&s->peer, &d, side_take(s, dls_peer_size(&d)), dls_peer_size(&d)),
                 DLS_OK);
    if (s->peer == NULL) return false;
    l.peer = s->peer;
    return dls_links_init(&s->links, &l, side_take(s, dls_links_size(&l)), dls_links_size(&l),
                          NULL) == DLS_OK;
}
static void side_close(side *s) {
    dls_links_close(s->links);
    if (s->peer != NULL) dls_peer_close(s->peer);
    while (s->mems > 0) free(s->mem[--s->mems]);
    memset(s, 0, sizeof *s);
}
static dls_status side_udp(side *s, const char *where, dls_error *e) {
    dls_udp_desc d;
    dls_status st;
    memset(&d, 0, sizeof d);
    d.peer = s->peer;
    d.bind = where;
    st = dls_udp_init(&s->udp, &d, side_take(s, dls_udp_size(&d)), dls_udp_size(&d), e);
    return st == DLS_OK ? dls_links_add(s->links, dls_udp_link(s->udp)) : st;
}
static dls_status side_tcp(side *s, const char *where, dls_error *e) {
    dls_tcp_desc d;
    dls_status st;
    memset(&d, 0, sizeof d);
    d.peer = s->peer;
    d.listen = where;
    st = dls_tcp_init(&s->tcp, &d, side_take(s, dls_tcp_size(&d)), dls_tcp_size(&d), e);
    return st == DLS_OK ? dls_links_add(s->links, dls_tcp_link(s->tcp)) : st;
}
static dls_status side_serial(side *s, const char *path, int fd, uint32_t call, dls_error *e) {
    dls_serial_desc d;
    dls_status st;
    memset(&d, 0, sizeof d);
    d.peer = s->peer;
    d.path = path;
    d.fd = fd;
    d.baud = path != NULL && path[0] == '/' ? 115200 : 0;
    d.call = call != 0;
    d.id = call;
    st = dls_serial_init(&s->serial, &d, side_take(s, dls_serial_size(&d)), dls_serial_size(&d), e);
    return st == DLS_OK ? dls_links_add(s->links, dls_serial_link(s->serial)) : st;
}
static dls_status side_lan(side *s, int32_t port, int ways, dls_error *e) {
    dls_lan_desc d;
    dls_status st;
    memset(&d, 0, sizeof d);
    d.udp = s->udp;
    d.port = port;
    d.no_multicast = ways == 2;
    d.no_broadcast = ways == 1;
    st = dls_lan_init(&s->lan, &d, side_take(s, dls_lan_size(&d)), dls_lan_size(&d), e);
    return st == DLS_OK ? dls_links_add(s->links, dls_lan_link(s->lan)) : st;
}

/* Polls all until done() or the time is over; extra: what a test does in between. */
typedef bool (*side_done)(side *s, int n, void *user);
static bool sides_run(side *s, int n, uint64_t us, side_done done, void (*extra)(void *),
                      void *user) {
    const uint64_t start = dls_now_us();
    int i;
    while (dls_now_us() - start < us) {
        for (i = 0; i < n; i++) dls_links_poll(s[i].links, 500, NULL, NULL, NULL);
        if (extra != NULL) extra(user);
        if (done != NULL && done(s, n, user)) return true;
    }
    return false;
}
static bool all_up(side *s, int n, void *user) {
    int i, up = 0;
    (void)user;
    for (i = 0; i < n; i++) up += dls_peer_up(s[i].peer) >= 2;
    return up == n;
}
typedef struct trade {
    int32_t op[2];
    bool done[2];
    dls_status st[2];
} trade;
static bool trade_over(side *s, int n, void *user) {
    trade *t = (trade *)user;
    int i;
    (void)n;
    for (i = 0; i < 2; i++)
        if (!t->done[i]) t->done[i] = dls_peer_op_done(s[i].peer, t->op[i], &t->st[i]);
    return t->done[0] && t->done[1];
}
/* bytes from side 0 to side 1 of a message; true: they came, and are alike. */
static bool sides_trade(side *s, size_t bytes, uint64_t us, void (*extra)(void *), void *user) {
    unsigned char *from = (unsigned char *)malloc(bytes), *to = (unsigned char *)calloc(1, bytes);
    trade t;
    size_t i;
    bool good;
    (void)user;
    memset(&t, 0, sizeof t);
    for (i = 0; i < bytes; i++) from[i] = (unsigned char)(dls_rand_at(3, (uint32_t)i) & 255);
    t.op[0] = dls_peer_send(s[0].peer, 1, 9, from, bytes);
    t.op[1] = dls_peer_recv(s[1].peer, 0, 9, to, bytes);
    good = sides_run(s, 2, us, trade_over, extra, &t);
    good = good && t.st[0] == DLS_OK && t.st[1] == DLS_OK && memcmp(from, to, bytes) == 0;
    if (!good) {
        dls_peer_op_drop(s[0].peer, t.op[0]);
        dls_peer_op_drop(s[1].peer, t.op[1]);
    }
    free(from);
    free(to);
    return good;
}
