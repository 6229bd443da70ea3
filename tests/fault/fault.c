/* Failing memory and failing files. Each scenario is run with its 1st, 2nd, 3rd, ... allocation or
   file call failing, once or from then on, until it succeeds untouched. Every failure must come
   back as a status that fits, with nothing leaked, no file left open, and the old file whole; the
   same scenario then succeeds. Further: memory given a few bytes short, no allocation after init,
   and what real file systems do. */
#define _DEFAULT_SOURCE
#include "fault/hooks.h"
#define DLSHARD_IMPLEMENTATION
#include "dlshard.h"

#include "test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char fault_path[400], fault_text[512];
static dls_error fault_error;
/* A path in the suite's own folder; valid until the next call. */
static const char *at(const char *name) {
    const char *dir = getenv("OUT");
    snprintf(fault_path, sizeof fault_path, "%s/%s", dir != NULL ? dir : ".", name);
    return fault_path;
}
static const char *text_of(const dls_error *e) {
    return dls_error_text(e, fault_text, sizeof fault_text);
}
static void put(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    if (f == NULL) return;
    CHECK_INT(fwrite(bytes, 1, n, f), n);
    fclose(f);
}
static size_t get(const char *path, unsigned char *bytes, size_t most) {
    FILE *f = fopen(path, "rb");
    size_t n;
    if (f == NULL) return 0;
    n = fread(bytes, 1, most, f);
    fclose(f);
    return n;
}

/* ---- What scenarios work on ---- */

#define N 12
static float fault_x[N * 36];
static int32_t fault_label[N];
static dls_data small_data(void) {
    dls_data d;
    int i;
    memset(&d, 0, sizeof d);
    for (i = 0; i < N * 36; i++) fault_x[i] = (float)(dls_rand_at(1, (uint32_t)i) & 255) / 255;
    for (i = 0; i < N; i++) fault_label[i] = i % 3;
    d.x = fault_x;
    d.shape.h = d.shape.w = 6;
    d.shape.c = 1;
    d.count = N;
    d.label = fault_label;
    d.classes = 3;
    return d;
}
static void build_net(dls_net *net) {
    dls_val x = dls_net_input(net, 6, 6, 1);
    x = dls_net_conv2d(net, x, 4, 3, DLS_ACT_NONE);
    x = dls_net_batchnorm(net, x, DLS_ACT_RELU);
    x = dls_net_maxpool(net, x, 2);
    dls_net_dense(net, x, 3, DLS_ACT_NONE);
    dls_net_set_meta(net, "made=by hand\n");
}
static dls_net *small_net(void) { /* NULL without memory */
    dls_net *net = dls_net_create(NULL);
    if (net != NULL) build_net(net);
    return net;
}
/* The status behind a NULL from a create call: it must be told. */
static dls_status told(const dls_net *net) {
    CHECK(dls_net_error(net)->status != DLS_OK);
    return dls_net_error(net)->status != DLS_OK ? dls_net_error(net)->status : DLS_E_STATE;
}

/* ---- Scenarios: make, use and destroy; return the first status that is not DLS_OK ---- */

