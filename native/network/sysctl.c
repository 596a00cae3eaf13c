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

struct settings {
  const char *keys;
  char *text;
  uint32_t size;
  uint32_t length;
};

static int32_t setting_path(char path[PATH_MAX], const char *key, size_t key_length) {
  char name[PATH_MAX];
  if (key_length >= sizeof name) return -ENAMETOOLONG;
  memcpy(name, key, key_length);
  name[key_length] = '\0';
  if (name[0] == '/' || strstr(name, "..") != NULL) return -EINVAL;
  int length = snprintf(path, PATH_MAX, "/proc/sys/%s", name);
  return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

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
  int32_t result = setting_path(path, key, strlen(key));
  if (result < 0) return result;
  struct setting setting = {.path = path, .value = value};
  return in_netns(netns, write_setting, &setting);
}

/* Appends the value, which the kernel ends by '\n'. */
static int32_t append_value(struct settings *settings, const char *path) {
  uint32_t room = settings->size - settings->length;
  AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) return -errno;
  ssize_t length = fd < 0 ? 0 : read(fd, settings->text + settings->length, room);
  if (length < 0) return -errno;
  /* One more for the NUL, and one for the line of a setting that is not there. */
  if ((uint32_t)length + 2 > room) return -ENOSPC;
  settings->length += (uint32_t)length;
  if (length == 0) settings->text[settings->length++] = '\n';
  return 0;
}

static int32_t read_settings(void *opaque) {
  struct settings *settings = opaque;
  for (const char *key = settings->keys; *key != '\0';) {
    char path[PATH_MAX];
    size_t length = strcspn(key, "\n");
    int32_t result = setting_path(path, key, length);
    if (result == 0) result = append_value(settings, path);
    if (result < 0) return result;
    key += length;
    if (*key == '\n') key++;
  }
  settings->text[settings->length] = '\0';
  return (int32_t)settings->length;
}

int32_t wrenn_sysctl_read(const char *netns, const char *keys, char *ret_text, uint32_t size) {
  if (size == 0) return -ENOSPC;
  struct settings settings = {.keys = keys, .text = ret_text, .size = size};
  int32_t result = in_netns(netns, read_settings, &settings);
  /* What was read before a failure is no explanation. */
  if (result < 0) ret_text[0] = '\0';
  return result;
}
