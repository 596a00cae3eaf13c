/* When a pager cannot serve it ends, and its VMM waits to be killed: it never reads a wrong byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pager/tests/support/rig.h"
#include "tests/run.h"

enum { PAGE = MEMORY_BLOCK_BYTES, PAGES = 2048 };

static int read_all(struct guest *guest) {
  for (uint64_t page = 0; page < PAGES; page++) {
    if (memcmp(guest->memory + page * PAGE, guest->expected + page * PAGE, PAGE) != 0) return 1;
  }
  return 0;
}

static int wait_for_ever(struct guest *guest) {
  (void)guest;
  while (pause() < 0) continue;
  return 0;
}

static void expect_verdict(struct rig *rig, const char *reason, const char *error) {
  char text[RIG_ANSWER_BYTES];
  int pager = rig_wait_for_verdict(rig);
  rig_read(rig->reason, text);
  if (strstr(text, reason) == NULL || strstr(text, error) == NULL) {
    (void)fprintf(stderr, "reason %s\n", text);
    abort();
  }
  assert(WIFEXITED(pager) && WEXITSTATUS(pager) == 1);
}

/* Late enough that the pager has opened the layer, whose table and footer are still right. */
static void a_flipped_chunk_ends_the_pager_while_the_vmm_waits(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  flip_byte(rig.snapshot.layers[1], 200000, 1);
  rig_start_vmm(&rig, read_all);
  expect_verdict(&rig, "does not match its checksum", "EBADMSG");
  rig_remove(&rig);
}

static void a_layer_cut_short_ends_the_pager_while_the_vmm_waits(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  assert(truncate(rig.snapshot.layers[1], 100000) == 0);
  rig_start_vmm(&rig, read_all);
  expect_verdict(&rig, "cannot read", "EIO");
  rig_remove(&rig);
}

static void a_torn_snapshot_is_refused_before_any_vmm_starts(void) {
  struct rig rig;
  char text[RIG_ANSWER_BYTES];
  rig_make(&rig, PAGES);
  flip_byte(rig.snapshot.header, 100, 1);
  int fd = open(rig.socket, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  assert(fd >= 0 && close(fd) == 0);
  rig_start_pager(&rig);
  assert(WEXITSTATUS(rig_wait(rig.pager)) == 1);
  rig_read(rig.reason, text);
  assert(strstr(text, "header: its checksum does not match") != NULL);
  rig_remove(&rig);
}

static void when_the_pager_is_killed_its_vmm_waits_and_reads_no_zeros(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  assert(kill(rig.pager, SIGSTOP) == 0);
  rig_start_vmm(&rig, read_all);
  assert(rig_still_runs(rig.vmm, 100));

  assert(kill(rig.pager, SIGKILL) == 0);
  assert(WIFSIGNALED(rig_wait(rig.pager)));

  assert(rig_still_runs(rig.vmm, 300));
  assert(kill(rig.vmm, SIGKILL) == 0);
  assert(WTERMSIG(rig_wait(rig.vmm)) == SIGKILL);
  rig_remove(&rig);
}

/* The message is in the pager's hands, one page is served, then the pager dies. */
static int read_two_pages(struct guest *guest) {
  if (memcmp(guest->memory, guest->expected, PAGE) != 0) return 1;
  if (kill(guest->rig->pager, SIGKILL) < 0) return 2;
  uint64_t far = PAGES / 2 * PAGE;
  return memcmp(guest->memory + far, guest->expected + far, PAGE) == 0 ? 3 : 4;
}

static void when_the_pager_dies_while_it_serves_the_vmm_waits_too(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_two_pages);
  assert(WIFSIGNALED(rig_wait(rig.pager)));
  assert(rig_still_runs(rig.vmm, 300));
  assert(kill(rig.vmm, SIGKILL) == 0);
  (void)rig_wait(rig.vmm);
  rig_remove(&rig);
}

static void whenever_the_pager_dies_no_wrong_byte_is_read(void) {
  uint64_t random = 31;
  for (int round = 0; round < 20; round++) {
    struct rig rig;
    rig_make(&rig, PAGES);
    rig_start_pager(&rig);
    rig_start_vmm(&rig, read_all);
    (void)usleep((useconds_t)(next_random(&random) % 30000));
    (void)kill(rig.pager, SIGKILL);
    (void)rig_wait(rig.pager);
    (void)rig_still_runs(rig.vmm, 20);
    (void)kill(rig.vmm, SIGKILL);
    int status = rig_wait(rig.vmm);
    assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 101);
    rig_remove(&rig);
  }
}

