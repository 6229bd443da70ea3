/* Key files, rosters, identities: what is written is read, anything else refused, in words. */
static const char *path_of(const char *name) {
    static char text[4][400];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(text[turn], sizeof text[0], "%s/%s", getenv("OUT") ? getenv("OUT") : ".", name);
    return text[turn];
}
static size_t file_get(const char *path, unsigned char *to, size_t most) {
    FILE *f = fopen(path, "rb");
    const size_t n = f != NULL ? fread(to, 1, most, f) : 0;
    if (f != NULL) fclose(f);
    return n;
}
static void file_put(const char *path, const void *from, size_t n) {
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(from, 1, n, f) != n) CHECK(false);
    if (f != NULL) fclose(f);
}
static const char *words(const dls_error *e) {
    static char text[400];
    return dls_error_text(e, text, sizeof text);
}
static int mode_of(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 ? (int)(about.st_mode & 0777) : -1;
}
static dls_status key_read(bool root, const char *path, dls_error *e) {
    dls_root r;
    dls_keys k;
    return root ? dls_root_load(&r, path, e) : dls_keys_load(&k, path, e);
}
/* No truncation and no changed byte of a key file is taken. */
static void spoil(bool root, const char *path) {
    unsigned char good[2000], bad[2000];
    const size_t n = file_get(path, good, sizeof good);
    size_t i;
    dls_error e;
    int bit;
    CHECK(n > 100);
    for (i = 0; i < n; i++) {
        file_put(path, good, i);
        CHECK(key_read(root, path, &e) != DLS_OK);
        CHECK_TEXT(words(&e), path);
    }
    for (i = 0; i < n; i++)
        for (bit = 0; bit < 8; bit++) {
            memcpy(bad, good, n);
            bad[i] ^= (unsigned char)(1 << bit);
            file_put(path, bad, n);
            CHECK(key_read(root, path, &e) != DLS_OK);
        }
    memcpy(bad, good, n);
    bad[n] = '\n';
    file_put(path, bad, n + 1);
    CHECK_STATUS(key_read(root, path, &e), DLS_E_FORMAT);
    file_put(path, good, n);
    CHECK_STATUS(key_read(root, path, &e), DLS_OK);
}
static void test_key_files(void) {
    const char *path = path_of("a.key"), *rpath = path_of("root.key");
    dls_roster_file file;
    dls_root root, again;
    dls_keys keys, back;
    dls_error e;
    remove(path);
    remove(rpath);
    memset(&file, 0, sizeof file);
    CHECK_STATUS(dls_root_make(&root, &e), DLS_OK);
    CHECK_STATUS(dls_root_save(&root, rpath, false, &e), DLS_OK);
    CHECK_INT(mode_of(rpath), 0600);
    CHECK_STATUS(dls_root_load(&again, rpath, &e), DLS_OK);
    CHECK(memcmp(&again, &root, sizeof root) == 0);
    CHECK_STATUS(dls_root_save(&root, rpath, false, &e), DLS_E_STATE);
    CHECK_TEXT(words(&e), "--force");
    CHECK_STATUS(dls_root_save(&root, rpath, true, &e), DLS_OK);
    CHECK_STATUS(
        dls_roster_enrol(&file, &root, "ada", DLS_ROLE_JOIN | DLS_ROLE_COORD, false, &keys, &e),
        DLS_OK);
    CHECK_STATUS(dls_keys_save(&keys, path, false, &e), DLS_OK);
    CHECK_INT(mode_of(path), 0600);
    CHECK_STATUS(dls_keys_load(&back, path, &e), DLS_OK);
    CHECK(back.group == root.group && back.id == 1 && !back.is_small && !strcmp(back.name, "ada") &&
          memcmp(back.secret, keys.secret, 32) == 0 && memcmp(back.psk, root.psk, 32) == 0 &&
          memcmp(back.root, keys.root, 32) == 0);
    CHECK_STATUS(dls_keys_load(&back, rpath, &e), DLS_E_FORMAT);
    CHECK_TEXT(words(&e), "no device key");
    CHECK_STATUS(dls_root_load(&again, path, &e), DLS_E_FORMAT);
    CHECK_TEXT(words(&e), "no root key");
    CHECK_STATUS(dls_keys_load(&back, path_of("nothing.key"), &e), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_keys_save(&keys, path_of("no/dir.key"), false, &e), DLS_E_NOT_FOUND);
    chmod(path, 0640);
    CHECK_STATUS(dls_keys_load(&back, path, &e), DLS_E_REFUSED);
    CHECK_TEXT(words(&e), "chmod 600");
    chmod(path, 0600);
    spoil(true, rpath);
    spoil(false, path);
    dls_roster_free(&file);
}
static void test_roster_files(void) {
    const char *path = path_of("a.roster");
    unsigned char bytes[4000], root32[32];
    dls_roster_file file, back;
    dls_root root, other;
    dls_keys keys, mote;
    dls_error e;
    size_t n, i;
    char name[20];
    remove(path);
    memset(&file, 0, sizeof file);
    CHECK_STATUS(dls_root_make(&root, &e), DLS_OK);
    CHECK_STATUS(dls_root_make(&other, &e), DLS_OK);
    dls_ed25519_public(root32, root.seed);
    CHECK_STATUS(dls_roster_enrol(&file, &root, "", DLS_ROLE_JOIN, false, &keys, &e), DLS_E_ARG);
    CHECK_STATUS(dls_roster_enrol(&file, &root, "a b", DLS_ROLE_JOIN, false, &keys, &e), DLS_E_ARG);
    CHECK_STATUS(
        dls_roster_enrol(&file, &root, "0123456789abcdef", DLS_ROLE_JOIN, false, &keys, &e),
        DLS_E_ARG);
    CHECK_STATUS(dls_roster_enrol(&file, &root, "x", DLS_ROLE_TRAIN, false, &keys, &e), DLS_E_ARG);
    CHECK_STATUS(
        dls_roster_enrol(&file, &root, "x", DLS_ROLE_JOIN | DLS_ROLE_COORD, true, &keys, &e),
        DLS_E_ARG); /* a small coordinator */
    CHECK_INT(file.roster.count, 0);
    CHECK_STATUS(dls_roster_enrol(&file, &root, "ada", DLS_ROLE_JOIN, false, &keys, &e), DLS_OK);
    CHECK_STATUS(dls_roster_enrol(&file, &root, "ada", DLS_ROLE_JOIN, false, &keys, &e),
                 DLS_E_STATE);
    CHECK_STATUS(dls_roster_enrol(&file, &other, "ben", DLS_ROLE_JOIN, false, &keys, &e),
                 DLS_E_MISMATCH);
    CHECK_STATUS(dls_roster_enrol(&file, &root, "mote", DLS_ROLE_JOIN, true, &mote, &e), DLS_OK);
    CHECK(mote.is_small && mote.id == 2 && memcmp(mote.psk, root.psk, 32) != 0);
    CHECK_INT(file.roster.epoch, 2);
    CHECK_STATUS(dls_roster_save(&file, path, false, &e), DLS_OK);
    CHECK_STATUS(dls_roster_save(&file, path, false, &e), DLS_E_STATE);
    CHECK_STATUS(dls_roster_load(&back, path, root32, &e), DLS_OK);
    CHECK_INT(back.roster.count, 2);
    CHECK_STATUS(dls_roster_revoke(&back, &root, "nobody", &e), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_roster_revoke(&back, &root, "mote", &e), DLS_OK);
    CHECK_STATUS(dls_roster_revoke(&back, &root, "mote", &e), DLS_E_STATE);
    CHECK_INT(back.roster.epoch, 3);
    CHECK_INT(back.device[1].flags, DLS_DEVICE_SMALL | DLS_DEVICE_REVOKED);
    for (i = 3; i <= DLS_ROSTER_DEVICES; i++) {
        snprintf(name, sizeof name, "d%d", (int)i);
        if (dls_roster_enrol(&back, &root, name, DLS_ROLE_JOIN, true, &keys, &e) != DLS_OK) break;
        if (i == 20) i = DLS_ROSTER_DEVICES, back.roster.count = (int32_t)i; /* signing is slow */
    }
    CHECK_STATUS(dls_roster_enrol(&back, &root, "more", DLS_ROLE_JOIN, true, &keys, &e),
                 DLS_E_LIMIT);
    dls_roster_free(&back);
    n = file_get(path, bytes, sizeof bytes);
    for (i = 0; i < n; i += i < 40 || i + 70 > n ? 1 : 13) {
        file_put(path, bytes, i);
        CHECK(dls_roster_load(&back, path, root32, &e) != DLS_OK);
        bytes[i] ^= 4;
        file_put(path, bytes, n);
        CHECK(dls_roster_load(&back, path, root32, &e) != DLS_OK);
        bytes[i] ^= 4;
    }
    file_put(path, bytes, n);
    dls_ed25519_public(root32, other.seed);
    CHECK_STATUS(dls_roster_load(&back, path, root32, &e), DLS_E_AUTH);
    CHECK_TEXT(words(&e), "not signed by this group's root key");
    CHECK_STATUS(dls_roster_load(&back, path, NULL, &e), DLS_OK);
    dls_roster_free(&back);
    dls_roster_free(&file);
}
/* A group of two on disk: k0.key, k1.key, k.roster. */
static void disk_group(dls_root *root, dls_roster_file *file) {
    dls_keys keys;
    int i;
    CHECK_STATUS(dls_root_make(root, NULL), DLS_OK);
    memset(file, 0, sizeof *file);
    for (i = 0; i < 2; i++) {
        char name[8];
        snprintf(name, sizeof name, "k%d.key", i);
        CHECK_STATUS(
            dls_roster_enrol(file, root, name, DLS_ROLE_JOIN | DLS_ROLE_COORD, false, &keys, NULL),
            DLS_OK);
        CHECK_STATUS(dls_keys_save(&keys, path_of(name), true, NULL), DLS_OK);
        remove(path_of(i == 0 ? "k0.key.state" : "k1.key.state"));
    }
    CHECK_STATUS(dls_roster_save(file, path_of("k.roster"), true, NULL), DLS_OK);
}
static void test_identity(void) {
    char key[400], roster[400], state[400];
    unsigned char bytes[3000], promise[28];
    dls_roster_file file, other_file;
    dls_identity me;
    dls_peer_desc d;
    dls_root root, other;
    dls_error e;
    uint32_t boot;
    size_t n, i;
    disk_group(&other, &other_file);
    disk_group(&root, &file);
    snprintf(key, sizeof key, "%s", path_of("k0.key"));
    snprintf(roster, sizeof roster, "%s", path_of("k.roster"));
    snprintf(state, sizeof state, "%s", path_of("k0.key.state"));
    CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_OK);
    boot = me.boot;
    memset(&d, 0, sizeof d);
    dls_identity_desc(&me, &d);
    CHECK(d.id == 1 && d.roster->count == 2 && d.boot == boot && d.store != NULL);
    memset(promise, 7, sizeof promise);
    {
        void *mem = malloc(dls_peer_size(&d));
        dls_peer *peer = NULL;
        CHECK_STATUS(dls_peer_init(&peer, &d, mem, dls_peer_size(&d)), DLS_OK);
        CHECK_STATUS(dls_identity_bind(&me, peer, 1), DLS_OK);
        CHECK_STATUS(dls_identity_refresh(&me, peer, 1, &e), DLS_OK); /* nothing is new */
        CHECK_INT(peer->epoch, 2);
        if (peer != NULL) dls_peer_close(peer);
        free(mem);
    }
    CHECK(d.store(d.store_user, promise, sizeof promise));
    dls_identity_free(&me);
    CHECK_INT(mode_of(state), 0600);
    for (i = 0; i < 3; i++) { /* greater each time, within one second, too; promises stay */
        CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_OK);
        CHECK(me.boot > boot);
        CHECK(me.stored_bytes == sizeof promise && memcmp(me.stored, promise, sizeof promise) == 0);
        boot = me.boot;
        dls_identity_free(&me);
    }
    n = file_get(state, bytes, sizeof bytes);
    for (i = 0; i < n; i++) {
        file_put(state, bytes, i);
        CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_E_CHECKSUM);
        dls_identity_free(&me);
        bytes[i] ^= 1;
        file_put(state, bytes, n);
        CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_E_CHECKSUM);
        CHECK_TEXT(words(&e), ".state' cannot be read or is damaged");
        dls_identity_free(&me);
        bytes[i] ^= 1;
    }
    remove(state); /* lost: the calendar still makes it greater than what was minutes ago */
    CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_OK);
    CHECK(me.boot + 10 > boot);
    dls_identity_free(&me);
    CHECK_STATUS(dls_roster_save(&other_file, roster, true, &e), DLS_OK);
    CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_E_AUTH);
    dls_identity_free(&me);
    CHECK_STATUS(dls_roster_revoke(&file, &root, "k0.key", &e), DLS_OK);
    CHECK_STATUS(dls_roster_save(&file, roster, true, &e), DLS_OK);
    CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_E_REFUSED);
    CHECK_TEXT(words(&e), "device 1 is revoked");
    dls_identity_free(&me);
    file.device[0].flags = 0;
    memcpy(file.device[0].public_key, file.device[1].public_key, 32);
    (void)dls_roster_revoke(&file, &root, "k1.key", &e);
    CHECK_STATUS(dls_roster_save(&file, roster, true, &e), DLS_OK);
    CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_E_MISMATCH);
    CHECK_TEXT(words(&e), "another key for device 1");
    dls_identity_free(&me);
    dls_roster_free(&file);
    dls_roster_free(&other_file);
}
/* An engine bound to an identity follows its roster file: newer ones are installed, older ones and
   damage are not, the one that revokes it is told. */
