/* Drivers over real sockets, ptys and files of this machine; loopback only. */
#include "sys.h"
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include "../test.h"
#include "side.h"
#include "find.c"
#include "keys.c"

#define WAIT 8000000

static void test_addr(void) {
    static const char *const good[] = {"192.168.1.5:7000", "0.0.0.0:0", "255.255.255.255:65535"};
    static const char *const bad[] = {
        "",           "1.2.3.4",     "1.2.3:7",     "1.2.3.256:7", "1.2.3.4:65536",
        "1.2.3.4:7 ", "1.2.3.4:x",   "host:7",      "[::1]",       "[::1:7",
        "[::g]:7",    "[::1]:70000", "1.2.3.4:",    "1.2.3.4:-1",  "[fe80::1%no0]:7",
        "localhost",  "1..2.3:7",    "01.2.3.4.5:7"};
    dls_addr a;
    char text[80];
    size_t i;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK_STATUS(dls_addr_read(&a, good[i]), DLS_OK);
        CHECK_INT(a.size, 6);
        CHECK(strcmp(dls_addr_text(&a, text, sizeof text), good[i]) == 0);
    }
    CHECK_STATUS(dls_addr_read(&a, "localhost:80"), DLS_OK);
    CHECK(strcmp(dls_addr_text(&a, text, sizeof text), "127.0.0.1:80") == 0);
    CHECK_STATUS(dls_addr_read(&a, "[2001:db8::17]:443"), DLS_OK);
    CHECK(strcmp(dls_addr_text(&a, text, sizeof text),
                 "[2001:0db8:0000:0000:0000:0000:0000:0017]:443") == 0);
    CHECK_STATUS(dls_addr_read(&a, "[fe80::1%lo]:7"), DLS_OK);
    CHECK_INT(a.size, 19);
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_STATUS(dls_addr_read(&a, bad[i]), DLS_E_ARG);
    CHECK(strlen(dls_addr_text(&a, text, 4)) < 4);
}

/* ---- UDP ---- */

