/* The pager's command line, a word a line. */
#include "pager/options.h"

#include <string.h>

#include "fuzz.h"

void fuzz_seeds(void) {
  fuzz_seed_text("all",
                 "--header\n/a/memory.header\n--layers\n/a\n--layers\n/b\n--socket\nmemory.sock\n"
                 "--control\ncontrol.sock\n--reason\nreason\n--prefetch\n/a/working-set\n--record\n"
                 "working-set\n--removed\nremoved\n--vmm-uid\n1000\n--uid\n1001\n--window-kib\n64\n"
                 "--prefetch-before-mib\n8\n--connect-timeout-ms\n30000");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  char *words[FUZZ_WORDS_MAX + 1];
  struct options options;
  struct failure failure = {0};
  int count = fuzz_words(bytes, size, words);
  if (options_parse(count, words, &options, &failure) == 0) {
    assert(options.header != NULL && options.socket != NULL && options.directories[0] != NULL);
    assert(options.window_bytes > 0 && (options.window_bytes & (options.window_bytes - 1)) == 0);
    assert(options.uid != 0 && options.connect_timeout_ms > 0);
  } else {
    assert(failure.text[0] != '\0' && memchr(failure.text, '\0', sizeof failure.text) != NULL);
  }
  fuzz_free_words(words);
  return 0;
}
