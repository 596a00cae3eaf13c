/*
 * The keeper as a program, with real processes in place of a VMM. Needs root.
 * Usage: host-keeper <path of the keeper>
 */
#include "../../tests/run.h"
#include "../keeper.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UID = 219999, WAIT_MS = 10000 };
static const char *keeper_path;
static char run_dir[64];

static bool exists(const char *name) {
  char path[128];
  (void)snprintf(path, sizeof(path), "%s/%s", run_dir, name);
  return access(path, F_OK) == 0;
}

static off_t size_of(const char *name) {
  char path[128];
  struct stat status;
  (void)snprintf(path, sizeof(path), "%s/%s", run_dir, name);
  return stat(path, &status) < 0 ? 0 : status.st_size;
}

static void read_text(const char *path, char *ret_text, size_t size) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  assert(file >= 0);
  ssize_t length = read(file, ret_text, size - 1);
  assert(length >= 0);
  ret_text[length] = '\0';
  (void)close(file);
}

static void read_record(const char *name, char *ret_text, size_t size) {
  char path[128];
  (void)snprintf(path, sizeof(path), "%s/%s", run_dir, name);
  read_text(path, ret_text, size);
}

static pid_t pid_in_record(const char *field) {
  char text[512];
  read_record("vmm.json", text, sizeof(text));
  const char *found = strstr(text, field);
  assert(found != NULL);
  return (pid_t)strtol(found + strlen(field), NULL, 10);
}
static pid_t vmm_pid(void) { return pid_in_record("\"pid\":"); }
static pid_t keeper_pid(void) { return pid_in_record("\"keeperPid\":"); }

static bool is_gone(pid_t pid) {
  char path[64];
  char text[512] = "";
  (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return true;
  ssize_t length = read(file, text, sizeof(text) - 1);
  (void)close(file);
  /* Reparented to whatever is process 1 here, which may be slow to reap. */
  return length <= 0 || strstr(text, ") Z ") != NULL;
}

/* Processes of the VMM's user. */
static int count_processes(void) {
  DIR *proc = opendir("/proc");
  assert(proc != NULL);
  int count = 0;
  for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
    char path[300];
    struct stat status;
    (void)snprintf(path, sizeof(path), "/proc/%s", entry->d_name);
    if (strtol(entry->d_name, NULL, 10) <= 0 || stat(path, &status) < 0) continue;
    if (status.st_uid == UID && !is_gone((pid_t)strtol(entry->d_name, NULL, 10))) count++;
  }
  (void)closedir(proc);
  return count;
}

#define WAIT_FOR(condition)                                       \
  do {                                                            \
    int waited_ms = 0;                                            \
    for (; !(condition) && waited_ms < WAIT_MS; waited_ms += 5) { \
      (void)usleep(5000);                                         \
    }                                                             \
    assert(condition);                                            \
  } while (0)

static void make_run_dir(void) {
  (void)snprintf(run_dir, sizeof(run_dir), "/tmp/keeper-host-XXXXXX");
  assert(mkdtemp(run_dir) != NULL);
}

static void remove_run_dir(void) {
  static const char *const names[] = {
      "keeper.json", "vmm.json",    "exit.json",     "keeper.sock", "control",       "vmm.log",
      "vmm.log.1",   "console.log", "console.log.1", "stop",        "keeper.stderr", "file",
  };
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", run_dir, names[i]);
    (void)unlink(path);
  }
  /* Shows too that the keeper makes nothing else. */
  assert(rmdir(run_dir) == 0);
}

enum { EXTRA_MAX = 8 };

/*
 * Runs the keeper with `script` for a shell in the jail and, at the start of its command line, up
 * to EXTRA_MAX words of `extra`, which ends with NULL; returns its exit status.
 */
