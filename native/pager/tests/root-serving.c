/* What a guest reads through a pager, with a real userfaultfd. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pager/tests/support/rig.h"
#include "pages/page-list.h"
#include "tests/run.h"

enum { PAGE = MEMORY_BLOCK_BYTES, PAGES = 4096 };

static int read_page(const struct guest *guest, uint64_t page) {
  return memcmp(guest->memory + page * PAGE, guest->expected + page * PAGE, PAGE) == 0 ? 0 : 1;
}

static int read_all_in_random_order(struct guest *guest) {
  uint64_t random = 11;
  for (int i = 0; i < PAGES; i++) {
    if (read_page(guest, next_random(&random) % PAGES) != 0) return 1;
  }
  for (uint64_t page = 0; page < PAGES; page++) {
    if (read_page(guest, page) != 0) return 2;
  }
  return 0;
}

static void expect_success(struct rig *rig) {
  int status = rig_wait(rig->vmm);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    (void)fprintf(stderr, "the VMM ended with status 0x%x\n", (unsigned)status);
    abort();
  }
  assert(rig_end_pager(rig) == 0);
  rig_remove(rig);
}

static void every_page_reads_as_the_snapshot_has_it(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_all_in_random_order);
  expect_success(&rig);
}

static int read_all_then_wait(struct guest *guest) {
  int result = read_all_in_random_order(guest);
  if (result != 0) return result;
  char answer[RIG_ANSWER_BYTES];
  rig_ask(guest->rig, "stats", answer);
  uint64_t copied = rig_number(answer, "pagesCopied");
  uint64_t zeroed = rig_number(answer, "pagesZeroed");
  if (copied + zeroed != PAGES || zeroed < PAGES / 10) return 3;
  if (rig_number(answer, "faults") > PAGES / 2) return 4;
  if (rig_number(answer, "bytesRead") != copied * PAGE) return 5;
  if (rig_number(answer, "faultP99Ns") < rig_number(answer, "faultP50Ns")) return 6;
  return strstr(answer, "\"state\":\"serving\"") != NULL ? 0 : 7;
}

static void each_page_is_filled_once_and_counted(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_all_then_wait);
  expect_success(&rig);
}

static int measure_zero_pages(struct guest *guest) {
  for (uint64_t page = 0; page < PAGES; page++) {
    if (read_page(guest, page) != 0) return 1;
  }
  uint64_t resident = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  for (uint64_t page = 0; page < PAGES; page++) {
    uint64_t entry;
    uint64_t number = (uint64_t)(uintptr_t)guest->memory / PAGE + page;
    if (pread(fd, &entry, sizeof entry, (off_t)(number * 8)) != 8) return 2;
    static uint64_t zero_frame;
    bool is_zero = guest->expected[page * PAGE] == 0;
    uint64_t frame = entry & ((UINT64_C(1) << 55) - 1);
    if (is_zero && zero_frame == 0) zero_frame = frame;
    if (is_zero && frame != zero_frame) return 3;
    if (!is_zero) resident++;
  }
  return resident > 0 ? 0 : 4;
}

static void zero_pages_share_one_frame_and_take_no_memory(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, measure_zero_pages);
  expect_success(&rig);
}

static void *read_all_pages(void *context) {
  const struct guest *guest = context;
  for (uint64_t page = 0; page < PAGES; page++) {
    if (read_page(guest, page) != 0) return context;
  }
  return NULL;
}

static int read_with_threads(struct guest *guest) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    if (pthread_create(&threads[i], NULL, read_all_pages, guest) != 0) return 1;
  }
  int wrong = 0;
  for (int i = 0; i < 4; i++) {
    void *result;
    if (pthread_join(threads[i], &result) != 0 || result != NULL) wrong = 2;
  }
  return wrong;
}

static void threads_that_fault_on_the_same_pages_all_go_on(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--window-kib", "4");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_with_threads);
  expect_success(&rig);
}

static int write_and_read_back(struct guest *guest) {
  for (uint64_t page = 0; page < PAGES; page += 3) memset(guest->memory + page * PAGE, 0xa5, 8);
  for (uint64_t page = 0; page < PAGES; page++) {
    const uint8_t *memory = guest->memory + page * PAGE;
    const uint8_t *expected = guest->expected + page * PAGE;
    if (memcmp(memory + 8, expected + 8, PAGE - 8) != 0) return 1;
    if (page % 3 == 0 ? memory[0] != 0xa5 : memory[0] != expected[0]) return 2;
  }
  return 0;
}

static void what_the_guest_wrote_is_never_overwritten(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, write_and_read_back);
  expect_success(&rig);
}

static int read_by_system_call(struct guest *guest) {
  int pipes[2];
  static uint8_t page[PAGE];
  if (pipe(pipes) < 0) return 1;
  for (uint64_t number = 0; number < PAGES; number += 7) {
    if (write(pipes[1], guest->memory + number * PAGE, PAGE) != PAGE) return 2;
    if (read(pipes[0], page, PAGE) != PAGE) return 3;
    if (memcmp(page, guest->expected + number * PAGE, PAGE) != 0) return 4;
  }
  return 0;
}

static void faults_of_system_calls_are_served_too(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_by_system_call);
  expect_success(&rig);
}

static bool is_zero_page(const uint8_t *page) {
  static const uint8_t ZEROS[PAGE];
  return memcmp(page, ZEROS, PAGE) == 0;
}

/* Pages 100 to 199 were touched, 300 to 399 were not; both are given back. */
static int give_back(struct guest *guest) {
  for (uint64_t page = 100; page < 200; page++) {
    if (read_page(guest, page) != 0) return 1;
  }
  if (madvise(guest->memory + 100 * PAGE, 100 * PAGE, MADV_DONTNEED) < 0) return 2;
  if (madvise(guest->memory + 300 * PAGE, 100 * PAGE, MADV_DONTNEED) < 0) return 3;
  for (uint64_t page = 0; page < PAGES; page++) {
    bool is_removed = (page >= 100 && page < 200) || (page >= 300 && page < 400);
    bool is_right = is_removed ? is_zero_page(guest->memory + page * PAGE)
                               : read_page(guest, page) == 0;
    if (!is_right) return 4;
  }
  return 0;
}

