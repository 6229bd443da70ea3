/* cc -O2 collective.c -o collective -lpthread
   Peers train one CNN on MNIST together, then run it cut in as many stages.
   ./collective                  starts three processes on loopback, without keys
   ./collective RANK ADDRESSES   is one of them; ADDRESSES: 127.0.0.1:7000,127.0.0.1:7001,...
   ./collective KEY              is a device of a group, on any network: one for each key that
                                 `dlshard enrol` made. They find one another */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#define EPOCHS 3

static bool show(void *user, const dls_progress *p) {
    const bool terminal = isatty(1) != 0;
    char line[160];
    (void)user;
    dls_progress_text(p, terminal ? 30 : 0, line, sizeof line);
    printf("%s%s%s", terminal ? "\r" : "", line, terminal && p->step < p->steps ? "  " : "\n");
    fflush(stdout);
    return true;
}

static dls_net *make_net(void) {
    dls_net *net = dls_net_create(NULL);
    dls_val x;
    if (net == NULL) exit(1);
    x = dls_net_input(net, 28, 28, 1);
    x = dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_conv2d(net, x, 32, 3, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    x = dls_net_dense(net, x, 128, DLS_ACT_RELU);
    dls_net_dense(net, x, 10, DLS_ACT_NONE);
    return net;
}

static dls_data open_data(const char *name) { /* DLSHARD_DATA: its folder, default data */
    const char *dir = getenv("DLSHARD_DATA") != NULL ? getenv("DLSHARD_DATA") : "data";
    dls_data data;
    dls_error error;
    char text[512];
    snprintf(text, sizeof text, "%s/%s", dir, name);
    if (dls_data_open(&data, text, &error) == DLS_OK) return data;
    fprintf(stderr, "collective: %s\n", dls_error_text(&error, text, sizeof text));
    exit(1);
}

static void check(dls_node *node, dls_status st, const char *what) {
    if (st == DLS_OK) return;
    fprintf(stderr, "collective: %s: %s\n", what, dls_node_explain(node));
    exit(1);
}

static int best(const float *y) { /* the class with the greatest output */
    int i, k = 0;
    for (i = 1; i < 10; i++) k = y[i] > y[k] ? i : k;
    return k;
}

/* Rank 0 compares the pipeline's outputs with those of this device alone, bit for bit. */
static int compare(dls_net *net, const dls_data *test, const float *outputs) {
    dls_node *alone;
    dls_node_desc desc = {0};
    float *own = malloc((size_t)test->count * 10 * sizeof *own);
    int i, right = 0;
    dls_status st;
    if (own == NULL) return 1;
    st = dls_node_create(&alone, &desc);
    if (st == DLS_OK) st = dls_node_infer(alone, net, test, 0, own, NULL);
    check(alone, st, "alone");
    for (i = 0; i < test->count; i++) right += best(outputs + i * 10) == test->label[i];
    i = memcmp(own, outputs, (size_t)test->count * 10 * sizeof *own);
    printf("pipeline: accuracy %.2f %% of %d test images; outputs %s those of one device\n",
           100.0 * right / test->count, test->count,
           i == 0 ? "equal, bit for bit," : "DIFFER from");
    free(own);
    dls_node_destroy(alone);
    return i != 0;
}

static int run_peer(int rank, const char *peers, const char *key) {
    static const char *const names[3] = {"tablet", "phone", "glasses"};
    dls_node_desc me = {0};
    dls_fit_desc fit = {0};
    dls_fit_report report;
    dls_node_share share[1024];
    dls_node_infer_report stage;
    dls_data train, test;
    dls_net *net = make_net();
    dls_node *node;
    float *outputs;
    dls_status st;
    int i, bad = 0;
    train = open_data("mnist-train");
    test = open_data("mnist-test");
    me.rank = rank;
    me.peers = peers;
    me.key_file = key; /* its roster lies beside it */
    me.name = names[rank % 3];
    me.threads = 1;
    st = dls_node_create(&node, &me);
    check(node, st, "joining");
    fit.epochs = EPOCHS;
    fit.train.optim.lr = 0.05f;
    fit.train.optim.momentum = 0.9f;
    fit.train.optim.schedule = DLS_SCHEDULE_COSINE;
    fit.progress = show;
    fit.progress_ms = isatty(1) ? 100 : 1000;
    check(node, dls_node_fit(node, net, &train, &fit, &report, share), "training");
    outputs = malloc((size_t)test.count * 10 * sizeof *outputs);
    if (outputs == NULL) return 1;
    check(node, dls_node_infer(node, net, &test, 0, outputs, &stage), "pipeline");
    if (dls_node_rank(node) == 0) {
        printf("trained %ld steps together in %.1f s; every peer has state %016llx\n",
               (long)report.steps, report.seconds, (unsigned long long)report.state_hash);
        for (i = 0; i < dls_node_count(node); i++)
            printf("  peer %d %-8s %6ld samples (%2.0f %%), %.1f s computing\n", i,
                   dls_node_name(node, i), (long)share[i].samples,
                   100.0 * (double)share[i].samples / (double)report.samples, share[i].seconds);
        if (dls_net_save(net, "collective.dls", NULL) == DLS_OK) printf("saved collective.dls\n");
        bad = compare(net, &test, outputs);
    }
    dls_node_destroy(node);
    dls_net_destroy(net);
    dls_data_close(&train);
    dls_data_close(&test);
    free(outputs);
    return bad;
}

int main(int argc, char **argv) {
    char peers[96];
    pid_t child[2];
    int i, status, bad;
    if (argc == 3) return run_peer(atoi(argv[1]), argv[2], NULL);
    if (argc == 2) return run_peer(0, NULL, argv[1]);
    if (argc != 1) return fprintf(stderr, "usage: collective [RANK ADDRESSES | KEY]\n"), 2;
    snprintf(peers, sizeof peers, "127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d",
             (int)dls_tcp_free_port(), (int)dls_tcp_free_port(), (int)dls_tcp_free_port());
    printf("three peers at %s\n", peers), fflush(stdout);
    for (i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] == 0) exit(run_peer(i + 1, peers, NULL));
    }
    bad = run_peer(0, peers, NULL);
    for (i = 0; i < 2; i++) bad |= waitpid(child[i], &status, 0) < 0 || status != 0;
    return bad;
}