static int start_with(const char *const *extra, const char *program, const char *script) {
  char console[128];
  char message[128];
  char file[128];
  (void)snprintf(console, sizeof(console), "%s/console.log", run_dir);
  (void)snprintf(message, sizeof(message), "%s/keeper.stderr", run_dir);
  (void)snprintf(file, sizeof(file), "file=ro:%s/file", run_dir);
  char content[128];
  (void)snprintf(content, sizeof(content), "%s/file", run_dir);
  int made = open(content, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  assert(made >= 0 && write(made, "shown\n", 6) == 6 && close(made) == 0);
  pid_t pid = fork();
  assert(pid >= 0);
  if (pid == 0) {
    int errors = open(message, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (errors < 0 || dup2(errors, 2) < 0) _exit(99);
    const char *const words[] = {
        "--run-dir", run_dir,   "--console-log", console,    "--log-max", "65536",      "--uid",
        "219999",    "--fsize", "1000000",       "--nofile", "64",        "--grace-ms", "200",
        "--control", "control", "--file",        file,       "--",        program,      "-c",
        script};
    const char *arguments[1 + EXTRA_MAX + sizeof(words) / sizeof(words[0]) + 1] = {keeper_path};
    size_t count = 1;
    for (; *extra != NULL && count <= EXTRA_MAX; extra++) arguments[count++] = *extra;
    memcpy(&arguments[count], words, sizeof(words));
    execv(keeper_path, (char *const *)arguments);
    _exit(98);
  }
  int status = 0;
  assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
  return WEXITSTATUS(status);
}
static const char *const NOTHING[] = {NULL};
static int start(const char *script) { return start_with(NOTHING, "/usr/bin/sh", script); }

static void await_end(const char *expected) {
  char text[8192];
  WAIT_FOR(exists("exit.json"));
  read_record("exit.json", text, sizeof(text));
  if (strstr(text, expected) == NULL) (void)fprintf(stderr, "exit.json: %s", text);
  assert(strstr(text, expected) != NULL);
  WAIT_FOR(is_gone(keeper_pid()));
  assert(count_processes() == 0);
}

static void an_exit_status_is_recorded_with_the_last_words(void) {
  assert(start("echo to the console; echo so long >&2; exit 7") == 0);
  await_end("{\"reason\":\"exited\",\"status\":7,\"wasAsked\":false,"
            "\"stderr\":\"so long\\u000a\"}");
  assert(size_of("console.log") == 15);
}

static void a_signal_is_recorded(void) {
  assert(start("while :; do sleep 0.1; done") == 0);
  assert(kill(vmm_pid(), SIGKILL) == 0);
  await_end("\"reason\":\"signaled\",\"status\":9,\"wasAsked\":false");
}

static void the_vmm_dies_with_a_killed_keeper(void) {
  assert(start("sleep 1000 & wait") == 0);
  pid_t vmm = vmm_pid();
  assert(!is_gone(vmm) && kill(keeper_pid(), SIGKILL) == 0);
  WAIT_FOR(is_gone(vmm));
  WAIT_FOR(count_processes() == 0);
  assert(!exists("exit.json"));
}

static void sigterm_to_the_keeper_ends_a_vmm_that_does_not_listen(void) {
  assert(start("trap '' TERM; while :; do sleep 0.1; done") == 0);
  assert(kill(keeper_pid(), SIGTERM) == 0);
  await_end("\"reason\":\"signaled\",\"status\":9,\"wasAsked\":true");
}

static void a_vmm_may_end_itself_when_told_and_a_hang_up_tells_nothing(void) {
  assert(start("trap 'exit 3' TERM; while :; do sleep 0.05; done") == 0);
  (void)usleep(100000);
  assert(kill(keeper_pid(), SIGHUP) == 0 && kill(keeper_pid(), SIGTERM) == 0);
  await_end("\"reason\":\"exited\",\"status\":3,\"wasAsked\":true");
}

static void the_socket_takes_the_order_and_closes_at_the_end(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char byte = 'T';
  assert(start("sleep 1000 & wait") == 0);
  (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/keeper.sock", run_dir);
  int link = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert(link >= 0 && connect(link, (const struct sockaddr *)&address, sizeof(address)) == 0);
  assert(write(link, &byte, 1) == 1);
  assert(read(link, &byte, 1) == 0);
  assert(exists("exit.json"));
  (void)close(link);
  await_end("\"wasAsked\":true");
}

static void nothing_a_vmm_started_outlives_it(void) {
  assert(start("setsid sleep 1000 & setsid sleep 1000 & sleep 0.2; exit 0") == 0);
  await_end("\"status\":0");
}

static void a_flood_neither_grows_the_log_nor_stalls_the_vmm(void) {
  assert(start("yes flood | head -c 50000000; echo done >&2") == 0);
  await_end("\"stderr\":\"done\\u000a\"");
  assert(size_of("console.log") > 0 && size_of("console.log") <= 65536);
  assert(size_of("console.log.1") > 0 && size_of("console.log.1") <= 65536);
}

static void a_flood_of_errors_does_not_fill_the_run_directory(void) {
  assert(start("yes error >&2 | head -c 20000000 >&2; exit 0") == 0 || true);
  (void)usleep(500000);
  (void)kill(keeper_pid(), SIGTERM);
  await_end("\"wasAsked\"");
  assert(size_of("vmm.log") <= 128 * 1024 && size_of("vmm.log.1") <= 128 * 1024);
}

static int count_descriptors(pid_t pid) {
  char path[64];
  (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
  DIR *directory = opendir(path);
  assert(directory != NULL);
  int count = 0;
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    if (entry->d_name[0] != '.') count++;
  }
  (void)closedir(directory);
  return count;
}

/* Many are open, none close-on-exec, in whoever starts the keeper. */
static void no_descriptor_of_the_starter_reaches_keeper_or_vmm(void) {
  int leaked[20];
  for (int i = 0; i < 20; i++) assert((leaked[i] = open("/dev/null", O_RDONLY)) >= 0);
  assert(start("exec sleep 1000") == 0);
  /* 0, 1, 2 and the control socket. */
  WAIT_FOR(count_descriptors(vmm_pid()) == 4);
  /* 0 to 2, run directory, log directory, two logs, two pipes, socket, pidfd, signals. */
  WAIT_FOR(count_descriptors(keeper_pid()) == 12);
  for (int i = 0; i < 20; i++) (void)close(leaked[i]);
  assert(kill(keeper_pid(), SIGTERM) == 0);
  await_end("\"wasAsked\":true");
}

static void has_line(const char *text, const char *line) {
  if (strstr(text, line) == NULL) (void)fprintf(stderr, "no \"%s\" in %s", line, text);
  assert(strstr(text, line) != NULL);
}

static void the_vmm_has_no_privilege_and_no_network(void) {
  char path[64];
  char text[4096];
  char own[64] = "";
  char its[64] = "";
  assert(start("exec sleep 1000") == 0);
  (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)vmm_pid());
  read_text(path, text, sizeof(text));
  has_line(text, "Uid:\t219999\t219999\t219999\t219999\n");
  has_line(text, "Gid:\t219999\t219999\t219999\t219999\n");
  has_line(text, "Groups:\t \n");
  has_line(text, "CapEff:\t0000000000000000\n");
  has_line(text, "CapPrm:\t0000000000000000\n");
  has_line(text, "NoNewPrivs:\t1\n");
  const char *const namespaces[] = {"net", "ipc", "mnt", "pid", "uts"};
  for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
    (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i]);
    assert(readlink(path, own, sizeof(own) - 1) > 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)vmm_pid(), namespaces[i]);
    assert(readlink(path, its, sizeof(its) - 1) > 0 && strcmp(own, its) != 0);
  }
  assert(kill(keeper_pid(), SIGTERM) == 0);
  await_end("\"wasAsked\":true");
}

