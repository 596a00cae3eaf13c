/* The header of a generation, with its checksum made right so that what lies behind is reached. */
#include "pages/memory-index.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "pages/crc32c.h"
#include "pages/little-endian.h"
#include "pages/memory-index-layout.h"

enum { BLOCK = MEMORY_BLOCK_BYTES };

void fuzz_seeds(void) {
  struct memory_index index = {.total_bytes = 40 * BLOCK, .generation = 3, .layer_count = 2};
  uint64_t capacity = 0;
  uint8_t *bytes;
  size_t size;
  memset(index.id, 1, sizeof index.id);
  for (uint32_t i = 0; i < 2; i++) {
    index.layers[i] = (struct memory_layer){.data_bytes = 20 * BLOCK, .format = LAYER_SUMMED};
    memset(index.layers[i].id, (int)i + 1, MEMORY_ID_BYTES);
  }
  for (uint64_t i = 0; i < 20; i++) {
    struct memory_mapping mapping = {.offset = 2 * i * BLOCK, .length = 2 * BLOCK};
    mapping.kind = i % 3;
    if (mapping.kind == MEMORY_DATA) mapping.storage = i / 3 * 2 * BLOCK, mapping.layer = i % 2;
    assert(memory_index_append(&index, &capacity, &mapping) == 0);
  }
  assert(memory_index_encode(&index, &bytes, &size) == 0);
  fuzz_seed("version-2", bytes, size);
  memory_index_free(&index);
  free(bytes);

  uint8_t old[HEADER_V1_BYTES + 2 * V1_MAPPING_BYTES] = {0};
  put_u64(old, HEADER_VERSION_1);
  put_u64(old + HEADER_BLOCK_AT, BLOCK);
  put_u64(old + HEADER_TOTAL_AT, 2 * BLOCK);
  for (size_t i = 0; i < 2; i++) {
    uint8_t *at = old + HEADER_V1_BYTES + i * V1_MAPPING_BYTES;
    put_u64(at, i * BLOCK);
    put_u64(at + V1_MAPPING_LENGTH_AT, BLOCK);
    if (i == 0) at[V1_MAPPING_ID_AT] = 7;
  }
  fuzz_seed("version-1", old, sizeof old);
}

static void make_right(uint8_t *bytes, size_t size) {
  if (size < HEADER_V2_BYTES + HEADER_TRAILER_BYTES) return;
  if (get_u64(bytes + HEADER_VERSION_AT) != HEADER_VERSION_2) return;
  put_u64(bytes + HEADER_SIZE_AT, size);
  uint8_t *trailer = bytes + size - HEADER_TRAILER_BYTES;
  put_u32(trailer, crc32c(0, bytes, size - HEADER_TRAILER_BYTES));
  put_u32(trailer + sizeof(uint32_t), 0);
}

static void expect_everything_found(const struct memory_index *index) {
  for (uint64_t i = 0; i < index->mapping_count; i++) {
    const struct memory_mapping *mapping = &index->mappings[i];
    assert(memory_index_find(index, mapping->offset) == i);
    assert(memory_index_find(index, mapping->offset + mapping->length - 1) == i);
  }
}

static void expect_the_same_when_read_again(const struct memory_index *index) {
  struct memory_index again;
  struct failure failure;
  uint8_t *bytes;
  size_t size;
  assert(memory_index_encode(index, &bytes, &size) == 0);
  assert(memory_index_decode(bytes, size, &again, &failure) == 0);
  assert(again.mapping_count == index->mapping_count && again.layer_count == index->layer_count);
  assert(memcmp(again.mappings, index->mappings, index->mapping_count * sizeof *index->mappings) ==
         0);
  memory_index_free(&again);
  free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  struct memory_index index;
  struct memory_index overlay;
  struct failure failure;
  uint8_t *copy = fuzz_copy(bytes, size);
  make_right(copy, size);
  if (memory_index_decode(copy, size, &index, &failure) == 0) {
    expect_everything_found(&index);
    expect_the_same_when_read_again(&index);
    if (memory_index_overlay(&index, &index, &overlay) == 0) {
      assert(memory_index_check(&overlay, &failure) == 0);
      expect_everything_found(&overlay);
      memory_index_free(&overlay);
    }
    memory_index_free(&index);
  }
  free(copy);
  return 0;
}
