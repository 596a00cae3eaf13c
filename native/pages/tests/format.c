/* The files of a memory snapshot: written, read, torn and flipped. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pages/crc32c.h"
#include "pages/layer-layout.h"
#include "pages/layer.h"
#include "pages/little-endian.h"
#include "pages/memory-index-layout.h"
#include "pages/memory.h"
#include "pages/tests/support/snapshot.h"
#include "tests/run.h"

enum { PAGES = 3000 };

static void the_checksum_is_crc32c_with_and_without_the_instruction(void) {
  uint8_t bytes[40000];
  uint64_t random = 7;
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)next_random(&random);

  assert(crc32c(0, "123456789", 9) == 0xe3069283);
  assert(crc32c_portable(0, "123456789", 9) == 0xe3069283);
  for (size_t size = 0; size < sizeof bytes; size += 1 + size / 3) {
    for (size_t start = 0; start < 9; start++) {
      if (start + size > sizeof bytes) continue;
      uint32_t whole = crc32c_portable(0, bytes + start, size);
      uint32_t part = crc32c(0, bytes + start, size / 2);
      assert(crc32c(0, bytes + start, size) == whole);
      assert(crc32c(part, bytes + start + size / 2, size - size / 2) == whole);
    }
  }
}

static void a_snapshot_reads_back_as_it_was_written(void) {
  struct snapshot snapshot;
  struct memory memory;
  struct failure failure;
  snapshot_make(&snapshot, PAGES);
  uint8_t *read = malloc(snapshot.total_bytes);
  assert(read != NULL);

  assert(memory_open(snapshot.header, snapshot.directories, &memory, &failure) == 0);
  assert(memory_read(&memory, 0, read, snapshot.total_bytes, &failure) == 0);
  assert(memcmp(read, snapshot.expected, snapshot.total_bytes) == 0);
  uint64_t random = 3;
  for (int i = 0; i < 500; i++) {
    uint64_t page = next_random(&random) % PAGES;
    uint64_t size = (1 + next_random(&random) % (PAGES - page)) * MEMORY_BLOCK_BYTES;
    uint64_t offset = page * MEMORY_BLOCK_BYTES;
    assert(memory_read(&memory, offset, read, size, &failure) == 0);
    assert(memcmp(read, snapshot.expected + offset, size) == 0);
  }

  assert(memory.index.generation == 1 && memory.index.layer_count == 2);
  memory_close(&memory);
  free(read);
  snapshot_remove(&snapshot);
}

static void a_zeroed_page_hides_its_parents_data_and_a_hole_shows_it(void) {
  struct memory_mapping under[] = {{.length = 3 * MEMORY_BLOCK_BYTES, .kind = MEMORY_DATA}};
  struct memory_mapping over[] = {
      {.length = MEMORY_BLOCK_BYTES, .kind = MEMORY_HOLE},
      {.offset = MEMORY_BLOCK_BYTES, .length = MEMORY_BLOCK_BYTES, .kind = MEMORY_ZERO},
      {.offset = 2 * MEMORY_BLOCK_BYTES, .length = MEMORY_BLOCK_BYTES, .kind = MEMORY_HOLE}};
  struct memory_index base = {.total_bytes = 3 * MEMORY_BLOCK_BYTES,
                              .generation = 4,
                              .mapping_count = 1,
                              .mappings = under,
                              .layer_count = 1,
                              .layers = {{.format = LAYER_SUMMED, .id = {9}}}};
  struct memory_index difference = {
      .total_bytes = 3 * MEMORY_BLOCK_BYTES, .mapping_count = 3, .mappings = over};
  struct memory_index whole;

  assert(memory_index_overlay(&base, &difference, &whole) == 0);

  assert(whole.generation == 5 && whole.mapping_count == 3 && whole.layer_count == 1);
  assert(whole.mappings[0].kind == MEMORY_DATA && whole.mappings[0].storage == 0);
  assert(whole.mappings[1].kind == MEMORY_ZERO);
  assert(whole.mappings[2].kind == MEMORY_DATA);
  assert(whole.mappings[2].storage == 2 * MEMORY_BLOCK_BYTES);
  memory_index_free(&whole);
}

static void neighbours_are_joined_only_where_their_bytes_are_neighbours(void) {
  struct memory_index index = {0};
  uint64_t capacity = 0;
  struct memory_mapping first = {.length = MEMORY_BLOCK_BYTES, .kind = MEMORY_DATA};
  struct memory_mapping apart = {.offset = MEMORY_BLOCK_BYTES,
                                 .length = MEMORY_BLOCK_BYTES,
                                 .storage = 5 * MEMORY_BLOCK_BYTES,
                                 .kind = MEMORY_DATA};
  struct memory_mapping next = {.offset = 2 * MEMORY_BLOCK_BYTES,
                                .length = MEMORY_BLOCK_BYTES,
                                .storage = 6 * MEMORY_BLOCK_BYTES,
                                .kind = MEMORY_DATA};

  assert(memory_index_append(&index, &capacity, &first) == 0);
  assert(memory_index_append(&index, &capacity, &apart) == 0);
  assert(memory_index_append(&index, &capacity, &next) == 0);

  assert(index.mapping_count == 2 && index.mappings[1].length == 2 * MEMORY_BLOCK_BYTES);
  /* What would go on is in another layer. */
  next.storage += MEMORY_BLOCK_BYTES;
  next.layer = 1;
  assert(memory_index_append(&index, &capacity, &next) == 0 && index.mapping_count == 3);
  memory_index_free(&index);
}

