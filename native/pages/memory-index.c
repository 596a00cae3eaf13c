#include "memory-index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "little-endian.h"
#include "memory-index-layout.h"

static const size_t HEADER_BYTES_MAX = HEADER_V2_BYTES +
                                       (size_t)MEMORY_LAYERS_MAX * LAYER_RECORD_BYTES +
                                       (size_t)MEMORY_MAPPINGS_MAX * V1_MAPPING_BYTES +
                                       HEADER_TRAILER_BYTES;

void memory_index_free(struct memory_index *index) {
  free(index->mappings);
  index->mappings = NULL;
  index->mapping_count = 0;
}

uint64_t memory_index_find(const struct memory_index *index, uint64_t offset) {
  uint64_t low = 0;
  uint64_t high = index->mapping_count;
  while (high - low > 1) {
    uint64_t middle = low + (high - low) / 2;
    if (index->mappings[middle].offset <= offset) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

static bool is_whole_blocks(uint64_t bytes) { return bytes % MEMORY_BLOCK_BYTES == 0; }

static int32_t check_place(const struct memory_index *index, uint64_t number,
                           struct failure *failure) {
  const struct memory_mapping *mapping = &index->mappings[number];
  if (mapping->kind == MEMORY_HOLE || mapping->kind == MEMORY_ZERO) {
    if (mapping->layer == 0 && mapping->storage == 0) return 0;
    return fail(failure, -EBADMSG, "header: mapping %" PRIu64 " has no data, yet a place", number);
  }
  if (mapping->kind != MEMORY_DATA) {
    return fail(failure, -EBADMSG, "header: mapping %" PRIu64 " is of unknown kind %" PRIu32,
                number, mapping->kind);
  }
  if (mapping->layer >= index->layer_count) {
    return fail(failure, -EBADMSG, "header: mapping %" PRIu64 " names layer %u of %u", number,
                mapping->layer, index->layer_count);
  }
  const struct memory_layer *layer = &index->layers[mapping->layer];
  uint64_t end;
  if (!is_whole_blocks(mapping->storage) ||
      __builtin_add_overflow(mapping->storage, mapping->length, &end) ||
      (layer->format == LAYER_SUMMED && end > layer->data_bytes)) {
    return fail(failure, -EBADMSG, "header: mapping %" PRIu64 " leaves its layer", number);
  }
  return 0;
}

static int32_t check_layers(const struct memory_index *index, struct failure *failure) {
  for (uint32_t i = 0; i < index->layer_count; i++) {
    const struct memory_layer *layer = &index->layers[i];
    bool is_raw = layer->format == LAYER_RAW && layer->data_bytes == 0 && layer->footer_crc == 0;
    if (!is_raw && layer->format != LAYER_SUMMED) {
      return fail(failure, -EBADMSG, "header: layer %" PRIu32 " is of unknown format", i);
    }
    if (!is_whole_blocks(layer->data_bytes) || layer->data_bytes > MEMORY_TOTAL_BYTES_MAX) {
      return fail(failure, -EBADMSG, "header: layer %" PRIu32 " has an impossible size", i);
    }
    for (uint32_t j = 0; j < i; j++) {
      if (memcmp(layer->id, index->layers[j].id, MEMORY_ID_BYTES) == 0) {
        return fail(failure, -EBADMSG, "header: layers %" PRIu32 " and %" PRIu32 " are one", j, i);
      }
    }
  }
  return 0;
}

int32_t memory_index_check(const struct memory_index *index, struct failure *failure) {
  if (index->total_bytes == 0 || !is_whole_blocks(index->total_bytes) ||
      index->total_bytes > MEMORY_TOTAL_BYTES_MAX) {
    return fail(failure, -EBADMSG, "header: total size %" PRIu64 " is out of bounds",
                index->total_bytes);
  }
  int32_t result = check_layers(index, failure);
  if (result < 0) return result;
  uint64_t at = 0;
  for (uint64_t i = 0; i < index->mapping_count; i++) {
    const struct memory_mapping *mapping = &index->mappings[i];
    if (mapping->offset != at || mapping->length == 0 || !is_whole_blocks(mapping->length) ||
        mapping->length > index->total_bytes - at) {
      return fail(failure, -EBADMSG, "header: mapping %" PRIu64 " leaves a gap or overlaps", i);
    }
    result = check_place(index, i, failure);
    if (result < 0) return result;
    at += mapping->length;
  }
  if (at != index->total_bytes) {
    return fail(failure, -EBADMSG, "header: the mappings end at %" PRIu64 " of %" PRIu64, at,
                index->total_bytes);
  }
  return 0;
}

static int32_t layer_of_id(struct memory_index *index, const uint8_t *id, uint32_t *ret_layer) {
  for (uint32_t i = 0; i < index->layer_count; i++) {
    if (memcmp(index->layers[i].id, id, MEMORY_ID_BYTES) == 0) {
      *ret_layer = i;
      return 0;
    }
  }
  if (index->layer_count == MEMORY_LAYERS_MAX) return -E2BIG;
  struct memory_layer *layer = &index->layers[index->layer_count];
  *layer = (struct memory_layer){.format = LAYER_RAW};
  memcpy(layer->id, id, MEMORY_ID_BYTES);
  *ret_layer = index->layer_count++;
  return 0;
}

/* Version 1 knows no holes: an id of zeros means zeros. */
static int32_t decode_v1(const uint8_t *bytes, size_t size, struct memory_index *index,
                         struct failure *failure) {
  static const uint8_t NO_ID[MEMORY_ID_BYTES];
  size_t body = size - HEADER_V1_BYTES;
  if (body % V1_MAPPING_BYTES != 0) {
    return fail(failure, -EBADMSG, "header: ends within a mapping");
  }
  index->mapping_count = body / V1_MAPPING_BYTES;
  index->mappings = calloc(index->mapping_count + 1, sizeof *index->mappings);
  if (index->mappings == NULL) return fail(failure, -ENOMEM, "no memory for the index");
  for (uint64_t i = 0; i < index->mapping_count; i++) {
    const uint8_t *at = bytes + HEADER_V1_BYTES + i * V1_MAPPING_BYTES;
    struct memory_mapping *mapping = &index->mappings[i];
    mapping->offset = get_u64(at);
    mapping->length = get_u64(at + V1_MAPPING_LENGTH_AT);
    mapping->kind = MEMORY_ZERO;
    if (memcmp(at + V1_MAPPING_ID_AT, NO_ID, MEMORY_ID_BYTES) == 0) continue;
    mapping->kind = MEMORY_DATA;
    mapping->storage = get_u64(at + V1_MAPPING_STORAGE_AT);
    if (layer_of_id(index, at + V1_MAPPING_ID_AT, &mapping->layer) < 0) {
      return fail(failure, -EBADMSG, "header: more than %d layers", MEMORY_LAYERS_MAX);
    }
  }
  return 0;
}

static int32_t check_v2_size(const uint8_t *bytes, size_t size, struct failure *failure) {
  static const uint8_t ZEROS[HEADER_V2_BYTES - HEADER_ZERO_AT];
  if (size < HEADER_V2_BYTES + HEADER_TRAILER_BYTES || get_u64(bytes + HEADER_SIZE_AT) != size) {
    return fail(failure, -EBADMSG, "header: is not as long as it says");
  }
  const uint8_t *trailer = bytes + size - HEADER_TRAILER_BYTES;
  if (get_u32(trailer) != crc32c(0, bytes, size - HEADER_TRAILER_BYTES) ||
      get_u32(trailer + sizeof(uint32_t)) != 0) {
    return fail(failure, -EBADMSG, "header: its checksum does not match");
  }
  uint64_t mappings = get_u64(bytes + HEADER_MAPPING_COUNT_AT);
  uint32_t layers = get_u32(bytes + HEADER_LAYER_COUNT_AT);
  uint64_t counted = HEADER_V2_BYTES + (uint64_t)layers * LAYER_RECORD_BYTES +
                     mappings * MAPPING_BYTES + HEADER_TRAILER_BYTES;
  if (mappings > MEMORY_MAPPINGS_MAX || layers > MEMORY_LAYERS_MAX || counted != size ||
      memcmp(bytes + HEADER_ZERO_AT, ZEROS, sizeof ZEROS) != 0) {
    return fail(failure, -EBADMSG, "header: its counts do not fit its size");
  }
  return 0;
}

static int32_t decode_v2(const uint8_t *bytes, size_t size, struct memory_index *index,
                         struct failure *failure) {
  int32_t result = check_v2_size(bytes, size, failure);
  if (result < 0) return result;
  index->layer_count = get_u32(bytes + HEADER_LAYER_COUNT_AT);
  const uint8_t *at = bytes + HEADER_V2_BYTES;
  for (uint32_t i = 0; i < index->layer_count; i++, at += LAYER_RECORD_BYTES) {
    memcpy(index->layers[i].id, at, MEMORY_ID_BYTES);
    index->layers[i].data_bytes = get_u64(at + LAYER_RECORD_DATA_AT);
    index->layers[i].footer_crc = get_u32(at + LAYER_RECORD_CRC_AT);
    index->layers[i].format = get_u32(at + LAYER_RECORD_FORMAT_AT);
  }
  index->mapping_count = get_u64(bytes + HEADER_MAPPING_COUNT_AT);
  index->mappings = calloc(index->mapping_count + 1, sizeof *index->mappings);
  if (index->mappings == NULL) return fail(failure, -ENOMEM, "no memory for the index");
  for (uint64_t i = 0; i < index->mapping_count; i++, at += MAPPING_BYTES) {
    index->mappings[i] = (struct memory_mapping){
        .offset = get_u64(at),
        .length = get_u64(at + MAPPING_LENGTH_AT),
        .storage = get_u64(at + MAPPING_STORAGE_AT),
        .layer = get_u32(at + MAPPING_LAYER_AT),
        .kind = get_u32(at + MAPPING_KIND_AT),
    };
  }
  return 0;
}

int32_t memory_index_decode(const uint8_t *bytes, size_t size, struct memory_index *ret_index,
                            struct failure *failure) {
  if (size < HEADER_V1_BYTES) return fail(failure, -EBADMSG, "header: is too short");
  if (size > HEADER_BYTES_MAX) return fail(failure, -EFBIG, "header: is too long");
  if (get_u64(bytes + HEADER_BLOCK_AT) != MEMORY_BLOCK_BYTES) {
    return fail(failure, -EBADMSG, "header: the block size is not %d", MEMORY_BLOCK_BYTES);
  }
  struct memory_index index = {
      .total_bytes = get_u64(bytes + HEADER_TOTAL_AT),
      .generation = get_u64(bytes + HEADER_GENERATION_AT),
  };
  memcpy(index.id, bytes + HEADER_ID_AT, MEMORY_ID_BYTES);
  memcpy(index.base_id, bytes + HEADER_BASE_ID_AT, MEMORY_ID_BYTES);
  uint64_t version = get_u64(bytes + HEADER_VERSION_AT);
  int32_t result;
  if (version == HEADER_VERSION_1) {
    result = decode_v1(bytes, size, &index, failure);
  } else if (version == HEADER_VERSION_2) {
    result = decode_v2(bytes, size, &index, failure);
  } else {
    result = fail(failure, -EBADMSG, "header: version %" PRIu64 " is not known", version);
  }
  if (result == 0) result = memory_index_check(&index, failure);
  if (result < 0) {
    memory_index_free(&index);
    return result;
  }
  *ret_index = index;
  return 0;
}

static int32_t read_exactly(int fd, uint8_t *target, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(fd, target + done, size - done, (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return -EBADMSG;
    done += (size_t)got;
  }
  return 0;
}

int32_t memory_index_load(int fd, struct memory_index *ret_index, struct failure *failure) {
  struct stat status;
  if (fstat(fd, &status) < 0) return fail(failure, -errno, "header: %m");
  if (status.st_size < 0 || (uint64_t)status.st_size > HEADER_BYTES_MAX) {
    return fail(failure, -EFBIG, "header: is too long");
  }
  size_t size = (size_t)status.st_size;
  uint8_t *bytes = malloc(size + 1);
  if (bytes == NULL) return fail(failure, -ENOMEM, "no memory for the header");
  int32_t result = read_exactly(fd, bytes, size);
  if (result < 0) {
    (void)fail(failure, result, "header: cannot be read whole (errno %d)", -result);
  } else {
    result = memory_index_decode(bytes, size, ret_index, failure);
  }
  free(bytes);
  return result;
}
