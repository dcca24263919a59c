/* A disk that fails: put under a program with LD_PRELOAD, it lets chosen calls on chosen files fail.
 *
 *   FAULTY_CALL    the name of one of the functions below; "create" for an open that may make the file
 *   FAULTY_PATH    what the file's path contains
 *   FAULTY_AFTER   how many such calls work first
 *   FAULTY_TIMES   how many fail then; 0: all
 *   FAULTY_ERRNO   the error; 0: a read or write moves half of what was asked for, but something
 *   FAULTY_WHILE   only while this file exists; without it, always
 *   FAULTY_NOTE    a file that gets a line with the path for each failure, before the program learns of it
 *
 * A sync that fails does to a file what Linux may do: what was written since the last good sync is gone, and later
 * syncs succeed. Only files written with pwrite can be taken back so; the others keep what they got.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    const char *call, *path, *whilst, *note;
    long after, times;
    int error;
} fault;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long seen, failed;

__attribute__((constructor)) static void begin(void)
{
    const char *number;
    fault.call = getenv("FAULTY_CALL");
    fault.path = getenv("FAULTY_PATH");
    fault.whilst = getenv("FAULTY_WHILE");
    fault.note = getenv("FAULTY_NOTE");
    fault.after = (number = getenv("FAULTY_AFTER")) ? atol(number) : 0;
    fault.times = (number = getenv("FAULTY_TIMES")) ? atol(number) : 1;
    fault.error = (number = getenv("FAULTY_ERRNO")) ? atoi(number) : EIO;
}

/* Raw: a note must not go through the functions below. */
static void note(const char *path)
{
    char line[4200];
    int length = snprintf(line, sizeof line, "%s %s\n", fault.call, path);
    int file = syscall(SYS_openat, AT_FDCWD, fault.note, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
        (void)!syscall(SYS_write, file, line, (size_t)length);
        syscall(SYS_close, file);
    }
}

/* Whether this call has to fail. */
static int strikes(const char *call, const char *path)
{
    int strike;
    if (!fault.call || strcmp(call, fault.call) || !fault.path || !strstr(path, fault.path))
        return 0;
    if (fault.whilst && syscall(SYS_faccessat, AT_FDCWD, fault.whilst, F_OK) != 0)
        return 0;
    pthread_mutex_lock(&lock);
    strike = seen++ >= fault.after && (!fault.times || failed < fault.times);
    if (strike) {
        failed++;
        note(path);
    }
    pthread_mutex_unlock(&lock);
    return strike;
}

static const char *path_of(int file, char *path, size_t size)
{
    char link[64];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = syscall(SYS_readlinkat, AT_FDCWD, link, path, size - 1);
    path[length > 0 ? length : 0] = 0;
    return path;
}

static int strikes_file(const char *call, int file)
{
    char path[4096];
    if (!fault.call || strcmp(call, fault.call))
        return 0;
    return strikes(call, path_of(file, path, sizeof path));
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define FAIL return errno = fault.error ? fault.error : EIO, -1

/* --- what was written and not synced --- */

struct written {
    struct written *before;
    dev_t device;
    ino_t inode;
    off_t at;
    size_t bytes;
    char old[];
};
static struct written *unsynced;

static int takes_back(void)
{
    return fault.call && (!strcmp(fault.call, "fdatasync") || !strcmp(fault.call, "fsync"));
}

static void remember(int file, off_t at, size_t bytes)
{
    struct stat about;
    struct written *new;
    char path[4096];
    int reader;
    if (!takes_back() || !fault.path || !strstr(path_of(file, path, sizeof path), fault.path))
        return;
    if (fstat(file, &about) || !(new = calloc(1, sizeof *new + bytes)))
        return;
    new->device = about.st_dev, new->inode = about.st_ino;
    new->at = at, new->bytes = bytes;
    /* Through another descriptor: this one may be for writing only, or for whole pages. */
    if ((reader = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC)) >= 0) {
        (void)!syscall(SYS_pread64, reader, new->old, bytes, at);
        syscall(SYS_close, reader);
    }
    pthread_mutex_lock(&lock);
    new->before = unsynced, unsynced = new;
    pthread_mutex_unlock(&lock);
}

