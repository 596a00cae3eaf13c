#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <time.h>

#include "wrenn.h"

#ifdef __x86_64__
#include <x86intrin.h>

/*
 * Of this many readings the one with the least time between its two counter reads is used: the
 * others were interrupted.
 */
enum { READINGS = 32 };

struct instant {
  uint64_t ticks;
  int64_t ns;
};

static struct instant read_clocks(void) {
  struct instant best = {0};
  uint64_t least = UINT64_MAX;
  for (int reading = 0; reading < READINGS; reading++) {
    struct timespec time;
    uint64_t before = __rdtsc();
    (void)clock_gettime(CLOCK_MONOTONIC_RAW, &time);
    uint64_t spent = __rdtsc() - before;
    if (spent >= least) continue;
    least = spent;
    best.ticks = before + spent / 2;
    best.ns = time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
  }
  return best;
}

int32_t wrenn_tsc_khz(uint32_t interval_ms) {
  if (interval_ms < 10 || interval_ms > 1000) return -EINVAL;
  struct timespec pause = {.tv_nsec = (long)(interval_ms % 1000) * 1000000,
                           .tv_sec = interval_ms / 1000};
  struct instant start = read_clocks();
  while (nanosleep(&pause, &pause) < 0 && errno == EINTR) continue;
  struct instant end = read_clocks();
  if (end.ns <= start.ns || end.ticks <= start.ticks) return -EOPNOTSUPP;
  double khz = (double)(end.ticks - start.ticks) * 1e6 / (double)(end.ns - start.ns);
  return (int32_t)(khz + 0.5);
}
#else
int32_t wrenn_tsc_khz(uint32_t interval_ms) {
  (void)interval_ms;
  return -EOPNOTSUPP;
}
#endif
