/*
 * For LD_PRELOAD: a wall clock that a test sets, as an administrator or NTP may set a host's. The
 * file that STEPPED_CLOCK names holds the milliseconds, a signed number of 8 bytes, by which it is
 * off just now. Timers and the monotonic clock are the kernel's.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { MS_PER_S = 1000, NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

static const volatile int64_t *offset_ms;

__attribute__((constructor)) static void open_offset(void) {
  const char *path = getenv("STEPPED_CLOCK");
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void *shared = mmap(NULL, sizeof *offset_ms, PROT_READ, MAP_SHARED, fd, 0);
  (void)close(fd);
  if (shared != MAP_FAILED) offset_ms = shared;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ret_now) {
  if (syscall(SYS_clock_gettime, clock, ret_now) < 0) return -1;
  if (offset_ms == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return 0;
  int64_t step = *offset_ms;
  int64_t ns = ret_now->tv_nsec + step % MS_PER_S * NS_PER_MS;
  ret_now->tv_sec += step / MS_PER_S + (ns < 0 ? -1 : ns / NS_PER_S);
  ret_now->tv_nsec = (ns + NS_PER_S) % NS_PER_S;
  return 0;
}

EXPORT int gettimeofday(struct timeval *restrict ret_now, void *restrict zone) {
  struct timespec now;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &now) < 0) return -1;
  ret_now->tv_sec = now.tv_sec;
  ret_now->tv_usec = now.tv_nsec / 1000;
  return 0;
}

EXPORT time_t time(time_t *ret_now) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) < 0) return -1;
  if (ret_now != NULL) *ret_now = now.tv_sec;
  return now.tv_sec;
}
