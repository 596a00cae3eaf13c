/* No device-mapper is needed: what goes to the kernel and what comes back is checked as bytes. */
#include "storage/dm-request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run.h"
#include "wrenn.h"

static struct dm_answer answer;

static void a_request_carries_version_size_and_name(void) {
  struct dm_ioctl header;
  memset(&header, 0xff, sizeof header);

  assert(dm_fill_header(&header, 1000, "wrenn-abcd-cl-1", DM_SUSPEND_FLAG) == 0);

  assert(header.version[0] == DM_VERSION_MAJOR);
  assert(header.data_size == 1000);
  assert(header.data_start == sizeof(struct dm_ioctl));
  assert(header.flags == DM_SUSPEND_FLAG);
  assert(strcmp(header.name, "wrenn-abcd-cl-1") == 0);
  assert(header.uuid[0] == '\0' && header.dev == 0 && header.event_nr == 0);
}

static void a_name_that_does_not_fit_is_refused(void) {
  char name[DM_NAME_LEN + 1];
  struct dm_ioctl header;
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';

  assert(dm_fill_header(&header, sizeof header, name, 0) == -ENAMETOOLONG);
  name[DM_NAME_LEN - 1] = '\0';
  assert(dm_fill_header(&header, sizeof header, name, 0) == 0);
}

static void each_line_of_a_table_becomes_a_target_after_the_header(void) {
  struct dm_table table;
  memset(&table, 0xff, sizeof table);

  assert(dm_fill_table(&table, "disk", "0 10485760 linear 7:0 0\n10485760 2048 zero\n") == 0);

  const struct dm_target_spec *first = (const void *)((char *)&table + table.header.data_start);
  const struct dm_target_spec *second = (const void *)((const char *)first + first->next);
  assert(table.header.target_count == 2);
  assert(table.header.data_size == sizeof table);
  assert(first->sector_start == 0 && first->length == 10485760);
  assert(strcmp(first->target_type, "linear") == 0);
  assert(strcmp((const char *)(first + 1), "7:0 0") == 0);
  assert((size_t)((const char *)second - (const char *)&table) % 8 == 0);
  assert(second->sector_start == 10485760 && second->length == 2048);
  assert(strcmp(second->target_type, "zero") == 0);
  assert(strcmp((const char *)(second + 1), "") == 0);
}

static void a_snapshot_table_keeps_its_parameters_whole(void) {
  struct dm_table table;

  assert(dm_fill_table(&table, "d", "0 8 snapshot /dev/loop1 /dev/loop2 P 8") == 0);

  assert(strcmp(table.targets + sizeof(struct dm_target_spec), "/dev/loop1 /dev/loop2 P 8") == 0);
}

static void a_table_that_is_malformed_or_too_large_is_refused(void) {
  struct dm_table table;
  char large[DM_TABLE_BYTES + 64];
  memset(large, 'p', sizeof large);
  memcpy(large, "0 8 linear ", 11);
  large[sizeof large - 1] = '\0';

  assert(dm_fill_table(&table, "d", "") == -EINVAL);
  assert(dm_fill_table(&table, "d", "0 linear 7:0 0") == -EINVAL);
  assert(dm_fill_table(&table, "d", "0 8 ") == -EINVAL);
  assert(dm_fill_table(&table, "d", "0 8 a-target-with-a-long-name x") == -ENAMETOOLONG);
  assert(dm_fill_table(&table, "d", large) == -ENAMETOOLONG);
}

static void put_status(uint32_t targets, uint32_t flags, const char *text) {
  memset(&answer, 0, sizeof answer);
  answer.header.data_start = sizeof answer.header;
  answer.header.target_count = targets;
  answer.header.flags = flags;
  strcpy(answer.payload + sizeof(struct dm_target_spec), text);
}

static void a_status_is_read_from_behind_the_first_target(void) {
  const char *text = NULL;
  put_status(1, 0, "16/2048 8");

  assert(dm_read_status(&answer, &text) == 0);

  assert(strcmp(text, "16/2048 8") == 0);
}

static void a_status_that_is_missing_cut_or_outside_is_refused(void) {
  const char *text = NULL;
  put_status(0, 0, "");
  assert(dm_read_status(&answer, &text) == -ENXIO);
  put_status(1, DM_BUFFER_FULL_FLAG, "");
  assert(dm_read_status(&answer, &text) == -ENOSPC);
  put_status(1, 0, "");
  answer.header.data_start = sizeof answer;
  assert(dm_read_status(&answer, &text) == -EBADMSG);
  assert(text == NULL);
}

