/* A host's peer for the tests: the engine straight over one UDP socket, and for a gateway serial
   lines, which are TCP sockets that QEMU calls. Little, and nothing of >>link.

   host peer DIR NAME UDP_PORT [ID@PORT...] [ID=PORT...]   calls @ by UDP; = has a serial line on
             TCP. A file DIR/NAME.roster that appears is installed; DIR/NAME.state is kept.
   host stamp                     each line of standard input, with the time after it
   host expect ROUNDS ID,ID,...   the last word of the line that all members of a sum must print
   host stranger DIR PORT TO_ID MS     calls, once rightly but for the key, then with noise;
                                       prints the bytes that came back
   host ports N                   N ports that were free a moment ago */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include "../../examples/firmware/sum.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MTU 1200
#define SERIAL_MTU 384
static const char *dir, *name;
static unsigned char psk[32], secret[32], root[32], roster_bytes[8192], newer[8192], fetched[8192];
static dls_device device[64];
static int udp = -1;
static int32_t udp_port = -1;
typedef struct serial {
    int listener, line; /* -1: nobody called yet */
    int32_t port;
    unsigned char mem[DLS_PORT_BYTES(DLS_PORT_SERIAL, SERIAL_MTU)];
} serial;
#define LINES 4
static serial lines[LINES];
static int lines_count;

static void give_up(const char *what) {
    perror(what);
    exit(2);
}
static size_t get(const char *file, const char *suffix, void *to, size_t most) {
    char path[512];
    FILE *f;
    size_t n;
    snprintf(path, sizeof path, "%s/%s%s", dir, file, suffix);
    f = fopen(path, "rb");
    if (f == NULL) return 0;
    n = fread(to, 1, most, f);
    fclose(f);
    return n;
}
static bool store(void *user, const void *state, size_t bytes) {
    char path[512], beside[520];
    FILE *f;
    (void)user;
    snprintf(path, sizeof path, "%s/%s.state", dir, name);
    snprintf(beside, sizeof beside, "%s.new", path);
    f = fopen(beside, "wb");
    if (f == NULL) return false;
    if (fwrite(state, 1, bytes, f) != bytes) return fclose(f), false;
    return fclose(f) == 0 && rename(beside, path) == 0;
}
static struct sockaddr_in loopback(unsigned port) {
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((uint16_t)port);
    return a;
}
static int open_socket(int kind, unsigned port) {
    struct sockaddr_in a = loopback(port);
    const int on = 1, s = socket(AF_INET, kind, 0);
    if (kind == SOCK_STREAM) (void)setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0) give_up("bind");
    if (kind == SOCK_STREAM && listen(s, 1) != 0) give_up("listen");
    (void)fcntl(s, F_SETFL, O_NONBLOCK);
    return s;
}
static dls_addr address(const struct sockaddr_in *a) {
    dls_addr to;
    to.size = 6;
    memcpy(to.bytes, &a->sin_addr, 4);
    memcpy(to.bytes + 4, &a->sin_port, 2);
    return to;
}

static void move_udp(dls_peer *p) {
    unsigned char buf[2048];
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    dls_addr to;
    ssize_t n;
    while ((n = recvfrom(udp, buf, sizeof buf, 0, (struct sockaddr *)&a, &size)) >= 0) {
        to = address(&a);
        dls_peer_rx_packet(p, udp_port, &to, buf, (size_t)n, dls_now_us());
        size = sizeof a;
    }
    while ((n = (ssize_t)dls_peer_tx_packet(p, udp_port, &to, buf, dls_now_us())) > 0) {
        a = loopback(0);
        memcpy(&a.sin_addr, to.bytes, 4);
        memcpy(&a.sin_port, to.bytes + 4, 2);
        (void)sendto(udp, buf, (size_t)n, 0, (struct sockaddr *)&a, sizeof a);
    }
}
static void move_serial(dls_peer *p, serial *s) {
    unsigned char buf[1024];
    ssize_t n;
    size_t size;
    if (s->line < 0) {
        const int on = 1;
        s->line = accept(s->listener, NULL, NULL);
        if (s->line < 0) return;
        (void)setsockopt(s->line, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)fcntl(s->line, F_SETFL, O_NONBLOCK);
    }
    while ((n = recv(s->line, buf, sizeof buf, 0)) > 0)
        (void)dls_peer_rx(p, s->port, buf, (size_t)n, dls_now_us());
    if (n == 0) { /* unplugged */
        close(s->line);
        s->line = -1;
        return;
    }
    for (;;) {
        const void *from = dls_peer_tx_span(p, s->port, &size, dls_now_us());
        n = size > 0 ? send(s->line, from, size, MSG_NOSIGNAL) : 0;
        if (n <= 0) return;
        dls_peer_tx_done(p, s->port, (size_t)n, dls_now_us());
    }
}

