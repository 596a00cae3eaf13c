/* Texts that the init of a guest reads: the kernel's command line and what hosts makes of it. */
#include "../../rootfs/init/cmdline.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

void fuzz_seeds(void) {
  fuzz_seed_text("cmdline",
                 "console=ttyS0 quiet wrenn.hostname=cl-abc wrenn.dns=\"9.9.9.9,2620:fe::fe\" ro");
  fuzz_seed_text("hosts", "127.0.0.1\tlocalhost\n127.0.1.1 old # cl-abc\n::1 localhost\n");
}

static void check(int length, const char *text) {
  assert(length < 0 ? text[0] == '\0' : strlen(text) == (size_t)length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  char value[HOSTNAME_MAX_BYTES + 1];
  char servers[64];
  size_t room = size / 2 + 80;
  char *made = malloc(room);
  char *text = strndup((const char *)bytes, size);
  assert(made != NULL && text != NULL);
  check(cmdline_value(text, "wrenn.hostname", value, sizeof value), value);
  check(cmdline_value(text, "wrenn.dns", servers, sizeof servers), servers);
  (void)cmdline_has(text, "ro");
  int length = hosts_text(text, hostname_is_valid(value) ? value : "cl-abc", made, room);
  check(length, made);
  if (length >= 0) {
    /* Once more changes nothing. */
    char *again = malloc((size_t)length + 1);
    assert(again != NULL);
    int second = hosts_text(made, hostname_is_valid(value) ? value : "cl-abc", again,
                            (size_t)length + 1);
    assert(second == length && strcmp(made, again) == 0);
    free(again);
  }
  check(resolv_conf_text(servers, made, room), made);
  check(resolv_conf_text(text, made, room), made);
  free(made);
  free(text);
  return 0;
}
