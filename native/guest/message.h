/*
 * Messages between envd and a program that serves it: bytes that are NUL-terminated fields, before
 * them their number (four bytes, least significant first).
 */
#ifndef WRENN_GUEST_MESSAGE_H
#define WRENN_GUEST_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>

struct message {
  char *bytes;
  size_t size;
  size_t capacity;
};

/* What is left to be taken of a message. */
struct fields {
  const char *at;
  const char *end;
};

/* Reads the next message from standard input; false at its end. A malformed one ends us. */
bool receive(struct message *message);

/* Writes the message to standard output. Ends the program when nobody reads it. */
void answer(const struct message *message);

/* Adds a field. */
void append(struct message *message, const char *bytes, size_t size);
void append_number(struct message *message, int number);

/* The next field. A message without one ends the program. */
const char *take(struct fields *fields);

/* Says what is wrong on standard error and ends the program with status 1. */
_Noreturn void fail(const char *what);

#endif
