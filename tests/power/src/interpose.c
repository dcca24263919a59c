/*
 * The C library's file calls, with a look over their shoulder.
 *
 * A program that links this file gets these definitions instead of the C library's (a definition in the program wins over
 * one in a shared library), in all of its code: Rust's standard library, RocksDB, everything. Each of them calls the real
 * one and, when the file lies in a recorded directory, tells the recorder (recorder.rs) what happened, under one lock, so
 * that the record has one order for all files and threads.
 *
 * A recorded file is never really synced: the record says what a disk would have kept.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* recorder.rs. Files are told by numbers that the recorder gives out; 0 is a file that nobody records. */
extern int power_is_recorded(const char *path);
extern uint32_t power_opened(const char *path, int existed, int emptied);
extern void power_written(uint32_t file, uint64_t offset, const void *bytes, size_t count);
extern void power_resized(uint32_t file, uint64_t length);
extern void power_synced(uint32_t file);
extern void power_made_directory(const char *path);
extern void power_renamed(const char *from, const char *to);
extern void power_linked(const char *from, const char *to);
extern void power_removed(const char *path);

/* More descriptors than a test process ever has; one beyond is a bug of the test. */
#define DESCRIPTORS_MAX 65536
static _Atomic uint32_t files[DESCRIPTORS_MAX];
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static uint32_t file_of(int descriptor) {
    if (descriptor < 0) return 0;
    if (descriptor >= DESCRIPTORS_MAX) abort();
    return files[descriptor];
}

#define REAL(name) \
    static __typeof__(name) *real_##name; \
    if (!real_##name) real_##name = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int opened(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    /* Files that are only read tell nothing; directories are opened to be synced. */
    struct stat before;
    int is_recorded = power_is_recorded(path);
    if (!is_recorded) return real(path, flags, mode);
    pthread_mutex_lock(&order);
    int existed = stat(path, &before) == 0;
    int descriptor = real(path, flags, mode);
    int error = errno;
    if (descriptor >= 0) {
        int is_directory = existed && S_ISDIR(before.st_mode);
        int writes = (flags & O_ACCMODE) != O_RDONLY;
        if (descriptor >= DESCRIPTORS_MAX) abort();
        files[descriptor] =
            is_directory || writes ? power_opened(path, existed, existed && writes && (flags & O_TRUNC)) : 0;
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return descriptor;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return opened(real_##name, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int close(int descriptor) {
    REAL(close);
    if (descriptor >= 0 && descriptor < DESCRIPTORS_MAX) files[descriptor] = 0;
    return real_close(descriptor);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    REAL(write);
    uint32_t file = file_of(descriptor);
    if (!file) return real_write(descriptor, bytes, count);
    pthread_mutex_lock(&order);
    ssize_t written = real_write(descriptor, bytes, count);
    int error = errno;
    if (written > 0) power_written(file, lseek(descriptor, 0, SEEK_CUR) - written, bytes, written);
    pthread_mutex_unlock(&order);
    errno = error;
    return written;
}

#define PWRITE(name) \
    ssize_t name(int descriptor, const void *bytes, size_t count, off_t offset) { \
        REAL(name); \
        uint32_t file = file_of(descriptor); \
        if (!file) return real_##name(descriptor, bytes, count, offset); \
        pthread_mutex_lock(&order); \
        ssize_t written = real_##name(descriptor, bytes, count, offset); \
        int error = errno; \
        if (written > 0) power_written(file, offset, bytes, written); \
        pthread_mutex_unlock(&order); \
        errno = error; \
        return written; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define SYNC(name) \
    int name(int descriptor) { \
        REAL(name); \
        uint32_t file = file_of(descriptor); \
        if (!file) return real_##name(descriptor); \
        pthread_mutex_lock(&order); \
        power_synced(file); \
        pthread_mutex_unlock(&order); \
        return 0; \
    }
SYNC(fsync)
SYNC(fdatasync)

/* Promises nothing about a disk's cache, nor about a file's length. */
int sync_file_range(int descriptor, off64_t offset, off64_t count, unsigned flags) {
    REAL(sync_file_range);
    return file_of(descriptor) ? 0 : real_sync_file_range(descriptor, offset, count, flags);
}

static void now_as_long_as_it_is(int descriptor, uint32_t file) {
    struct stat now;
    if (fstat(descriptor, &now) == 0) power_resized(file, now.st_size);
}

#define RESIZE(name, PARAMETERS, ARGUMENTS) \
    int name PARAMETERS { \
        REAL(name); \
        uint32_t file = file_of(descriptor); \
        if (!file) return real_##name ARGUMENTS; \
        pthread_mutex_lock(&order); \
        int result = real_##name ARGUMENTS; \
        int error = errno; \
        if (result == 0) now_as_long_as_it_is(descriptor, file); \
        pthread_mutex_unlock(&order); \
        errno = error; \
        return result; \
    }
RESIZE(ftruncate, (int descriptor, off_t length), (descriptor, length))
RESIZE(ftruncate64, (int descriptor, off64_t length), (descriptor, length))
RESIZE(fallocate, (int descriptor, int mode, off_t offset, off_t count), (descriptor, mode, offset, count))
RESIZE(fallocate64, (int descriptor, int mode, off64_t offset, off64_t count), (descriptor, mode, offset, count))
RESIZE(posix_fallocate, (int descriptor, off_t offset, off_t count), (descriptor, offset, count))
RESIZE(posix_fallocate64, (int descriptor, off64_t offset, off64_t count), (descriptor, offset, count))

#define NAMES(name, PARAMETERS, ARGUMENTS, PATH, TELL) \
    int name PARAMETERS { \
        REAL(name); \
        if (!power_is_recorded(PATH)) return real_##name ARGUMENTS; \
        pthread_mutex_lock(&order); \
        int result = real_##name ARGUMENTS; \
        int error = errno; \
        if (result == 0) TELL; \
        pthread_mutex_unlock(&order); \
        errno = error; \
        return result; \
    }
NAMES(rename, (const char *from, const char *to), (from, to), to, power_renamed(from, to))
NAMES(link, (const char *from, const char *to), (from, to), to, power_linked(from, to))
NAMES(linkat, (int from_in, const char *from, int to_in, const char *to, int flags), (from_in, from, to_in, to, flags), to,
      power_linked(from, to)) /* Recorded paths are absolute: what they would be relative to does not matter. */
NAMES(unlink, (const char *path), (path), path, power_removed(path))
NAMES(rmdir, (const char *path), (path), path, power_removed(path))
NAMES(mkdir, (const char *path, mode_t mode), (path, mode), path, power_made_directory(path))
