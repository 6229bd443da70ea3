/* net.c - streams and round trips over loopback; run by net.sh.
     cc -O2 -I. tools/bench_peers/net.c -lpthread -o net
     net stream plain|keys SECONDS   one connection, 4 MB messages one after the other: GB/s
     net ping plain|keys|udp|raw-tcp|raw-udp N  median round trip of 16 bytes, N times: us
     net flood WHAT RATE SECONDS     a UDP stream as above, MB/s, while a third process sends the
       receiver's port RATE packets a second: random bytes; INITs with a wrong mac1 (mac); of who
       has the PSK but not the key of its name (stranger); seen before (replay). sink-WHAT: the same
       packets to a socket that somebody reads, so that only what they cost the engine differs.
   Two processes, each an engine and its driver in one thread; raw-*: sockets alone, same calls. */
#define _GNU_SOURCE
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/wait.h>

enum { MESSAGE = 4 << 20, AHEAD = 4, FLOOD_MESSAGE = 256 << 10 };

static dls_peer *peer;
static dls_tcp *tcp;
static dls_udp *udp;
static dls_links *links;
static char address[2][32];

static void die(const char *what) {
    fprintf(stderr, "net: %s\n", what);
    _exit(1);
}
static void poll_links(uint64_t us) { dls_links_poll(links, us, NULL, NULL, NULL); }
static void *block(size_t bytes) { return calloc(1, bytes + 64); }

static dls_peer *engine(int rank, bool keyed, bool impostor) {
    static unsigned char secret[2][32], psk[32], other[32] = {9};
    static dls_device device[2];
    static dls_roster roster = {7, 1, 2, device};
    dls_peer_desc d;
    dls_peer *made;
    int i;
    memset(&d, 0, sizeof d);
    for (i = 0; i < 2; i++) {
        memset(secret[i], i + 1, 32);
        device[i].id = (uint32_t)i;
        device[i].role = DLS_ROLE_JOIN;
        device[i].name[0] = (char)('a' + i);
        dls_x25519_public(device[i].public_key, impostor && i == rank ? other : secret[i]);
    }
    d.rank = rank;
    d.size = 2;
    d.boot = 1;
    if (keyed) {
        d.roster = &roster;
        d.id = (uint32_t)rank;
        d.secret = impostor ? other : secret[rank];
        d.psk = psk;
    }
    if (dls_peer_init(&made, &d, block(dls_peer_size(&d)), dls_peer_size(&d)) != DLS_OK)
        die("no engine");
    return made;
}
/* The engine of rank 0 or 1, joined with the other. */
static void join(int rank, bool keyed, bool by_udp) {
    dls_tcp_desc t;
    dls_udp_desc u;
    dls_links_desc l;
    char peers[80];
    int i;
    memset(&t, 0, sizeof t);
    memset(&u, 0, sizeof u);
    memset(&l, 0, sizeof l);
    peer = engine(rank, keyed, false);
    l.peer = peer;
    if (dls_links_init(&links, &l, block(dls_links_size(&l)), dls_links_size(&l), NULL) != DLS_OK)
        die("no links");
    if (by_udp) {
        u.peer = peer;
        u.bind = address[rank];
        if (dls_udp_init(&udp, &u, block(dls_udp_size(&u)), dls_udp_size(&u), NULL) != DLS_OK)
            die("no udp");
        (void)dls_links_add(links, dls_udp_link(udp));
        snprintf(peers, sizeof peers, "%d@%s", 1 - rank, address[1 - rank]);
        if (rank == 1) (void)dls_udp_connect(udp, peers, NULL);
    } else {
        snprintf(peers, sizeof peers, "%s,%s", address[0], address[1]);
        t.peer = peer;
        t.rank = rank;
        t.size = 2;
        t.peers = peers;
        if (dls_tcp_init(&tcp, &t, block(dls_tcp_size(&t)), dls_tcp_size(&t), NULL) != DLS_OK)
            die("no tcp");
        (void)dls_links_add(links, dls_tcp_link(tcp));
    }
    for (i = 0; dls_peer_up(peer) < 2 && i < 5000; i++) poll_links(10000);
    if (dls_peer_up(peer) < 2) die("not joined");
}
static bool finish(int32_t op) {
    dls_status st;
    while (!dls_peer_op_done(peer, op, &st)) poll_links(100000);
    return st == DLS_OK;
}
static double now(void) { return (double)dls_now_us() * 1e-6; }

