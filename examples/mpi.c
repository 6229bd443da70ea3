/* mpicc -O2 mpi.c -o mpi -lpthread
   The same training over a cluster's MPI, for those who outgrow a LAN. Each rank computes its part
   of every step; the sums travel by MPI in one of two ways:
   mpirun -n 4 ./mpi --collective [SEED STEPS]   MPI_Allreduce sums
   mpirun -n 4 ./mpi --link [SEED STEPS]         MPI carries bytes, this library sums
   Both end in the state of one rank, and of ./train --shards 8 --seed SEED --steps STEPS. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#define BATCH 64
#define CHUNK 65535   /* most bytes of a message of the link */
typedef struct wire { /* to another rank */
    int32_t port;     /* of the engine */
    MPI_Request sending;
    unsigned char out[CHUNK], mem[DLS_PORT_BYTES(DLS_PORT_STREAM, CHUNK)];
} wire;
static int rank, size;
static bool by_link;
static wire *wires; /* by rank */
static dls_peer *peer;
static dls_coll coll;

static void check(bool good, const char *what) {
    if (!good) fprintf(stderr, "mpi: rank %d: %s failed\n", rank, what);
    if (!good) MPI_Abort(MPI_COMM_WORLD, 1);
}

static void pump(void) { /* moves what there is between the engine and the other ranks */
    static unsigned char in[CHUNK];
    const uint64_t now = dls_now_us();
    MPI_Status from;
    dls_status st;
    int r, flag, n;
    while (MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &flag, &from), flag) {
        MPI_Recv(in, CHUNK, MPI_BYTE, from.MPI_SOURCE, 0, MPI_COMM_WORLD, &from);
        MPI_Get_count(&from, MPI_BYTE, &n);
        st = dls_peer_rx(peer, wires[from.MPI_SOURCE].port, in, (size_t)n, now);
        check(st == DLS_OK, "receiving");
    }
    dls_peer_tick(peer, now);
    for (r = 0; r < size; r++) {
        wire *w = &wires[r];
        const void *data;
        size_t bytes;
        if (r == rank || (MPI_Test(&w->sending, &flag, MPI_STATUS_IGNORE), !flag)) continue;
        data = dls_peer_tx_span(peer, w->port, &bytes, now);
        if (bytes == 0) continue;
        if (bytes > CHUNK) bytes = CHUNK;
        memcpy(w->out, data, bytes);
        MPI_Isend(w->out, (int)bytes, MPI_BYTE, r, 0, MPI_COMM_WORLD, &w->sending);
        dls_peer_tx_done(peer, w->port, bytes, now);
    }
    sched_yield(); /* ranks may outnumber processors */
}

static void link_open(size_t sums_bytes) {
    const size_t staging = dls_coll_size(size, sums_bytes);
    dls_peer_desc d = {.rank = rank, .size = size};
    dls_port_desc p = {.kind = DLS_PORT_STREAM, .mtu = CHUNK}; /* MPI loses and swaps nothing */
    dls_status st;
    d.timeout_us = 3600000000u; /* a rank that computes is silent; of dead ones mpirun takes care */
    st = dls_peer_init(&peer, &d, malloc(dls_peer_size(&d)), dls_peer_size(&d));
    wires = calloc((size_t)size, sizeof *wires);
    check(st == DLS_OK && wires != NULL, "making the engine");
    p.plain = true; /* without keys: MPI's wire is trusted, all its ranks are one user's */
    p.bytes = sizeof wires->mem;
    for (p.rank = 0; p.rank < size; p.rank++) {
        wires[p.rank].sending = MPI_REQUEST_NULL;
        p.call = p.rank < rank; /* of two, one calls */
        p.mem = wires[p.rank].mem;
        if (p.rank == rank) continue;
        wires[p.rank].port = dls_peer_port_open(peer, &p, dls_now_us());
        check(wires[p.rank].port >= 0, "opening a port");
    }
    while (dls_peer_up(peer) < size) pump();
    st = dls_coll_init(&coll, peer, rank, size, malloc(staging), staging);
    check(st == DLS_OK, "making the collective");
}