static void test_identity_refresh(void) {
    char key[400], roster[400];
    dls_roster_file file;
    dls_identity me;
    dls_peer_desc d;
    dls_peer *peer;
    dls_root root;
    dls_keys keys;
    dls_error e;
    void *mem;
    disk_group(&root, &file);
    snprintf(key, sizeof key, "%s", path_of("k0.key"));
    snprintf(roster, sizeof roster, "%s", path_of("k.roster"));
    CHECK_STATUS(dls_identity_load(&me, key, roster, &e), DLS_OK);
    memset(&d, 0, sizeof d);
    dls_identity_desc(&me, &d);
    mem = malloc(dls_peer_size(&d));
    CHECK_STATUS(dls_peer_init(&peer, &d, mem, dls_peer_size(&d)), DLS_OK);
    CHECK_STATUS(dls_identity_bind(&me, peer, 1000), DLS_OK);
    CHECK_STATUS(dls_identity_refresh(&me, peer, 2000, &e), DLS_OK);
    CHECK_INT(dls_peer_rank_of(peer, 3), -1);
    CHECK_STATUS(dls_roster_enrol(&file, &root, "new", DLS_ROLE_JOIN, false, &keys, &e), DLS_OK);
    CHECK_STATUS(dls_identity_refresh(&me, peer, 3000, &e), DLS_OK); /* not saved yet */
    CHECK_INT(dls_peer_rank_of(peer, 3), -1);
    CHECK_STATUS(dls_roster_save(&file, roster, true, &e), DLS_OK);
    CHECK_STATUS(dls_identity_refresh(&me, peer, 4000, &e), DLS_OK);
    CHECK_INT(dls_peer_rank_of(peer, 3), 2);
    file_put(roster, "no roster", 9);
    CHECK(dls_identity_refresh(&me, peer, 5000, &e) != DLS_OK);
    CHECK_INT(dls_peer_rank_of(peer, 3), 2);
    CHECK_STATUS(dls_roster_revoke(&file, &root, "k0.key", &e), DLS_OK);
    CHECK_STATUS(dls_roster_save(&file, roster, true, &e), DLS_OK);
    CHECK_STATUS(dls_identity_refresh(&me, peer, 6000, &e), DLS_E_REFUSED);
    CHECK_TEXT(words(&e), "this device is revoked");
    dls_peer_close(peer);
    dls_identity_free(&me);
    dls_roster_free(&file);
    free(mem);
}
static bool hosts_until(dls_host *h, int n, uint64_t us, bool (*done)(dls_host *)) {
    const uint64_t start = dls_now_us();
    while (dls_now_us() - start < us) {
        int i;
        for (i = 0; i < n; i++)
            if (h[i].peer != NULL) (void)dls_host_poll(&h[i], 1000, NULL, NULL, NULL, NULL);
        if (done(h)) return true;
    }
    return false;
}
static bool hosts_up(dls_host *h) {
    return dls_peer_up(h[0].peer) == 2 && dls_peer_up(h[1].peer) == 2;
}
static bool hosts_newer(dls_host *h) { return h[0].peer->epoch == 3 && h[1].peer->epoch == 3; }
static bool hosts_newest(dls_host *h) { return h[0].peer->epoch == 4 && h[1].peer->epoch == 4; }
static bool hosts_parted(dls_host *h) { return dls_peer_up(h[0].peer) == 1; }
/* Two hosts; a roster that one finds in its file reaches the other's file; twice, since the place
   where the first came to must be free again; the third revokes one, which is out. */
