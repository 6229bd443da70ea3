/* Sessions and messages over datagrams, serial lines and gateways, plain and keyed, by virtual
   time.
   Whatever the link does, messages arrive whole and once, or not at all. */

static const uint8_t pair_01[] = {0, 1}, pair_all3[] = {0, 1, 0, 2, 1, 2}, pair_02[] = {0, 2};

/* n engines on the air, all calling all. keys NULL: plain. */
static void air_open(net *w, uint64_t seed, int32_t n, const net_keys *keys) {
    int32_t i, k;
    net_open(w, seed);
    for (i = 0; i < n; i++) {
        const dls_peer_desc d = keys != NULL ? keys_desc(keys, i) : plain_desc(i, n);
        (void)net_add(w, &d);
        net_air(w, i);
    }
    for (i = 0; i < n; i++)
        for (k = 0; k < n; k++)
            if (k != i) net_call(w, i, k);
}
static void air_weather(net *w, int32_t kind) {
    w->jitter = kind > 0 ? 2000 : 0;
    w->loss = kind > 1 ? 100 : 0;
    w->twice = kind > 1 ? 50 : 0;
    w->damage = kind > 2 ? 30 : 0;
}
static void air_traffic(uint64_t seed, int32_t n, const net_keys *keys, int32_t weather) {
    net w;
    air_open(&w, seed, n, keys);
    air_weather(&w, weather);
    if (keys == NULL && weather > 2) w.damage = 0; /* nothing but keys tells damage from data */
    CHECK(net_until_up(&w, 2000000));
    traffic_run(&w, 40, n == 2 ? pair_01 : pair_all3, n == 2 ? 1 : 3, 6000, 20000000);
    CHECK_INT(net_lost(&w), 0);
    CHECK_INT(w.late_work, 0);
    net_close(&w);
}
static void test_lossy_plain(void) {
    uint64_t seed;
    for (seed = 1; seed <= 30; seed++)
        air_traffic(seed, 2 + (int32_t)(seed & 1), NULL, (int32_t)(seed % 3));
}
static void test_lossy_keyed(void) {
    static net_keys k;
    uint64_t seed;
    keys_make(&k, 3, 0, 0);
    for (seed = 1; seed <= 20; seed++) air_traffic(seed, 3, &k, (int32_t)(seed % 4));
}
static void test_lossy_small(void) {
    static net_keys k;
    uint64_t seed;
    keys_make(&k, 2, 0, 2);
    for (seed = 1; seed <= 20; seed++) air_traffic(seed, 2, &k, (int32_t)(seed % 4));
}

static void lossy_tests(void) {
    RUN(lossy_plain);
    RUN(lossy_keyed);
    RUN(lossy_small);
}
