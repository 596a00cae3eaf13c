#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

static const char *directory;

/* libFuzzer calls it before it reads the corpus: the last argument is the directory of the seeds.
 */
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  directory = (*argv)[*argc - 1];
  fuzz_seeds();
  return 0;
}

void fuzz_seed(const char *name, const void *bytes, size_t size) {
  char path[4096];
  (void)snprintf(path, sizeof path, "%s/%s", directory, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  assert(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && close(fd) == 0);
}

void fuzz_seed_text(const char *name, const char *text) { fuzz_seed(name, text, strlen(text)); }

void *fuzz_copy(const uint8_t *bytes, size_t size) {
  void *copy = malloc(size);
  assert(copy != NULL);
  if (size > 0) memcpy(copy, bytes, size);
  return copy;
}

int fuzz_words(const uint8_t *bytes, size_t size, char *ret_words[FUZZ_WORDS_MAX + 1]) {
  int count = 0;
  ret_words[count++] = strdup("program");
  for (size_t at = 0; at < size && count < FUZZ_WORDS_MAX; at++) {
    size_t length = 0;
    while (at + length < size && bytes[at + length] != '\n') length++;
    ret_words[count++] = strndup((const char *)bytes + at, length);
    at += length;
  }
  ret_words[count] = NULL;
  return count;
}

void fuzz_free_words(char *words[FUZZ_WORDS_MAX + 1]) {
  for (int i = 0; words[i] != NULL; i++) free(words[i]);
}