static void the_jail_shows_its_files_and_nothing_of_the_host(void) {
  char text[4096];
  char path[128];
  assert(start("cat /vm/file; echo x > /vm/file; for f in /*; do echo \"$f\"; done; "
               "[ -e /etc/passwd ] && echo host; touch /usr/x /x; exit 0") == 0);
  await_end("\"status\":0");
  (void)snprintf(path, sizeof(path), "%s/console.log", run_dir);
  read_text(path, text, sizeof(text));
  has_line(text, "shown\n/dev\n/lib\n/lib64\n/usr\n/vm\n");
  assert(strstr(text, "host") == NULL && strstr(text, "/tmp") == NULL);
  read_record("vmm.log", text, sizeof(text));
  assert(strstr(text, "Read-only file system") != NULL);
}

/* For a VMM that makes its control socket and writes its state by itself. */
static void a_directory_of_the_vmm_is_written_by_it_and_nothing_is_run_from_it(void) {
  char path[128];
  char shown[160];
  char text[512];
  (void)snprintf(path, sizeof(path), "%s/own", run_dir);
  (void)snprintf(shown, sizeof(shown), "own=rw:%s", path);
  assert(mkdir(path, 0700) == 0 && chown(path, UID, UID) == 0);
  const char *const extra[] = {"--file", shown, NULL};
  assert(start_with(extra, "/usr/bin/sh",
                    "cd /vm/own; printf '#!/bin/sh\\nexit' > run; chmod +x run; ./run") == 0);
  await_end("Permission denied");
  read_record("own/run", text, sizeof(text));
  assert(strcmp(text, "#!/bin/sh\nexit") == 0);
  (void)snprintf(shown, sizeof(shown), "%s/run", path);
  assert(unlink(shown) == 0 && rmdir(path) == 0);
}