static dls_status do_exec(void) {
    dls_net *net = small_net();
    dls_exec *exec;
    dls_status st = DLS_OK;
    if (net == NULL) return DLS_E_MEMORY;
    exec = dls_exec_create(net, NULL);
    st = exec == NULL ? told(net) : DLS_OK;
    if (st == DLS_OK) memcpy(dls_exec_input(exec, 0), fault_x, 36 * sizeof(float));
    if (st == DLS_OK) st = dls_exec_forward(exec, 1);
    dls_exec_destroy(exec);
    dls_net_destroy(net);
    return st;
}
static dls_status do_train(void) {
    const dls_data data = small_data();
    dls_net *net = small_net();
    dls_train_desc d;
    dls_train *train;
    int32_t index[4] = {0, 5, 2, 7};
    dls_status st;
    memset(&d, 0, sizeof d);
    d.batch = 4;
    d.shards = 2;
    d.optim.kind = DLS_OPTIM_ADAM;
    if (net == NULL) return DLS_E_MEMORY;
    train = dls_train_create(net, &d);
    st = train == NULL ? told(net) : dls_train_step_data(train, &data, NULL, index, 4, NULL);
    if (st == DLS_OK) st = dls_train_save(train, at("train.ckpt"), &fault_error);
    if (st == DLS_OK) st = dls_train_load(train, at("train.ckpt"), &fault_error);
    dls_train_destroy(train);
    dls_net_destroy(net);
    return st;
}
static dls_status do_fit(void) {
    const dls_data data = small_data();
    dls_net *net = small_net();
    dls_fit_desc f;
    dls_eval_report report;
    dls_status st;
    memset(&f, 0, sizeof f);
    f.train.batch = 4;
    f.threads = 2;
    f.checkpoint = at("fit.ckpt");
    f.checkpoint_every = 1;
    if (net == NULL) return DLS_E_MEMORY;
    st = dls_fit(net, &data, &f, NULL);
    f.resume = f.checkpoint;
    f.epochs = 2;
    if (st == DLS_OK) st = dls_fit(net, &data, &f, NULL);
    if (st != DLS_OK) fault_error = *dls_net_error(net);
    if (st == DLS_OK) st = dls_eval(net, &data, NULL, 5, NULL, &report);
    dls_net_destroy(net);
    return st;
}
static dls_status do_save(void) {
    dls_net *net = small_net();
    dls_exec *exec;
    dls_status st;
    if (net == NULL) return DLS_E_MEMORY;
    exec = dls_exec_create(net, NULL); /* makes the weights */
    if (exec != NULL)
        st = dls_net_init_params(net);
    else
        st = told(net);
    if (st == DLS_OK) st = dls_net_save(net, at("model.dls"), &fault_error);
    dls_exec_destroy(exec);
    dls_net_destroy(net);
    return st;
}
static dls_status do_load(void) {
    dls_net *net = NULL;
    const dls_status st = dls_net_load(&net, at("old.dls"), &fault_error);
    CHECK((net != NULL) == (st == DLS_OK));
    dls_net_destroy(net);
    return st;
}
static dls_status do_read_model(void) {
    dls_model m;
    const dls_status st = dls_model_read(&m, at("old.dls"), &fault_error);
    if (st == DLS_OK) DLS_FREE((void *)(uintptr_t)m.bytes);
    CHECK(st == DLS_OK || m.bytes == NULL);
    return st;
}
static dls_status do_open(const char *name) {
    dls_data d;
    const dls_status st = dls_data_open(&d, at(name), &fault_error);
    if (st == DLS_OK) {
        CHECK_INT(d.count, 2);
        CHECK(d.label != NULL);
        CHECK(d.label == NULL || (d.label[0] == 1 && d.label[1] == 2));
        dls_data_close(&d);
    }
    return st;
}
static dls_status do_open_idx(void) { return do_open("small"); }
static dls_status do_open_csv(void) { return do_open("small.csv"); }
static dls_status do_open_npy(void) { return do_open("small.npy"); }
static dls_status do_read_file(void) {
    void *bytes;
    size_t n;
    dls_status st;
    memset(&fault_error, 0xEE, sizeof fault_error); /* the call sets it, whatever it held */
    st = dls_file_read(at("small-images-idx3-ubyte.gz"), &bytes, &n, &fault_error);
    CHECK((bytes != NULL) == (st == DLS_OK));
    if (st == DLS_OK) DLS_FREE(bytes);
    return st;
}
static dls_status do_eval(void) {
    const dls_data data = small_data();
    dls_net *net = small_net();
    dls_eval_report report;
    dls_status st;
    if (net == NULL) return DLS_E_MEMORY;
    st = dls_eval(net, &data, NULL, 5, NULL, &report);
    CHECK(st != DLS_OK || report.samples == N);
    dls_net_destroy(net);
    return st;
}
static dls_status do_pool(void) {
    dls_pool_desc d = {3, 0};
    dls_pool *pool = dls_pool_create(&d);
    if (pool == NULL) return DLS_E_MEMORY;
    CHECK_INT(dls_pool_threads(pool), 3);
    dls_pool_destroy(pool);
    return DLS_OK;
}
static dls_status do_grad_check(void) {
    dls_net *net = small_net();
    dls_grad_report report;
    dls_status st;
    if (net == NULL) return DLS_E_MEMORY;
    st = dls_grad_check(net, 2, 1, 0, 2, &report);
    dls_net_destroy(net);
    return st;
}
/* A node alone, or with an engine and a socket when it has an address. */
static dls_status node_scenario(const char *peers) {
    const dls_data data = small_data();
    dls_net *net = small_net();
    dls_node *node = NULL;
    dls_node_desc me;
    dls_fit_desc f;
    float y[N * 3];
    dls_status st;
    if (net == NULL) return DLS_E_MEMORY;
    memset(&me, 0, sizeof me);
    memset(&f, 0, sizeof f);
    me.peers = peers;
    me.threads = 1;
    f.train.batch = 8;
    st = dls_node_create(&node, &me);
    CHECK(node != NULL || st == DLS_E_MEMORY);
    if (st == DLS_OK) st = dls_node_fit(node, net, &data, &f, NULL, NULL);
    if (st == DLS_OK) st = dls_node_infer(node, net, &data, 5, y, NULL);
    if (st != DLS_OK) CHECK_TEXT(dls_node_explain(node), dls_status_text(st));
    if (st != DLS_OK && node != NULL) CHECK(strlen(dls_node_explain(node)) > 40);
    dls_node_destroy(node);
    dls_net_destroy(net);
    return st;
}
static dls_status do_node_alone(void) { return node_scenario(NULL); }
static dls_status do_node_with_address(void) {
    char peers[40];
    snprintf(peers, sizeof peers, "127.0.0.1:%d", (int)dls_tcp_free_port());
    return node_scenario(peers);
}

