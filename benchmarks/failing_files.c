/* Fail the n-th file operation below a folder, once: preloaded into a process (LD_PRELOAD), armed by it through ctypes.

   write, pwrite, writev, fsync, fdatasync, rename, renameat, mmap of a file, mkdir, posix_fallocate, ftruncate,
   open for writing. Operations on files elsewhere, and on what is only read, are neither counted nor failed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096], last[256];
static long countdown = -1, counted = 0;
static int code = 0;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Fail the n-th operation from now on with this errno; with n = 0, only count. */
void arm(const char *path, long n, int error) {
    pthread_mutex_lock(&lock);
    strncpy(folder, path, sizeof folder - 1);
    countdown = n, code = error, counted = 0, last[0] = 0;
    pthread_mutex_unlock(&lock);
}

/* Stop counting; return how many operations there were. */
long disarm(void) {
    pthread_mutex_lock(&lock);
    folder[0] = 0;
    long n = counted;
    pthread_mutex_unlock(&lock);
    return n;
}

/* What failed: the operation and its file. */
const char *failed(void) { return last; }

static int fails(const char *operation, const char *path) {
    int result = 0;
    if (!folder[0] || strncmp(path, folder, strlen(folder))) return 0;
    pthread_mutex_lock(&lock);
    if (folder[0]) {
        counted++;
        if (counted == countdown) {
            snprintf(last, sizeof last, "%s %s", operation, path + strlen(folder));
            result = 1;
        }
    }
    pthread_mutex_unlock(&lock);
    if (result) errno = code;
    return result;
}

static int fails_fd(const char *operation, int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return fails(operation, path);
}

static int fails_at(const char *operation, int dir, const char *path) {
    char link[64], whole[8192];
    if (!folder[0]) return 0;
    if (path[0] == '/') return fails(operation, path);
    if (dir == AT_FDCWD) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, whole, 4095);
    if (n <= 0) return 0;
    snprintf(whole + n, sizeof whole - n, "/%s", path);
    return fails(operation, whole);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t n) { REAL(write); return fails_fd("write", fd) ? -1 : real(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { REAL(pwrite); return fails_fd("pwrite", fd) ? -1 : real(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { REAL(pwrite64); return fails_fd("pwrite", fd) ? -1 : real(fd, data, n, at); }
ssize_t writev(int fd, const struct iovec *parts, int n) { REAL(writev); return fails_fd("writev", fd) ? -1 : real(fd, parts, n); }
int fsync(int fd) { REAL(fsync); return fails_fd("fsync", fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails_fd("fdatasync", fd) ? -1 : real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return fails_fd("ftruncate", fd) ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return fails_fd("ftruncate", fd) ? -1 : real(fd, n); }
int posix_fallocate(int fd, off_t at, off_t n) { REAL(posix_fallocate); return fails_fd("posix_fallocate", fd) ? code : real(fd, at, n); }
int posix_fallocate64(int fd, off64_t at, off64_t n) { REAL(posix_fallocate64); return fails_fd("posix_fallocate", fd) ? code : real(fd, at, n); }
int rename(const char *from, const char *to) { REAL(rename); return fails("rename", to) ? -1 : real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); return fails_at("rename", b, to) ? -1 : real(a, from, b, to); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return fails("mkdir", path) ? -1 : real(path, mode); }
void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t from) {
    REAL(mmap);
    return fd >= 0 && fails_fd("mmap", fd) ? MAP_FAILED : real(at, n, protection, flags, fd, from);
}
void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t from) {
    REAL(mmap64);
    return fd >= 0 && fails_fd("mmap", fd) ? MAP_FAILED : real(at, n, protection, flags, fd, from);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        return (flags & (O_WRONLY | O_RDWR)) && fails("open", path) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
int openat(int dir, const char *path, int flags, ...) {
    REAL(openat);
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
    return (flags & (O_WRONLY | O_RDWR)) && fails_at("open", dir, path) ? -1 : real(dir, path, flags, mode);
}
