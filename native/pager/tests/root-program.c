/* The program as it is shipped: confined, under a user of its own. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
  rig_option(rig, "--record", rig->record);
}

static bool has_line(const char *status, const char *name, const char *value) {
  const char *at = strstr(status, name);
  if (at == NULL) return false;
  at += strlen(name);
  at += strspn(at, " \t");
  return strncmp(at, value, strlen(value)) == 0;
}

static int inspect_pager(struct guest *guest) {
  if (read_all(guest) != 0) return 1;
  char path[64];
  char status[4096];
  (void)snprintf(path, sizeof path, "/proc/%d/status", (int)guest->rig->pager);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = read(fd, status, sizeof status - 1);
  if (got <= 0) return 2;
  status[got] = '\0';
  if (!has_line(status, "\nUid:", "12345\t12345\t12345\t12345")) return 3;
  if (!has_line(status, "\nGid:", "12345\t12345\t12345\t12345")) return 4;
  if (!has_line(status, "\nGroups:", "\n")) return 5;
  if (!has_line(status, "\nCapPrm:", "0000000000000020")) return 6;
  if (!has_line(status, "\nCapEff:", "0000000000000020")) return 7;
  if (!has_line(status, "\nSeccomp:", "2")) return 8;
  if (!has_line(status, "\nNoNewPrivs:", "1")) return 9;
  const char *resident = strstr(status, "\nVmRSS:");
  if (resident == NULL) return 10;
  return strtol(resident + 7, NULL, 10) <= RESIDENT_KIB_MAX ? 0 : 11;
}

static void the_confined_pager_serves_with_one_capability_and_little_memory(void) {
  struct rig rig;
  make_confined(&rig);
  rig_start_program(&rig);
  rig_start_vmm(&rig, inspect_pager);
  int status = rig_wait(rig.vmm);
  if (status != 0) (void)fprintf(stderr, "the VMM ended with 0x%x\n", (unsigned)status);
  assert(status == 0);
  assert(rig_wait(rig.pager) == 0);
  rig_remove(&rig);
}

static void the_confined_pager_writes_its_working_set_when_the_vmm_ends(void) {
  struct rig rig;
  struct page_list list;
  struct failure failure;
  make_confined(&rig);
  rig_start_program(&rig);
  rig_start_vmm(&rig, read_all);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_wait(rig.pager) == 0);
  assert(page_list_load(rig.record, rig.snapshot.total_bytes, &list, &failure) == 0);
  assert(list.bytes >= (PAGES - 2) * PAGE);
  page_list_free(&list);
  rig_remove(&rig);
}

static void the_confined_pager_ends_a_vmm_of_another_user(void) {
  struct rig rig;
  char text[RIG_ANSWER_BYTES];
  make_confined(&rig);
  rig_start_program(&rig);
  flip_byte(rig.snapshot.layers[1], 300000, 1);
  rig_start_vmm(&rig, read_all);
  assert(WTERMSIG(rig_wait(rig.vmm)) == SIGKILL);
  assert(WEXITSTATUS(rig_wait(rig.pager)) == 1);
  rig_read(rig.reason, text);
  assert(strstr(text, "\"vmm\":\"killed\"") != NULL);
  rig_remove(&rig);
}

static int wait_for_pager(struct guest *guest) {
  rig_wait_for_file(guest->rig->socket);
  if (guest_map(guest) < 0) return 100;
  if (guest_hand_over(guest) < 0) return 101;
  return read_all(guest);
}

static int hand_over_as_a_stranger(struct guest *guest) {
  if (guest_map(guest) < 0) return 100;
  (void)guest_hand_over(guest);
  return 0;
}

/* Whoever else connects is turned away, and is not ended either. */
static void serve_only(const char *option, bool by_descriptor) {
  struct rig rig;
  char number[16];
  make_confined(&rig);
  rig_start_bare_vmm(&rig, wait_for_pager);
  pid_t vmm = rig.vmm;
  assert(kill(vmm, SIGSTOP) == 0);
  int pidfd = (int)syscall(SYS_pidfd_open, vmm, 0);
  assert(pidfd >= 0 && fcntl(pidfd, F_SETFD, 0) == 0);
  (void)snprintf(number, sizeof number, "%d", by_descriptor ? pidfd : (int)vmm);
  rig_option(&rig, option, number);
  rig_start_program(&rig);
  rig_start_bare_vmm(&rig, hand_over_as_a_stranger);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_still_runs(rig.pager, 20));
  assert(kill(vmm, SIGCONT) == 0);
  assert(rig_wait(vmm) == 0);
  assert(rig_wait(rig.pager) == 0);
  assert(close(pidfd) == 0);
  rig_remove(&rig);
}

static void a_vmm_known_by_its_pid_is_the_only_one_served(void) { serve_only("--vmm-pid", false); }

static void a_vmm_known_by_a_descriptor_is_the_only_one_served(void) {
  serve_only("--vmm-pidfd", true);
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
  assert(rig_wait(rig.pager) == 0);
  rig_remove(&rig);
}

int main(void) {
  RUN(the_confined_pager_serves_with_one_capability_and_little_memory);
  RUN(the_confined_pager_writes_its_working_set_when_the_vmm_ends);
  RUN(the_confined_pager_ends_a_vmm_of_another_user);
  RUN(a_vmm_known_by_its_pid_is_the_only_one_served);
  RUN(a_vmm_known_by_a_descriptor_is_the_only_one_served);
  RUN(the_confined_pager_answers_its_control_socket);
  return 0;
}
