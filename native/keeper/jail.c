/*
 * From a child of the keeper, root with everything inherited, to the VMM: in its cgroups, with the
 * TAP of its capsule, in empty network, ipc, uts and pid namespaces, in a file system of its own,
 * with limits, with six descriptors, as its own user, without any way to more privilege. A VMM that
 * cannot be given an open TAP has the capsule's network namespace instead of an empty one.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* If the host runs out of memory, a capsule goes before the agent and its neighbours' keepers. */
static const char OOM_SCORE_ADJ[] = "500";
enum { FD_REPORT = VMM_FD_USERFAULT + 1 };

static int write_text(const char *path, const char *text) {
  int file = open(path, O_WRONLY | O_CLOEXEC);
  if (file < 0) return -errno;
  ssize_t written = write(file, text, strlen(text));
  int error = errno;
  (void)close(file);
  return written < 0 ? -error : 0;
}

int join_cgroups(const struct keeper_options *options, struct failure *ret_failure) {
  for (size_t i = 0; i < options->cgroups_count; i++) {
    int r = write_text(options->cgroups[i], "0");
    if (r < 0) return fail(ret_failure, r, "join cgroup %.120s", options->cgroups[i]);
  }
  int r = write_text("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
  return r < 0 ? fail(ret_failure, r, "set oom_score_adj") : 0;
}

static int enter_netns(const struct keeper_options *options, struct failure *ret_failure) {
  int netns = open(options->netns, O_RDONLY | O_CLOEXEC);
  if (netns < 0) return fail(ret_failure, -errno, "open netns %.100s", options->netns);
  int r = setns(netns, CLONE_NEWNET) < 0 ? -errno : 0;
  (void)close(netns);
  return r < 0 ? fail(ret_failure, r, "enter netns %.100s", options->netns) : 0;
}

/*
 * The TAP, with virtio-net headers. A TAP belongs to the network namespace in which its descriptor
 * was opened, so the process is in the capsule's; it leaves it for an empty one right after.
 */
static int open_tap(const struct keeper_options *options, struct failure *ret_failure) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  if (strlen(options->tap) >= sizeof(request.ifr_name)) {
    return fail(ret_failure, -ENAMETOOLONG, "open TAP %.60s", options->tap);
  }
  (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", options->tap);
  int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (tap < 0) return fail(ret_failure, -errno, "open /dev/net/tun");
  if (ioctl(tap, TUNSETIFF, &request) < 0 || ioctl(tap, TUNGETIFF, &request) < 0) {
    return fail(ret_failure, -errno, "open TAP %s", options->tap);
  }
  /* Where there is no device of that name the kernel makes one, for as long as it is open. */
  if ((request.ifr_flags & IFF_PERSIST) == 0) {
    return fail(ret_failure, -ENODEV, "open TAP %s", options->tap);
  }
  return tap;
}

static int limit(int resource, uint64_t max) {
  struct rlimit value = {.rlim_cur = max, .rlim_max = max};
  return setrlimit(resource, &value) < 0 ? -errno : 0;
}

static int set_limits(const struct keeper_options *options, struct failure *ret_failure) {
  int r = limit(RLIMIT_CORE, 0);
  if (r == 0) r = limit(RLIMIT_FSIZE, options->fsize_max_bytes);
  if (r == 0) r = limit(RLIMIT_NOFILE, options->nofile_max);
  return r < 0 ? fail(ret_failure, r, "set limits") : 0;
}

/*
 * Leaves 0 to FD_REPORT open and nothing else. Everything is copied above the targets first, so
 * that none is overwritten before it is used.
 */
static int place_descriptors(const int wanted[FD_REPORT + 1], struct failure *ret_failure) {
  int aside[FD_REPORT + 1];
  for (int i = 0; i <= FD_REPORT; i++) {
    aside[i] = wanted[i] < 0 ? -1 : fcntl(wanted[i], F_DUPFD_CLOEXEC, FD_REPORT + 1);
    if (wanted[i] >= 0 && aside[i] < 0) return fail(ret_failure, -errno, "move descriptors");
  }
  for (int i = 0; i <= FD_REPORT; i++) {
    (void)close(i);
    if (aside[i] >= 0 && dup3(aside[i], i, i == FD_REPORT ? O_CLOEXEC : 0) < 0) {
      return fail(ret_failure, -errno, "place descriptors");
    }
  }
  if (close_range(FD_REPORT + 1, ~0U, 0) < 0) return fail(ret_failure, -errno, "close descriptors");
  return 0;
}

/*
 * The keeper's end of the report is open as long as it lives. Its pid would not tell: from inside a
 * pid namespace of one's own the parent is always 0.
 */
static bool has_keeper(int report) {
  struct pollfd end = {.fd = report, .events = POLLOUT};
  return poll(&end, 1, 0) >= 0 && (end.revents & POLLERR) == 0;
}

static int drop_privileges(uid_t uid, struct failure *ret_failure) {
  if (setgroups(0, NULL) < 0) return fail(ret_failure, -errno, "drop groups");
  if (setresgid(uid, uid, uid) < 0) return fail(ret_failure, -errno, "set gid");
  if (setresuid(uid, uid, uid) < 0) return fail(ret_failure, -errno, "set uid");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    return fail(ret_failure, -errno, "set no_new_privs");
  }
  /* After the change of user, which clears it. It does not notice a keeper that died before. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) {
    return fail(ret_failure, -errno, "bind to keeper");
  }
  if (!has_keeper(FD_REPORT)) return fail(ret_failure, -ESRCH, "keeper is gone");
  return 0;
}

void reset_signals(void) {
  for (int signal_number = 1; signal_number < NSIG; signal_number++) {
    (void)signal(signal_number, SIG_DFL);
  }
  sigset_t none;
  (void)sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

struct host_devices {
  int tap;
  int null;
  int userfault; /* whose faults a pager serves; the VMM's user may not open it */
};