/* Two sides over UDP on loopback, the second calls the first. */
static void udp_pair(side *s, const group *g, const char *where) {
    char list[80], at[80];
    dls_addr a;
    dls_error e;
    int i;
    for (i = 0; i < 2; i++) {
        CHECK(side_open(&s[i], g, i, 3));
        CHECK_STATUS(side_udp(&s[i], where, &e), DLS_OK);
    }
    CHECK_STATUS(dls_addr_read(&a, where), DLS_OK);
    a = dlsi_find_place(&a, (uint32_t)dls_udp_port(s[0].udp));
    snprintf(list, sizeof list, "%d@%s", g != NULL ? 1 : 0, dls_addr_text(&a, at, sizeof at));
    CHECK_STATUS(dls_udp_connect(s[1].udp, list, &e), DLS_OK);
}
static void test_udp(void) {
    const int before = open_fds();
    side s[2];
    group g;
    group_make(&g, 2, 0);
    udp_pair(s, &g, "127.0.0.1:0");
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    CHECK(sides_trade(s, 300000, WAIT, NULL, NULL));
    CHECK(sides_trade(s, 0, WAIT, NULL, NULL));
    side_close(&s[0]);
    side_close(&s[1]);
    CHECK_INT(open_fds(), before);
}
static void test_udp_v6(void) {
    side s[2];
    group g;
    dls_udp_desc d;
    const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 a;
    bool have;
    memset(&a, 0, sizeof a);
    a.sin6_family = AF_INET6;
    a.sin6_addr.s6_addr[15] = 1;
    have = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    group_make(&g, 2, 0);
    if (have) {
        udp_pair(s, &g, "[::1]:0");
        CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
        CHECK(sides_trade(s, 20000, WAIT, NULL, NULL));
        side_close(&s[0]);
        side_close(&s[1]);
    }
    udp_pair(s, &g, "127.0.0.1:0"); /* one side on every address, of both kinds */
    dls_links_remove(s[1].links, dls_udp_link(s[1].udp));
    dls_udp_close(s[1].udp);
    memset(&d, 0, sizeof d);
    d.peer = s[1].peer;
    CHECK_STATUS(
        dls_udp_init(&s[1].udp, &d, side_take(&s[1], dls_udp_size(&d)), dls_udp_size(&d), NULL),
        DLS_OK);
    CHECK_STATUS(dls_links_add(s[1].links, dls_udp_link(s[1].udp)), DLS_OK);
    {
        char list[60];
        snprintf(list, sizeof list, "1@localhost:%d", (int)dls_udp_port(s[0].udp));
        CHECK_STATUS(dls_udp_connect(s[1].udp, list, NULL), DLS_OK);
    }
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    CHECK(sides_trade(s, 20000, WAIT, NULL, NULL));
    side_close(&s[0]);
    side_close(&s[1]);
}
/* Without keys: loopback, or by name. */
static void test_plain(void) {
    dls_udp_desc d;
    dls_serial_desc sd;
    dls_tcp_desc td;
    dls_lan_desc ld;
    dls_udp *udp;
    dls_lan *lan;
    dls_serial *serial;
    dls_tcp *tcp;
    dls_error e;
    side s[2];
    void *mem = malloc(1 << 22);
    udp_pair(s, NULL, "127.0.0.1:0");
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    CHECK(sides_trade(s, 30000, WAIT, NULL, NULL));
    CHECK_STATUS(dls_udp_connect(s[1].udp, "0@10.0.0.1:7000", &e), DLS_E_REFUSED);
    CHECK_TEXT(words(&e), "not loopback");
    CHECK_STATUS(dls_udp_connect(s[1].udp, "7@127.0.0.1:7000", &e), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_udp_connect(s[1].udp, "0@127.0.0.1:0", &e), DLS_E_ARG);
    CHECK_STATUS(dls_udp_connect(s[1].udp, "127.0.0.1:7", &e), DLS_E_ARG);
    memset(&d, 0, sizeof d);
    d.peer = s[0].peer;
    d.bind = "0.0.0.0:0";
    CHECK_STATUS(dls_udp_init(&udp, &d, mem, 1 << 22, &e), DLS_E_REFUSED);
    CHECK_TEXT(words(&e), "allow plaintext by name");
    d.bind = "what";
    CHECK_STATUS(dls_udp_init(&udp, &d, mem, 1 << 22, &e), DLS_E_ARG);
    CHECK_STATUS(dls_udp_init(&udp, &d, mem, 8, &e), DLS_E_MEMORY);
    d.bind = "0.0.0.0:0";
    d.allow_plaintext = true;
    CHECK_STATUS(dls_udp_init(&udp, &d, mem, 1 << 22, &e), DLS_OK);
    dls_udp_close(udp);
    d.bind = NULL; /* loopback by itself */
    d.allow_plaintext = false;
    CHECK_STATUS(dls_udp_init(&udp, &d, mem, 1 << 22, &e), DLS_OK);
    {
        struct sockaddr_in a;
        socklen_t n = sizeof a;
        CHECK(getsockname(udp->fd, (struct sockaddr *)&a, &n) == 0);
        CHECK_INT(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
    }
    memset(&ld, 0, sizeof ld);
    ld.udp = udp;
    CHECK_STATUS(dls_lan_init(&lan, &ld, (char *)mem + (1 << 20), 1 << 20, &e), DLS_E_REFUSED);
    CHECK_TEXT(words(&e), "needs keys");
    dls_udp_close(udp);
    memset(&sd, 0, sizeof sd);
    sd.peer = s[0].peer;
    sd.path = "/dev/null";
    CHECK_STATUS(dls_serial_init(&serial, &sd, mem, 1 << 22, &e), DLS_E_REFUSED);
    memset(&td, 0, sizeof td);
    td.peer = s[0].peer;
    td.listen = "0.0.0.0:0";
    CHECK_STATUS(dls_tcp_init(&tcp, &td, mem, 1 << 22, &e), DLS_E_REFUSED);
    free(mem);
    side_close(&s[0]);
    side_close(&s[1]);
}

/* ---- Strangers ---- */

/* Sends a thousand packets without the key to an address: noise, INITs of all patterns that are
   right but for the mac, recorded DATA. Bytes that came back. */
typedef struct stranger {
    int fd;
    struct sockaddr_in to;
    const group *g;
    uint32_t sent;
    size_t back;
} stranger;
static void stranger_turn(void *user) {
    stranger *x = (stranger *)user;
    unsigned char p[200], in[2000];
    int k;
    for (k = 0; k < 10 && x->sent < 1000; k++, x->sent++) {
        size_t n = dls_rand_at(5, x->sent) % sizeof p, i;
        dls_init_head h;
        for (i = 0; i < sizeof p; i++)
            p[i] = (unsigned char)(dls_rand_at(6 + x->sent, (uint32_t)i) & 255);
        if (x->sent % 2 == 0) {
            memset(&h, 0, sizeof h);
            h.type = (uint8_t)(1 + x->sent / 2 % 5);
            h.pattern = (uint8_t)(x->sent / 10 % 2 == 0 ? 1 : x->sent / 20 % 2 == 0 ? 3 : 0);
            h.id = 2;
            h.index = x->sent;
            h.group_or_index = x->g->root.group;
            dls_init_head_write(&h, p);
            n = h.pattern == 0 ? DLS_INIT_PLAIN : DLS_INIT_BYTES;
        }
        (void)sendto(x->fd, p, n, 0, (struct sockaddr *)&x->to, sizeof x->to);
    }
    for (;;) {
        const ssize_t n = recvfrom(x->fd, in, sizeof in, MSG_DONTWAIT, NULL, NULL);
        if (n < 0) return;
        x->back += (size_t)n;
    }
}
static void test_stranger(void) {
    stranger x;
    side s[2];
    group g;
    group_make(&g, 2, 0);
    udp_pair(s, &g, "127.0.0.1:0");
    memset(&x, 0, sizeof x);
    x.fd = socket(AF_INET, SOCK_DGRAM, 0);
    x.to.sin_family = AF_INET;
    x.to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    x.to.sin_port = htons((uint16_t)dls_udp_port(s[0].udp));
    x.g = &g;
    (void)sides_run(s, 1, 600000, NULL, stranger_turn, &x);
    CHECK_INT(x.sent, 1000);
    CHECK_INT(x.back, 0);
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL)); /* those with the key still join */
    x.sent = 0;
    (void)sides_run(s, 2, 600000, NULL, stranger_turn, &x);
    CHECK_INT(x.back, 0);
    CHECK(all_up(s, 2, NULL));
    close(x.fd);
    side_close(&s[0]);
    side_close(&s[1]);
}
/* One with a key of another root key, and the same group number and ids, is no better. */
static void test_other_key(void) {
    side s[2];
    group g, h;
    char list[60];
    dls_error e;
    group_make(&g, 2, 0);
    group_make(&h, 2, 0);
    h.root.group = h.roster.group = g.root.group;
    CHECK(side_open(&s[0], &g, 0, 3));
    CHECK(side_open(&s[1], &h, 1, 3));
    CHECK_STATUS(side_udp(&s[0], "127.0.0.1:0", &e), DLS_OK);
    CHECK_STATUS(side_udp(&s[1], "127.0.0.1:0", &e), DLS_OK);
    CHECK_STATUS(side_tcp(&s[0], "127.0.0.1:0", &e), DLS_OK);
    CHECK_STATUS(side_tcp(&s[1], NULL, &e), DLS_OK);
    snprintf(list, sizeof list, "1@127.0.0.1:%d", (int)dls_udp_port(s[0].udp));
    CHECK_STATUS(dls_udp_connect(s[1].udp, list, &e), DLS_OK);
    snprintf(list, sizeof list, "1@127.0.0.1:%d", (int)dls_tcp_port(s[0].tcp));
    CHECK_STATUS(dls_tcp_connect(s[1].tcp, list, &e), DLS_OK);
    CHECK(!sides_run(s, 2, 1500000, all_up, NULL, NULL));
    CHECK_INT(dls_peer_up(s[0].peer), 1);
    CHECK_INT(dls_peer_up(s[1].peer), 1);
    side_close(&s[0]);
    side_close(&s[1]);
}

