/* cc -O2 peer.c -o peer -lpthread
   A member of a collective on any host: joins by key over UDP, found on the LAN or where --connect
   says, by TCP and serial lines; as a gateway it passes packets on. Prints what happens, a line
   each. Keys: `dlshard keygen`, then `dlshard enrol NAME` for each device.
   With --allreduce N the members of each view add up 64 numbers N times; all print the same. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int usage(void) {
    fputs("peer --key dev.key --roster lab.roster [--listen PORT] [--connect ID@HOST:PORT,...]\n"
          "     [--tcp ID@HOST:PORT,...] [--serial PATH[:BAUD][=ID],...] [--gateway] [--no-lan]\n"
          "     [--lan-port PORT] [--allreduce N] [--seconds S]\n",
          stderr);
    return 2;
}
static volatile sig_atomic_t stop;
static void on_signal(int number) { stop = number; }

typedef struct sums {
    dls_coll coll;
    int32_t number[64], n, round;
    bool ready, under_way;
    int64_t staging[12288]; /* dls_coll_size(256, 256) and more */
} sums;
static void sum(sums *s, dls_peer *peer, uint32_t id) {
    unsigned char byte[256];
    dls_status st = DLS_OK;
    dls_view v;
    int i;
    dls_peer_view(peer, &v);
    if (!s->ready) s->ready = v.mine >= 0 && dls_coll_view(&s->coll, &v) == DLS_OK;
    if (!s->ready || s->round >= s->n) return;
    if (!s->under_way) {
        for (i = 0; i < 64; i++)
            s->number[i] = (int32_t)dls_rand_at(id, (uint32_t)(s->round * 64 + i));
        s->under_way = dls_coll_allreduce(&s->coll, s->number, 64, DLS_REDUCE_SUM_I32) == DLS_OK;
        return;
    }
    if (!dls_coll_poll(&s->coll, &st)) return;
    s->under_way = false;
    if (st != DLS_OK) return; /* a member was lost: the next view starts over */
    for (i = 0; i < 256; i++) /* little-endian, on every host */
        byte[i] = (unsigned char)((uint32_t)s->number[i / 4] >> i % 4 * 8);
    printf("sum %u %d", (unsigned)v.number, (int)++s->round);
    for (i = 0; i < v.count; i++) printf("%c%u", i ? ',' : ' ', dls_peer_id(peer, v.rank[i]));
    printf(" %x\n", (unsigned)dls_crc32c(0, byte, sizeof byte));
}

int main(int argc, char **argv) {
    static dls_host host;
    static sums s;
    dls_host_desc d = {0};
    dls_error error;
    dls_peer_event event;
    dls_status st;
    uint64_t end = UINT64_MAX;
    char text[400];
    int i;
    for (i = 1; i < argc; i++) {
        const char *w = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(w, "--gateway") || !strcmp(w, "--no-lan"))
            *(w[2] == 'g' ? &d.gateway : &d.no_lan) = true, i--;
        else if (v == NULL) return usage();
        else if (!strcmp(w, "--key")) d.key = v;
        else if (!strcmp(w, "--roster")) d.roster = v;
        else if (!strcmp(w, "--listen")) d.listen = atoi(v);
        else if (!strcmp(w, "--connect")) d.connect = v;
        else if (!strcmp(w, "--tcp")) d.tcp = v;
        else if (!strcmp(w, "--serial")) d.serial = v;
        else if (!strcmp(w, "--lan-port")) d.lan_port = atoi(v);
        else if (!strcmp(w, "--allreduce")) s.n = atoi(v);
        else if (!strcmp(w, "--seconds")) end = dls_now_us() + (uint64_t)(atof(v) * 1e6);
        else return usage();
        i++;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (signal(SIGINT, on_signal) == SIG_ERR || signal(SIGTERM, on_signal) == SIG_ERR) return 1;
    st = dls_host_open(&host, &d, &error);
    if (st == DLS_OK) st = dls_coll_init(&s.coll, host.peer, 0, 256, s.staging, sizeof s.staging);
    while (st == DLS_OK && !stop && dls_now_us() < end) {
        const dls_status fresh = dls_host_poll(&host, 20000, NULL, NULL, NULL, &error);
        while (dls_host_next(&host, &event, text, sizeof text)) {
            if (event.type == DLS_PEER_VIEW) s.ready = s.under_way = false, s.round = 0;
            printf("%s\n", text);
        }
        sum(&s, host.peer, host.identity.keys.id);
        if (fresh == DLS_E_REFUSED) st = fresh; /* revoked; other troubles pass */
    }
    for (i = 0; st == DLS_OK && host.find != NULL && i < dls_peer_count(host.peer); i++) {
        dls_find_explain(host.find, dls_peer_id(host.peer, i), text, sizeof text, dls_now_us());
        if (!dls_peer_is_up(host.peer, i)) printf("note %s\n", text);
    }
    if (st != DLS_OK) fprintf(stderr, "peer: %s\n", dls_error_text(&error, text, sizeof text));
    dls_host_close(&host);
    return st != DLS_OK;
}
