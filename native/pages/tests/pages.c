/* Comparing pages, saving whole files of them, merging generations. */
#define _GNU_SOURCE
#include "pages/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pages/memory.h"
#include "pages/tests/support/snapshot.h"
#include "tests/run.h"
#include "wrenn.h"

enum { PAGE = MEMORY_BLOCK_BYTES, PAGES = 2000 };

static void one_bit_anywhere_makes_a_page_differ(void) {
  uint8_t a[PAGE] = {0};
  uint8_t b[PAGE] = {0};
  assert(pages_are_zero(a, PAGE) && pages_are_zero_sse2(a, PAGE));
  assert(pages_are_equal(a, b, PAGE) && pages_are_equal_sse2(a, b, PAGE));
  for (size_t at = 0; at < PAGE; at++) {
    a[at] = (uint8_t)(1 << at % 8);
    assert(!pages_are_zero(a, PAGE) && !pages_are_zero_sse2(a, PAGE));
    assert(!pages_are_equal(a, b, PAGE) && !pages_are_equal_sse2(a, b, PAGE));
    a[at] = 0;
  }
}

static void a_whole_file_is_saved_with_its_holes_and_zeros(void) {
  struct snapshot snapshot;
  char directory[160];
  char text[256];
  char path[128];
  uint64_t counts[WRENN_PAGES_COUNTS];
  snapshot_make(&snapshot, PAGES);
  struct wrenn_pages_target target = snapshot_target(&snapshot, "first", directory);
  (void)snprintf(path, sizeof path, "%s/ram", snapshot.directory);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  uint8_t *expected = calloc(PAGES, PAGE);
  assert(expected != NULL && ftruncate(fd, (off_t)snapshot.total_bytes) == 0);
  memset(expected + 64 * PAGE, 7, 10 * PAGE);
  assert(pwrite(fd, expected + 48 * PAGE, 64 * PAGE, 48 * PAGE) == 64 * PAGE && close(fd) == 0);

  /* Over a parent with data everywhere, so that a hole must hide it. */
  assert(wrenn_pages_seal_file(path, snapshot.total_bytes, &target, counts, text, sizeof text) ==
         0);
  snapshot_expect(directory, &snapshot, expected);
  struct wrenn_pages_target alone = snapshot_target(&snapshot, "alone", directory);
  alone.parent_header = NULL;
  assert(wrenn_pages_seal_file(path, snapshot.total_bytes, &alone, counts, text, sizeof text) == 0);

  snapshot_expect(directory, &snapshot, expected);
  assert(counts[WRENN_PAGES_DATA] == 10 * PAGE && counts[WRENN_PAGES_ZERO] == 54 * PAGE);
  assert(counts[WRENN_PAGES_READ] == 64 * PAGE && counts[WRENN_PAGES_UNCHANGED] == 0);
  free(expected);
  snapshot_remove(&snapshot);
}

static void many_layers_merge_into_one_and_into_a_flat_file(void) {
  struct snapshot snapshot;
  char directory[160];
  char text[256];
  char flat[128];
  snapshot_make(&snapshot, PAGES);
  struct wrenn_pages_target target = snapshot_target(&snapshot, "merged", directory);
  (void)snprintf(flat, sizeof flat, "%s/flat", snapshot.directory);

  assert(wrenn_pages_merge(&target, text, sizeof text) == 0);
  assert(wrenn_pages_flatten(snapshot.header, snapshot.directory, flat, text, sizeof text) == 0);
  assert(unlink(snapshot.layers[0]) == 0 && unlink(snapshot.layers[1]) == 0);

  snapshot_expect(directory, &snapshot, snapshot.expected);
  int fd = open(flat, O_RDONLY | O_CLOEXEC);
  struct stat status;
  uint8_t *read = mmap(NULL, snapshot.total_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  assert(read != MAP_FAILED && memcmp(read, snapshot.expected, snapshot.total_bytes) == 0);
  assert(fstat(fd, &status) == 0 && (uint64_t)status.st_blocks * 512 < snapshot.total_bytes);
  assert(munmap(read, snapshot.total_bytes) == 0 && close(fd) == 0);
  assert(wrenn_pages_flatten(snapshot.header, snapshot.directory, flat, text, sizeof text) ==
         -ENOENT);
  assert(strlen(text) > 0);
  snapshot_remove(&snapshot);
}

int main(void) {
  RUN(one_bit_anywhere_makes_a_page_differ);
  RUN(a_whole_file_is_saved_with_its_holes_and_zeros);
  RUN(many_layers_merge_into_one_and_into_a_flat_file);
  return 0;
}