static void wherever_a_layer_is_flipped_no_wrong_byte_is_read(void) {
  uint64_t random = 37;
  for (int round = 0; round < 20; round++) {
    struct rig rig;
    rig_make(&rig, PAGES);
    rig_start_pager(&rig);
    const char *layer = rig.snapshot.layers[round % 2];
    flip_byte(layer, next_random(&random) % file_size(layer), 0x04);
    rig_start_vmm(&rig, read_all);
    if (rig_wait_for_first() == rig.vmm) {
      assert(rig_wait(rig.vmm) == 0);
      assert(rig_end_pager(&rig) == 0);
    } else {
      assert(WEXITSTATUS(rig_wait_for_verdict(&rig)) == 1);
    }
    rig_remove(&rig);
  }
}

static void stop_ends_the_pager(void) {
  struct rig rig;
  char answer[RIG_ANSWER_BYTES];
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, wait_for_ever);
  rig_ask(&rig, "ready", answer);
  rig_ask(&rig, "stop", answer);
  assert(strcmp(answer, "{\"stopping\":true}\n") == 0);
  assert(rig_wait_for_verdict(&rig) == 0);
  rig_remove(&rig);
}

static void a_termination_signal_ends_the_pager(void) {
  struct rig rig;
  char answer[RIG_ANSWER_BYTES];
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, wait_for_ever);
  rig_ask(&rig, "ready", answer);
  assert(kill(rig.pager, SIGTERM) == 0);
  assert(rig_wait_for_verdict(&rig) == 0);
  rig_remove(&rig);
}

static int send_text(const struct guest *guest, const char *text, bool with_descriptor) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, guest->rig->socket, sizeof address.sun_path - 1);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return 1;
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)),
                         .cmsg_level = SOL_SOCKET,
                         .cmsg_type = SCM_RIGHTS}};
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  memcpy(CMSG_DATA(&control.align), &null, sizeof null);
  struct iovec body = {.iov_base = strdup(text), .iov_len = strlen(text)};
  struct msghdr message = {.msg_iov = &body,
                           .msg_iovlen = 1,
                           .msg_control = with_descriptor ? control.bytes : NULL,
                           .msg_controllen = with_descriptor ? sizeof control.bytes : 0};
  if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0) return 2;
  (void)close(fd);
  return 0;
}

static const char GOOD_TEXT[] = "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0}]";

static int send_without_descriptor(struct guest *guest) {
  int result = send_text(guest, GOOD_TEXT, false);
  return result != 0 ? result : wait_for_ever(guest);
}

static int send_another_descriptor(struct guest *guest) {
  int result = send_text(guest, GOOD_TEXT, true);
  return result != 0 ? result : wait_for_ever(guest);
}

static int send_half(struct guest *guest) {
  int result = send_text(guest, "[{\"base_host_virt_addr\":4096,", true);
  return result != 0 ? result : wait_for_ever(guest);
}

static void a_message_that_cannot_be_served_ends_the_pager(void) {
  static const struct {
    int (*body)(struct guest *guest);
    const char *reason;
    const char *error;
  } CASES[] = {{send_without_descriptor, "not exactly one descriptor", "EBADMSG"},
               {send_another_descriptor, "cannot fill", "ENOTTY"},
               {send_half, "hung up within its message", "ECONNRESET"}};
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    struct rig rig;
    rig_make(&rig, PAGES);
    rig_start_pager(&rig);
    rig_start_bare_vmm(&rig, CASES[i].body);
    expect_verdict(&rig, CASES[i].reason, CASES[i].error);
    rig_remove(&rig);
  }
}

static int hand_over_half(struct guest *guest, uint64_t missing) {
  if (guest_map(guest) < 0) return 1;
  struct uffdio_range range = {.start = (uintptr_t)guest->memory + missing,
                               .len = guest->total_bytes / 2};
  if (ioctl(guest->uffd, UFFDIO_UNREGISTER, &range) < 0 || guest_hand_over(guest) < 0) return 2;
  return wait_for_ever(guest);
}

static int hand_over_without_its_start(struct guest *guest) { return hand_over_half(guest, 0); }

static int hand_over_without_its_end(struct guest *guest) {
  return hand_over_half(guest, guest->total_bytes / 2);
}

/* Nobody faults on memory that is not registered: it would read as zeros. */
static void memory_that_is_not_registered_ends_the_pager(void) {
  int (*const BODIES[])(struct guest *) = {hand_over_without_its_start, hand_over_without_its_end};
  for (size_t i = 0; i < sizeof BODIES / sizeof *BODIES; i++) {
    struct rig rig;
    rig_make(&rig, PAGES);
    rig_start_pager(&rig);
    rig_start_bare_vmm(&rig, BODIES[i]);
    expect_verdict(&rig, "is not registered", "ENOENT");
    rig_remove(&rig);
  }
}

