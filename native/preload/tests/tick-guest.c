/*
 * The whole user space of a guest that shows whether its memory came back: it fills memory with a
 * pattern, then counts, and at each tick changes a page, checks others and prints
 * "tick <boot nonce> <count> <pages that were wrong>".
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 6144, CHECKED_PER_TICK = 512, TICK_MS = 50 };

static uint64_t word_of(uint64_t nonce, uint64_t page, uint64_t written) {
  return (nonce ^ page * UINT64_C(0x9e3779b97f4a7c15)) + written;
}

int main(void) {
  uint64_t nonce = __builtin_ia32_rdtsc();
  static uint64_t written[PAGES];
  uint8_t *memory = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  for (uint64_t page = 0; page < PAGES; page++) {
    uint64_t word = word_of(nonce, page, 0);
    for (size_t at = 0; at < PAGE; at += sizeof word) {
      memcpy(memory + page * PAGE + at, &word, sizeof word);
    }
  }
  for (uint64_t count = 1;; count++) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < CHECKED_PER_TICK; i++) {
      uint64_t page = (count * CHECKED_PER_TICK + i) % PAGES;
      uint64_t word;
      memcpy(&word, memory + page * PAGE + count % 512 * 8, sizeof word);
      uint64_t expected = word_of(nonce, page, 0);
      if (count % 512 == 0) expected = word_of(nonce, page, written[page]);
      if (word != expected) wrong++;
    }
    uint64_t changed = count * 7 % PAGES;
    uint64_t word = word_of(nonce, changed, ++written[changed]);
    memcpy(memory + changed * PAGE, &word, sizeof word);
    char line[96];
    int size = snprintf(line, sizeof line, "tick %llx %llu %llu\n", (unsigned long long)nonce,
                        (unsigned long long)count, (unsigned long long)wrong);
    if (write(STDOUT_FILENO, line, (size_t)size) < 0) return 1;
    struct timespec pause = {.tv_nsec = TICK_MS * 1000000L};
    (void)nanosleep(&pause, NULL);
  }
}
