/* Every system call that >>link makes, counted; the one of a number, or all from it on, fail.
   Include before the implementation. Also: how many descriptors are open. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static struct {
    int calls, fail; /* fail: number of the call that fails, 0: none */
    bool on, always; /* always: all after it, too */
    int code, failed;
    const char *last;
} sys;

static bool sys_hit(const char *name) {
    if (!sys.on) return false;
    sys.calls++;
    if (sys.fail == 0 || (sys.always ? sys.calls < sys.fail : sys.calls != sys.fail)) return false;
    sys.failed++;
    sys.last = name;
    errno = sys.code;
    return true;
}
#define SYS(name, type, params, args)                                                              \
    static type sys_##name params { return sys_hit(#name) ? (type)-1 : (name)args; }
SYS(socket, int, (int a, int b, int c), (a, b, c))
SYS(bind, int, (int a, const struct sockaddr *b, socklen_t c), (a, b, c))
SYS(listen, int, (int a, int b), (a, b))
SYS(accept, int, (int a, struct sockaddr *b, socklen_t *c), (a, b, c))
SYS(connect, int, (int a, const struct sockaddr *b, socklen_t c), (a, b, c))
SYS(setsockopt, int, (int a, int b, int c, const void *d, socklen_t e), (a, b, c, d, e))
SYS(getsockopt, int, (int a, int b, int c, void *d, socklen_t *e), (a, b, c, d, e))
SYS(getsockname, int, (int a, struct sockaddr *b, socklen_t *c), (a, b, c))
SYS(pipe, int, (int *a), (a))
SYS(poll, int, (struct pollfd * a, nfds_t b, int c), (a, b, c))
SYS(recv, ssize_t, (int a, void *b, size_t c, int d), (a, b, c, d))
SYS(send, ssize_t, (int a, const void *b, size_t c, int d), (a, b, c, d))
SYS(recvfrom, ssize_t, (int a, void *b, size_t c, int d, struct sockaddr *e, socklen_t *f),
    (a, b, c, d, e, f))
SYS(sendto, ssize_t, (int a, const void *b, size_t c, int d, const struct sockaddr *e, socklen_t f),
    (a, b, c, d, e, f))
SYS(getifaddrs, int, (struct ifaddrs * *a), (a))
SYS(tcgetattr, int, (int a, struct termios *b), (a, b))
SYS(tcsetattr, int, (int a, int b, const struct termios *c), (a, b, c))
#define socket(a, b, c) sys_socket(a, b, c)
#define bind(a, b, c) sys_bind(a, b, c)
#define listen(a, b) sys_listen(a, b)
#define accept(a, b, c) sys_accept(a, b, c)
#define connect(a, b, c) sys_connect(a, b, c)
#define setsockopt(a, b, c, d, e) sys_setsockopt(a, b, c, d, e)
#define getsockopt(a, b, c, d, e) sys_getsockopt(a, b, c, d, e)
#define getsockname(a, b, c) sys_getsockname(a, b, c)
#define pipe(a) sys_pipe(a)
#define poll(a, b, c) sys_poll(a, b, c)
#define recv(a, b, c, d) sys_recv(a, b, c, d)
#define send(a, b, c, d) sys_send(a, b, c, d)
#define recvfrom(a, b, c, d, e, f) sys_recvfrom(a, b, c, d, e, f)
#define sendto(a, b, c, d, e, f) sys_sendto(a, b, c, d, e, f)
#define getifaddrs(a) sys_getifaddrs(a)
#define tcgetattr(a, b) sys_tcgetattr(a, b)
#define tcsetattr(a, b, c) sys_tcsetattr(a, b, c)

static int open_fds(void) {
    int fd, n = 0;
    for (fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) != -1;
    return n;
}