static void report(dls_peer *p) {
    static const char *const what[] = {"?", "up", "lost", "left", "view", "roster"};
    dls_peer_event e;
    while (dls_peer_next_event(p, &e)) {
        dls_view v;
        int32_t i;
        printf("%s %u", what[e.type], (unsigned)dls_peer_id(p, e.rank));
        if (e.type == DLS_PEER_LOST) printf(" %s", dls_status_text(e.status));
        dls_peer_view(p, &v);
        if (e.type == DLS_PEER_VIEW) {
            printf(" %u coordinator %u:", (unsigned)v.number,
                   (unsigned)dls_peer_id(p, v.coordinator));
            for (i = 0; i < v.count; i++) printf(" %u", (unsigned)dls_peer_id(p, v.rank[i]));
        }
        printf(" at %llu\n", (unsigned long long)(dls_now_us() / 1000));
    }
}
static void install(dls_peer *p) {
    const size_t n = get(name, ".roster", newer, sizeof newer);
    char path[512];
    if (n == 0) return;
    snprintf(path, sizeof path, "%s/%s.roster", dir, name);
    (void)remove(path);
    printf("install %s at %llu\n", dls_status_text(dls_peer_roster(p, newer, n, dls_now_us())),
           (unsigned long long)(dls_now_us() / 1000));
}
static uint32_t my_id(const dls_roster *r) {
    int32_t i;
    for (i = 0; i < r->count; i++)
        if (strcmp(r->device[i].name, name) == 0) return r->device[i].id;
    give_up("not in the roster");
    return 0;
}
static dls_peer *make_peer(dls_roster *roster, bool gateway) {
    static unsigned char stored[1024];
    dls_peer_desc d;
    dls_peer *p;
    dls_status st;
    memset(&d, 0, sizeof d);
    d.stored_bytes = get(name, ".state", stored, sizeof stored);
    d.stored = d.stored_bytes > 0 ? stored : NULL;
    d.roster = roster;
    d.id = my_id(roster);
    d.secret = secret;
    d.psk = psk;
    d.root = root;
    d.boot = dlsi_port_seconds();
    d.gateway = gateway;
    d.store = store;
    st = dls_peer_init(&p, &d, malloc(dls_peer_size(&d)), dls_peer_size(&d));
    if (st != DLS_OK) {
        printf("cannot start: %s\n", dls_status_text(st));
        exit(2);
    }
    return p;
}
static void open_serial(dls_peer *p, unsigned id, unsigned port) {
    serial *s = &lines[lines_count++];
    dls_port_desc d;
    if (lines_count > LINES) give_up("too many lines");
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_SERIAL;
    d.mtu = SERIAL_MTU;
    d.rank = dls_peer_rank_of(p, id);
    d.mem = s->mem;
    d.bytes = sizeof s->mem;
    s->port = dls_peer_port_open(p, &d, dls_now_us());
    s->listener = open_socket(SOCK_STREAM, port);
    s->line = -1;
}
static void open_ports(dls_peer *p, char **way, int n) {
    dls_port_desc d;
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_PACKET;
    d.mtu = MTU;
    udp_port = dls_peer_port_open(p, &d, dls_now_us());
    for (; n > 0; n--, way++) {
        unsigned id, port;
        char kind;
        struct sockaddr_in a;
        dls_addr to;
        if (sscanf(*way, "%u%c%u", &id, &kind, &port) != 3) give_up("not ID@PORT");
        a = loopback(port);
        to = address(&a);
        if (kind == '=')
            open_serial(p, id, port);
        else
            dls_peer_call(p, dls_peer_rank_of(p, id), udp_port, &to, dls_now_us());
    }
}
/* Until something comes, or the engine has work; a new roster file is seen within 5 ms. */
static void wait_for(const dls_peer *p) {
    struct pollfd fd[1 + LINES];
    const uint64_t now = dls_now_us(), due = dls_peer_deadline(p);
    int i;
    fd[0].fd = udp;
    fd[0].events = POLLIN;
    for (i = 0; i < lines_count; i++) {
        fd[1 + i].fd = lines[i].line >= 0 ? lines[i].line : lines[i].listener;
        fd[1 + i].events = POLLIN;
    }
    (void)poll(fd, 1 + (nfds_t)lines_count, due <= now ? 0 : due - now > 5000 ? 5 : 1);
}
static int run(int argc, char **argv) {
    dls_roster roster;
    dls_peer *p;
    sum work;
    dir = argv[2];
    name = argv[3];
    if (get("group", ".key", psk, 32) != 32 || get(name, ".key", secret, 32) != 32 ||
        get("root", ".pub", root, 32) != 32 ||
        dls_roster_read(&roster, device, 64, roster_bytes,
                        get("roster", "", roster_bytes, sizeof roster_bytes), root) != DLS_OK)
        give_up("keys");
    setvbuf(stdout, NULL, _IOLBF, 0);
    udp = open_socket(SOCK_DGRAM, (unsigned)atoi(argv[4]));
    p = make_peer(&roster, strchr(argv[argc - 1], '=') != NULL);
    dls_peer_roster_space(p, fetched, sizeof fetched);
    open_ports(p, argv + 5, argc - 5);
    (void)sum_init(&work, p, my_id(&roster));
    for (;;) {
        char text[SUM_LINE];
        int i;
        install(p);
        move_udp(p);
        for (i = 0; i < lines_count; i++) move_serial(p, &lines[i]);
        dls_peer_tick(p, dls_now_us());
        report(p);
        if (sum_poll(&work, dls_now_us()) && work.round % 8 == 1) {
            sum_line(&work, text);
            text[strlen(text) - 1] = 0;
            printf("%s at %llu\n", text, (unsigned long long)(dls_now_us() / 1000));
        }
        wait_for(p);
    }
    return 0;
}