static void mappings_that_wrap_or_leave_their_layer_are_refused(void) {
  enum { BLOCK = MEMORY_BLOCK_BYTES };
  struct failure failure;
  struct memory_mapping mappings[] = {{.length = 2 * BLOCK, .kind = MEMORY_DATA},
                                      {.offset = 2 * BLOCK, .length = BLOCK, .kind = MEMORY_HOLE}};
  struct memory_index index = {.total_bytes = 3 * BLOCK,
                               .mapping_count = 2,
                               .mappings = mappings,
                               .layer_count = 1,
                               .layers = {{.format = LAYER_SUMMED, .data_bytes = 2 * BLOCK}}};
  assert(memory_index_check(&index, &failure) == 0);
  index.layers[0].data_bytes = BLOCK;
  assert(memory_index_check(&index, &failure) == -EBADMSG);

  /* Together they are as long as the memory, past the end of all numbers. */
  uint64_t almost_all = UINT64_MAX - BLOCK + 1;
  mappings[0] = (struct memory_mapping){.length = almost_all, .kind = MEMORY_HOLE};
  mappings[1] = (struct memory_mapping){
      .offset = almost_all, .length = 4 * BLOCK, .kind = MEMORY_HOLE};
  assert(memory_index_check(&index, &failure) == -EBADMSG);
}

static void a_layer_is_told_from_another_of_its_name_and_size(void) {
  static const uint8_t ID[MEMORY_ID_BYTES] = {7};
  struct memory_layer layers[2];
  struct failure failure;
  struct layer layer;
  int fds[2];
  for (int i = 0; i < 2; i++) {
    struct layer_writer writer;
    uint8_t page[MEMORY_BLOCK_BYTES];
    memset(page, i + 1, sizeof page);
    fds[i] = memfd_create("layer", MFD_CLOEXEC);
    assert(fds[i] >= 0 && layer_writer_start(&writer, fds[i]) == 0);
    assert(layer_writer_append(&writer, page, sizeof page) == 0);
    assert(layer_writer_finish(&writer, ID, &layers[i]) == 0);
  }

  assert(layer_open(fds[1], &layers[0], &layer, &failure) == -EBADMSG);
  assert(layer_open(fds[0], &layers[0], &layer, &failure) == 0);
  layer_close(&layer);
}

