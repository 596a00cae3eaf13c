/* Connections of a guest as the kernel lists them, and the entropy that the host sends. */
int renew_main(void);
#define main renew_main
#include "guest/renew.c"
#undef main

#include "fuzz.h"

void fuzz_seeds(void) {
  struct {
    struct netlink_header header;
    struct socket_answer socket;
    struct netlink_header end;
  } list = {
      .header = {.length = offsetof(__typeof__(list), end), .type = SOCK_DIAG_BY_FAMILY},
      .socket = {.family = AF_INET, .state = 1, .id = {.peer = {0x01010101}}},
      .end = {.length = sizeof(struct netlink_header), .type = NLMSG_DONE},
  };
  fuzz_seed("list", &list, sizeof list);
  fuzz_seed_text("entropy", "00112233445566778899aabbccddeeff");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static struct connections found;
  struct entropy entropy = {0};
  uint8_t *copy = fuzz_copy(bytes, size);
  char *text = strndup((const char *)bytes, size);
  assert(text != NULL);
  found.count = 0;
  assert(take_all(copy, size, &found) <= 1 && found.count <= SOCKETS_MAX);
  if (parse_hex(text, &entropy) == 0) assert(entropy.byte_count == (int)strlen(text) / 2);
  free(text);
  free(copy);
  return 0;
}
