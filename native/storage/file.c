#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "descriptor.h"
#include "wrenn.h"

/*
 * One copy_file_range or write at a time: large enough to cost nothing, small enough to be
 * killable.
 */
enum { COPY_STEP_BYTES = 64 * 1024 * 1024, BUFFER_BYTES = 128 * 1024, BLOCK_BYTES = 4096 };

static int32_t open_pair(const char *source, const char *target, int *ret_source, int *ret_target) {
  int from = open(source, O_RDONLY | O_CLOEXEC);
  if (from < 0) return -errno;
  int to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (to < 0) {
    int error = errno;
    (void)close(from);
    return -error;
  }
  *ret_source = from;
  *ret_target = to;
  return 0;
}

int32_t wrenn_file_reflink(const char *source, const char *target) {
  AUTO_FD from = -1;
  AUTO_FD to = -1;
  int32_t result = open_pair(source, target, &from, &to);
  if (result < 0) return result;
  if (ioctl(to, FICLONE, from) < 0) {
    result = -errno;
    (void)unlink(target);
  }
  return result;
}

static bool is_refusal_to_offload(int error) {
  return error == -EXDEV || error == -EINVAL || error == -ENOSYS || error == -EOPNOTSUPP;
}

static int32_t write_all(int to, const char *bytes, size_t size, off_t at) {
  while (size > 0) {
    ssize_t written = pwrite(to, bytes, size, at);
    if (written < 0) return -errno;
    bytes += written;
    size -= (size_t)written;
    at += written;
  }
  return 0;
}

static int32_t copy_by_hand(int from, int to, off_t at, off_t end) {
  char buffer[BUFFER_BYTES];
  while (at < end) {
    size_t want = end - at < BUFFER_BYTES ? (size_t)(end - at) : BUFFER_BYTES;
    ssize_t got = pread(from, buffer, want, at);
    if (got < 0) return -errno;
    if (got == 0) return -EIO;
    int32_t result = write_all(to, buffer, (size_t)got, at);
    if (result < 0) return result;
    at += got;
  }
  return 0;
}

static int32_t copy_extent(int from, int to, off_t at, off_t end) {
  while (at < end) {
    off_t source = at;
    off_t target = at;
    size_t want = end - at < COPY_STEP_BYTES ? (size_t)(end - at) : COPY_STEP_BYTES;
    ssize_t copied = copy_file_range(from, &source, to, &target, want, 0);
    if (copied < 0 && is_refusal_to_offload(-errno)) return copy_by_hand(from, to, at, end);
    if (copied < 0) return -errno;
    if (copied == 0) return -EIO;
    at += copied;
  }
  return 0;
}

static bool is_zero(const char *bytes, size_t size) {
  return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Blocks that are zero stay holes: a device does not tell its own. */
static int32_t write_blocks(int to, const char *bytes, size_t size, off_t at) {
  for (size_t done = 0; done < size;) {
    size_t left = size - done;
    size_t block = left < BLOCK_BYTES ? left : BLOCK_BYTES;
    int32_t result = is_zero(bytes + done, block)
                         ? 0
                         : write_all(to, bytes + done, block, at + (off_t)done);
    if (result < 0) return result;
    done += block;
  }
  return 0;
}

static int32_t copy_device(int from, int to, off_t size) {
  char buffer[BUFFER_BYTES];
  for (off_t at = 0; at < size;) {
    size_t want = size - at < BUFFER_BYTES ? (size_t)(size - at) : BUFFER_BYTES;
    ssize_t got = pread(from, buffer, want, at);
    if (got < 0) return -errno;
    if (got == 0) return -EIO;
    int32_t result = write_blocks(to, buffer, (size_t)got, at);
    if (result < 0) return result;
    at += got;
  }
  return 0;
}

static int32_t copy_file(int from, int to, off_t size) {
  for (off_t at = 0; at < size;) {
    off_t start = lseek(from, at, SEEK_DATA);
    if (start < 0) return errno == ENXIO ? 0 : -errno;
    off_t end = lseek(from, start, SEEK_HOLE);
    if (end < 0) return -errno;
    int32_t result = copy_extent(from, to, start, end);
    if (result < 0) return result;
    at = end;
  }
  return 0;
}

/* What a file or a device holds; st_size of a device is 0. */
static int32_t measure(int fd, bool *ret_is_device, uint64_t *ret_bytes) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  *ret_is_device = S_ISBLK(status.st_mode);
  if (!*ret_is_device && !S_ISREG(status.st_mode)) return -EINVAL;
  *ret_bytes = (uint64_t)status.st_size;
  if (*ret_is_device && ioctl(fd, BLKGETSIZE64, ret_bytes) < 0) return -errno;
  return 0;
}

static int32_t copy_data(int from, int to) {
  bool is_device;
  uint64_t bytes;
  struct stat copied;
  int32_t result = measure(from, &is_device, &bytes);
  if (result < 0) return result;
  off_t size = (off_t)bytes;
  if (ftruncate(to, size) < 0) return -errno;
  result = is_device ? copy_device(from, to, size) : copy_file(from, to, size);
  if (result < 0) return result;
  if (fstat(to, &copied) < 0) return -errno;
  return copied.st_size == size ? 0 : -EIO;
}

int32_t wrenn_file_size(const char *path, uint64_t *ret_bytes) {
  AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
  bool is_device;
  uint64_t bytes;
  if (fd < 0) return -errno;
  int32_t result = measure(fd, &is_device, &bytes);
  if (result == 0) *ret_bytes = bytes;
  return result;
}

int32_t wrenn_file_copy_sparse(const char *source, const char *target) {
  AUTO_FD from = -1;
  AUTO_FD to = -1;
  int32_t result = open_pair(source, target, &from, &to);
  if (result < 0) return result;
  result = copy_data(from, to);
  if (result < 0) (void)unlink(target);
  return result;
}

int32_t wrenn_file_next_data(const char *path, uint64_t offset, uint64_t ret_extent[2]) {
  AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  off_t start = lseek(fd, (off_t)offset, SEEK_DATA);
  if (start < 0) return errno == ENXIO ? 0 : -errno;
  off_t end = lseek(fd, start, SEEK_HOLE);
  if (end < 0) return -errno;
  ret_extent[0] = (uint64_t)start;
  ret_extent[1] = (uint64_t)end;
  return 1;
}

int32_t wrenn_file_lock(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return -errno;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  int error = errno;
  (void)close(fd);
  return -error;
}