static double stream(int rank, double seconds, size_t message) {
    static unsigned char *data[AHEAD];
    int32_t op[AHEAD], i, k;
    const double start = now();
    double bytes = 0;
    for (i = 0; i < AHEAD; i++) {
        data[i] = (unsigned char *)malloc(message);
        memset(data[i], i, message);
        op[i] = rank == 1 ? dls_peer_send(peer, 0, 1, data[i], message)
                          : dls_peer_recv(peer, 1, 1, data[i], message);
    }
    for (k = 0; now() - start < seconds; k = (k + 1) % AHEAD) {
        if (!finish(op[k])) break; /* the other has stopped */
        bytes += (double)message;
        op[k] = rank == 1 ? dls_peer_send(peer, 0, 1, data[k], message)
                          : dls_peer_recv(peer, 1, 1, data[k], message);
    }
    return bytes / (now() - start);
}


/* A packet for the receiver's port. */
static size_t bad_packet(const char *what, unsigned char *to) {
    dls_peer *from = engine(1, true, strcmp(what, "stranger") == 0);
    dls_port_desc d;
    dls_addr at;
    size_t n;
    int i;
    memset(&d, 0, sizeof d);
    d.kind = DLS_PORT_PACKET;
    d.mtu = 1232;
    (void)dls_addr_read(&at, address[0]);
    dls_peer_call(from, 0, dls_peer_port_open(from, &d, 1), &at, 1);
    dls_peer_tick(from, 1);
    n = dls_peer_tx_packet(from, 0, &at, to, 1);
    if (n == 0 || to[0] != DLS_PACKET_INIT) die("no INIT");
    if (strcmp(what, "mac") == 0) to[76] ^= 1;
    for (i = 0; strcmp(what, "random") == 0 && i < (int)n; i++) to[i] = (unsigned char)rand();
    return n;
}
/* Sends until it is killed. */
static void flood(const char *what, int rate) {
    const bool to_sink = strncmp(what, "sink-", 5) == 0;
    const int fd = socket(AF_INET, SOCK_DGRAM, 0), sink = socket(AF_INET, SOCK_DGRAM, 0);
    const double start = now();
    unsigned char packet[1500];
    struct sockaddr_in to;
    socklen_t length = sizeof to;
    size_t n;
    double sent = 0;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(sink, (struct sockaddr *)&to, sizeof to) != 0 ||
        getsockname(sink, (struct sockaddr *)&to, &length) != 0)
        die("bind");
    if (!to_sink) to.sin_port = htons((uint16_t)atoi(strchr(address[0], ':') + 1));
    n = bad_packet(what + (to_sink ? 5 : 0), packet);
    if (to_sink && fork() == 0)
        for (;;) (void)recv(sink, packet, sizeof packet, 0);
    for (;; usleep(1000))
        for (; sent < (now() - start) * rate; sent++)
            (void)sendto(fd, packet, n, 0, (struct sockaddr *)&to, sizeof to);
}
static double flooded(int rank, const char *what, int rate, double seconds) {
    pid_t child = -1;
    double speed;
    if (rank == 0 && strcmp(what, "none") != 0) {
        child = fork();
        if (child == 0) {
            (void)setpgid(0, 0);
            flood(what, rate);
        }
        (void)setpgid(child, child);
    }
    speed = stream(rank, seconds, FLOOD_MESSAGE);
    if (child > 0) (void)kill(-child, SIGKILL);
    if (child > 0) (void)waitpid(child, NULL, 0);
    return speed;
}

