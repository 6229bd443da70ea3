/* Nodes over loopback TCP: three as threads of this process and three as processes; what they
   compute equals one device, bit for bit. Peers that never come, die by kill -9, disagree, or give
   wrong addresses: a status, and words that say who and what. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void node_peers(char *text, int32_t count) { /* ports, all different */
    int32_t port[4], i, k;
    char *p = text;
    for (i = 0; i < count; i++) {
        do {
            port[i] = dls_tcp_free_port();
            for (k = 0; k < i && port[k] != port[i]; k++) {}
        } while (port[i] == 0 || k < i);
        p += sprintf(p, "%s127.0.0.1:%d", i ? "," : "", (int)port[i]);
    }
}
typedef struct node_call {
    dls_node_desc desc;
    dls_fit_desc fit;
    dls_data data;
    int net, calls; /* which network; fits to make */
    uint64_t seed;  /* of its weights */
    int32_t count;  /* samples, 0: all */
    bool infer;
    dls_status join, st[2], staged;
    dls_fit_report report;
    dls_node_share share[4];
    dls_node_infer_report stage;
    float y[JOB_SAMPLES * JOB_CLASSES];
    char text[400], name[20];
} node_call;

static dls_fit_desc node_fit_desc(int kind) {
    dls_fit_desc f;
    memset(&f, 0, sizeof f);
    f.train = job_desc(kind, 0);
    f.augment.shift = 1;
    f.epochs = 2;
    return f;
}
static void *node_run(void *arg) {
    node_call *c = (node_call *)arg;
    dls_data data = c->data;
    dls_net *net = job_net(c->net, c->seed);
    dls_node *node = NULL;
    int i;
    if (c->count > 0) data.count = c->count;
    c->desc.threads = 1;
    c->join = dls_node_create(&node, &c->desc);
    snprintf(c->text, sizeof c->text, "%s", dls_node_explain(node));
    if (c->join == DLS_OK) {
        if (c->desc.key_file != NULL) /* the view counts; names are the roster's */
            c->desc.rank = dls_node_rank(node);
        if (dls_node_rank(node) != c->desc.rank) c->join = DLS_E_STATE;
        snprintf(c->name, sizeof c->name, "%s",
                 dls_node_name(node, (c->desc.rank + 1) % dls_node_count(node)));
        for (i = 0; i < c->calls; i++) {
            c->st[i] = dls_node_fit(node, net, &data, &c->fit, &c->report, c->share);
            if (c->st[i] == DLS_OK) continue;
            snprintf(c->text, sizeof c->text, "%s", dls_node_explain(node));
            c->net = 1; /* the next call is the one all agree on */
            c->seed = 3;
            c->fit = node_fit_desc(1);
            data.count = JOB_SAMPLES;
            dls_net_destroy(net);
            net = job_net(1, 3);
        }
        if (c->infer) c->staged = dls_node_infer(node, net, &data, 9, c->y, &c->stage);
        if (c->staged != DLS_OK) snprintf(c->text, sizeof c->text, "%s", dls_node_explain(node));
    }
    dls_node_destroy(node);
    dls_net_destroy(net);
    return NULL;
}
static void node_calls(node_call *c, int32_t n, const char *peers, const int32_t *shares) {
    static const char *const names[] = {"tablet", "phone", "glasses"};
    int32_t i;
    memset(c, 0, (size_t)n * sizeof *c);
    for (i = 0; i < n; i++) {
        c[i].desc.rank = i;
        c[i].desc.peers = peers;
        c[i].desc.name = names[i];
        c[i].desc.shares = shares;
        c[i].desc.join_ms = 20000;
        c[i].fit = node_fit_desc(1);
        c[i].data = job_data();
        c[i].net = 1;
        c[i].seed = 3;
        c[i].calls = 1;
    }
}
static void node_threads(node_call *c, int32_t n) {
    pthread_t t[3];
    int32_t i;
    for (i = 0; i < n; i++) CHECK_INT(pthread_create(&t[i], NULL, node_run, &c[i]), 0);
    for (i = 0; i < n; i++) pthread_join(t[i], NULL);
}
/* What one device makes of it: the hash, and the outputs in file order. */
static int64_t node_steps; /* 0: two epochs */
static uint64_t node_alone(int kind, float *y) {
    const dls_data data = job_data();
    dls_fit_desc f = node_fit_desc(kind);
    dls_net *net = job_net(kind, 3);
    dls_fit_report report;
    dls_exec_desc d;
    dls_exec *exec;
    int i;
    f.train.shards = 8; /* a node's default */
    f.steps = node_steps;
    f.threads = 1;
    CHECK_STATUS(dls_fit(net, &data, &f, &report), DLS_OK);
    memset(&d, 0, sizeof d);
    d.batch = 1;
    exec = dls_exec_create(net, &d);
    for (i = 0; i < JOB_SAMPLES; i++) {
        memcpy(dls_exec_input(exec, 0), job_x + 64 * i, 64 * sizeof(float));
        CHECK_STATUS(dls_exec_forward(exec, 1), DLS_OK);
        memcpy(y + JOB_CLASSES * i, dls_exec_output(exec), JOB_CLASSES * sizeof(float));
    }
    dls_exec_destroy(exec);
    dls_net_destroy(net);
    return report.state_hash;
}
static node_call node_c[3];
static float node_y[JOB_SAMPLES * JOB_CLASSES];

