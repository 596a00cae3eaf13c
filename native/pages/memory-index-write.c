#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "crc32c.h"
#include "little-endian.h"
#include "memory-index-layout.h"
#include "memory-index.h"

int32_t memory_index_encode(const struct memory_index *index, uint8_t **ret_bytes,
                            size_t *ret_size) {
  size_t size = HEADER_V2_BYTES + (size_t)index->layer_count * LAYER_RECORD_BYTES +
                index->mapping_count * MAPPING_BYTES + HEADER_TRAILER_BYTES;
  uint8_t *bytes = calloc(1, size);
  if (bytes == NULL) return -ENOMEM;
  put_u64(bytes + HEADER_VERSION_AT, HEADER_VERSION_2);
  put_u64(bytes + HEADER_BLOCK_AT, MEMORY_BLOCK_BYTES);
  put_u64(bytes + HEADER_TOTAL_AT, index->total_bytes);
  put_u64(bytes + HEADER_GENERATION_AT, index->generation);
  memcpy(bytes + HEADER_ID_AT, index->id, MEMORY_ID_BYTES);
  memcpy(bytes + HEADER_BASE_ID_AT, index->base_id, MEMORY_ID_BYTES);
  put_u64(bytes + HEADER_SIZE_AT, size);
  put_u64(bytes + HEADER_MAPPING_COUNT_AT, index->mapping_count);
  put_u32(bytes + HEADER_LAYER_COUNT_AT, index->layer_count);
  uint8_t *at = bytes + HEADER_V2_BYTES;
  for (uint32_t i = 0; i < index->layer_count; i++, at += LAYER_RECORD_BYTES) {
    memcpy(at, index->layers[i].id, MEMORY_ID_BYTES);
    put_u64(at + LAYER_RECORD_DATA_AT, index->layers[i].data_bytes);
    put_u32(at + LAYER_RECORD_CRC_AT, index->layers[i].footer_crc);
    put_u32(at + LAYER_RECORD_FORMAT_AT, index->layers[i].format);
  }
  for (uint64_t i = 0; i < index->mapping_count; i++, at += MAPPING_BYTES) {
    const struct memory_mapping *mapping = &index->mappings[i];
    put_u64(at, mapping->offset);
    put_u64(at + MAPPING_LENGTH_AT, mapping->length);
    put_u64(at + MAPPING_STORAGE_AT, mapping->storage);
    put_u32(at + MAPPING_LAYER_AT, mapping->layer);
    put_u32(at + MAPPING_KIND_AT, mapping->kind);
  }
  put_u32(at, crc32c(0, bytes, size - HEADER_TRAILER_BYTES));
  *ret_bytes = bytes;
  *ret_size = size;
  return 0;
}

/* Neighbours of one layer are one mapping only if their bytes are neighbours too. */
static bool goes_on(const struct memory_mapping *last, const struct memory_mapping *next) {
  if (last->kind != next->kind) return false;
  if (last->kind != MEMORY_DATA) return true;
  return last->layer == next->layer && last->storage + last->length == next->storage;
}

int32_t memory_index_append(struct memory_index *index, uint64_t *capacity,
                            const struct memory_mapping *mapping) {
  if (index->mapping_count > 0) {
    struct memory_mapping *last = &index->mappings[index->mapping_count - 1];
    if (goes_on(last, mapping)) {
      last->length += mapping->length;
      return 0;
    }
  }
  if (index->mapping_count == MEMORY_MAPPINGS_MAX) return -E2BIG;
  if (index->mapping_count == *capacity) {
    uint64_t room = *capacity == 0 ? 256 : *capacity * 2;
    void *grown = realloc(index->mappings, room * sizeof *index->mappings);
    if (grown == NULL) return -ENOMEM;
    index->mappings = grown;
    *capacity = room;
  }
  index->mappings[index->mapping_count++] = *mapping;
  return 0;
}

/* Gives `layer` a place in the result, once. */
static int32_t adopt_layer(struct memory_index *result, const struct memory_layer *layer,
                           uint32_t *ret_number) {
  for (uint32_t i = 0; i < result->layer_count; i++) {
    if (memcmp(result->layers[i].id, layer->id, MEMORY_ID_BYTES) == 0) {
      *ret_number = i;
      return 0;
    }
  }
  if (result->layer_count == MEMORY_LAYERS_MAX) return -E2BIG;
  result->layers[result->layer_count] = *layer;
  *ret_number = result->layer_count++;
  return 0;
}

static int32_t append_piece(struct memory_index *result, uint64_t *capacity,
                            const struct memory_index *source, const struct memory_mapping *mapping,
                            uint64_t start, uint64_t end) {
  struct memory_mapping piece = {.offset = start, .length = end - start, .kind = mapping->kind};
  if (mapping->kind == MEMORY_DATA) {
    piece.storage = mapping->storage + (start - mapping->offset);
    int32_t status = adopt_layer(result, &source->layers[mapping->layer], &piece.layer);
    if (status < 0) return status;
  }
  return memory_index_append(result, capacity, &piece);
}

int32_t memory_index_overlay(const struct memory_index *base, const struct memory_index *difference,
                             struct memory_index *ret_index) {
  if (base->total_bytes != difference->total_bytes) return -EINVAL;
  struct memory_index result = {.total_bytes = base->total_bytes,
                                .generation = base->generation + 1};
  memcpy(result.id, difference->id, MEMORY_ID_BYTES);
  memcpy(result.base_id, difference->base_id, MEMORY_ID_BYTES);
  uint64_t capacity = 0;
  uint64_t below = 0;
  uint64_t above = 0;
  for (uint64_t at = 0; at < base->total_bytes;) {
    const struct memory_mapping *under = &base->mappings[below];
    const struct memory_mapping *over = &difference->mappings[above];
    uint64_t under_end = under->offset + under->length;
    uint64_t over_end = over->offset + over->length;
    uint64_t end = under_end < over_end ? under_end : over_end;
    bool shows_base = over->kind == MEMORY_HOLE;
    int32_t status = append_piece(&result, &capacity, shows_base ? base : difference,
                                  shows_base ? under : over, at, end);
    if (status < 0) {
      memory_index_free(&result);
      return status;
    }
    if (end == under_end) below++;
    if (end == over_end) above++;
    at = end;
  }
  *ret_index = result;
  return 0;
}
