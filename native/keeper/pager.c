/*
 * The pager beside a VMM: in a pid namespace of its own, in the same cgroups, in a directory of its
 * own, to which it confines itself once it has opened what it serves (native/pager/confine.c). It
 * has no right over the VMM: when it ends, the keeper kills that, and tells it when that has ended.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* It opens and checks the index of a snapshot, which takes milliseconds; a disk may be slow. */
enum { START_MS_MAX = 15000, POLL_MS = 1 };
/* Its lists have at most 1,048,576 ranges of 16 bytes. */
enum { FILE_BYTES_MAX = 32 * 1024 * 1024 };
enum { FD_REPORT = 3 };

/* Leaves /dev/null as 0 and 1, the log as 2 and the report open, and nothing else. */
static int place_descriptors(int run_dir, int report, struct failure *ret_failure) {
  int log = openat(run_dir, "pager.log", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
  if (log < 0) return fail(ret_failure, -errno, "open pager.log");
  /* 0 to 2 are /dev/null since the keeper went into the background, so none of these is lower. */
  if (dup2(log, 2) < 0) return fail(ret_failure, -errno, "place descriptors");
  int aside = fcntl(report, F_DUPFD_CLOEXEC, FD_REPORT + 1);
  if (aside < 0 || dup3(aside, FD_REPORT, O_CLOEXEC) < 0 ||
      close_range(FD_REPORT + 1, ~0U, 0) < 0) {
    return fail(ret_failure, -errno, "place descriptors");
  }
  return 0;
}

static _Noreturn void pager_exec(const struct keeper_options *options, int run_dir, int report) {
  char *const environment[] = {NULL};
  struct rlimit file_size = {FILE_BYTES_MAX, FILE_BYTES_MAX};
  struct failure failure;
  reset_signals();
  /* It clears this when it becomes another user, and sets it again. */
  int r = prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || setpgid(0, 0) < 0 ||
                  setrlimit(RLIMIT_FSIZE, &file_size) < 0 || chdir(options->pager_dir) < 0
              ? fail(&failure, -errno, "prepare the pager")
              : 0;
  if (r == 0) r = join_cgroups(options, &failure);
  if (r < 0 || place_descriptors(run_dir, report, &failure) < 0) give_up(report, &failure);
  (void)execve(options->pager_command[0], options->pager_command, environment);
  (void)fail(&failure, -errno, "start %.120s", options->pager_command[0]);
  give_up(FD_REPORT, &failure);
}

/* The pager's own last words, if it had any. */
static int fail_by_log(int run_dir, struct failure *ret_failure) {
  char text[120] = "";
  int log = openat(run_dir, "pager.log", O_RDONLY | O_CLOEXEC);
  ssize_t size = log < 0 ? 0 : read(log, text, sizeof(text) - 1);
  if (log >= 0) (void)close(log);
  text[size < 0 ? 0 : size] = '\0';
  text[strcspn(text, "\n")] = '\0';
  return fail(ret_failure, -ECHILD, "start the pager: %s", text);
}

static int await_socket(const struct keeper_options *options, const struct pager *pager,
                        int run_dir, struct failure *ret_failure) {
  int directory = open(options->pager_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return fail(ret_failure, -errno, "open %.120s", options->pager_dir);
  struct pollfd end = {.fd = pager->pidfd, .events = POLLIN};
  int64_t late_ms = monotonic_ms() + START_MS_MAX;
  int r = -EAGAIN;
  while (r == -EAGAIN) {
    if (faccessat(directory, PAGER_SOCKET, F_OK, 0) == 0) {
      r = 0;
    } else if (poll(&end, 1, POLL_MS) == 1) {
      r = fail_by_log(run_dir, ret_failure);
    } else if (monotonic_ms() > late_ms) {
      r = fail(ret_failure, -ETIMEDOUT, "start the pager");
    }
  }
  (void)close(directory);
  return r;
}

int pager_start(const struct keeper_options *options, int run_dir, struct pager *ret_pager,
                struct failure *ret_failure) {
  int report[2];
  *ret_pager = (struct pager){.pid = -1, .pidfd = -1};
  if (options->pager_dir == NULL) return 0;
  if (pipe2(report, O_CLOEXEC) < 0) return fail(ret_failure, -errno, "make a pipe");
  struct pager pager = {.pid = fork_apart(), .pidfd = -1};
  if (pager.pid == 0) pager_exec(options, run_dir, report[1]);
  int r = pager.pid < 0 ? fail(ret_failure, pager.pid, "fork") : 0;
  (void)close(report[1]);
  if (r == 0) {
    pager.pidfd = (int)syscall(SYS_pidfd_open, pager.pid, 0);
    r = pager.pidfd < 0 ? fail(ret_failure, -errno, "open pidfd")
                        : await_exec(report[0], ret_failure);
  }
  (void)close(report[0]);
  if (r == 0) r = await_socket(options, &pager, run_dir, ret_failure);
  if (r < 0) (void)pager_bury(&pager, 0);
  if (r == 0) *ret_pager = pager;
  return r;
}

int pager_bury(struct pager *pager, int wait_ms) {
  int status = 0;
  if (pager->pid < 0) return 0;
  struct pollfd end = {.fd = pager->pidfd, .events = POLLIN};
  if (wait_ms > 0) (void)kill(pager->pid, SIGTERM);
  if (pager->pidfd < 0 || poll(&end, 1, wait_ms) != 1) (void)kill(pager->pid, SIGKILL);
  while (waitpid(pager->pid, &status, 0) < 0 && errno == EINTR) continue;
  if (pager->pidfd >= 0) (void)close(pager->pidfd);
  *pager = (struct pager){.pid = -1, .pidfd = -1};
  return status;
}