/* A host with keys that is its group's only member, in an elastic run with checkpoints. */
static dls_status host_want; /* of the failure that is under test */
static void host_path(char *to, const char *name) { snprintf(to, 400, "%s", at(name)); }
static void host_files(void) {
    char key[400];
    dls_roster_file roster;
    dls_root root;
    dls_keys keys;
    memset(&roster, 0, sizeof roster);
    host_path(key, "host.key");
    CHECK_STATUS(dls_root_make(&root, NULL), DLS_OK);
    CHECK_STATUS(dls_roster_enrol(&roster, &root, "host",
                                  DLS_ROLE_JOIN | DLS_ROLE_TRAIN | DLS_ROLE_COORD, false, &keys,
                                  &fault_error),
                 DLS_OK);
    CHECK_STATUS(dls_keys_save(&keys, key, true, &fault_error), DLS_OK);
    CHECK_STATUS(dls_roster_save(&roster, at("host.roster"), true, &fault_error), DLS_OK);
    dls_roster_free(&roster);
    (void)remove(at("host.key.state"));
}
static dls_status host_scenario(bool resumes) {
    static char key[400], roster[400], checkpoint[400];
    const dls_data data = small_data();
    dls_net *net = small_net();
    dls_host_fit_desc f;
    dls_fit_report report;
    dls_host_desc h;
    dls_host host;
    dls_status st;
    if (net == NULL) return DLS_E_MEMORY;
    memset(&f, 0, sizeof f);
    memset(&h, 0, sizeof h);
    host_path(key, "host.key");
    host_path(roster, "host.roster");
    host_path(checkpoint, "host.ckpt");
    h.key = key;
    h.roster = roster;
    h.no_lan = true;
    h.timeout_us = 100000; /* elections wait by the heartbeat, a tenth of it */
    f.fit.train.batch = 6;
    f.fit.train.optim.kind = DLS_OPTIM_ADAM;
    f.fit.threads = 1;
    f.fit.epochs = resumes ? 2 : 1;
    f.fit.resume = resumes ? checkpoint : NULL;
    f.fit.checkpoint = checkpoint;
    st = dls_host_open(&host, &h, &fault_error);
    if (st == DLS_OK) st = dls_host_fit(&host, net, &data, &f, &report, NULL, &fault_error);
    if (st == DLS_OK && !resumes) CHECK_INT(report.steps, 2);
    if (st == DLS_E_IO && (strstr(text_of(&fault_error), "cannot coordinate") != NULL ||
                            strstr(text_of(&fault_error), "starts are counted") != NULL))
        st = fault_error.status = host_want; /* a store hook tells only that it failed */
    dls_host_close(&host);
    dls_net_destroy(net);
    return st;
}
static dls_status do_host_fit(void) { return host_scenario(false); }
static dls_status do_host_resume(void) { return host_scenario(true); }

/* ---- Making them fail ---- */

static void clear(void) {
    errno = 0;
    memset(&fault_error, 0, sizeof fault_error);
}
/* Every allocation in turn. Returns how many there were. */
static long fail_memory(dls_status (*scenario)(void), int for_good) {
    const long blocks = fault.blocks, files = fault.files;
    long n;
    for (n = 1; n < 2000; n++) {
        dls_status st;
        clear();
        fault_arm(n, 0, 0, 0, for_good != 0);
        st = scenario();
        if (fault.failed == 0) {
            CHECK_STATUS(st, DLS_OK);
            break;
        }
        if (st != DLS_E_MEMORY) test_report(__FILE__, __LINE__, "allocation %ld:", n);
        CHECK_STATUS(st, DLS_E_MEMORY);
        CHECK_INT(fault.blocks - blocks, 0);
        CHECK_INT(fault.files - files, 0);
        if (fault_error.status != DLS_OK) CHECK_STATUS(fault_error.status, DLS_E_MEMORY);
        fault_arm(0, 0, 0, 0, false);
        if (n < 6) CHECK_STATUS(scenario(), DLS_OK); /* the next try succeeds */
    }
    fault_arm(0, 0, 0, 0, false);
    CHECK_INT(fault.blocks - blocks, 0);
    CHECK(n > 1);
    return n - 1;
}
/* Every file call in turn, with an errno and the status it should become. Calls whose failure may
   be overlooked: closing what was read, and cleaning up. */