static void node_equal(int kind, const int32_t *shares) {
    const uint64_t want = node_alone(kind, node_y);
    const long blocks = test_blocks;
    char peers[100];
    int32_t i, total = 0;
    node_peers(peers, 3);
    node_calls(node_c, 3, peers, shares);
    for (i = 0; i < 3; i++) {
        node_c[i].net = kind;
        node_c[i].fit = node_fit_desc(kind);
        node_c[i].infer = true;
    }
    node_threads(node_c, 3);
    for (i = 0; i < 3; i++) {
        CHECK_STATUS(node_c[i].join, DLS_OK);
        CHECK_STATUS(node_c[i].st[0], DLS_OK);
        CHECK_STATUS(node_c[i].staged, DLS_OK);
        if (node_c[i].join != DLS_OK || node_c[i].st[0] != DLS_OK)
            test_report(__FILE__, __LINE__, "rank %d: %s", (int)i, node_c[i].text);
        CHECK(node_c[i].report.state_hash == want);
        CHECK_INT(node_c[i].report.steps, 8);
        CHECK_INT(node_c[i].report.samples, 2 * JOB_SAMPLES);
        CHECK_INT(memcmp(node_c[i].share, node_c[0].share, 3 * sizeof *node_c[0].share), 0);
        CHECK_INT(node_c[i].stage.first_node, i == 0 ? 0 : node_c[i - 1].stage.last_node);
        total += (int32_t)node_c[0].share[i].samples;
    }
    CHECK(total >= 2 * JOB_SAMPLES);
    if (shares != NULL && shares[2] > 1)
        CHECK(node_c[0].share[2].samples > 2 * node_c[0].share[0].samples);
    CHECK(strcmp(node_c[0].name, "phone") == 0 && strcmp(node_c[2].name, "tablet") == 0);
    CHECK(memcmp(node_c[0].y, node_y, sizeof node_y) == 0);
    CHECK_INT(test_blocks - blocks, 0);
}
static void test_node_three_threads_equal_one(void) {
    static const int32_t equal[3] = {1, 1, 1};
    node_equal(1, NULL);
    node_equal(0, equal);
}
static void test_node_unlike_shares_equal_one(void) {
    static const int32_t shares[3] = {1, 2, 5};
    node_equal(0, shares);
    node_equal(1, shares);
}

/* ---- By key ---- */

