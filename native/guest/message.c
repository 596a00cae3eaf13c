#include "message.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A list of a large directory, all of its paths at once. */
enum { MESSAGE_BYTES_MAX = 64 * 1024 * 1024 };

_Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
  exit(1);
}

/* Reads exactly that many bytes; false at the end of the input. */
static bool read_all(void *buffer, size_t size) {
  char *at = buffer;

  while (size > 0) {
    ssize_t got = read(STDIN_FILENO, at, size);

    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= (size_t)got;
  }
  return true;
}

static void write_all(const void *buffer, size_t size) {
  const char *at = buffer;

  while (size > 0) {
    ssize_t put = write(STDOUT_FILENO, at, size);

    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("nobody reads the answers");
    at += put;
    size -= (size_t)put;
  }
}

static void reserve(struct message *message, size_t capacity) {
  if (capacity > MESSAGE_BYTES_MAX) fail("a message is too long");
  if (capacity <= message->capacity) return;
  message->capacity = capacity * 2;
  message->bytes = realloc(message->bytes, message->capacity);
  if (message->bytes == NULL) fail("out of memory");
}

bool receive(struct message *message) {
  uint32_t size;

  if (!read_all(&size, sizeof(size))) return false;
  reserve(message, size);
  message->size = size;
  if (!read_all(message->bytes, size)) fail("a message is cut off");
  return true;
}

void answer(const struct message *message) {
  uint32_t size = (uint32_t)message->size;

  write_all(&size, sizeof(size));
  write_all(message->bytes, message->size);
}

void append(struct message *message, const char *bytes, size_t size) {
  reserve(message, message->size + size + 1);
  memcpy(message->bytes + message->size, bytes, size);
  message->bytes[message->size + size] = '\0';
  message->size += size + 1;
}

void append_number(struct message *message, int number) {
  char text[16];
  int length = snprintf(text, sizeof(text), "%d", number);

  append(message, text, (size_t)length);
}

const char *take(struct fields *fields) {
  const char *field = fields->at;
  const char *nul = memchr(field, '\0', (size_t)(fields->end - field));

  if (nul == NULL) fail("a message is cut off");
  fields->at = nul + 1;
  return field;
}