static long fail_files(dls_status (*scenario)(void), const char *keep, const char *name, int code,
                       dls_status want) {
    static unsigned char before[20000], after[20000];
    const long blocks = fault.blocks, files = fault.files;
    const size_t size = keep != NULL ? get(at(keep), before, sizeof before) : 0;
    char beside[64] = "";
    long n = 1;
    int round;
    if (keep != NULL) snprintf(beside, sizeof beside, "%s.new", keep);
    for (round = 0; round < 4; round++) /* errors and halves, once and for good */
        for (n = 1; n < 2000; n++) {
            dls_status st;
            clear();
            if (keep != NULL) put(at(keep), before, size);
            fault_arm(0, n, code, round % 2, round >= 2);
            st = scenario();
            if (fault.failed == 0) {
                CHECK_STATUS(st, DLS_OK);
                break;
            }
            CHECK_INT(fault.blocks - blocks, 0);
            CHECK_INT(fault.files - files, 0);
            if (st == DLS_OK) {
                CHECK(strcmp(fault.last, "close") == 0 || strcmp(fault.last, "remove") == 0);
                continue;
            }
            if (st != want) test_report(__FILE__, __LINE__, "%s, point %ld:", fault.last, n);
            CHECK_STATUS(st, want);
            CHECK_STATUS(fault_error.status, want);
            CHECK_TEXT(text_of(&fault_error), name);
            if (keep != NULL) { /* the old file is whole, and nothing lies beside it */
                CHECK_INT(get(at(keep), after, sizeof after), size);
                CHECK(memcmp(before, after, size) == 0);
                if (round < 2) CHECK_INT(get(at(beside), after, sizeof after), 0);
            }
            fault_arm(0, 0, 0, 0, false);
            if (n < 4) CHECK_STATUS(scenario(), DLS_OK);
        }
    if (keep != NULL) remove(at(beside));
    fault_arm(0, 0, 0, 0, false);
    return n - 1;
}

static void test_fault_memory_exec(void) { CHECK_INT(fail_memory(do_exec, 0), 3); }
static void test_fault_memory_train(void) { CHECK(fail_memory(do_train, 0) >= 5); }
static void test_fault_memory_fit(void) { CHECK(fail_memory(do_fit, 0) >= 12); }
static void test_fault_memory_save(void) { CHECK(fail_memory(do_save, 0) >= 5); }
static void test_fault_memory_load(void) { CHECK_INT(fail_memory(do_load, 0), 4); }
static void test_fault_memory_read(void) { CHECK_INT(fail_memory(do_read_model, 0), 1); }
static void test_fault_memory_data_idx(void) { CHECK(fail_memory(do_open_idx, 0) >= 7); }
static void test_fault_memory_data_csv(void) { CHECK_INT(fail_memory(do_open_csv, 0), 3); }
static void test_fault_memory_data_npy(void) { CHECK_INT(fail_memory(do_open_npy, 0), 5); }
static void test_fault_memory_file_read(void) { CHECK_INT(fail_memory(do_read_file, 0), 2); }
static void test_fault_memory_eval(void) { CHECK(fail_memory(do_eval, 0) >= 5); }
static void test_fault_memory_pool(void) { CHECK_INT(fail_memory(do_pool, 0), 1); }
static void test_fault_memory_grad_check(void) { CHECK(fail_memory(do_grad_check, 0) >= 5); }
static void test_fault_memory_node_alone(void) { CHECK(fail_memory(do_node_alone, 0) >= 8); }
static void test_fault_memory_node_with_address(void) {
    CHECK(fail_memory(do_node_with_address, 0) >= 10);
}
static void test_fault_memory_host(void) {
    host_files();
    host_want = DLS_E_MEMORY;
    CHECK(fail_memory(do_host_fit, 0) >= 15);
    CHECK(fail_memory(do_host_resume, 1) >= 15);
}
static void test_fault_files_host(void) {
    host_files();
    CHECK_STATUS(do_host_fit(), DLS_OK);
    host_want = DLS_E_FULL;
    CHECK(fail_files(do_host_fit, "host.ckpt", "host", ENOSPC, DLS_E_FULL) >= 15);
    host_want = DLS_E_IO;
    CHECK(fail_files(do_host_resume, "host.ckpt", "host", EIO, DLS_E_IO) >= 15);
}
static void test_fault_memory_for_good(void) {
    static dls_status (*const all[])(void) = {
        do_exec,       do_train,      do_fit,       do_save,       do_load,
        do_read_model, do_open_idx,   do_open_csv,  do_open_npy,   do_eval,
        do_pool,       do_grad_check, do_read_file, do_node_alone, do_node_with_address};
    size_t i;
    for (i = 0; i < sizeof all / sizeof *all; i++) (void)fail_memory(all[i], 1);
}
static void test_fault_files_save(void) {
    CHECK_INT(fail_files(do_save, "model.dls", "model.dls", EIO, DLS_E_IO), 5);
    CHECK_INT(fail_files(do_save, "model.dls", "model.dls", ENOSPC, DLS_E_FULL), 5);
    CHECK_INT(fail_files(do_save, "model.dls", "model.dls", EROFS, DLS_E_IO), 5);
    CHECK_INT(fail_files(do_save, "model.dls", "model.dls", 0, DLS_E_IO), 5); /* errno unset */
}
static void test_fault_files_train(void) {
    (void)fail_files(do_train, NULL, "train.ckpt", EIO, DLS_E_IO);
    (void)fail_files(do_train, NULL, "train.ckpt", ENOSPC, DLS_E_FULL);
}
static void test_fault_files_fit(void) {
    CHECK(fail_files(do_fit, NULL, "fit.ckpt", EIO, DLS_E_IO) >= 25);
    CHECK(fail_files(do_fit, NULL, "fit.ckpt", ENOSPC, DLS_E_FULL) >= 25);
}
static void test_fault_files_load(void) {
    CHECK_INT(fail_files(do_load, "old.dls", "old.dls", EIO, DLS_E_IO), 6);
    (void)fail_files(do_load, "old.dls", "old.dls", EACCES, DLS_E_IO);
    (void)fail_files(do_read_model, "old.dls", "old.dls", EISDIR, DLS_E_IO);
}
static void test_fault_files_data(void) {
    (void)fail_files(do_open_idx, NULL, "small", EIO, DLS_E_IO);
    (void)fail_files(do_open_csv, NULL, "small.csv", EIO, DLS_E_IO);
    (void)fail_files(do_open_npy, NULL, "small.npy", EIO, DLS_E_IO);
    (void)fail_files(do_read_file, NULL, "small-images", EIO, DLS_E_IO);
}

