/* A list of pages, with its checksum made right. */
#include "pages/page-list.h"

#include <stdlib.h>

#include "fuzz.h"
#include "pages/crc32c.h"
#include "pages/little-endian.h"
#include "pages/memory-index.h"

enum { TAIL_BYTES = 8, PAGES = 1 << 20 };
static const uint64_t TOTAL = (uint64_t)PAGES * MEMORY_BLOCK_BYTES;

void fuzz_seeds(void) {
  static const uint64_t RANGES[] = {16, 4, 0, 1, 20, 2, PAGES - 1, 1};
  uint8_t list[24 + sizeof RANGES + TAIL_BYTES] = "WRENNPGS";
  list[8] = 1;
  put_u64(list + 16, sizeof RANGES / 16);
  for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++) {
    put_u64(list + 24 + i * sizeof *RANGES, RANGES[i] * MEMORY_BLOCK_BYTES);
  }
  fuzz_seed("ranges", list, sizeof list);
}

static uint64_t check_ranges(const struct page_list *list) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < list->count; i++) {
    const struct page_range *range = &list->ranges[i];
    assert(range->length > 0 && range->start < TOTAL && range->length <= TOTAL - range->start);
    bytes += range->length;
  }
  return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  struct page_list list;
  struct failure failure;
  uint8_t *copy = fuzz_copy(bytes, size);
  if (size > TAIL_BYTES) {
    put_u32(copy + size - TAIL_BYTES, crc32c(0, copy, size - TAIL_BYTES));
  }
  if (page_list_decode(copy, size, TOTAL, &list, &failure) == 0) {
    assert(check_ranges(&list) == list.bytes);
    page_list_sort(&list);
    assert(check_ranges(&list) == list.bytes);
    for (size_t i = 1; i < list.count; i++) {
      assert(list.ranges[i - 1].start + list.ranges[i - 1].length < list.ranges[i].start);
    }
    page_list_free(&list);
  }
  free(copy);
  return 0;
}
