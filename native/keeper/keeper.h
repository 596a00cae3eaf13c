/*
 * keeper: the supervisor of one capsule's VMM.
 *
 * The agent starts `keeper ... -- /usr/bin/vmm args`. The program puts itself in the background,
 * starts the VMM in a jail (jail.c) and exits 0 once the VMM's program runs, or exits 1 with one
 * line on stderr and leaves nothing behind. The process in the background is the VMM's parent: it
 * keeps the VMM's output in bounded logs, ends it when told, never outlives it and is never
 * outlived by it (PR_SET_PDEATHSIG), whatever happens to the agent.
 *
 * A VMM whose memory a pager brings has that as a sibling, started before it: without its pager a
 * guest would wait for ever, so the VMM is killed when the pager ends, and the pager when the VMM.
 *
 * Files in the run directory, each of which appears complete:
 *   keeper.json  pid and start time of the keeper, before anything else happens
 *   vmm.json     pids and start times of both, once the VMM's program runs
 *   exit.json    how the VMM ended, and the pager if there was one
 *   keeper.sock  a connection stays open as long as the VMM lives; the byte 'T' asks for its end
 *   vmm.log      what the VMM wrote to stderr; vmm.log.1 what did not fit
 *   pager.log    what the pager wrote to stderr
 *   stop         made by an agent that gave up: no VMM is started in this directory any more
 *
 * Functions return -errno on failure and >= 0 on success.
 */
#ifndef KEEPER_H
#define KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What the VMM finds open besides 0 (/dev/null), 1 (console log) and 2 (error log). */
enum { VMM_FD_TAP = 3, VMM_FD_CONTROL = 4, VMM_FD_USERFAULT = 5 };

enum {
  CGROUPS_MAX = 8,
  JAIL_FILES_MAX = 16,
  DEVICES_MAX = 4,
  ENVIRONMENT_MAX = 8,
  PAGER_ARGUMENTS_MAX = 48,
};

/* The socket in the pager's directory that appears once it can be handed memory. */
#define PAGER_SOCKET "memory.sock"

/* A file, socket or directory of the host that the jail shows as /vm/<name>. */
struct jail_file {
  const char *name;
  const char *path;
  bool writable;
  bool executable; /* a library, which could not be mapped otherwise */
};

struct keeper_options {
  const char *run_dir;
  const char *console_log;
  uint64_t log_max_bytes; /* of one log file; a second one holds what came before */
  const char *netns;      /* path; NULL: no network device */
  const char *tap;     /* given open; NULL: the VMM lives in `netns` and opens its device there */
  const char *control; /* name of the listening socket given as VMM_FD_CONTROL, or NULL */
  uid_t uid;           /* also the gid */
  uint64_t fsize_max_bytes;
  uint64_t nofile_max;
  int grace_ms;                     /* between SIGTERM and SIGKILL */
  const char *cgroups[CGROUPS_MAX]; /* cgroup.procs files */
  size_t cgroups_count;
  struct jail_file files[JAIL_FILES_MAX];
  size_t files_count;
  const char *devices[DEVICES_MAX];
  size_t devices_count;
  char *environment[ENVIRONMENT_MAX + 2]; /* of the VMM, NULL at the end */
  size_t environment_count;
  const char *pager_dir;                        /* NULL: no pager */
  char *pager_command[PAGER_ARGUMENTS_MAX + 1]; /* NULL at the end */
  size_t pager_command_count;
  char *const *command;
};

/* What failed: a step for the one line on stderr, and its -errno. */
struct failure {
  char step[160];
  int32_t error;
};

