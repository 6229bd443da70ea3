/* cc -O2 ps.c -o ps -lpthread
   A parameter server and four clients, in one process: each keeps its own quarter of the digits,
   makes ten steps on them and sends what they changed, the greatest 2 % of it. One lies, and is
   found out. The server dies and goes on from what it saved. */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"
#include <stdio.h>
#include <stdlib.h>
#define CLIENTS 4
#define ROUNDS 80
#define BAD CLIENTS /* who lies */
typedef struct device {
    dls_peer *peer;
    dls_net *net;
    dls_train *train;
    dls_data data;
    dls_ps_client *client;
    int32_t port, server_port; /* its end of a wire, and the server's */
} device;
static device all[1 + CLIENTS]; /* 0 is the server */
static const dls_ps_at *where;
static void *need(void *p) {
    if (p == NULL) exit(1);
    return p;
}
static void check(dls_status st, const char *what) {
    if (st == DLS_OK) return;
    fprintf(stderr, "ps: %s: %s\n", what, dls_status_text(st));
    exit(1);
}
static dls_net *make_net(void) {
    dls_net *net = (dls_net *)need(dls_net_create(NULL));
    dls_val x = dls_net_input(net, 28, 28, 1);
    x = dls_net_dense(net, dls_net_maxpool(net, x, 2), 32, DLS_ACT_RELU);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}
/* What a liar sends: as after ten steps uphill. */
static dls_status lie(void *user, float *weights, float *grad, size_t count, int32_t *samples) {
    while (count-- > 0) weights[count] *= -20.0f;
    *samples = grad != NULL && user == NULL ? 500 : 0;
    return DLS_OK;
}
static void make_device(int32_t i, const dls_data *data) {
    device *d = &all[i];
    dls_peer_desc p = {0};
    dls_train_desc t = {0};
    size_t size;
    p.rank = i;
    p.size = 1 + CLIENTS;
    size = dls_peer_size(&p);
    check(dls_peer_init(&d->peer, &p, need(malloc(size)), size), "peer");
    d->net = make_net();
    t.batch = 50;
    t.optim.lr = i == 0 ? 1.0f : 0.1f; /* the server: FedAvg */
    d->train = (dls_train *)need(dls_train_create(d->net, &t));
    d->data = *data;
    if (i == 0) return;
    d->data.count = data->count / CLIENTS;
    d->data.x = (const unsigned char *)data->x + (size_t)(i - 1) * (size_t)d->data.count * 784;
    d->data.label = data->label + (i - 1) * d->data.count;
}
static int32_t open_port(device *d, int32_t to, bool call) {
    dls_port_desc w = {0};
    w.kind = DLS_PORT_STREAM;
    w.mtu = 1200;
    w.plain = true; /* it stays in this process */
    w.call = call;
    w.rank = to;
    w.bytes = DLS_PORT_BYTES(DLS_PORT_STREAM, 1200);
    w.mem = need(malloc(w.bytes));
    return dls_peer_port_open(d->peer, &w, dls_now_us());
}
static void make_client(int32_t i) {
    device *d = &all[i];
    dls_ps_client_desc c = {0};
    size_t size;
    all[i].port = open_port(d, 0, true);
    all[i].server_port = open_port(&all[0], i, false);
    c.peer = d->peer;
    c.server = where;
    c.servers = 1;
    c.train = i == BAD ? NULL : d->train;
    c.data = &d->data;
    c.weights = dls_net_params(d->net); /* where there is no trainer */
    c.count = where->count;
    c.compute = lie;
    c.local_steps = 10;
    c.codec.kind = DLS_CODEC_TOPK;
    c.codec.density = 0.02f;
    size = dls_ps_client_size(&c);
    check(dls_ps_client_init(&d->client, &c, need(malloc(size)), size), "client");
}
static dls_ps_server *make_server(void) {
    dls_ps_server_desc s = {0};
    dls_ps_server *server;
    size_t size;
    s.peer = all[0].peer;
    s.train = all[0].train;
    s.delta = true;
    s.clients_least = CLIENTS;
    s.norm_ratio = 3; /* three times the median norm is too much */
    s.rounds = ROUNDS;
    size = dls_ps_server_size(&s);
    check(dls_ps_server_init(&server, &s, need(malloc(size)), size), "server");
    return server;
}
int main(int argc, char **argv) {
    dls_data data, test;
    dls_ps_at at = {0, 0, 0};
    dls_ps_server *server;
    dls_ps_event e;
    dls_ps_report r;
    dls_eval_report eval;
    char text[200];
    void *saved;
    size_t size;
    int32_t i, died = 0;
    check(dls_data_open(&data, argc > 1 ? argv[1] : "data/mnist-train", NULL), "training data");
    check(dls_data_open(&test, argc > 2 ? argv[2] : "data/mnist-test", NULL), "test data");
    for (i = 0; i <= CLIENTS; i++) make_device(i, &data);
    at.count = dls_net_param_count(all[0].net);
    where = &at;
    for (i = 1; i <= CLIENTS; i++) make_client(i);
    server = make_server();
    while (dls_ps_server_poll(server, dls_now_us()) != DLS_RUN_OVER) {
        dls_ps_server_work(server);
        for (i = 1; i <= CLIENTS; i++) {
            dls_loop_pump(all[0].peer, all[i].server_port, all[i].peer, all[i].port, dls_now_us());
            if (dls_ps_client_poll(all[i].client, dls_now_us()) == DLS_RUN_WORK)
                dls_ps_client_work(all[i].client);
        }
        for (i = 0; i <= CLIENTS; i++) dls_peer_tick(all[i].peer, dls_now_us());
        while (dls_ps_server_next(server, &e))
            if (e.type >= DLS_PS_LATE) puts(dls_error_text(&e.why, text, sizeof text));
        dls_ps_server_tell(server, &r);
        if (r.rounds != ROUNDS / 2 || died++ > 0) continue;
        size = dls_ps_server_saved_bytes(server);
        saved = need(malloc(size));
        check(dls_ps_server_save(server, saved, size), "saving");
        dls_ps_server_close(server); /* and another begins, which knows only what was saved */
        server = make_server();
        check(dls_ps_server_load(server, saved, size), "loading");
    }
    check(dls_eval(all[0].net, &test, NULL, 50, NULL, &eval), "test");
    printf(
        "%d rounds; %lld KB of weights went out, %lld KB came in; %.1f %% of the test set right\n",
        ROUNDS, (long long)r.bytes_out / 1000, (long long)r.bytes_in / 1000, 100 * eval.accuracy);
    return eval.accuracy > 0.85 ? 0 : 1;
}