/* ---- TCP ---- */

static void test_tcp(void) {
    const int before = open_fds();
    char list[60];
    dls_error e;
    side s[2];
    group g;
    int i;
    group_make(&g, 2, 0);
    for (i = 0; i < 2; i++) {
        CHECK(side_open(&s[i], &g, i, 3));
        CHECK_STATUS(side_tcp(&s[i], i == 0 ? "127.0.0.1:0" : NULL, &e), DLS_OK);
    }
    CHECK_INT(dls_tcp_port(s[1].tcp), 0);
    snprintf(list, sizeof list, "1@127.0.0.1:%d", (int)dls_tcp_port(s[0].tcp));
    CHECK_STATUS(dls_tcp_connect(s[1].tcp, "9@127.0.0.1:7", &e), DLS_E_NOT_FOUND);
    CHECK_STATUS(dls_tcp_connect(s[1].tcp, list, &e), DLS_OK);
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    CHECK(sides_trade(s, 1000000, WAIT, NULL, NULL));
    /* the listener goes and comes back: it is called again */
    i = dls_tcp_port(s[0].tcp);
    dls_links_remove(s[0].links, dls_tcp_link(s[0].tcp));
    dls_tcp_close(s[0].tcp);
    (void)sides_run(s, 2, 300000, NULL, NULL, NULL);
    CHECK_INT(dls_peer_up(s[1].peer), 1);
    snprintf(list, sizeof list, "127.0.0.1:%d", i);
    CHECK_STATUS(side_tcp(&s[0], list, &e), DLS_OK);
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    CHECK(sides_trade(s, 1000, WAIT, NULL, NULL));
    CHECK_STATUS(side_tcp(&s[1], list, &e), DLS_E_IO);
    CHECK_TEXT(words(&e), "another program");
    side_close(&s[0]);
    side_close(&s[1]);
    CHECK_INT(open_fds(), before);
}
/* Silent strangers hold every place: a member joins all the same, they hear nothing. */
static void test_tcp_strangers(void) {
    int fd[20], i;
    char list[60], in[64];
    size_t back = 0;
    struct sockaddr_in a;
    dls_error e;
    side s[2];
    group g;
    group_make(&g, 2, 0);
    for (i = 0; i < 2; i++) {
        CHECK(side_open(&s[i], &g, i, 3));
        CHECK_STATUS(side_tcp(&s[i], i == 0 ? "127.0.0.1:0" : NULL, &e), DLS_OK);
    }
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((uint16_t)dls_tcp_port(s[0].tcp));
    s[0].peer->desc.timeout_us = 60000000; /* it does not end silent ones by itself in this test */
    for (i = 0; i < 20; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(fd[i], (struct sockaddr *)&a, sizeof a) == 0);
        if (i % 2 == 0) (void)send(fd[i], "\x10\0\0\0GET / HTTP/1.1\r\n\r\n", 20, MSG_NOSIGNAL);
        (void)sides_run(s, 1, 5000, NULL, NULL, NULL);
    }
    snprintf(list, sizeof list, "1@127.0.0.1:%d", (int)dls_tcp_port(s[0].tcp));
    CHECK_STATUS(dls_tcp_connect(s[1].tcp, list, &e), DLS_OK);
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    for (i = 0; i < 20; i++) {
        ssize_t n;
        while ((n = recv(fd[i], in, sizeof in, MSG_DONTWAIT)) > 0) back += (size_t)n;
        close(fd[i]);
    }
    CHECK_INT(back, 0);
    side_close(&s[0]);
    side_close(&s[1]);
}