/* A group of n devices in OUT, the first `coords` of which coordinate. */
static char node_key[3][300], node_roster[300];
static dls_root node_root;
static void node_group(int32_t n, int32_t coords) {
    static const char *const names[] = {"tablet", "phone", "glasses"};
    const char *dir = getenv("OUT") != NULL ? getenv("OUT") : ".";
    dls_roster_file file;
    dls_keys keys;
    char state[320];
    int32_t i;
    memset(&file, 0, sizeof file);
    CHECK_STATUS(dls_root_make(&node_root, NULL), DLS_OK);
    for (i = 0; i < n; i++) {
        const uint32_t role = i < coords ? DLS_ROLE_COORD : 0u;
        CHECK_STATUS(dls_roster_enrol(&file, &node_root, names[i],
                                      DLS_ROLE_JOIN | DLS_ROLE_TRAIN | role, false, &keys, NULL),
                     DLS_OK);
        snprintf(node_key[i], sizeof node_key[i], "%s/node_%s.key", dir, names[i]);
        CHECK_STATUS(dls_keys_save(&keys, node_key[i], true, NULL), DLS_OK);
        snprintf(state, sizeof state, "%s.state", node_key[i]);
        remove(state);
    }
    snprintf(node_roster, sizeof node_roster, "%s/lab.roster", dir); /* where a key looks for it */
    CHECK_STATUS(dls_roster_save(&file, node_roster, true, NULL), DLS_OK);
    dls_roster_free(&file);
}
static void node_by_key(node_call *c, int32_t n) {
    const int32_t lan = dls_tcp_free_port();
    int32_t i;
    node_calls(c, n, NULL, NULL);
    for (i = 0; i < n; i++) {
        c[i].desc.key_file = node_key[i];
        c[i].desc.lan_port = lan;
        c[i].desc.rank = 0;
    }
}
static void node_check_together(int32_t n, uint64_t want) {
    int32_t i;
    bool seen[3] = {false, false, false};
    for (i = 0; i < n; i++) {
        CHECK_STATUS(node_c[i].join, DLS_OK);
        CHECK_STATUS(node_c[i].st[0], DLS_OK);
        CHECK_STATUS(node_c[i].staged, DLS_OK);
        if (node_c[i].join != DLS_OK || node_c[i].st[0] != DLS_OK)
            test_report(__FILE__, __LINE__, "device %d: %s", (int)i, node_c[i].text);
        CHECK(node_c[i].report.state_hash == want);
        CHECK_INT(node_c[i].desc.rank, i); /* places go by id */
        seen[i] = node_c[i].y[0] != 0.0f;
    }
    CHECK(memcmp(node_c[0].y, node_y, sizeof node_y) == 0);
    CHECK(seen[0] && !seen[1]);
}
static void test_node_by_key_equals_one(void) {
    static const int32_t shares[3] = {1, 2, 5};
    const uint64_t want = node_alone(0, node_y);
    long blocks;
    int32_t i, round;
    node_group(3, 3);
    blocks = test_blocks;
    for (round = 0; round < 2; round++) { /* found on the LAN; by address, with shares */
        char at[2][60];
        int32_t port = dls_tcp_free_port();
        node_by_key(node_c, 3);
        snprintf(at[0], sizeof at[0], "1@127.0.0.1:%d", (int)port);
        snprintf(at[1], sizeof at[1], "%s,2@127.0.0.1:%d", at[0], (int)port + 1);
        for (i = 0; i < 3; i++) {
            node_c[i].net = 0;
            node_c[i].fit = node_fit_desc(0);
            node_c[i].infer = true;
            node_c[i].calls = 2;
            if (round == 0) continue;
            node_c[i].desc.shares = shares;
            node_c[i].desc.no_lan = true;
            node_c[i].desc.listen = i < 2 ? port + i : 0;
            node_c[i].desc.connect = i > 0 ? at[i - 1] : NULL;
            node_c[i].calls = 1;
        }
        node_threads(node_c, 3);
        if (round == 0)
            for (i = 0; i < 3; i++) CHECK_STATUS(node_c[i].st[1], DLS_OK);
        if (round == 1) node_check_together(3, want);
        if (round == 1) CHECK(node_c[1].share[2].samples > 2 * node_c[1].share[0].samples);
        CHECK(strcmp(node_c[0].name, "phone") == 0 && strcmp(node_c[2].name, "tablet") == 0);
        CHECK_INT(test_blocks - blocks, 0);
    }
}
/* Two of three come: they go on, and know who is missing. One alone does not. */
static void test_node_by_key_goes_on_with_who_is_there(void) {
    const uint64_t want = node_alone(1, node_y);
    const dls_data data = job_data();
    dls_node_desc d;
    dls_node *node;
    int32_t i;
    node_group(3, 3);
    node_by_key(node_c, 2);
    for (i = 0; i < 2; i++) {
        node_c[i].desc.join_ms = 3000;
        node_c[i].infer = true;
    }
    node_threads(node_c, 2);
    node_check_together(2, want);
    for (i = 0; i < 2; i++) {
        CHECK_TEXT(node_c[i].text, "2 of 3 devices are here");
        CHECK_TEXT(node_c[i].text, "device 3 (glasses) was never heard");
    }
    d = node_c[0].desc;
    d.join_ms = 300;
    CHECK_STATUS(dls_node_create(&node, &d), DLS_E_TIMEOUT);
    CHECK_TEXT(dls_node_explain(node), "nobody else was found in 300 ms");
    CHECK_TEXT(dls_node_explain(node), "device 2 (phone)");
    CHECK_STATUS(dls_node_infer(node, NULL, &data, 0, NULL, NULL), DLS_E_TIMEOUT);
    dls_node_destroy(node);
    d.expect = 2;
    d.no_lan = true;
    CHECK_STATUS(dls_node_create(&node, &d), DLS_E_TIMEOUT);
    CHECK_TEXT(dls_node_explain(node), "phone does not answer");
    dls_node_destroy(node);
    d.peers = "127.0.0.1:1";
    CHECK_STATUS(dls_node_create(&node, &d), DLS_E_ARG);
    dls_node_destroy(node);
    d.peers = NULL;
    d.roster_file = "no/such.roster";
    CHECK_STATUS(dls_node_create(&node, &d), DLS_E_NOT_FOUND);
    CHECK_TEXT(dls_node_explain(node), "no/such.roster");
    dls_node_destroy(node);
    node_group(1, 0);
    d.roster_file = NULL;
    CHECK_STATUS(dls_node_create(&node, &d), DLS_E_NOT_FOUND);
    CHECK_TEXT(dls_node_explain(node), "coordinates");
    dls_node_destroy(node);
    node_group(1, 1); /* a group of one device is complete */
    d.expect = 0;
    d.join_ms = 5000;
    CHECK_STATUS(dls_node_create(&node, &d), DLS_OK);
    CHECK_INT(dls_node_count(node), 1);
    dls_node_destroy(node);
}
/* Revoked while it waits for others: it is told, and stops. */
static void *node_revoke(void *arg) {
    dls_roster_file file;
    unsigned char root32[32];
    (void)arg;
    usleep(500000);
    dls_ed25519_public(root32, node_root.seed);
    if (dls_roster_load(&file, node_roster, root32, NULL) != DLS_OK) return NULL;
    if (dls_roster_revoke(&file, &node_root, "tablet", NULL) == DLS_OK)
        (void)dls_roster_save(&file, node_roster, true, NULL);
    dls_roster_free(&file);
    return NULL;
}
static void test_node_by_key_revoked(void) {
    pthread_t t;
    dls_node *node;
    node_group(2, 2);
    node_by_key(node_c, 1);
    CHECK_INT(pthread_create(&t, NULL, node_revoke, NULL), 0);
    CHECK_STATUS(dls_node_create(&node, &node_c[0].desc), DLS_E_REFUSED);
    CHECK_TEXT(dls_node_explain(node), "revoked");
    dls_node_destroy(node);
    pthread_join(t, NULL);
}
/* A third device joins while a call begins. Who has told the others that it makes the call stays
   with them, so that no two begin it in different views; when one of them makes its call only
   after the change, all begin in the new one. */
