/* Discovery without I/O: announcements are bytes that a test carries about. */
typedef struct finder {
    dls_peer *peer;
    dls_find *find;
    void *mem[2];
    int32_t port;
} finder;

static dls_addr place(int host, int port) {
    char text[40];
    dls_addr a;
    snprintf(text, sizeof text, "10.0.0.%d:%d", host, port);
    CHECK_STATUS(dls_addr_read(&a, text), DLS_OK);
    return a;
}
static void finder_open(finder *f, const group *g, int i, uint32_t boot) {
    const dls_peer_desc d = side_desc(g, i, boot);
    dls_port_desc p;
    dls_find_desc fd;
    f->mem[0] = malloc(dls_peer_size(&d));
    CHECK_STATUS(dls_peer_init(&f->peer, &d, f->mem[0], dls_peer_size(&d)), DLS_OK);
    memset(&p, 0, sizeof p);
    p.kind = DLS_PORT_PACKET;
    p.mtu = 1200;
    f->port = dls_peer_port_open(f->peer, &p, 1);
    memset(&fd, 0, sizeof fd);
    fd.peer = f->peer;
    fd.port = f->port;
    fd.udp_port = 7000u + (unsigned)i;
    f->mem[1] = malloc(dls_find_size(&fd));
    CHECK_STATUS(dls_find_init(&f->find, &fd, f->mem[1], dls_find_size(&fd)), DLS_OK);
}
static void finder_close(finder *f) {
    dls_peer_close(f->peer);
    free(f->mem[0]);
    free(f->mem[1]);
}
static const char *why(const finder *f, uint32_t id, uint64_t now) {
    static char text[300];
    return dls_find_explain(f->find, id, text, sizeof text, now);
}
/* Whether the engine now calls, and whom. */
static bool calls(finder *f, dls_addr *to, uint64_t now) {
    unsigned char buf[1200];
    dls_peer_tick(f->peer, now);
    return dls_peer_tx_packet(f->peer, f->port, to, buf, now) > 0;
}
/* The next announcement of f, however long that takes. */
static uint64_t announce(finder *f, unsigned char *packet, uint64_t now) {
    if (dls_find_deadline(f->find) > now) now = dls_find_deadline(f->find);
    CHECK_INT(dls_find_write(f->find, packet, now), DLS_ANNOUNCE_BYTES);
    return now;
}

