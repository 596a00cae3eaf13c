/* The program as it is shipped: confined, under a user of its own. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pager/tests/support/rig.h"
#include "pages/page-list.h"
#include "tests/run.h"

enum { PAGE = MEMORY_BLOCK_BYTES, PAGES = 16384, PAGER_UID = 12345, RESIDENT_KIB_MAX = 6 * 1024 };

static int read_all(struct guest *guest) {
  for (uint64_t page = 0; page < PAGES; page++) {
    if (memcmp(guest->memory + page * PAGE, guest->expected + page * PAGE, PAGE) != 0) return 1;
  }
  return 0;
}

static void make_confined(struct rig *rig) {
  rig_make(rig, PAGES);
  assert(chown(rig->snapshot.directory, PAGER_UID, PAGER_UID) == 0);
  assert(chmod(rig->snapshot.layers[0], 0600) == 0 && chmod(rig->snapshot.layers[1], 0600) == 0);
  rig_option(rig, "--uid", "12345");
  rig_option(rig, "--record", "working-set");
}

static bool has_line(const char *status, const char *name, const char *value) {
  const char *at = strstr(status, name);
  if (at == NULL) return false;
  at += strlen(name);
  at += strspn(at, " \t");
  return strncmp(at, value, strlen(value)) == 0;
}

static void path_of(const struct rig *rig, const char *name, char ret_path[64]) {
  (void)snprintf(ret_path, 64, "/proc/%d/%s", (int)rig->pager, name);
}

static void expect_no_rights(const struct rig *rig) {
  static const char *const LINES[][2] = {
      {"\nUid:", "12345\t12345\t12345\t12345"},
      {"\nGid:", "12345\t12345\t12345\t12345"},
      {"\nGroups:", "\n"},
      {"\nCapInh:", "0000000000000000"},
      {"\nCapPrm:", "0000000000000000"},
      {"\nCapEff:", "0000000000000000"},
      {"\nCapBnd:", "0000000000000000"},
      {"\nCapAmb:", "0000000000000000"},
      {"\nSeccomp:", "2"},
      {"\nNoNewPrivs:", "1"},
  };
  char path[64];
  char status[4096];
  path_of(rig, "status", path);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = read(fd, status, sizeof status - 1);
  assert(got > 0 && close(fd) == 0);
  status[got] = '\0';
  for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++) {
    if (has_line(status, LINES[i][0], LINES[i][1])) continue;
    (void)fprintf(stderr, "not so: %s %s\n", LINES[i][0] + 1, LINES[i][1]);
    abort();
  }
  const char *resident = strstr(status, "\nVmRSS:");
  assert(resident != NULL && strtol(resident + 7, NULL, 10) <= RESIDENT_KIB_MAX);
}

static void expect_own_namespaces(const struct rig *rig) {
  static const char *const NAMES[] = {"ns/mnt", "ns/net", "ns/ipc", "ns/uts", "ns/cgroup"};
  for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
    char path[64];
    char own[64] = "";
    char pagers[64] = "";
    path_of(rig, NAMES[i], path);
    assert(readlink(path, pagers, sizeof pagers - 1) > 0);
    (void)snprintf(path, sizeof path, "/proc/self/%s", NAMES[i]);
    assert(readlink(path, own, sizeof own - 1) > 0);
    assert(strcmp(own, pagers) != 0);
  }
}

/* Its root is its directory, and one mount is all that it has. */
static void expect_own_root(const struct rig *rig) {
  struct stat root;
  struct stat directory;
  char path[64];
  char mounts[4096];
  path_of(rig, "root/", path);
  assert(stat(path, &root) == 0 && stat(rig->snapshot.directory, &directory) == 0);
  assert(root.st_dev == directory.st_dev && root.st_ino == directory.st_ino);
  path_of(rig, "cwd/", path);
  assert(stat(path, &root) == 0 && root.st_ino == directory.st_ino);
  path_of(rig, "mountinfo", path);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = read(fd, mounts, sizeof mounts - 1);
  assert(got > 0 && close(fd) == 0);
  mounts[got] = '\0';
  assert(strchr(mounts, '\n') == mounts + got - 1);
  assert(strstr(mounts, "nosuid,nodev,noexec") != NULL);
}

/* 0 to 2 are the test's; what the pager opened are files of the snapshot, sockets and the like. */
static void expect_known_descriptors(const struct rig *rig) {
  int layers = 0;
  int directories = 0;
  char path[64];
  path_of(rig, "fd", path);
  DIR *list = opendir(path);
  assert(list != NULL);
  for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
    char link[64 + sizeof entry->d_name];
    char target[256] = "";
    if (entry->d_name[0] == '.' || strtol(entry->d_name, NULL, 10) <= 2) continue;
    (void)snprintf(link, sizeof link, "%s/%s", path, entry->d_name);
    assert(readlink(link, target, sizeof target - 1) > 0);
    struct stat status;
    assert(stat(link, &status) == 0);
    if (S_ISDIR(status.st_mode)) directories++;
    if (S_ISREG(status.st_mode) && strstr(target, "memory.") != NULL) layers++;
    bool is_known = strstr(target, "memory.") != NULL || strstr(target, "reason.json") != NULL ||
                    strncmp(target, "socket:", 7) == 0 || strncmp(target, "anon_inode:", 11) == 0;
    if (is_known) continue;
    (void)fprintf(stderr, "the pager has %s open\n", target);
    abort();
  }
  (void)closedir(list);
  assert(layers == 2 && directories == 0);
}