/* For a VMM that opens its TAP by name. The keeper's own stands for the capsule's. */
static void a_vmm_without_an_open_tap_lives_in_the_namespace_that_was_named(void) {
  char path[64];
  char own[64] = "";
  char its[64] = "";
  const char *const extra[] = {"--netns", "/proc/self/ns/net", "--device", "/dev/net/tun", NULL};
  assert(start_with(extra, "/usr/bin/sh", "[ -c /dev/net/tun ] && exec sleep 1000") == 0);
  assert(readlink("/proc/self/ns/net", own, sizeof(own) - 1) > 0);
  (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)vmm_pid());
  assert(readlink(path, its, sizeof(its) - 1) > 0 && strcmp(own, its) == 0);
  assert(kill(keeper_pid(), SIGTERM) == 0);
  await_end("\"wasAsked\":true");
}

static void a_second_keeper_is_refused(void) {
  char text[512];
  assert(start("sleep 1000 & wait") == 0);
  pid_t first = keeper_pid();
  assert(start("exit 0") == 1);
  read_record("keeper.stderr", text, sizeof(text));
  assert(strcmp(text, "write keeper.json: File exists\n") == 0);
  assert(keeper_pid() == first && kill(first, SIGTERM) == 0);
  await_end("\"wasAsked\":true");
}

static void a_start_that_was_called_off_does_not_happen(void) {
  char path[128];
  char text[512];
  (void)snprintf(path, sizeof(path), "%s/stop", run_dir);
  int stop = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  assert(stop >= 0 && close(stop) == 0);
  assert(start("sleep 1000") == 1);
  read_record("keeper.stderr", text, sizeof(text));
  assert(strcmp(text, "start: Operation canceled\n") == 0);
  assert(!exists("vmm.json") && count_processes() == 0);
}

static void a_program_that_is_not_there_is_named(void) {
  char text[512];
  assert(start_with(NOTHING, "/usr/bin/no-such-vmm", "") == 1);
  read_record("keeper.stderr", text, sizeof(text));
  assert(strcmp(text, "start /usr/bin/no-such-vmm: No such file or directory\n") == 0);
  assert(!exists("vmm.json") && count_processes() == 0);
}

#define RUN_IN_DIR(test) \
  do {                   \
    make_run_dir();      \
    RUN(test);           \
    remove_run_dir();    \
  } while (0)

int main(int argc, char *argv[]) {
  assert(argc == 2 && geteuid() == 0 && setgroups(1, &(gid_t){54321}) == 0); /* to be lost */
  keeper_path = argv[1];
  RUN_IN_DIR(an_exit_status_is_recorded_with_the_last_words);
  RUN_IN_DIR(a_signal_is_recorded);
  RUN_IN_DIR(the_vmm_dies_with_a_killed_keeper);
  RUN_IN_DIR(sigterm_to_the_keeper_ends_a_vmm_that_does_not_listen);
  RUN_IN_DIR(a_vmm_may_end_itself_when_told_and_a_hang_up_tells_nothing);
  RUN_IN_DIR(the_socket_takes_the_order_and_closes_at_the_end);
  RUN_IN_DIR(nothing_a_vmm_started_outlives_it);
  RUN_IN_DIR(a_flood_neither_grows_the_log_nor_stalls_the_vmm);
  RUN_IN_DIR(a_flood_of_errors_does_not_fill_the_run_directory);
  RUN_IN_DIR(no_descriptor_of_the_starter_reaches_keeper_or_vmm);
  RUN_IN_DIR(the_vmm_has_no_privilege_and_no_network);
  RUN_IN_DIR(the_jail_shows_its_files_and_nothing_of_the_host);
  RUN_IN_DIR(a_directory_of_the_vmm_is_written_by_it_and_nothing_is_run_from_it);
  RUN_IN_DIR(a_vmm_without_an_open_tap_lives_in_the_namespace_that_was_named);
  RUN_IN_DIR(a_second_keeper_is_refused);
  RUN_IN_DIR(a_start_that_was_called_off_does_not_happen);
  RUN_IN_DIR(a_program_that_is_not_there_is_named);
  return 0;
}
