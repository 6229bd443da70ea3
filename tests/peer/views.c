/* Views: three coordinators and a worker; stores are memory that survives its engine. */
typedef struct views_store {
    unsigned char bytes[256];
    size_t n;
    bool fails;
} views_store;
static views_store stores[4];
static net_keys views_keys;

static bool views_keep(void *user, const void *state, size_t bytes) {
    views_store *s = (views_store *)user;
    if (s->fails || bytes > sizeof s->bytes) return false;
    memcpy(s->bytes, state, bytes);
    s->n = bytes;
    return true;
}
static dls_peer_desc views_desc(int32_t i, uint32_t boot) {
    dls_peer_desc d = keys_desc(&views_keys, i);
    d.boot = boot;
    if (i < 3) {
        d.store = views_keep;
        d.store_user = &stores[i];
        d.stored = stores[i].n > 0 ? stores[i].bytes : NULL;
        d.stored_bytes = stores[i].n;
    }
    return d;
}
static void views_open(net *w, uint64_t seed) {
    int32_t i, k;
    memset(stores, 0, sizeof stores);
    keys_make(&views_keys, 4, 7, 0);
    net_open(w, seed);
    for (i = 0; i < 4; i++) {
        const dls_peer_desc d = views_desc(i, 1);
        (void)net_add(w, &d);
        net_air(w, i);
    }
    for (i = 0; i < 4; i++)
        for (k = 0; k < 4; k++)
            if (i != k) net_call(w, i, k);
}
static void views_restart(net *w, int32_t i, uint32_t boot) {
    int32_t k;
    engine_restart(w, i, views_desc(i, boot));
    net_air(w, i);
    for (k = 0; k < 4; k++)
        if (k != i) net_call(w, i, k);
}
/* All alive have one view of exactly the alive, led by one of them. Returns its number, 0: not
   so. */
