#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "descriptor.h"
#include "in-netns.h"
#include "wrenn.h"

/* Mounts stack, and a mount made twice by hand must not keep a namespace alive for ever. */
enum { UNMOUNTS_MAX = 16 };

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