/* After a sync: the newest first, as the list is. */
static void settle(int file, int lost)
{
    struct stat about;
    struct written **at = &unsynced, *one;
    if (!takes_back() || fstat(file, &about))
        return;
    pthread_mutex_lock(&lock);
    while ((one = *at)) {
        if (one->device != about.st_dev || one->inode != about.st_ino) {
            at = &one->before;
            continue;
        }
        if (lost)
            (void)!syscall(SYS_pwrite64, file, one->old, one->bytes, one->at);
        *at = one->before;
        free(one);
    }
    pthread_mutex_unlock(&lock);
}

#define SYNC(name)                                                                                                     \
    int name(int file)                                                                                                 \
    {                                                                                                                  \
        int result;                                                                                                    \
        if (strikes_file(#name, file)) {                                                                               \
            settle(file, 1);                                                                                           \
            FAIL;                                                                                                      \
        }                                                                                                              \
        result = REAL(name)(file);                                                                                     \
        if (!result)                                                                                                   \
            settle(file, 0);                                                                                           \
        return result;                                                                                                 \
    }
SYNC(fsync)
SYNC(fdatasync)

int sync_file_range(int file, off64_t at, off64_t bytes, unsigned flags)
{
    if (strikes_file("sync_file_range", file))
        FAIL;
    return REAL(sync_file_range)(file, at, bytes, flags);
}

/* --- reading and writing --- */

#define SHORTEN(count)                                                                                                 \
    do {                                                                                                               \
        if (fault.error)                                                                                               \
            FAIL;                                                                                                      \
        count -= count / 2;                                                                                                 \
    } while (0)

ssize_t write(int file, const void *bytes, size_t count)
{
    if (strikes_file("write", file))
        SHORTEN(count);
    return REAL(write)(file, bytes, count);
}

ssize_t read(int file, void *bytes, size_t count)
{
    if (strikes_file("read", file))
        SHORTEN(count);
    return REAL(read)(file, bytes, count);
}

#define PLACED(suffix, offset)                                                                                         \
    ssize_t pwrite##suffix(int file, const void *bytes, size_t count, offset at)                                       \
    {                                                                                                                  \
        if (strikes_file("pwrite", file))                                                                              \
            SHORTEN(count);                                                                                            \
        remember(file, at, count);                                                                                     \
        return REAL(pwrite##suffix)(file, bytes, count, at);                                                           \
    }                                                                                                                  \
    ssize_t pread##suffix(int file, void *bytes, size_t count, offset at)                                              \
    {                                                                                                                  \
        if (strikes_file("pread", file))                                                                               \
            SHORTEN(count);                                                                                            \
        return REAL(pread##suffix)(file, bytes, count, at);                                                            \
    }
PLACED(, off_t)
PLACED(64, off64_t)

#define SIZED(suffix, offset)                                                                                          \
    int ftruncate##suffix(int file, offset bytes)                                                                      \
    {                                                                                                                  \
        if (strikes_file("ftruncate", file))                                                                           \
            FAIL;                                                                                                      \
        return REAL(ftruncate##suffix)(file, bytes);                                                                   \
    }                                                                                                                  \
    int fallocate##suffix(int file, int mode, offset at, offset bytes)                                                 \
    {                                                                                                                  \
        if (strikes_file("fallocate", file))                                                                           \
            FAIL;                                                                                                      \
        return REAL(fallocate##suffix)(file, mode, at, bytes);                                                         \
    }
SIZED(, off_t)
SIZED(64, off64_t)

/* --- names --- */

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

/* "open" is any opening, "create" one that may make the file. */
#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        mode_t mode;                                                                                                   \
        va_start(rest, flags);                                                                                         \
        mode = mode_of(flags, rest);                                                                                   \
        va_end(rest);                                                                                                  \
        if (strikes("open", path) || (flags & O_CREAT && strikes("create", path)))                                     \
            FAIL;                                                                                                      \
        return REAL(name)(path, flags, mode);                                                                          \
    }
OPEN(open)
OPEN(open64)

FILE *fopen(const char *path, const char *mode)
{
    if (strikes("open", path) || (strpbrk(mode, "wa") && strikes("create", path)))
        return errno = fault.error ? fault.error : EIO, NULL;
    return REAL(fopen)(path, mode);
}

int rename(const char *from, const char *to)
{
    if (strikes("rename", from))
        FAIL;
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    if (strikes("unlink", path))
        FAIL;
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    if (strikes("mkdir", path))
        FAIL;
    return REAL(mkdir)(path, mode);
}
