/* Reading small files, see small-file.h. */
#include "small-file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int read_small_file(const char *path, char *ret_text, size_t capacity) {
  ret_text[0] = '\0';
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  size_t used = 0;
  int result = 0;
  while (result == 0) {
    ssize_t got = read(fd, ret_text + used, capacity - used);
    if (got < 0) result = -errno;
    if (got <= 0) break;
    used += (size_t)got;
    if (used == capacity) result = -EFBIG;
  }
  close(fd);
  ret_text[result == 0 ? used : 0] = '\0';
  return result == 0 ? (int)used : result;
}
