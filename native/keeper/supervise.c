/*
 * The keeper's life with its VMM: one poll loop over the VMM's output, its pidfd, the keeper's own
 * signals and its socket. Nothing in it waits for anybody else.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* One agent holds one connection; a second is its successor. More have to wait for a place. */
enum { WATCHERS_MAX = 4 };
enum { CHUNK_BYTES = 64 * 1024, STDERR_TAIL_BYTES = 1024 };
/* stderr of a VMM is some lines; a broken one must not fill the run directory, which is memory. */
enum { ERROR_LOG_MAX_BYTES = 128 * 1024 };
/* How much output of a VMM that has ended is still read: its pipe held at most 64 KiB. */
enum { DRAIN_CHUNKS_MAX = 4 };
/* A pager whose VMM has ended writes its lists, some megabytes at most, and ends. */
enum { PAGER_END_MS = 5000 };

struct keeper {
  const struct keeper_options *options;
  int run_dir;
  struct vmm vmm;
  struct pager pager;
  int signals;
  int listener;
  int watchers[WATCHERS_MAX];
  struct bounded_log console;
  struct bounded_log errors;
  char tail[STDERR_TAIL_BYTES];
  size_t tail_size;
  bool was_asked;
  bool was_killed;
  bool has_lost_pager;
  int64_t kill_at_ms;
};

static void keep_tail(struct keeper *k, const char *bytes, size_t size) {
  if (size > sizeof(k->tail)) {
    bytes += size - sizeof(k->tail);
    size = sizeof(k->tail);
  }
  size_t excess = k->tail_size + size > sizeof(k->tail) ? k->tail_size + size - sizeof(k->tail) : 0;
  memmove(k->tail, k->tail + excess, k->tail_size - excess);
  k->tail_size -= excess;
  memcpy(k->tail + k->tail_size, bytes, size);
  k->tail_size += size;
}

/* Returns whether there may be more. At the end of file the descriptor is closed. */
static bool pump(struct keeper *k, int *from, struct bounded_log *log) {
  char chunk[CHUNK_BYTES];
  if (*from < 0) return false;
  ssize_t size = read(*from, chunk, sizeof(chunk));
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return errno == EINTR;
  if (size <= 0) {
    (void)close(*from);
    *from = -1;
    return false;
  }
  if (log == &k->errors) keep_tail(k, chunk, (size_t)size);
  log_write(log, chunk, (size_t)size, monotonic_ms());
  return true;
}

static void send_vmm(const struct keeper *k, int signal_number) {
  (void)syscall(SYS_pidfd_send_signal, k->vmm.pidfd, signal_number, NULL, 0);
}

static void ask_to_end(struct keeper *k) {
  if (k->was_asked) return;
  k->was_asked = true;
  k->kill_at_ms = monotonic_ms() + k->options->grace_ms;
  send_vmm(k, SIGTERM);
}

static void kill_when_due(struct keeper *k) {
  if (!k->was_asked || k->was_killed || monotonic_ms() < k->kill_at_ms) return;
  k->was_killed = true;
  send_vmm(k, SIGKILL);
}

