/* A snapshot of two generations on disk, and what a guest restored from it must read. */
#ifndef WRENN_PAGES_TESTS_SNAPSHOT_H
#define WRENN_PAGES_TESTS_SNAPSHOT_H

#include <stdint.h>

#include "pages/memory-index.h"
#include "wrenn.h"

struct snapshot {
  char directory[64];
  char header[96];
  char layers[2][160]; /* paths: the base's, the difference's */
  uint64_t total_bytes;
  uint8_t *expected; /* total_bytes */
  const char *directories[2];
};

/* Makes one of `pages` pages: data, zero pages and holes mixed, in runs of 1 to 60 pages. */
void snapshot_make(struct snapshot *ret_snapshot, uint64_t pages);

void snapshot_remove(struct snapshot *snapshot);

/* Changes bits of one byte of a file. */
void flip_byte(const char *path, uint64_t offset, uint8_t bits);

/* Writes an encoded header. */
void write_header(const char *path, const struct memory_index *index);

/* A page that says which one it is, and of which generation. */
void fill_page(uint8_t *page, uint64_t number, uint64_t generation);

/* The next number of a small generator (xorshift64*): the same in each run. */
uint64_t next_random(uint64_t *state);

uint64_t file_size(const char *path);

/* Makes directory `name` in the snapshot's, for a generation over it. */
struct wrenn_pages_target snapshot_target(const struct snapshot *snapshot, const char *name,
                                          char directory[160]);

/* The generation in `directory`, over the snapshot's layers, must read as `expected`. */
void snapshot_expect(const char *directory, const struct snapshot *snapshot,
                     const uint8_t *expected);

#endif
