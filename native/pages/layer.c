#include "layer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "layer-layout.h"
#include "little-endian.h"

static int32_t read_exactly(int fd, uint8_t *target, size_t size, uint64_t offset) {
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(fd, target + done, size - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return -EIO;
    done += (size_t)got;
  }
  return 0;
}

static uint64_t chunks_of(uint64_t data_bytes) {
  return (data_bytes + LAYER_CHUNK_BYTES - 1) / LAYER_CHUNK_BYTES;
}

static int32_t check_footer(const uint8_t *footer, const struct memory_layer *expected,
                            struct failure *failure) {
  static const uint8_t ZEROS[FOOTER_CRC_AT - FOOTER_ZERO_AT];
  uint32_t crc = crc32c(0, footer, FOOTER_CRC_AT);
  if (get_u64(footer + FOOTER_MAGIC_AT) != FOOTER_MAGIC || get_u32(footer + FOOTER_CRC_AT) != crc ||
      get_u32(footer + FOOTER_VERSION_AT) != FOOTER_VERSION ||
      get_u32(footer + FOOTER_CHUNK_AT) != LAYER_CHUNK_BYTES ||
      memcmp(footer + FOOTER_ZERO_AT, ZEROS, sizeof ZEROS) != 0) {
    return fail(failure, -EBADMSG, "layer: its footer is torn or changed");
  }
  if (crc != expected->footer_crc || get_u64(footer + FOOTER_DATA_AT) != expected->data_bytes ||
      memcmp(footer + FOOTER_ID_AT, expected->id, MEMORY_ID_BYTES) != 0) {
    return fail(failure, -EBADMSG, "layer: it is not the one that the header names");
  }
  return 0;
}

static int32_t load_table(struct layer *layer, const uint8_t *footer, struct failure *failure) {
  uint64_t chunks = chunks_of(layer->data_bytes);
  size_t bytes = chunks * sizeof(uint32_t);
  layer->sums = malloc(bytes + 1);
  layer->verified = calloc(1, chunks / 8 + 1);
  if (layer->sums == NULL || layer->verified == NULL) {
    return fail(failure, -ENOMEM, "no memory for a layer's checksums");
  }
  int32_t result = read_exactly(layer->fd, (uint8_t *)layer->sums, bytes, layer->data_bytes);
  if (result < 0) return fail(failure, result, "layer: cannot read its table (errno %d)", -result);
  if (crc32c(0, layer->sums, bytes) != get_u32(footer + FOOTER_TABLE_CRC_AT)) {
    return fail(failure, -EBADMSG, "layer: its table of checksums is torn or changed");
  }
  for (uint64_t i = 0; i < chunks; i++) layer->sums[i] = le32toh(layer->sums[i]);
  return 0;
}

static int32_t open_summed(struct layer *layer, uint64_t file_bytes,
                           const struct memory_layer *expected, struct failure *failure) {
  uint64_t table = chunks_of(expected->data_bytes) * sizeof(uint32_t);
  if (file_bytes != expected->data_bytes + table + FOOTER_BYTES) {
    return fail(failure, -EBADMSG, "layer: it has %" PRIu64 " bytes, not %" PRIu64, file_bytes,
                expected->data_bytes + table + FOOTER_BYTES);
  }
  uint8_t footer[FOOTER_BYTES];
  int32_t result = read_exactly(layer->fd, footer, sizeof footer, file_bytes - FOOTER_BYTES);
  if (result < 0) return fail(failure, result, "layer: cannot read its footer (errno %d)", -result);
  result = check_footer(footer, expected, failure);
  if (result < 0) return result;
  layer->data_bytes = expected->data_bytes;
  return load_table(layer, footer, failure);
}

int32_t layer_open(int fd, const struct memory_layer *expected, struct layer *ret_layer,
                   struct failure *failure) {
  struct layer layer = {.fd = fd, .format = expected->format};
  struct stat status;
  int32_t result = 0;
  if (fstat(fd, &status) < 0) {
    result = fail(failure, -errno, "layer: %m");
  } else if (!S_ISREG(status.st_mode)) {
    result = fail(failure, -EBADMSG, "layer: not a regular file");
  } else if (layer.format == LAYER_RAW) {
    layer.data_bytes = (uint64_t)status.st_size;
  } else {
    result = open_summed(&layer, (uint64_t)status.st_size, expected, failure);
  }
  if (result < 0) {
    layer_close(&layer);
    return result;
  }
  *ret_layer = layer;
  return 0;
}

void layer_close(struct layer *layer) {
  if (layer->fd >= 0) (void)close(layer->fd);
  free(layer->sums);
  free(layer->verified);
  *layer = (struct layer){.fd = -1};
}

static bool is_verified(const struct layer *layer, uint64_t chunk) {
  return layer->format == LAYER_RAW || (layer->verified[chunk / 8] >> (chunk % 8) & 1) != 0;
}

/* Reads a chunk whole into `buffer` and compares it. */
static int32_t verify_chunk(struct layer *layer, uint64_t chunk, uint8_t *buffer,
                            struct failure *failure) {
  uint64_t start = chunk * LAYER_CHUNK_BYTES;
  uint64_t left = layer->data_bytes - start;
  size_t size = left < LAYER_CHUNK_BYTES ? (size_t)left : LAYER_CHUNK_BYTES;
  int32_t result = read_exactly(layer->fd, buffer, size, start);
  if (result < 0) {
    return fail(failure, result, "layer: cannot read at %" PRIu64 " (errno %d)", start, -result);
  }
  if (crc32c(0, buffer, size) != layer->sums[chunk]) {
    return fail(failure, -EBADMSG, "layer: the data at %" PRIu64 " does not match its checksum",
                start);
  }
  layer->verified[chunk / 8] |= (uint8_t)(1u << (chunk % 8));
  layer->chunks_verified++;
  return 0;
}

int32_t layer_read(struct layer *layer, uint64_t offset, uint8_t *target, size_t size,
                   uint8_t *chunk_buffer, struct failure *failure) {
  uint64_t end;
  if (__builtin_add_overflow(offset, size, &end) || end > layer->data_bytes) {
    return fail(failure, -EIO, "layer: offset %" PRIu64 " is past its data", offset);
  }
  while (size > 0) {
    uint64_t chunk = offset / LAYER_CHUNK_BYTES;
    size_t within = offset % LAYER_CHUNK_BYTES;
    size_t part = LAYER_CHUNK_BYTES - within < size ? LAYER_CHUNK_BYTES - within : size;
    int32_t result;
    if (is_verified(layer, chunk)) {
      result = read_exactly(layer->fd, target, part, offset);
      if (result < 0) (void)fail(failure, result, "layer: cannot read (errno %d)", -result);
    } else if (part == LAYER_CHUNK_BYTES) {
      result = verify_chunk(layer, chunk, target, failure);
    } else {
      result = verify_chunk(layer, chunk, chunk_buffer, failure);
      if (result == 0) memcpy(target, chunk_buffer + within, part);
    }
    if (result < 0) return result;
    target += part;
    offset += part;
    size -= part;
  }
  return 0;
}
