/*
 * launch: becomes a process of a guest on behalf of envd.
 *
 * envd starts it as root with a socket as standard input and output. launch leads a session of its
 * own, makes the pipes for the process's stdin, stdout and stderr on fixed descriptors, and says
 * "ready". envd then opens its ends through /proc/<pid>/fd (a shell's `echo > /dev/stdout` works on
 * a pipe and fails on the sockets a runtime likes to use), writes the request and closes. launch
 * takes the identity asked for and executes the command in place: its pid is the process's pid, and
 * its process group and session are the process's.
 *
 * For a terminal envd passes the master on descriptor 3; launch makes the slave the controlling
 * terminal and no pipes.
 *
 * Request: a sequence of NUL-terminated fields:
 *   uid gid groups(comma separated, may be empty) oom_score_adj cgroup(path of cgroup.procs, may be
 *   empty) cwd cols rows(0 0: no terminal) argc argv... envc env...
 *
 * What fails before the command runs is one sentence on the process's stderr, and the exit status
 * of a shell: 127 when the command is not found, 126 when it cannot be executed.
 * With end of file instead of a request it exits 0: that is how an unused one is let go.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What Linux itself takes as arguments and environment is at most 6 MiB (execve(2)). */
enum { REQUEST_BYTES_MAX = 6 * 1024 * 1024 + 64 * 1024, GROUPS_MAX = 1024 };

/* Where envd finds its ends; the other ends are these plus one. */
enum { FD_MASTER = 3, FD_STDIN_WRITE = 10, FD_STDOUT_READ = 12, FD_STDERR_READ = 14 };

enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

/* Programs of the 1024 era use select(2) or close every descriptor up to the limit. */
enum { NOFILE_SOFT = 1024, NOFILE_HARD = 1048576 };

struct request {
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	size_t group_count;
	const char *oom_score_adj;
	const char *cgroup;
	const char *cwd;
	struct winsize size;
	char **argv;
	char **envp;
};

struct cursor {
	char *at;
	char *end;
};

static _Noreturn void fail(int status, const char *what, const char *subject)
{
	const char *why = strerror(errno);
	if (subject != NULL)
		dprintf(STDERR_FILENO, "envd: %s: %s: %s\n", what, subject, why);
	else
		dprintf(STDERR_FILENO, "envd: %s: %s\n", what, why);
	_exit(status);
}

static _Noreturn void fail_malformed(void)
{
	errno = EBADMSG;
	fail(EXIT_NOT_EXECUTABLE, "cannot read the request", NULL);
}

/* Makes a pipe whose read end is fd and whose write end is fd + 1. */
static void make_pipe_at(int fd, int read_end, int write_end)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0 || dup3(ends[0], read_end, O_CLOEXEC) < 0 ||
	    dup3(ends[1], write_end, O_CLOEXEC) < 0)
		fail(EXIT_NOT_EXECUTABLE, "cannot make a pipe", NULL);
	(void)fd;
	close(ends[0]);
	close(ends[1]);
}

static void make_pipes(void)
{
	make_pipe_at(FD_STDIN_WRITE, FD_STDIN_WRITE + 1, FD_STDIN_WRITE);
	make_pipe_at(FD_STDOUT_READ, FD_STDOUT_READ, FD_STDOUT_READ + 1);
	make_pipe_at(FD_STDERR_READ, FD_STDERR_READ, FD_STDERR_READ + 1);
}