static int by_time(const void *a, const void *b) {
    const double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}
static void median(double *t, int n) {
    qsort(t, (size_t)n, sizeof *t, by_time);
    printf("%.2f\n", t[n / 2] * 1e6);
}
static void ping(int rank, int n) {
    unsigned char out[16] = {0}, in[16];
    double *t = (double *)malloc((size_t)n * sizeof *t), from;
    int32_t recv = dls_peer_recv(peer, 1 - rank, 1, in, 16), send, i;
    for (i = 0; i < n; i++) {
        from = now();
        if (rank == 0) {
            send = dls_peer_send(peer, 1, 1, out, 16);
            if (!finish(recv)) die("lost");
        } else {
            if (!finish(recv)) return;
            send = dls_peer_send(peer, 0, 1, in, 16);
        }
        recv = dls_peer_recv(peer, 1 - rank, 1, in, 16); /* asked for before the next one is sent */
        if (!finish(send)) die("lost");
        t[i] = now() - from;
    }
    if (rank == 0) median(t, n);
}
static void raw(int rank, int n, bool stream_socket) {
    struct sockaddr_in a[2];
    double *t = (double *)malloc((size_t)n * sizeof *t), from;
    struct pollfd p;
    char m[16] = {0};
    const int one = 1;
    int fd = socket(AF_INET, stream_socket ? SOCK_STREAM : SOCK_DGRAM, 0), i;
    memset(a, 0, sizeof a);
    for (i = 0; i < 2; i++) {
        a[i].sin_family = AF_INET;
        a[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a[i].sin_port = htons((uint16_t)atoi(strchr(address[i], ':') + 1));
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a[rank], sizeof a[0]) != 0) die("bind");
    if (stream_socket && rank == 0) {
        (void)listen(fd, 1);
        fd = accept(fd, NULL, NULL);
    } else {
        for (i = 0; i < 500 && connect(fd, (struct sockaddr *)&a[1 - rank], sizeof a[0]) != 0; i++)
            usleep(10000);
    }
    if (stream_socket) (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!stream_socket) usleep(200000);
    p.fd = fd;
    p.events = POLLIN;
    for (i = 0; i < n; i++) { /* as a driver does it: poll, then read */
        from = now();
        if (rank == 0 && send(fd, m, 16, 0) != 16) die("send");
        if (poll(&p, 1, 5000) != 1 || recv(fd, m, 16, 0) != 16) return;
        if (rank == 1 && send(fd, m, 16, 0) != 16) die("send");
        t[i] = now() - from;
    }
    if (rank == 0) median(t, n);
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[2] : "";
    int rank, i;
    pid_t child;
    const bool floods = argc == 5 && strcmp(argv[1], "flood") == 0;
    if (argc != 4 && !floods) {
        fprintf(stderr, "usage: see the head of net.c\n");
        return 2;
    }
    for (i = 0; i < 2; i++)
        snprintf(address[i], sizeof address[i], "127.0.0.1:%d", (int)dls_tcp_free_port());
    child = fork();
    rank = child == 0 ? 1 : 0;
    if (strncmp(what, "raw-", 4) == 0) {
        raw(rank, atoi(argv[3]), strcmp(what, "raw-tcp") == 0);
    } else {
        double speed = 0;
        join(rank, strcmp(what, "plain") != 0, floods || strcmp(what, "udp") == 0);
        if (floods) speed = 1e3 * flooded(rank, what, atoi(argv[3]), atof(argv[4]));
        else if (strcmp(argv[1], "stream") == 0) speed = stream(rank, atof(argv[3]), MESSAGE);
        else ping(rank, atoi(argv[3]));
        if (rank == 0 && speed > 0) printf("%.3f\n", speed * 1e-9);
    }
    fflush(stdout);
    if (rank == 1) _exit(0);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    return 0;
}
