#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "crc32c.h"
#include "layer-layout.h"
#include "layer.h"
#include "little-endian.h"

int32_t layer_writer_start(struct layer_writer *writer, int fd) {
  *writer = (struct layer_writer){.fd = fd};
  writer->chunk = malloc(LAYER_CHUNK_BYTES);
  return writer->chunk == NULL ? -ENOMEM : 0;
}

void layer_writer_abandon(struct layer_writer *writer) {
  free(writer->chunk);
  free(writer->sums);
  *writer = (struct layer_writer){.fd = -1};
}

static int32_t write_all(int fd, const uint8_t *bytes, size_t size) {
  while (size > 0) {
    ssize_t written = write(fd, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    bytes += written;
    size -= (size_t)written;
  }
  return 0;
}

static int32_t flush_chunk(struct layer_writer *writer) {
  uint64_t number = (writer->data_bytes - 1) / LAYER_CHUNK_BYTES;
  if (number == writer->sums_room) {
    uint64_t room = writer->sums_room == 0 ? 256 : writer->sums_room * 2;
    void *grown = realloc(writer->sums, room * sizeof *writer->sums);
    if (grown == NULL) return -ENOMEM;
    writer->sums = grown;
    writer->sums_room = room;
  }
  writer->sums[number] = htole32(crc32c(0, writer->chunk, writer->chunk_filled));
  int32_t result = write_all(writer->fd, writer->chunk, writer->chunk_filled);
  writer->chunk_filled = 0;
  return result;
}

int32_t layer_writer_append(struct layer_writer *writer, const uint8_t *blocks, size_t size) {
  while (size > 0) {
    size_t room = LAYER_CHUNK_BYTES - writer->chunk_filled;
    size_t part = size < room ? size : room;
    memcpy(writer->chunk + writer->chunk_filled, blocks, part);
    writer->chunk_filled += part;
    writer->data_bytes += part;
    blocks += part;
    size -= part;
    if (writer->chunk_filled == LAYER_CHUNK_BYTES) {
      int32_t result = flush_chunk(writer);
      if (result < 0) return result;
    }
  }
  return 0;
}

static int32_t write_end(struct layer_writer *writer, const uint8_t *id,
                         struct memory_layer *layer) {
  int32_t result = writer->chunk_filled > 0 ? flush_chunk(writer) : 0;
  if (result < 0) return result;
  size_t table = (writer->data_bytes + LAYER_CHUNK_BYTES - 1) / LAYER_CHUNK_BYTES * 4;
  uint8_t footer[FOOTER_BYTES] = {0};
  put_u64(footer + FOOTER_MAGIC_AT, FOOTER_MAGIC);
  put_u32(footer + FOOTER_VERSION_AT, FOOTER_VERSION);
  put_u32(footer + FOOTER_CHUNK_AT, LAYER_CHUNK_BYTES);
  put_u64(footer + FOOTER_DATA_AT, writer->data_bytes);
  memcpy(footer + FOOTER_ID_AT, id, MEMORY_ID_BYTES);
  put_u32(footer + FOOTER_TABLE_CRC_AT, crc32c(0, writer->sums, table));
  layer->footer_crc = crc32c(0, footer, FOOTER_CRC_AT);
  put_u32(footer + FOOTER_CRC_AT, layer->footer_crc);
  layer->data_bytes = writer->data_bytes;
  layer->format = LAYER_SUMMED;
  memcpy(layer->id, id, MEMORY_ID_BYTES);
  result = write_all(writer->fd, (const uint8_t *)writer->sums, table);
  if (result == 0) result = write_all(writer->fd, footer, sizeof footer);
  if (result == 0 && fsync(writer->fd) < 0) result = -errno;
  return result;
}

int32_t layer_writer_finish(struct layer_writer *writer, const uint8_t id[MEMORY_ID_BYTES],
                            struct memory_layer *ret_layer) {
  struct memory_layer layer = {0};
  int32_t result = write_end(writer, id, &layer);
  layer_writer_abandon(writer);
  if (result == 0) *ret_layer = layer;
  return result;
}
