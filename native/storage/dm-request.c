#define _GNU_SOURCE
#include "dm-request.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "wrenn.h"

int32_t dm_fill_header(struct dm_ioctl *header, size_t size, const char *name, uint32_t flags) {
  size_t length = strnlen(name, DM_NAME_LEN);
  if (length >= DM_NAME_LEN) return -ENAMETOOLONG;
  *header = (struct dm_ioctl){
      /* The oldest interface with everything used here; the kernel wants its own major number. */
      .version = {4, 0, 0},
      .data_size = (uint32_t)size,
      .data_start = sizeof *header,
      .flags = flags,
  };
  memcpy(header->name, name, length);
  return 0;
}

/* Appends one line's target at *at, which moves behind it, aligned as the kernel wants it. */
static int32_t put_target(struct dm_table *table, size_t *at, const char *line, size_t length) {
  struct dm_target_spec target = {0};
  unsigned long long start, sectors;
  int type_from = 0, type_to = 0;
  char text[DM_TABLE_BYTES];
  if (length >= sizeof text) return -ENAMETOOLONG;
  memcpy(text, line, length);
  text[length] = '\0';
  if (sscanf(text, "%llu %llu %n%*s%n", &start, &sectors, &type_from, &type_to) != 2 ||
      type_to <= type_from)
    return -EINVAL;
  if (type_to - type_from >= DM_MAX_TYPE_NAME) return -ENAMETOOLONG;
  memcpy(target.target_type, text + type_from, (size_t)(type_to - type_from));

  const char *parameters = text + type_to + (text[type_to] == ' ' ? 1 : 0);
  size_t size = sizeof target + strlen(parameters) + 1;
  size_t aligned = (size + 7) & ~(size_t)7;
  if (*at + aligned > sizeof table->targets) return -ENAMETOOLONG;
  target.sector_start = start;
  target.length = sectors;
  target.next = (uint32_t)aligned;
  memcpy(table->targets + *at, &target, sizeof target);
  memcpy(table->targets + *at + sizeof target, parameters, strlen(parameters) + 1);
  *at += aligned;
  table->header.target_count++;
  return 0;
}

int32_t dm_fill_table(struct dm_table *table, const char *name, const char *lines) {
  size_t at = 0;
  memset(table, 0, sizeof *table);
  int32_t result = dm_fill_header(&table->header, sizeof *table, name, 0);
  while (result == 0 && *lines != '\0') {
    size_t length = strcspn(lines, "\n");
    result = put_target(table, &at, lines, length);
    lines += length + (lines[length] == '\n' ? 1 : 0);
  }
  if (result < 0) return result;
  return table->header.target_count > 0 ? 0 : -EINVAL;
}

int32_t dm_read_status(const struct dm_answer *answer, const char **ret_text) {
  if (answer->header.flags & DM_BUFFER_FULL_FLAG) return -ENOSPC;
  if (answer->header.target_count == 0) return -ENXIO;
  size_t start = answer->header.data_start + sizeof(struct dm_target_spec);
  if (answer->header.data_start < sizeof answer->header || start >= sizeof *answer) return -EBADMSG;
  const char *text = (const char *)answer + start;
  if (memchr(text, '\0', sizeof *answer - start) == NULL) return -EBADMSG;
  *ret_text = text;
  return 0;
}

int32_t dm_read_names(const struct dm_answer *answer, const char *prefix, char *ret_names,
                      uint32_t size) {
  if (answer->header.flags & DM_BUFFER_FULL_FLAG || size == 0) return -ENOSPC;
  size_t at = answer->header.data_start;
  size_t prefix_length = strlen(prefix);
  uint32_t used = 0;
  for (;;) {
    struct dm_name_list entry;
    size_t name_at = at + offsetof(struct dm_name_list, name);
    if (at < sizeof answer->header || name_at >= sizeof *answer) return -EBADMSG;
    memcpy(&entry, (const char *)answer + at, offsetof(struct dm_name_list, name));
    if (entry.dev == 0) break;
    const char *name = (const char *)answer + name_at;
    uint32_t length = (uint32_t)strnlen(name, sizeof *answer - name_at);
    if (length >= prefix_length && memcmp(name, prefix, prefix_length) == 0) {
      if (used + length + 2 > size) return -ENOSPC;
      memcpy(ret_names + used, name, length);
      ret_names[used + length] = '\n';
      used += length + 1;
    }
    if (entry.next == 0) break;
    at += entry.next;
  }
  ret_names[used] = '\0';
  return (int32_t)used;
}

int32_t wrenn_dm_classify_snapshot(const char *status, uint64_t ret_sectors[2]) {
  unsigned long long used, total, metadata;
  char rest;
  if (strcmp(status, "Invalid") == 0) return WRENN_DM_SNAPSHOT_INVALID;
  if (strcmp(status, "Overflow") == 0) return WRENN_DM_SNAPSHOT_OVERFLOW;
  if (strcmp(status, "Merge failed") == 0) return WRENN_DM_SNAPSHOT_MERGE_FAILED;
  if (!isdigit((unsigned char)status[0]) || strchr(status, '-') != NULL) return -EBADMSG;
  if (sscanf(status, "%llu/%llu %llu %c", &used, &total, &metadata, &rest) != 3) return -EBADMSG;
  ret_sectors[0] = used;
  ret_sectors[1] = total;
  return WRENN_DM_SNAPSHOT_ACTIVE;
}