/* ---- Real file systems ---- */

static void test_fault_missing_files(void) {
    dls_data data;
    dls_net *net;
    dls_error e;
    static const char *const names[] = {"none.csv", "none.npy", "none"};
    size_t i;
    CHECK_STATUS(dls_net_load(&net, at("no/such.dls"), &e), DLS_E_NOT_FOUND);
    CHECK_TEXT(text_of(&e), "such.dls");
    for (i = 0; i < 3; i++) {
        CHECK_STATUS(dls_data_open(&data, at(names[i]), &e), DLS_E_NOT_FOUND);
        CHECK_TEXT(text_of(&e), names[i]);
        dls_data_close(&data); /* harmless */
    }
    CHECK_TEXT(text_of(&e), "-images-idx3-ubyte"); /* what to look for */
    CHECK_STATUS(dls_net_load(&net, at("no/such.dls"), NULL), DLS_E_NOT_FOUND);
}
static void test_fault_directories_as_files(void) {
    dls_data data;
    dls_net *net = small_net(), *other;
    dls_error e;
    (void)mkdir(at("folder"), 0755);
    (void)mkdir(at("folder.csv"), 0755);
    CHECK_STATUS(dls_net_load(&other, at("folder"), &e), DLS_E_IO);
    CHECK_TEXT(text_of(&e), "folder'");
    CHECK_TEXT(text_of(&e), "is it a file?");
    CHECK_STATUS(dls_data_open(&data, at("folder.csv"), &e), DLS_E_IO);
    CHECK_TEXT(text_of(&e), "folder.csv");
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    CHECK_STATUS(dls_net_save(net, at("folder"), &e), DLS_E_IO); /* cannot be replaced */
    CHECK_TEXT(text_of(&e), "cannot replace");
    CHECK_STATUS(dls_net_save(net, at("no/model.dls"), &e), DLS_E_NOT_FOUND);
    CHECK_TEXT(text_of(&e), "no/model.dls");
    CHECK_STATUS(dls_net_save(net, at("old.dls/model.dls"), &e), DLS_E_IO); /* a file as folder */
    CHECK_TEXT(text_of(&e), "cannot create");
    CHECK_INT(fault.files, 0);
    dls_net_destroy(net);
}
static void test_fault_read_only_directory(void) {
    const bool root = geteuid() == 0;
    dls_net *net = small_net();
    dls_error e;
    (void)mkdir(at("locked"), 0755);
    (void)chmod(at("locked"), 0555);
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    if (root) CHECK_INT(seteuid(65534), 0); /* root may write anywhere */
    CHECK_STATUS(dls_net_save(net, at("locked/model.dls"), &e), DLS_E_IO);
    if (root) CHECK_INT(seteuid(0), 0);
    CHECK_TEXT(text_of(&e), "locked/model.dls");
    CHECK_TEXT(text_of(&e), "cannot create");
    (void)chmod(at("locked"), 0755);
    dls_net_destroy(net);
}
/* The file system takes only the first bytes: a real short write. */
static void test_fault_file_size_limit(void) {
    static unsigned char before[20000], after[20000];
    const size_t size = get(at("old.dls"), before, sizeof before);
    struct rlimit limit, old;
    dls_net *net = small_net();
    dls_error e;
    CHECK_STATUS(dls_net_init_params(net), DLS_OK);
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 300;
    (void)signal(SIGXFSZ, SIG_IGN);
    fflush(stdout);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    {
        const dls_status st = dls_net_save(net, at("old.dls"), &e);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &old), 0); /* before anything is printed */
        CHECK_STATUS(st, DLS_E_IO);
    }
    CHECK_TEXT(text_of(&e), "old.dls");
    CHECK_INT(get(at("old.dls"), after, sizeof after), size);
    CHECK(size > 300 && memcmp(before, after, size) == 0);
    CHECK_INT(get(at("old.dls.new"), after, sizeof after), 0);
    dls_net_destroy(net);
}
/* ---- Sizes ---- */

