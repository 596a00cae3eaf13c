#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "descriptor.h"
#include "wrenn.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { PAGE_BYTES = 4096, STRIDE_BYTES = 256, ENTRIES_PER_READ = 4096, REGIONS_PER_SCAN = 512 };

#if defined(__x86_64__)

bool pages_are_zero_sse2(const uint8_t *bytes, size_t size) {
  const __m128i zero = _mm_setzero_si128();
  for (size_t at = 0; at < size; at += STRIDE_BYTES) {
    const __m128i *lane = (const __m128i *)(const void *)(bytes + at);
    __m128i seen = zero;
    for (size_t i = 0; i < STRIDE_BYTES / sizeof *lane; i++) {
      seen = _mm_or_si128(seen, _mm_loadu_si128(lane + i));
    }
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(seen, zero)) != 0xffff) return false;
  }
  return true;
}

bool pages_are_equal_sse2(const uint8_t *a, const uint8_t *b, size_t size) {
  const __m128i zero = _mm_setzero_si128();
  for (size_t at = 0; at < size; at += STRIDE_BYTES) {
    const __m128i *left = (const __m128i *)(const void *)(a + at);
    const __m128i *right = (const __m128i *)(const void *)(b + at);
    __m128i seen = zero;
    for (size_t i = 0; i < STRIDE_BYTES / sizeof *left; i++) {
      __m128i differs = _mm_xor_si128(_mm_loadu_si128(left + i), _mm_loadu_si128(right + i));
      seen = _mm_or_si128(seen, differs);
    }
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(seen, zero)) != 0xffff) return false;
  }
  return true;
}

__attribute__((target("avx2"))) static bool are_zero_avx2(const uint8_t *bytes, size_t size) {
  for (size_t at = 0; at < size; at += STRIDE_BYTES) {
    const __m256i *lane = (const __m256i *)(const void *)(bytes + at);
    __m256i seen = _mm256_setzero_si256();
    for (size_t i = 0; i < STRIDE_BYTES / sizeof *lane; i++) {
      seen = _mm256_or_si256(seen, _mm256_loadu_si256(lane + i));
    }
    if (!_mm256_testz_si256(seen, seen)) return false;
  }
  return true;
}

__attribute__((target("avx2"))) static bool are_equal_avx2(const uint8_t *a, const uint8_t *b,
                                                           size_t size) {
  for (size_t at = 0; at < size; at += STRIDE_BYTES) {
    const __m256i *left = (const __m256i *)(const void *)(a + at);
    const __m256i *right = (const __m256i *)(const void *)(b + at);
    __m256i seen = _mm256_setzero_si256();
    for (size_t i = 0; i < STRIDE_BYTES / sizeof *left; i++) {
      __m256i one = _mm256_loadu_si256(left + i);
      __m256i differs = _mm256_xor_si256(one, _mm256_loadu_si256(right + i));
      seen = _mm256_or_si256(seen, differs);
    }
    if (!_mm256_testz_si256(seen, seen)) return false;
  }
  return true;
}

bool pages_are_zero(const uint8_t *bytes, size_t size) {
  return __builtin_cpu_supports("avx2") ? are_zero_avx2(bytes, size)
                                        : pages_are_zero_sse2(bytes, size);
}

bool pages_are_equal(const uint8_t *a, const uint8_t *b, size_t size) {
  return __builtin_cpu_supports("avx2") ? are_equal_avx2(a, b, size)
                                        : pages_are_equal_sse2(a, b, size);
}

#else

