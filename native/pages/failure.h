/*
 * Why something failed, in a sentence for the operator, beside the -errno that a function returns.
 */
#ifndef WRENN_PAGES_FAILURE_H
#define WRENN_PAGES_FAILURE_H

#include <stdint.h>

enum { FAILURE_TEXT_BYTES = 256 };

struct failure {
  char text[FAILURE_TEXT_BYTES];
};

/*
 * Writes the sentence (cut at the buffer's end) and returns `error`, so that callers can return
 * it.
 */
__attribute__((format(printf, 3, 4))) int32_t fail(struct failure *failure, int32_t error,
                                                   const char *format, ...);

#endif