/* An init call: size(), and init in memory of that many bytes. */
typedef struct sized {
    const char *name;
    size_t bytes;
    dls_status (*init)(void *mem, size_t bytes);
} sized;
static dls_net *sized_net;
static dls_peer *sized_peer;
static dls_train_desc sized_train_desc(void) {
    dls_train_desc d;
    memset(&d, 0, sizeof d);
    d.batch = 4;
    d.shards = 2;
    d.optim.kind = DLS_OPTIM_ADAM;
    return d;
}
static dls_exec_desc sized_exec_desc(void) {
    dls_exec_desc d;
    memset(&d, 0, sizeof d);
    d.batch = 3;
    d.train = true;
    return d;
}
static dls_peer_desc sized_peer_desc(void) {
    dls_peer_desc d;
    memset(&d, 0, sizeof d);
    d.size = 3;
    return d;
}
static char sized_peers[40];
static dls_tcp_desc sized_tcp_desc(void) {
    dls_tcp_desc d;
    memset(&d, 0, sizeof d);
    d.peer = sized_peer;
    d.size = 1;
    d.peers = sized_peers;
    return d;
}
static dls_status init_net(void *mem, size_t bytes) {
    dls_net *net;
    const dls_status st = dls_net_init(&net, NULL, mem, bytes);
    if (st == DLS_OK) build_net(net);
    return st;
}
static dls_status init_exec(void *mem, size_t bytes) {
    const dls_exec_desc d = sized_exec_desc();
    dls_exec *exec;
    dls_status st = dls_exec_init(&exec, sized_net, &d, mem, bytes);
    if (st == DLS_OK) { /* use all of it */
        st = dls_exec_forward_train(exec, 3, 1, 0, 3);
        if (st == DLS_OK) st = dls_exec_backward(exec, false);
    }
    return st;
}
static dls_status init_train(void *mem, size_t bytes) {
    const dls_train_desc d = sized_train_desc();
    const dls_data data = small_data();
    const int32_t index[4] = {3, 1, 4, 2};
    dls_train *train;
    const dls_status st = dls_train_init(&train, sized_net, &d, mem, bytes);
    return st == DLS_OK ? dls_train_step_data(train, &data, NULL, index, 4, NULL) : st;
}
static void count_task(void *arg, int32_t task, int32_t thread) { ((int *)arg)[task] = thread + 1; }
static dls_status init_pool(void *mem, size_t bytes) {
    dls_pool_desc d = {3, 0};
    dls_pool *pool;
    int seen[20] = {0}, i;
    const dls_status st = dls_pool_init(&pool, &d, mem, bytes);
    if (st != DLS_OK) return st;
    dls_parallel_for(pool, 20, count_task, seen);
    for (i = 0; i < 20; i++) CHECK(seen[i] > 0);
    dls_pool_close(pool);
    return DLS_OK;
}
static dls_status init_peer(void *mem, size_t bytes) {
    const dls_peer_desc d = sized_peer_desc();
    dls_peer *peer;
    const dls_status st = dls_peer_init(&peer, &d, mem, bytes);
    dls_port_desc port;
    memset(&port, 0, sizeof port);
    port.kind = DLS_PORT_PACKET;
    port.mtu = 1200;
    if (st == DLS_OK)
        while (dls_peer_port_open(peer, &port, 0) >= 0) {}
    return st;
}
static dls_status init_tcp(void *mem, size_t bytes) {
    const dls_tcp_desc d = sized_tcp_desc();
    dls_tcp *tcp;
    const dls_status st = dls_tcp_init(&tcp, &d, mem, bytes, NULL);
    if (st == DLS_OK) dls_tcp_poll(tcp, 0, NULL, NULL, NULL);
    if (st == DLS_OK) dls_tcp_close(tcp);
    return st;
}
static dls_status init_coll(void *mem, size_t bytes) { /* staging for 100 integers of 3 peers */
    dls_coll coll;
    int32_t data[100] = {0};
    dls_status st = dls_coll_init(&coll, sized_peer, 0, 3, mem, bytes);
    if (st == DLS_OK) st = dls_coll_allreduce(&coll, data, 100, DLS_REDUCE_SUM_I32);
    return st == DLS_E_PEER ? DLS_OK : st; /* it had the memory; nobody is there */
}
/* Exactly the bytes asked for, at any alignment, and not one beyond; fewer are refused. */
static void test_fault_exact_sizes(void) {
    const dls_exec_desc exec = sized_exec_desc();
    const dls_train_desc train = sized_train_desc();
    const dls_peer_desc peer = sized_peer_desc();
    const dls_pool_desc pool = {3, 0};
    dls_tcp_desc tcp = sized_tcp_desc();
    sized all[7];
    void *engine = malloc(dls_peer_size(&peer));
    size_t i, k, bad;
    long takes;
    CHECK_STATUS(dls_peer_init(&sized_peer, &peer, engine, dls_peer_size(&peer)), DLS_OK);
    snprintf(sized_peers, sizeof sized_peers, "127.0.0.1:%d", (int)dls_tcp_free_port());
    tcp.peers = sized_peers;
    sized_net = small_net();
    CHECK_STATUS(dls_net_init_params(sized_net), DLS_OK);
    all[0] = (sized){"net", dls_net_size(NULL), init_net};
    all[1] = (sized){"exec", dls_exec_size(sized_net, &exec), init_exec};
    all[2] = (sized){"train", dls_train_size(sized_net, &train), init_train};
    all[3] = (sized){"pool", dls_pool_size(&pool), init_pool};
    all[4] = (sized){"peer", dls_peer_size(&peer), init_peer};
    all[5] = (sized){"tcp", dls_tcp_size(&tcp), init_tcp};
    all[6] = (sized){"coll", dls_coll_size(3, 400), init_coll};
    fault_arm(0, 0, 0, 0, false);
    takes = fault.memory;
    for (i = 0; i < 7; i++) {
        const size_t bytes = all[i].bytes;
        unsigned char *mem = (unsigned char *)malloc(bytes + 256);
        if (bytes == 0 || mem == NULL) {
            test_report(__FILE__, __LINE__, "%s: no size", all[i].name);
            free(mem);
            continue;
        }
        for (k = 0; k < 65; k += i == 3 ? 16 : 1) {
            dls_status st;
            memset(mem, 0x5C, bytes + 256);
            st = all[i].init(mem + k, bytes);
            if (st != DLS_OK)
                test_report(__FILE__, __LINE__, "%s at %zu: %s", all[i].name, k,
                            dls_status_text(st));
            for (bad = 0; bad < 256; bad++)
                if (mem[bad < k ? bad : bytes + bad] != 0x5C) break;
            CHECK_INT(bad, 256);
        }
        for (k = 1; k <= bytes && i < 6; k += k < 200 ? 1 : bytes / 50 + 1)
            if (all[i].init(mem, bytes - k) != DLS_E_MEMORY)
                test_report(__FILE__, __LINE__, "%s takes %zu bytes less", all[i].name, k);
        CHECK_STATUS(all[i].init(mem, 0), DLS_E_MEMORY);
        CHECK_STATUS(all[i].init(NULL, bytes), DLS_E_MEMORY);
        free(mem);
    }
    CHECK_INT(fault.memory - takes, 0); /* init and use allocate nothing */
    dls_net_destroy(sized_net);
    free(engine);
}
/* On the heap too: after create, steps and runs allocate nothing. */
static void test_fault_no_allocation_after_init(void) {
    const dls_data data = small_data();
    const dls_train_desc d = sized_train_desc();
    const int32_t index[4] = {3, 1, 4, 2};
    dls_net *net = small_net();
    dls_train *train = dls_train_create(net, &d);
    dls_exec *exec = dls_exec_create(net, NULL);
    long points;
    int i;
    fault_arm(0, 0, 0, 0, false);
    points = fault.memory;
    for (i = 0; i < 5; i++) {
        CHECK_STATUS(dls_train_step_data(train, &data, NULL, index, 4, NULL), DLS_OK);
        CHECK_STATUS(dls_exec_forward(exec, 1), DLS_OK);
    }
    CHECK_INT(fault.memory - points, 0);
    dls_exec_destroy(exec);
    dls_train_destroy(train);
    dls_net_destroy(net);
}

