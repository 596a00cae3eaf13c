#define _GNU_SOURCE
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptor.h"

enum { DIRECTORIES_MAX = 16 };

int32_t pages_paths_of(const struct wrenn_pages_target *target, struct pages_paths *ret_paths) {
  char name[MEMORY_NAME_BYTES];
  memory_layer_name("memory", target->id, name);
  int layer = snprintf(ret_paths->layer, PAGES_PATH_BYTES, "%s/%s", target->directory, name);
  int header = snprintf(ret_paths->header, PAGES_PATH_BYTES, "%s/memory.header", target->directory);
  bool fits = layer < PAGES_PATH_BYTES && header < PAGES_PATH_BYTES;
  return fits ? 0 : -ENAMETOOLONG;
}

/* Names separated by newlines become a NULL-terminated list; `names` is changed. */
static int32_t split(char *names, const char *ret_list[DIRECTORIES_MAX + 1]) {
  size_t count = 0;
  char *rest = names;
  for (char *name; (name = strsep(&rest, "\n")) != NULL;) {
    if (*name == '\0') continue;
    if (count == DIRECTORIES_MAX) return -E2BIG;
    ret_list[count++] = name;
  }
  ret_list[count] = NULL;
  return 0;
}

int32_t pages_open_memory(const char *header, const char *layer_directories,
                          struct memory *ret_memory, struct failure *failure) {
  const char *directories[DIRECTORIES_MAX + 1];
  char *names = strdup(layer_directories);
  if (names == NULL) return -ENOMEM;
  int32_t result = split(names, directories);
  if (result == 0) result = memory_open(header, directories, ret_memory, failure);
  free(names);
  return result;
}

static int32_t write_and_sync(int fd, const uint8_t *bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t written = write(fd, bytes + done, size - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    done += (size_t)written;
  }
  return fsync(fd) < 0 ? -errno : 0;
}

int32_t pages_write_header(const struct memory_index *index, const char *path) {
  uint8_t *bytes;
  size_t size;
  int32_t result = memory_index_encode(index, &bytes, &size);
  if (result < 0) return result;
  AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    result = -errno;
  } else {
    result = write_and_sync(fd, bytes, size);
    if (result < 0) (void)unlink(path);
  }
  free(bytes);
  return result;
}

int32_t pages_sync_directory(const char *directory) {
  AUTO_FD fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}
