#include "uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

struct uffd_result uffd_classify(int returned, int error, int64_t written, uint64_t size) {
  if (returned == 0) return (struct uffd_result){.outcome = UFFD_DONE, .filled = size};
  switch (error) {
    case EAGAIN:
      if (written > 0 && (uint64_t)written < size) {
        return (struct uffd_result){.outcome = UFFD_PARTIAL, .filled = (uint64_t)written};
      }
      return (struct uffd_result){.outcome = UFFD_RETRY};
    case EEXIST:
      return (struct uffd_result){.outcome = UFFD_EXISTS};
    case ESRCH:
      return (struct uffd_result){.outcome = UFFD_EXITED};
    case ENOENT:
      return (struct uffd_result){.outcome = UFFD_UNMAPPED};
    default:
      return (struct uffd_result){.outcome = UFFD_FAILED, .error = error};
  }
}

struct uffd_result uffd_copy(int uffd, uint64_t address, const uint8_t *source, uint64_t size) {
  struct uffdio_copy request = {.dst = address, .src = (uintptr_t)source, .len = size};
  int returned = ioctl(uffd, UFFDIO_COPY, &request);
  return uffd_classify(returned, errno, request.copy, size);
}

struct uffd_result uffd_zero(int uffd, uint64_t address, uint64_t size) {
  struct uffdio_zeropage request = {.range = {.start = address, .len = size}};
  int returned = ioctl(uffd, UFFDIO_ZEROPAGE, &request);
  return uffd_classify(returned, errno, request.zeropage, size);
}

int32_t uffd_wake(int uffd, uint64_t address, uint64_t size) {
  struct uffdio_range range = {.start = address, .len = size};
  return ioctl(uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}