static size_t put_v1(uint8_t *bytes, const uint64_t mappings[][4], size_t count) {
  memset(bytes, 0, HEADER_V1_BYTES + count * V1_MAPPING_BYTES);
  put_u64(bytes, HEADER_VERSION_1);
  put_u64(bytes + HEADER_BLOCK_AT, MEMORY_BLOCK_BYTES);
  put_u64(bytes + HEADER_TOTAL_AT, 4 * MEMORY_BLOCK_BYTES);
  for (size_t i = 0; i < count; i++) {
    uint8_t *at = bytes + HEADER_V1_BYTES + i * V1_MAPPING_BYTES;
    put_u64(at, mappings[i][0] * MEMORY_BLOCK_BYTES);
    put_u64(at + V1_MAPPING_LENGTH_AT, mappings[i][1] * MEMORY_BLOCK_BYTES);
    at[V1_MAPPING_ID_AT] = (uint8_t)mappings[i][2];
    put_u64(at + V1_MAPPING_STORAGE_AT, mappings[i][3] * MEMORY_BLOCK_BYTES);
  }
  return HEADER_V1_BYTES + count * V1_MAPPING_BYTES;
}

static void a_header_of_version_1_reads_with_its_zeros_and_its_builds(void) {
  static const uint64_t MAPPINGS[][4] = {{0, 1, 7, 2}, {1, 2, 0, 0}, {3, 1, 8, 0}};
  uint8_t bytes[512];
  struct memory_index index;
  struct failure failure;
  size_t size = put_v1(bytes, MAPPINGS, 3);

  assert(memory_index_decode(bytes, size, &index, &failure) == 0);

  assert(index.layer_count == 2 && index.layers[0].id[0] == 7 && index.layers[1].id[0] == 8);
  assert(index.layers[0].format == LAYER_RAW);
  assert(index.mappings[0].storage == 2 * MEMORY_BLOCK_BYTES);
  assert(index.mappings[1].kind == MEMORY_ZERO && index.mappings[2].layer == 1);
  memory_index_free(&index);
}

static void layers_of_version_1_are_read_under_both_of_their_names(void) {
  static const uint64_t MAPPINGS[][4] = {{0, 1, 7, 2}, {1, 2, 0, 0}, {3, 1, 8, 0}};
  static const char *const NAMES[] = {"memfile", "memfile.08000000-0000-0000-0000-000000000000"};
  char directory[] = "/tmp/wrenn-pager-test-XXXXXX";
  char path[128];
  uint8_t bytes[512];
  uint8_t page[MEMORY_BLOCK_BYTES];
  uint8_t read[4 * MEMORY_BLOCK_BYTES];
  struct memory memory;
  struct failure failure;
  assert(mkdtemp(directory) != NULL);
  for (uint64_t file = 0; file < 2; file++) {
    (void)snprintf(path, sizeof path, "%s/%s", directory, NAMES[file]);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (uint64_t i = 0; i < 3; i++) {
      fill_page(page, i, file);
      assert(write(fd, page, sizeof page) == sizeof page);
    }
    assert(close(fd) == 0);
  }
  size_t size = put_v1(bytes, MAPPINGS, 3);
  (void)snprintf(path, sizeof path, "%s/memfile.header", directory);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  assert(write(fd, bytes, size) == (ssize_t)size && close(fd) == 0);

  const char *directories[] = {directory, NULL};
  assert(memory_open(path, directories, &memory, &failure) == 0);
  assert(memory_read(&memory, 0, read, sizeof read, &failure) == 0);

  fill_page(page, 2, 0);
  assert(memcmp(read, page, sizeof page) == 0);
  fill_page(page, 0, 1);
  assert(memcmp(read + 3 * MEMORY_BLOCK_BYTES, page, sizeof page) == 0);
  for (size_t at = 0; at < 2 * MEMORY_BLOCK_BYTES; at++) assert(read[MEMORY_BLOCK_BYTES + at] == 0);
  (void)snprintf(path, sizeof path, "%s/memfile", directory);
  assert(truncate(path, 2 * MEMORY_BLOCK_BYTES) == 0);
  assert(memory_read(&memory, 0, read, sizeof read, &failure) == -EIO);
  memory_close(&memory);
  (void)snprintf(path, sizeof path, "rm -r %s", directory);
  assert(system(path) == 0);
}

