/*
 * A file of page ranges in the order in which they were noted: the working set of a resume, or the
 * ranges that a guest gave back. Written aside and renamed, with a checksum at its end.
 */
#ifndef WRENN_PAGES_PAGE_LIST_H
#define WRENN_PAGES_PAGE_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

/* 16 MiB of list; a working set of a million separate ranges is no longer worth prefetching. */
enum { PAGE_LIST_RANGES_MAX = 1024 * 1024 };

struct page_range {
  uint64_t start; /* bytes from the start of the guest's memory; multiples of a block */
  uint64_t length;
};

struct page_list {
  struct page_range *ranges; /* owned */
  size_t count;
  size_t room;
  uint64_t bytes; /* sum of the lengths */
};

/* Joins the range to the last one if it goes on there. -ENOMEM; -E2BIG: the list is full. */
int32_t page_list_append(struct page_list *list, uint64_t start, uint64_t length);

/* Sorts by start and joins ranges that touch or overlap. */
void page_list_sort(struct page_list *list);

void page_list_free(struct page_list *list);

/*
 * -EBADMSG: torn, changed, or a range leaves [0, total_bytes); -ENOMEM. The caller frees ret_list.
 */
int32_t page_list_decode(const uint8_t *bytes, size_t size, uint64_t total_bytes,
                         struct page_list *ret_list, struct failure *failure);

/* Reads a whole file. Errors of page_list_decode, -errno (-ENOENT: there is none yet). */
int32_t page_list_load(const char *path, uint64_t total_bytes, struct page_list *ret_list,
                       struct failure *failure);

/*
 * Writes `name` in `directory` by way of `name`.tmp, synced before it is renamed. Blocks: for the
 * disk. -errno: an earlier file of that name is still whole.
 */
int32_t page_list_save(const struct page_list *list, int directory, const char *name);

#endif
