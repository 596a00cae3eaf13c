/*
 * A keeper with two children, shells in place of a VMM and its pager: neither outlives the other.
 * Needs root. Usage: host-pager <path of the keeper>
 */
#include "../../tests/run.h"
#include "../keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 10000 };
static const char *keeper_path;
static char run_dir[64];

#define SERVES ": > memory.sock; "

static bool exists(const char *name) {
  char path[128];
  (void)snprintf(path, sizeof(path), "%s/%s", run_dir, name);
  return access(path, F_OK) == 0;
}

static void read_record(const char *name, char *ret_text, size_t size) {
  char path[128];
  (void)snprintf(path, sizeof(path), "%s/%s", run_dir, name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  assert(file >= 0);
  ssize_t length = read(file, ret_text, size - 1);
  assert(length >= 0);
  ret_text[length] = '\0';
  (void)close(file);
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
static pid_t pager_pid(void) { return pid_in_record("\"pagerPid\":"); }

static bool is_gone(pid_t pid) {
  char path[64];
  char text[512] = "";
  (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return true;
  ssize_t length = read(file, text, sizeof(text) - 1);
  (void)close(file);
  return length <= 0 || strstr(text, ") Z ") != NULL;
}

#define WAIT_FOR(condition)                                       \
  do {                                                            \
    int waited_ms = 0;                                            \
    for (; !(condition) && waited_ms < WAIT_MS; waited_ms += 5) { \
      (void)usleep(5000);                                         \
    }                                                             \
    assert(condition);                                            \
  } while (0)

/* Runs the keeper with these scripts as pager and VMM; returns its exit status. */
static int start(const char *pager, const char *vmm) {
  char console[128];
  char message[128];
  (void)snprintf(console, sizeof(console), "%s/console.log", run_dir);
  (void)snprintf(message, sizeof(message), "%s/keeper.stderr", run_dir);
  pid_t pid = fork();
  assert(pid >= 0);
  if (pid == 0) {
    int errors = open(message, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (errors < 0 || dup2(errors, 2) < 0) _exit(99);
    execl(keeper_path, keeper_path, "--run-dir", run_dir, "--console-log", console, "--log-max",
          "65536", "--uid", "219999", "--fsize", "1000000", "--nofile", "64", "--grace-ms", "200",
          "--env", "GREETING=hello", "--pager-dir", run_dir, "--pager-arg", "/usr/bin/sh",
          "--pager-arg", "-c", "--pager-arg", pager, "--", "/usr/bin/sh", "-c", vmm, (char *)NULL);
    _exit(98);
  }
  int status = 0;
  assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void await_end(const char *vmm, const char *pager) {
  char text[8192];
  WAIT_FOR(exists("exit.json"));
  read_record("exit.json", text, sizeof(text));
  if (strstr(text, vmm) == NULL || strstr(text, pager) == NULL) {
    (void)fprintf(stderr, "exit.json: %s", text);
  }
  assert(strstr(text, vmm) != NULL && strstr(text, pager) != NULL);
  WAIT_FOR(is_gone(keeper_pid()) && is_gone(vmm_pid()) && is_gone(pager_pid()));
}

static void the_vmm_starts_when_the_pager_serves_with_its_device_and_environment(void) {
  char text[256];
  assert(start("sleep 0.2; " SERVES "sleep 1000 & wait", "echo $GREETING; exec sleep 1000") == 0);
  WAIT_FOR(exists("console.log"));
  do {
    read_record("console.log", text, sizeof(text));
  } while (strchr(text, '\n') == NULL);
  assert(strncmp(text, "hello\n", 6) == 0);
  char path[64];
  char target[64] = "";
  (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)vmm_pid(), VMM_FD_USERFAULT);
  assert(readlink(path, target, sizeof(target) - 1) > 0);
  assert(strcmp(target, "/dev/userfaultfd") == 0);
  assert(kill(pager_pid(), SIGKILL) == 0);
  await_end("\"reason\":\"signaled\",\"status\":9,\"wasAsked\":false",
            "\"pager\":{\"reason\":\"signaled\",\"status\":9}");
}

static void a_vmm_does_not_outlive_a_pager_that_gives_up(void) {
  assert(start(SERVES "sleep 0.3; exit 1", "trap '' TERM; while :; do sleep 0.1; done") == 0);
  await_end("\"reason\":\"signaled\",\"status\":9",
            "\"pager\":{\"reason\":\"exited\",\"status\":1}");
}

static void a_pager_may_finish_when_its_vmm_has_ended(void) {
  assert(start(SERVES "while [ ! -e over ]; do sleep 0.02; done; exit 0", "sleep 0.1; exit 4") ==
         0);
  (void)usleep(300000);
  assert(!exists("exit.json"));
  char path[128];
  (void)snprintf(path, sizeof(path), "%s/over", run_dir);
  int over = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  assert(over >= 0 && close(over) == 0);
  await_end("\"reason\":\"exited\",\"status\":4", "\"pager\":{\"reason\":\"exited\",\"status\":0}");
}

static void a_pager_is_told_that_its_vmm_has_ended(void) {
  assert(start("trap 'exit 7' TERM; " SERVES "while :; do sleep 0.02; done", "sleep 0.1") == 0);
  await_end("\"reason\":\"exited\",\"status\":0", "\"pager\":{\"reason\":\"exited\",\"status\":7}");
}

static void read_namespace(pid_t pid, char ret_text[64]) {
  char path[64];
  (void)snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
  ssize_t size = readlink(path, ret_text, 63);
  assert(size > 0);
  ret_text[size] = '\0';
}

static void neither_sees_the_hosts_processes_nor_the_others(void) {
  char host[64];
  char vmm[64];
  char pager[64];
  assert(start(SERVES "exec sleep 1000", "exec sleep 1000") == 0);
  read_namespace(getpid(), host);
  read_namespace(vmm_pid(), vmm);
  read_namespace(pager_pid(), pager);
  assert(strcmp(host, vmm) != 0 && strcmp(host, pager) != 0 && strcmp(vmm, pager) != 0);
  assert(kill(keeper_pid(), SIGTERM) == 0);
  WAIT_FOR(exists("exit.json"));
  WAIT_FOR(is_gone(keeper_pid()));
}

static void a_pager_that_does_not_finish_is_killed(void) {
  assert(start(SERVES "trap '' TERM; while :; do sleep 0.1; done", "exit 0") == 0);
  await_end("\"reason\":\"exited\",\"status\":0",
            "\"pager\":{\"reason\":\"signaled\",\"status\":9}");
}

static void both_die_with_a_killed_keeper(void) {
  assert(start(SERVES "exec sleep 1000", "exec sleep 1000") == 0);
  pid_t vmm = vmm_pid();
  pid_t pager = pager_pid();
  assert(kill(keeper_pid(), SIGKILL) == 0);
  WAIT_FOR(is_gone(vmm) && is_gone(pager));
}

static void a_pager_that_cannot_serve_is_why_there_is_no_vmm(void) {
  char text[512];
  assert(start("echo the layer is torn >&2; exit 1", "exit 0") == 1);
  read_record("keeper.stderr", text, sizeof(text));
  assert(strncmp(text, "start the pager: the layer is torn: ", 36) == 0);
  assert(!exists("vmm.json"));
}

static int count_descriptors(pid_t pid) {
  char path[64];
  int count = 0;
  (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
  DIR *directory = opendir(path);
  assert(directory != NULL);
  while (readdir(directory) != NULL) count++;
  (void)closedir(directory);
  return count;
}

/* An agent connects again after each of its restarts, for as long as a capsule lives. */
static void whoever_watched_and_left_leaves_no_descriptor(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  assert(start(SERVES "sleep 1000 & wait", "exec sleep 1000") == 0);
  (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/keeper.sock", run_dir);
  WAIT_FOR(exists("keeper.sock"));
  int before = count_descriptors(keeper_pid());
  for (int i = 0; i < 50; i++) {
    int link = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(link >= 0 && connect(link, (const struct sockaddr *)&address, sizeof(address)) == 0);
    (void)close(link);
  }
  (void)usleep(100000);
  WAIT_FOR(count_descriptors(keeper_pid()) <= before);
  assert(kill(keeper_pid(), SIGTERM) == 0);
  await_end("\"wasAsked\":true", "");
}

static void remove_run_dir(void) {
  static const char *const names[] = {
      "keeper.json", "vmm.json",    "exit.json",     "keeper.sock",   "vmm.log", "vmm.log.1",
      "pager.log",   "console.log", "console.log.1", "keeper.stderr", "over",    "memory.sock",
  };
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", run_dir, names[i]);
    (void)unlink(path);
  }
  assert(rmdir(run_dir) == 0);
}

#define RUN_IN_DIR(test)                                                  \
  do {                                                                    \
    (void)snprintf(run_dir, sizeof(run_dir), "/tmp/keeper-pager-XXXXXX"); \
    assert(mkdtemp(run_dir) != NULL);                                     \
    RUN(test);                                                            \
    remove_run_dir();                                                     \
  } while (0)

int main(int argc, char *argv[]) {
  assert(argc == 2 && geteuid() == 0);
  keeper_path = argv[1];
  RUN_IN_DIR(the_vmm_starts_when_the_pager_serves_with_its_device_and_environment);
  RUN_IN_DIR(a_vmm_does_not_outlive_a_pager_that_gives_up);
  RUN_IN_DIR(a_pager_may_finish_when_its_vmm_has_ended);
  RUN_IN_DIR(a_pager_is_told_that_its_vmm_has_ended);
  RUN_IN_DIR(a_pager_that_does_not_finish_is_killed);
  RUN_IN_DIR(neither_sees_the_hosts_processes_nor_the_others);
  RUN_IN_DIR(whoever_watched_and_left_leaves_no_descriptor);
  RUN_IN_DIR(both_die_with_a_killed_keeper);
  RUN_IN_DIR(a_pager_that_cannot_serve_is_why_there_is_no_vmm);
  return 0;
}