static void *node_open(void *arg) { /* fit.user: the node */
    node_call *c = (node_call *)arg;
    dls_node *node;
    c->join = dls_node_create(&node, &c->desc);
    c->fit.user = node;
    return NULL;
}
static void *node_barrier(void *arg) {
    node_call *c = (node_call *)arg;
    c->st[0] = dlsi_node_gather((dls_node *)c->fit.user);
    return NULL;
}
static bool node_until(dls_node *n, bool (*done)(const dls_node *), uint64_t us) {
    const uint64_t start = dls_now_us();
    bool good = false;
    while (!good && dls_now_us() - start < us) {
        dlsi_node_lock(n);
        good = done(n);
        dlsi_node_unlock(n);
        if (!good) usleep(1000);
    }
    return good;
}
static bool node_has_told(const dls_node *n) { return n->coll.old >= 0; }
static bool node_view_of_3(const dls_node *n) { return n->peer->view.count == 3; }
static void node_join_in_between(bool chosen) { /* the second had chosen its view already */
    dls_node *node[3] = {NULL, NULL, NULL};
    unsigned char byte = 0;
    uint64_t start;
    pthread_t t[3];
    dls_status st = DLS_E_PEER;
    bool over = false;
    uint32_t before;
    int32_t i;
    node_group(3, 3);
    node_by_key(node_c, 3);
    for (i = 0; i < 2; i++) {
        node_c[i].desc.expect = 2;
        node_c[i].desc.threads = 1;
        CHECK_INT(pthread_create(&t[i], NULL, node_open, &node_c[i]), 0);
    }
    for (i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        node[i] = (dls_node *)node_c[i].fit.user;
        CHECK_STATUS(node_c[i].join, DLS_OK);
    }
    before = node[0]->view;
    CHECK_INT(node[1]->view, before);
    CHECK_INT(pthread_create(&t[0], NULL, node_barrier, &node_c[0]), 0);
    CHECK(node_until(node[0], node_has_told, 5000000));
    node_c[2].desc.expect = 3;
    (void)node_open(&node_c[2]);
    node[2] = (dls_node *)node_c[2].fit.user;
    CHECK_STATUS(node_c[2].join, DLS_OK);
    CHECK(node_until(node[0], node_view_of_3, 5000000));
    usleep(100000); /* the first has seen it too */
    if (chosen) {
        dlsi_node_lock(node[1]);
        CHECK_STATUS(dlsi_node_stage(node[1], 64), DLS_OK);
        CHECK_STATUS(dlsi_node_seat(node[1]), DLS_OK);
        CHECK_STATUS(dls_coll_allreduce(&node[1]->coll, &byte, 1, DLS_REDUCE_MAX_U8), DLS_OK);
        start = dls_now_us();
        while (!over && dls_now_us() - start < 5000000) {
            over = dls_coll_poll(&node[1]->coll, &st);
            if (!over) dlsi_node_wait(node[1]);
        }
        if (!over) (void)dlsi_node_seat(node[1]);
        dlsi_node_unlock(node[1]);
        CHECK(over);
        CHECK_STATUS(st, DLS_OK);
        pthread_join(t[0], NULL);
        CHECK_INT(node[0]->view, before);
    } else {
        for (i = 1; i < 3; i++)
            CHECK_INT(pthread_create(&t[i], NULL, node_barrier, &node_c[i]), 0);
        for (i = 0; i < 3; i++) {
            pthread_join(t[i], NULL);
            CHECK(node[i]->view > before);
            CHECK_INT(node[i]->view, node[0]->view);
            CHECK_INT(node[i]->count, 3);
        }
        CHECK_STATUS(node_c[1].st[0], DLS_OK);
        CHECK_STATUS(node_c[2].st[0], DLS_OK);
    }
    CHECK_STATUS(node_c[0].st[0], DLS_OK);
    for (i = 0; i < 3; i++) dls_node_destroy(node[i]);
}
static void test_node_a_device_joins_as_a_call_begins(void) {
    node_join_in_between(true);
    node_join_in_between(false);
}
static void test_node_by_itself(void) {
    const uint64_t want = node_alone(1, node_y);
    node_calls(node_c, 1, NULL, NULL);
    node_c[0].infer = true;
    node_run(&node_c[0]);
    CHECK_STATUS(node_c[0].st[0], DLS_OK);
    CHECK_STATUS(node_c[0].staged, DLS_OK);
    CHECK(node_c[0].report.state_hash == want);
    CHECK(memcmp(node_c[0].y, node_y, sizeof node_y) == 0);
}

