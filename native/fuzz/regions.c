/* What a VMM says of its memory, as text and over a socket. */
#define _GNU_SOURCE
#include "pager/regions.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "pages/memory-index.h"
#include "wrenn.h"

static const uint64_t TOTAL = UINT64_C(1) << 32;

void fuzz_seeds(void) {
  fuzz_seed_text("one",
                 "[{\"base_host_virt_addr\":139637976727552,\"size\":4294967296,\"offset\":0,"
                 "\"page_size\":4096}]");
  fuzz_seed_text("last", "[{\"base_host_virt_addr\":18446744073709547520,\"size\":4096,"
                         "\"offset\":4294963200}]");
  fuzz_seed_text(
      "two", "[{\"base_host_virt_addr\":8192,\"size\":4096,\"offset\":0,\"page_size_kib\":4096},"
             " { \"offset\" : 4096, \"size\":8192,\n\"base_host_virt_addr\":65536,"
             " \"new\":null, \"old\":true, \"text\":\"}]\", \"less\":-1.5e3}]");
}

static void check(const struct regions *regions) {
  assert(regions->count > 0 && regions->count <= REGIONS_MAX);
  for (size_t i = 0; i < regions->count; i++) {
    const struct region *region = &regions->list[i];
    uint64_t end;
    assert(region->size > 0 && region->size % MEMORY_BLOCK_BYTES == 0);
    assert(region->offset < TOTAL && region->size <= TOTAL - region->offset);
    assert(!__builtin_add_overflow(region->address, region->size, &end));
    if (i > 0) assert(regions->list[i - 1].address + regions->list[i - 1].size <= region->address);
    assert(regions_find_address(regions, region->address) == region);
    assert(regions_find_address(regions, end - 1) == region);
    assert(regions_find_offset(regions, region->offset) == region);
    assert(regions_find_offset(regions, region->offset + region->size - 1) == region);
  }
}

/* Returns what the parser says of a message that comes whole and once. */
static int32_t receive(const uint8_t *bytes, size_t size, struct regions *ret_regions) {
  struct failure failure;
  int pair[2];
  int received = -1;
  int descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
  char *text = strndup((const char *)bytes, size);
  assert(text != NULL && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  int32_t result = *text == '\0' ? -1 : wrenn_descriptor_send(pair[0], text, descriptor);
  (void)close(descriptor);
  (void)close(pair[0]);
  if (result >= 0) result = regions_receive(pair[1], 1000, TOTAL, ret_regions, &received, &failure);
  if (received >= 0) (void)close(received);
  (void)close(pair[1]);
  free(text);
  return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  struct regions regions;
  struct failure failure;
  char *copy = fuzz_copy(bytes, size);
  if (regions_parse(copy, size, TOTAL, &regions, &failure) == 0) check(&regions);
  free(copy);
  if (receive(bytes, size, &regions) == 0) check(&regions);
  return 0;
}
