/* Makes one of many layers: a flat file to map, or a single layer without parents. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptor.h"
#include "layer.h"
#include "memory.h"
#include "target.h"
#include "wrenn.h"

enum { STEP_BYTES = 1024 * 1024 };

/* What happens to each stretch of data, in ascending order. */
typedef int32_t keep_data(void *context, uint64_t offset, const uint8_t *bytes, size_t size);

static int32_t read_data(struct memory *memory, const struct memory_mapping *mapping,
                         keep_data *keep, void *context, struct failure *failure) {
  uint8_t *step = aligned_alloc(MEMORY_BLOCK_BYTES, STEP_BYTES);
  if (step == NULL) return -ENOMEM;
  int32_t result = 0;
  for (uint64_t done = 0; result == 0 && done < mapping->length; done += STEP_BYTES) {
    uint64_t left = mapping->length - done;
    size_t size = left < STEP_BYTES ? (size_t)left : STEP_BYTES;
    result = memory_read(memory, mapping->offset + done, step, size, failure);
    if (result == 0) result = keep(context, mapping->offset + done, step, size);
  }
  free(step);
  return result;
}

static int32_t keep_in_file(void *context, uint64_t offset, const uint8_t *bytes, size_t size) {
  int fd = *(const int *)context;
  for (size_t done = 0; done < size;) {
    ssize_t written = pwrite(fd, bytes + done, size - done, (off_t)(offset + done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    done += (size_t)written;
  }
  return 0;
}

static int32_t flatten_to(struct memory *memory, const char *path, struct failure *failure) {
  AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fail(failure, -errno, "the flat file cannot be made: %m");
  int32_t result = ftruncate(fd, (off_t)memory->index.total_bytes) < 0 ? -errno : 0;
  for (uint64_t i = 0; result == 0 && i < memory->index.mapping_count; i++) {
    const struct memory_mapping *mapping = &memory->index.mappings[i];
    if (mapping->kind != MEMORY_DATA) continue;
    result = read_data(memory, mapping, keep_in_file, &fd, failure);
  }
  if (result == 0 && fsync(fd) < 0) result = -errno;
  if (result < 0) (void)unlink(path);
  return result;
}

static int32_t keep_in_layer(void *context, uint64_t offset, const uint8_t *bytes, size_t size) {
  (void)offset;
  return layer_writer_append(context, bytes, size);
}

static int32_t merge_layers(struct memory *memory, struct memory_index *merged,
                            struct layer_writer *writer, struct failure *failure) {
  uint64_t capacity = 0;
  int32_t result = 0;
  for (uint64_t i = 0; result == 0 && i < memory->index.mapping_count; i++) {
    struct memory_mapping mapping = memory->index.mappings[i];
    struct memory_mapping moved = mapping;
    moved.layer = 0;
    if (mapping.kind == MEMORY_DATA) {
      moved.storage = writer->data_bytes;
      result = read_data(memory, &mapping, keep_in_layer, writer, failure);
    }
    if (result == 0) result = memory_index_append(merged, &capacity, &moved);
  }
  return result;
}

static int32_t merge_to(struct memory *memory, const struct pages_paths *paths,
                        const struct wrenn_pages_target *target, struct failure *failure) {
  struct memory_index merged = {.total_bytes = memory->index.total_bytes, .layer_count = 1};
  struct layer_writer writer;
  memcpy(merged.id, target->id, MEMORY_ID_BYTES);
  AUTO_FD fd = open(paths->layer, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fail(failure, -errno, "the layer cannot be made: %m");
  int32_t result = layer_writer_start(&writer, fd);
  if (result == 0) result = merge_layers(memory, &merged, &writer, failure);
  if (result == 0) {
    result = layer_writer_finish(&writer, target->id, &merged.layers[0]);
  } else {
    layer_writer_abandon(&writer);
  }
  if (result == 0) result = pages_write_header(&merged, paths->header);
  memory_index_free(&merged);
  if (result < 0) (void)unlink(paths->layer);
  return result;
}

static void explain(int32_t result, const struct failure *failure, char *ret_text, uint32_t size) {
  const char *text = result == 0 ? "" : failure->text;
  if (result < 0 && *text == '\0') text = strerror(-result);
  if (size > 0) (void)snprintf(ret_text, size, "%s", text);
}

int32_t wrenn_pages_flatten(const char *header, const char *layer_directories, const char *path,
                            char *ret_text, uint32_t text_size) {
  struct failure failure = {0};
  struct memory memory;
  int32_t result = pages_open_memory(header, layer_directories, &memory, &failure);
  if (result == 0) {
    result = flatten_to(&memory, path, &failure);
    memory_close(&memory);
  }
  explain(result, &failure, ret_text, text_size);
  return result;
}

int32_t wrenn_pages_merge(const struct wrenn_pages_target *target, char *ret_text,
                          uint32_t text_size) {
  struct failure failure = {0};
  struct pages_paths paths;
  struct memory memory;
  int32_t result = pages_paths_of(target, &paths);
  if (result == 0) {
    result = pages_open_memory(target->parent_header, target->layer_directories, &memory, &failure);
  }
  if (result == 0) {
    result = merge_to(&memory, &paths, target, &failure);
    memory_close(&memory);
  }
  if (result == 0) result = pages_sync_directory(target->directory);
  explain(result, &failure, ret_text, text_size);
  return result;
}