/* ---- Serial ---- */

typedef struct pty {
    int master;
    char slave[100];
} pty;
static void pty_open(pty *p) {
    p->master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(p->master >= 0 && grantpt(p->master) == 0 && unlockpt(p->master) == 0);
    snprintf(p->slave, sizeof p->slave, "%s", ptsname(p->master));
    fcntl(p->master, F_SETFL, O_NONBLOCK);
}
/* A cable between two ptys that changes, loses and makes up bytes, of a million each. */
typedef struct cable {
    pty end[2];
    dls_rng rng;
    uint32_t noise;
    size_t carried;
} cable;
static cable *the_cable; /* what sides_trade's extra carries on */
static void cable_turn(void *user) {
    cable *c = the_cable;
    int i;
    (void)user;
    for (i = 0; i < 2; i++) {
        unsigned char in[1500], out[3000];
        const ssize_t n = read(c->end[i].master, in, sizeof in);
        ssize_t k, m = 0;
        for (k = 0; k < n; k++) {
            const uint32_t what = dls_rng_u32(&c->rng) % 1000000;
            if (what < c->noise) {
                if (what % 3 == 0) continue;
                if (what % 3 == 1) out[m++] = (unsigned char)(dls_rng_u32(&c->rng) & 255);
                out[m++] = (unsigned char)(in[k] ^ (1 << what % 8));
            } else {
                out[m++] = in[k];
            }
        }
        if (m > 0 && write(c->end[1 - i].master, out, (size_t)m) > 0) c->carried += (size_t)m;
    }
}
static void cable_open(cable *c, uint32_t noise, side *s, const group *g) {
    dls_error e;
    int i;
    memset(c, 0, sizeof *c);
    c->noise = noise;
    the_cable = c;
    for (i = 0; i < 2; i++) {
        pty_open(&c->end[i]);
        CHECK(side_open(&s[i], g, i, 3));
        CHECK_STATUS(side_serial(&s[i], c->end[i].slave, -1, i == 1 ? 1 : 0, &e), DLS_OK);
    }
}
static void cable_close(cable *c, side *s) {
    int i;
    for (i = 0; i < 2; i++) {
        side_close(&s[i]);
        close(c->end[i].master);
    }
}
static void serial_over(uint32_t noise, size_t bytes) {
    const int before = open_fds();
    cable c;
    side s[2];
    group g;
    group_make(&g, 2, 0);
    cable_open(&c, noise, s, &g);
    CHECK(sides_run(s, 2, WAIT, all_up, cable_turn, NULL));
    CHECK(sides_trade(s, bytes, 4 * WAIT, cable_turn, NULL));
    CHECK(c.carried > bytes);
    cable_close(&c, s);
    CHECK_INT(open_fds(), before);
}
static void test_serial(void) { serial_over(0, 60000); }
static void test_serial_noise(void) { serial_over(200, 20000); } /* a byte in 5000 */
static void test_serial_fd(void) { /* a socket given as fd, and one to connect to */
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    char path[60];
    dls_error e;
    side s[2];
    group g;
    int fd[2];
    group_make(&g, 2, 2);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    CHECK(side_open(&s[0], &g, 0, 3) && side_open(&s[1], &g, 1, 3));
    CHECK_STATUS(side_serial(&s[0], NULL, fd[0], 2, &e), DLS_OK);
    CHECK_STATUS(side_serial(&s[1], NULL, fd[1], 0, &e), DLS_OK);
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    CHECK(sides_trade(s, 20000, WAIT, NULL, NULL));
    side_close(&s[0]); /* its end of the socket goes with it */
    (void)sides_run(s + 1, 1, 50000, NULL, NULL, NULL);
    CHECK_INT(dls_peer_up(s[1].peer), 1);
    side_close(&s[1]);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&a, &n) == 0);
    snprintf(path, sizeof path, "tcp:127.0.0.1:%d", ntohs(a.sin_port));
    CHECK(side_open(&s[0], &g, 0, 3) && side_open(&s[1], &g, 1, 3));
    CHECK_STATUS(side_serial(&s[0], path, -1, 2, &e), DLS_OK);
    CHECK_STATUS(side_serial(&s[1], NULL, accept(listener, NULL, NULL), 0, &e), DLS_OK);
    CHECK(sides_run(s, 2, WAIT, all_up, NULL, NULL));
    CHECK(sides_trade(s, 3000, WAIT, NULL, NULL));
    close(listener);
    side_close(&s[0]);
    side_close(&s[1]);
}
/* Unplugged and plugged in again: a name that leads to another pty. */
static void test_serial_again(void) {
    const char *name = path_of("tty");
    cable c;
    dls_error e;
    side s[2];
    group g;
    group_make(&g, 2, 0);
    memset(&c, 0, sizeof c);
    the_cable = &c;
    pty_open(&c.end[0]);
    pty_open(&c.end[1]);
    remove(name);
    CHECK(symlink(c.end[0].slave, name) == 0);
    CHECK(side_open(&s[0], &g, 0, 3) && side_open(&s[1], &g, 1, 3));
    CHECK_STATUS(side_serial(&s[0], name, -1, 0, &e), DLS_OK);
    CHECK_STATUS(side_serial(&s[1], c.end[1].slave, -1, 1, &e), DLS_OK);
    CHECK(sides_run(s, 2, WAIT, all_up, cable_turn, NULL));
    close(c.end[0].master);
    remove(name);
    c.end[0].master = -1;
    (void)sides_run(s, 1, 100000, NULL, NULL, NULL);
    CHECK_INT(s[0].serial->fd, -1);
    CHECK_INT(dls_peer_up(s[0].peer), 1);
    pty_open(&c.end[0]);
    CHECK(symlink(c.end[0].slave, name) == 0);
    CHECK(sides_run(s, 2, WAIT, all_up, cable_turn, NULL));
    CHECK(sides_trade(s, 3000, WAIT, cable_turn, NULL));
    cable_close(&c, s);
    remove(name);
}
static void test_serial_wrong(void) {
    dls_serial_desc d;
    dls_serial *serial;
    dls_error e;
    side s;
    group g;
    void *mem = malloc(1 << 16);
    group_make(&g, 2, 0);
    CHECK(side_open(&s, &g, 0, 3));
    memset(&d, 0, sizeof d);
    d.peer = s.peer;
    d.path = "/dev/no such tty";
    CHECK_STATUS(dls_serial_init(&serial, &d, mem, 1 << 16, &e), DLS_E_NOT_FOUND);
    CHECK_TEXT(words(&e), "/dev/no such tty");
    d.baud = 12345;
    CHECK_STATUS(dls_serial_init(&serial, &d, mem, 1 << 16, &e), DLS_E_ARG);
    CHECK_TEXT(words(&e), "12345 baud");
    d.baud = 0;
    d.call = true;
    d.id = 55;
    CHECK_STATUS(dls_serial_init(&serial, &d, mem, 1 << 16, &e), DLS_E_NOT_FOUND);
    CHECK_TEXT(words(&e), "device 55");
    CHECK_STATUS(dls_serial_init(&serial, &d, mem, 64, &e), DLS_E_MEMORY);
    d.call = false;
    d.path = NULL;
    d.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    d.mtu = 32;
    CHECK_STATUS(dls_serial_init(&serial, &d, mem, 1 << 16, &e), DLS_E_LIMIT);
    CHECK_STATUS(dls_serial_init(&serial, &d, NULL, 0, &e), DLS_E_MEMORY);
    dls_serial_close(NULL);
    free(mem);
    side_close(&s);
}

