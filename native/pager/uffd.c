#include "uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

struct uffd_result uffd_classify(int result, int64_t written, uint64_t size) {
  if (result == 0) return (struct uffd_result){.outcome = UFFD_DONE, .filled = size};
  switch (result) {
    case -EAGAIN:
      if (written > 0 && (uint64_t)written < size) {
        return (struct uffd_result){.outcome = UFFD_PARTIAL, .filled = (uint64_t)written};
      }
      return (struct uffd_result){.outcome = UFFD_RETRY};
    case -EEXIST:
      return (struct uffd_result){.outcome = UFFD_EXISTS};
    case -ESRCH:
      return (struct uffd_result){.outcome = UFFD_EXITED};
    case -ENOENT:
      return (struct uffd_result){.outcome = UFFD_UNMAPPED};
    default:
      return (struct uffd_result){.outcome = UFFD_FAILED, .error = result};
  }
}

struct uffd_result uffd_copy(int uffd, uint64_t address, const uint8_t *source, uint64_t size) {
  struct uffdio_copy request = {.dst = address, .src = (uintptr_t)source, .len = size};
  int result = ioctl(uffd, UFFDIO_COPY, &request) < 0 ? -errno : 0;
  return uffd_classify(result, request.copy, size);
}

struct uffd_result uffd_zero(int uffd, uint64_t address, uint64_t size) {
  struct uffdio_zeropage request = {.range = {.start = address, .len = size}};
  int result = ioctl(uffd, UFFDIO_ZEROPAGE, &request) < 0 ? -errno : 0;
  return uffd_classify(result, request.zeropage, size);
}

int32_t uffd_wake(int uffd, uint64_t address, uint64_t size) {
  struct uffdio_range range = {.start = address, .len = size};
  return ioctl(uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}
