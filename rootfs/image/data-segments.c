/* Prints where a sparse file has data: one line "<offset> <length>" per segment, in bytes, by
 * SEEK_DATA and SEEK_HOLE (lseek(2)). Bun has no call for this. A file system without holes shows
 * one segment. Exit status 1 with a message if the file can't be read. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *path) {
  fprintf(stderr, "data-segments: %s: %s\n", path, strerror(errno));
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: data-segments <file>\n");
    return 1;
  }
  int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(argv[1]);
  off_t hole = 0;
  for (;;) {
    off_t data = lseek(fd, hole, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return 0; /* Nothing but a hole up to the end. */
    if (data < 0) return fail(argv[1]);
    hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return fail(argv[1]);
    printf("%" PRId64 " %" PRId64 "\n", (int64_t)data, (int64_t)(hole - data));
  }
}