/* ---- Sets of links ---- */

static void *waker(void *links) {
    const struct timespec t = {0, 50000000};
    nanosleep(&t, NULL);
    dls_links_wake((dls_links *)links);
    return NULL;
}
static int locks;
static void lock(void *user) { locks += *(int *)user; }
static void unlock(void *user) { locks -= *(int *)user; }
static int32_t fake_wait(dls_link *link, dls_fd *fd, uint64_t now, uint64_t *until) {
    (void)link;
    (void)fd;
    CHECK_INT(locks, 1);
    if (*until > now + 30000) *until = now + 30000;
    return 0;
}
static void fake_serve(dls_link *link, const dls_fd *fd, int32_t fds, uint64_t now) {
    (void)fd;
    (void)now;
    CHECK_INT(locks, 1);
    CHECK_INT(fds, 0);
    link->fds_max--; /* counts calls */
}
static void fake_close(dls_link *link, uint64_t now) {
    (void)now;
    link->fds_max = -1000;
}
static void test_links(void) {
    pthread_t thread;
    dls_links_desc d;
    dls_links *small;
    dls_link fake;
    uint64_t start;
    dls_error e;
    side s;
    group g;
    void *mem;
    int one = 1;
    group_make(&g, 2, 0);
    CHECK(side_open(&s, &g, 0, 3));
    CHECK(pthread_create(&thread, NULL, waker, s.links) == 0);
    start = dls_now_us();
    dls_links_poll(s.links, 1000000, NULL, NULL, NULL);
    CHECK(dls_now_us() - start < 700000);
    pthread_join(thread, NULL);
    memset(&fake, 0, sizeof fake);
    fake.wait = fake_wait;
    fake.serve = fake_serve;
    fake.close = fake_close;
    fake.fds_max = 3;
    CHECK_STATUS(dls_links_add(s.links, &fake), DLS_OK);
    start = dls_now_us();
    dls_links_poll(s.links, 1000000, lock, unlock, &one);
    CHECK(dls_now_us() - start < 500000);
    CHECK_INT(fake.fds_max, 2);
    fake.fds_max = 3;
    dls_links_remove(s.links, &fake);
    dls_links_remove(s.links, &fake); /* not in it: nothing */
    memset(&d, 0, sizeof d);
    d.peer = s.peer;
    d.fds_max = 2;
    mem = malloc(dls_links_size(&d));
    CHECK_STATUS(dls_links_init(&small, &d, mem, 1, &e), DLS_E_MEMORY);
    CHECK_STATUS(dls_links_init(&small, &d, mem, dls_links_size(&d), &e), DLS_OK);
    CHECK_STATUS(dls_links_add(small, &fake), DLS_E_LIMIT);
    fake.fds_max = 2;
    CHECK_STATUS(dls_links_add(small, &fake), DLS_OK);
    dls_links_close(small);
    CHECK_INT(fake.fds_max, -1000);
    free(mem);
    d.fds_max = -1;
    CHECK_INT(dls_links_size(&d), 0);
    side_close(&s);
}

