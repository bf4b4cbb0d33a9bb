/* Makes the n-th call that changes a file below a folder fail, or ends the process there. Loaded by LD_PRELOAD.
 *
 * Settings are environment variables, read when the library is loaded and by fault_arm(), for processes that fork:
 *   FAULT_FOLDER  only files below it count
 *   FAULT_CALL    number of the call, from 1
 *   FAULT_ACTION  kill-before, kill-after, full-disk (this call and those after it that need room, FAULT_LENGTH of
 *                 them) or failing-disk (this call only)
 *   FAULT_COUNTER a file of eight zero bytes, in which all processes of a run count their calls together
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, KILL_BEFORE, KILL_AFTER, FULL_DISK, FAILING_DISK };

static atomic_long own_calls;
static atomic_long *calls = &own_calls;
static long first, length;
static int action;
static char folder[4096];

__attribute__((constructor)) void fault_arm(void) {
  const char *value = getenv("FAULT_FOLDER");
  snprintf(folder, sizeof folder, "%s", value ? value : "");
  value = getenv("FAULT_ACTION");
  action = !value || !*folder               ? NONE
           : !strcmp(value, "kill-before")  ? KILL_BEFORE
           : !strcmp(value, "kill-after")   ? KILL_AFTER
           : !strcmp(value, "full-disk")    ? FULL_DISK
           : !strcmp(value, "failing-disk") ? FAILING_DISK
                                            : NONE;
  first = (value = getenv("FAULT_CALL")) ? atol(value) : 0;
  length = (value = getenv("FAULT_LENGTH")) ? atol(value) : 1;
  if ((value = getenv("FAULT_COUNTER"))) {
    int fd = ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open"))(value, O_RDWR);
    void *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED) calls = shared;
    if (fd >= 0) close(fd);
  }
}

static int below(const char *path) {
  size_t n = strlen(folder);
  return n && !strncmp(path, folder, n) && (path[n] == '/' || path[n] == 0);
}

static int below_fd(int fd) {
  char name[64], path[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(name, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return below(path);
}

static void end(void) {
  kill(0, SIGKILL); /* workers too: the run makes a process group of its own */
  raise(SIGKILL);
}

/* Returns the error that a call must report, or 0. */
static int before(int counts, int needs_room, long *number) {
  *number = 0;
  if (!counts) return 0;
  long n = *number = ++*calls;
  if (action == KILL_BEFORE && n == first) end();
  if (action == FAILING_DISK && n == first) return EIO;
  if (action == FULL_DISK && first && (n == first || (needs_room && n > first && n < first + length))) return ENOSPC;
  return 0;
}

static void after(long number) {
  if (action == KILL_AFTER && number && number == first) end();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define GUARD(counts, needs_room, type, call)        \
  do {                                               \
    long number;                                     \
    int saved = errno;                               \
    int error = before(counts, needs_room, &number); \
    if (error) {                                     \
      errno = error;                                 \
      return -1;                                     \
    }                                                \
    errno = saved;                                   \
    type result = call;                              \
    after(number);                                   \
    return result;                                   \
  } while (0)

#define MODE                                                     \
  mode_t mode = 0;                                               \
  if (flags & (O_CREAT | __O_TMPFILE)) {                         \
    va_list arguments;                                           \
    va_start(arguments, flags);                                  \
    mode = va_arg(arguments, mode_t);                            \
    va_end(arguments);                                           \
  }

int open(const char *path, int flags, ...) { MODE GUARD((flags & O_CREAT) && below(path), 1, int, REAL(open)(path, flags, mode)); }
int open64(const char *path, int flags, ...) { MODE GUARD((flags & O_CREAT) && below(path), 1, int, REAL(open64)(path, flags, mode)); }
int openat(int at, const char *path, int flags, ...) { MODE GUARD((flags & O_CREAT) && below(path), 1, int, REAL(openat)(at, path, flags, mode)); }
int openat64(int at, const char *path, int flags, ...) { MODE GUARD((flags & O_CREAT) && below(path), 1, int, REAL(openat64)(at, path, flags, mode)); }
ssize_t write(int fd, const void *data, size_t size) { GUARD(below_fd(fd), 1, ssize_t, REAL(write)(fd, data, size)); }
ssize_t writev(int fd, const struct iovec *parts, int count) { GUARD(below_fd(fd), 1, ssize_t, REAL(writev)(fd, parts, count)); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { GUARD(below_fd(fd), 1, ssize_t, REAL(pwrite)(fd, data, size, at)); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { GUARD(below_fd(fd), 1, ssize_t, REAL(pwrite64)(fd, data, size, at)); }
int fsync(int fd) { GUARD(below_fd(fd), 0, int, REAL(fsync)(fd)); }
int fdatasync(int fd) { GUARD(below_fd(fd), 0, int, REAL(fdatasync)(fd)); }
int rename(const char *from, const char *to) { GUARD(below(to), 0, int, REAL(rename)(from, to)); }
int renameat(int from_at, const char *from, int to_at, const char *to) { GUARD(below(to), 0, int, REAL(renameat)(from_at, from, to_at, to)); }
int mkdir(const char *path, mode_t mode) { GUARD(below(path), 1, int, REAL(mkdir)(path, mode)); }
int mkdirat(int at, const char *path, mode_t mode) { GUARD(below(path), 1, int, REAL(mkdirat)(at, path, mode)); }

static int allocate(int fd, off64_t from, off64_t size) {
  long number;
  int error = before(below_fd(fd), 1, &number);
  if (error) return error;
  int result = REAL(posix_fallocate64)(fd, from, size);
  after(number);
  return result;
}
int posix_fallocate(int fd, off_t from, off_t size) { return allocate(fd, from, size); }
int posix_fallocate64(int fd, off64_t from, off64_t size) { return allocate(fd, from, size); }