/* ---- What is refused ---- */

static void test_node_bad_descs(void) {
    static const struct {
        const char *peers;
        int32_t rank, threads, join_ms, timeout_ms;
        dls_status want;
        const char *text;
    } rows[] = {
        {"", 0, 1, 0, 0, DLS_E_ARG, "address 0 of ''"},
        {"127.0.0.1", 0, 1, 0, 0, DLS_E_ARG, "127.0.0.1:7000"},
        {"127.0.0.1:0", 0, 1, 0, 0, DLS_E_ARG, "address 0"},
        {"127.0.0.1:65536", 0, 1, 0, 0, DLS_E_ARG, "address 0"},
        {"127.0.0.1:7001,", 0, 1, 0, 0, DLS_E_ARG, "address 1"},
        {",127.0.0.1:7001", 0, 1, 0, 0, DLS_E_ARG, "address 0"},
        {"127.0.0.1:7001,127.0.0:7002", 0, 1, 0, 0, DLS_E_ARG, "address 1"},
        {"127.0.0.256:7001", 0, 1, 0, 0, DLS_E_ARG, "address 0"},
        {"127.0.0.1:7001 127.0.0.1:7002", 0, 1, 0, 0, DLS_E_ARG, "commas"},
        {"::1:7001", 0, 1, 0, 0, DLS_E_ARG, "address 0"},
        {"host.example:7001", 0, 1, 0, 0, DLS_E_ARG, "host.example"},
        {"10.0.0.1:7001", 0, 1, 0, 0, DLS_E_REFUSED, "loopback"},
        {"0.0.0.0:7001", 0, 1, 0, 0, DLS_E_REFUSED, "loopback"},
        {"127.0.0.1:7001,192.168.1.7:7002", 0, 1, 0, 0, DLS_E_REFUSED, "address 1"},
        {"127.0.0.1:7001,127.0.0.1:7002", 2, 1, 0, 0, DLS_E_ARG, "rank 2"},
        {"127.0.0.1:7001,127.0.0.1:7002", -1, 1, 0, 0, DLS_E_ARG, "rank -1"},
        {NULL, 1, 1, 0, 0, DLS_E_ARG, "rank 1"},
        {NULL, 0, -1, 0, 0, DLS_E_ARG, "threads -1"},
        {NULL, 0, DLS_THREADS_MAX + 1, 0, 0, DLS_E_ARG, "threads"},
        {"127.0.0.1:7001", 0, 1, -1, 0, DLS_E_ARG, "join_ms"},
        {"127.0.0.1:7001", 0, 1, 0, -1, DLS_E_ARG, "timeout_ms"},
    };
    const long blocks = test_blocks;
    size_t i;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        dls_node_desc d;
        dls_node *node = NULL;
        memset(&d, 0, sizeof d);
        d.peers = rows[i].peers;
        d.rank = rows[i].rank;
        d.threads = rows[i].threads;
        d.join_ms = rows[i].join_ms;
        d.timeout_ms = rows[i].timeout_ms;
        CHECK_STATUS(dls_node_create(&node, &d), rows[i].want);
        CHECK_TEXT(dls_node_explain(node), rows[i].text);
        dls_node_destroy(node);
    }
    CHECK_INT(test_blocks - blocks, 0);
}
static void test_node_port_in_use(void) {
    struct sockaddr_in a;
    socklen_t length = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    char peers[64], port[16];
    dls_node_desc d;
    dls_node *node;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_INT(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    CHECK_INT(listen(fd, 1), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&a, &length), 0);
    sprintf(port, "%d", (int)ntohs(a.sin_port));
    sprintf(peers, "127.0.0.1:%s", port);
    memset(&d, 0, sizeof d);
    d.peers = peers;
    d.threads = 1;
    CHECK_STATUS(dls_node_create(&node, &d), DLS_E_IO);
    CHECK_TEXT(dls_node_explain(node), port);
    CHECK_TEXT(dls_node_explain(node), "using it");
    dls_node_destroy(node);
    close(fd);
}
static void test_node_peer_never_comes(void) {
    int32_t rank;
    for (rank = 0; rank < 2; rank++) { /* the one that is called, and the one that calls */
        const uint64_t start = dls_now_us();
        dls_node_desc d;
        dls_node *node;
        char peers[64];
        node_peers(peers, 2);
        memset(&d, 0, sizeof d);
        d.peers = peers;
        d.rank = rank;
        d.threads = 1;
        d.join_ms = 150;
        CHECK_STATUS(dls_node_create(&node, &d), DLS_E_TIMEOUT);
        CHECK_TEXT(dls_node_explain(node), rank == 0 ? "peer 1 of" : "peer 0 of");
        CHECK_TEXT(dls_node_explain(node), "150 ms");
        CHECK(dls_now_us() - start >= 150000 && dls_now_us() - start < 3000000);
        dls_node_destroy(node);
    }
}
/* Calls that differ in one thing: every peer hears of it, and a right call afterwards succeeds. */
static void test_node_calls_disagree(void) {
    static const int32_t other[2] = {2, 1};
    const uint64_t want = node_alone(1, node_y);
    int what;
    for (what = 0; what < 9; what++) {
        char peers[64];
        int32_t i;
        node_peers(peers, 2);
        node_calls(node_c, 2, peers, NULL);
        node_c[0].calls = node_c[1].calls = 2;
        if (what == 0) node_c[1].net = 0;
        if (what == 1) node_c[1].seed = 4;
        if (what == 2) node_c[1].fit.train.optim.lr = 0.02f;
        if (what == 3) node_c[1].fit.train.optim.momentum = 0.5f;
        if (what == 4) node_c[1].fit.epochs = 3;
        if (what == 5) node_c[1].fit.augment.flip = true;
        if (what == 6) node_c[1].count = 40;
        if (what == 7) node_c[1].fit.train.batch = 12;
        if (what == 8) node_c[1].desc.shares = other;
        if (what == 8) node_c[0].calls = node_c[1].calls = 1;
        node_threads(node_c, 2);
        for (i = 0; i < 2; i++) {
            CHECK_STATUS(node_c[i].st[0], DLS_E_MISMATCH);
            CHECK_TEXT(node_c[i].text, "same call");
            if (what == 8) continue;
            CHECK_STATUS(node_c[i].st[1], DLS_OK);
            CHECK(node_c[i].report.state_hash == want);
        }
    }
}
static void test_node_inference_disagrees(void) {
    char peers[64];
    int32_t i;
    node_peers(peers, 2);
    node_calls(node_c, 2, peers, NULL);
    for (i = 0; i < 2; i++) {
        node_c[i].calls = 0;
        node_c[i].infer = true;
        node_c[i].net = i; /* two networks */
    }
    node_threads(node_c, 2);
    for (i = 0; i < 2; i++) CHECK_STATUS(node_c[i].staged, DLS_E_MISMATCH);
}
static bool node_stop(void *user, const dls_progress *p) {
    (void)user;
    (void)p;
    return false;
}
/* Rank 0 stops: all stop after the same step; the checkpoint goes on to the one-device result. */
static void test_node_stop_and_resume(void) {
    const uint64_t want = (node_steps = 150, node_alone(1, node_y));
    const char *dir = getenv("OUT");
    char peers[64], path[300];
    int32_t i, round;
    int64_t steps = 0;
    snprintf(path, sizeof path, "%s/node.ckpt", dir != NULL ? dir : ".");
    for (round = 0; round < 2; round++) {
        node_peers(peers, 2);
        node_calls(node_c, 2, peers, NULL);
        for (i = 0; i < 2; i++) {
            if (round == 0) node_c[i].fit.progress = node_stop;
            node_c[i].fit.progress_ms = 1;
            node_c[i].fit.steps = node_steps;
            node_c[i].fit.checkpoint = i == 0 ? path : NULL;
            if (round == 1) node_c[i].fit.resume = path;
        }
        node_threads(node_c, 2);
        for (i = 0; i < 2; i++) {
            CHECK_STATUS(node_c[i].st[0], round == 0 ? DLS_E_STOPPED : DLS_OK);
            if (round == 1) CHECK(node_c[i].report.state_hash == want);
            CHECK(node_c[i].report.state_hash == node_c[0].report.state_hash);
        }
        CHECK_INT(node_c[0].report.steps, node_c[1].report.steps);
        steps += node_c[0].report.steps;
        if (round == 0) CHECK_TEXT(node_c[1].text, "stop");
    }
    CHECK_INT(steps, node_steps);
    node_steps = 0;
    remove(path);
}

