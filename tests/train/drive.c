/* Kills, stops and restarts the members of a run of 8 processes at random, and looks that nothing
   is lost: every commit after an event is at most one step behind the most anybody had done, in the
   end all have the hash of the one-device run, and the run goes on in time.
     drive WORKER DIR tcp|udp EVENTS [SEED]    DIR: w1.key .. w8.key, lab.roster; 1 to 3 coordinate
   Prints lines of test results. Environment: VERBOSE=1. */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N 8
typedef struct worker {
    pid_t pid; /* 0: down */
    bool stopped, ended;
    long long step; /* its last */
    unsigned view;
    int members;
    uint64_t at; /* of its last commit among fewer than all */
    long status, redone, lost, views;
    char hash[20];
} worker;
static worker w[N];
static int pipe_fd[2], port[N];
static const char *program, *dir, *transport;
static bool tcp, verbose;
static long long most; /* steps that anybody committed */
static unsigned newest;
static uint64_t random_state;
static int failures;
static long troubles, early; /* early: a commit more than one step behind */

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}
static uint32_t below(uint32_t n) { /* splitmix */
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) >> 32) % n;
}
static void result(bool good, const char *text) {
    printf("%s train: %s: %s\n", good ? "ok" : "FAIL", transport, text);
    fflush(stdout);
    failures += !good;
}
static void start(int i) {
    char list[300] = "", listen_at[20], key[300], roster[300];
    int k;
    for (k = 0; k < (tcp ? i : N); k++)
        if (k != i)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%d@127.0.0.1:%d",
                     list[0] ? "," : "", k + 1, port[k]);
    snprintf(listen_at, sizeof listen_at, "%d", port[i]);
    snprintf(key, sizeof key, "%s/w%d.key", dir, i + 1);
    snprintf(roster, sizeof roster, "%s/lab.roster", dir);
    memset(&w[i], 0, sizeof w[i]);
    w[i].pid = fork();
    if (w[i].pid != 0) return;
    dup2(pipe_fd[1], 1);
    close(pipe_fd[0]);
    execl(program, program, "--key", key, "--roster", roster, "--listen", listen_at,
          tcp ? "--tcp" : "--connect", list, "--steps", "1000000", "--least", "2", (char *)NULL);
    _exit(127);
}
static void line(char *text) {
    unsigned who, view;
    int members;
    long long step;
    unsigned long long at;
    char kind[20];
    worker *v;
    if (verbose) fprintf(stderr, "  %s\n", text);
    if (sscanf(text, "%u %19s %lld %u %d %llu", &who, kind, &step, &view, &members, &at) != 6 ||
        who < 1 || who > N) {
        printf("  odd line: %s\n", text);
        return;
    }
    v = &w[who - 1];
    if (!strcmp(kind, "trouble")) {
        troubles++;
        printf("  %s\n", text);
    }
    if (!strcmp(kind, "end")) {
        char *h = text;
        int k;
        for (k = 0; k < 6; k++) h = strchr(h, ' ') + 1;
        v->ended = true;
        v->step = -1;
        sscanf(h, "%ld %19s redone %ld lost %ld views %ld", &v->status, v->hash, &v->redone,
               &v->lost, &v->views);
        return;
    }
    if (!strcmp(kind, "step")) {
        if (v->step != 0 && step != v->step + 1 && view == v->view) early++;
        if (view > newest && step < most) early++; /* the first of a view: nothing is lost */
        if (step > most) most = step;
        if (members < N) v->at = at;
    }
    if (!strcmp(kind, "step") || !strcmp(kind, "state")) v->step = step;
    if (view > newest && !strcmp(kind, "step")) newest = view;
    v->view = view;
    v->members = members;
}
/* Lines that come until `until`. */
static void hear(uint64_t until) {
    static char buf[65536];
    static size_t used;
    for (;;) {
        struct pollfd p = {pipe_fd[0], POLLIN, 0};
        const uint64_t now = now_us();
        char *end;
        ssize_t n;
        if (poll(&p, 1, now < until ? (int)((until - now + 999) / 1000) : 0) <= 0) {
            if (now_us() >= until) return;
            continue;
        }
        n = read(pipe_fd[0], buf + used, sizeof buf - 1 - used);
        if (n <= 0) return;
        used += (size_t)n;
        buf[used] = '\0';
        while ((end = strchr(buf, '\n')) != NULL) {
            *end = '\0';
            line(buf);
            used -= (size_t)(end + 1 - buf);
            memmove(buf, end + 1, used + 1);
        }
        if (now_us() >= until) return;
    }
}
/* All 8 at work in one view. */
static bool whole(void) {
    int i;
    for (i = 0; i < N; i++)
        if (w[i].pid == 0 || w[i].stopped || w[i].members != N || w[i].view != newest) return false;
    return true;
}
static bool until_whole(int seconds) {
    const uint64_t end = now_us() + (uint64_t)seconds * 1000000u;
    while (!whole() && now_us() < end) hear(now_us() + 2000);
    return whole();
}
/* The first commit of those who are left, us after `since`; 0: none in 10 s. */
static uint64_t next_commit(uint64_t since) {
    while (now_us() < since + 10000000u) {
        uint64_t best = 0;
        int i;
        hear(now_us() + 2000);
        for (i = 0; i < N; i++)
            if (w[i].at > since && (best == 0 || w[i].at < best)) best = w[i].at;
        if (best != 0) return best - since;
    }
    return 0;
}

