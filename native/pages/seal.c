/*
 * Saves a guest's memory as a layer and the header of a generation. What a page became decides:
 * equal to the parent's, it is not stored; zeros are noted; the rest is copied, with its checksum.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "descriptor.h"
#include "layer.h"
#include "memory.h"
#include "page-list.h"
#include "pages.h"
#include "target.h"
#include "wrenn.h"

/* One read of the source and of the parent at a time; both fit the second-level cache's reach. */
enum { STEP_BYTES = 1024 * 1024, PAGE_BYTES = MEMORY_BLOCK_BYTES };

struct seal {
  int source; /* a file, or -1: the process */
  int32_t pid;
  struct piece {
    uint64_t offset, size, address;
  } pieces[2], *piece; /* of the process's memory, and the one that is looked at */
  bool is_tracked;     /* only what was written since is looked at */
  bool has_parent;
  struct memory parent;
  struct page_list removed;
  size_t removed_next;
  struct layer_writer writer;
  struct memory_index difference;
  uint64_t capacity;
  uint64_t done; /* everything below is in `difference` */
  uint8_t *pages;
  uint8_t *parents;
  uint64_t *counts; /* enum wrenn_pages_count */
  struct failure failure;
};

static int32_t note(struct seal *seal, uint32_t kind, uint64_t length, uint64_t storage) {
  struct memory_mapping mapping = {
      .offset = seal->done, .length = length, .kind = kind, .storage = storage};
  int32_t result = memory_index_append(&seal->difference, &seal->capacity, &mapping);
  if (result < 0) return fail(&seal->failure, result, "the index grew out of bounds");
  seal->done += length;
  return 0;
}

/* Up to `end` the source says nothing: as the parent has it, but for what the guest gave back. */
static int32_t pass_over(struct seal *seal, uint64_t end) {
  while (seal->done < end) {
    while (seal->removed_next < seal->removed.count) {
      const struct page_range *past = &seal->removed.ranges[seal->removed_next];
      if (past->start + past->length > seal->done) break;
      seal->removed_next++;
    }
    bool has_range = seal->removed_next < seal->removed.count;
    const struct page_range *range = has_range ? &seal->removed.ranges[seal->removed_next] : NULL;
    bool is_removed = has_range && range->start <= seal->done;
    uint64_t until = end;
    if (is_removed && range->start + range->length < end) until = range->start + range->length;
    if (has_range && !is_removed && range->start < end) until = range->start;
    if (is_removed) seal->counts[WRENN_PAGES_ZERO] += until - seal->done;
    int32_t result = note(seal, is_removed ? MEMORY_ZERO : MEMORY_HOLE, until - seal->done, 0);
    if (result < 0) return result;
  }
  return 0;
}

/* A file is the whole of a guest's memory: where it has a hole, the parent's data is gone. */
static int32_t pass_hole(struct seal *seal, uint64_t end) {
  while (seal->has_parent && seal->done < end) {
    bool is_data;
    uint64_t until = memory_run(&seal->parent, seal->done, end, &is_data);
    int32_t result = note(seal, is_data ? MEMORY_ZERO : MEMORY_HOLE, until - seal->done, 0);
    if (result < 0) return result;
  }
  return seal->done < end ? note(seal, MEMORY_HOLE, end - seal->done, 0) : 0;
}

static uint32_t kind_of(const struct seal *seal, size_t at) {
  const uint8_t *page = seal->pages + at;
  if (seal->has_parent && pages_are_equal(page, seal->parents + at, PAGE_BYTES)) return MEMORY_HOLE;
  return pages_are_zero(page, PAGE_BYTES) ? MEMORY_ZERO : MEMORY_DATA;
}

static int32_t sort_step(struct seal *seal, size_t size) {
  static const int COUNT_OF[] = {[MEMORY_HOLE] = WRENN_PAGES_UNCHANGED,
                                 [MEMORY_ZERO] = WRENN_PAGES_ZERO,
                                 [MEMORY_DATA] = WRENN_PAGES_DATA};
  for (size_t at = 0; at < size;) {
    uint32_t kind = kind_of(seal, at);
    size_t end = at + PAGE_BYTES;
    while (end < size && kind_of(seal, end) == kind) end += PAGE_BYTES;
    uint64_t storage = kind == MEMORY_DATA ? seal->writer.data_bytes : 0;
    int32_t result = 0;
    if (kind == MEMORY_DATA) {
      result = layer_writer_append(&seal->writer, seal->pages + at, end - at);
      if (result < 0) return fail(&seal->failure, result, "the layer cannot be written");
    }
    result = note(seal, kind, end - at, storage);
    if (result < 0) return result;
    seal->counts[COUNT_OF[kind]] += end - at;
    at = end;
  }
  return 0;
}