static void test_host_roster(void) {
    char key[2][400], roster[2][400], text[200], connect[60];
    dls_roster_file file, seen;
    dls_host_desc d;
    dls_peer_event event;
    dls_host h[2];
    dls_root root;
    dls_keys keys;
    dls_error e;
    uint64_t start;
    int i, ups = 0;
    dls_status st = DLS_OK;
    disk_group(&root, &file);
    memset(h, 0, sizeof h);
    for (i = 0; i < 2; i++) {
        snprintf(key[i], sizeof key[i], "%s", path_of(i == 0 ? "k0.key" : "k1.key"));
        snprintf(roster[i], sizeof roster[i], "%s", path_of(i == 0 ? "k.roster" : "k1.roster"));
        if (i == 1) CHECK_STATUS(dls_roster_save(&file, roster[1], true, &e), DLS_OK);
        memset(&d, 0, sizeof d);
        d.key = key[i];
        d.roster = roster[i];
        d.no_lan = true;
        d.connect = i == 1 ? connect : NULL;
        CHECK_STATUS(dls_host_open(&h[i], &d, &e), DLS_OK);
        snprintf(connect, sizeof connect, "1@127.0.0.1:%d", (int)dls_udp_port(h[0].udp));
    }
    CHECK(hosts_until(h, 2, 5000000, hosts_up));
    while (dls_host_next(&h[0], &event, text, sizeof text))
        ups += event.type == DLS_PEER_UP && strcmp(text, "up 2 k1.key") == 0;
    CHECK_INT(ups, 1);
    for (i = 0; i < 2; i++) {
        char name[8];
        snprintf(name, sizeof name, "new%d", i);
        CHECK_STATUS(dls_roster_enrol(&file, &root, name, DLS_ROLE_JOIN, false, &keys, &e), DLS_OK);
        CHECK_STATUS(dls_roster_save(&file, roster[0], true, &e), DLS_OK);
        CHECK(hosts_until(h, 2, 6000000, i == 0 ? hosts_newer : hosts_newest));
        start = dls_now_us();
        do { /* written within the next second */
            (void)dls_host_poll(&h[1], 50000, NULL, NULL, NULL, NULL);
            (void)dls_host_poll(&h[0], 1000, NULL, NULL, NULL, NULL);
            if (dls_roster_load(&seen, roster[1], NULL, &e) == DLS_OK) {
                st = seen.roster.epoch == file.roster.epoch ? DLS_OK : DLS_E_TIMEOUT;
                dls_roster_free(&seen);
            }
        } while (st != DLS_OK && dls_now_us() - start < 3000000);
        CHECK_STATUS(st, DLS_OK);
    }
    CHECK_STATUS(dls_roster_revoke(&file, &root, "k1.key", &e), DLS_OK);
    CHECK_STATUS(dls_roster_save(&file, roster[0], true, &e), DLS_OK);
    CHECK(hosts_until(h, 2, 3000000, hosts_parted));
    CHECK(dls_peer_why(h[0].peer, 1) == DLS_E_REFUSED);
    CHECK_STATUS(dls_roster_save(&file, roster[1], true, &e), DLS_OK); /* it learns of it */
    start = dls_now_us();
    do st = dls_host_poll(&h[1], 50000, NULL, NULL, NULL, &e);
    while (st == DLS_OK && dls_now_us() - start < 3000000);
    CHECK_STATUS(st, DLS_E_REFUSED);
    CHECK_TEXT(words(&e), "revoked");
    for (i = 0; i < 2; i++) dls_host_close(&h[i]);
    dls_roster_free(&file);
}
/* One conversation, packet by packet, each in a block of its exact size. change: which packet is
   spoilt (0: none), at which byte; cut: by how many bytes. Returns the step that failed or 0. */
