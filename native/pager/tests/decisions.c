/* What needs neither a kernel nor a file: results, messages, lists, commands, options, counters. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pager/control.h"
#include "pager/options.h"
#include "pager/regions.h"
#include "pager/server.h"
#include "pager/stats.h"
#include "pager/uffd.h"
#include "pages/page-list.h"
#include "pages/tests/support/snapshot.h"
#include "tests/run.h"

enum { PAGE = MEMORY_BLOCK_BYTES };

static void each_result_of_a_fill_has_one_meaning(void) {
  assert(uffd_classify(0, 4 * PAGE, 4 * PAGE).outcome == UFFD_DONE);
  assert(uffd_classify(0, 4 * PAGE, 4 * PAGE).filled == 4 * PAGE);
  assert(uffd_classify(-EAGAIN, PAGE, 4 * PAGE).outcome == UFFD_PARTIAL);
  assert(uffd_classify(-EAGAIN, PAGE, 4 * PAGE).filled == PAGE);
  assert(uffd_classify(-EAGAIN, 0, PAGE).outcome == UFFD_RETRY);
  assert(uffd_classify(-EAGAIN, -EAGAIN, PAGE).outcome == UFFD_RETRY);
  assert(uffd_classify(-EEXIST, -EEXIST, PAGE).outcome == UFFD_EXISTS);
  assert(uffd_classify(-ESRCH, -ESRCH, PAGE).outcome == UFFD_EXITED);
  assert(uffd_classify(-ENOENT, -ENOENT, PAGE).outcome == UFFD_UNMAPPED);
  assert(uffd_classify(-ENOMEM, -ENOMEM, PAGE).outcome == UFFD_FAILED);
  assert(uffd_classify(-ENOMEM, -ENOMEM, PAGE).error == -ENOMEM);
}

static int32_t parse(const char *text, struct regions *regions) {
  struct failure failure;
  size_t size = strlen(text);
  char *copy = malloc(size + 1);
  assert(copy != NULL);
  memcpy(copy + 1, text, size);
  int32_t result = regions_parse(copy + 1, size, 1 << 20, regions, &failure);
  free(copy);
  return result;
}

static void regions_are_read_as_firecracker_and_the_shim_send_them(void) {
  struct regions regions;
  assert(parse("[{\"base_host_virt_addr\":8192,\"size\":4096,\"offset\":0,\"page_size\":4096,"
               "\"page_size_kib\":4096}, { \"offset\" : 4096, \"size\":8192,\n"
               "\"base_host_virt_addr\":139637976727552, \"page_size_kib\":4, \"new\":null}]",
               &regions) == 0);
  assert(regions.count == 2 && regions.list[1].size == 8192 && regions.list[1].offset == 4096);
  assert(regions_find_address(&regions, 12287) == &regions.list[0]);
  assert(regions_find_address(&regions, 12288) == NULL);
  assert(regions_find_offset(&regions, 12287) == &regions.list[1]);
}

static void messages_that_are_not_regions_are_refused(void) {
  static const char *const BAD[] = {
      "",
      "[",
      "[]",
      "[{}]",
      "{}",
      "[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":0}",
      "[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":0}]]",
      "[{\"base_host_virt_addr\":0,\"size\":4096,\"size\":4096,\"offset\":0}]",
      "[{\"base_host_virt_addr\":0,\"size\":0,\"offset\":0}]",
      "[{\"base_host_virt_addr\":1,\"size\":4096,\"offset\":0}]",
      "[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":1048576}]",
      "[{\"base_host_virt_addr\":0,\"size\":-4096,\"offset\":0}]",
      "[{\"base_host_virt_addr\":0,\"size\":99999999999999999999,\"offset\":0}]",
      "[{\"base_host_virt_addr\":18446744073709547520,\"size\":8192,\"offset\":0}]",
      "[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":18446744073709547520}]",
      "[{\"base_host_virt_addr\":0,\"size\":8192,\"offset\":0},"
      "{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":8192}]",
      "[{\"base_host_virt_addr\":0,\"size\":8192,\"offset\":0},"
      "{\"base_host_virt_addr\":8192,\"size\":4096,\"offset\":4096}]",
  };
  struct regions regions;
  for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
    assert(parse(BAD[i], &regions) == -EBADMSG);
  }
  assert(parse("[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":0,\"page_size\":2097152}]",
               &regions) == -EOPNOTSUPP);
}

static void random_messages_never_leave_their_bounds(void) {
  static const char PIECES[] = "[]{}\":,0123456789base_host_virt_addrsizeoffset \\\n";
  static const char WHOLE[] = "[{\"base_host_virt_addr\":8192,\"size\":4096,\"offset\":0}]";
  uint64_t random = 17;
  struct regions regions;
  for (int round = 0; round < 200000; round++) {
    char text[sizeof WHOLE];
    memcpy(text, WHOLE, sizeof text);
    for (uint64_t changes = next_random(&random) % 5; changes > 0; changes--) {
      text[next_random(&random) % (sizeof text - 1)] =
          PIECES[next_random(&random) % (sizeof PIECES - 1)];
    }
    if (round % 2 == 0) text[next_random(&random) % sizeof text] = '\0';
    (void)parse(text, &regions);
  }
}

static void a_page_list_survives_its_file_and_a_torn_one_does_not(void) {
  char directory[] = "/tmp/wrenn-pager-test-XXXXXX";
  char path[64];
  struct page_list list = {0};
  struct page_list read;
  struct failure failure;
  assert(mkdtemp(directory) != NULL);
  (void)snprintf(path, sizeof path, "%s/list", directory);
  int fd = open(directory, O_RDONLY | O_DIRECTORY);
  assert(page_list_append(&list, 9 * PAGE, PAGE) == 0);
  assert(page_list_append(&list, 10 * PAGE, PAGE) == 0);
  assert(page_list_append(&list, 2 * PAGE, 3 * PAGE) == 0);

  assert(page_list_save(&list, fd, "list") == 0);
  assert(page_list_load(path, 11 * PAGE, &read, &failure) == 0);
  assert(read.count == 2 && read.bytes == 5 * PAGE && read.ranges[0].start == 9 * PAGE);
  page_list_free(&read);
  assert(page_list_load(path, 10 * PAGE, &read, &failure) == -EBADMSG);
  uint64_t size = file_size(path);
  for (uint64_t at = 0; at + 4 < size; at++) {
    flip_byte(path, at, 1);
    assert(page_list_load(path, 11 * PAGE, &read, &failure) == -EBADMSG);
    flip_byte(path, at, 1);
  }
  for (uint64_t cut = size; cut-- > 0;) {
    assert(truncate(path, (off_t)cut) == 0);
    assert(page_list_load(path, 11 * PAGE, &read, &failure) == -EBADMSG);
  }
  page_list_free(&list);
  assert(close(fd) == 0 && unlink(path) == 0 && rmdir(directory) == 0);
}

static void a_sorted_page_list_has_each_page_once(void) {
  struct page_list list = {0};
  assert(page_list_append(&list, 5 * PAGE, 3 * PAGE) == 0);
  assert(page_list_append(&list, 0, PAGE) == 0);
  assert(page_list_append(&list, 6 * PAGE, PAGE) == 0);
  assert(page_list_append(&list, 4 * PAGE, PAGE) == 0);

  page_list_sort(&list);

  assert(list.count == 2 && list.bytes == 5 * PAGE);
  assert(list.ranges[0].start == 0 && list.ranges[0].length == PAGE);
  assert(list.ranges[1].start == 4 * PAGE && list.ranges[1].length == 4 * PAGE);
  page_list_free(&list);
}

static void percentiles_are_right_to_an_eighth(void) {
  struct stats stats = {0};
  assert(stats_latency_ns(&stats, 0.5) == 0);
  for (uint64_t i = 1; i <= 1000; i++) stats_note_latency(&stats, i * 1000);
  uint64_t median = stats_latency_ns(&stats, 0.5);
  uint64_t p99 = stats_latency_ns(&stats, 0.99);
  assert(median >= 500000 && median <= 500000 * 9 / 8);
  assert(p99 >= 990000 && p99 <= 990000 * 9 / 8);
  stats_note_latency(&stats, UINT64_MAX);
  stats_note_latency(&stats, 0);
  assert(stats_latency_ns(&stats, 1.0) == UINT64_MAX);
}

static void commands_are_known_by_their_whole_name(void) {
  assert(control_parse("stats", 5) == CONTROL_STATS);
  assert(control_parse("stop", 4) == CONTROL_STOP);
  assert(control_parse("working-set", 11) == CONTROL_WORKING_SET);
  assert(control_parse("sto", 3) == CONTROL_UNKNOWN);
  assert(control_parse("stop ", 5) == CONTROL_UNKNOWN);
  assert(control_parse("", 0) == CONTROL_UNKNOWN);
}

static int32_t options(struct failure *failure, const char *name, const char *value) {
  char *arguments[] = {(char[]){"pager"},    (char[]){"--header"}, (char[]){"h"},
                       (char[]){"--layers"}, (char[]){"d"},        (char[]){"--socket"},
                       (char[]){"s"},        strdup(name),         value ? strdup(value) : NULL};
  struct options parsed;
  int32_t result = options_parse(value ? 9 : 8, arguments, &parsed, failure);
  free(arguments[7]);
  free(arguments[8]);
  return result;
}

static void a_bad_option_is_named(void) {
  struct failure failure;
  assert(options(&failure, "--window-kib", "64") == 0);
  assert(options(&failure, "--window-kib", "65") == -EINVAL);
  assert(strstr(failure.text, "--window-kib") != NULL);
  assert(options(&failure, "--uid", "0") == -EINVAL);
  assert(options(&failure, "--uid", "12x") == -EINVAL);
  assert(strstr(failure.text, "--uid") != NULL);
  assert(options(&failure, "--colour", "red") == -EINVAL);
  assert(strstr(failure.text, "--colour") != NULL);
  assert(options(&failure, "--control", NULL) == -EINVAL);
  assert(options(&failure, "--record", "working-set") == 0);
  assert(options(&failure, "--record", "../working-set") == -EINVAL);
  assert(options(&failure, "--removed", "/a/removed") == -EINVAL);
  assert(strstr(failure.text, "--removed") != NULL);
}

int main(void) {
  RUN(each_result_of_a_fill_has_one_meaning);
  RUN(regions_are_read_as_firecracker_and_the_shim_send_them);
  RUN(messages_that_are_not_regions_are_refused);
  RUN(random_messages_never_leave_their_bounds);
  RUN(a_page_list_survives_its_file_and_a_torn_one_does_not);
  RUN(a_sorted_page_list_has_each_page_once);
  RUN(percentiles_are_right_to_an_eighth);
  RUN(commands_are_known_by_their_whole_name);
  RUN(a_bad_option_is_named);
  return 0;
}
