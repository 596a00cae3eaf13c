/*
 * launch: becomes a process of a guest on behalf of envd.
 *
 * envd starts it as root with sockets as standard input and output. launch leads a session of its
 * own, makes the pipes for the process's stdin, stdout and stderr on fixed descriptors and says
 * "ready". envd then opens its ends through /proc/<pid>/fd, writes the request and closes. (Pipes,
 * because a shell's `echo > /dev/stdout` fails on the sockets that a runtime likes to use.) launch
 * takes the identity asked for and executes the command in place: its pid is the process's pid, and
 * the process leads its group and session.
 *
 * `launch --terminal <columns> <rows>` finds the master of a terminal as descriptor 3; then the
 * slave becomes the controlling terminal and no pipes are made. The size is set before "ready", so
 * that a change that follows the start is not undone.
 *
 * The request is a sequence of NUL-terminated fields:
 *   uid, gid, groups (numbers parted by commas), oom_score_adj, cgroup.procs file (or empty), cwd,
 *   argc, argc arguments, envc, envc variables.
 *
 * What fails before the command runs is one sentence on the process's stderr and the exit status a
 * shell would give: 127 for a command that is not found, 126 for one that cannot be executed.
 * End of file instead of a request is how an unused launch is let go: it exits 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

/* Linux takes at most 6 MiB of arguments and environment (execve(2)); the rest is small. */
enum { REQUEST_BYTES_MAX = 7 * 1024 * 1024 };

/* NGROUPS_MAX is 65536; a passwd file that needs more than this is no user's. */
enum { GROUP_COUNT_MAX = 1024 };

/* Where envd finds its ends, and ours beside them. */
enum {
  FD_MASTER = 3,
  FD_STDIN_WRITE = 10,
  FD_STDIN_READ = 11,
  FD_STDOUT_READ = 12,
  FD_STDOUT_WRITE = 13,
  FD_STDERR_READ = 14,
  FD_STDERR_WRITE = 15,
};

enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

/* The kernel's own defaults: select(2) breaks above 1024, and who needs more may raise it. */
enum { NOFILE_SOFT = 1024, NOFILE_HARD = 524288 };

struct request {
  uid_t uid;
  gid_t gid;
  gid_t groups[GROUP_COUNT_MAX];
  size_t group_count;
  const char *oom_score_adj;
  const char *cgroup;
  const char *cwd;
  char **argv;
  char **envp;
};

struct cursor {
  char *at;
  char *end;
};

static _Noreturn void fail(int status, const char *what, const char *subject) {
  const char *why = strerror(errno);

  if (subject != NULL)
    dprintf(STDERR_FILENO, "envd: %s: %s: %s\n", what, subject, why);
  else
    dprintf(STDERR_FILENO, "envd: %s: %s\n", what, why);
  _exit(status);
}

static _Noreturn void fail_malformed(void) {
  errno = EBADMSG;
  fail(EXIT_NOT_EXECUTABLE, "cannot read the request", NULL);
}

static void move_fd(int from, int to) {
  if (dup3(from, to, O_CLOEXEC) < 0) fail(EXIT_NOT_EXECUTABLE, "cannot place a descriptor", NULL);
  close(from);
}

static void make_pipe(int read_fd, int write_fd) {
  int ends[2];

  if (pipe2(ends, O_CLOEXEC) < 0) fail(EXIT_NOT_EXECUTABLE, "cannot make a pipe", NULL);
  move_fd(ends[0], read_fd);
  move_fd(ends[1], write_fd);
}

