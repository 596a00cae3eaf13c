/* Attaches real loop devices and mounts a tmpfs, and removes them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tests/run.h"
#include "wrenn.h"

enum { TMPFS_MAGIC = 0x01021994 };

static char dir[] = "/tmp/wrenn-storage-XXXXXX";
static char file[64], device[32];

static int open_loop(int index, int flags) {
  (void)snprintf(device, sizeof device, "/dev/loop%d", index);
  return open(device, flags | O_CLOEXEC);
}

static void a_loop_device_shows_its_file_until_it_is_detached(void) {
  char bytes[8] = {0};
  int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  assert(fd >= 0 && ftruncate(fd, 1024 * 1024) == 0 && pwrite(fd, "capsule", 7, 512) == 7);
  assert(fsync(fd) == 0 && close(fd) == 0);

  int32_t index = wrenn_loop_attach(file, 0);

  assert(index >= 0);
  fd = open_loop(index, O_RDWR);
  assert(fd >= 0 && pread(fd, bytes, 7, 512) == 7 && strcmp(bytes, "capsule") == 0);
  assert(close(fd) == 0);
  assert(wrenn_loop_detach((uint32_t)index) == 0);
  assert(wrenn_loop_detach((uint32_t)index) == -ENXIO);
}

static void a_read_only_loop_device_refuses_writes(void) {
  int32_t index = wrenn_loop_attach(file, 1);
  assert(index >= 0);

  int fd = open_loop(index, O_RDWR);
  int refused = fd < 0 || pwrite(fd, "x", 1, 0) < 0;

  if (fd >= 0) (void)close(fd);
  assert(wrenn_loop_detach((uint32_t)index) == 0);
  assert(refused);
}

/* st_size of a device is 0: its copy was empty, and counted as a disk. */
static void a_device_is_copied_by_its_size_with_holes_for_zeros(void) {
  char bytes[8] = {0};
  char copy[80];
  uint64_t size = 0;
  struct stat status;
  (void)snprintf(copy, sizeof copy, "%s.copy", file);
  int32_t index = wrenn_loop_attach(file, 1);
  assert(index >= 0);
  (void)snprintf(device, sizeof device, "/dev/loop%d", index);

  assert(wrenn_file_size(device, &size) == 0 && size == 1024 * 1024);
  assert(wrenn_file_copy_sparse(device, copy) == 0);

  assert(wrenn_loop_detach((uint32_t)index) == 0);
  assert(stat(copy, &status) == 0 && status.st_size == 1024 * 1024);
  assert(status.st_blocks * 512 < 64 * 1024);
  int fd = open(copy, O_RDONLY | O_CLOEXEC);
  assert(fd >= 0 && pread(fd, bytes, 7, 512) == 7 && strcmp(bytes, "capsule") == 0);
  assert(close(fd) == 0 && unlink(copy) == 0);
  assert(wrenn_file_size(file, &size) == 0 && size == 1024 * 1024);
  assert(wrenn_file_copy_sparse("/dev/null", copy) == -EINVAL && access(copy, F_OK) < 0);
}

static void a_missing_file_attaches_nothing(void) {
  assert(wrenn_loop_attach("/tmp/wrenn-no-such-file", 0) == -ENOENT);
}

static void a_tmpfs_is_mounted_with_its_size_and_unmounted(void) {
  struct statfs status;
  assert(wrenn_mount("wrenn", dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=700") == 0);
  assert(statfs(dir, &status) == 0);
  assert(wrenn_unmount(dir, 0) == 0);
  assert(wrenn_unmount(dir, 0) == -EINVAL);
  assert(status.f_type == TMPFS_MAGIC && status.f_blocks * (uint64_t)status.f_bsize == 1 << 20);
}

int main(void) {
  assert(mkdtemp(dir) != NULL);
  (void)snprintf(file, sizeof file, "%s/disk", dir);
  RUN(a_loop_device_shows_its_file_until_it_is_detached);
  RUN(a_read_only_loop_device_refuses_writes);
  RUN(a_device_is_copied_by_its_size_with_holes_for_zeros);
  RUN(a_missing_file_attaches_nothing);
  assert(unlink(file) == 0);
  RUN(a_tmpfs_is_mounted_with_its_size_and_unmounted);
  assert(rmdir(dir) == 0);
  return 0;
}
