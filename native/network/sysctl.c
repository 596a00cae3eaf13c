#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "descriptor.h"
#include "in-netns.h"
#include "wrenn.h"

struct setting {
  const char *path;
  const char *value;
};

/* /proc/sys/net shows the namespace of the thread that opens it. */
static int32_t write_setting(void *opaque) {
  const struct setting *setting = opaque;
  AUTO_FD fd = open(setting->path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  size_t length = strlen(setting->value);
  ssize_t written = write(fd, setting->value, length);
  if (written < 0) return -errno;
  return (size_t)written == length ? 0 : -EIO;
}

int32_t wrenn_sysctl_write(const char *netns, const char *key, const char *value) {
  char path[PATH_MAX];
  if (key[0] == '/' || strstr(key, "..") != NULL) return -EINVAL;
  int length = snprintf(path, sizeof path, "/proc/sys/%s", key);
  if (length < 0 || (size_t)length >= sizeof path) return -ENAMETOOLONG;
  struct setting setting = {.path = path, .value = value};
  return in_netns(netns, write_setting, &setting);
}
