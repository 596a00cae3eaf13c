/* Gives a userfaultfd to a pager, as Firecracker does. */
#ifndef WRENN_PRELOAD_HAND_OVER_H
#define WRENN_PRELOAD_HAND_OVER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Opens a userfaultfd that also sees the faults of system calls, by `device` (an open
 * /dev/userfaultfd, or -1 to open it, or else by the system call, which needs CAP_SYS_PTRACE), and
 * registers [address, address + size) for missing pages and for what is given back and, on
 * Linux 6.7 and later, for wrenn_pages_track. Returns the descriptor (close-on-exec) or -errno.
 */
int userfault_register(int device, void *address, size_t size);

/*
 * Registers memory of any kind for wrenn_pages_track only; any user may. Returns the descriptor
 * (close-on-exec), which is to stay open as long, or -errno: -EINVAL before Linux 6.7.
 */
int userfault_track(void *address, size_t size);

/*
 * Connects to the unix socket `path` and sends `uffd` and one region: `size` bytes at `address`
 * that hold the guest's memory from `offset` on. Blocks: until the pager accepts. Returns 0 or
 * -errno.
 */
int32_t hand_over(const char *path, int uffd, const void *address, size_t size, uint64_t offset);

#endif