/* ---- Discovery over UDP ---- */

static int32_t free_udp_port(void) { /* of this test alone */
    return 20000 + (int32_t)(((unsigned)getpid() * 7u + (unsigned)(dls_now_us() / 1000u)) % 20000u);
}
static bool lan_over(int ways) {
    const int32_t port = free_udp_port();
    dls_error e;
    side s[2];
    group g;
    bool good;
    int i;
    group_make(&g, 2, 0);
    for (i = 0; i < 2; i++) {
        CHECK(side_open(&s[i], &g, i, 3));
        CHECK_STATUS(side_udp(&s[i], ways == 0 ? "127.0.0.1:0" : "0.0.0.0:0", &e), DLS_OK);
        CHECK_STATUS(side_lan(&s[i], port, ways, &e), DLS_OK);
    }
    good = sides_run(s, 2, ways == 0 ? WAIT : 3000000, all_up, NULL, NULL);
    if (good) good = sides_trade(s, 5000, WAIT, NULL, NULL);
    {
        char text[200];
        dls_find_explain(dls_lan_find(s[0].lan), 2, text, sizeof text, dls_now_us());
        if (good) CHECK_TEXT(text, "device 2 (dev2) is up");
    }
    side_close(&s[0]);
    side_close(&s[1]);
    return good;
}
static void test_lan(void) {
    char text[200];
    dls_error e;
    side s;
    group g;
    CHECK(lan_over(0)); /* loopback alone */
    CHECK(lan_over(2)); /* broadcast on whatever there is */
    group_make(&g, 2, 0);
    CHECK(side_open(&s, &g, 0, 3));
    CHECK_STATUS(side_udp(&s, "127.0.0.1:0", &e), DLS_OK);
    {
        dls_lan_desc d;
        dls_lan *lan;
        memset(&d, 0, sizeof d);
        d.udp = s.udp;
        d.group = "10.0.0.1";
        CHECK_STATUS(dls_lan_init(&lan, &d, side_take(&s, dls_lan_size(&d)), dls_lan_size(&d), &e),
                     DLS_E_ARG);
        CHECK_TEXT(words(&e), "no multicast group");
        CHECK_STATUS(dls_lan_init(&lan, &d, NULL, 0, &e), DLS_E_MEMORY);
        dls_lan_close(NULL);
        d.group = NULL;
        d.port = free_udp_port();
        CHECK_STATUS(dls_lan_init(&lan, &d, side_take(&s, dls_lan_size(&d)), dls_lan_size(&d), &e),
                     DLS_OK);
        CHECK_TEXT(dls_find_explain(dls_lan_find(lan), 2, text, sizeof text, 1), "never heard");
        dls_lan_close(lan);
    }
    side_close(&s);
}

