/* userfaultfd: the ioctls that fill pages, apart from the decision what their result means. */
#ifndef WRENN_PAGER_UFFD_H
#define WRENN_PAGER_UFFD_H

#include <stddef.h>
#include <stdint.h>

enum uffd_outcome {
  UFFD_DONE,     /* all of it */
  UFFD_PARTIAL,  /* `filled` bytes from the start, then something came in between: go on there */
  UFFD_EXISTS,   /* the first page is there already: wake who waits for it, go on behind it */
  UFFD_RETRY,    /* the address space is changing: read the events that wait, then try again */
  UFFD_EXITED,   /* the VMM has no address space any more */
  UFFD_UNMAPPED, /* the range is not registered with this userfaultfd (any more) */
  UFFD_FAILED,
};

struct uffd_result {
  enum uffd_outcome outcome;
  uint64_t filled;
  int error; /* -errno, for FAILED */
};

/*
 * Says what UFFDIO_COPY or UFFDIO_ZEROPAGE meant, from its result (0 or -errno) and the field that
 * the kernel wrote (set to 0 before the call), see ioctl_userfaultfd(2).
 */
struct uffd_result uffd_classify(int result, int64_t written, uint64_t size);

/* Copies `size` bytes to `address` and wakes who waits there. */
struct uffd_result uffd_copy(int uffd, uint64_t address, const uint8_t *source, uint64_t size);

/* Maps the zero page into a range and wakes who waits there. */
struct uffd_result uffd_zero(int uffd, uint64_t address, uint64_t size);

/* Wakes who waits in a range. Returns 0 or -errno. */
int32_t uffd_wake(int uffd, uint64_t address, uint64_t size);

#endif
