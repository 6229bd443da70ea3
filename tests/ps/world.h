/* Servers and clients of a parameter server in the simulator: devices 0..servers-1 serve, the rest
   are clients. Each may be down, slow, or compute for some time. */
#define DEVICES_MAX 12
static struct world world;
struct device {
    dls_ps_server *server;
    dls_ps_client *client;
    void *mem;
    int32_t boots;
    bool over, working; /* working: until then, with work to do */
    uint64_t until, takes_us;
};
struct world {
    dls_sim *sim;
    int32_t devices, servers;
    struct device device[DEVICES_MAX];
    void (*start)(int32_t i); /* makes device[i]'s server or client anew */
    void (*look)(int32_t i);  /* after each poll and work; or NULL */
    int64_t event[DLS_PS_OUT + 1];
    dls_ps_event last[DLS_PS_OUT + 1]; /* the last of each type */
};
static dls_ps_report told(int32_t i) {
    dls_ps_report r;
    dls_ps_server_tell(world.device[i].server, &r);
    return r;
}
static dls_ps_client_report heard(int32_t i) {
    dls_ps_client_report r;
    dls_ps_client_tell(world.device[i].client, &r);
    return r;
}
static void world_turn(void *user, dls_sim *sim, int32_t i) {
    struct device *d = &world.device[i];
    const uint64_t now = dls_sim_clock(sim, i) + 1;
    dls_peer_event p;
    dls_ps_event e;
    dls_run_do what = DLS_RUN_WORK;
    (void)user;
    while (dls_peer_next_event(dls_sim_peer(sim, i), &p)) {}
    if (d->boots != dls_sim_boots(sim, i)) {
        d->boots = dls_sim_boots(sim, i);
        d->server = NULL;
        d->client = NULL;
        d->over = d->working = false;
        free(d->mem);
        d->mem = NULL;
        world.start(i);
    }
    while (what == DLS_RUN_WORK && (d->server != NULL || (d->client != NULL && !d->over))) {
        if (d->server != NULL) {
            what = dls_ps_server_poll(d->server, now);
            if (what == DLS_RUN_WORK) dls_ps_server_work(d->server);
            while (dls_ps_server_next(d->server, &e)) {
                world.event[e.type]++;
                world.last[e.type] = e;
            }
        } else {
            if (d->working && dls_sim_now(sim) < d->until) return;
            if (d->working) dls_ps_client_work(d->client);
            d->working = false;
            what = dls_ps_client_poll(d->client, now);
            if (what == DLS_RUN_WORK) {
                d->working = true;
                d->until = dls_sim_now(sim) + d->takes_us;
            }
        }
        d->over = what == DLS_RUN_OVER; /* a server may have to tell one that comes later */
        if (world.look != NULL) world.look(i);
    }
}
static void world_free(void) {
    int32_t i;
    for (i = 0; i < world.devices; i++) free(world.device[i].mem);
    dls_sim_destroy(world.sim);
    memset(&world, 0, sizeof world);
}
/* start is called for each device when it comes up. */
static bool world_make(int32_t servers, int32_t clients, uint64_t seed, void (*start)(int32_t)) {
    static dls_device device[DEVICES_MAX];
    static unsigned char secret[DEVICES_MAX][32], psk[32];
    static dls_roster roster;
    static dls_peer_desc desc[DEVICES_MAX];
    dls_sim_desc d;
    int32_t i;
    memset(&world, 0, sizeof world);
    world.devices = servers + clients;
    world.servers = servers;
    world.start = start;
    random_state.seed = seed ^ 0x5A5A;
    random_state.next = 0;
    (void)sim_random(psk, 32);
    for (i = 0; i < world.devices; i++) {
        memset(&device[i], 0, sizeof device[i]);
        device[i].id = (uint32_t)i;
        device[i].role = DLS_ROLE_JOIN | DLS_ROLE_TRAIN;
        snprintf(device[i].name, sizeof device[i].name, i < servers ? "server%d" : "client%d",
                 (int)i);
        (void)sim_random(secret[i], 32);
        dls_x25519_public(device[i].public_key, secret[i]);
    }
    memset(&roster, 0, sizeof roster);
    roster.group = 5;
    roster.epoch = 1;
    roster.count = world.devices;
    roster.device = device;
    for (i = 0; i < world.devices; i++) {
        memset(&desc[i], 0, sizeof desc[i]);
        desc[i].roster = &roster;
        desc[i].id = (uint32_t)i;
        desc[i].secret = secret[i];
        desc[i].psk = psk;
        desc[i].ops_max = 4 * world.devices;
        desc[i].window = 64;
        desc[i].heartbeat_us = 100000;
        desc[i].timeout_us = 1000000;
    }
    memset(&d, 0, sizeof d);
    d.peers = world.devices;
    d.seed = seed;
    d.peer = desc;
    d.delay_us = 200;
    d.step = world_turn;
    world.sim = dls_sim_create(&d);
    for (i = 0; i < world.devices && world.sim != NULL; i++) dls_sim_jump(world.sim, i, 0);
    return world.sim != NULL;
}
/* Time passes, and all who are up have their turn each ms. */
static void pass(uint64_t us) {
    const uint64_t until = dls_sim_now(world.sim) + us;
    int32_t i;
    while (dls_sim_now(world.sim) < until) {
        dls_sim_run(world.sim, dls_sim_now(world.sim) + 1000);
        for (i = 0; i < world.devices; i++)
            if (dls_sim_peer(world.sim, i) != NULL) dls_sim_jump(world.sim, i, 0);
    }
}
/* Until all who are up are over, or so much time has passed. */
static bool finish(uint64_t us) {
    const uint64_t until = dls_sim_now(world.sim) + us;
    int32_t i, busy = 1;
    while (busy > 0 && dls_sim_now(world.sim) < until) {
        pass(1000);
        for (i = busy = 0; i < world.devices; i++)
            busy += dls_sim_peer(world.sim, i) != NULL && !world.device[i].over ? 1 : 0;
    }
    return busy == 0;
}
static void make_server(int32_t i, const dls_ps_server_desc *desc) {
    struct device *d = &world.device[i];
    dls_ps_server_desc s = *desc;
    dls_status st;
    s.peer = dls_sim_peer(world.sim, i);
    d->mem = malloc(dls_ps_server_size(&s));
    st = dls_ps_server_init(&d->server, &s, d->mem, dls_ps_server_size(&s));
    if (st != DLS_OK) printf("  no server: %s\n", dls_status_text(st));
}
static void make_client(int32_t i, const dls_ps_client_desc *desc) {
    struct device *d = &world.device[i];
    dls_ps_client_desc c = *desc;
    dls_status st;
    c.peer = dls_sim_peer(world.sim, i);
    d->mem = malloc(dls_ps_client_size(&c));
    st = dls_ps_client_init(&d->client, &c, d->mem, dls_ps_client_size(&c));
    if (st != DLS_OK) printf("  no client: %s\n", dls_status_text(st));
}