static void pages_given_back_read_as_zeros_and_are_listed(void) {
  struct rig rig;
  struct page_list list;
  struct failure failure;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--removed", "removed");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, give_back);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);

  assert(page_list_load(rig.removed, rig.snapshot.total_bytes, &list, &failure) == 0);
  assert(list.count == 2 && list.ranges[0].start == 100 * PAGE);
  assert(list.ranges[0].length == 100 * PAGE && list.ranges[1].start == 300 * PAGE);
  page_list_free(&list);
  rig_remove(&rig);
}

static void assert_lists_only(const struct rig *rig, const char *path, uint64_t page) {
  struct page_list list;
  struct failure failure;
  assert(page_list_load(path, rig->snapshot.total_bytes, &list, &failure) == 0);
  assert(list.count == 1 && list.ranges[0].start == page * PAGE && list.ranges[0].length == PAGE);
  page_list_free(&list);
}

/* A kernel or a VMM that tells nothing of what it discards. */
static int discard_in_silence(struct guest *guest) {
  if (guest_map_with(guest, 0) < 0 || guest_hand_over(guest) < 0) return 1;
  if (read_page(guest, 100) != 0) return 2;
  if (madvise(guest->memory + 100 * PAGE, PAGE, MADV_DONTNEED) < 0) return 3;
  if (!is_zero_page(guest->memory + 100 * PAGE)) return 4;
  return read_page(guest, 101);
}

static void a_page_that_went_without_an_event_reads_as_zeros_and_is_listed(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--removed", "removed");
  rig_start_pager(&rig);
  rig_start_bare_vmm(&rig, discard_in_silence);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);

  assert_lists_only(&rig, rig.removed, 100);
  rig_remove(&rig);
}

static void *give_back_in_turns(void *context) {
  const struct guest *guest = context;
  uint64_t random = 23;
  for (int i = 0; i < 2000; i++) {
    uint64_t page = next_random(&random) % (PAGES / 2);
    if (madvise(guest->memory + page * PAGE, 4 * PAGE, MADV_DONTNEED) < 0) return context;
    if (!is_zero_page(guest->memory + page * PAGE)) return context;
  }
  return NULL;
}

/* One thread gives pages of the lower half back while the others read everything. */
static int give_back_under_load(struct guest *guest) {
  pthread_t remover;
  if (pthread_create(&remover, NULL, give_back_in_turns, guest) != 0) return 1;
  uint64_t random = 29;
  for (int i = 0; i < 3 * PAGES; i++) {
    uint64_t page = next_random(&random) % PAGES;
    static uint8_t copy[PAGE];
    memcpy(copy, guest->memory + page * PAGE, PAGE);
    bool may_be_zero = page < PAGES / 2 + 4;
    if (may_be_zero) continue;
    if (memcmp(copy, guest->expected + page * PAGE, PAGE) != 0) return 2;
  }
  void *result;
  return pthread_join(remover, &result) == 0 && result == NULL ? 0 : 3;
}

