/*
 * What a VMM says when it hands over its userfaultfd: which addresses of it hold which part of the
 * guest's memory. The message is Firecracker's
 * (docs/snapshotting/handling-page-faults-on-snapshot-resume.md there): a JSON array, with the
 * descriptor as SCM_RIGHTS; our preload shim sends the same.
 */
#ifndef WRENN_PAGER_REGIONS_H
#define WRENN_PAGER_REGIONS_H

#include <stddef.h>
#include <stdint.h>

#include "pages/failure.h"

enum {
  REGIONS_MAX = 16,
  REGIONS_MESSAGE_BYTES_MAX = 8 * 1024,
};

struct region {
  uint64_t address; /* in the VMM's address space */
  uint64_t size;
  uint64_t offset; /* in the guest's memory file */
};

struct regions {
  struct region list[REGIONS_MAX]; /* sorted by address, disjoint in addresses and in offsets */
  size_t count;
};

/*
 * Reads the message, trusting nothing in it. Unknown fields with a scalar value are ignored.
 * `total_bytes` is the size of the memory that the regions must lie in. -EBADMSG with the reason;
 * -EOPNOTSUPP: pages of another size than 4 KiB.
 */
int32_t regions_parse(const char *text, size_t size, uint64_t total_bytes,
                      struct regions *ret_regions, struct failure *failure);

/*
 * Receives the message and the descriptor from a connected stream socket. Blocks: up to
 * `timeout_ms`. The caller owns ret_uffd. -ETIMEDOUT; -EBADMSG: no or several descriptors, or a bad
 * message; -ECONNRESET: closed before it was whole.
 */
int32_t regions_receive(int socket, int timeout_ms, uint64_t total_bytes,
                        struct regions *ret_regions, int *ret_uffd, struct failure *failure);

/* The region that holds `address`, or NULL. */
const struct region *regions_find_address(const struct regions *regions, uint64_t address);

/* The region that holds `offset`, or NULL. */
const struct region *regions_find_offset(const struct regions *regions, uint64_t offset);

#endif
