/* Pages of memory, as the functions of libwrenn that save a guest's memory see them. */
#ifndef WRENN_PAGES_H
#define WRENN_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether `size` bytes (a multiple of 256) are zero; stops at the first 256 that are not. */
bool pages_are_zero(const uint8_t *bytes, size_t size);

/* Whether two ranges of that kind are equal; stops in the same way. */
bool pages_are_equal(const uint8_t *a, const uint8_t *b, size_t size);

/* The baseline of the two above, for machines without AVX2 and to test them. */
bool pages_are_zero_sse2(const uint8_t *bytes, size_t size);
bool pages_are_equal_sse2(const uint8_t *a, const uint8_t *b, size_t size);

/*
 * The pages of [start, end) of a process that are its own: written since they were mapped from a
 * file, or anonymous. Calls `each` with runs in ascending order until it returns other than 0,
 * which is then the result. `pagemap` is an open /proc/<pid>/pagemap. -errno; -ESRCH: the process
 * ended.
 */
typedef int32_t pages_each(void *context, uint64_t start, uint64_t end);
int32_t pages_private(int pagemap, uint64_t start, uint64_t end, pages_each *each, void *context);

/* The same by reading the entries one by one, as kernels before 6.7 need it. */
int32_t pages_private_by_entry(int pagemap, uint64_t start, uint64_t end, pages_each *each,
                               void *context);

/*
 * Those of its own that were written, or came to be there, since wrenn_pages_track. -EPERM: the
 * memory is not registered for it; -ENOTTY, -EINVAL: the kernel is older than 6.7.
 */
int32_t pages_written(int pagemap, uint64_t start, uint64_t end, pages_each *each, void *context);

#endif
