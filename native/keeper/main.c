/* Puts the keeper in the background and answers for its start. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where the report goes once the keeper has only that and /dev/null. */
enum { FD_REPORT = 3 };

/* Cuts every tie to whoever started the keeper, but for the pipe on which the start is reported. */
static int detach(int report) {
  if (setsid() < 0) return -errno;
  if (chdir("/") < 0) return -errno;
  (void)umask(077);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return -errno;
  int aside = fcntl(report, F_DUPFD_CLOEXEC, FD_REPORT + 1);
  if (aside < 0) return -errno;
  for (int i = 0; i <= 2; i++) {
    if (dup2(null, i) < 0) return -errno;
  }
  if (dup3(aside, FD_REPORT, O_CLOEXEC) < 0) return -errno;
  return close_range(FD_REPORT + 1, ~0U, 0) < 0 ? -errno : 0;
}

static int open_run_dir(const struct keeper_options *options, struct failure *ret_failure) {
  int run_dir = open(options->run_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (run_dir < 0) return fail(ret_failure, -errno, "open %.120s", options->run_dir);
  int r = record_keeper(run_dir);
  if (r < 0) return fail(ret_failure, r, "write keeper.json");
  /*
   * An agent that gives up makes `stop` and then looks for keeper.json; the keeper makes
   * keeper.json and then looks for `stop`. So one of them sees the other.
   */
  if (faccessat(run_dir, "stop", F_OK, 0) == 0) return fail(ret_failure, -ECANCELED, "start");
  return run_dir;
}

static int start(const struct keeper_options *options, struct keeper_ends *ret_ends,
                 struct failure *ret_failure) {
  struct keeper_ends ends;
  /* First: an order to end that comes while the VMM starts must be obeyed, not be the end of us. */
  ends.signals = signals_open();
  if (ends.signals < 0) return fail(ret_failure, ends.signals, "open signals");
  ends.run_dir = open_run_dir(options, ret_failure);
  if (ends.run_dir < 0) return ends.run_dir;
  ends.listener = listen_in(ends.run_dir, "keeper.sock", 4);
  if (ends.listener < 0) return fail(ret_failure, ends.listener, "listen on keeper.sock");
  int r = pager_start(options, ends.run_dir, &ends.pager, ret_failure);
  if (r < 0) return r;
  r = vmm_start(options, ends.run_dir, &ends.vmm, ret_failure);
  if (r == 0) {
    r = record_vmm(ends.run_dir, ends.vmm.pid, ends.pager.pid);
    if (r < 0) {
      vmm_abandon(&ends.vmm);
      (void)fail(ret_failure, r, "write vmm.json");
    }
  }
  if (r < 0) {
    (void)pager_bury(&ends.pager, 0);
    return r;
  }
  *ret_ends = ends;
  return 0;
}

static _Noreturn void keep(const struct keeper_options *options, int report) {
  struct failure failure = {0};
  struct keeper_ends ends;
  int r = detach(report);
  if (r < 0) (void)fail(&failure, r, "detach");
  report = r < 0 ? report : FD_REPORT;
  if (r == 0) r = start(options, &ends, &failure);
  ssize_t ignored = write(report, &failure, sizeof(failure));
  (void)ignored;
  (void)close(report);
  if (r == 0) supervise(options, &ends);
  _exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

int main(int argc, char *argv[]) {
  struct keeper_options options;
  struct failure failure;
  int report[2];
  pid_t keeper = -1;
  int r = options_parse(argc, argv, &options, &failure);
  if (r == 0 && pipe2(report, O_CLOEXEC) < 0) r = fail(&failure, -errno, "make a pipe");
  if (r == 0 && (keeper = fork()) < 0) r = fail(&failure, -errno, "fork");
  if (keeper == 0) keep(&options, report[1]);
  if (r == 0) {
    (void)close(report[1]);
    ssize_t size = read(report[0], &failure, sizeof(failure));
    if (size != (ssize_t)sizeof(failure)) (void)fail(&failure, -ECHILD, "the keeper died");
    r = failure.error;
  }
  if (r == 0) return EXIT_SUCCESS;
  (void)fprintf(stderr, "%s: %s\n", failure.step, strerror(-r));
  return EXIT_FAILURE;
}
