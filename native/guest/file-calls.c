/*
 * file-calls: system calls on files that the runtime of envd has not. It serves until its standard
 * input ends; what a message is says message.h.
 *
 *   get <prefix> <path>...             answers attributes_get of each path
 *   set <prefix> <path> <name> <value>...
 *   carry <prefix> <from> <to>
 *   new <file> <name>
 *   over <file> <aside> <name> <old>
 *   reserve <file> <size>              answer an errno each, 0 for success
 *
 * Paths are followed to their end. A malformed message ends the program with status 1.
 */
#include "attributes.h"
#include "message.h"
#include "publish.h"

#include <stdlib.h>
#include <string.h>

static int carry(struct fields *fields) {
  const char *except_prefix = take(fields);
  const char *from = take(fields);

  return attributes_carry(except_prefix, from, take(fields));
}

static int set(struct fields *fields) {
  const char *prefix = take(fields);
  const char *path = take(fields);

  return attributes_set(prefix, path, fields);
}

static int new(struct fields *fields) {
  const char *file = take(fields);

  return publish_new(file, take(fields));
}

static int over(struct fields *fields) {
  const char *file = take(fields);
  const char *aside = take(fields);
  const char *name = take(fields);

  return publish_over(file, aside, name, take(fields));
}

static int reserve(struct fields *fields) {
  const char *file = take(fields);

  return publish_reserve(file, take(fields));
}

static const struct {
  const char *verb;
  int (*run)(struct fields *fields);
} calls[] = {
    {"set", set}, {"carry", carry}, {"new", new}, {"over", over}, {"reserve", reserve},
};

static void serve(const struct message *request, struct message *answer) {
  struct fields fields = {request->bytes, request->bytes + request->size};
  const char *verb = take(&fields);

  if (strcmp(verb, "get") == 0) {
    const char *prefix = take(&fields);

    while (fields.at < fields.end) attributes_get(prefix, take(&fields), answer);
    return;
  }
  for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
    if (strcmp(verb, calls[i].verb) == 0) {
      append_number(answer, calls[i].run(&fields));
      return;
    }
  fail("a message has an unknown verb");
}

int main(void) {
  struct message request = {0};
  struct message reply = {0};

  while (receive(&request)) {
    reply.size = 0;
    serve(&request, &reply);
    answer(&reply);
  }
  return 0;
}