static void take_signal(struct keeper *k) {
  struct signalfd_siginfo info;
  if (read(k->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) ask_to_end(k);
}

/* The place for one more watcher, or -1. */
static int free_watcher(const struct keeper *k) {
  for (int i = 0; i < WATCHERS_MAX; i++) {
    if (k->watchers[i] < 0) return i;
  }
  return -1;
}

static void take_watcher(struct keeper *k) {
  int place = free_watcher(k);
  if (place < 0) return;
  k->watchers[place] = accept4(k->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void hear_watcher(struct keeper *k, int *watcher) {
  char bytes[16];
  ssize_t size = read(*watcher, bytes, sizeof(bytes));
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size > 0) {
    if (memchr(bytes, 'T', (size_t)size) != NULL) ask_to_end(k);
    return;
  }
  (void)close(*watcher);
  *watcher = -1;
}

enum { SLOT_VMM, SLOT_PAGER, SLOT_SIGNALS, SLOT_OUTPUT, SLOT_ERRORS, SLOT_LISTENER, SLOT_WATCHERS };

/* One turn. Returns false once the VMM has ended. A descriptor of -1 is ignored by poll. */
static bool turn(struct keeper *k) {
  struct pollfd slots[SLOT_WATCHERS + WATCHERS_MAX] = {
      [SLOT_VMM] = {.fd = k->vmm.pidfd, .events = POLLIN},
      [SLOT_PAGER] = {.fd = k->has_lost_pager ? -1 : k->pager.pidfd, .events = POLLIN},
      [SLOT_SIGNALS] = {.fd = k->signals, .events = POLLIN},
      [SLOT_OUTPUT] = {.fd = k->vmm.output, .events = POLLIN},
      [SLOT_ERRORS] = {.fd = k->vmm.errors, .events = POLLIN},
      [SLOT_LISTENER] = {.fd = free_watcher(k) < 0 ? -1 : k->listener, .events = POLLIN},
  };
  for (int i = 0; i < WATCHERS_MAX; i++) {
    slots[SLOT_WATCHERS + i] = (struct pollfd){.fd = k->watchers[i], .events = POLLIN};
  }
  bool must_kill = k->was_asked && !k->was_killed;
  int64_t wait_ms = must_kill ? k->kill_at_ms - monotonic_ms() : -1;
  if (must_kill && wait_ms < 0) wait_ms = 0;
  if (poll(slots, SLOT_WATCHERS + WATCHERS_MAX, (int)wait_ms) < 0) return true;
  if (slots[SLOT_PAGER].revents != 0) {
    /* The guest would wait for its memory for ever. */
    k->has_lost_pager = true;
    send_vmm(k, SIGKILL);
  }
  if (slots[SLOT_SIGNALS].revents != 0) take_signal(k);
  if (slots[SLOT_OUTPUT].revents != 0) (void)pump(k, &k->vmm.output, &k->console);
  if (slots[SLOT_ERRORS].revents != 0) (void)pump(k, &k->vmm.errors, &k->errors);
  if (slots[SLOT_LISTENER].revents != 0) take_watcher(k);
  for (int i = 0; i < WATCHERS_MAX; i++) {
    if (slots[SLOT_WATCHERS + i].revents != 0) hear_watcher(k, &k->watchers[i]);
  }
  kill_when_due(k);
  return slots[SLOT_VMM].revents == 0;
}

/* The VMM has ended, and its pid namespace with it, so the pipes have no writer any more. */
static void bury(struct keeper *k) {
  struct vmm_end end = {.was_asked = k->was_asked, .has_pager = k->pager.pid >= 0};
  while (waitpid(k->vmm.pid, &end.status, 0) < 0 && errno == EINTR) continue;
  end.pager_status = pager_bury(&k->pager, PAGER_END_MS);
  for (int i = 0; i < DRAIN_CHUNKS_MAX && pump(k, &k->vmm.output, &k->console); i++) continue;
  for (int i = 0; i < DRAIN_CHUNKS_MAX && pump(k, &k->vmm.errors, &k->errors); i++) continue;
  log_close(&k->console);
  log_close(&k->errors);
  end.errors = k->tail;
  end.errors_size = k->tail_size;
  (void)record_exit(k->run_dir, &end);
}

int signals_open(void) {
  sigset_t wanted;
  (void)sigemptyset(&wanted);
  (void)sigaddset(&wanted, SIGTERM);
  (void)sigaddset(&wanted, SIGINT);
  if (sigprocmask(SIG_SETMASK, &wanted, NULL) < 0) return -errno;
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGHUP, SIG_IGN);
  int signals = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
  return signals < 0 ? -errno : signals;
}

/* A log that cannot be opened (disk full, directory gone) is no reason to end a capsule. */
static void open_logs(struct keeper *k) {
  char directory_path[PATH_MAX];
  char name_path[PATH_MAX];
  (void)snprintf(directory_path, sizeof(directory_path), "%s", k->options->console_log);
  (void)snprintf(name_path, sizeof(name_path), "%s", k->options->console_log);
  int directory = open(dirname(directory_path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int64_t now_ms = monotonic_ms();
  (void)log_open(&k->console, directory, basename(name_path), k->options->log_max_bytes, now_ms);
  (void)log_open(&k->errors, k->run_dir, "vmm.log", ERROR_LOG_MAX_BYTES, now_ms);
}

void supervise(const struct keeper_options *options, const struct keeper_ends *ends) {
  struct keeper k = {
      .options = options,
      .run_dir = ends->run_dir,
      .signals = ends->signals,
      .listener = ends->listener,
      .vmm = ends->vmm,
      .pager = ends->pager,
  };
  for (int i = 0; i < WATCHERS_MAX; i++) k.watchers[i] = -1;
  open_logs(&k);
  while (turn(&k)) continue;
  bury(&k);
}
