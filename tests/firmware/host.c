/* What the tests of firmware need beside QEMU and examples/peer.c.

   host stamp                     each line of standard input, with the time after it
   host expect ROUNDS ID,ID,...   the last word of the line that all members of a sum must print
   host stranger KEY ROSTER PORT TO_ID MS [key]   calls rightly but for the group key, and sends
             noise; fails when a byte comes back. With "key" it has it, and fails when none does
   host ports N                   N ports that were free a moment ago */
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"
#include "../../examples/firmware/sum.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MTU 1200

static void give_up(const char *what) {
    fprintf(stderr, "host: %s\n", what);
    exit(2);
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
    const int s = socket(AF_INET, kind, 0);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0) give_up("no socket");
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
static int stranger(const char *key_path, const char *roster_path, unsigned port, uint32_t to_id,
                    uint64_t ms, bool key) {
    static const unsigned char none[32] = {0};
    const uint64_t end = dls_now_us() + ms * 1000;
    struct sockaddr_in a = loopback(port);
    unsigned char buf[1500];
    dls_roster_file file;
    dls_keys keys;
    dls_peer_desc d;
    dls_port_desc t;
    dls_addr to = address(&a);
    dls_peer *p;
    int32_t udp_port;
    int udp;
    size_t back = 0, sent = 0, right = 0;
    if (dls_keys_load(&keys, key_path, NULL) != DLS_OK ||
        dls_roster_load(&file, roster_path, keys.root, NULL) != DLS_OK)
        give_up("no keys");
    memset(&d, 0, sizeof d);
    d.roster = &file.roster;
    d.id = keys.id;
    d.secret = keys.secret;
    d.psk = key ? keys.psk : none;
    d.boot = dlsi_port_seconds();
    d.store = forget;
    d.heartbeat_us = 20000;
    if (dls_peer_init(&p, &d, malloc(dls_peer_size(&d)), dls_peer_size(&d)) != DLS_OK)
        give_up("no engine");
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
    return right > 0 && (back == 0) == !key ? 0 : 1;
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
    if (argc == 4 && strcmp(argv[1], "expect") == 0)
        return expect((uint32_t)atoi(argv[2]), argv[3]);
    if (argc >= 7 && strcmp(argv[1], "stranger") == 0)
        return stranger(argv[2], argv[3], (unsigned)atoi(argv[4]), (uint32_t)atoi(argv[5]),
                        (uint64_t)atoi(argv[6]), argc > 7);
    if (argc == 2 && strcmp(argv[1], "stamp") == 0) return stamp();
    if (argc == 3 && strcmp(argv[1], "ports") == 0) return ports(atoi(argv[2]));
    return 2;
}
