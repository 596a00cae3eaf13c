/*
 * The control socket: a client sends a command and a newline, the pager answers with one line of
 * JSON. Commands: stats, ready (answered once the VMM may run), regions (where the VMM has the
 * memory), working-set and removed (write the list now), stop (ends the VMM, then the pager).
 * docs/memory.md describes the answers.
 */
#ifndef WRENN_PAGER_CONTROL_H
#define WRENN_PAGER_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  CONTROL_CLIENTS_MAX = 8, /* the agent, its predecessor that is not gone yet, an operator or two */
  CONTROL_LINE_BYTES = 64,
  CONTROL_POLLS = 1 + CONTROL_CLIENTS_MAX,
};

enum control_command {
  CONTROL_STATS,
  CONTROL_READY,
  CONTROL_WORKING_SET,
  CONTROL_REMOVED,
  CONTROL_REGIONS,
  CONTROL_STOP,
  CONTROL_UNKNOWN,
};

/* Reads a line without its newline. */
enum control_command control_parse(const char *line, size_t size);

struct control_client {
  int fd;
  size_t filled;
  char line[CONTROL_LINE_BYTES];
  bool waits_until_ready;
};

struct control {
  int listener; /* -1: no control socket */
  struct control_client clients[CONTROL_CLIENTS_MAX];
};

/* `listener` is a listening socket that does not block, or -1. It is taken over. */
void control_start(struct control *control, int listener);

void control_close(struct control *control);

/* Fills CONTROL_POLLS entries for poll(2); unused ones get descriptor -1. */
void control_polls(const struct control *control, struct pollfd *polls);

/*
 * Does what poll(2) said: accepts (a client too many is closed at once), reads, and calls `answer`
 * for each whole line. A line that is too long ends its client. Never blocks.
 */
typedef void control_answer(void *context, struct control_client *client,
                            enum control_command command);
void control_work(struct control *control, const struct pollfd *polls, control_answer *answer,
                  void *context);

/* Sends a line. A client that does not read is closed: the pager never waits for one. */
void control_send(struct control_client *client, const char *text, size_t size);

#endif