static int32_t read_source(struct seal *seal, uint64_t offset, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t got;
    if (seal->source >= 0) {
      got = pread(seal->source, seal->pages + done, size - done, (off_t)(offset + done));
    } else {
      struct iovec to = {.iov_base = seal->pages + done, .iov_len = size - done};
      uint64_t address = seal->piece->address + (offset - seal->piece->offset) + done;
      struct iovec from = {.iov_base = (void *)(uintptr_t)address, .iov_len = size - done};
      got = process_vm_readv(seal->pid, &to, 1, &from, 1, 0);
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(&seal->failure, -errno, "the guest's memory: %m");
    if (got == 0) return fail(&seal->failure, -EIO, "the guest's memory ends early");
    done += (size_t)got;
  }
  return 0;
}

/* The pages of [start, end) are to be looked at. */
static int32_t save_range(struct seal *seal, uint64_t start, uint64_t end) {
  while (start < end) {
    size_t size = end - start < STEP_BYTES ? (size_t)(end - start) : STEP_BYTES;
    int32_t result = read_source(seal, start, size);
    if (result == 0 && seal->has_parent) {
      result = memory_read(&seal->parent, start, seal->parents, size, &seal->failure);
    }
    if (result == 0) result = sort_step(seal, size);
    if (result < 0) return result;
    seal->counts[WRENN_PAGES_READ] += size;
    start += size;
  }
  return 0;
}

static int32_t save_run(void *context, uint64_t start, uint64_t end) {
  struct seal *seal = context;
  uint64_t offset = start - seal->piece->address + seal->piece->offset;
  int32_t result = pass_over(seal, offset);
  return result < 0 ? result : save_range(seal, offset, offset + (end - start));
}

