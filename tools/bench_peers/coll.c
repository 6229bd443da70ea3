/* coll.c - all-reduce of floats over loopback TCP; run by coll.sh.
     cc -O2 -I. tools/bench_peers/coll.c -lpthread -o coll
     coll plain|keys N [ALGO [BYTES...]]
   N processes, each an engine and its driver in one thread. Prints, of each size, "BYTES median p10
   p90 processor": us, the last one of rank 0's processor time. */
#define _GNU_SOURCE
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { MEMBERS_MAX = 8, MOST = 100 << 20 };

static dls_peer *peer;
static dls_tcp *tcp;
static dls_links *links;
static dls_coll coll;
static dls_coll_model model; /* members on one machine share its processors */
static char peers[MEMBERS_MAX * 32];
static int members;

static void die(const char *what) {
    fprintf(stderr, "coll: %s\n", what);
    _exit(1);
}
static void *block(size_t bytes) { return calloc(1, bytes + 64); }
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void join(int rank, bool keyed) {
    static unsigned char secret[MEMBERS_MAX][32], psk[32];
    static dls_device device[MEMBERS_MAX];
    static dls_roster roster = {7, 1, 0, device};
    dls_peer_desc d;
    dls_tcp_desc t;
    dls_links_desc l;
    int i;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    memset(&l, 0, sizeof l);
    roster.count = members;
    for (i = 0; i < members; i++) {
        memset(secret[i], i + 1, 32);
        device[i].id = (uint32_t)i;
        device[i].role = DLS_ROLE_JOIN;
        device[i].name[0] = (char)('a' + i);
        dls_x25519_public(device[i].public_key, secret[i]);
    }
    d.rank = rank;
    d.size = members;
    d.boot = 1;
    d.timeout_us = 20000000;
    d.ops_max = 32 * members;
    if (keyed) {
        d.roster = &roster;
        d.id = (uint32_t)rank;
        d.secret = secret[rank];
        d.psk = psk;
    }
    if (dls_peer_init(&peer, &d, block(dls_peer_size(&d)), dls_peer_size(&d)) != DLS_OK)
        die("no engine");
    l.peer = peer;
    l.spin_us = 50;
    if (dls_links_init(&links, &l, block(dls_links_size(&l)), dls_links_size(&l), NULL) != DLS_OK)
        die("no links");
    t.peer = peer;
    t.rank = rank;
    t.size = members;
    t.peers = peers;
    if (dls_tcp_init(&tcp, &t, block(dls_tcp_size(&t)), dls_tcp_size(&t), NULL) != DLS_OK)
        die("no tcp");
    (void)dls_links_add(links, dls_tcp_link(tcp));
    for (i = 0; dls_peer_up(peer) < members && i < 5000; i++)
        dls_links_poll(links, 10000, NULL, NULL, NULL);
    if (dls_peer_up(peer) < members) die("not joined");
    if (dls_coll_init(&coll, peer, rank, members, block(dls_coll_size(members, MOST)),
                      dls_coll_size(members, MOST)) != DLS_OK)
        die("no collectives");
    model.shared = true;
    model.latency_us = 10;
    model.message_us = 3;
    model.bytes_per_us = 3000;
    coll.model = &model;
}
static void run(const dls_coll_op *op) {
    int32_t handle;
    dls_status st = dls_coll_start(&coll, op, &handle);
    if (st != DLS_OK) die(dls_status_text(st));
    while (!dls_coll_done(&coll, handle, &st)) dls_links_poll(links, 100000, NULL, NULL, NULL);
    if (st != DLS_OK) {
        int i;
        for (i = 0; i < members; i++)
            if (dls_peer_why(peer, i) != DLS_OK) die(dls_status_text(dls_peer_why(peer, i)));
        die(dls_status_text(st));
    }
}
static int by_time(const void *a, const void *b) {
    const double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}
/* us of processor time that this process took so far */
static double busy(void) {
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}
static void measure(int rank, size_t bytes, dls_coll_algo algo) {
    const size_t n = bytes / 4;
    float *x = (float *)malloc(bytes);
    int k = (int)(3e7 / ((double)n + 3e4)), i;
    double *t, used = 0;
    dls_coll_op op, barrier;
    size_t j;
    memset(&op, 0, sizeof op);
    op.type = DLS_REDUCE_SUM_F32;
    op.algo = algo;
    op.out = x;
    op.count = n;
    memset(&barrier, 0, sizeof barrier);
    barrier.kind = DLS_COLL_BARRIER;
    k = k > 300 ? 300 : k < 7 ? 7 : k;
    t = (double *)malloc((size_t)k * sizeof *t);
    for (j = 0; j < n; j++) x[j] = 1;
    for (i = -3; i < k; i++) {
        double from;
        if (i == 0) used = busy();
        if (n > 1 << 20) run(&barrier);
        from = now();
        run(&op);
        if (i >= 0) t[i] = now() - from;
        if (i == -3 && (x[0] != (float)members || x[n - 1] != (float)members)) die("wrong sum");
        if (i % 20 == 0)
            for (j = 0; j < n; j++) x[j] = 1;
    }
    used = (busy() - used) / k;
    qsort(t, (size_t)k, sizeof *t, by_time);
    if (rank == 0)
        printf("%zu %.1f %.1f %.1f %.1f\n", bytes, t[k / 2], t[k / 10], t[k * 9 / 10], used);
    fflush(stdout);
    free(x);
    free(t);
}

int main(int argc, char **argv) {
    static const size_t sizes[] = {4, 4096, 65536, 1 << 20, 16 << 20, 100 << 20};
    const bool keyed = argc > 1 && strcmp(argv[1], "keys") == 0;
    const dls_coll_algo algo = (dls_coll_algo)(argc > 3 ? atoi(argv[3]) : 0);
    int rank = 0, i;
    pid_t child[MEMBERS_MAX] = {0};
    members = argc > 2 ? atoi(argv[2]) : 0;
    if (members < 2 || members > MEMBERS_MAX) {
        fprintf(stderr, "usage: see the head of coll.c\n");
        return 2;
    }
    for (i = 0; i < members; i++)
        snprintf(peers + strlen(peers), 32, "%s127.0.0.1:%d", i > 0 ? "," : "",
                 (int)dls_tcp_free_port());
    for (i = 1; i < members && rank == 0; i++) {
        child[i] = fork();
        if (child[i] == 0) rank = i;
    }
    if (getenv("PIN") && members <= (int)sysconf(_SC_NPROCESSORS_ONLN)) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(rank, &set);
        (void)sched_setaffinity(0, sizeof set, &set);
    }
    join(rank, keyed);
    for (i = 4; i < argc; i++) measure(rank, (size_t)atol(argv[i]), algo);
    for (i = 0; argc <= 4 && i < 6; i++) measure(rank, sizes[i], algo);
    dls_peer_leave(peer); /* one that closes with bytes unread would take away what others await */
    for (i = 0; i < 50 && dls_peer_up(peer) > 1; i++)
        dls_links_poll(links, 10000, NULL, NULL, NULL);
    if (rank > 0) _exit(0);
    for (i = 1; i < members; i++) (void)waitpid(child[i], NULL, 0);
    return 0;
}