static void giving_back_races_with_faults_and_prefetch(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  int directory = open(rig.snapshot.directory, O_RDONLY | O_DIRECTORY);
  struct page_list all = {0};
  assert(page_list_append(&all, 0, PAGES * PAGE) == 0);
  assert(page_list_save(&all, directory, "all") == 0);
  page_list_free(&all);
  assert(close(directory) == 0);
  char path[RIG_PATH_BYTES + 8];
  (void)snprintf(path, sizeof path, "%s/all", rig.snapshot.directory);
  rig_option(&rig, "--prefetch", path);
  rig_option(&rig, "--prefetch-before-mib", "0");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, give_back_under_load);
  expect_success(&rig);
}

static int read_every_hundredth(struct guest *guest) {
  char answer[RIG_ANSWER_BYTES];
  rig_ask(guest->rig, "ready", answer);
  if (strcmp(answer, "{\"ready\":true}\n") != 0) return 1;
  for (uint64_t page = 0; page < PAGES; page += 100) {
    if (read_page(guest, page) != 0) return 2;
  }
  rig_ask(guest->rig, "stats", answer);
  return rig_number(answer, "faults") == 0 ? 42 : 0;
}

static void a_recorded_working_set_is_there_before_the_next_run_starts(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--record", "working-set");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_every_hundredth);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  assert(unlink(rig.socket) == 0);

  rig.argument_count -= 2;
  free(rig.arguments[rig.argument_count]);
  free(rig.arguments[rig.argument_count + 1]);
  rig_option(&rig, "--prefetch", rig.record);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_every_hundredth);
  assert(WEXITSTATUS(rig_wait(rig.vmm)) == 42);
  assert(rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

static int save_on_request(struct guest *guest) {
  char answer[RIG_ANSWER_BYTES];
  if (read_page(guest, 5) != 0) return 1;
  rig_ask(guest->rig, "working-set", answer);
  if (strncmp(answer, "{\"saved\":true,\"bytes\":", 22) != 0) return 2;
  rig_ask(guest->rig, "removed", answer);
  return strcmp(answer, "{\"saved\":false,\"errno\":2}\n") == 0 ? 0 : 3;
}

static void a_working_set_is_written_on_request(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--record", "working-set");
  rig_option(&rig, "--window-kib", "4");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, save_on_request);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  assert_lists_only(&rig, rig.record, 5);
  rig_remove(&rig);
}

static void a_working_set_keeps_what_was_brought_ahead(void) {
  struct rig rig;
  struct page_list list = {0};
  struct failure failure;
  rig_make(&rig, PAGES);
  int directory = open(rig.snapshot.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert(page_list_append(&list, 9 * PAGE, PAGE) == 0);
  assert(page_list_save(&list, directory, "ahead") == 0 && close(directory) == 0);
  page_list_free(&list);
  char path[256];
  (void)snprintf(path, sizeof path, "%s/ahead", rig.snapshot.directory);
  rig_option(&rig, "--prefetch", path);
  rig_option(&rig, "--record", "working-set");
  rig_option(&rig, "--window-kib", "4");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, save_on_request);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  assert(page_list_load(rig.record, rig.snapshot.total_bytes, &list, &failure) == 0);
  assert(list.count == 2 && list.bytes == 2 * PAGE);
  assert(list.ranges[0].start == 9 * PAGE && list.ranges[1].start == 5 * PAGE);
  page_list_free(&list);
  rig_remove(&rig);
}

static void a_torn_working_set_only_costs_the_prefetch(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--prefetch", rig.snapshot.header);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_every_hundredth);
  expect_success(&rig);
}

int main(void) {
  RUN(every_page_reads_as_the_snapshot_has_it);
  RUN(each_page_is_filled_once_and_counted);
  RUN(zero_pages_share_one_frame_and_take_no_memory);
  RUN(threads_that_fault_on_the_same_pages_all_go_on);
  RUN(what_the_guest_wrote_is_never_overwritten);
  RUN(faults_of_system_calls_are_served_too);
  RUN(pages_given_back_read_as_zeros_and_are_listed);
  RUN(a_page_that_went_without_an_event_reads_as_zeros_and_is_listed);
  RUN(giving_back_races_with_faults_and_prefetch);
  RUN(a_recorded_working_set_is_there_before_the_next_run_starts);
  RUN(a_working_set_is_written_on_request);
  RUN(a_working_set_keeps_what_was_brought_ahead);
  RUN(a_torn_working_set_only_costs_the_prefetch);
  return 0;
}