static void a_header_with_gaps_overlaps_or_a_bad_end_is_refused(void) {
  static const uint64_t BAD[][3][4] = {
      {{0, 1, 7, 0}, {2, 1, 7, 1}, {3, 1, 7, 2}},
      {{0, 2, 7, 0}, {1, 1, 7, 1}, {2, 2, 7, 2}},
      {{0, 1, 7, 0}, {1, 1, 7, 1}, {2, 1, 7, 2}},
      {{0, 1, 7, 0}, {1, 0, 7, 1}, {1, 3, 7, 2}},
      {{0, 1, 7, 0}, {1, 1, 7, 1}, {2, 9, 7, 2}},
      {{0, 1, 7, 0}, {1, 1, 7, 1}, {2, 2, 7, UINT64_MAX / 4096}},
  };
  for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
    uint8_t bytes[512];
    struct memory_index index;
    struct failure failure;
    size_t size = put_v1(bytes, BAD[i], 3);
    assert(memory_index_decode(bytes, size, &index, &failure) == -EBADMSG);
  }
}

static uint8_t *load(const char *path, size_t *ret_size) {
  size_t size = file_size(path);
  uint8_t *bytes = malloc(size);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  assert(bytes != NULL && fd >= 0 && read(fd, bytes, size) == (ssize_t)size);
  (void)close(fd);
  *ret_size = size;
  return bytes;
}

/* Exact-size copies, so that the sanitizer sees a read past the end. */
static int32_t decode_copy(const uint8_t *bytes, size_t size) {
  struct memory_index index;
  struct failure failure;
  uint8_t *copy = malloc(size + 1);
  assert(copy != NULL);
  memcpy(copy + 1, bytes, size);
  int32_t result = memory_index_decode(copy + 1, size, &index, &failure);
  free(copy);
  if (result == 0) memory_index_free(&index);
  return result;
}

static void a_torn_or_flipped_header_is_refused_at_every_byte(void) {
  struct snapshot snapshot;
  size_t size;
  snapshot_make(&snapshot, 200);
  uint8_t *bytes = load(snapshot.header, &size);

  assert(decode_copy(bytes, size) == 0);
  for (size_t cut = 0; cut < size; cut++) assert(decode_copy(bytes, cut) == -EBADMSG);
  for (size_t at = 0; at < size; at++) {
    for (int bit = 0; bit < 8; bit++) {
      bytes[at] ^= (uint8_t)(1 << bit);
      assert(decode_copy(bytes, size) == -EBADMSG);
      bytes[at] ^= (uint8_t)(1 << bit);
    }
  }
  free(bytes);
  snapshot_remove(&snapshot);
}

static void random_headers_with_right_checksums_never_leave_their_bounds(void) {
  struct snapshot snapshot;
  size_t size;
  uint64_t random = 99;
  int accepted = 0;
  snapshot_make(&snapshot, 60);
  uint8_t *bytes = load(snapshot.header, &size);
  uint8_t *changed = malloc(size);
  assert(changed != NULL);

  for (int round = 0; round < 200000; round++) {
    memcpy(changed, bytes, size);
    size_t cut = round % 3 == 0 ? next_random(&random) % (size + 1) : size;
    for (uint64_t flips = next_random(&random) % 4; flips > 0 && cut > 0; flips--) {
      changed[next_random(&random) % cut] = (uint8_t)next_random(&random);
    }
    if (round % 2 == 0 && cut > HEADER_V1_BYTES) changed[0] = HEADER_VERSION_1;
    if (cut > HEADER_V2_BYTES + HEADER_TRAILER_BYTES) {
      put_u64(changed + HEADER_SIZE_AT, cut);
      put_u32(changed + cut - HEADER_TRAILER_BYTES, crc32c(0, changed, cut - HEADER_TRAILER_BYTES));
    }
    if (decode_copy(changed, cut) == 0) accepted++;
  }

  assert(accepted > 0 && accepted < 200000);
  free(bytes);
  free(changed);
  snapshot_remove(&snapshot);
}

