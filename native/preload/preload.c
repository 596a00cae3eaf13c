/*
 * Loaded into QEMU by LD_PRELOAD: changes how the file that holds the guest's memory is mapped.
 *
 * The command line keeps share=on, so that QEMU treats the block as shared and leaves it out of
 * its migration stream (x-ignore-shared), at the second pause as at the first. What is really
 * mapped is
 *   private  the file, copy-on-write: clones of one file share what they have not written;
 *   uffd     anonymous memory whose missing pages a pager brings.
 * In both the file is opened for reading only: a VMM that was taken over cannot change a template.
 *
 * Environment: WRENN_RAM_FILE (the path on the command line), WRENN_RAM_MODE (private, uffd), for
 * uffd WRENN_RAM_SOCKET (the pager's socket) and WRENN_USERFAULT_FD (an inherited
 * /dev/userfaultfd, for a user who may not open it). Without WRENN_RAM_FILE nothing changes. What
 * cannot be done fails the call, and so the VMM: the file is never mapped in another way than
 * asked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hand-over.h"

#define EXPORTED __attribute__((visibility("default")))

/*
 * The userfaultfd, open for as long as the VMM lives: when the last descriptor of one closes, the
 * kernel unregisters its ranges, and missing pages would read as zeros rather than wait.
 */
static int kept_uffd = -1;

static void *map_plainly(void *address, size_t size, int protection, int flags, int fd,
                         off_t offset) {
  return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

/* Not by name only: QEMU maps by descriptor. */
static bool is_ram_file(int fd) {
  const char *path = getenv("WRENN_RAM_FILE");
  struct stat wanted;
  struct stat given;
  return path != NULL && fd >= 0 && fstat(fd, &given) == 0 && S_ISREG(given.st_mode) &&
         stat(path, &wanted) == 0 && wanted.st_dev == given.st_dev && wanted.st_ino == given.st_ino;
}

static void *refuse(const char *what, int error) {
  (void)fprintf(stderr, "wrenn-preload: %s: %s\n", what, strerror(-error));
  errno = -error;
  return MAP_FAILED;
}

static int inherited_device(void) {
  const char *text = getenv("WRENN_USERFAULT_FD");
  if (text == NULL || *text == '\0') return -1;
  char *end;
  errno = 0;
  long fd = strtol(text, &end, 10);
  bool is_valid = errno == 0 && *end == '\0' && fd >= 0 && fcntl((int)fd, F_GETFD) >= 0;
  return is_valid ? (int)fd : -1;
}

static void *map_by_pager(void *address, size_t size, int protection, int flags, off_t offset) {
  const char *path = getenv("WRENN_RAM_SOCKET");
  if (path == NULL) return refuse("WRENN_RAM_SOCKET is not set", -EINVAL);
  if (kept_uffd >= 0) return refuse("the memory is mapped a second time", -EBUSY);
  int anonymous = (flags & MAP_FIXED) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *memory = map_plainly(address, size, protection, anonymous, -1, 0);
  if (memory == MAP_FAILED) return refuse("mmap", -errno);
  int uffd = userfault_register(inherited_device(), memory, size);
  int32_t result = uffd < 0 ? uffd : hand_over(path, uffd, memory, size, (uint64_t)offset);
  if (result == 0) {
    kept_uffd = uffd;
    return memory;
  }
  if (uffd >= 0) (void)close(uffd);
  (void)munmap(memory, size);
  return refuse(uffd < 0 ? "userfaultfd" : "the pager's socket", result);
}

static void *map_privately(void *address, size_t size, int protection, int flags, int fd,
                           off_t offset) {
  int private = (flags & ~(MAP_SHARED | MAP_SHARED_VALIDATE | MAP_SYNC)) | MAP_PRIVATE;
  void *memory = map_plainly(address, size, protection, private | MAP_NORESERVE, fd, offset);
  /* On an older kernel nothing is noted: a snapshot of the running guest stops it for longer. */
  if (memory != MAP_FAILED && kept_uffd < 0) kept_uffd = userfault_track(memory, size);
  return memory;
}

EXPORTED void *mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
  if ((flags & MAP_ANONYMOUS) != 0 || !is_ram_file(fd)) {
    return map_plainly(address, size, protection, flags, fd, offset);
  }
  const char *mode = getenv("WRENN_RAM_MODE");
  if (mode != NULL && strcmp(mode, "uffd") == 0) {
    return map_by_pager(address, size, protection, flags, offset);
  }
  if (mode == NULL || strcmp(mode, "private") != 0) {
    return refuse("WRENN_RAM_MODE is neither private nor uffd", -EINVAL);
  }
  return map_privately(address, size, protection, flags, fd, offset);
}

EXPORTED void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
  return mmap64(address, size, protection, flags, fd, offset);
}

static int open_plainly(const char *path, int flags, mode_t mode) {
  const char *ram = getenv("WRENN_RAM_FILE");
  if (ram != NULL && path != NULL && strcmp(ram, path) == 0) {
    flags = (flags & ~(O_ACCMODE | O_CREAT | O_TRUNC)) | O_RDONLY;
  }
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static bool needs_mode(int flags) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

EXPORTED int open64(const char *path, int flags, ...) {
  mode_t mode = 0;
  if (needs_mode(flags)) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return open_plainly(path, flags, mode);
}

EXPORTED int open(const char *path, int flags, ...) {
  mode_t mode = 0;
  if (needs_mode(flags)) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return open_plainly(path, flags, mode);
}

/* What glibc's headers turn open into under -D_FORTIFY_SOURCE, when there is no mode. */
EXPORTED int __open64_2(const char *path, int flags);
EXPORTED int __open_2(const char *path, int flags);

int __open64_2(const char *path, int flags) { return open_plainly(path, flags, 0); }

int __open_2(const char *path, int flags) { return open_plainly(path, flags, 0); }
