#include "attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

/* XATTR_LIST_MAX, XATTR_SIZE_MAX and XATTR_NAME_MAX of Linux. */
enum { LIST_BYTES_MAX = 65536, VALUE_BYTES_MAX = 65536, NAME_BYTES_MAX = 255 };

/* Of <linux/fs.h>, which musl does not carry. */
#define FS_IOC_GETFLAGS ((int)_IOR('f', 1, long))
#define FS_IOC_SETFLAGS ((int)_IOW('f', 2, long))

/*
 * What chattr(1) sets and a file can be given that is written already: S, d, A and C. Who has `a`
 * or `i` on a file cannot replace it, and the others say how the file system keeps its blocks.
 */
enum { FLAGS_CARRIED = 0x8 | 0x40 | 0x80 | 0x800000 };

struct list {
  char names[LIST_BYTES_MAX];
  ssize_t size;
};

static bool has_prefix(const char *name, const char *prefix) {
  return strncmp(name, prefix, strlen(prefix)) == 0;
}

static const char *next_of(const char *name) { return name + strlen(name) + 1; }

void attributes_get(const char *prefix, const char *path, struct message *answer) {
  static struct list list;
  static char value[VALUE_BYTES_MAX];
  struct message found = {0};
  int count = 0;

  list.size = listxattr(path, list.names, sizeof(list.names));
  for (const char *name = list.names; name < list.names + list.size; name = next_of(name)) {
    ssize_t size = has_prefix(name, prefix) ? getxattr(path, name, value, sizeof(value)) : -1;

    if (size < 0 || memchr(value, '\0', (size_t)size) != NULL) continue;
    append(&found, name + strlen(prefix), strlen(name + strlen(prefix)));
    append(&found, value, (size_t)size);
    count++;
  }
  append_number(answer, count);
  if (found.size > 0) append(answer, found.bytes, found.size - 1);
  free(found.bytes);
}

static int remove_all(const char *prefix, const char *path) {
  static struct list list;

  list.size = listxattr(path, list.names, sizeof(list.names));
  for (const char *name = list.names; name < list.names + list.size; name = next_of(name))
    if (has_prefix(name, prefix) && removexattr(path, name) < 0) return errno;
  return 0;
}

int attributes_set(const char *prefix, const char *path, struct fields *fields) {
  int error = remove_all(prefix, path);

  while (error == 0 && fields->at < fields->end) {
    const char *name = take(fields);
    const char *value = take(fields);
    char full[NAME_BYTES_MAX + 1];
    int length = snprintf(full, sizeof(full), "%s%s", prefix, name);

    if (length < 0 || (size_t)length >= sizeof(full))
      error = ENAMETOOLONG;
    else if (setxattr(path, full, value, strlen(value), 0) < 0)
      error = errno;
  }
  return error;
}

/* Where a file system keeps none, there are none. */
static int list_all(const char *path, struct list *ret_list) {
  ret_list->size = listxattr(path, ret_list->names, sizeof(ret_list->names));
  if (ret_list->size >= 0) return 0;
  ret_list->size = 0;
  return errno == EOPNOTSUPP ? 0 : errno;
}

static bool is_carried(const char *name, const char *except_prefix) {
  return !has_prefix(name, except_prefix) && strcmp(name, "security.capability") != 0;
}

/* What a new file has from its directory alone: an access list, a label. */
static int drop_others(const char *except_prefix, const char *from, const char *to) {
  static struct list list;
  int error = list_all(to, &list);

  for (const char *name = list.names; error == 0 && name < list.names + list.size;
       name = next_of(name))
    if (is_carried(name, except_prefix) && getxattr(from, name, NULL, 0) < 0 &&
        removexattr(to, name) < 0)
      error = errno;
  return error;
}

static int carry_all(const char *except_prefix, const char *from, const char *to) {
  static struct list list;
  static char value[VALUE_BYTES_MAX];
  int error = list_all(from, &list);

  for (const char *name = list.names; error == 0 && name < list.names + list.size;
       name = next_of(name)) {
    ssize_t size;

    if (!is_carried(name, except_prefix)) continue;
    size = getxattr(from, name, value, sizeof(value));
    if (size < 0 || setxattr(to, name, value, (size_t)size, 0) < 0) error = errno;
  }
  return error;
}

/* The flags of a file; false where its file system has none. */
static bool get_flags(int fd, int *ret_flags) {
  return fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, ret_flags) == 0;
}

static int carry_flags(const char *from, const char *to) {
  int source = open(from, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  int target = open(to, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  int wanted;
  int flags;
  int error = 0;

  if (get_flags(source, &wanted) && get_flags(target, &flags) &&
      ((wanted ^ flags) & FLAGS_CARRIED) != 0) {
    flags = (flags & ~FLAGS_CARRIED) | (wanted & FLAGS_CARRIED);
    if (ioctl(target, FS_IOC_SETFLAGS, &flags) < 0) error = errno;
  }
  close(source);
  close(target);
  return error;
}

int attributes_carry(const char *except_prefix, const char *from, const char *to) {
  int error = drop_others(except_prefix, from, to);

  if (error == 0) error = carry_all(except_prefix, from, to);
  return error == 0 ? carry_flags(from, to) : error;
}
