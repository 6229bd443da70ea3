/* lan9118.c - SMSC LAN9118 Ethernet, polled. ETH_BASE: where the board has it. */
#include "peer.h"
#include <string.h>

#define REG(offset) (*(volatile uint32_t *)(ETH_BASE + (offset)))
#define RX_DATA REG(0x00)
#define TX_DATA REG(0x20)
#define RX_STATUS REG(0x40)
#define TX_STATUS REG(0x48)
#define BYTE_TEST REG(0x64)
#define TX_CFG REG(0x70)
#define HW_CFG REG(0x74)
#define RX_INFO REG(0x7C)
#define TX_INFO REG(0x80)
#define MAC_COMMAND REG(0xA4)
#define MAC_DATA REG(0xA8)

static uint32_t mac_read(uint32_t index) {
    MAC_COMMAND = 0xC0000000u | index;
    while ((MAC_COMMAND & 0x80000000u) != 0) {}
    return MAC_DATA;
}

bool eth_open(uint8_t *mac6) {
    uint32_t low, high;
    if (BYTE_TEST != 0x87654321u) return false;
    HW_CFG = 1; /* soft reset */
    while ((HW_CFG & 1u) != 0) {}
    HW_CFG = 0x00050000u; /* 5 KiB for what goes out */
    low = mac_read(3);
    high = mac_read(2);
    memcpy(mac6, &low, 4);
    memcpy(mac6 + 4, &high, 2);
    TX_CFG = 2; /* on */
    MAC_DATA = 0xC; /* receive, transmit */
    MAC_COMMAND = 0x80000001u;
    while ((MAC_COMMAND & 0x80000000u) != 0) {}
    return true;
}

void eth_send(const void *frame, size_t bytes) {
    const uint8_t *p = (const uint8_t *)frame;
    const uint32_t n = (uint32_t)bytes;
    uint32_t i, word;
    while ((TX_INFO & 0xFFFFu) < n + 8) {}
    TX_DATA = 0x3000u | n; /* first and last part of a frame */
    TX_DATA = n;
    for (i = 0; i < n; i += 4) {
        word = 0;
        memcpy(&word, p + i, n - i < 4 ? n - i : 4);
        TX_DATA = word;
    }
    while ((TX_INFO & 0xFF0000u) != 0) (void)TX_STATUS;
}

size_t eth_receive(void *frame, size_t most) {
    uint8_t *p = (uint8_t *)frame;
    uint32_t status, n, i, word;
    if ((RX_INFO & 0xFF0000u) == 0) return 0;
    status = RX_STATUS;
    n = status >> 16 & 0x3FFFu;
    for (i = 0; i < n; i += 4) {
        word = RX_DATA;
        if (i < most) memcpy(p + i, &word, most - i < 4 ? most - i : 4);
    }
    n = n > 4 ? n - 4 : 0; /* its checksum */
    /* Damaged or overlong ones become an empty frame, which no one takes for one of his. */
    return (status & 0x8000u) != 0 || n > most ? 1 : n;
}
