#include "server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "uffd.h"

static bool has_bit(const uint8_t *bits, uint64_t offset) {
  uint64_t page = offset / MEMORY_BLOCK_BYTES;
  return (bits[page / 8] >> (page % 8) & 1) != 0;
}

static void set_bit(uint8_t *bits, uint64_t offset) {
  uint64_t page = offset / MEMORY_BLOCK_BYTES;
  bits[page / 8] |= (uint8_t)(1u << (page % 8));
}

int32_t server_prepare(struct server *server, uint64_t window_bytes) {
  size_t bitmap = server->memory.index.total_bytes / MEMORY_BLOCK_BYTES / 8 + 1;
  server->window_bytes = window_bytes;
  server->window_now = window_bytes;
  server->last_run_end = UINT64_MAX;
  server->populated = calloc(1, bitmap);
  server->removed = calloc(1, bitmap);
  server->staging = aligned_alloc(MEMORY_BLOCK_BYTES, PREFETCH_STEP_BYTES);
  if (server->populated == NULL || server->removed == NULL || server->staging == NULL) {
    return fail(&server->failure, -ENOMEM, "no memory for the bitmaps of the guest");
  }
  return 0;
}

void server_free(struct server *server) {
  memory_close(&server->memory);
  if (server->uffd >= 0) (void)close(server->uffd);
  free(server->populated);
  free(server->removed);
  free(server->staging);
  page_list_free(&server->prefetch);
  page_list_free(&server->touched);
}

/* Fills [offset, offset + size) from `source`, or with zeros; notes each page it finds there. */
static int32_t place(struct server *server, const struct region *region, uint64_t offset,
                     const uint8_t *source, uint64_t size) {
  while (size > 0) {
    uint64_t address = region->address + (offset - region->offset);
    struct uffd_result result = source != NULL ? uffd_copy(server->uffd, address, source, size)
                                               : uffd_zero(server->uffd, address, size);
    uint64_t step = result.filled;
    switch (result.outcome) {
      case UFFD_DONE:
      case UFFD_PARTIAL:
        *(source != NULL ? &server->stats.pages_copied
                         : &server->stats.pages_zeroed) += step / MEMORY_BLOCK_BYTES;
        break;
      case UFFD_EXISTS:
        step = MEMORY_BLOCK_BYTES;
        server->stats.pages_existing++;
        (void)uffd_wake(server->uffd, address, step);
        break;
      case UFFD_RETRY:
        server->stats.retries++;
        return -EAGAIN;
      case UFFD_EXITED:
        return -ESRCH;
      case UFFD_UNMAPPED:
        return fail(&server->failure, -ENOENT,
                    "the VMM's memory at offset %" PRIu64 " is not registered", offset);
      case UFFD_FAILED:
        return fail(&server->failure, result.error, "cannot fill offset %" PRIu64 " (errno %d)",
                    offset, -result.error);
    }
    for (uint64_t at = 0; at < step; at += MEMORY_BLOCK_BYTES) {
      set_bit(server->populated, offset + at);
    }
    if (source != NULL) source += step;
    offset += step;
    size -= step;
  }
  return 0;
}

static int32_t fill_run(struct server *server, const struct region *region, uint64_t offset,
                        uint64_t end, bool is_data) {
  if (!is_data) return place(server, region, offset, NULL, end - offset);
  while (offset < end) {
    uint64_t size = end - offset < PREFETCH_STEP_BYTES ? end - offset : PREFETCH_STEP_BYTES;
    int32_t result = memory_read(&server->memory, offset, server->staging, size, &server->failure);
    if (result == 0) result = place(server, region, offset, server->staging, size);
    if (result < 0) return result;
    offset += size;
  }
  return 0;
}

/* The end of the run of missing pages at `offset` that are filled in one way, up to `end`. */
static uint64_t run_end(const struct server *server, uint64_t offset, uint64_t end,
                        bool *ret_is_data) {
  bool is_removed = has_bit(server->removed, offset);
  bool is_data;
  uint64_t limit = memory_run(&server->memory, offset, end, &is_data);
  *ret_is_data = is_data && !is_removed;
  uint64_t at = offset + MEMORY_BLOCK_BYTES;
  while (at < limit && !has_bit(server->populated, at) &&
         has_bit(server->removed, at) == is_removed) {
    at += MEMORY_BLOCK_BYTES;
  }
  return at;
}

/*
 * A page that was filled once faults again: either a second thread's fault on it was already
 * queued, or it was discarded without an event, after which it reads as zeros.
 */
static int32_t serve_again(struct server *server, const struct region *region, uint64_t offset) {
  uint64_t existing = server->stats.pages_existing;
  int32_t result = place(server, region, offset, NULL, MEMORY_BLOCK_BYTES);
  if (result < 0) return result;
  if (server->stats.pages_existing > existing) {
    server->stats.faults_repeated++;
  } else {
    server->stats.pages_discarded++;
    set_bit(server->removed, offset);
  }
  return 0;
}

static void choose_window(struct server *server, uint64_t offset) {
  bool goes_on = offset == server->last_run_end;
  uint64_t doubled = server->window_now * 2;
  if (!goes_on) {
    server->window_now = server->window_bytes;
  } else if (doubled <= FAULT_WINDOW_BYTES_MAX) {
    server->window_now = doubled;
  }
}

/*
 * Narrows [*start, *end) to the run of missing pages around `offset`, which is missing, that are
 * filled in one way. Returns whether that is data.
 */