static int open_devices(const struct keeper_options *options, struct host_devices *ret_devices,
                        struct failure *ret_failure) {
  if (options->netns != NULL) {
    int r = enter_netns(options, ret_failure);
    if (r < 0) return r;
  }
  if (options->tap != NULL) {
    ret_devices->tap = open_tap(options, ret_failure);
    if (ret_devices->tap < 0) return ret_devices->tap;
  }
  ret_devices->null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (ret_devices->null < 0) return fail(ret_failure, -errno, "open /dev/null");
  if (options->pager_dir == NULL) return 0;
  ret_devices->userfault = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (ret_devices->userfault < 0) return fail(ret_failure, -errno, "open /dev/userfaultfd");
  return 0;
}

/* Everything that needs the host's paths or root's rights, and leaves the report where it was. */
static int enter_jail(const struct keeper_options *options, struct host_devices *ret_devices,
                      struct failure *ret_failure) {
  if (setpgid(0, 0) < 0) return fail(ret_failure, -errno, "make a process group");
  /* First of all: what the VMM costs is its capsule's. */
  int r = join_cgroups(options, ret_failure);
  if (r == 0) r = open_devices(options, ret_devices, ret_failure);
  if (r < 0) return r;
  bool stays_in_netns = options->netns != NULL && options->tap == NULL;
  int network = stays_in_netns ? 0 : CLONE_NEWNET;
  if (unshare(network | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) < 0) {
    return fail(ret_failure, -errno, "make namespaces");
  }
  (void)umask(022);
  r = jail_enter_root(options, ret_failure);
  (void)umask(077);
  return r < 0 ? r : set_limits(options, ret_failure);
}

_Noreturn void give_up(int report, const struct failure *failure) {
  /* Less than PIPE_BUF bytes: all or nothing. If the keeper is gone, nobody wants to know. */
  ssize_t ignored = write(report, failure, sizeof(*failure));
  (void)ignored;
  _exit(127);
}

_Noreturn void jail_exec(const struct keeper_options *options, const struct jail_io *io) {
  struct failure failure;
  struct host_devices devices = {.tap = -1, .null = -1, .userfault = -1};
  reset_signals();
  if (enter_jail(options, &devices, &failure) < 0) give_up(io->report, &failure);
  const int wanted[FD_REPORT + 1] = {
      devices.null, io->stdout_pipe,   io->stderr_pipe, devices.tap,
      io->control,  devices.userfault, io->report,
  };
  if (place_descriptors(wanted, &failure) < 0) give_up(io->report, &failure);
  if (drop_privileges(options->uid, &failure) < 0) give_up(FD_REPORT, &failure);
  (void)execve(options->command[0], options->command, options->environment);
  (void)fail(&failure, -errno, "start %.120s", options->command[0]);
  give_up(FD_REPORT, &failure);
}
