#include "page-list.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "little-endian.h"
#include "memory-index.h"

/* "WRENNPGS"; then version u32, zero u32, count u64; ranges of two u64; CRC-32C u32, zero u32. */
#define LIST_MAGIC UINT64_C(0x5347504e4e455257)
enum {
  LIST_VERSION = 1,
  LIST_VERSION_AT = 8,
  LIST_COUNT_AT = 16,
  LIST_HEAD_BYTES = 24,
  LIST_RANGE_BYTES = 16,
  LIST_TAIL_BYTES = 8,
};

int32_t page_list_append(struct page_list *list, uint64_t start, uint64_t length) {
  struct page_range *last = list->count > 0 ? &list->ranges[list->count - 1] : NULL;
  if (last != NULL && last->start + last->length == start) {
    last->length += length;
    list->bytes += length;
    return 0;
  }
  if (list->count == PAGE_LIST_RANGES_MAX) return -E2BIG;
  if (list->count == list->room) {
    size_t room = list->room == 0 ? 256 : list->room * 2;
    void *grown = realloc(list->ranges, room * sizeof *list->ranges);
    if (grown == NULL) return -ENOMEM;
    list->ranges = grown;
    list->room = room;
  }
  list->ranges[list->count++] = (struct page_range){.start = start, .length = length};
  list->bytes += length;
  return 0;
}

static int by_start(const void *a, const void *b) {
  const struct page_range *first = a;
  const struct page_range *second = b;
  return (first->start > second->start) - (first->start < second->start);
}

void page_list_sort(struct page_list *list) {
  if (list->count == 0) return;
  qsort(list->ranges, list->count, sizeof *list->ranges, by_start);
  size_t kept = 0;
  for (size_t i = 1; i < list->count; i++) {
    struct page_range *last = &list->ranges[kept];
    uint64_t last_end = last->start + last->length;
    uint64_t end = list->ranges[i].start + list->ranges[i].length;
    if (list->ranges[i].start > last_end) {
      list->ranges[++kept] = list->ranges[i];
    } else if (end > last_end) {
      last->length = end - last->start;
    }
  }
  list->count = kept + 1;
  list->bytes = 0;
  for (size_t i = 0; i < list->count; i++) list->bytes += list->ranges[i].length;
}

void page_list_free(struct page_list *list) {
  free(list->ranges);
  *list = (struct page_list){0};
}

static bool is_in_bounds(const struct page_range *range, uint64_t total_bytes) {
  return range->start % MEMORY_BLOCK_BYTES == 0 && range->length % MEMORY_BLOCK_BYTES == 0 &&
         range->length > 0 && range->start < total_bytes &&
         range->length <= total_bytes - range->start;
}

int32_t page_list_decode(const uint8_t *bytes, size_t size, uint64_t total_bytes,
                         struct page_list *ret_list, struct failure *failure) {
  if (size < LIST_HEAD_BYTES + LIST_TAIL_BYTES || get_u64(bytes) != LIST_MAGIC ||
      get_u32(bytes + LIST_VERSION_AT) != LIST_VERSION) {
    return fail(failure, -EBADMSG, "page list: not one of version %d", LIST_VERSION);
  }
  uint64_t count = get_u64(bytes + LIST_COUNT_AT);
  if (count > PAGE_LIST_RANGES_MAX ||
      size != LIST_HEAD_BYTES + count * LIST_RANGE_BYTES + LIST_TAIL_BYTES ||
      get_u32(bytes + size - LIST_TAIL_BYTES) != crc32c(0, bytes, size - LIST_TAIL_BYTES)) {
    return fail(failure, -EBADMSG, "page list: torn or changed");
  }
  struct page_list list = {0};
  for (uint64_t i = 0; i < count; i++) {
    const uint8_t *at = bytes + LIST_HEAD_BYTES + i * LIST_RANGE_BYTES;
    struct page_range range = {.start = get_u64(at), .length = get_u64(at + sizeof(uint64_t))};
    int32_t result = is_in_bounds(&range, total_bytes)
                         ? page_list_append(&list, range.start, range.length)
                         : -EBADMSG;
    if (result < 0) {
      page_list_free(&list);
      return fail(failure, result, "page list: range %" PRIu64 " is out of bounds", i);
    }
  }
  *ret_list = list;
  return 0;
}

static int32_t read_whole(int fd, size_t size_max, uint8_t **ret_bytes, size_t *ret_size) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size > size_max) return -EFBIG;
  size_t size = (size_t)status.st_size;
  uint8_t *bytes = malloc(size + 1);
  if (bytes == NULL) return -ENOMEM;
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(fd, bytes + done, size - done, (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      free(bytes);
      return got < 0 ? -errno : -EBADMSG;
    }
    done += (size_t)got;
  }
  *ret_bytes = bytes;
  *ret_size = size;
  return 0;
}

int32_t page_list_load(const char *path, uint64_t total_bytes, struct page_list *ret_list,
                       struct failure *failure) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(failure, -errno, "page list: cannot be opened: %m");
  uint8_t *bytes = NULL;
  size_t size = 0;
  size_t size_max = LIST_HEAD_BYTES + (size_t)PAGE_LIST_RANGES_MAX * LIST_RANGE_BYTES +
                    LIST_TAIL_BYTES;
  int32_t result = read_whole(fd, size_max, &bytes, &size);
  (void)close(fd);
  if (result < 0) return fail(failure, result, "page list: cannot be read (errno %d)", -result);
  result = page_list_decode(bytes, size, total_bytes, ret_list, failure);
  free(bytes);
  return result;
}

static uint8_t *encode(const struct page_list *list, size_t *ret_size) {
  size_t size = LIST_HEAD_BYTES + list->count * LIST_RANGE_BYTES + LIST_TAIL_BYTES;
  uint8_t *bytes = calloc(1, size);
  if (bytes == NULL) return NULL;
  put_u64(bytes, LIST_MAGIC);
  put_u32(bytes + LIST_VERSION_AT, LIST_VERSION);
  put_u64(bytes + LIST_COUNT_AT, list->count);
  for (size_t i = 0; i < list->count; i++) {
    uint8_t *at = bytes + LIST_HEAD_BYTES + i * LIST_RANGE_BYTES;
    put_u64(at, list->ranges[i].start);
    put_u64(at + sizeof(uint64_t), list->ranges[i].length);
  }
  put_u32(bytes + size - LIST_TAIL_BYTES, crc32c(0, bytes, size - LIST_TAIL_BYTES));
  *ret_size = size;
  return bytes;
}

static int32_t write_whole(int fd, const uint8_t *bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t written = write(fd, bytes + done, size - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    done += (size_t)written;
  }
  return fsync(fd) < 0 ? -errno : 0;
}

int32_t page_list_save(const struct page_list *list, int directory, const char *name) {
  char aside[256];
  int length = snprintf(aside, sizeof aside, "%s.tmp", name);
  if (length < 0 || (size_t)length >= sizeof aside) return -ENAMETOOLONG;
  size_t size;
  uint8_t *bytes = encode(list, &size);
  if (bytes == NULL) return -ENOMEM;
  int fd = openat(directory, aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  int32_t result = fd < 0 ? -errno : write_whole(fd, bytes, size);
  if (fd >= 0) (void)close(fd);
  free(bytes);
  if (result == 0 && renameat(directory, aside, directory, name) < 0) result = -errno;
  if (result == 0 && fsync(directory) < 0) result = -errno;
  if (result < 0) (void)unlinkat(directory, aside, 0);
  return result;
}