static int inspect_pager(struct guest *guest) {
  if (read_all(guest) != 0) return 1;
  expect_no_rights(guest->rig);
  expect_own_namespaces(guest->rig);
  expect_own_root(guest->rig);
  expect_known_descriptors(guest->rig);
  return 0;
}

static void the_confined_pager_serves_without_rights_and_sees_its_directory_only(void) {
  struct rig rig;
  make_confined(&rig);
  rig_start_program(&rig);
  rig_start_vmm(&rig, inspect_pager);
  int status = rig_wait(rig.vmm);
  if (status != 0) (void)fprintf(stderr, "the VMM ended with 0x%x\n", (unsigned)status);
  assert(status == 0);
  assert(rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

static void the_confined_pager_writes_its_working_set_when_the_vmm_has_ended(void) {
  struct rig rig;
  struct page_list list;
  struct failure failure;
  make_confined(&rig);
  rig_start_program(&rig);
  rig_start_vmm(&rig, read_all);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  assert(page_list_load(rig.record, rig.snapshot.total_bytes, &list, &failure) == 0);
  assert(list.bytes >= (PAGES - 2) * PAGE);
  page_list_free(&list);
  rig_remove(&rig);
}

static void the_confined_pager_says_why_it_gives_up(void) {
  struct rig rig;
  char text[RIG_ANSWER_BYTES];
  make_confined(&rig);
  rig_start_program(&rig);
  flip_byte(rig.snapshot.layers[1], 300000, 1);
  rig_start_vmm(&rig, read_all);
  assert(WEXITSTATUS(rig_wait_for_verdict(&rig)) == 1);
  rig_read(rig.reason, text);
  assert(strstr(text, "\"error\":\"EBADMSG\"") != NULL);
  rig_remove(&rig);
}

static int hand_over_as_4242(struct guest *guest) {
  rig_wait_for_file(guest->rig->socket);
  if (guest_map(guest) < 0) return 100;
  if (setresuid(4242, 4242, 4242) < 0) return 101;
  if (guest_hand_over(guest) < 0) return 102;
  return read_all(guest);
}

static int hand_over_as_a_stranger(struct guest *guest) {
  if (guest_map(guest) < 0) return 100;
  (void)guest_hand_over(guest);
  return 0;
}

/* Whoever else connects is turned away. */
static void the_confined_pager_serves_the_user_that_it_was_told_of(void) {
  struct rig rig;
  make_confined(&rig);
  assert(chmod(rig.snapshot.directory, 0755) == 0);
  rig_option(&rig, "--vmm-uid", "4242");
  rig_start_program(&rig);
  rig_start_bare_vmm(&rig, hand_over_as_a_stranger);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_still_runs(rig.pager, 20));
  rig_start_bare_vmm(&rig, hand_over_as_4242);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

static int ask_everything(struct guest *guest) {
  char answer[RIG_ANSWER_BYTES];
  rig_ask(guest->rig, "ready", answer);
  rig_ask(guest->rig, "working-set", answer);
  if (strstr(answer, "\"saved\":true") == NULL) return 1;
  rig_ask(guest->rig, "stats", answer);
  return rig_number(answer, "faults") == 0 ? 0 : 2;
}

static void the_confined_pager_answers_its_control_socket(void) {
  struct rig rig;
  make_confined(&rig);
  rig_start_program(&rig);
  rig_start_vmm(&rig, ask_everything);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

/* Stands for the keeper: starts the pager, tells its pid and waits. */
static _Noreturn void start_and_tell(struct rig *rig, int told) {
  rig_start_program(rig);
  if (write(told, &rig->pager, sizeof rig->pager) != sizeof rig->pager) _exit(1);
  for (;;) (void)pause();
}

/* It would wait for a VMM that nobody starts any more. */
static void the_confined_pager_ends_with_whoever_started_it(void) {
  struct rig rig;
  char answer[RIG_ANSWER_BYTES];
  int told[2];
  make_confined(&rig);
  assert(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && pipe(told) == 0);
  pid_t keeper = fork();
  assert(keeper >= 0);
  if (keeper == 0) start_and_tell(&rig, told[1]);
  assert(read(told[0], &rig.pager, sizeof rig.pager) == sizeof rig.pager);
  /* Answered by one that is confined. */
  rig_ask(&rig, "stats", answer);

  assert(kill(keeper, SIGKILL) == 0 && WIFSIGNALED(rig_wait(keeper)));

  int status = rig_wait(rig.pager);
  assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  assert(close(told[0]) == 0 && close(told[1]) == 0);
  assert(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
  rig_remove(&rig);
}

int main(void) {
  /* Whoever starts it has groups. */
  const gid_t group = 54321;
  assert(setgroups(1, &group) == 0);
  RUN(the_confined_pager_serves_without_rights_and_sees_its_directory_only);
  RUN(the_confined_pager_writes_its_working_set_when_the_vmm_has_ended);
  RUN(the_confined_pager_says_why_it_gives_up);
  RUN(the_confined_pager_serves_the_user_that_it_was_told_of);
  RUN(the_confined_pager_answers_its_control_socket);
  RUN(the_confined_pager_ends_with_whoever_started_it);
  return 0;
}
