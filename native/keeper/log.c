/*
 * A bounded log. Two bounds: of size (one file and its predecessor, rotated by rename) and of rate
 * (a token bucket), because a guest that prints without end would otherwise keep the disk busy for
 * ever. Whoever writes is never made to wait: what exceeds a bound is dropped and counted.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A verbose boot prints 30 KB; an honest service rarely reaches 1 KB/s. */
enum { RATE_BYTES_PER_S = 64 * 1024, BURST_BYTES = 1024 * 1024 };

static int open_current(struct bounded_log *log) {
  log->file = openat(log->directory, log->name,
                     O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  if (log->file < 0) return -errno;
  struct stat status;
  if (fstat(log->file, &status) < 0) return -errno;
  if (!S_ISREG(status.st_mode)) return -EINVAL;
  log->size_bytes = (uint64_t)status.st_size;
  return 0;
}

static void close_current(struct bounded_log *log) {
  if (log->file >= 0) (void)close(log->file);
  log->file = -1;
}

int log_open(struct bounded_log *log, int directory, const char *name, uint64_t max_bytes,
             int64_t now_ms) {
  *log = (struct bounded_log){
      .directory = directory,
      .file = -1,
      .max_bytes = max_bytes,
      .budget_bytes = BURST_BYTES,
      .refilled_at_ms = now_ms,
  };
  if (strlen(name) >= sizeof(log->name) - 2) return -ENAMETOOLONG;
  (void)snprintf(log->name, sizeof(log->name), "%s", name);
  int r = open_current(log);
  if (r < 0) close_current(log);
  return r;
}

static void rotate(struct bounded_log *log) {
  char previous[sizeof(log->name) + 2];
  (void)snprintf(previous, sizeof(previous), "%s.1", log->name);
  close_current(log);
  /* If the rename fails the file must not grow: then what comes is dropped until it works. */
  if (renameat(log->directory, log->name, log->directory, previous) < 0 && errno != ENOENT) return;
  if (open_current(log) < 0) close_current(log);
}

static void append(struct bounded_log *log, const char *bytes, size_t size) {
  if (log->file < 0 || log->size_bytes + size > log->max_bytes) rotate(log);
  ssize_t written = log->file < 0 ? -1 : write(log->file, bytes, size);
  uint64_t stored = written < 0 ? 0 : (uint64_t)written;
  log->size_bytes += stored;
  log->dropped_bytes += size - stored;
}

static void note_dropped(struct bounded_log *log) {
  char note[96];
  int length = snprintf(note, sizeof(note), "\n[keeper: %llu bytes were dropped here]\n",
                        (unsigned long long)log->dropped_bytes);
  log->dropped_bytes = 0;
  append(log, note, (size_t)length);
}

static void refill(struct bounded_log *log, int64_t now_ms) {
  uint64_t elapsed_ms = now_ms > log->refilled_at_ms ? (uint64_t)(now_ms - log->refilled_at_ms) : 0;
  uint64_t gain = elapsed_ms * RATE_BYTES_PER_S / 1000;
  /* Less than one byte: keep the time, or short intervals would never add up. */
  if (gain == 0) return;
  log->refilled_at_ms = now_ms;
  uint64_t room = BURST_BYTES - log->budget_bytes;
  log->budget_bytes += gain < room ? gain : room;
}

void log_write(struct bounded_log *log, const char *bytes, size_t size, int64_t now_ms) {
  refill(log, now_ms);
  if (size > log->budget_bytes || size > log->max_bytes) {
    log->dropped_bytes += size;
    return;
  }
  log->budget_bytes -= size;
  if (log->dropped_bytes > 0) note_dropped(log);
  append(log, bytes, size);
}

void log_close(struct bounded_log *log) {
  if (log->dropped_bytes > 0) note_dropped(log);
  close_current(log);
}
