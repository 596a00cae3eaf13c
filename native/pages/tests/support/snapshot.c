#define _GNU_SOURCE
#include "snapshot.h"

#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pages/layer.h"
#include "pages/memory.h"

uint64_t next_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * UINT64_C(2685821657736338717);
}

void fill_page(uint8_t *page, uint64_t number, uint64_t generation) {
  uint64_t state = number * 2654435761u + generation + 1;
  for (size_t at = 0; at < MEMORY_BLOCK_BYTES; at += sizeof(uint64_t)) {
    uint64_t word = next_random(&state) | 1;
    memcpy(page + at, &word, sizeof word);
  }
}

void flip_byte(const char *path, uint64_t offset, uint8_t bits) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  uint8_t byte;
  assert(fd >= 0 && pread(fd, &byte, 1, (off_t)offset) == 1);
  byte ^= bits;
  assert(pwrite(fd, &byte, 1, (off_t)offset) == 1);
  assert(close(fd) == 0);
}

uint64_t file_size(const char *path) {
  struct stat status;
  assert(stat(path, &status) == 0);
  return (uint64_t)status.st_size;
}

void write_header(const char *path, const struct memory_index *index) {
  uint8_t *bytes;
  size_t size;
  assert(memory_index_encode(index, &bytes, &size) == 0);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  assert(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && close(fd) == 0);
  free(bytes);
}

static void make_generation(struct snapshot *snapshot, uint64_t generation, uint64_t *random,
                            struct memory_index *index) {
  char name[MEMORY_NAME_BYTES];
  index->total_bytes = snapshot->total_bytes;
  memset(index->id, (int)generation + 0x10, sizeof index->id);
  memory_layer_name("memory", index->id, name);
  char path[160];
  (void)snprintf(path, sizeof path, "%s/%s", snapshot->directory, name);
  strcpy(snapshot->layers[generation], path);
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  struct layer_writer writer;
  assert(fd >= 0 && layer_writer_start(&writer, fd) == 0);
  uint64_t capacity = 0;
  for (uint64_t at = 0; at < snapshot->total_bytes;) {
    uint64_t length = (1 + next_random(random) % 60) * MEMORY_BLOCK_BYTES;
    if (length > snapshot->total_bytes - at) length = snapshot->total_bytes - at;
    uint32_t kind = (uint32_t)(next_random(random) % 4);
    if (kind > MEMORY_DATA) kind = MEMORY_DATA;
    struct memory_mapping mapping = {.offset = at, .length = length, .kind = kind};
    if (kind == MEMORY_DATA) mapping.storage = writer.data_bytes;
    for (uint64_t page = at; kind != MEMORY_HOLE && page < at + length;
         page += MEMORY_BLOCK_BYTES) {
      uint8_t *expected = snapshot->expected + page;
      memset(expected, 0, MEMORY_BLOCK_BYTES);
      if (kind == MEMORY_ZERO) continue;
      fill_page(expected, page / MEMORY_BLOCK_BYTES, generation);
      assert(layer_writer_append(&writer, expected, MEMORY_BLOCK_BYTES) == 0);
    }
    assert(memory_index_append(index, &capacity, &mapping) == 0);
    at += length;
  }
  index->layer_count = 1;
  assert(layer_writer_finish(&writer, index->id, &index->layers[0]) == 0);
  assert(close(fd) == 0);
}

void snapshot_make(struct snapshot *ret_snapshot, uint64_t pages) {
  struct snapshot *snapshot = ret_snapshot;
  *snapshot = (struct snapshot){.total_bytes = pages * MEMORY_BLOCK_BYTES};
  strcpy(snapshot->directory, "/tmp/wrenn-pager-test-XXXXXX");
  assert(mkdtemp(snapshot->directory) != NULL && chmod(snapshot->directory, 0755) == 0);
  (void)snprintf(snapshot->header, sizeof snapshot->header, "%s/memory.header",
                 snapshot->directory);
  snapshot->expected = calloc(pages, MEMORY_BLOCK_BYTES);
  assert(snapshot->expected != NULL);
  uint64_t random = pages + 1;
  struct memory_index base = {0};
  struct memory_index difference = {0};
  struct memory_index whole;
  make_generation(snapshot, 0, &random, &base);
  make_generation(snapshot, 1, &random, &difference);
  assert(memory_index_overlay(&base, &difference, &whole) == 0);
  write_header(snapshot->header, &whole);
  memory_index_free(&base);
  memory_index_free(&difference);
  memory_index_free(&whole);
  snapshot->directories[0] = snapshot->directory;
}

void snapshot_remove(struct snapshot *snapshot) {
  char command[128];
  (void)snprintf(command, sizeof command, "rm -r %s", snapshot->directory);
  assert(system(command) == 0);
  free(snapshot->expected);
}

struct wrenn_pages_target snapshot_target(const struct snapshot *snapshot, const char *name,
                                          char directory[160]) {
  (void)snprintf(directory, 160, "%s/%s", snapshot->directory, name);
  assert(mkdir(directory, 0700) == 0);
  return (struct wrenn_pages_target){.directory = directory,
                                     .parent_header = snapshot->header,
                                     .layer_directories = snapshot->directory,
                                     .id = {0xab, 0xcd}};
}

void snapshot_expect(const char *directory, const struct snapshot *snapshot,
                     const uint8_t *expected) {
  char header[192];
  struct memory memory;
  struct failure failure;
  const char *directories[] = {directory, snapshot->directory, NULL};
  uint8_t *read = malloc(snapshot->total_bytes);
  (void)snprintf(header, sizeof header, "%s/memory.header", directory);
  assert(read != NULL && memory_open(header, directories, &memory, &failure) == 0);
  assert(memory_read(&memory, 0, read, snapshot->total_bytes, &failure) == 0);
  assert(memcmp(read, expected, snapshot->total_bytes) == 0);
  memory_close(&memory);
  free(read);
}