static void test_found(void) {
    unsigned char packet[DLS_ANNOUNCE_BYTES], again[DLS_ANNOUNCE_BYTES];
    dls_addr from = place(1, 7399), to;
    dls_announce a;
    char text[60];
    uint64_t now = 1000000;
    uint32_t id;
    dls_status what;
    finder one, two;
    group g;
    group_make(&g, 2, 0);
    finder_open(&one, &g, 0, 5);
    finder_open(&two, &g, 1, 9);
    CHECK_TEXT(why(&two, 1, now), "never heard");
    CHECK_TEXT(why(&two, 2, now), "is this device");
    CHECK_TEXT(why(&two, 77, now), "not in my roster");
    now = announce(&one, packet, now);
    CHECK_STATUS(dls_announce_read(&a, packet, sizeof packet), DLS_OK);
    CHECK_INT(a.group, g.root.group);
    CHECK_INT(a.id, 1);
    CHECK_INT(a.boot, 5);
    CHECK_INT(a.sequence, 1);
    CHECK_INT(a.port, 7000);
    memset(again, 0, sizeof again);
    dls_announce_write(&a, again);
    CHECK(memcmp(again, packet, DLS_ANNOUNCE_BYTES - 16) == 0);
    CHECK(!calls(&two, &to, now));
    CHECK_STATUS(dls_find_read(two.find, &from, packet, sizeof packet, now), DLS_OK);
    CHECK(calls(&two, &to, now));
    CHECK_TEXT(dls_addr_text(&to, text, sizeof text), "10.0.0.1:7000"); /* port of the packet */
    CHECK_TEXT(why(&two, 1, now + 3000000), "was heard 3 s ago, takes packets at 10.0.0.1:7000");
    CHECK_STATUS(dls_find_read(one.find, &from, packet, sizeof packet, now), DLS_OK); /* echo */
    CHECK(!dls_find_next(one.find, &id, &what, now));
    CHECK(!dls_find_next(two.find, &id, &what, now));
    finder_close(&one);
    finder_close(&two);
}
/* Every bit counts; nothing forged, cut or lengthened makes the engine call. */
static void test_announce_forged(void) {
    unsigned char packet[DLS_ANNOUNCE_BYTES + 1], bad[DLS_ANNOUNCE_BYTES + 1];
    const dls_addr from = place(1, 7399);
    dls_addr to;
    uint64_t now = 1000000;
    size_t i, size;
    finder one, two;
    group g;
    group_make(&g, 2, 0);
    finder_open(&one, &g, 0, 5);
    finder_open(&two, &g, 1, 9);
    size = dls_find_size(&two.find->desc);
    now = announce(&one, packet, now);
    packet[DLS_ANNOUNCE_BYTES] = 0;
    for (i = 0; i < 8 * DLS_ANNOUNCE_BYTES; i++) {
        memcpy(bad, packet, sizeof bad);
        bad[i / 8] ^= (unsigned char)(1 << i % 8);
        CHECK(dls_find_read(two.find, &from, bad, DLS_ANNOUNCE_BYTES, now) != DLS_OK);
    }
    for (i = 0; i <= sizeof packet; i++)
        if (i != DLS_ANNOUNCE_BYTES)
            CHECK(dls_find_read(two.find, &from, packet, i > sizeof packet - 1 ? sizeof packet : i,
                                now) != DLS_OK);
    for (i = 0; i < 10000; i++) { /* strangers without end: the table does not grow */
        size_t k;
        for (k = 2; k < sizeof bad; k++)
            bad[k] = (unsigned char)(dls_rand_at(i, (uint32_t)k) & 255);
        memcpy(bad, packet, 8);
        CHECK(dls_find_read(two.find, &from, bad, DLS_ANNOUNCE_BYTES, now) != DLS_OK);
    }
    CHECK_INT(size, dls_find_size(&two.find->desc));
    CHECK(!calls(&two, &to, now));
    CHECK_STATUS(dls_find_read(two.find, &from, packet, DLS_ANNOUNCE_BYTES, now), DLS_OK);
    CHECK(calls(&two, &to, now));
    finder_close(&one);
    finder_close(&two);
}
/* Why a device was not found, each reason by its words. */
static void test_find_reasons(void) {
    unsigned char packet[DLS_ANNOUNCE_BYTES], mac[16];
    const dls_addr from = place(3, 7399);
    uint64_t now = 1000000;
    finder f, other;
    dls_status what;
    uint32_t id;
    group g, h;
    group_make(&g, 3, 0);
    group_make(&h, 4, 0);
    finder_open(&f, &g, 0, 5);
    finder_open(&other, &h, 2, 5);
    now = announce(&other, packet, now);
    CHECK_STATUS(dls_find_read(f.find, &from, packet, sizeof packet, now), DLS_E_MISMATCH);
    CHECK(dls_find_next(f.find, &id, &what, now));
    CHECK_INT(id, 3);
    CHECK_STATUS(what, DLS_E_MISMATCH);
    CHECK_TEXT(why(&f, 3, now), "another group, heard from 10.0.0.3:7399");
    CHECK(!dls_find_next(f.find, &id, &what, now));
    CHECK_STATUS(dls_find_read(f.find, &from, packet, sizeof packet, now), DLS_E_MISMATCH);
    CHECK(!dls_find_next(f.find, &id, &what, now)); /* told already */
    CHECK_STATUS(dls_find_read(f.find, &from, packet, sizeof packet, now + 70000000),
                 DLS_E_MISMATCH);
    CHECK(dls_find_next(f.find, &id, &what, now + 70000000)); /* but once a minute */
    dlsi_store32(packet + 4, g.root.group);
    CHECK_STATUS(dls_find_read(f.find, &from, packet, sizeof packet, now), DLS_E_AUTH);
    CHECK_TEXT(why(&f, 3, now), "another key");
    packet[1] = 2;
    CHECK_STATUS(dls_find_read(f.find, &from, packet, sizeof packet, now), DLS_E_VERSION);
    CHECK_TEXT(why(&f, 3, now), "another version");
    packet[1] = 1;
    dlsi_store32(packet + 8, 4); /* an id of a newer roster, with the group's key */
    dls_announce_mac(mac, g.root.psk, packet);
    memcpy(packet + 32, mac, 16);
    CHECK_STATUS(dls_find_read(f.find, &from, packet, sizeof packet, now), DLS_E_NOT_FOUND);
    CHECK_TEXT(why(&f, 4, now), "not in my roster, heard from");
    f.peer->member[1].device.flags |= DLS_DEVICE_REVOKED;
    CHECK_TEXT(why(&f, 2, now), "is revoked");
    dlsi_store32(packet + 8, 2);
    dls_announce_mac(mac, g.root.psk, packet);
    memcpy(packet + 32, mac, 16);
    CHECK_STATUS(dls_find_read(f.find, &from, packet, sizeof packet, now), DLS_E_REFUSED);
    CHECK_TEXT(why(&f, 2, now), "revoked, but still announces");
    finder_close(&f);
    finder_close(&other);
}
/* Replays do nothing; two devices with one id are told apart from one with two interfaces. */
static void test_find_replay(void) {
    unsigned char first[DLS_ANNOUNCE_BYTES], packet[DLS_ANNOUNCE_BYTES];
    const dls_addr a = place(1, 7399), b = place(2, 7399), c = place(9, 7399);
    uint64_t now = 1000000;
    finder f, one, copy, boot;
    dls_status what;
    dls_addr to;
    uint32_t id;
    char text[60];
    group g;
    group_make(&g, 2, 0);
    finder_open(&f, &g, 1, 5);
    finder_open(&one, &g, 0, 7);
    finder_open(&copy, &g, 0, 7);
    finder_open(&boot, &g, 0, 8);
    now = announce(&one, first, now);
    CHECK_STATUS(dls_find_read(f.find, &a, first, sizeof first, now), DLS_OK);
    CHECK_STATUS(dls_find_read(f.find, &b, first, sizeof first, now + 1000),
                 DLS_OK); /* both paths */
    CHECK_STATUS(dls_find_read(f.find, &c, first, sizeof first, now + 2000000), DLS_E_STATE);
    now = announce(&one, packet, now + 2000000);
    CHECK_STATUS(dls_find_read(f.find, &a, packet, sizeof packet, now), DLS_OK);
    CHECK_STATUS(dls_find_read(f.find, &c, first, sizeof first, now), DLS_E_STATE);
    CHECK(!dls_find_next(f.find, &id, &what, now));
    CHECK(calls(&f, &to, now));
    CHECK_TEXT(dls_addr_text(&to, text, sizeof text), "10.0.0.1:7000");
    now += 4000000; /* no answer there: the other address has its turn */
    now = announce(&one, packet, now);
    CHECK_STATUS(dls_find_read(f.find, &a, packet, sizeof packet, now), DLS_OK);
    for (id = 0; id < 40 && strcmp(dls_addr_text(&to, text, sizeof text), "10.0.0.2:7000") != 0;
         id++)
        (void)calls(&f, &to, now += 200000);
    CHECK_TEXT(text, "10.0.0.2:7000");
    (void)announce(&copy, packet, now); /* the same boot count, another run */
    CHECK_STATUS(dls_find_read(f.find, &c, packet, sizeof packet, now), DLS_E_STATE);
    CHECK(dls_find_next(f.find, &id, &what, now));
    CHECK_STATUS(what, DLS_E_STATE);
    CHECK_TEXT(why(&f, 1, now), "another device announces this id");
    CHECK_TEXT(why(&f, 1, now), "10.0.0.9:7399");
    (void)announce(&boot, packet, now); /* restarted: that is fine */
    CHECK_STATUS(dls_find_read(f.find, &b, packet, sizeof packet, now), DLS_OK);
    CHECK_STATUS(dls_find_read(one.find, &b, packet, sizeof packet, now), DLS_E_STATE);
    CHECK_TEXT(why(&one, 1, now), "another device announces this id"); /* it hears of itself */
    finder_close(&f);
    finder_close(&one);
    finder_close(&copy);
    finder_close(&boot);
}
static void test_find_small(void) {
    unsigned char packet[DLS_ANNOUNCE_BYTES];
    const dls_addr from = place(1, 7399);
    uint64_t now = 1000000;
    finder big, small, mote;
    dls_addr to;
    group g;
    group_make(&g, 3, 6);
    finder_open(&big, &g, 0, 5);
    finder_open(&small, &g, 1, 5);
    finder_open(&mote, &g, 2, 5);
    (void)announce(&small, packet, now);
    CHECK_STATUS(dls_find_read(big.find, &from, packet, sizeof packet, now), DLS_OK);
    CHECK(calls(&big, &to, now));
    CHECK_STATUS(dls_find_read(mote.find, &from, packet, sizeof packet, now), DLS_E_UNSUPPORTED);
    packet[8] = 3; /* with its key it cannot pose as another small one */
    dls_announce_mac(packet + 32, g.small_psk[1], packet);
    CHECK_STATUS(dls_find_read(big.find, &from, packet, sizeof packet, now), DLS_E_AUTH);
    (void)announce(&big, packet, now);
    CHECK_STATUS(dls_find_read(small.find, &from, packet, sizeof packet, now), DLS_E_UNSUPPORTED);
    CHECK(!calls(&small, &to, now));
    finder_close(&big);
    finder_close(&small);
    finder_close(&mote);
}
/* Announcements become rare, and a clock that jumps does not silence them. */
static void test_find_rate(void) {
    unsigned char packet[DLS_ANNOUNCE_BYTES];
    uint64_t now, start = 50000000;
    int n = 0, late = 0;
    finder f;
    group g;
    group_make(&g, 2, 0);
    finder_open(&f, &g, 0, 5);
    for (now = start; now < start + 60000000; now += 10000) {
        const bool out = dls_find_write(f.find, packet, now) > 0;
        n += out;
        late += out && now > start + 20000000;
    }
    CHECK(n >= 14 && n <= 24);
    CHECK(late >= 6 && late <= 11);
    for (now = 0, n = 0; now < 20000000; now += 10000) n += dls_find_write(f.find, packet, now) > 0;
    CHECK(n >= 3);
    CHECK_STATUS(dls_find_init(&f.find, &f.find->desc, f.mem[1], 8), DLS_E_MEMORY);
    finder_close(&f);
}
static void find_tests(void) {
    RUN(found);
    RUN(announce_forged);
    RUN(find_reasons);
    RUN(find_replay);
    RUN(find_small);
    RUN(find_rate);
}
