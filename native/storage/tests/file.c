#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/run.h"
#include "wrenn.h"

enum { MIB = 1024 * 1024 };

static char dir[] = "/tmp/wrenn-file-XXXXXX";
static char source[64], target[64];

static void write_at(const char *path, const char *text, off_t at) {
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  assert(fd >= 0);
  assert(pwrite(fd, text, strlen(text), at) == (ssize_t)strlen(text));
  assert(close(fd) == 0);
}

static void assert_reads(const char *path, const char *text, off_t at) {
  char bytes[64] = {0};
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  assert(fd >= 0);
  assert(pread(fd, bytes, strlen(text), at) == (ssize_t)strlen(text));
  assert(memcmp(bytes, text, strlen(text)) == 0);
  assert(close(fd) == 0);
}

static void reset(void) {
  (void)unlink(source);
  (void)unlink(target);
}

static void a_sparse_copy_has_the_bytes_the_size_and_the_holes(void) {
  struct stat status;
  reset();
  write_at(source, "head", 0);
  write_at(source, "middle", 64 * MIB);
  assert(truncate(source, 256 * MIB) == 0);

  assert(wrenn_file_copy_sparse(source, target) == 0);

  assert(stat(target, &status) == 0);
  assert(status.st_size == 256 * MIB);
  assert(status.st_blocks * 512 < MIB);
  assert((status.st_mode & 0777) == 0600);
  assert_reads(target, "head", 0);
  assert_reads(target, "middle", 64 * MIB);
}

static void a_file_that_is_all_hole_or_empty_is_copied(void) {
  struct stat status;
  reset();
  write_at(source, "", 0);
  assert(wrenn_file_copy_sparse(source, target) == 0);
  assert(stat(target, &status) == 0 && status.st_size == 0);

  assert(unlink(target) == 0);
  assert(truncate(source, 8 * MIB) == 0);
  assert(wrenn_file_copy_sparse(source, target) == 0);
  assert(stat(target, &status) == 0 && status.st_size == 8 * MIB && status.st_blocks == 0);
}

static void a_copy_never_overwrites(void) {
  reset();
  write_at(source, "new", 0);
  write_at(target, "old", 0);

  assert(wrenn_file_copy_sparse(source, target) == -EEXIST);
  assert(wrenn_file_reflink(source, target) == -EEXIST);

  assert_reads(target, "old", 0);
}

static void a_missing_source_leaves_no_target(void) {
  reset();
  assert(wrenn_file_copy_sparse(source, target) == -ENOENT);
  assert(wrenn_file_reflink(source, target) == -ENOENT);
  assert(access(target, F_OK) < 0);
}

/* /proc files refuse to be cloned wherever the test runs. */
static void a_clone_that_is_refused_leaves_no_target(void) {
  reset();
  assert(wrenn_file_reflink("/proc/self/status", target) < 0);
  assert(access(target, F_OK) < 0);
}

static void a_copy_that_finds_no_room_leaves_no_target(void) {
  struct rlimit before;
  reset();
  write_at(source, "too much", 0);
  assert(getrlimit(RLIMIT_FSIZE, &before) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
  struct rlimit small = {.rlim_cur = 4, .rlim_max = before.rlim_max};
  assert(setrlimit(RLIMIT_FSIZE, &small) == 0);
  int32_t result = wrenn_file_copy_sparse(source, target);
  assert(setrlimit(RLIMIT_FSIZE, &before) == 0);
  assert(result == -EFBIG && access(target, F_OK) < 0);
}

static void data_is_found_between_holes(void) {
  uint64_t extent[2] = {7, 7};
  reset();
  write_at(source, "middle", 64 * MIB);
  assert(truncate(source, 128 * MIB) == 0);

  assert(wrenn_file_next_data(source, 0, extent) == 1);
  assert(extent[0] == 64 * MIB && extent[1] > 64 * MIB && extent[1] <= 65 * MIB);
  assert(wrenn_file_next_data(source, extent[1], extent) == 0);
  assert(wrenn_file_next_data(source, 128 * MIB, extent) == 0);
  assert(wrenn_file_next_data(target, 0, extent) == -ENOENT);
  assert(extent[0] == 64 * MIB);
}

static void a_lock_is_held_until_its_descriptor_is_closed(void) {
  reset();
  int first = wrenn_file_lock(source);
  assert(first >= 0);
  assert(wrenn_file_lock(source) == -EWOULDBLOCK);
  assert(fcntl(first, F_GETFD) == FD_CLOEXEC);

  assert(close(first) == 0);
  int second = wrenn_file_lock(source);
  assert(second >= 0);
  assert(close(second) == 0);
}

int main(void) {
  assert(mkdtemp(dir) != NULL);
  (void)snprintf(source, sizeof source, "%s/source", dir);
  (void)snprintf(target, sizeof target, "%s/target", dir);
  RUN(a_sparse_copy_has_the_bytes_the_size_and_the_holes);
  RUN(a_file_that_is_all_hole_or_empty_is_copied);
  RUN(a_copy_never_overwrites);
  RUN(a_missing_source_leaves_no_target);
  RUN(a_clone_that_is_refused_leaves_no_target);
  RUN(a_copy_that_finds_no_room_leaves_no_target);
  RUN(data_is_found_between_holes);
  RUN(a_lock_is_held_until_its_descriptor_is_closed);
  reset();
  assert(rmdir(dir) == 0);
  return 0;
}