bool pages_are_zero_sse2(const uint8_t *bytes, size_t size) {
  return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

bool pages_are_equal_sse2(const uint8_t *a, const uint8_t *b, size_t size) {
  return memcmp(a, b, size) == 0;
}

bool pages_are_zero(const uint8_t *bytes, size_t size) { return pages_are_zero_sse2(bytes, size); }

bool pages_are_equal(const uint8_t *a, const uint8_t *b, size_t size) {
  return pages_are_equal_sse2(a, b, size);
}

#endif

/* PAGEMAP_SCAN of linux/fs.h, which Debian 12's headers do not have yet. */
struct scan_region {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

struct scan_request {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t regions;
  uint64_t regions_length;
  uint64_t pages_max;
  uint64_t inverted;
  uint64_t all_of;
  uint64_t any_of;
  uint64_t returned;
};

#define SCAN_PAGEMAP _IOWR('f', 16, struct scan_request)
enum { IS_WRITTEN = 1 << 1, IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4 };
enum { PROTECT_MATCHING = 1 << 0, CHECK_TRACKED = 1 << 1 };

/* Calls `each` with runs of the pages that `wanted` describes. */
static int32_t scan(int pagemap, uint64_t start, uint64_t end, const struct scan_request *wanted,
                    pages_each *each, void *context) {
  struct scan_region regions[REGIONS_PER_SCAN];
  while (start < end) {
    struct scan_request request = *wanted;
    request.size = sizeof request;
    request.start = start;
    request.end = end;
    request.regions = (uintptr_t)regions;
    request.regions_length = REGIONS_PER_SCAN;
    int count = ioctl(pagemap, SCAN_PAGEMAP, &request);
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
      int32_t result = each(context, regions[i].start, regions[i].end);
      if (result != 0) return result;
    }
    if (request.walk_end <= start) return -ESRCH;
    start = request.walk_end;
  }
  return 0;
}

int32_t pages_private(int pagemap, uint64_t start, uint64_t end, pages_each *each, void *context) {
  const struct scan_request own = {.inverted = IS_FILE,
                                   .all_of = IS_FILE,
                                   .any_of = IS_PRESENT | IS_SWAPPED,
                                   .returned = IS_FILE};
  int32_t result = scan(pagemap, start, end, &own, each, context);
  if (result != -ENOTTY && result != -EINVAL) return result;
  return pages_private_by_entry(pagemap, start, end, each, context);
}

/*
 * Only of pages that are the process's own and there: one that comes later is unprotected, so it
 * counts as written. Those that are not would each get an entry in the page tables, for 1 GiB of
 * them 2 MiB.
 */
static const struct scan_request WRITTEN = {.flags = CHECK_TRACKED,
                                            .inverted = IS_FILE,
                                            .all_of = IS_WRITTEN | IS_FILE,
                                            .any_of = IS_PRESENT | IS_SWAPPED,
                                            .returned = IS_WRITTEN};

int32_t pages_written(int pagemap, uint64_t start, uint64_t end, pages_each *each, void *context) {
  return scan(pagemap, start, end, &WRITTEN, each, context);
}

static int32_t ignore(void *context, uint64_t start, uint64_t end) {
  (void)context, (void)start, (void)end;
  return 0;
}

int32_t wrenn_pages_track(int32_t pid, uint64_t address, uint64_t size) {
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/pagemap", pid);
  AUTO_FD pagemap = open(path, O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) return errno == ENOENT ? -ESRCH : -errno;
  struct scan_request protect = WRITTEN;
  protect.flags |= PROTECT_MATCHING;
  int32_t result = scan(pagemap, address, address + size, &protect, ignore, NULL);
  return result == -ENOTTY || result == -EINVAL || result == -EPERM ? -EOPNOTSUPP : result;
}

static const uint64_t ENTRY_PRESENT = UINT64_C(1) << 63;
static const uint64_t ENTRY_SWAPPED = UINT64_C(1) << 62;
static const uint64_t ENTRY_FILE = UINT64_C(1) << 61;

static bool is_private(uint64_t entry) {
  return (entry & (ENTRY_PRESENT | ENTRY_SWAPPED)) != 0 && (entry & ENTRY_FILE) == 0;
}

int32_t pages_private_by_entry(int pagemap, uint64_t start, uint64_t end, pages_each *each,
                               void *context) {
  uint64_t entries[ENTRIES_PER_READ];
  uint64_t run = end;
  for (uint64_t at = start; at < end;) {
    uint64_t want = (end - at) / PAGE_BYTES;
    if (want > ENTRIES_PER_READ) want = ENTRIES_PER_READ;
    off_t place = (off_t)(at / PAGE_BYTES * sizeof *entries);
    ssize_t got = pread(pagemap, entries, want * sizeof *entries, place);
    if (got < 0) return -errno;
    if (got < (ssize_t)sizeof *entries) return -ESRCH;
    for (size_t i = 0; i < (size_t)got / sizeof *entries; i++, at += PAGE_BYTES) {
      bool is_own = is_private(entries[i]);
      if (is_own && run == end) run = at;
      if (is_own || run == end) continue;
      int32_t result = each(context, run, at);
      if (result != 0) return result;
      run = end;
    }
  }
  return run < end ? each(context, run, end) : 0;
}

struct range_list {
  uint64_t *ranges;
  uint32_t capacity;
  uint32_t count;
};

static int32_t note_range(void *context, uint64_t start, uint64_t end) {
  struct range_list *list = context;
  if (list->count > 0 && list->ranges[2 * list->count - 1] == start) {
    list->ranges[2 * list->count - 1] = end;
    return 0;
  }
  if (list->count == list->capacity) return -ENOSPC;
  list->ranges[2 * list->count] = start;
  list->ranges[2 * list->count + 1] = end;
  list->count++;
  return 0;
}

int32_t wrenn_pages_private(int32_t pid, uint64_t address, uint64_t size, uint64_t *ret_ranges,
                            uint32_t capacity) {
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/pagemap", pid);
  AUTO_FD pagemap = open(path, O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) return errno == ENOENT ? -ESRCH : -errno;
  struct range_list list = {.ranges = ret_ranges, .capacity = capacity};
  int32_t result = pages_private(pagemap, address, address + size, note_range, &list);
  return result < 0 ? result : (int32_t)list.count;
}
