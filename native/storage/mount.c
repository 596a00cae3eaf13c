#define _GNU_SOURCE
#include <errno.h>
#include <sys/mount.h>

#include "wrenn.h"

int32_t wrenn_mount(const char *source, const char *target, const char *type, uint64_t flags,
                    const char *options) {
  return mount(source, target, type, flags, options) < 0 ? -errno : 0;
}

int32_t wrenn_unmount(const char *target, uint32_t flags) {
  return umount2(target, (int)flags) < 0 ? -errno : 0;
}
