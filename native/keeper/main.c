/* Puts the keeper in the background and answers for its start. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Cuts every tie to whoever started the keeper, but for the pipe on which the start is reported. */
static int detach(int report) {
  if (setsid() < 0) return -errno;
  if (chdir("/") < 0) return -errno;
  (void)umask(077);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return -errno;
  int aside = fcntl(report, F_DUPFD_CLOEXEC, 4);
  if (aside < 0) return -errno;
  for (int i = 0; i <= 2; i++) {
    if (dup2(null, i) < 0) return -errno;
  }
  if (dup3(aside, 3, O_CLOEXEC) < 0) return -errno;
  return close_range(4, ~0U, 0) < 0 ? -errno : 0;
}

static int open_run_dir(const struct keeper_options *options, struct failure *ret_failure) {
  int run_dir = open(options->run_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (run_dir < 0) return fail(ret_failure, errno, "open %.120s", options->run_dir);
  int r = record_keeper(run_dir);
  if (r < 0) return fail(ret_failure, -r, "write keeper.json");
  /*
   * An agent that gives up makes `stop` and then looks for keeper.json; the keeper makes
   * keeper.json and then looks for `stop`. So one of them sees the other.
   */
  if (faccessat(run_dir, "stop", F_OK, 0) == 0) return fail(ret_failure, ECANCELED, "start");
  return run_dir;
}

static int start(const struct keeper_options *options, int *ret_run_dir, int *ret_listener,
                 struct vmm *ret_vmm, struct failure *ret_failure) {
  int run_dir = open_run_dir(options, ret_failure);
  if (run_dir < 0) return run_dir;
  int listener = listen_in(run_dir, "keeper.sock", 4);
  if (listener < 0) return fail(ret_failure, -listener, "listen on keeper.sock");
  int r = vmm_start(options, run_dir, ret_vmm, ret_failure);
  if (r < 0) return r;
  r = record_vmm(run_dir, ret_vmm->pid);
  if (r < 0) {
    vmm_abandon(ret_vmm);
    return fail(ret_failure, -r, "write vmm.json");
  }
  *ret_run_dir = run_dir;
  *ret_listener = listener;
  return 0;
}

static _Noreturn void keep(const struct keeper_options *options, int report) {
  struct failure failure = {0};
  struct vmm vmm;
  int run_dir = -1;
  int listener = -1;
  (void)signal(SIGPIPE, SIG_IGN);
  int r = detach(report);
  if (r < 0) (void)fail(&failure, -r, "detach");
  report = r < 0 ? report : 3;
  if (r == 0) r = start(options, &run_dir, &listener, &vmm, &failure);
  ssize_t ignored = write(report, &failure, sizeof(failure));
  (void)ignored;
  (void)close(report);
  _exit(r < 0 ? 1 : supervise(options, run_dir, &vmm, listener));
}

int main(int argc, char *argv[]) {
  struct keeper_options options;
  struct failure failure;
  int report[2];
  pid_t keeper = -1;
  int r = options_parse(argc, argv, &options, &failure);
  if (r == 0 && pipe2(report, O_CLOEXEC) < 0) r = fail(&failure, errno, "make a pipe");
  if (r == 0 && (keeper = fork()) < 0) r = fail(&failure, errno, "fork");
  if (keeper == 0) keep(&options, report[1]);
  if (r == 0) {
    (void)close(report[1]);
    ssize_t size = read(report[0], &failure, sizeof(failure));
    if (size != (ssize_t)sizeof(failure)) (void)fail(&failure, ECHILD, "keeper died while starting");
    r = -failure.error;
  }
  if (r == 0) return EXIT_SUCCESS;
  (void)fprintf(stderr, "%s: %s\n", failure.step, strerror(-r));
  return EXIT_FAILURE;
}
