/* peer.c - a bare-metal member of a collective: one super-loop, static memory, no heap, no printf.
   make, and see run.sh of tests/firmware for how QEMU and hosts play it. */
#include "peer.h"
#include "sum.h"
#include <string.h>

#ifndef PEER_WINDOW /* packets in flight and bytes of control messages, of each session */
#define PEER_WINDOW 8
#endif
#ifndef PEER_CONTROL
#define PEER_CONTROL 256
#endif
#ifndef PEER_NO_PACKETS /* 1: its links are UARTs alone */
#define PEER_NO_PACKETS 0
#endif
#define PEER_BYTES 20480 /* dls_peer_size() of the desc below; checked at the start */

static uint64_t memory[PEER_BYTES / 8];
static unsigned char newer[12 + 54 * PEER_DEVICES + 64]; /* a roster that peers have */
static dls_device devices[PEER_DEVICES];
static dls_peer *peer;
static sum work;

static void say(const char *what, uint32_t number) {
    char line[64];
    size_t n = strlen(what);
    memcpy(line, what, n);
    line[n++] = ' ';
    memcpy(sum_number(line + n, number, 10), "\n", 2);
    board_print(line);
}

void peer_open(void) {
    dls_peer_desc desc;
    dls_roster roster;
    /* What is compiled in needs no check of its signature: whoever can change it can do anything.
       Newer ones come from coordinators. */
    dls_status st =
        dls_roster_read(&roster, devices, PEER_DEVICES, key_roster, key_roster_bytes, NULL);
    memset(&desc, 0, sizeof desc);
    desc.roster = &roster;
    desc.id = key_id;
    desc.secret = key_has_secret ? key_secret : NULL;
    desc.psk = key_psk;
    desc.boot = board_boot();
    desc.devices_max = PEER_DEVICES;
    desc.sessions_max = PEER_DEVICES + 2;
    desc.ports_max = 1;
    desc.ops_max = 4;
    desc.window = PEER_WINDOW;
    desc.control_bytes = PEER_CONTROL;
    desc.no_packets = PEER_NO_PACKETS;
    if (st == DLS_OK) st = dls_peer_init(&peer, &desc, memory, sizeof memory);
    if (st != DLS_OK) {
        say("cannot start, status", (uint32_t)st);
        say("bytes needed", (uint32_t)dls_peer_size(&desc));
        return;
    }
    dls_peer_roster_space(peer, newer, sizeof newer);
    link_open(peer, board_now_us());
    st = sum_init(&work, peer, key_id);
    if (st != DLS_OK) say("cannot sum, status", (uint32_t)st);
    say("device", key_id);
}

static void events(void) {
    dls_peer_event e;
    while (dls_peer_next_event(peer, &e)) {
        dls_view v;
        if (e.type == DLS_PEER_UP) say("up", dls_peer_id(peer, e.rank));
        if (e.type == DLS_PEER_LOST) say("lost", dls_peer_id(peer, e.rank));
        if (e.type == DLS_PEER_LEFT) say("left", dls_peer_id(peer, e.rank));
        if (e.type == DLS_PEER_ROSTER) say("roster", (uint32_t)board_now_us());
        dls_peer_view(peer, &v);
        if (e.type == DLS_PEER_VIEW) say("view", v.number);
    }
}

void peer_turn(void) {
    char line[SUM_LINE];
    if (peer == NULL) return;
    link_move(peer, board_now_us());
    dls_peer_tick(peer, board_now_us());
    events();
    if (sum_poll(&work, board_now_us()) && work.round % 8 == 1) {
        sum_line(&work, line);
        board_print(line);
        if (work.round == 9) say("stack", board_stack_used());
    }
}

uint32_t peer_sleep_ms(void) {
    const uint64_t now = board_now_us(), due = peer != NULL ? dls_peer_deadline(peer) : UINT64_MAX;
    return due < now + 1000 ? 1 : due > now + 20000 ? 20 : (uint32_t)(due - now) / 1000u;
}

#ifndef PEER_RTOS /* else a task calls the two, see rtos/ */
int main(void) {
    board_init();
    peer_open();
    for (;;) peer_turn();
}
#endif