/* Fills `ret_failure` and returns `error`, an -errno. */
int fail(struct failure *ret_failure, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- options.c ---- */
int options_parse(int argc, char *const argv[], struct keeper_options *ret_options,
                  struct failure *ret_failure);

/* ---- log.c: a log that a guest can neither grow without end nor stall. ---- */
struct bounded_log {
  int directory;
  char name[256];
  int file; /* -1: could not be opened; what comes is counted as dropped */
  uint64_t size_bytes;
  uint64_t max_bytes;
  uint64_t budget_bytes;
  int64_t refilled_at_ms;
  uint64_t dropped_bytes;
};
/* Opens `name` in `directory` (which stays the caller's) for appending. */
int log_open(struct bounded_log *log, int directory, const char *name, uint64_t max_bytes,
             int64_t now_ms);
/* Never fails and waits for nothing but the file system's cache: what is too much is dropped. */
void log_write(struct bounded_log *log, const char *bytes, size_t size, int64_t now_ms);
/* Writes how much was dropped since the last line, if anything was, and closes. */
void log_close(struct bounded_log *log);

/* ---- record.c: the files in the run directory. ---- */
/* Field 22 of /proc/<pid>/stat as text. -ESRCH: there is no such process. */
int process_start_time(pid_t pid, char *ret_text, size_t size);
int record_keeper(int run_dir);
/* `pager`: -1 if there is none. */
int record_vmm(int run_dir, pid_t vmm, pid_t pager);
struct vmm_end {
  int status;         /* as wait gives it */
  bool was_asked;     /* the keeper was told to end it */
  const char *errors; /* the last bytes of stderr */
  size_t errors_size;
  bool has_pager;
  int pager_status; /* as wait gives it */
};
int record_exit(int run_dir, const struct vmm_end *end);

/* ---- jail.c ---- */
struct jail_io {
  int stdout_pipe;
  int stderr_pipe;
  int control; /* listening socket, or -1 */
  int report;  /* close-on-exec: a struct failure comes out, or the end of file once the VMM runs */
};
void reset_signals(void);
/* Joins the capsule's cgroups, so that whatever the process costs is charged to it. */
int join_cgroups(const struct keeper_options *options, struct failure *ret_failure);
/* Tells why the process cannot become what it should, and ends it. */
_Noreturn void give_up(int report, const struct failure *failure);
/* Turns the calling process, a child of the keeper, into the VMM. Does not return. */
_Noreturn void jail_exec(const struct keeper_options *options, const struct jail_io *io);

/* ---- jail-root.c ---- */
/* Makes a root that shows /usr, read-only, and the given files and devices, and enters it. */
int jail_enter_root(const struct keeper_options *options, struct failure *ret_failure);

/* ---- start.c ---- */
/* A started VMM, and the ends that the keeper holds. */
struct vmm {
  pid_t pid;
  int pidfd;
  int output; /* what it writes to stdout: the console */
  int errors; /* what it writes to stderr */
};
int vmm_start(const struct keeper_options *options, int run_dir, struct vmm *ret_vmm,
              struct failure *ret_failure);
/* Kills and reaps it and closes. Its pid namespace takes everything it started with it. */
void vmm_abandon(struct vmm *vmm);
/*
 * As fork, but the child is the first of a pid namespace, whose end is the end of all it started:
 * it sees no other process, and none that is not the keeper's sees it. -errno.
 */
pid_t fork_apart(void);
/* A non-blocking unix socket that listens as `name` in `directory`, mode 0600. */
int listen_in(int directory, const char *name, int backlog);
/* 0 once the child runs its program: exec closed the pipe. Else what it had to say. */
int await_exec(int report, struct failure *ret_failure);

/* ---- pager.c ---- */
struct pager {
  pid_t pid; /* -1: none */
  int pidfd;
};
/* Starts the pager, if there is to be one, and waits until the VMM can hand it its memory. */
int pager_start(const struct keeper_options *options, int run_dir, struct pager *ret_pager,
                struct failure *ret_failure);
/* Tells the pager of a VMM that has ended, kills it after `wait_ms` and reaps it. */
int pager_bury(struct pager *pager, int wait_ms);

/* ---- supervise.c ---- */
/* What the keeper lives with. */
struct keeper_ends {
  int run_dir;
  int signals;
  int listener;
  struct vmm vmm;
  struct pager pager;
};
/* Makes SIGTERM and SIGINT wait in the returned descriptor, and SIGHUP and SIGPIPE do nothing. */
int signals_open(void);
/* Takes over the ends. Returns when the VMM is gone and exit.json is written. */
void supervise(const struct keeper_options *options, const struct keeper_ends *ends);

/* ---- clock.c ---- */
/* Of a clock that nobody sets. */
int64_t monotonic_ms(void);

#endif
