/* Starts the VMM's process and waits until its program runs. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int fail(struct failure *ret_failure, int error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(ret_failure->step, sizeof(ret_failure->step), format, arguments);
  va_end(arguments);
  ret_failure->error = error;
  return error;
}

/* Not unshare and fork: that leaves the keeper's own later children in the first one's namespace.
 */
pid_t fork_apart(void) {
  pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
  return pid < 0 ? -errno : pid;
}

int listen_in(int directory, const char *name, int backlog) {
  /* Through /proc, since a whole path may not fit the 108 bytes of a socket's address. */
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int length = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
                        directory, name);
  if (length < 0 || (size_t)length >= sizeof(address.sun_path)) return -ENAMETOOLONG;
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0) return -errno;
  if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
      fchmodat(directory, name, 0600, 0) < 0 || listen(listener, backlog) < 0) {
    int error = errno;
    (void)close(listener);
    return -error;
  }
  return listener;
}

struct pipes {
  int output[2];
  int errors[2];
  int report[2];
  int control;
};

static void close_all(int *descriptors, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (descriptors[i] >= 0) (void)close(descriptors[i]);
    descriptors[i] = -1;
  }
}

static void close_pipes(struct pipes *p) {
  close_all(p->output, 2);
  close_all(p->errors, 2);
  close_all(p->report, 2);
  close_all(&p->control, 1);
}

static int open_pipes(const struct keeper_options *options, int run_dir, struct pipes *p,
                      struct failure *ret_failure) {
  *p = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, -1};
  if (pipe2(p->output, O_CLOEXEC) < 0 || pipe2(p->errors, O_CLOEXEC) < 0 ||
      pipe2(p->report, O_CLOEXEC) < 0) {
    return fail(ret_failure, -errno, "make pipes");
  }
  if (options->control == NULL) return 0;
  p->control = listen_in(run_dir, options->control, 1);
  if (p->control < 0) return fail(ret_failure, p->control, "listen on %s", options->control);
  return 0;
}

int await_exec(int report, struct failure *ret_failure) {
  struct failure said;
  ssize_t size;
  do {
    size = read(report, &said, sizeof(said));
  } while (size < 0 && errno == EINTR);
  if (size == 0) return 0;
  if (size < (ssize_t)sizeof(said)) return fail(ret_failure, -EIO, "read the child's report");
  *ret_failure = said;
  return said.error;
}

void vmm_abandon(struct vmm *vmm) {
  (void)kill(vmm->pid, SIGKILL);
  while (waitpid(vmm->pid, NULL, 0) < 0 && errno == EINTR) continue;
  if (vmm->pidfd >= 0) (void)close(vmm->pidfd);
  (void)close(vmm->output);
  (void)close(vmm->errors);
}

static int take_child(struct pipes *p, pid_t pid, struct vmm *ret_vmm,
                      struct failure *ret_failure) {
  struct vmm vmm = {.pid = pid, .output = p->output[0], .errors = p->errors[0]};
  p->output[0] = p->errors[0] = -1;
  close_all(&p->output[1], 1);
  close_all(&p->errors[1], 1);
  close_all(&p->report[1], 1);
  vmm.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  int r = vmm.pidfd < 0 ? fail(ret_failure, -errno, "open pidfd")
                        : await_exec(p->report[0], ret_failure);
  if (r == 0 &&
      (fcntl(vmm.output, F_SETFL, O_NONBLOCK) < 0 || fcntl(vmm.errors, F_SETFL, O_NONBLOCK) < 0)) {
    r = fail(ret_failure, -errno, "make pipes non-blocking");
  }
  if (r < 0) {
    vmm_abandon(&vmm);
    return r;
  }
  *ret_vmm = vmm;
  return 0;
}

/*
 * The VMM may be killed during exec: then it counts as started, and its end is reported as such.
 */
int vmm_start(const struct keeper_options *options, int run_dir, struct vmm *ret_vmm,
              struct failure *ret_failure) {
  struct pipes p;
  int r = open_pipes(options, run_dir, &p, ret_failure);
  if (r < 0) {
    close_pipes(&p);
    return r;
  }
  pid_t pid = fork_apart();
  if (pid == 0) {
    struct jail_io io = {
        .stdout_pipe = p.output[1],
        .stderr_pipe = p.errors[1],
        .control = p.control,
        .report = p.report[1],
    };
    close_all(&p.report[0], 1);
    jail_exec(options, &io);
  }
  r = pid < 0 ? fail(ret_failure, pid, "fork") : take_child(&p, pid, ret_vmm, ret_failure);
  close_pipes(&p);
  return r;
}