typedef struct enrolment {
    dls_enrol here, root;
    dls_keys keys;
    dls_roster_file got;
    unsigned char packet[5][DLS_ENROL_MOST];
    size_t size[5];
    uint64_t now;
} enrolment;
static enrolment enrol_c;
static dls_status enrol_step(dls_status st, int step, int change, size_t at, size_t cut) {
    if (st == DLS_OK && change == step) {
        enrol_c.size[step] -= cut;
        if (cut == 0) enrol_c.packet[step][at % enrol_c.size[step]] ^= 1;
    }
    return st;
}
static int enrol_run(dls_invite *here, dls_invite *root_invite, int32_t invites,
                     const dls_root *root, dls_roster_file *file, int change, size_t at,
                     size_t cut) {
    enrolment *c = &enrol_c;
    unsigned char *p;
    dls_status st;
    int i, failed = 0;
    c->now += 200000;
    c->size[1] = c->size[2] = DLS_ENROL_BYTES;
    c->size[3] = 68;
    st = enrol_step(dls_enrol_call(&c->here, here, c->packet[1]), 1, change, at, cut);
    for (i = 1; i <= 4 && st == DLS_OK; i++) {
        p = (unsigned char *)malloc(c->size[i] + 1);
        memcpy(p, c->packet[i], c->size[i]);
        failed = i;
        if (i == 1)
            st = dls_enrol_answer(&c->root, root_invite, invites, p, c->size[1], c->packet[2],
                                  c->now);
        if (i == 2) st = dls_enrol_prove(&c->here, p, c->size[2], c->packet[3]);
        if (i == 3)
            st = dls_enrol_admit(&c->root, root, file, p, c->size[3], c->packet[4], &c->size[4],
                                 NULL);
        if (i == 4) st = dls_enrol_take(&c->here, p, c->size[4], &c->keys, &c->got, NULL);
        free(p);
        if (i < 4) st = enrol_step(st, i + 1, change, at, cut);
    }
    return st == DLS_OK ? 0 : failed;
}
static void test_enrol_by_code(void) {
    char code[DLS_CODE_TEXT], bad[DLS_CODE_TEXT];
    unsigned char root32[32], old[DLS_ENROL_BYTES], to[DLS_ENROL_BYTES];
    dls_invite here, other, list[3];
    dls_roster_file file;
    dls_root root;
    dls_keys keys;
    int i;
    memset(&file, 0, sizeof file);
    CHECK_STATUS(dls_root_make(&root, NULL), DLS_OK);
    dls_ed25519_public(root32, root.seed);
    CHECK_STATUS(
        dls_roster_enrol(&file, &root, "ada", DLS_ROLE_JOIN | DLS_ROLE_COORD, false, &keys, NULL),
        DLS_OK);
    CHECK_STATUS(dls_invite_make(&list[0], "a b", DLS_ROLE_JOIN, code), DLS_E_ARG);
    CHECK_STATUS(dls_invite_make(&list[0], "ben", DLS_ROLE_TRAIN, code), DLS_E_ARG);
    CHECK_STATUS(dls_invite_make(&list[0], "cleo", DLS_ROLE_JOIN, code), DLS_OK);
    CHECK_STATUS(dls_invite_read(&other, code), DLS_OK);
    CHECK_STATUS(dls_invite_make(&list[1], "ben", DLS_ROLE_JOIN | DLS_ROLE_TRAIN, code), DLS_OK);
    CHECK_STATUS(dls_invite_make(&list[2], "ada", DLS_ROLE_JOIN, bad), DLS_OK);
    CHECK_INT(strlen(code), DLS_CODE_TEXT - 1);
    for (i = 0; i < DLS_CODE_TEXT - 1; i++) { /* mistyped, cut short */
        memcpy(bad, code, sizeof bad);
        bad[i] = bad[i] == '0' ? '1' : '0';
        CHECK_STATUS(dls_invite_read(&here, bad), DLS_E_FORMAT);
        bad[i] = '\0';
        CHECK_STATUS(dls_invite_read(&here, bad), DLS_E_FORMAT);
    }
    CHECK_STATUS(dls_invite_read(&here, code), DLS_OK);
    CHECK(memcmp(here.psk, list[1].psk, 32) == 0);
    /* Any byte of a packet changed, or some missing: its receiver stops there. Packet 4 of all
       bytes is tried last, since it uses the invite up. */
    for (i = 0; i < DLS_ENROL_BYTES; i++) {
        CHECK_INT(enrol_run(&here, list, 3, &root, &file, 1, (size_t)i, 0), 1);
        CHECK_INT(enrol_run(&here, list, 3, &root, &file, 2, (size_t)i, 0), 2);
        CHECK_INT(enrol_run(&here, list, 3, &root, &file, 1, 0, (size_t)i + 1), 1);
        CHECK_INT(enrol_run(&here, list, 3, &root, &file, 2, 0, (size_t)i + 1), 2);
        if (i >= 68) continue;
        CHECK_INT(enrol_run(&here, list, 3, &root, &file, 3, (size_t)i, 0), 3);
        CHECK_INT(enrol_run(&here, list, 3, &root, &file, 3, 0, (size_t)i + 1), 3);
    }
    CHECK_INT(file.roster.count, 1);
    memcpy(old, enrol_c.packet[1], sizeof old);
    /* A good first packet again: answered, seldom, and that is all. */
    enrol_c.now += 200000;
    CHECK_STATUS(dls_enrol_answer(&enrol_c.root, list, 3, old, sizeof old, to, enrol_c.now),
                 DLS_OK);
    CHECK_STATUS(dls_enrol_answer(&enrol_c.root, list, 3, old, sizeof old, to, enrol_c.now + 99999),
                 DLS_E_LIMIT);
    CHECK_STATUS(dls_enrol_admit(&enrol_c.root, &root, &file, enrol_c.packet[3], 68,
                                 enrol_c.packet[4], &enrol_c.size[4], NULL),
                 DLS_E_STATE);
    CHECK_INT(file.roster.count, 1);
    /* The right code; the device has a key of its own, a name, and is in the roster. */
    CHECK_INT(enrol_run(&here, list, 3, &root, &file, 0, 0, 0), 0);
    CHECK_INT(file.roster.count, 2);
    CHECK(enrol_c.keys.id == 2 && strcmp(enrol_c.keys.name, "ben") == 0 && !enrol_c.keys.is_small);
    CHECK(memcmp(enrol_c.keys.psk, root.psk, 32) == 0);
    CHECK(memcmp(enrol_c.keys.root, root32, 32) == 0);
    dls_x25519_public(to, enrol_c.keys.secret);
    CHECK(memcmp(to, file.device[1].public_key, 32) == 0);
    CHECK_INT(file.device[1].role, DLS_ROLE_JOIN | DLS_ROLE_TRAIN);
    CHECK_INT(enrol_c.got.roster.count, 2);
    dls_roster_free(&enrol_c.got);
    /* Once. A packet 3 that was recorded is worth nothing; a name that is taken is refused. */
    CHECK_INT(enrol_run(&here, list, 3, &root, &file, 0, 0, 0), 1);
    CHECK(list[1].used && !list[0].used);
    CHECK_INT(enrol_run(&list[2], list, 3, &root, &file, 0, 0, 0), 3);
    CHECK(!list[2].used);
    CHECK_INT(enrol_run(&other, list, 1, &root, &file, 4, 5, 0), 4);
    dls_enrol_wipe(&enrol_c.here);
    dls_enrol_wipe(&enrol_c.root);
    dls_roster_free(&file);
}
static void keys_tests(void) {
    RUN(enrol_by_code);
    RUN(key_files);
    RUN(roster_files);
    RUN(identity);
    RUN(identity_refresh);
    RUN(host_roster);
}
