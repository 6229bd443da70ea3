/* cc -O2 05_user_link.c -o 05_user_link -lpthread
   A link of your own, here for a make-believe radio: datagrams of up to 250 bytes between stations
   0 and 1, which lose one in ten. A driver is a struct that begins with a dls_link and three
   functions: what to wait for, move what there is, close. The engine makes it reliable. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define MTU 250

typedef struct radio {
    dls_link link; /* first */
    dls_peer *peer;
    int32_t port; /* of the engine */
    int fd;       /* what stands for the air */
    unsigned char out[MTU];
    size_t pending; /* bytes of out that wait to be sent */
    uint32_t sent;
} radio;

/* The packet that goes next. Whom to is known here: there is but one other station. */
static bool next(radio *r, uint64_t now) {
    dls_addr to;
    if (r->pending == 0) r->pending = dls_peer_tx_packet(r->peer, r->port, &to, r->out, now);
    return r->pending > 0;
}
static int32_t radio_wait(dls_link *link, dls_fd *fd, uint64_t now, uint64_t *until) {
    radio *r = (radio *)link;
    (void)until; /* a driver that must be served at a certain time lowers it */
    fd->fd = r->fd;
    fd->want = (uint8_t)(DLS_FD_READ | (next(r, now) ? DLS_FD_WRITE : 0u));
    return 1;
}
static void radio_serve(dls_link *link, const dls_fd *fd, int32_t fds, uint64_t now) {
    radio *r = (radio *)link;
    unsigned char in[MTU];
    dls_addr from = {1, {0}}; /* its address: any bytes that tell stations apart */
    ssize_t n;
    (void)fd;
    (void)fds;
    while ((n = recv(r->fd, in, sizeof in, MSG_DONTWAIT)) > 0)
        dls_peer_rx_packet(r->peer, r->port, &from, in, (size_t)n, now);
    while (next(r, now)) {
        const bool lost = dls_rand_at(7, r->sent++) % 10 == 0;
        if (!lost && send(r->fd, r->out, r->pending, MSG_DONTWAIT) < 0) return; /* later */
        r->pending = 0;
    }
}
static void radio_close(dls_link *link, uint64_t now) {
    radio *r = (radio *)link;
    dls_peer_port_close(r->peer, r->port, now);
    close(r->fd);
}
static bool radio_open(radio *r, dls_peer *peer, int fd) {
    dls_port_desc d = {0};
    dls_addr other = {1, {0}};
    d.kind = DLS_PORT_PACKET;
    d.mtu = MTU;
    d.plain = true; /* this demonstration has no keys, and says so */
    r->link.wait = radio_wait;
    r->link.serve = radio_serve;
    r->link.close = radio_close;
    r->link.fds_max = 1;
    r->peer = peer;
    r->fd = fd;
    r->port = dls_peer_port_open(peer, &d, dls_now_us());
    if (r->port < 0) return false;
    dls_peer_call(peer, 0, r->port, &other, dls_now_us()); /* station 1 calls 0; 0 not itself */
    return true;
}

static int station(int32_t rank, int fd) {
    static char text[20000];
    static radio air;
    dls_peer_desc d = {0};
    dls_links_desc set = {0};
    dls_links *links;
    dls_peer *peer;
    dls_error error;
    dls_status st = DLS_OK;
    int32_t op, round;
    d.rank = rank;
    d.size = 2;
    if (dls_peer_init(&peer, &d, malloc(dls_peer_size(&d)), dls_peer_size(&d)) != DLS_OK) return 1;
    set.peer = peer;
    if (dls_links_init(&links, &set, malloc(dls_links_size(&set)), dls_links_size(&set), &error) !=
        DLS_OK)
        return 1;
    if (!radio_open(&air, peer, fd) || dls_links_add(links, &air.link) != DLS_OK) return 1;
    while (dls_peer_up(peer) < 2) dls_links_poll(links, 100000, NULL, NULL, NULL);
    for (round = 0; round < 2 && st == DLS_OK; round++) { /* there, and back */
        if (rank == round) {
            if (rank == 0) snprintf(text, sizeof text, "hello over the air");
            op = dls_peer_send(peer, 1 - rank, 1, text, sizeof text);
        } else {
            op = dls_peer_recv(peer, 1 - rank, 1, text, sizeof text);
        }
        while (!dls_peer_op_done(peer, op, &st)) dls_links_poll(links, 100000, NULL, NULL, NULL);
    }
    printf("station %d: %s: '%s', %u packets sent\n", (int)rank, dls_status_text(st), text,
           (unsigned)air.sent);
    fflush(stdout);
    /* Whoever received last goes last: its final words to the sender may still be lost. */
    for (round = 0; rank == 0 && round < 200 && dls_peer_up(peer) > 1; round++)
        dls_links_poll(links, 20000, NULL, NULL, NULL);
    dls_peer_leave(peer);
    for (round = 0; round < 10 && dls_peer_up(peer) > 1; round++)
        dls_links_poll(links, 20000, NULL, NULL, NULL);
    dls_links_close(links);
    dls_peer_close(peer);
    return st == DLS_OK && strcmp(text, "hello over the air") == 0 ? 0 : 1;
}

int main(void) {
    int air[2], status = 1;
    pid_t other;
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, air) != 0) return 1;
    other = fork();
    if (other == 0) return station(1, air[1]);
    if (other < 0 || station(0, air[0]) != 0 || waitpid(other, &status, 0) != other) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
