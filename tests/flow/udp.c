/* Loss recovery over real UDP sockets; see udp.sh, which joins two namespaces by a shaped link.
   udp recv PORT [DELAY_MS]                    answers until killed; acks leave DELAY_MS late
   udp send ADDRESS PORT SECONDS MBIT LOSS     sends; prints goodput as a share of MBIT
   Packets of both: 8 bytes counter, 1 byte flags (1: carries data, 2: an ack's body follows). LOSS
   is the share of packets, data and acks, that their sender drops before the socket sees them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#define MTU 1400 /* of UDP payload; on the wire 42 bytes more */
static struct {
    int fd;
    struct sockaddr_in to;
    dls_flow flow;
    dls_path path;
    dls_sent ring[4096];
    dls_rng rng;
    uint64_t pn, dropped;
    double loss;
} u;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}
static void wait_until(uint64_t at) {
    struct pollfd p = {u.fd, POLLIN, 0};
    const uint64_t now = now_us(), most = 100000;
    const uint64_t us = at <= now ? 0 : at - now < most ? at - now : most;
    struct timespec t = {0, (long)us * 1000};
    (void)ppoll(&p, 1, &t, NULL);
}
static void out(const unsigned char *packet, size_t n) {
    if (dls_rng_uniform(&u.rng) < u.loss)
        u.dropped++;
    else
        (void)sendto(u.fd, packet, n, 0, (struct sockaddr *)&u.to, sizeof u.to);
}
static size_t head(unsigned char *p, int flags) {
    dlsi_store64(p, u.pn++);
    p[8] = (unsigned char)flags;
    return 9;
}
static int receive(int port, double delay_ms) {
    enum { LATE = 65536 };
    static struct {
        uint64_t at;
        unsigned char body[64];
        size_t n;
    } late[LATE]; /* acks on their way back */
    uint32_t in = 0, out_at = 0;
    struct sockaddr_in me;
    memset(&me, 0, sizeof me);
    me.sin_family = AF_INET;
    me.sin_port = htons((uint16_t)port);
    if (bind(u.fd, (struct sockaddr *)&me, sizeof me) != 0) return perror("bind"), 1;
    for (;;) {
        unsigned char packet[2000];
        uint64_t at = dls_flow_deadline(&u.flow);
        socklen_t len = sizeof u.to;
        ssize_t n;
        if (in != out_at && late[out_at % LATE].at < at) at = late[out_at % LATE].at;
        wait_until(at);
        while ((n = recvfrom(u.fd, packet, sizeof packet, MSG_DONTWAIT, (struct sockaddr *)&u.to,
                             &len)) >= 9) {
            if (packet[8] == 255) { /* a new sender */
                (void)dls_flow_init(&u.flow, u.ring, 4096, MTU, &u.path, now_us());
                u.loss = (double)dlsi_load32(packet + 9) * 1e-6;
                u.pn = in = out_at = 0;
                continue;
            }
            dls_flow_received(&u.flow, dlsi_load64(packet), (packet[8] & 1) != 0, now_us());
            if (!dls_flow_ack_due(&u.flow, now_us())) continue;
            late[in % LATE].n = dls_flow_ack_write(&u.flow, late[in % LATE].body, 64, now_us());
            late[in++ % LATE].at = now_us() + (uint64_t)(delay_ms * 1000);
            for (; in != out_at && late[out_at % LATE].at <= now_us(); out_at++) {
                unsigned char ack[80];
                memcpy(ack + head(ack, 2), late[out_at % LATE].body, late[out_at % LATE].n);
                out(ack, 9 + late[out_at % LATE].n);
            }
        }
        if (dls_flow_ack_due(&u.flow, now_us())) {
            late[in % LATE].n = dls_flow_ack_write(&u.flow, late[in % LATE].body, 64, now_us());
            late[in++ % LATE].at = now_us() + (uint64_t)(delay_ms * 1000);
        }
        for (; in != out_at && late[out_at % LATE].at <= now_us(); out_at++) {
            unsigned char ack[80];
            memcpy(ack + head(ack, 2), late[out_at % LATE].body, late[out_at % LATE].n);
            out(ack, 9 + late[out_at % LATE].n);
        }
    }
}
static int transmit(const char *address, int port, double seconds, double mbit) {
    unsigned char packet[2000];
    uint64_t start, end, acked = 0, lost = 0;
    dls_flow_stats stats;
    double goodput;
    int i;
    u.to.sin_family = AF_INET;
    u.to.sin_port = htons((uint16_t)port);
    u.to.sin_addr.s_addr = inet_addr(address);
    memset(packet, 0, sizeof packet);
    packet[8] = 255;
    dlsi_store32(packet + 9, (uint32_t)(u.loss * 1e6));
    (void)sendto(u.fd, packet, 13, 0, (struct sockaddr *)&u.to, sizeof u.to);
    usleep(20000);
    start = now_us();
    end = start + (uint64_t)(seconds * 1e6);
    (void)dls_flow_init(&u.flow, u.ring, 4096, MTU, &u.path, start);
    while (now_us() < end) {
        uint32_t ref[4] = {0, 0, 0, 0};
        ssize_t n;
        wait_until(u.pn == 0 ? 0 : dls_flow_deadline(&u.flow));
        for (i = 0; i < 64; i++) {
            size_t used;
            n = recv(u.fd, packet, sizeof packet, MSG_DONTWAIT);
            if (n < 9) break;
            dls_flow_received(&u.flow, dlsi_load64(packet), false, now_us());
            if ((packet[8] & 2) != 0)
                (void)dls_flow_ack_read(&u.flow, packet + 9, (size_t)n - 9, &used, now_us());
        }
        dls_flow_tick(&u.flow, now_us());
        while (dls_flow_next_acked(&u.flow, ref)) acked++;
        while (dls_flow_next_lost(&u.flow, ref)) lost++;
        while (dls_flow_room(&u.flow, now_us()) > 0) {
            dls_flow_sent(&u.flow, u.pn, MTU, true, ref, now_us());
            (void)head(packet, 1);
            out(packet, MTU);
        }
    }
    dls_flow_report(&u.flow, &stats);
    goodput = (double)acked * (MTU + 42) * 8 / seconds * 1e-6; /* as the shaper counts */
    printf("%.3f of %g Mbit/s; sent %lu, dropped here %lu, lost %lu, spurious %u; rtt %.2f ms, "
           "least %.2f, window %u\n",
           goodput / mbit, mbit, (unsigned long)u.pn, (unsigned long)u.dropped, (unsigned long)lost,
           stats.spurious, stats.srtt_us / 1e3, stats.min_rtt_us / 1e3, stats.window_bytes);
    return 0;
}
int main(int argc, char **argv) {
    u.fd = socket(AF_INET, SOCK_DGRAM, 0);
    u.rng.seed = now_us();
    (void)dls_flow_init(&u.flow, u.ring, 4096, MTU, &u.path, now_us());
    if (argc >= 3 && strcmp(argv[1], "recv") == 0)
        return receive(atoi(argv[2]), argc > 3 ? atof(argv[3]) : 0);
    if (argc != 7 || strcmp(argv[1], "send") != 0) return fprintf(stderr, "see udp.c\n"), 2;
    u.loss = atof(argv[6]);
    return transmit(argv[2], atoi(argv[3]), atof(argv[4]), atof(argv[5]));
}
