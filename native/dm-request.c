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

int32_t dm_fill_table(struct dm_table *table, const char *name, uint64_t sectors,
                      const char *target, const char *parameters) {
  size_t target_length = strnlen(target, DM_MAX_TYPE_NAME);
  size_t parameters_length = strnlen(parameters, DM_PARAMETERS_BYTES);
  if (target_length >= DM_MAX_TYPE_NAME || parameters_length >= DM_PARAMETERS_BYTES)
    return -ENAMETOOLONG;
  memset(table, 0, sizeof *table);
  int32_t result = dm_fill_header(&table->header, sizeof *table, name, 0);
  if (result < 0) return result;
  table->header.target_count = 1;
  table->target.length = sectors;
  table->target.next = sizeof table->target + sizeof table->parameters;
  memcpy(table->target.target_type, target, target_length);
  memcpy(table->parameters, parameters, parameters_length);
  return 0;
}

int32_t dm_read_status(const struct dm_answer *answer, const char **ret_text) {
  if (answer->header.flags & DM_BUFFER_FULL_FLAG) return -ENOSPC;
  if (answer->header.target_count == 0) return -ENXIO;
  size_t start = answer->header.data_start + sizeof(struct dm_target_spec);
  if (answer->header.data_start < sizeof answer->header || start >= sizeof *answer)
    return -EBADMSG;
  const char *text = (const char *)answer + start;
  if (memchr(text, '\0', sizeof *answer - start) == NULL) return -EBADMSG;
  *ret_text = text;
  return 0;
}

int32_t dm_read_names(const struct dm_answer *answer, const char *prefix, char *ret_names,
                      uint32_t size) {
  if (answer->header.flags & DM_BUFFER_FULL_FLAG || size == 0) return -ENOSPC;
  size_t at = answer->header.data_start;
  uint32_t used = 0;
  for (;;) {
    struct dm_name_list entry;
    size_t name_at = at + offsetof(struct dm_name_list, name);
    if (at < sizeof answer->header || name_at >= sizeof *answer) return -EBADMSG;
    memcpy(&entry, (const char *)answer + at, offsetof(struct dm_name_list, name));
    if (entry.dev == 0) break;
    const char *name = (const char *)answer + name_at;
    uint32_t length = (uint32_t)strnlen(name, sizeof *answer - name_at);
    if (strncmp(name, prefix, strlen(prefix)) == 0) {
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
  if (!isdigit((unsigned char)status[0])) return -EBADMSG;
  if (sscanf(status, "%llu/%llu %llu %c", &used, &total, &metadata, &rest) != 3) return -EBADMSG;
  ret_sectors[0] = used;
  ret_sectors[1] = total;
  return WRENN_DM_SNAPSHOT_ACTIVE;
}
