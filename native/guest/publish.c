#include "publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of <linux/falloc.h>. */
enum { KEEP_SIZE = 0x01 };

static int same(const struct stat *one, const struct stat *other) {
  return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/*
 * Names alone have changed, of which those hear nothing who wait for content: a time that is set
 * and a descriptor for writing that closes are what writing in place would end with. No failure of
 * it counts.
 */
static void announce(const char *file, const char *name) {
  static const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
  int held = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat ours;
  struct stat named;
  char path[32];
  int written = -1;

  /* What took the name since is not ours to open. */
  if (held >= 0 && stat(file, &ours) == 0 && fstat(held, &named) == 0 && same(&ours, &named)) {
    snprintf(path, sizeof(path), "/proc/self/fd/%d", held);
    written = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  }
  if (written >= 0) {
    (void)futimens(written, now);
    close(written);
  }
  if (held >= 0) close(held);
}

int publish_new(const char *file, const char *name) {
  if (linkat(AT_FDCWD, file, AT_FDCWD, name, AT_SYMLINK_FOLLOW) < 0) return errno;
  announce(file, name);
  return 0;
}

static int has_name(const char *old, const char *name) {
  struct stat held;
  struct stat named;

  return stat(old, &held) == 0 && fstatat(AT_FDCWD, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         same(&held, &named);
}

int publish_over(const char *file, const char *aside, const char *name, const char *old) {
  int error = 0;

  /* First, for a file that has lost its name again is given no other: this can be tried again. */
  if (!has_name(old, name)) return ESTALE;
  if (linkat(AT_FDCWD, file, AT_FDCWD, aside, AT_SYMLINK_FOLLOW) < 0) return errno;
  if (rename(aside, name) < 0) error = errno;
  if (error != 0)
    (void)unlink(aside);
  else
    announce(file, name);
  return error;
}

int publish_reserve(const char *file, const char *size) {
  int fd = open(file, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  off_t bytes = strtoll(size, NULL, 10);
  int error = 0;

  if (fd < 0) return errno;
  if (bytes > 0 && fallocate(fd, KEEP_SIZE, 0, bytes) < 0 && errno != EOPNOTSUPP &&
      errno != ENODEV && errno != ENOSYS)
    error = errno;
  close(fd);
  return error;
}
