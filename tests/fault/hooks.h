/* The hooks: each allocation and each file call is a point that can be told to fail. Point numbers
   start at 1. Files are real ones, opened through stdio; open files and live blocks are counted. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAIL_ERROR = 0, FAIL_SHORT, FAIL_KINDS }; /* nothing done; half of it done */
static struct {
    long memory, file; /* points passed since fault_arm */
    long fail_memory;  /* the point that fails, 0: none */
    long fail_file;
    int kind, code;     /* how file points fail; errno they leave */
    bool for_good;      /* all later points fail too */
    long failed;        /* points that did */
    const char *last;   /* name of the file call that failed last */
    long blocks, files; /* alive */
    size_t bytes;       /* asked for since fault_arm */
} fault;

static void fault_arm(long memory, long file, int code, int kind, bool for_good) {
    fault.memory = fault.file = fault.failed = 0;
    fault.bytes = 0;
    fault.fail_memory = memory;
    fault.fail_file = file;
    fault.code = code;
    fault.kind = kind;
    fault.for_good = for_good;
    fault.last = "";
}
static bool fault_hit(long at, long wanted) {
    if (wanted == 0 || (fault.for_good ? at < wanted : at != wanted)) return false;
    (void)__atomic_add_fetch(&fault.failed, 1, __ATOMIC_RELAXED);
    return true;
}
static void *fault_malloc(size_t bytes) { /* threads of a node and of pools come here too */
    void *p = NULL;
    if (fault_hit(__atomic_add_fetch(&fault.memory, 1, __ATOMIC_RELAXED), fault.fail_memory))
        return NULL;
    p = malloc(bytes);
    if (p == NULL) return NULL;
    memset(p, 0xA7, bytes); /* what nobody wrote is not zero */
    (void)__atomic_add_fetch(&fault.blocks, 1, __ATOMIC_RELAXED);
    (void)__atomic_add_fetch(&fault.bytes, bytes, __ATOMIC_RELAXED);
    return p;
}
static void fault_free(void *p) {
    if (p != NULL) (void)__atomic_sub_fetch(&fault.blocks, 1, __ATOMIC_RELAXED);
    free(p);
}
static bool fault_file(const char *call) {
    if (!fault_hit(++fault.file, fault.fail_file)) return false;
    fault.last = call;
    errno = fault.code;
    return true;
}
static FILE *fault_open(const char *path, const char *mode) {
    FILE *f;
    if (fault_file("open")) return NULL;
    f = fopen(path, mode);
    fault.files += f != NULL;
    return f;
}
static size_t fault_read(FILE *f, void *buf, size_t bytes) {
    if (!fault_file("read")) return fread(buf, 1, bytes, f);
    if (fault.kind == FAIL_SHORT) bytes = fread(buf, 1, bytes / 2, f);
    errno = fault.code;
    return fault.kind == FAIL_SHORT ? bytes : 0;
}
static size_t fault_write(FILE *f, const void *buf, size_t bytes) {
    if (!fault_file("write")) return fwrite(buf, 1, bytes, f);
    if (fault.kind == FAIL_SHORT) bytes = fwrite(buf, 1, bytes / 2, f);
    errno = fault.code;
    return fault.kind == FAIL_SHORT ? bytes : 0;
}
static int fault_seek(FILE *f, long at, int whence) {
    return fault_file("seek") ? -1 : fseek(f, at, whence);
}
static long fault_tell(FILE *f) { return fault_file("tell") ? -1 : ftell(f); }
static int fault_sync(FILE *f) { return fault_file("sync") ? -1 : fflush(f); }
static int fault_close(FILE *f) { /* closed also when it fails, as close(2) does */
    const bool bad = fault_file("close");
    int st = fclose(f);
    fault.files--;
    if (bad) errno = fault.code;
    return bad ? EOF : st;
}
static int fault_rename(const char *from, const char *to) {
    return fault_file("rename") ? -1 : rename(from, to);
}
static int fault_remove(const char *path) { return fault_file("remove") ? -1 : remove(path); }

#define DLS_MALLOC(bytes) fault_malloc(bytes)
#define DLS_FREE(p) fault_free(p)
#define DLS_FS_OPEN(path, mode) fault_open(path, mode)
#define DLS_FS_READ(file, buf, bytes) fault_read(file, buf, bytes)
#define DLS_FS_WRITE(file, buf, bytes) fault_write(file, buf, bytes)
#define DLS_FS_SEEK(file, offset, whence) fault_seek(file, offset, whence)
#define DLS_FS_TELL(file) fault_tell(file)
#define DLS_FS_SYNC(file) fault_sync(file)
#define DLS_FS_CLOSE(file) fault_close(file)
#define DLS_FS_RENAME(from, to) fault_rename(from, to)
#define DLS_FS_REMOVE(path) fault_remove(path)
