/* Answers of the kernel's routing and device tables. */
#include "network/rt-answer.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { NAMES_BYTES = 256 };

void fuzz_seeds(void) {
  static const char NAME[12] = "wv-abcd-1";
  struct {
    struct nlmsghdr header;
    struct ifinfomsg link;
    struct rtattr attribute;
    char name[sizeof NAME];
    struct nlmsghdr end;
  } dump = {
      .header = {.nlmsg_len = offsetof(__typeof__(dump), end), .nlmsg_type = RTM_NEWLINK},
      .attribute = {.rta_len = RTA_LENGTH(sizeof NAME), .rta_type = IFLA_IFNAME},
      .end = {.nlmsg_len = NLMSG_HDRLEN, .nlmsg_type = NLMSG_DONE},
  };
  memcpy(dump.name, NAME, sizeof NAME);
  fuzz_seed("dump", &dump, sizeof dump);

  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
  } refusal = {.header = {.nlmsg_len = sizeof refusal, .nlmsg_type = NLMSG_ERROR},
               .error = {.error = -17}};
  fuzz_seed("refusal", &refusal, sizeof refusal);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  bool interrupted = false;
  char *names = malloc(NAMES_BYTES);
  void *copy = fuzz_copy(bytes, size);
  assert(names != NULL);
  assert(rt_read_acknowledgement(copy, size) <= 0);
  struct rt_names list = {.prefix = "wv-", .names = names, .size = NAMES_BYTES};
  int32_t result = rt_read_dump(copy, size, rt_collect_name, &list, &interrupted);
  assert(result <= 1 && list.used < NAMES_BYTES);
  names[list.used] = '\0';
  for (const char *line = names; *line != '\0'; line = strchr(line, '\n') + 1) {
    assert(strncmp(line, "wv-", 3) == 0 || strchr(names, '\n') != NULL);
  }
  struct rt_text text = {.text = names, .size = NAMES_BYTES};
  assert(rt_read_dump(copy, size, rt_collect_text, &text, &interrupted) <= 1);
  assert(text.used < NAMES_BYTES);
  free(copy);
  free(names);
  return 0;
}
