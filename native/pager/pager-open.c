#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "confine.h"
#include "pager.h"

/* The VMM has sent its message when it connects, or does at once. */
enum { HAND_OVER_TIMEOUT_MS = 5000, BACKLOG = 8 };

/* Under its name only when it listens: who waits for the file may connect once it is there. */
static int listen_at(const char *path, int64_t owner) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char *aside = address.sun_path;
  (void)snprintf(aside, sizeof address.sun_path, "%s" SOCKET_ASIDE_SUFFIX, path);
  (void)unlink(aside);
  mode_t mask = umask(0177);
  bool is_bound = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
  (void)umask(mask);
  if (!is_bound || (owner >= 0 && chown(aside, (uid_t)owner, (gid_t)-1) < 0) ||
      listen(fd, BACKLOG) < 0 || rename(aside, path) < 0) {
    int error = errno;
    (void)unlink(aside);
    (void)close(fd);
    return -error;
  }
  return fd;
}

static int32_t open_signals(struct pager *pager) {
  sigset_t ending;
  (void)sigemptyset(&ending);
  (void)sigaddset(&ending, SIGTERM);
  (void)sigaddset(&ending, SIGINT);
  (void)sigaddset(&ending, SIGPIPE);
  (void)sigprocmask(SIG_BLOCK, &ending, NULL);
  (void)sigdelset(&ending, SIGPIPE);
  pager->signals = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
  return pager->signals < 0 ? fail(&pager->server.failure, -errno, "signalfd: %m") : 0;
}

static int32_t open_sockets(struct pager *pager) {
  const struct options *options = &pager->options;
  struct failure *failure = &pager->server.failure;
  if (options->control != NULL) {
    int fd = listen_at(options->control, -1);
    if (fd < 0) return fail(failure, fd, "--control: cannot listen (errno %d)", -fd);
    pager->control.listener = fd;
  }
  pager->listener = listen_at(options->socket, options->vmm_uid);
  if (pager->listener >= 0) return 0;
  return fail(failure, pager->listener, "--socket: cannot listen (errno %d)", -pager->listener);
}

/* A working set that was torn costs time and no more: the resume goes on without it. */
static int32_t open_prefetch(struct pager *pager) {
  if (pager->options.prefetch == NULL) return 0;
  struct server *server = &pager->server;
  struct failure failure;
  int32_t result = page_list_load(pager->options.prefetch, server->memory.index.total_bytes,
                                  &server->prefetch, &failure);
  if (result < 0) (void)fprintf(stderr, "pager: --prefetch is left out: %s\n", failure.text);
  for (size_t i = 0; result == 0 && i < server->prefetch.count; i++) {
    const struct page_range *range = &server->prefetch.ranges[i];
    memory_read_ahead(&server->memory, range->start, range->length);
  }
  return result == -ENOMEM ? fail(&server->failure, result, "%s", failure.text) : 0;
}

int32_t pager_open(struct pager *pager) {
  const struct options *options = &pager->options;
  struct server *server = &pager->server;
  struct failure *failure = &server->failure;
  int32_t result = open_signals(pager);
  if (result == 0) {
    result = memory_open(options->header, options->directories, &server->memory, failure);
  }
  if (result == 0) result = server_prepare(server, options->window_bytes);
  if (result == 0) result = open_prefetch(pager);
  if (result == 0) result = open_sockets(pager);
  if (result == 0) result = confine(options->uid, failure);
  server->is_recording = options->record != NULL;
  return result;
}

void pager_close(struct pager *pager) {
  int owned[] = {pager->listener, pager->signals, pager->reason};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
    if (owned[i] >= 0) (void)close(owned[i]);
  }
  control_close(&pager->control);
  server_free(&pager->server);
}

static bool is_vmm(const struct pager *pager, int connection) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return false;
  return pager->options.vmm_uid < 0 || peer.uid == (uid_t)pager->options.vmm_uid;
}

int32_t pager_accept(struct pager *pager) {
  struct server *server = &pager->server;
  struct failure *failure = &server->failure;
  int connection = accept4(pager->listener, NULL, NULL, SOCK_CLOEXEC);
  if (connection < 0 && (errno == EAGAIN || errno == ECONNABORTED)) return 0;
  if (connection < 0) return fail(failure, -errno, "the VMM cannot be accepted: %m");
  if (!is_vmm(pager, connection)) {
    (void)close(connection);
    return 0;
  }
  int32_t result = regions_receive(connection, HAND_OVER_TIMEOUT_MS,
                                   server->memory.index.total_bytes, &server->regions,
                                   &server->uffd, failure);
  (void)close(connection);
  if (result < 0) return result;
  (void)close(pager->listener);
  pager->listener = -1;
  int flags = fcntl(server->uffd, F_GETFL);
  if (flags < 0 || fcntl(server->uffd, F_SETFL, flags | O_NONBLOCK) < 0) {
    return fail(failure, -errno, "the userfaultfd: %m");
  }
  return 1;
}
