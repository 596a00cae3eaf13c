/* A layer's file, with the checksums of its footer and table made right. */
#define _GNU_SOURCE
#include "pages/layer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "pages/crc32c.h"
#include "pages/layer-layout.h"
#include "pages/little-endian.h"

enum { STEP = 3 * MEMORY_BLOCK_BYTES / 2 };

static size_t table_bytes(uint64_t data_bytes) {
  return (size_t)((data_bytes + LAYER_CHUNK_BYTES - 1) / LAYER_CHUNK_BYTES) * sizeof(uint32_t);
}

void fuzz_seeds(void) {
  static const uint8_t ID[MEMORY_ID_BYTES] = {1, 2, 3};
  static uint8_t blocks[2 * MEMORY_BLOCK_BYTES];
  static uint8_t file[sizeof blocks + 1024];
  struct layer_writer writer;
  struct memory_layer layer;
  memset(blocks, 'x', sizeof blocks);
  int fd = memfd_create("layer", MFD_CLOEXEC);
  assert(fd >= 0 && layer_writer_start(&writer, fd) == 0);
  assert(layer_writer_append(&writer, blocks, sizeof blocks) == 0);
  assert(layer_writer_finish(&writer, ID, &layer) == 0);
  ssize_t size = pread(fd, file, sizeof file, 0);
  assert(size > 0 && close(fd) == 0);
  fuzz_seed("two-blocks", file, (size_t)size);
  fuzz_seed("empty", file + sizeof blocks + sizeof(uint32_t), FOOTER_BYTES);
}

/* Returns what a header would have to say of such a file. */
static struct memory_layer make_right(uint8_t *bytes, size_t size) {
  struct memory_layer layer = {.format = size % 2 == 0 ? LAYER_SUMMED : LAYER_RAW};
  if (size < FOOTER_BYTES) return layer;
  uint8_t *footer = bytes + size - FOOTER_BYTES;
  layer.data_bytes = get_u64(footer + FOOTER_DATA_AT);
  uint64_t before = size - FOOTER_BYTES;
  if (layer.data_bytes <= before && table_bytes(layer.data_bytes) <= before - layer.data_bytes) {
    uint32_t crc = crc32c(0, bytes + layer.data_bytes, table_bytes(layer.data_bytes));
    put_u32(footer + FOOTER_TABLE_CRC_AT, crc);
  }
  put_u32(footer + FOOTER_CRC_AT, crc32c(0, footer, FOOTER_CRC_AT));
  layer.footer_crc = get_u32(footer + FOOTER_CRC_AT);
  memcpy(layer.id, footer + FOOTER_ID_AT, MEMORY_ID_BYTES);
  return layer;
}

static void read_all(struct layer *layer, const uint8_t *file) {
  static uint8_t chunk[LAYER_CHUNK_BYTES];
  struct failure failure;
  uint8_t *target = malloc(STEP);
  assert(target != NULL);
  for (uint64_t at = 0; at < layer->data_bytes; at += STEP) {
    uint64_t left = layer->data_bytes - at;
    size_t size = left < STEP ? (size_t)left : STEP;
    if (layer_read(layer, at, target, size, chunk, &failure) < 0) break;
    assert(memcmp(target, file + at, size) == 0);
  }
  free(target);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  struct layer layer;
  struct failure failure;
  uint8_t *copy = fuzz_copy(bytes, size);
  struct memory_layer expected = make_right(copy, size);
  int fd = memfd_create("layer", MFD_CLOEXEC);
  assert(fd >= 0 && write(fd, copy, size) == (ssize_t)size);
  if (layer_open(fd, &expected, &layer, &failure) == 0) {
    read_all(&layer, copy);
    layer_close(&layer);
  }
  free(copy);
  return 0;
}