/* ---- Failing system calls ---- */

typedef struct fault_run {
    const char *where; /* of the UDP socket */
    dls_status st;
    bool up;
    char text[300];
} fault_run;
/* A side with every kind of link, beside one that works. */
static void fault_once(fault_run *r, const group *g, bool whole, uint64_t us) {
    pty p;
    side s[2];
    char list[60];
    dls_error e;
    memset(&e, 0, sizeof e);
    r->up = false;
    pty_open(&p);
    CHECK(side_open(&s[1], g, 1, 3));
    CHECK_STATUS(side_udp(&s[1], "127.0.0.1:0", NULL), DLS_OK);
    snprintf(list, sizeof list, "2@127.0.0.1:%d", (int)dls_udp_port(s[1].udp));
    memset(&s[0], 0, sizeof s[0]);
    {
        const dls_peer_desc d = side_desc(g, 0, 3);
        dls_links_desc l;
        memset(&l, 0, sizeof l);
        CHECK_STATUS(
            dls_peer_init(&s[0].peer, &d, side_take(&s[0], dls_peer_size(&d)), dls_peer_size(&d)),
            DLS_OK);
        l.peer = s[0].peer;
        sys.calls = sys.failed = 0;
        sys.on = true;
        r->st = dls_links_init(&s[0].links, &l, side_take(&s[0], dls_links_size(&l)),
                               dls_links_size(&l), &e);
    }
    if (r->st == DLS_OK) r->st = side_udp(&s[0], r->where, &e);
    if (r->st == DLS_OK) r->st = side_lan(&s[0], 20000, 0, &e);
    if (r->st == DLS_OK) r->st = side_tcp(&s[0], "127.0.0.1:0", &e);
    if (r->st == DLS_OK) r->st = side_serial(&s[0], p.slave, -1, 0, &e);
    sys.on = whole && r->st == DLS_OK;
    snprintf(r->text, sizeof r->text, "%s", words(&e));
    if (whole && r->st == DLS_OK) {
        if (dls_udp_connect(s[0].udp, list, &e) == DLS_OK &&
            dls_tcp_connect(s[0].tcp, "2@127.0.0.1:9", &e) == DLS_OK)
            r->up = sides_run(s, 2, us, all_up, NULL, NULL);
    }
    sys.on = false;
    side_close(&s[0]);
    side_close(&s[1]);
    close(p.master);
}
/* Opening: a status and words, or it works all the same; no descriptor stays open. */
static void test_fault_open(void) {
    const int before = open_fds();
    fault_run r;
    group g;
    int n, total, always, errors = 0;
    group_make(&g, 2, 0);
    r.where = NULL;
    sys.fail = 0;
    fault_once(&r, &g, false, 0);
    CHECK_STATUS(r.st, DLS_OK);
    total = sys.calls;
    CHECK(total > 20);
    sys.code = EPERM;
    for (always = 0; always < 2; always++)
        for (n = 1; n <= total; n++) { /* of calls that follow, every second is of either kind */
            sys.fail = n;
            sys.always = always != 0;
            r.where = n % 2 == 0 ? NULL : "127.0.0.1:0";
            fault_once(&r, &g, false, 0);
            errors += r.st != DLS_OK;
            if (r.st != DLS_OK) CHECK(r.st == DLS_E_IO && strlen(r.text) > 30);
            if (always) CHECK(r.st != DLS_OK || n > total - 3);
            CHECK_INT(open_fds(), before);
        }
    sys.fail = 0;
    CHECK(errors > total);
}
/* Running: one call of many fails; the two find one another a little later. */
static void test_fault_run(void) {
    static const int code[] = {EIO, EAGAIN, EINTR, ENOBUFS, ECONNREFUSED, EMFILE};
    const int before = open_fds();
    fault_run r;
    group g;
    int n, total;
    group_make(&g, 2, 0);
    r.where = "127.0.0.1:0";
    sys.fail = 0;
    sys.always = false;
    fault_once(&r, &g, true, WAIT);
    CHECK(r.up);
    total = sys.calls < 120 ? sys.calls : 120;
    for (n = 1; n <= total; n += n < 40 ? 1 : 3) { /* the first: every kind of call is among them */
        sys.fail = n;
        sys.code = code[n % 6];
        fault_once(&r, &g, true, WAIT);
        if (r.st == DLS_OK && !r.up)
            test_report(__FILE__, __LINE__, "call %d, %s, error %d", n, sys.last, sys.code);
        CHECK_INT(open_fds(), before);
    }
    sys.fail = 0;
}

