/* link_uart.c - a SERIAL port: all bytes of one UART, to a neighbour that is a gateway. */
#include "peer.h"
#include <string.h>

#define MTU 384

static unsigned char memory[DLS_PORT_BYTES(DLS_PORT_SERIAL, MTU)];
static int32_t port;

void link_open(dls_peer *peer, uint64_t now) {
    dls_port_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.kind = DLS_PORT_SERIAL;
    desc.mtu = MTU;
    desc.call = true;
    desc.rank = dls_peer_rank_of(peer, key_gateway);
    desc.mem = memory;
    desc.bytes = sizeof memory;
    port = dls_peer_port_open(peer, &desc, now);
}

void link_move(dls_peer *peer, uint64_t now) {
    unsigned char in[64];
    size_t n, size;
    while ((n = board_read(in, sizeof in)) > 0) (void)dls_peer_rx(peer, port, in, n, now);
    for (;;) {
        const void *out = dls_peer_tx_span(peer, port, &size, now);
        if (size == 0) return;
        n = board_write(out, size);
        dls_peer_tx_done(peer, port, n, now);
        if (n < size) return; /* its buffer is full */
    }
}