static uint32_t views_agree(const net *w) {
    uint32_t number = 0;
    int32_t i, k, alive = 0;
    for (i = 0; i < w->n; i++) alive += !w->dead[i];
    for (i = 0; i < w->n; i++) {
        dls_view v;
        if (w->dead[i]) continue;
        dls_peer_view(w->peer[i], &v);
        if (v.count != alive || v.mine < 0 || v.rank[v.mine] != i || v.coordinator < 0) return 0;
        for (k = 0; k < v.count; k++)
            if (w->dead[v.rank[k]] || (k > 0 && v.rank[k] <= v.rank[k - 1])) return 0;
        if (w->dead[v.coordinator] || v.coordinator > 2) return 0;
        if (number != 0 && number != v.number) return 0;
        number = v.number;
    }
    return number;
}
static uint32_t views_wait(net *w, uint64_t us) {
    const uint64_t end = w->now + us;
    while (w->now < end && views_agree(w) == 0) net_run(w, 1000);
    return views_agree(w);
}
static int32_t views_leader(const net *w) {
    dls_view v;
    int32_t i = 0;
    while (w->dead[i]) i++;
    dls_peer_view(w->peer[i], &v);
    return v.coordinator;
}
static void views_kill(net *w, int32_t i) {
    dls_peer_close(w->peer[i]);
    w->dead[i] = true;
}
static void test_views_life(void) {
    uint64_t seed;
    for (seed = 1; seed <= 8; seed++) {
        net w;
        uint32_t a, b;
        int32_t leader;
        dls_peer_event e;
        bool told = false;
        views_open(&w, seed);
        w.jitter = 1000;
        if (seed > 4) w.loss = 50;
        CHECK((a = views_wait(&w, 1000000)) > 0);
        views_kill(&w, 3); /* a member */
        CHECK((b = views_wait(&w, 1000000)) > a);
        views_restart(&w, 3, 2); /* comes back as another boot */
        CHECK((a = views_wait(&w, 1000000)) > b);
        leader = views_leader(&w);
        views_kill(&w, leader);
        CHECK((b = views_wait(&w, 2000000)) > a);
        CHECK(views_leader(&w) != leader);
        views_restart(&w, leader, 2); /* with what it stored */
        CHECK((a = views_wait(&w, 2000000)) > b);
        while (dls_peer_next_event(w.peer[3], &e)) told = told || e.type == DLS_PEER_VIEW;
        CHECK(told);
        net_close(&w);
    }
}
/* Two of three coordinators crash: the third decides nothing, until one is back. */
static void test_views_minority(void) {
    uint64_t seed;
    for (seed = 1; seed <= 4; seed++) {
        net w;
        uint32_t a;
        dls_view v;
        views_open(&w, seed + 20);
        CHECK((a = views_wait(&w, 1000000)) > 0);
        views_kill(&w, 0);
        views_kill(&w, (int32_t)(1 + seed % 2));
        net_run(&w, 3000000);
        dls_peer_view(w.peer[3], &v);
        CHECK(v.number <= a + 1); /* the one between two crashes, at most */
        a = v.number;
        CHECK_INT(v.count == 2, 0);
        views_restart(&w, 0, 2);
        CHECK(views_wait(&w, 2000000) > a);
        net_close(&w);
    }
}
/* A member asks: all move on to one new view, however often it asks. */
static void test_views_again(void) {
    int32_t who;
    for (who = 0; who < 4; who += 3) { /* a coordinator, a worker */
        net w;
        uint32_t a, b = 0;
        uint64_t end;
        views_open(&w, 61);
        CHECK((a = views_wait(&w, 1000000)) > 0);
        net_run(&w, 500000);
        CHECK_INT(views_agree(&w), a);
        dls_peer_view_again(w.peer[who]);
        dls_peer_view_again(w.peer[who]);
        end = w.now + 1000000;
        while (w.now < end && (b == 0 || b == a)) {
            net_run(&w, 1000);
            b = views_agree(&w);
        }
        CHECK_INT(b, a + 1);
        net_run(&w, 1000000);
        CHECK_INT(views_agree(&w), b);
        net_close(&w);
    }
}
/* A collective of a view that is replaced already fails without asking for one more. */
static void test_views_again_no_more(void) {
    static const int32_t number = 7;
    net w;
    dls_coll c;
    dls_view v;
    dls_status st = DLS_OK;
    int32_t value = number;
    uint32_t a, b = 0;
    const size_t bytes = dls_coll_size(4, 64);
    void *staging = malloc(bytes);
    const uint64_t end = (views_open(&w, 67), w.now + 3000000);
    CHECK((a = views_wait(&w, 1000000)) > 0);
    net_run(&w, 500000);
    dls_peer_view(w.peer[0], &v);
    CHECK_STATUS(dls_coll_init(&c, w.peer[0], 0, 4, staging, bytes), DLS_OK);
    CHECK_STATUS(dls_coll_view(&c, &v), DLS_OK);
    CHECK_STATUS(dls_coll_allreduce(&c, &value, 1, DLS_REDUCE_SUM_I32), DLS_OK);
    views_kill(&w, 3);
    while (w.now < end && b <= a) {
        net_run(&w, 1000);
        b = views_agree(&w);
    }
    CHECK(b > a);
    net_run(&w, 500000); /* all have lost it, not the coordinator alone */
    CHECK(dls_coll_poll(&c, &st));
    CHECK_STATUS(st, DLS_E_PEER);
    net_run(&w, 1000000);
    CHECK_INT(views_agree(&w), b);
    net_close(&w);
    free(staging);
}
/* A partition: the side with the majority goes on, the other keeps its old view. */
static void test_views_partition(void) {
    net w;
    uint32_t a;
    dls_view v, old;
    int32_t i, leader;
    views_open(&w, 31);
    CHECK((a = views_wait(&w, 1000000)) > 0);
    leader = views_leader(&w);
    for (i = 0; i < 4; i++) w.cut[leader][i] = w.cut[i][leader] = i != leader;
    net_run(&w, 2000000);
    dls_peer_view(w.peer[leader], &old);
    CHECK_INT(old.number, a);
    dls_peer_view(w.peer[3], &v);
    CHECK(v.number > a && v.count == 3 && v.coordinator != leader);
    for (i = 0; i < 4; i++) w.cut[leader][i] = w.cut[i][leader] = false;
    CHECK(views_wait(&w, 2000000) > v.number);
    net_close(&w);
}
/* Who can't store says nothing that it might have to keep. */
static void test_views_store_fails(void) {
    net w;
    uint32_t a;
    dls_view v;
    int32_t leader;
    views_open(&w, 41);
    stores[0].fails = true;
    CHECK((a = views_wait(&w, 1000000)) > 0);
    leader = views_leader(&w);
    CHECK(leader != 0);
    stores[1].fails = stores[2].fails = true;
    views_kill(&w, 3);
    net_run(&w, 1000000);
    dls_peer_view(w.peer[leader], &v);
    CHECK_INT(v.number, a);
    net_close(&w);
}
static void test_views_stored_damage(void) {
    net w;
    dls_peer_desc d;
    dls_peer *p;
    unsigned char *mem;
    size_t bytes, i, opened = 0;
    views_open(&w, 51);
    CHECK(views_wait(&w, 1000000) > 0);
    d = views_desc(1, 9);
    bytes = dls_peer_size(&d);
    mem = (unsigned char *)malloc(bytes);
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_OK);
    for (i = 0; i < 8 * stores[1].n; i++) {
        stores[1].bytes[i / 8] ^= (unsigned char)(1u << i % 8);
        opened += dls_peer_init(&p, &d, mem, bytes) == DLS_OK;
        stores[1].bytes[i / 8] ^= (unsigned char)(1u << i % 8);
    }
    for (d.stored_bytes = 0; d.stored_bytes < stores[1].n; d.stored_bytes++)
        opened += dls_peer_init(&p, &d, mem, bytes) == DLS_OK;
    CHECK_INT(opened, 0);
    d.stored = NULL;
    d.store = NULL;
    CHECK_STATUS(dls_peer_init(&p, &d, mem, bytes), DLS_E_ARG);
    free(mem);
    net_close(&w);
}
static void views_tests(void) {
    RUN(views_life);
    RUN(views_minority);
    RUN(views_again);
    RUN(views_again_no_more);
    RUN(views_partition);
    RUN(views_store_fails);
    RUN(views_stored_damage);
}