static int32_t save_process(struct seal *seal) {
  char path[64];
  uint64_t total = seal->difference.total_bytes;
  (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/pagemap", seal->pid);
  AUTO_FD pagemap = open(path, O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) return fail(&seal->failure, -errno, "pagemap: %m");
  int32_t result = 0;
  for (size_t i = 0; result == 0 && i < 2; i++) {
    seal->piece = &seal->pieces[i];
    uint64_t start = seal->piece->address;
    uint64_t end = start + seal->piece->size;
    if (start == end) continue;
    result = seal->is_tracked ? pages_written(pagemap, start, end, save_run, seal)
                              : pages_private(pagemap, start, end, save_run, seal);
  }
  if (result < 0 && seal->failure.text[0] == '\0') {
    return fail(&seal->failure, result, "the process's pages cannot be listed");
  }
  return result < 0 ? result : pass_over(seal, total);
}

static int32_t save_file(struct seal *seal) {
  uint64_t total = seal->difference.total_bytes;
  while (seal->done < total) {
    off_t data = lseek(seal->source, (off_t)seal->done, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return fail(&seal->failure, -errno, "SEEK_DATA: %m");
    if (data < 0 || (uint64_t)data >= total) return pass_hole(seal, total);
    off_t hole = lseek(seal->source, data, SEEK_HOLE);
    if (hole < 0) return fail(&seal->failure, -errno, "SEEK_HOLE: %m");
    uint64_t start = (uint64_t)data / PAGE_BYTES * PAGE_BYTES;
    uint64_t end = ((uint64_t)hole + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (end > total) end = total;
    int32_t result = pass_hole(seal, start);
    if (result == 0) result = save_range(seal, start, end);
    if (result < 0) return result;
  }
  return 0;
}

static int32_t write_header(struct seal *seal, const char *path) {
  struct memory_mapping whole = {.length = seal->difference.total_bytes, .kind = MEMORY_HOLE};
  /* The generation after it is 0. */
  struct memory_index nothing = {.total_bytes = whole.length,
                                 .generation = UINT64_MAX,
                                 .mapping_count = 1,
                                 .mappings = &whole};
  struct memory_index index;
  int32_t result = memory_index_overlay(seal->has_parent ? &seal->parent.index : &nothing,
                                        &seal->difference, &index);
  if (result < 0) return fail(&seal->failure, result, "too many generations: merge first");
  result = memory_index_check(&index, &seal->failure);
  if (result == 0) {
    result = pages_write_header(&index, path);
    if (result < 0) (void)fail(&seal->failure, result, "the header cannot be written");
  }
  memory_index_free(&index);
  return result;
}

static int32_t save(struct seal *seal, const char *layer_path, const char *header_path,
                    const uint8_t *id) {
  AUTO_FD layer = open(layer_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (layer < 0) return fail(&seal->failure, -errno, "the layer cannot be made: %m");
  int32_t result = layer_writer_start(&seal->writer, layer);
  if (result == 0) result = seal->source >= 0 ? save_file(seal) : save_process(seal);
  if (result == 0) {
    seal->difference.layer_count = 1;
    result = layer_writer_finish(&seal->writer, id, &seal->difference.layers[0]);
    if (result < 0) (void)fail(&seal->failure, result, "the layer cannot be written");
  } else {
    layer_writer_abandon(&seal->writer);
  }
  if (result == 0) result = write_header(seal, header_path);
  bool is_named = seal->difference.layers[0].data_bytes > 0;
  if (result < 0 || !is_named) (void)unlink(layer_path);
  return result;
}

static int32_t open_parent(struct seal *seal, const struct wrenn_pages_target *target) {
  if (target->parent_header == NULL || *target->parent_header == '\0') return 0;
  int32_t result = pages_open_memory(target->parent_header, target->layer_directories,
                                     &seal->parent, &seal->failure);
  if (result < 0) return result;
  seal->has_parent = true;
  memcpy(seal->difference.base_id, seal->parent.index.id, MEMORY_ID_BYTES);
  if (seal->parent.index.total_bytes == seal->difference.total_bytes) return 0;
  return fail(&seal->failure, -EINVAL, "the parent's memory has another size");
}

static int32_t seal_to(struct seal *seal, const struct wrenn_pages_target *target) {
  struct pages_paths paths;
  int32_t result = pages_paths_of(target, &paths);
  if (result == 0) result = open_parent(seal, target);
  if (result < 0) return result;
  seal->pages = aligned_alloc(PAGE_BYTES, STEP_BYTES);
  seal->parents = aligned_alloc(PAGE_BYTES, STEP_BYTES);
  if (seal->pages == NULL || seal->parents == NULL) return -ENOMEM;
  result = save(seal, paths.layer, paths.header, target->id);
  return result < 0 ? result : pages_sync_directory(target->directory);
}

static int32_t run_seal(struct seal *seal, uint64_t total_bytes,
                        const struct wrenn_pages_target *target, uint64_t *ret_counts,
                        char *ret_text, uint32_t text_size) {
  uint64_t counts[WRENN_PAGES_COUNTS] = {0};
  seal->counts = counts;
  seal->difference.total_bytes = total_bytes;
  memcpy(seal->difference.id, target->id, MEMORY_ID_BYTES);
  bool is_whole = total_bytes > 0 && total_bytes % PAGE_BYTES == 0 &&
                  total_bytes <= MEMORY_TOTAL_BYTES_MAX;
  int32_t result = is_whole ? seal_to(seal, target)
                            : fail(&seal->failure, -EINVAL, "the memory's size is out of bounds");
  if (seal->has_parent) memory_close(&seal->parent);
  memory_index_free(&seal->difference);
  page_list_free(&seal->removed);
  free(seal->pages);
  free(seal->parents);
  if (result == 0) memcpy(ret_counts, counts, sizeof counts);
  const char *reason = result < 0 ? seal->failure.text : "";
  if (text_size > 0) (void)snprintf(ret_text, text_size, "%s", reason);
  return result;
}

int32_t wrenn_pages_seal_file(const char *path, uint64_t total_bytes,
                              const struct wrenn_pages_target *target, uint64_t *ret_counts,
                              char *ret_text, uint32_t text_size) {
  AUTO_FD source = open(path, O_RDONLY | O_CLOEXEC);
  if (source < 0) return -errno;
  struct seal seal = {.source = source};
  return run_seal(&seal, total_bytes, target, ret_counts, ret_text, text_size);
}

static struct seal seal_of_process(const struct wrenn_process_memory *memory) {
  uint64_t total = memory->total_bytes;
  uint64_t low = memory->high_offset == 0 || memory->high_offset > total ? total
                                                                         : memory->high_offset;
  return (struct seal){
      .source = -1,
      .pid = memory->pid,
      .pieces = {{0, low, memory->address}, {low, total - low, memory->high_address}},
  };
}

int32_t wrenn_pages_seal_process(const struct wrenn_process_memory *memory, const char *removed,
                                 const struct wrenn_pages_target *target, uint64_t *ret_counts,
                                 char *ret_text, uint32_t text_size) {
  uint64_t total_bytes = memory->total_bytes;
  struct seal seal = seal_of_process(memory);
  if (removed != NULL && *removed != '\0') {
    int32_t result = page_list_load(removed, total_bytes, &seal.removed, &seal.failure);
    if (result < 0) {
      if (text_size > 0) (void)snprintf(ret_text, text_size, "%s", seal.failure.text);
      return result;
    }
    page_list_sort(&seal.removed);
  }
  return run_seal(&seal, total_bytes, target, ret_counts, ret_text, text_size);
}

int32_t wrenn_pages_seal_written(const struct wrenn_process_memory *memory,
                                 const struct wrenn_pages_target *target, uint64_t *ret_counts,
                                 char *ret_text, uint32_t text_size) {
  struct seal seal = seal_of_process(memory);
  seal.is_tracked = true;
  return run_seal(&seal, memory->total_bytes, target, ret_counts, ret_text, text_size);
}