/* ---- Files the scenarios read ---- */

static uint32_t crc32_of(const unsigned char *p, size_t n) {
    uint32_t crc = ~0u;
    size_t i;
    int k;
    for (i = 0; i < n; i++)
        for (crc ^= p[i], k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    return ~crc;
}
/* A gzip file of one stored block. */
static void put_gz(const char *path, const unsigned char *p, size_t n) {
    unsigned char gz[400] = {31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 1};
    const uint32_t crc = crc32_of(p, n);
    int i;
    gz[11] = (unsigned char)n;
    gz[13] = (unsigned char)~n;
    gz[14] = 255;
    memcpy(gz + 15, p, n);
    for (i = 0; i < 4; i++) gz[15 + n + (size_t)i] = (unsigned char)(crc >> 8 * i);
    gz[19 + n] = (unsigned char)n;
    put(path, gz, n + 23);
}
static void put_npy(const char *path, const char *head, const void *data, size_t bytes) {
    unsigned char file[300] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0};
    memset(file + 10, ' ', 118);
    memcpy(file + 10, head, strlen(head));
    file[127] = '\n';
    memcpy(file + 128, data, bytes);
    put(path, file, 128 + bytes);
}
static void test_fault_files_are_made(void) {
    static const unsigned char images[16 + 8] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2,
                                                 0, 0, 0, 2, 9, 8, 7, 6, 5, 4, 3, 2};
    static const unsigned char labels[8 + 2] = {0, 0, 8, 1, 0, 0, 0, 2, 1, 2};
    static const char csv[] = "label,a,b\n1,0.5,2\n2,1,-3\n";
    static const unsigned char pixels[8] = {1, 2, 3, 4, 5, 6, 7, 8}, label[2] = {1, 2};
    (void)remove(at("small-images-idx3-ubyte"));
    put_gz(at("small-images-idx3-ubyte.gz"), images, sizeof images);
    put(at("small-labels-idx1-ubyte"), labels, sizeof labels);
    put(at("small.csv"), csv, sizeof csv - 1);
    put_npy(at("small.npy"), "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2), }",
            pixels, sizeof pixels);
    put_npy(at("small-labels.npy"), "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }",
            label, sizeof label);
    (void)small_data();
    CHECK_STATUS(do_save(), DLS_OK);
    {
        static unsigned char model[20000];
        put(at("old.dls"), model, get(at("model.dls"), model, sizeof model));
    }
    CHECK_STATUS(do_open_idx(), DLS_OK);
    CHECK_STATUS(do_open_csv(), DLS_OK);
    CHECK_STATUS(do_open_npy(), DLS_OK);
    CHECK_STATUS(do_load(), DLS_OK);
}