/* link cable LEFT RIGHT NOISE: a cable between two ptys, which get these names, until killed. */
static int cable_main(char **argv) {
    cable c;
    int i;
    memset(&c, 0, sizeof c);
    c.noise = (uint32_t)atoi(argv[4]);
    the_cable = &c;
    for (i = 0; i < 2; i++) {
        pty_open(&c.end[i]);
        (void)open(c.end[i].slave, O_RDWR | O_NOCTTY); /* so that the master never sees an end */
        if (symlink(c.end[i].slave, argv[2 + i]) != 0) return 1;
    }
    for (;;) {
        const struct timespec t = {0, 1000000};
        cable_turn(NULL);
        nanosleep(&t, NULL);
    }
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "cable") == 0) return cable_main(argv);
    test_start("link", argc, argv);
    signal(SIGPIPE, SIG_DFL); /* drivers must not need it ignored */
    find_tests();
    keys_tests();
    RUN(addr);
    RUN(udp);
    RUN(udp_v6);
    RUN(plain);
    RUN(stranger);
    RUN(other_key);
    RUN(tcp);
    RUN(tcp_strangers);
    RUN(serial);
    RUN(serial_noise);
    RUN(serial_fd);
    RUN(serial_again);
    RUN(serial_wrong);
    RUN(links);
    RUN(lan);
    RUN(fault_open);
    RUN(fault_run);
    return test_end();
}
