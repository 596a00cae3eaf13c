/* Messages on the guest's console, see console.h. */
#include "console.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Longest line; the rest is cut, since the console must not be a way to block. */
#define LINE_MAX_BYTES 512

static void write_line(const char *format, va_list arguments, const char *suffix) {
  char line[LINE_MAX_BYTES];
  int used = snprintf(line, sizeof(line), "%s: ", CONSOLE_PROGRAM);
  int added = vsnprintf(line + used, sizeof(line) - (size_t)used, format, arguments);
  if (added > 0) used += added;
  if ((size_t)used < sizeof(line)) {
    added = snprintf(line + used, sizeof(line) - (size_t)used, "%s", suffix);
    if (added > 0) used += added;
  }
  size_t length = (size_t)used < sizeof(line) ? (size_t)used : sizeof(line) - 1;
  if (length == sizeof(line) - 1) length--;
  line[length++] = '\n';
  ssize_t written = write(STDERR_FILENO, line, length);
  (void)written; /* There is nowhere left to report it. */
}

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write_line(format, arguments, "");
  va_end(arguments);
}

void say_errno(const char *format, ...) {
  int error = errno;
  char suffix[128];
  snprintf(suffix, sizeof(suffix), ": %s (errno %d)", strerror(error), error);
  va_list arguments;
  va_start(arguments, format);
  write_line(format, arguments, suffix);
  va_end(arguments);
  errno = error;
}