int main(int argc, char **argv) {
    test_start("fault", argc, argv);
    alarm(280); /* a hang is a crash that says so */
    RUN(fault_files_are_made);
    RUN(fault_memory_exec);
    RUN(fault_memory_train);
    RUN(fault_memory_fit);
    RUN(fault_memory_save);
    RUN(fault_memory_load);
    RUN(fault_memory_read);
    RUN(fault_memory_data_idx);
    RUN(fault_memory_data_csv);
    RUN(fault_memory_data_npy);
    RUN(fault_memory_file_read);
    RUN(fault_memory_eval);
    RUN(fault_memory_pool);
    RUN(fault_memory_grad_check);
    RUN(fault_memory_node_alone);
    RUN(fault_memory_node_with_address);
    RUN(fault_memory_for_good);
    RUN(fault_memory_host);
    RUN(fault_files_host);
    RUN(fault_files_save);
    RUN(fault_files_train);
    RUN(fault_files_fit);
    RUN(fault_files_load);
    RUN(fault_files_data);
    RUN(fault_missing_files);
    RUN(fault_directories_as_files);
    RUN(fault_read_only_directory);
    RUN(fault_file_size_limit);
    RUN(fault_exact_sizes);
    RUN(fault_no_allocation_after_init);
    return test_end();
}