static int by_size(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}
static void times(uint64_t *t, int n, const char *what, uint64_t bound) {
    char text[300];
    int i, over = 0;
    if (n == 0) return;
    qsort(t, (size_t)n, sizeof *t, by_size);
    for (i = 0; i < n; i++) over += t[i] > bound;
    snprintf(text, sizeof text,
             "next commit after %s: p50 %.0f, p99 %.0f, worst %.0f ms of %d (bound %.0f, %d over)",
             what, (double)t[n / 2] * 1e-3, (double)t[(n - 1) * 99 / 100] * 1e-3,
             (double)t[n - 1] * 1e-3, n, (double)bound * 1e-3, over);
    result(t[n / 2] <= bound && over * 10 <= n, text); /* one in ten may meet a busy machine */
}

int main(int argc, char **argv) {
    static uint64_t reset[2000], silent[2000];
    int resets = 0, silents = 0, i, k, events, victim, other;
    char text[400], command[700], alone[40] = "";
    long long steps = 0;
    bool good = true;
    FILE *f;
    if (argc < 5) return 2;
    program = argv[1];
    dir = argv[2];
    transport = argv[3];
    tcp = !strcmp(argv[3], "tcp");
    events = atoi(argv[4]);
    random_state = argc > 5 ? strtoull(argv[5], NULL, 10) : 1;
    verbose = getenv("VERBOSE") != NULL;
    if (events > 2000 || pipe(pipe_fd) != 0) return 2;
    fcntl(pipe_fd[0], F_SETFD, FD_CLOEXEC);
    for (i = 0; i < N; i++) {
        struct sockaddr_in a;
        socklen_t size = sizeof a;
        const int s = socket(AF_INET, SOCK_STREAM, 0);
        memset(&a, 0, sizeof a);
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(s, (struct sockaddr *)&a, sizeof a) != 0 ||
            getsockname(s, (struct sockaddr *)&a, &size) != 0)
            return 2;
        port[i] = ntohs(a.sin_port);
        w[i].status = s;
    }
    for (i = 0; i < N; i++) close((int)w[i].status);
    for (i = 0; i < N; i++) start(i);
    if (!until_whole(20)) result(false, "8 processes did not come together");
    for (k = 0; k < events && failures == 0; k++) {
        const uint32_t kind = below(10);
        uint64_t since, took;
        hear(now_us() + below(150000)); /* at any time */
        victim = (int)below(N);
        since = now_us();
        if (kind < 7) { /* kill -9, sometimes two at once, not two coordinators */
            other = below(5) == 0 ? 3 + (int)below(5) : victim;
            kill(w[victim].pid, SIGKILL);
            if (other != victim) kill(w[other].pid, SIGKILL);
            took = next_commit(since);
            if (tcp)
                reset[resets++] = took;
            else
                silent[silents++] = took;
            waitpid(w[victim].pid, NULL, 0);
            if (other != victim) waitpid(w[other].pid, NULL, 0);
            w[victim].pid = w[other].pid = 0;
            if (took == 0) result(false, "no commit in 10 s after a kill");
            start(victim);
            if (other != victim) start(other);
            if (below(3) == 0) { /* and again while it joins */
                hear(now_us() + below(400000));
                kill(w[victim].pid, SIGKILL);
                waitpid(w[victim].pid, NULL, 0);
                start(victim);
                k++;
            }
        } else if (kind < 9) { /* silent for so long that it is given up */
            kill(w[victim].pid, SIGSTOP);
            took = next_commit(since);
            silent[silents++] = took;
            if (took == 0) result(false, "no commit in 10 s after a stop");
            hear(now_us() + below(500000));
            kill(w[victim].pid, SIGCONT);
        } else { /* a short silence changes nothing */
            kill(w[victim].pid, SIGSTOP);
            hear(now_us() + 100000 + below(300000));
            kill(w[victim].pid, SIGCONT);
        }
        if (!until_whole(15)) {
            snprintf(text, sizeof text, "not whole again after event %d, on device %d", k,
                     victim + 1);
            result(false, text);
            for (i = 0; i < N; i++)
                printf("  device %d: pid %d step %lld view %u members %d\n", i + 1, (int)w[i].pid,
                       w[i].step, w[i].view, w[i].members);
        }
    }
    hear(now_us() + 50000);
    kill(w[below(N)].pid, SIGINT); /* one is asked to stop: all do */
    for (i = 0; i < 200; i++) {
        bool over = true;
        hear(now_us() + 50000);
        for (k = 0; k < N; k++) over = over && w[k].ended;
        if (over) break;
    }
    for (k = 0; k < N; k++) {
        if (!w[k].ended || w[k].status != w[0].status || strcmp(w[k].hash, w[0].hash) != 0 ||
            w[k].lost != 0 || w[k].redone > w[k].views)
            good = false;
        if (w[k].pid != 0 && !w[k].ended) kill(w[k].pid, SIGKILL);
        waitpid(w[k].pid, NULL, 0);
        if (!good)
            printf("  device %d: ended %d status %ld hash %s redone %ld lost %ld views %ld\n",
                   k + 1, w[k].ended, w[k].status, w[k].hash, w[k].redone, w[k].lost, w[k].views);
    }
    steps = most;
    snprintf(command, sizeof command, "%s --steps %lld --quiet 1", program, steps);
    f = popen(command, "r");
    if (f != NULL && fscanf(f, "%*u end %*d %*u %*d %*u %*d %39s", alone) != 1) alone[0] = '\0';
    if (f != NULL) pclose(f);
    snprintf(text, sizeof text, "%d events, %lld steps, hash %s, alone %s", events, steps,
             w[0].hash, alone);
    result(good && alone[0] != '\0' && strcmp(alone, w[0].hash) == 0, text);
    snprintf(text, sizeof text, "no step lost, at most one redone per view");
    result(early == 0 && troubles == 0, text);
    times(reset, resets, "SIGKILL", 250000);
    times(silent, silents, "silence", 2000000);
    return failures != 0;
}
