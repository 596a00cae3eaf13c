#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum control_command control_parse(const char *line, size_t size) {
  static const char *const NAMES[CONTROL_UNKNOWN] = {
      [CONTROL_STATS] = "stats",
      [CONTROL_READY] = "ready",
      [CONTROL_WORKING_SET] = "working-set",
      [CONTROL_REMOVED] = "removed",
      [CONTROL_REGIONS] = "regions",
      [CONTROL_STOP] = "stop",
  };
  for (int i = 0; i < CONTROL_UNKNOWN; i++) {
    if (strlen(NAMES[i]) == size && memcmp(NAMES[i], line, size) == 0) {
      return (enum control_command)i;
    }
  }
  return CONTROL_UNKNOWN;
}

void control_start(struct control *control, int listener) {
  *control = (struct control){.listener = listener};
  for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) control->clients[i].fd = -1;
}

static void end_client(struct control_client *client) {
  if (client->fd >= 0) (void)close(client->fd);
  *client = (struct control_client){.fd = -1};
}

void control_close(struct control *control) {
  if (control->listener >= 0) (void)close(control->listener);
  control->listener = -1;
  for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) end_client(&control->clients[i]);
}

void control_polls(const struct control *control, struct pollfd *polls) {
  polls[0] = (struct pollfd){.fd = control->listener, .events = POLLIN};
  for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
    polls[1 + i] = (struct pollfd){.fd = control->clients[i].fd, .events = POLLIN};
  }
}

static void accept_client(struct control *control) {
  int fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
    if (control->clients[i].fd < 0) {
      control->clients[i] = (struct control_client){.fd = fd};
      return;
    }
  }
  (void)close(fd);
}

static void read_client(struct control_client *client, control_answer *answer, void *context) {
  ssize_t got = recv(client->fd, client->line + client->filled,
                     sizeof client->line - client->filled, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    end_client(client);
    return;
  }
  client->filled += (size_t)got;
  for (;;) {
    char *newline = memchr(client->line, '\n', client->filled);
    if (newline == NULL) break;
    size_t size = (size_t)(newline - client->line);
    enum control_command command = control_parse(client->line, size);
    client->filled -= size + 1;
    memmove(client->line, newline + 1, client->filled);
    answer(context, client, command);
    if (client->fd < 0) return;
  }
  if (client->filled == sizeof client->line) end_client(client);
}

void control_work(struct control *control, const struct pollfd *polls, control_answer *answer,
                  void *context) {
  for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
    struct control_client *client = &control->clients[i];
    if (polls[1 + i].revents != 0 && client->fd == polls[1 + i].fd) {
      read_client(client, answer, context);
    }
  }
  if (polls[0].revents != 0) accept_client(control);
}

void control_send(struct control_client *client, const char *text, size_t size) {
  ssize_t sent = send(client->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent != (ssize_t)size) end_client(client);
}
