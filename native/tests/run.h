/* Runs a test and prints its name as a sentence. A failed assert ends the program before that. */
#ifndef WRENN_TESTS_RUN_H
#define WRENN_TESTS_RUN_H

#undef NDEBUG
#include <assert.h>
#include <stdio.h>

static void run(void (*test)(void), const char *name) {
  test();
  (void)fputs("ok ", stdout);
  for (; *name != '\0'; name++) (void)fputc(*name == '_' ? ' ' : *name, stdout);
  (void)fputc('\n', stdout);
  (void)fflush(stdout);
}

#define RUN(test) run(test, #test)

#endif
