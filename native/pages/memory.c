#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void memory_layer_name(const char *stem, const uint8_t id[MEMORY_ID_BYTES],
                       char ret_name[MEMORY_NAME_BYTES]) {
  size_t at = (size_t)snprintf(ret_name, MEMORY_NAME_BYTES, "%.16s.", stem);
  for (int i = 0; i < MEMORY_ID_BYTES; i++) {
    const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
    at += (size_t)snprintf(ret_name + at, MEMORY_NAME_BYTES - at, "%s%02x", dash, id[i]);
  }
}

static int open_in(const char *directory, const char *name) {
  char path[4096];
  int length = snprintf(path, sizeof path, "%s/%s", directory, name);
  if (length < 0 || (size_t)length >= sizeof path) return -ENAMETOOLONG;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

/* Version 1 wrote memfile.<uuid>, and plain memfile for a generation that has no parent. */
static int open_layer_file(const struct memory_layer *layer, const char *const *directories) {
  char name[MEMORY_NAME_BYTES];
  char old_name[MEMORY_NAME_BYTES];
  memory_layer_name("memory", layer->id, name);
  memory_layer_name("memfile", layer->id, old_name);
  const char *names[] = {name, old_name, "memfile"};
  size_t names_tried = layer->format == LAYER_RAW ? 3 : 1;
  for (size_t n = 0; n < names_tried; n++) {
    for (const char *const *directory = directories; *directory != NULL; directory++) {
      int fd = open_in(*directory, names[n]);
      if (fd >= 0 || fd != -ENOENT) return fd;
    }
  }
  return -ENOENT;
}

static int32_t open_layers(struct memory *memory, const char *const *directories,
                           struct failure *failure) {
  for (uint32_t i = 0; i < memory->index.layer_count; i++) {
    const struct memory_layer *layer = &memory->index.layers[i];
    char name[MEMORY_NAME_BYTES];
    memory_layer_name("memory", layer->id, name);
    int fd = open_layer_file(layer, directories);
    if (fd < 0) return fail(failure, fd, "layer %s: cannot be opened (errno %d)", name, -fd);
    struct failure cause;
    int32_t result = layer_open(fd, layer, &memory->layers[i], &cause);
    if (result < 0) return fail(failure, result, "%s: %.180s", name, cause.text);
  }
  return 0;
}

int32_t memory_open(const char *header, const char *const *directories, struct memory *ret_memory,
                    struct failure *failure) {
  struct memory memory = {0};
  for (int i = 0; i < MEMORY_LAYERS_MAX; i++) memory.layers[i].fd = -1;
  int fd = open(header, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(failure, -errno, "header: cannot be opened: %m");
  int32_t result = memory_index_load(fd, &memory.index, failure);
  (void)close(fd);
  if (result < 0) return result;
  memory.chunk_buffer = malloc(LAYER_CHUNK_BYTES);
  result = memory.chunk_buffer == NULL ? fail(failure, -ENOMEM, "no memory for a chunk")
                                       : open_layers(&memory, directories, failure);
  if (result < 0) {
    memory_close(&memory);
    return result;
  }
  *ret_memory = memory;
  return 0;
}

void memory_close(struct memory *memory) {
  for (int i = 0; i < MEMORY_LAYERS_MAX; i++) layer_close(&memory->layers[i]);
  memory_index_free(&memory->index);
  free(memory->chunk_buffer);
  memory->chunk_buffer = NULL;
}

static uint64_t end_of(const struct memory_mapping *mapping) {
  return mapping->offset + mapping->length;
}

uint64_t memory_run(const struct memory *memory, uint64_t offset, uint64_t end, bool *ret_is_data) {
  const struct memory_index *index = &memory->index;
  uint64_t number = memory_index_find(index, offset);
  bool is_data = index->mappings[number].kind == MEMORY_DATA;
  uint64_t at = end_of(&index->mappings[number]);
  while (at < end && (index->mappings[number + 1].kind == MEMORY_DATA) == is_data) {
    at = end_of(&index->mappings[++number]);
  }
  *ret_is_data = is_data;
  return at < end ? at : end;
}

int32_t memory_read(struct memory *memory, uint64_t offset, uint8_t *target, size_t size,
                    struct failure *failure) {
  uint64_t number = memory_index_find(&memory->index, offset);
  while (size > 0) {
    const struct memory_mapping *mapping = &memory->index.mappings[number++];
    uint64_t within = offset - mapping->offset;
    uint64_t left = mapping->length - within;
    size_t part = left < size ? (size_t)left : size;
    if (mapping->kind == MEMORY_DATA) {
      struct layer *layer = &memory->layers[mapping->layer];
      int32_t result = layer_read(layer, mapping->storage + within, target, part,
                                  memory->chunk_buffer, failure);
      if (result < 0) return result;
      memory->bytes_read += part;
    } else {
      memset(target, 0, part);
    }
    target += part;
    offset += part;
    size -= part;
  }
  return 0;
}

void memory_read_ahead(const struct memory *memory, uint64_t offset, uint64_t size) {
  uint64_t number = memory_index_find(&memory->index, offset);
  while (size > 0) {
    const struct memory_mapping *mapping = &memory->index.mappings[number++];
    uint64_t within = offset - mapping->offset;
    uint64_t left = mapping->length - within;
    uint64_t part = left < size ? left : size;
    if (mapping->kind == MEMORY_DATA) {
      (void)posix_fadvise(memory->layers[mapping->layer].fd, (off_t)(mapping->storage + within),
                          (off_t)part, POSIX_FADV_WILLNEED);
    }
    offset += part;
    size -= part;
  }
}

uint64_t memory_chunks_verified(const struct memory *memory) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < memory->index.layer_count; i++) {
    total += memory->layers[i].chunks_verified;
  }
  return total;
}