static void reduce(void *data, size_t count, dls_reduce kind) {
    const bool sum = kind == DLS_REDUCE_SUM_I32;
    dls_status st = DLS_OK;
    if (by_link)
        st = dls_coll_allreduce(&coll, data, count, kind);
    else
        MPI_Allreduce(MPI_IN_PLACE, data, (int)count, sum ? MPI_INT32_T : MPI_UINT8_T,
                      sum ? MPI_SUM : MPI_MAX, MPI_COMM_WORLD);
    while (by_link && st == DLS_OK && !dls_coll_poll(&coll, &st)) pump();
    check(st == DLS_OK, "reducing");
}

static dls_train *make(uint64_t seed, int32_t steps) { /* as train.c's */
    const dls_net_desc desc = {.seed = seed};
    dls_train_desc d = {.batch = BATCH, .shards = 8, .seed = seed}; /* any ranks, but 8 shards */
    dls_net *net = dls_net_create(&desc);
    dls_val x = net != NULL ? dls_net_input(net, 28, 28, 1) : (check(false, "memory"), 0);
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU), 2);
    x = dls_net_maxpool(net, dls_net_conv2d(net, x, 32, 3, DLS_ACT_RELU), 2);
    dls_net_dense(net, dls_net_dense(net, x, 128, DLS_ACT_RELU), 10, DLS_ACT_NONE);
    d.optim.lr = 0.05f;
    d.optim.momentum = 0.9f;
    d.optim.schedule = DLS_SCHEDULE_COSINE;
    d.optim.total_steps = steps;
    return dls_train_create(net, &d);
}

int main(int argc, char **argv) {
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    const int32_t steps = argc > 3 ? atoi(argv[3]) : 100;
    int32_t index[BATCH], epoch, at, i, n, shard, shards;
    bool redo = false;
    MPI_Request all;
    dls_train *train;
    dls_data data;
    dls_exact e;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    by_link = argc > 1 && !strcmp(argv[1], "--link");
    check(by_link || (argc > 1 && !strcmp(argv[1], "--collective")), "--link or --collective");
    check(dls_data_open(&data, "data/mnist-train", NULL) == DLS_OK, "reading data/mnist-train");
    epoch = (data.count + BATCH - 1) / BATCH;
    check((train = make(seed, steps > epoch ? steps : epoch)) != NULL, "making the network");
    dls_train_exact(train, &e);
    dls_job_shards(NULL, size, e.shards, rank, &shard, &shards);
    if (by_link) link_open(e.sums_count * sizeof *e.sums);
    for (at = 0; at < steps; at += !redo) { /* seldom once more */
        const int32_t first = at % epoch * BATCH;
        n = data.count - first < BATCH ? data.count - first : BATCH;
        for (i = 0; i < n; i++) index[i] = dls_fit_index(seed, at / epoch, data.count, first + i);
        check(dls_train_begin(train, n) == DLS_OK, "beginning a step");
        for (i = shard; i < shard + shards; i++)
            check(dls_train_shard_data(train, &data, NULL, index, i) == DLS_OK, "a shard");
        reduce(e.sums, e.sums_count, DLS_REDUCE_SUM_I32); /* integers: the same in any order */
        reduce(e.scales, e.scales_count, DLS_REDUCE_MAX_U8);
        check(dls_train_commit(train, &redo, NULL) == DLS_OK, "ending a step");
    }
    MPI_Ibarrier(MPI_COMM_WORLD, &all); /* bytes move for as long as anybody waits for some */
    for (i = !by_link; !i; MPI_Test(&all, &i, MPI_STATUS_IGNORE)) pump();
    MPI_Wait(&all, MPI_STATUS_IGNORE);
    if (rank == 0)
        printf("%d ranks\nstate-hash %016llx\n", size, (unsigned long long)dls_train_hash(train));
    MPI_Finalize();
    return 0;
}