static int expect(uint32_t rounds, const char *ids) {
    int32_t total[SUM_COUNT];
    char *end;
    memset(total, 0, sizeof total);
    for (; *ids != 0; ids = *end == ',' ? end + 1 : end)
        sum_add(total, (uint32_t)strtoul(ids, &end, 10), rounds - 1);
    printf("%x\n", (unsigned)sum_hash(total));
    return 0;
}
static bool forget(void *user, const void *state, size_t bytes) {
    (void)user;
    (void)state;
    return bytes > 0;
}
/* A device of the roster, but with a group key of its own, and then anything at all. */
static int stranger(unsigned port, uint32_t to_id, uint64_t ms) {
    const uint64_t end = dls_now_us() + ms * 1000;
    struct sockaddr_in a = loopback(port);
    unsigned char buf[1500];
    dls_roster roster;
    dls_peer_desc d;
    dls_port_desc t;
    dls_addr to = address(&a);
    dls_peer *p;
    size_t back = 0, sent = 0, right = 0;
    name = "b";
    if (get(name, ".key", secret, 32) != 32 ||
        dls_roster_read(&roster, device, 64, roster_bytes,
                        get("roster", "", roster_bytes, sizeof roster_bytes), NULL) != DLS_OK)
        give_up("keys");
    memset(&d, 0, sizeof d);
    d.roster = &roster;
    d.id = my_id(&roster);
    d.secret = secret;
    d.psk = psk; /* zeros: not the group's */
    d.boot = dlsi_port_seconds();
    d.store = forget;
    d.heartbeat_us = 20000;
    if (dls_peer_init(&p, &d, malloc(dls_peer_size(&d)), dls_peer_size(&d)) != DLS_OK)
        give_up("engine");
    memset(&t, 0, sizeof t);
    t.kind = DLS_PORT_PACKET;
    t.mtu = MTU;
    udp_port = dls_peer_port_open(p, &t, dls_now_us());
    dls_peer_call(p, dls_peer_rank_of(p, to_id), udp_port, &to, dls_now_us());
    udp = open_socket(SOCK_DGRAM, 0);
    while (dls_now_us() < end) {
        ssize_t n;
        size_t size = dls_peer_tx_packet(p, udp_port, &to, buf, dls_now_us());
        right += size > 0 ? 1 : 0;
        if (size == 0) { /* noise of all types and lengths; some begins like a right packet */
            size = 1 + sent * 37 % sizeof buf;
            if (dls_random(buf, sent % 3 == 0 ? size < 256 ? size : 256 : 12) != DLS_OK) return 2;
            buf[0] = (unsigned char)(sent % 6);
            if (sent % 2 == 0) memcpy(buf, "\1\1\1\0", size < 4 ? size : 4), size = DLS_INIT_BYTES;
        }
        (void)sendto(udp, buf, size, 0, (struct sockaddr *)&a, sizeof a);
        sent++;
        while ((n = recv(udp, buf, sizeof buf, 0)) >= 0) back += (size_t)n;
        dls_peer_tick(p, dls_now_us());
        (void)poll(NULL, 0, 1);
    }
    printf("sent %u packets, %u of them calls; back %u bytes\n", (unsigned)sent, (unsigned)right,
           (unsigned)back);
    return right > 0 && back == 0 ? 0 : 1;
}
static int stamp(void) {
    char text[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(text, sizeof text, stdin) != NULL) {
        text[strcspn(text, "\r\n")] = 0;
        printf("%s at %llu\n", text, (unsigned long long)(dls_now_us() / 1000));
    }
    return 0;
}
static int ports(int n) {
    int s[32], i;
    for (i = 0; i < n && i < 32; i++) {
        struct sockaddr_in a = loopback(0);
        socklen_t size = sizeof a;
        s[i] = open_socket(SOCK_STREAM, 0);
        (void)getsockname(s[i], (struct sockaddr *)&a, &size);
        printf("%u ", (unsigned)ntohs(a.sin_port));
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 4 && strcmp(argv[1], "peer") == 0) return run(argc, argv);
    if (argc == 4 && strcmp(argv[1], "expect") == 0)
        return expect((uint32_t)atoi(argv[2]), argv[3]);
    if (argc == 6 && strcmp(argv[1], "stranger") == 0) {
        dir = argv[2];
        return stranger((unsigned)atoi(argv[3]), (uint32_t)atoi(argv[4]), (uint64_t)atoi(argv[5]));
    }
    if (argc == 2 && strcmp(argv[1], "stamp") == 0) return stamp();
    if (argc == 3 && strcmp(argv[1], "ports") == 0) return ports(atoi(argv[2]));
    return 2;
}
