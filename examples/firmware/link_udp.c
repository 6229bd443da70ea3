/* link_udp.c - a PACKET port: UDP over IPv4 over Ethernet, ARP both ways. No options, no fragments;
   no UDP checksum on what goes out (packets have a tag); the IPv4 header's is computed. */
#include "peer.h"
#include <string.h>

#define MTU 1200
#define HEAD 42 /* Ethernet, IPv4, UDP */
#define PORT 7000
#define NEIGHBOURS 8

static uint8_t frame[1520], mac[6];
static const uint8_t ip[4] = {10, 0, 2, 15}; /* what QEMU's network calls its guest */
static struct {
    uint8_t ip[4], mac[6];
} neighbour[NEIGHBOURS];
static int32_t port;
static uint32_t turn;

static uint32_t load16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static void store16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 8 & 255u);
    p[1] = (uint8_t)(v & 255u);
}

static const uint8_t *mac_of(const uint8_t *whose) { /* NULL: not known */
    int32_t i;
    for (i = 0; i < NEIGHBOURS; i++)
        if (memcmp(neighbour[i].ip, whose, 4) == 0) return neighbour[i].mac;
    return NULL;
}
/* Only answers to what we asked and questions to us teach, the oldest entry goes. */
static void learn(const uint8_t *arp) {
    if (mac_of(arp + 14) != NULL) return;
    memcpy(neighbour[turn % NEIGHBOURS].ip, arp + 14, 4);
    memcpy(neighbour[turn++ % NEIGHBOURS].mac, arp + 8, 6);
}
static void arp_send(uint32_t operation, const uint8_t *to_mac, const uint8_t *to_ip) {
    uint8_t f[60];
    memset(f, 0, sizeof f);
    memset(f, 255, 6);
    if (to_mac != NULL) memcpy(f, to_mac, 6);
    memcpy(f + 6, mac, 6);
    memcpy(f + 12, "\x08\x06\x00\x01\x08\x00\x06\x04", 8); /* ARP for IPv4 over Ethernet */
    store16(f + 20, operation);
    memcpy(f + 22, mac, 6);
    memcpy(f + 28, ip, 4);
    if (to_mac != NULL) memcpy(f + 32, to_mac, 6);
    memcpy(f + 38, to_ip, 4);
    eth_send(f, sizeof f);
}
static void arp_take(const uint8_t *arp) {
    uint8_t from[10]; /* the answer is sent before the frame is used again, but not from it */
    if (memcmp(arp + 24, ip, 4) != 0) return;
    learn(arp);
    memcpy(from, arp + 8, 10);
    if (load16(arp + 6) == 1) arp_send(2, from, from + 6);
}

/* A datagram in the frame just received: its bytes, NULL when it is none for us. */
static uint8_t *datagram(size_t n, dls_addr *from, size_t *bytes) {
    const size_t head = 14 + 4 * (size_t)(frame[14] & 15u);
    size_t size;
    if (n < HEAD || load16(frame + 12) != 0x0800 || frame[14] >> 4 != 4 || head < 34 ||
        head + 8 > n || frame[23] != 17 || memcmp(frame + 30, ip, 4) != 0 ||
        (load16(frame + 20) & 0x3FFFu) != 0 || load16(frame + head + 2) != PORT)
        return NULL;
    size = load16(frame + head + 4);
    if (size < 8 || head + size > n) return NULL;
    from->size = 6;
    memcpy(from->bytes, frame + 26, 4);
    memcpy(from->bytes + 4, frame + head, 2);
    *bytes = size - 8;
    return frame + head + 8;
}
/* Heads for n bytes that stand at frame + HEAD. */
static void datagram_send(const dls_addr *to, size_t n) {
    const uint8_t *next = mac_of(to->bytes);
    uint32_t sum = 0, i;
    if (next == NULL) { /* this one is lost, the next will not be */
        arp_send(1, NULL, to->bytes);
        return;
    }
    memcpy(frame, next, 6);
    memcpy(frame + 6, mac, 6);
    memset(frame + 12, 0, 30);
    store16(frame + 12, 0x0800);
    frame[14] = 0x45;
    store16(frame + 16, 28 + (uint32_t)n);
    frame[22] = 64;
    frame[23] = 17;
    memcpy(frame + 26, ip, 4);
    memcpy(frame + 30, to->bytes, 4);
    for (i = 14; i < 34; i += 2) sum += load16(frame + i);
    sum = (sum & 0xFFFFu) + (sum >> 16);
    store16(frame + 24, ~(sum + (sum >> 16)) & 0xFFFFu);
    store16(frame + 34, PORT);
    memcpy(frame + 36, to->bytes + 4, 2);
    store16(frame + 38, 8 + (uint32_t)n);
    if (n < 60 - HEAD) memset(frame + HEAD + n, 0, 60 - HEAD - n);
    eth_send(frame, n < 60 - HEAD ? 60 : HEAD + n);
}

void link_open(dls_peer *peer, uint64_t now) {
    dls_port_desc desc;
    int32_t i;
    if (!eth_open(mac)) board_print("no Ethernet\n");
    memset(&desc, 0, sizeof desc);
    desc.kind = DLS_PORT_PACKET;
    desc.mtu = MTU;
    port = dls_peer_port_open(peer, &desc, now);
    for (i = 0; i < key_calls_count; i++) {
        dls_addr to;
        to.size = 6;
        memcpy(to.bytes, key_calls[i].address, 6);
        dls_peer_call(peer, dls_peer_rank_of(peer, key_calls[i].id), port, &to, now);
    }
}

void link_move(dls_peer *peer, uint64_t now) {
    dls_addr addr;
    size_t n, bytes;
    while ((n = eth_receive(frame, sizeof frame)) > 0) {
        uint8_t *data = datagram(n, &addr, &bytes);
        if (data != NULL) dls_peer_rx_packet(peer, port, &addr, data, bytes, now);
        if (n >= HEAD && load16(frame + 12) == 0x0806) arp_take(frame + 14);
    }
    while ((n = dls_peer_tx_packet(peer, port, &addr, frame + HEAD, now)) > 0)
        datagram_send(&addr, n);
}
