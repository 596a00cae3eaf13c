/*
 * Targets of libFuzzer, one a file: each feeds one parser and checks what it promises of what it
 * accepted. AddressSanitizer and UndefinedBehaviorSanitizer watch. `make fuzz` runs them all.
 */
#ifndef WRENN_FUZZ_H
#define WRENN_FUZZ_H

#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* Called with each input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Every target has one: gives the inputs from which libFuzzer starts, by fuzz_seed. */
void fuzz_seeds(void);

void fuzz_seed(const char *name, const void *bytes, size_t size);
void fuzz_seed_text(const char *name, const char *text);

/* A copy on the heap that ends where the input does, so that a byte too far is seen. */
void *fuzz_copy(const uint8_t *bytes, size_t size);

/*
 * The same as words that were separated by newlines, after the program's name, as main() gets
 * them. Returns their number; fuzz_free_words frees them.
 */
enum { FUZZ_WORDS_MAX = 256 };
int fuzz_words(const uint8_t *bytes, size_t size, char *ret_words[FUZZ_WORDS_MAX + 1]);
void fuzz_free_words(char *words[FUZZ_WORDS_MAX + 1]);

#endif