static void make_pipes(void) {
  make_pipe(FD_STDIN_READ, FD_STDIN_WRITE);
  make_pipe(FD_STDOUT_READ, FD_STDOUT_WRITE);
  make_pipe(FD_STDERR_READ, FD_STDERR_WRITE);
  /* From here on a failure is something the process says. */
  if (dup2(FD_STDERR_WRITE, STDERR_FILENO) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot place stderr", NULL);
}

static uint32_t parse_number(const char *text, char stop, const char **ret_rest) {
  char *rest;
  unsigned long value;

  errno = 0;
  value = strtoul(text, &rest, 10);
  if (errno != 0 || rest == text || *text < '0' || *text > '9' || value > UINT32_MAX ||
      (*rest != '\0' && *rest != stop))
    fail_malformed();
  if (ret_rest != NULL) *ret_rest = rest;
  return (uint32_t)value;
}

/* So that a terminal which edits a line by itself deletes whole characters (termios(3), IUTF8). */
static int expect_utf8(int slave) {
  struct termios modes;

  if (tcgetattr(slave, &modes) < 0) return -errno;
  modes.c_iflag |= IUTF8;
  return tcsetattr(slave, TCSANOW, &modes) < 0 ? -errno : 0;
}

/* Makes the slave of the master our controlling terminal and our stderr; returns it. */
static int open_terminal(const char *columns, const char *rows) {
  struct winsize size = {
      .ws_col = (unsigned short)parse_number(columns, '\0', NULL),
      .ws_row = (unsigned short)parse_number(rows, '\0', NULL),
  };
  int unlocked = 0;
  int slave;

  if (ioctl(FD_MASTER, TIOCSPTLCK, &unlocked) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot unlock the terminal", NULL);
  slave = ioctl(FD_MASTER, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) fail(EXIT_NOT_EXECUTABLE, "cannot open the terminal", NULL);
  if (ioctl(slave, TIOCSWINSZ, &size) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot set the terminal's size", NULL);
  if (expect_utf8(slave) < 0) fail(EXIT_NOT_EXECUTABLE, "cannot set the terminal's modes", NULL);
  if (ioctl(slave, TIOCSCTTY, 0) < 0) fail(EXIT_NOT_EXECUTABLE, "cannot take the terminal", NULL);
  if (dup2(slave, STDERR_FILENO) < 0) fail(EXIT_NOT_EXECUTABLE, "cannot place stderr", NULL);
  return slave;
}

/* Reads the request to its end. *ret_cursor then spans it; exits when there is none. */
static void read_request(struct cursor *ret_cursor) {
  size_t used = 0;
  /* Untouched pages of the mapping cost nothing. */
  char *buffer = mmap(NULL, REQUEST_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);

  if (buffer == MAP_FAILED) fail(EXIT_NOT_EXECUTABLE, "cannot make room for the request", NULL);
  for (;;) {
    ssize_t got = read(STDIN_FILENO, buffer + used, REQUEST_BYTES_MAX - used);

    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(EXIT_NOT_EXECUTABLE, "cannot read the request", NULL);
    if (got == 0) break;
    used += (size_t)got;
    if (used == REQUEST_BYTES_MAX) fail_malformed();
  }
  if (used == 0) _exit(0);
  ret_cursor->at = buffer;
  ret_cursor->end = buffer + used;
}

static char *take_string(struct cursor *cursor) {
  char *field = cursor->at;
  char *nul = memchr(field, '\0', (size_t)(cursor->end - field));

  if (nul == NULL) fail_malformed();
  cursor->at = nul + 1;
  return field;
}

static uint32_t take_number(struct cursor *cursor) {
  return parse_number(take_string(cursor), '\0', NULL);
}

static void take_groups(struct cursor *cursor, struct request *ret_request) {
  const char *text = take_string(cursor);

  ret_request->group_count = 0;
  while (*text != '\0') {
    if (ret_request->group_count == GROUP_COUNT_MAX) fail_malformed();
    ret_request->groups[ret_request->group_count++] = parse_number(text, ',', &text);
    if (*text == ',') text++;
  }
}

/* A counted list as the NULL-terminated array that execve(2) wants. */
static char **take_list(struct cursor *cursor) {
  size_t count = take_number(cursor);
  char **list;

  if (count > (size_t)(cursor->end - cursor->at)) fail_malformed();
  list = calloc(count + 1, sizeof(*list));
  if (list == NULL) fail(EXIT_NOT_EXECUTABLE, "cannot make room for the request", NULL);
  for (size_t i = 0; i < count; i++) list[i] = take_string(cursor);
  return list;
}

static void take_request(struct cursor *cursor, struct request *ret_request) {
  ret_request->uid = take_number(cursor);
  ret_request->gid = take_number(cursor);
  take_groups(cursor, ret_request);
  ret_request->oom_score_adj = take_string(cursor);
  ret_request->cgroup = take_string(cursor);
  ret_request->cwd = take_string(cursor);
  ret_request->argv = take_list(cursor);
  ret_request->envp = take_list(cursor);
  if (cursor->at != cursor->end || ret_request->argv[0] == NULL) fail_malformed();
}

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);

  if (fd < 0 || write(fd, text, strlen(text)) < 0) fail(EXIT_NOT_EXECUTABLE, "cannot write", path);
  close(fd);
}

/*
 * What the runtime that started us ignores or blocks is no business of the process. By system call,
 * because C libraries keep the first real-time signals to themselves and refuse to touch them. The
 * kernel's struct sigaction is all zero for SIG_DFL with no flags (rt_sigaction(2)).
 */
static void reset_signals(void) {
  static const unsigned long default_action[4];
  sigset_t none;

  for (int number = 1; number < NSIG; number++)
    (void)syscall(SYS_rt_sigaction, number, default_action, NULL, NSIG / 8);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

static void reset_limits(void) {
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    if (limit.rlim_max > NOFILE_HARD) limit.rlim_max = NOFILE_HARD;
    limit.rlim_cur = limit.rlim_max < NOFILE_SOFT ? limit.rlim_max : NOFILE_SOFT;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
  }
  (void)setpriority(PRIO_PROCESS, 0, 0);
}

static void take_identity(const struct request *request) {
  if (setgroups(request->group_count, request->groups) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot set the groups", NULL);
  if (setresgid(request->gid, request->gid, request->gid) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot set the group", NULL);
  if (setresuid(request->uid, request->uid, request->uid) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot set the user", NULL);
  if (chdir(request->cwd) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot enter the working directory", request->cwd);
}

static void place_stdio(int terminal) {
  int in = terminal >= 0 ? terminal : FD_STDIN_READ;
  int out = terminal >= 0 ? terminal : FD_STDOUT_WRITE;

  if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot place stdio", NULL);
  if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot close descriptors", NULL);
}

static _Noreturn void execute(const struct request *request) {
  /* execvpe looks the command up in *our* PATH; the process's own is the one that counts. */
  environ = request->envp;
  execvp(request->argv[0], request->argv);
  fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, request->argv[0],
       errno == ENOENT ? "command not found" : "cannot execute");
}

int main(int argc, char **argv) {
  static struct request request;
  struct cursor cursor;
  int terminal = -1;

  (void)setsid();
  if (argc == 4 && strcmp(argv[1], "--terminal") == 0)
    terminal = open_terminal(argv[2], argv[3]);
  else
    make_pipes();
  if (write(STDOUT_FILENO, "ready\n", 6) != 6) _exit(EXIT_NOT_EXECUTABLE);

  read_request(&cursor);
  take_request(&cursor, &request);
  if (terminal >= 0 && fchown(terminal, request.uid, (gid_t)-1) < 0)
    fail(EXIT_NOT_EXECUTABLE, "cannot give the terminal away", NULL);
  write_file("/proc/self/oom_score_adj", request.oom_score_adj);
  if (request.cgroup[0] != '\0') write_file(request.cgroup, "0");
  reset_signals();
  reset_limits();
  take_identity(&request);
  place_stdio(terminal);
  execute(&request);
}