/* ---- Processes ---- */

static int node_told; /* where the child of rank 0 writes once it trains */

/* Starts rank of peers in a process of its own, that writes what came of it to fd. */
static pid_t node_process(node_call *c, int fd) {
    const pid_t child = fork();
    if (child != 0) return child;
    if (c->desc.rank != 0) close(node_told); /* else nobody would see that rank 0 is gone */
    node_run(c);
    if (write(fd, c, sizeof *c) != (ssize_t)sizeof *c) _exit(3);
    _exit(0);
}
static bool node_read(int fd, node_call *c) {
    size_t at = 0;
    while (at < sizeof *c) {
        const ssize_t n = read(fd, (char *)c + at, sizeof *c - at);
        if (n <= 0) return false;
        at += (size_t)n;
    }
    return true;
}
static bool node_tell_at_3(void *user, const dls_progress *p) { /* in the child of rank 0 */
    (void)user;
    if (p->step >= 3 && node_told >= 0) {
        if (write(node_told, "x", 1) != 1) _exit(4);
        node_told = -1;
    }
    return true;
}
static void node_processes(int32_t victim) {
    int told[2], out[3][2], status;
    pid_t child[3];
    char peers[100], byte;
    int32_t i;
    node_peers(peers, 3);
    node_calls(node_c, 3, peers, NULL);
    CHECK_INT(pipe(told), 0);
    node_told = told[1];
    for (i = 0; i < 3; i++) {
        CHECK_INT(pipe(out[i]), 0);
        node_c[i].fit.progress = node_tell_at_3;
        node_c[i].fit.progress_ms = 1;
        node_c[i].desc.timeout_ms = 20000;
        if (victim >= 0) node_c[i].fit.epochs = 1000000;
        if (victim < 0) node_c[i].fit.steps = 300; /* long enough to be told of */
        node_c[i].infer = victim < 0;
        child[i] = node_process(&node_c[i], out[i][1]);
        close(out[i][1]);
    }
    close(told[1]);
    CHECK_INT(read(told[0], &byte, 1), 1);
    if (victim >= 0) kill(child[victim], SIGKILL);
    for (i = 0; i < 3; i++) {
        if (i != victim) CHECK(node_read(out[i][0], &node_c[i]));
        close(out[i][0]);
        CHECK(waitpid(child[i], &status, 0) == child[i]);
        CHECK(i == victim ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    close(told[0]);
}
static void test_node_three_processes_equal_one(void) {
    const uint64_t want = (node_steps = 300, node_alone(1, node_y));
    int32_t i;
    node_steps = 0;
    node_processes(-1);
    for (i = 0; i < 3; i++) {
        CHECK_STATUS(node_c[i].st[0], DLS_OK);
        CHECK_STATUS(node_c[i].staged, DLS_OK);
        CHECK(node_c[i].report.state_hash == want);
    }
    CHECK(memcmp(node_c[0].y, node_y, sizeof node_y) == 0);
}
static void test_node_peer_killed(void) {
    int32_t victim, i;
    for (victim = 1; victim < 3; victim++) {
        char who[32];
        const uint64_t start = dls_now_us();
        node_processes(victim);
        sprintf(who, "peer %d went away", (int)victim);
        for (i = 0; i < 3; i++) {
            if (i == victim) continue;
            CHECK_STATUS(node_c[i].st[0], DLS_E_PEER);
            CHECK_TEXT(node_c[i].text, who);
            CHECK_TEXT(node_c[i].text, "checkpoint");
        }
        CHECK(dls_now_us() - start < 10000000);
    }
}

/* A wake-up ends a wait, also when it comes first. */
static void test_node_tcp_wakes(void) {
    char peers[64];
    const dls_peer_desc me = cluster_desc(0, 2);
    const size_t bytes = dls_peer_size(&me);
    unsigned char *mem = (unsigned char *)malloc(bytes);
    dls_tcp_desc desc;
    dls_error error;
    dls_tcp *tcp = NULL;
    void *block;
    uint64_t start;
    memset(&desc, 0, sizeof desc);
    snprintf(peers, sizeof peers, "127.0.0.1:%d,127.0.0.1:%d", (int)dls_tcp_free_port(),
             (int)dls_tcp_free_port());
    CHECK_STATUS(dls_peer_init(&desc.peer, &me, mem, bytes), DLS_OK);
    desc.size = 2;
    desc.peers = peers;
    block = malloc(dls_tcp_size(&desc));
    CHECK_STATUS(dls_tcp_init(&tcp, &desc, block, dls_tcp_size(&desc), &error), DLS_OK);
    if (tcp == NULL) return;
    dls_tcp_wake(tcp);
    start = dls_now_us();
    dls_tcp_poll(tcp, 20000000, NULL, NULL, NULL);
    CHECK(dls_now_us() - start < 5000000);
    start = dls_now_us();
    dls_tcp_poll(tcp, 30000, NULL, NULL, NULL); /* the wake-up is used up */
    CHECK(dls_now_us() - start >= 20000);
    dls_tcp_close(tcp);
    free(block);
    free(mem);
}

static void node_tests(void) {
    RUN(node_tcp_wakes);
    RUN(node_three_processes_equal_one);
    RUN(node_peer_killed);
    RUN(node_three_threads_equal_one);
    RUN(node_unlike_shares_equal_one);
    RUN(node_by_key_equals_one);
    RUN(node_by_key_goes_on_with_who_is_there);
    RUN(node_by_key_revoked);
    RUN(node_a_device_joins_as_a_call_begins);
    RUN(node_by_itself);
    RUN(node_bad_descs);
    RUN(node_port_in_use);
    RUN(node_peer_never_comes);
    RUN(node_calls_disagree);
    RUN(node_inference_disagrees);
    RUN(node_stop_and_resume);
}
