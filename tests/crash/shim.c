/* Disk faults (and a wrong clock) for one engine, by LD_PRELOAD: said in a page that is shared with the tests.
 *
 * Only files below `prefix` are touched, so that pipes, sockets and logs elsewhere stay as they are. Kinds: 0 the
 * write-ahead log, 1 the database, 2 anything else. Operations: 0 write, 1 fsync. Moments: 0 before, 1 after, 2 halfway
 * (half of the bytes are written). The process that writes for an engine is known by the crash harness's order in its
 * environment; where `kill_apart` says so, it dies, else the engine. The layout of `struct control` is that of shim.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct control {
    char prefix[256];        /* empty: nothing is touched */
    int64_t space;           /* bytes by which files may still grow; negative: no limit */
    int64_t clock_seconds;   /* by which the wall clock is wrong; clocks that only run forward are not touched */
    int32_t write_errno;     /* every write fails with it; 0: none does */
    int32_t fsync_errno;
    int32_t fsync_milliseconds;
    int32_t kill_kind, kill_operation, kill_moment;
    int32_t kill_countdown;  /* the process dies when this falls to 0; 0: never */
    int32_t kill_apart;
    int32_t failed;          /* operations that were answered with a fault */
    uint32_t passed[2][3][2][3];
};

static volatile struct control *control;
static int is_apart;

__attribute__((constructor)) static void attach(void) {
    const char *name = getenv("LD_TEST_DISK");
    int file = name ? open(name, O_RDWR) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) control = page;
    is_apart = getenv("CRASH_WRITER") != NULL;
}

/* -1 for a file that is none of ours. */
static int kind_of(int file) {
    char link[64], path[1024];
    if (control == NULL || control->prefix[0] == 0) return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return -1;
    path[length] = 0;
    if (strncmp(path, (const char *)control->prefix, strlen((const char *)control->prefix)) != 0) return -1;
    if (length > 4 && strcmp(path + length - 4, "-wal") == 0) return 0;
    if (length > 3 && strcmp(path + length - 3, ".db") == 0) return 1;
    return 2;
}

static int is_due(int kind, int operation, int moment) {
    __sync_fetch_and_add(&control->passed[is_apart][kind][operation][moment], 1);
    if (control->kill_countdown <= 0 || control->kill_apart != is_apart || control->kill_kind != kind ||
        control->kill_operation != operation || control->kill_moment != moment)
        return 0;
    return --control->kill_countdown == 0;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int refuse(int number) {
    __sync_fetch_and_add(&control->failed, 1);
    errno = number;
    return -1;
}

/* Whether a file of this size may grow to `end`; takes the space. */
static int has_space(int file, off_t end) {
    struct stat status;
    if (control->space < 0 || fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return 1;
    if (end <= status.st_size) return 1;
    if (end - status.st_size > control->space) return 0;
    control->space -= end - status.st_size;
    return 1;
}

typedef ssize_t (*pwrite_type)(int, const void *, size_t, off_t);
typedef ssize_t (*write_type)(int, const void *, size_t);
typedef int (*fsync_type)(int);
typedef int (*resize_type)(int, off_t);
#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

static ssize_t checked_pwrite(pwrite_type next, int file, const void *data, size_t size, off_t offset) {
    int kind = kind_of(file);
    if (kind < 0) return next(file, data, size, offset);
    if (is_due(kind, 0, 0)) die();
    if (is_due(kind, 0, 2)) {
        next(file, data, size / 2, offset);
        die();
    }
    if (control->write_errno) return refuse(control->write_errno);
    if (!has_space(file, offset + (off_t)size)) return refuse(ENOSPC);
    ssize_t written = next(file, data, size, offset);
    if (is_due(kind, 0, 1)) die();
    return written;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    return checked_pwrite(NEXT(pwrite_type, "pwrite"), file, data, size, offset);
}

ssize_t pwrite64(int file, const void *data, size_t size, off_t offset) {
    return checked_pwrite(NEXT(pwrite_type, "pwrite64"), file, data, size, offset);
}

ssize_t write(int file, const void *data, size_t size) {
    write_type next = NEXT(write_type, "write");
    struct stat status;
    int kind = kind_of(file);
    if (kind < 0) return next(file, data, size);
    if (control->write_errno) return refuse(control->write_errno);
    if (fstat(file, &status) == 0 && !has_space(file, status.st_size + (off_t)size)) return refuse(ENOSPC);
    return next(file, data, size);
}

static int checked_sync(fsync_type next, int file) {
    int kind = kind_of(file);
    if (kind < 0) return next(file);
    if (is_due(kind, 1, 0)) die();
    if (control->fsync_milliseconds > 0) {
        struct timespec wait = {control->fsync_milliseconds / 1000, control->fsync_milliseconds % 1000 * 1000000L};
        nanosleep(&wait, NULL);
    }
    if (control->fsync_errno) return refuse(control->fsync_errno);
    int done = next(file);
    if (is_due(kind, 1, 1)) die();
    return done;
}

int fsync(int file) { return checked_sync(NEXT(fsync_type, "fsync"), file); }

int fdatasync(int file) { return checked_sync(NEXT(fsync_type, "fdatasync"), file); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    typedef int (*clock_type)(clockid_t, struct timespec *);
    static clock_type next;
    if (next == NULL) next = NEXT(clock_type, "clock_gettime");
    int done = next(clock, now);
    if (done == 0 && control != NULL && clock == CLOCK_REALTIME) now->tv_sec += control->clock_seconds;
    return done;
}

static int checked_resize(resize_type next, int file, off_t size) {
    if (kind_of(file) >= 0 && !has_space(file, size)) return refuse(ENOSPC);
    return next(file, size);
}

int ftruncate(int file, off_t size) { return checked_resize(NEXT(resize_type, "ftruncate"), file, size); }

int ftruncate64(int file, off_t size) { return checked_resize(NEXT(resize_type, "ftruncate64"), file, size); }
