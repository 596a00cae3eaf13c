#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include "descriptor.h"
#include "in-netns.h"
#include "wrenn.h"

/* Mounts stack, and a mount made twice by hand must not keep a namespace alive for ever. */
enum { UNMOUNTS_MAX = 16 };

static int lock_directory(const char *directory) {
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (flock(fd, LOCK_EX) == 0) return fd;
  int error = errno;
  (void)close(fd);
  return -error;
}

static int32_t make_shared(const char *directory) {
  return mount("", directory, "none", MS_SHARED | MS_REC, NULL) < 0 ? -errno : 0;
}

int32_t wrenn_netns_share_directory(const char *directory) {
  AUTO_FD lock = lock_directory(directory);
  if (lock < 0) return lock;
  int32_t result = make_shared(directory);
  if (result != -EINVAL) return result;
  if (mount(directory, directory, "none", MS_BIND | MS_REC, NULL) < 0) return -errno;
  return make_shared(directory);
}

/* 1 if it is empty, 0 if not, -errno. */
static int32_t is_empty(const char *directory) {
  DIR *entries = opendir(directory);
  if (entries == NULL) return -errno;
  int32_t empty = 1;
  for (struct dirent *entry; empty && (entry = readdir(entries)) != NULL;)
    empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
  (void)closedir(entries);
  return empty;
}

int32_t wrenn_netns_unshare_directory(const char *directory) {
  AUTO_FD lock = lock_directory(directory);
  if (lock < 0) return lock;
  int32_t empty = is_empty(directory);
  if (empty <= 0) return empty < 0 ? empty : -ENOTEMPTY;
  /* Lazily, since the lock's own descriptor lies on the mount. */
  return umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

static int32_t unshare_and_mount(void *opaque) {
  const char *path = opaque;
  if (unshare(CLONE_NEWNET) < 0) return -errno;
  int32_t result = wrenn_link_up(NULL, "lo", 0);
  if (result < 0) return result;
  if (mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0) return -errno;
  return 0;
}

int32_t wrenn_netns_create(const char *path) {
  {
    AUTO_FD fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0) return -errno;
  }
  /* The thread only reads the path; the cast drops const because errands take void pointers. */
  int32_t result = on_own_thread(unshare_and_mount, (void *)(uintptr_t)path);
  if (result < 0) (void)unlink(path);
  return result;
}

int32_t wrenn_netns_delete(const char *path) {
  for (int unmounts = 0; unmounts < UNMOUNTS_MAX; unmounts++) {
    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
      if (errno == EINVAL) break;
      return -errno;
    }
  }
  return unlink(path) < 0 ? -errno : 0;
}