static bool find_run(const struct server *server, uint64_t offset, uint64_t *start, uint64_t *end) {
  uint64_t at = *start;
  for (;;) {
    bool is_data = false;
    uint64_t next = has_bit(server->populated, at) ? at + MEMORY_BLOCK_BYTES
                                                   : run_end(server, at, *end, &is_data);
    if (next > offset) {
      *start = at;
      *end = next;
      return is_data;
    }
    at = next;
  }
}

/* Fills the run around the fault, within a window that is aligned to its smallest size. */
static int32_t serve_fault(struct server *server, uint64_t address) {
  const struct region *region = regions_find_address(&server->regions, address);
  if (region == NULL) {
    return fail(&server->failure, -EPROTO, "a fault outside of the regions");
  }
  uint64_t offset = region->offset + (address - region->address);
  offset -= offset % MEMORY_BLOCK_BYTES;
  if (has_bit(server->populated, offset)) return serve_again(server, region, offset);
  choose_window(server, offset);
  uint64_t region_end = region->offset + region->size;
  uint64_t start = offset - offset % server->window_bytes;
  uint64_t end = start + server->window_now;
  if (start < region->offset) start = region->offset;
  if (end > region_end) end = region_end;
  bool is_data = find_run(server, offset, &start, &end);
  int32_t result = fill_run(server, region, start, end, is_data);
  if (result < 0) return result;
  server->stats.faults++;
  server->last_run_end = end;
  /* A list that is full, or for which there is no memory, still holds what came first. */
  if (server->is_recording && server->touched.bytes < WORKING_SET_BYTES_MAX) {
    (void)page_list_append(&server->touched, start, end - start);
  }
  return 0;
}

int32_t server_serve(struct server *server) {
  size_t kept = 0;
  int32_t result = 0;
  for (size_t i = 0; i < server->waiting_count; i++) {
    struct waiting_fault *fault = &server->waiting[i];
    int32_t status = serve_fault(server, fault->address);
    if (status == 0) {
      stats_note_latency(&server->stats, monotonic_ns() - fault->since_ns);
      continue;
    }
    if (status != -EAGAIN) return status;
    server->waiting[kept++] = *fault;
    result = -EAGAIN;
  }
  server->waiting_count = kept;
  return result;
}

int32_t server_check_regions(struct server *server) {
  for (size_t i = 0; i < server->regions.count; i++) {
    const struct region *region = &server->regions.list[i];
    uint64_t ends[] = {region->offset, region->offset + region->size - MEMORY_BLOCK_BYTES};
    for (size_t end = 0; end < sizeof ends / sizeof *ends; end++) {
      if (has_bit(server->populated, ends[end])) continue;
      bool is_data;
      uint64_t next = ends[end] + MEMORY_BLOCK_BYTES;
      (void)run_end(server, ends[end], next, &is_data);
      int32_t result = fill_run(server, region, ends[end], next, is_data);
      if (result < 0 && result != -EAGAIN) return result;
    }
  }
  return 0;
}

int32_t server_prefetch(struct server *server) {
  if (server->prefetch_next == server->prefetch.count) return 0;
  struct page_range *range = &server->prefetch.ranges[server->prefetch_next];
  uint64_t at = range->start + server->prefetch_done;
  uint64_t end = range->start + range->length;
  if (end - at > PREFETCH_STEP_BYTES) end = at + PREFETCH_STEP_BYTES;
  const struct region *region = regions_find_offset(&server->regions, at);
  uint64_t region_end = region == NULL ? at : region->offset + region->size;
  if (end > region_end && region != NULL) end = region_end;
  while (region != NULL && at < end) {
    bool is_data;
    uint64_t next = at + MEMORY_BLOCK_BYTES;
    if (!has_bit(server->populated, at)) {
      next = run_end(server, at, end, &is_data);
      int32_t result = fill_run(server, region, at, next, is_data);
      if (result < 0) return result;
      server->stats.pages_prefetched += (next - at) / MEMORY_BLOCK_BYTES;
      server->prefetched_bytes += next - at;
    }
    at = next;
  }
  /* A list made for other regions: what lies in none of these is skipped, a page at a time. */
  if (region == NULL) end = at + MEMORY_BLOCK_BYTES;
  server->prefetch_done = end - range->start;
  if (server->prefetch_done == range->length) {
    server->prefetch_next++;
    server->prefetch_done = 0;
  }
  return server->prefetch_next < server->prefetch.count ? 1 : 0;
}

static int32_t append_all(struct page_list *list, const struct page_list *ranges) {
  for (size_t i = 0; i < ranges->count; i++) {
    int32_t result = page_list_append(list, ranges->ranges[i].start, ranges->ranges[i].length);
    if (result < 0 && result != -E2BIG) return result;
  }
  return 0;
}

int32_t server_working_set(const struct server *server, struct page_list *ret_list) {
  struct page_list list = {0};
  uint64_t bytes = server->prefetch.bytes + server->touched.bytes;
  int32_t result = 0;
  if (bytes <= WORKING_SET_BYTES_MAX) result = append_all(&list, &server->prefetch);
  if (result == 0) result = append_all(&list, &server->touched);
  if (result == 0) {
    *ret_list = list;
  } else {
    page_list_free(&list);
  }
  return result;
}

int32_t server_removed(const struct server *server, struct page_list *ret_list) {
  struct page_list list = {0};
  uint64_t total = server->memory.index.total_bytes;
  for (uint64_t at = 0; at < total; at += MEMORY_BLOCK_BYTES) {
    if (!has_bit(server->removed, at)) continue;
    int32_t result = page_list_append(&list, at, MEMORY_BLOCK_BYTES);
    if (result < 0) {
      page_list_free(&list);
      return result;
    }
  }
  *ret_list = list;
  return 0;
}
