#define _GNU_SOURCE
#include "rig.h"

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pager/pager.h"
#include "pages/memory-index.h"
#include "preload/hand-over.h"

enum { WAIT_MS_MAX = 20000 };

static void pause_ms(long ms) {
  struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  (void)nanosleep(&pause, NULL);
}

static void path_in(const struct rig *rig, const char *name, char path[RIG_PATH_BYTES]) {
  (void)snprintf(path, RIG_PATH_BYTES, "%s/%s", rig->snapshot.directory, name);
}

void rig_option(struct rig *rig, const char *name, const char *value) {
  assert(rig->argument_count + 2 < RIG_ARGUMENTS_MAX);
  rig->arguments[rig->argument_count++] = strdup(name);
  rig->arguments[rig->argument_count++] = strdup(value);
}

void rig_make(struct rig *ret_rig, uint64_t pages) {
  struct rig *rig = ret_rig;
  *rig = (struct rig){.pager = -1, .vmm = -1};
  snapshot_make(&rig->snapshot, pages);
  path_in(rig, "pager.sock", rig->socket);
  path_in(rig, "control.sock", rig->control);
  path_in(rig, "reason.json", rig->reason);
  path_in(rig, "working-set", rig->record);
  path_in(rig, "removed", rig->removed);
  rig->arguments[rig->argument_count++] = strdup("pager");
  rig_option(rig, "--header", rig->snapshot.header);
  rig_option(rig, "--layers", rig->snapshot.directory);
  rig_option(rig, "--socket", rig->socket);
  rig_option(rig, "--control", rig->control);
  rig_option(rig, "--reason", rig->reason);
}

static pid_t fork_child(void) {
  (void)fflush(stdout);
  pid_t child = fork();
  assert(child >= 0);
  if (child == 0) (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  return child;
}

void rig_start_pager(struct rig *rig) {
  rig->pager = fork_child();
  if (rig->pager == 0) {
    if (chdir(rig->snapshot.directory) < 0) _exit(126);
    exit(pager_run(rig->argument_count, rig->arguments));
  }
  rig_wait_for_file(rig->socket);
}

void rig_start_program(struct rig *rig) {
  char *program = realpath(getenv("WRENN_PAGER"), NULL);
  assert(program != NULL);
  rig->pager = fork_child();
  if (rig->pager == 0) {
    if (chdir(rig->snapshot.directory) < 0 || close_range(3, ~0U, 0) < 0) _exit(126);
    (void)execv(program, rig->arguments);
    _exit(127);
  }
  free(program);
  rig_wait_for_file(rig->socket);
}

int guest_map(struct guest *guest) {
  guest->memory = mmap(NULL, guest->total_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (guest->memory == MAP_FAILED) return -errno;
  guest->uffd = userfault_register(-1, guest->memory, guest->total_bytes);
  return guest->uffd < 0 ? guest->uffd : 0;
}

int guest_map_with(struct guest *guest, uint64_t features) {
  guest->memory = mmap(NULL, guest->total_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (guest->memory == MAP_FAILED) return -errno;
  guest->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  struct uffdio_register range = {
      .range = {.start = (uintptr_t)guest->memory, .len = guest->total_bytes},
      .mode = UFFDIO_REGISTER_MODE_MISSING};
  if (guest->uffd < 0 || ioctl(guest->uffd, UFFDIO_API, &api) < 0) return -errno;
  return ioctl(guest->uffd, UFFDIO_REGISTER, &range) < 0 ? -errno : 0;
}

int guest_hand_over(struct guest *guest) {
  return hand_over(guest->rig->socket, guest->uffd, guest->memory, guest->total_bytes, 0);
}

static struct guest guest_of(const struct rig *rig) {
  return (struct guest){.rig = rig,
                        .total_bytes = rig->snapshot.total_bytes,
                        .expected = rig->snapshot.expected,
                        .uffd = -1};
}

void rig_start_vmm(struct rig *rig, int (*body)(struct guest *guest)) {
  rig->vmm = fork_child();
  if (rig->vmm != 0) return;
  struct guest guest = guest_of(rig);
  if (guest_map(&guest) < 0) _exit(100);
  if (guest_hand_over(&guest) < 0) _exit(101);
  _exit(body(&guest));
}

void rig_start_bare_vmm(struct rig *rig, int (*body)(struct guest *guest)) {
  rig->vmm = fork_child();
  if (rig->vmm != 0) return;
  struct guest guest = guest_of(rig);
  _exit(body(&guest));
}

int rig_wait(pid_t child) {
  int status;
  for (int waited = 0; waited < WAIT_MS_MAX; waited += 5) {
    pid_t ended = waitpid(child, &status, WNOHANG);
    assert(ended >= 0);
    if (ended == child) return status;
    pause_ms(5);
  }
  (void)fprintf(stderr, "child %d does not end\n", (int)child);
  abort();
}

int rig_end_pager(const struct rig *rig) {
  assert(kill(rig->pager, SIGTERM) == 0);
  return rig_wait(rig->pager);
}

int rig_wait_for_verdict(const struct rig *rig) {
  int status = rig_wait(rig->pager);
  assert(rig_still_runs(rig->vmm, 20));
  assert(kill(rig->vmm, SIGKILL) == 0);
  assert(WTERMSIG(rig_wait(rig->vmm)) == SIGKILL);
  return status;
}

pid_t rig_wait_for_first(void) {
  siginfo_t info = {0};
  for (int waited = 0; info.si_pid == 0; waited += 5) {
    assert(waited < WAIT_MS_MAX);
    assert(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    pause_ms(5);
  }
  return info.si_pid;
}

bool rig_still_runs(pid_t child, int ms) {
  siginfo_t info = {0};
  pause_ms(ms);
  assert(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
  return info.si_pid == 0;
}

void rig_wait_for_file(const char *path) {
  struct stat status;
  for (int waited = 0; stat(path, &status) < 0; waited++) {
    assert(waited < WAIT_MS_MAX);
    pause_ms(1);
  }
}

int rig_connect(const struct rig *rig) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, rig->control, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval limit = {.tv_sec = WAIT_MS_MAX / 1000};
  assert(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  assert(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
  return fd;
}

void rig_ask(const struct rig *rig, const char *command, char ret_answer[RIG_ANSWER_BYTES]) {
  int fd = rig_connect(rig);
  char line[64];
  int size = snprintf(line, sizeof line, "%s\n", command);
  assert(send(fd, line, (size_t)size, MSG_NOSIGNAL) == size);
  size_t filled = 0;
  while (filled == 0 || ret_answer[filled - 1] != '\n') {
    ssize_t got = recv(fd, ret_answer + filled, RIG_ANSWER_BYTES - 1 - filled, 0);
    assert(got > 0);
    filled += (size_t)got;
  }
  ret_answer[filled] = '\0';
  (void)close(fd);
}

uint64_t rig_number(const char *answer, const char *name) {
  char wanted[64];
  (void)snprintf(wanted, sizeof wanted, "\"%s\":", name);
  const char *at = strstr(answer, wanted);
  assert(at != NULL);
  return strtoull(at + strlen(wanted), NULL, 10);
}

void rig_read(const char *path, char ret_text[RIG_ANSWER_BYTES]) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  assert(fd >= 0);
  ssize_t got = read(fd, ret_text, RIG_ANSWER_BYTES - 1);
  assert(got >= 0 && close(fd) == 0);
  ret_text[got] = '\0';
}

void rig_remove(struct rig *rig) {
  for (int i = 0; i < rig->argument_count; i++) free(rig->arguments[i]);
  snapshot_remove(&rig->snapshot);
}