static int register_with(struct guest *guest, uint64_t features) {
  if (guest_map_with(guest, features) < 0) return 1;
  return guest_hand_over(guest) < 0 ? 2 : 0;
}

static int unmap_a_part(struct guest *guest) {
  int result = register_with(guest, UFFD_FEATURE_EVENT_UNMAP);
  if (result != 0) return result;
  (void)munmap(guest->memory, PAGE);
  return wait_for_ever(guest);
}

static int move_a_part(struct guest *guest) {
  int result = register_with(guest, UFFD_FEATURE_EVENT_REMAP);
  if (result != 0) return result;
  (void)mremap(guest->memory, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)0x700000000000);
  return wait_for_ever(guest);
}

static int fork_a_copy(struct guest *guest) {
  int result = register_with(guest, UFFD_FEATURE_EVENT_FORK);
  if (result != 0) return result;
  if (fork() == 0) _exit(0);
  return wait_for_ever(guest);
}

static void unmapping_moving_and_forking_are_refused(void) {
  static const struct {
    int (*body)(struct guest *guest);
    const char *reason;
  } CASES[] = {{unmap_a_part, "unmapped"}, {move_a_part, "moved"}, {fork_a_copy, "forked"}};
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    struct rig rig;
    rig_make(&rig, PAGES);
    rig_start_pager(&rig);
    rig_start_bare_vmm(&rig, CASES[i].body);
    expect_verdict(&rig, CASES[i].reason, "EPROTO");
    rig_remove(&rig);
  }
}

static void a_pager_without_a_vmm_gives_up_in_time(void) {
  struct rig rig;
  char text[RIG_ANSWER_BYTES];
  rig_make(&rig, PAGES);
  rig_option(&rig, "--connect-timeout-ms", "200");
  rig_start_pager(&rig);
  assert(WEXITSTATUS(rig_wait(rig.pager)) == 1);
  rig_read(rig.reason, text);
  assert(strstr(text, "no VMM has connected in time") != NULL);
  rig_remove(&rig);
}

static int become_4242_and_read(struct guest *guest) {
  if (guest_map(guest) < 0) return 1;
  (void)guest_hand_over(guest); /* as root: is turned away, perhaps before all is sent */
  if (setresuid(4242, 4242, 4242) < 0) return 3;
  int result = guest_hand_over(guest);
  return result < 0 ? 4 : read_all(guest);
}

static void only_the_vmms_user_may_connect(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--vmm-uid", "4242");
  rig_start_pager(&rig);
  rig_start_bare_vmm(&rig, become_4242_and_read);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

static void clients_that_misbehave_are_cut_off_and_others_served(void) {
  struct rig rig;
  char answer[RIG_ANSWER_BYTES];
  char byte;
  int idle[20];
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, wait_for_ever);
  rig_ask(&rig, "ready", answer);
  int fd = rig_connect(&rig);
  char flood[4096];
  memset(flood, 'x', sizeof flood);
  (void)send(fd, flood, sizeof flood, MSG_NOSIGNAL);
  assert(recv(fd, &byte, 1, 0) <= 0);
  assert(close(fd) == 0);
  rig_ask(&rig, "open the doors", answer);
  assert(strcmp(answer, "{\"error\":\"unknown command\"}\n") == 0);
  for (int i = 0; i < 20; i++) idle[i] = rig_connect(&rig);
  assert(recv(idle[19], &byte, 1, 0) <= 0);
  for (int i = 0; i < 20; i++) assert(close(idle[i]) == 0);
  rig_ask(&rig, "stats", answer);
  rig_ask(&rig, "stop", answer);
  assert(rig_wait_for_verdict(&rig) == 0);
  rig_remove(&rig);
}

int main(void) {
  RUN(a_flipped_chunk_ends_the_pager_while_the_vmm_waits);
  RUN(a_layer_cut_short_ends_the_pager_while_the_vmm_waits);
  RUN(a_torn_snapshot_is_refused_before_any_vmm_starts);
  RUN(when_the_pager_is_killed_its_vmm_waits_and_reads_no_zeros);
  RUN(when_the_pager_dies_while_it_serves_the_vmm_waits_too);
  RUN(whenever_the_pager_dies_no_wrong_byte_is_read);
  RUN(wherever_a_layer_is_flipped_no_wrong_byte_is_read);
  RUN(stop_ends_the_pager);
  RUN(a_termination_signal_ends_the_pager);
  RUN(a_message_that_cannot_be_served_ends_the_pager);
  RUN(memory_that_is_not_registered_ends_the_pager);
  RUN(unmapping_moving_and_forking_are_refused);
  RUN(a_pager_without_a_vmm_gives_up_in_time);
  RUN(only_the_vmms_user_may_connect);
  RUN(clients_that_misbehave_are_cut_off_and_others_served);
  return 0;
}