static int32_t read_all(const struct snapshot *snapshot) {
  struct memory memory;
  struct failure failure;
  int32_t result = memory_open(snapshot->header, snapshot->directories, &memory, &failure);
  if (result < 0) return result;
  uint8_t page[MEMORY_BLOCK_BYTES];
  for (uint64_t at = 0; result == 0 && at < snapshot->total_bytes; at += sizeof page) {
    result = memory_read(&memory, at, page, sizeof page, &failure);
    if (result == 0) assert(memcmp(page, snapshot->expected + at, sizeof page) == 0);
  }
  memory_close(&memory);
  return result;
}

static int32_t open_it(const struct snapshot *snapshot) {
  struct memory memory;
  struct failure failure;
  int32_t result = memory_open(snapshot->header, snapshot->directories, &memory, &failure);
  if (result == 0) memory_close(&memory);
  return result;
}

static void a_flipped_layer_is_refused_wherever_the_bit_is(void) {
  struct snapshot snapshot;
  uint64_t random = 5;
  snapshot_make(&snapshot, 300);
  uint64_t size = file_size(snapshot.layers[1]);
  /* Footer and checksums, 4 bytes for 64 KiB, are looked at before any guest wants the data. */
  uint64_t chunks = (size - FOOTER_BYTES + LAYER_CHUNK_BYTES + 3) / (LAYER_CHUNK_BYTES + 4);
  uint64_t data_end = size - FOOTER_BYTES - 4 * chunks;

  assert(read_all(&snapshot) == 0);
  for (int i = 0; i < 300; i++) {
    uint64_t at = i < 100 ? size - 1 - (uint64_t)i : next_random(&random) % size;
    flip_byte(snapshot.layers[1], at, 0x10);
    assert((at < data_end ? read_all(&snapshot) : open_it(&snapshot)) == -EBADMSG);
    flip_byte(snapshot.layers[1], at, 0x10);
  }
  assert(read_all(&snapshot) == 0);
  snapshot_remove(&snapshot);
}

static void a_torn_lengthened_missing_or_exchanged_layer_is_refused(void) {
  struct snapshot snapshot;
  struct snapshot other;
  snapshot_make(&snapshot, 300);
  snapshot_make(&other, 301);
  uint64_t size = file_size(snapshot.layers[0]);

  for (uint64_t cut = 0; cut < size; cut += size / 37) {
    assert(truncate(snapshot.layers[0], (off_t)cut) == 0);
    assert(read_all(&snapshot) == -EBADMSG);
  }
  assert(truncate(snapshot.layers[0], (off_t)size + 1) == 0);
  assert(read_all(&snapshot) == -EBADMSG);
  assert(unlink(snapshot.layers[0]) == 0);
  assert(read_all(&snapshot) == -ENOENT);
  assert(rename(other.layers[0], snapshot.layers[0]) == 0);
  assert(read_all(&snapshot) == -EBADMSG);
  snapshot_remove(&other);
  snapshot_remove(&snapshot);
}

int main(void) {
  RUN(the_checksum_is_crc32c_with_and_without_the_instruction);
  RUN(a_snapshot_reads_back_as_it_was_written);
  RUN(a_zeroed_page_hides_its_parents_data_and_a_hole_shows_it);
  RUN(neighbours_are_joined_only_where_their_bytes_are_neighbours);
  RUN(mappings_that_wrap_or_leave_their_layer_are_refused);
  RUN(a_layer_is_told_from_another_of_its_name_and_size);
  RUN(a_header_of_version_1_reads_with_its_zeros_and_its_builds);
  RUN(layers_of_version_1_are_read_under_both_of_their_names);
  RUN(a_header_with_gaps_overlaps_or_a_bad_end_is_refused);
  RUN(a_torn_or_flipped_header_is_refused_at_every_byte);
  RUN(random_headers_with_right_checksums_never_leave_their_bounds);
  RUN(a_flipped_layer_is_refused_wherever_the_bit_is);
  RUN(a_torn_lengthened_missing_or_exchanged_layer_is_refused);
  return 0;
}