/* Two devices, as the kernel lays them out: each entry's offset to the next, then its name. */
static void put_names(void) {
  static const char *names[] = {"wrenn-abcd-one", "other"};
  size_t at = 0;
  memset(&answer, 0, sizeof answer);
  answer.header.data_start = sizeof answer.header;
  for (int i = 0; i < 2; i++) {
    struct dm_name_list entry = {.dev = 64512 + (uint64_t)i, .next = i == 0 ? 32 : 0};
    memcpy(answer.payload + at, &entry, offsetof(struct dm_name_list, name));
    strcpy(answer.payload + at + offsetof(struct dm_name_list, name), names[i]);
    at += 32;
  }
}

static void names_are_listed_by_prefix(void) {
  char names[64];
  put_names();

  assert(dm_read_names(&answer, "wrenn-", names, sizeof names) == 15);
  assert(strcmp(names, "wrenn-abcd-one\n") == 0);
  assert(dm_read_names(&answer, "", names, sizeof names) == 21);
  assert(dm_read_names(&answer, "none", names, sizeof names) == 0 && names[0] == '\0');
  assert(dm_read_names(&answer, "", names, 20) == -ENOSPC);
}

static void a_list_that_leaves_its_buffer_is_refused(void) {
  char names[64];
  put_names();
  ((struct dm_name_list *)(void *)answer.payload)->next = DM_ANSWER_BYTES;

  assert(dm_read_names(&answer, "", names, sizeof names) == -EBADMSG);
}

/* Under AddressSanitizer, of a copy whose last byte is the last of its memory. */
static void a_name_that_no_nul_ends_is_not_read_past_the_buffer(void) {
  char names[64];
  size_t name_at = sizeof answer.payload - 3;
  struct dm_name_list entry = {.dev = 1};
  struct dm_answer *copy = malloc(sizeof answer);
  assert(copy != NULL);
  memset(&answer, 0, sizeof answer);
  answer.header.data_start = (uint32_t)(sizeof answer.header + name_at -
                                        offsetof(struct dm_name_list, name));
  memcpy((char *)&answer + answer.header.data_start, &entry, offsetof(struct dm_name_list, name));
  memcpy(answer.payload + name_at, "wre", 3);
  memcpy(copy, &answer, sizeof answer);

  assert(dm_read_names(copy, "wrenn-", names, sizeof names) == 0);
  assert(dm_read_names(copy, "wr", names, sizeof names) == 4);
  assert(strcmp(names, "wre\n") == 0);
  free(copy);
}

static void a_snapshot_reports_what_it_has_used(void) {
  uint64_t sectors[2] = {0};

  assert(wrenn_dm_classify_snapshot("16/2048 8", sectors) == WRENN_DM_SNAPSHOT_ACTIVE);

  assert(sectors[0] == 16 && sectors[1] == 2048);
}

static void a_broken_snapshot_is_told_from_a_working_one(void) {
  uint64_t sectors[2] = {7, 7};
  assert(wrenn_dm_classify_snapshot("Invalid", sectors) == WRENN_DM_SNAPSHOT_INVALID);
  assert(wrenn_dm_classify_snapshot("Overflow", sectors) == WRENN_DM_SNAPSHOT_OVERFLOW);
  assert(wrenn_dm_classify_snapshot("Merge failed", sectors) == WRENN_DM_SNAPSHOT_MERGE_FAILED);
  assert(wrenn_dm_classify_snapshot("", sectors) == -EBADMSG);
  assert(wrenn_dm_classify_snapshot("16/2048", sectors) == -EBADMSG);
  assert(wrenn_dm_classify_snapshot("-1/2 3", sectors) == -EBADMSG);
  assert(wrenn_dm_classify_snapshot("1/-2 3", sectors) == -EBADMSG);
  assert(wrenn_dm_classify_snapshot("1/2 3 4", sectors) == -EBADMSG);
  assert(sectors[0] == 7 && sectors[1] == 7);
}

int main(void) {
  RUN(a_request_carries_version_size_and_name);
  RUN(a_name_that_does_not_fit_is_refused);
  RUN(each_line_of_a_table_becomes_a_target_after_the_header);
  RUN(a_snapshot_table_keeps_its_parameters_whole);
  RUN(a_table_that_is_malformed_or_too_large_is_refused);
  RUN(a_status_is_read_from_behind_the_first_target);
  RUN(a_status_that_is_missing_cut_or_outside_is_refused);
  RUN(names_are_listed_by_prefix);
  RUN(a_list_that_leaves_its_buffer_is_refused);
  RUN(a_name_that_no_nul_ends_is_not_read_past_the_buffer);
  RUN(a_snapshot_reports_what_it_has_used);
  RUN(a_broken_snapshot_is_told_from_a_working_one);
  return 0;
}
