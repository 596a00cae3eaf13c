/* The bounded log: sizes, rotation, rate, and what it does when it cannot write. */
#include "../../tests/run.h"
#include "../keeper.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int directory;

static off_t size_of(const char *name) {
  struct stat status;
  return fstatat(directory, name, &status, 0) < 0 ? -1 : status.st_size;
}

static void read_text(const char *name, char *ret_text, size_t size) {
  int file = openat(directory, name, O_RDONLY | O_CLOEXEC);
  assert(file >= 0);
  ssize_t length = read(file, ret_text, size - 1);
  assert(length >= 0);
  ret_text[length] = '\0';
  (void)close(file);
}

static void a_log_keeps_what_is_written(void) {
  struct bounded_log log;
  char text[64];
  assert(log_open(&log, directory, "plain", 4096, 0) == 0);
  log_write(&log, "one\n", 4, 0);
  log_write(&log, "two\n", 4, 1);
  log_close(&log);
  read_text("plain", text, sizeof(text));
  assert(strcmp(text, "one\ntwo\n") == 0);
}

static void a_log_of_an_earlier_run_goes_on(void) {
  struct bounded_log log;
  char text[64];
  assert(log_open(&log, directory, "plain", 4096, 0) == 0);
  assert(log.size_bytes == 8);
  log_write(&log, "three\n", 6, 0);
  log_close(&log);
  read_text("plain", text, sizeof(text));
  assert(strcmp(text, "one\ntwo\nthree\n") == 0);
}

static void a_full_file_makes_room_for_the_next(void) {
  struct bounded_log log;
  char line[1000];
  memset(line, 'x', sizeof(line));
  assert(log_open(&log, directory, "rotated", 4096, 0) == 0);
  for (int i = 0; i < 50; i++) log_write(&log, line, sizeof(line), i);
  log_close(&log);
  assert(size_of("rotated") > 0 && size_of("rotated") <= 4096);
  assert(size_of("rotated.1") == 4000);
  assert(size_of("rotated.2") == -1);
}

static void a_flood_is_dropped_and_counted(void) {
  struct bounded_log log;
  static char chunk[64 * 1024];
  char text[256];
  memset(chunk, 'y', sizeof(chunk));
  assert(log_open(&log, directory, "flood", 512 * 1024, 0) == 0);
  for (int i = 0; i < 10000; i++) log_write(&log, chunk, sizeof(chunk), 0);
  assert(log.dropped_bytes == (10000ULL - 16) * sizeof(chunk));
  /* A second later there is room again for what a second may bring. */
  log_write(&log, "late\n", 5, 1000);
  log_close(&log);
  assert(log.dropped_bytes == 0);
  assert(size_of("flood") <= 512 * 1024 && size_of("flood.1") <= 512 * 1024);
  read_text("flood", text, sizeof(text));
  assert(strcmp(text, "\n[keeper: 654311424 bytes were dropped here]\nlate\n") == 0);
}

/* Each interval is worth a fraction of a byte more than the last write took: they must add up. */
static void a_slow_trickle_is_kept_whole(void) {
  struct bounded_log log;
  assert(log_open(&log, directory, "trickle", 1 << 20, 0) == 0);
  log.budget_bytes = 0;
  for (int64_t now_ms = 1; now_ms <= 1000; now_ms++) log_write(&log, "t", 1, now_ms);
  assert(log.size_bytes == 1000);
  log_close(&log);
}

static void a_log_that_cannot_be_opened_drops_everything(void) {
  struct bounded_log log;
  assert(log_open(&log, -1, "nowhere", 4096, 0) < 0);
  log_write(&log, "lost", 4, 0);
  assert(log.dropped_bytes == 4);
  log_close(&log);
}

static void a_link_in_the_place_of_a_log_is_not_followed(void) {
  struct bounded_log log;
  assert(symlinkat("plain", directory, "link") == 0);
  assert(log_open(&log, directory, "link", 4096, 0) < 0);
  log_close(&log);
}

int main(void) {
  char path[] = "/tmp/keeper-log-XXXXXX";
  assert(mkdtemp(path) != NULL);
  directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert(directory >= 0);
  RUN(a_log_keeps_what_is_written);
  RUN(a_log_of_an_earlier_run_goes_on);
  RUN(a_full_file_makes_room_for_the_next);
  RUN(a_flood_is_dropped_and_counted);
  RUN(a_slow_trickle_is_kept_whole);
  RUN(a_log_that_cannot_be_opened_drops_everything);
  RUN(a_link_in_the_place_of_a_log_is_not_followed);
  const char *const names[] = {"plain",   "rotated", "rotated.1", "flood",
                               "flood.1", "trickle", "link"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    (void)unlinkat(directory, names[i], 0);
  }
  (void)close(directory);
  assert(rmdir(path) == 0);
  return 0;
}
