#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "descriptor.h"
#include "dm-request.h"
#include "wrenn.h"

static int32_t ask(unsigned long command, struct dm_ioctl *request) {
  AUTO_FD fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  return ioctl(fd, command, request) < 0 ? -errno : 0;
}

static int32_t ask_by_name(unsigned long command, const char *name, uint32_t flags) {
  struct dm_ioctl request;
  int32_t result = dm_fill_header(&request, sizeof request, name, flags);
  return result < 0 ? result : ask(command, &request);
}

int32_t wrenn_dm_version(void) {
  struct dm_ioctl request;
  int32_t result = dm_fill_header(&request, sizeof request, "", 0);
  if (result == 0) result = ask(DM_VERSION, &request);
  return result < 0 ? result : (int32_t)(request.version[0] << 16 | (request.version[1] & 0xffff));
}

int32_t wrenn_dm_create(const char *name, uint64_t *ret_device) {
  struct dm_ioctl request;
  int32_t result = dm_fill_header(&request, sizeof request, name, 0);
  if (result == 0) result = ask(DM_DEV_CREATE, &request);
  if (result == 0) *ret_device = request.dev;
  return result;
}

int32_t wrenn_dm_load(const char *name, const char *lines) {
  struct dm_table table;
  int32_t result = dm_fill_table(&table, name, lines);
  return result < 0 ? result : ask(DM_TABLE_LOAD, &table.header);
}

int32_t wrenn_dm_resume(const char *name) { return ask_by_name(DM_DEV_SUSPEND, name, 0); }

int32_t wrenn_dm_suspend(const char *name) {
  return ask_by_name(DM_DEV_SUSPEND, name, DM_SUSPEND_FLAG);
}

int32_t wrenn_dm_hold(const char *name) {
  return ask_by_name(DM_DEV_SUSPEND, name, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG);
}

int32_t wrenn_dm_remove(const char *name) { return ask_by_name(DM_DEV_REMOVE, name, 0); }

int32_t wrenn_dm_status(const char *name, char *ret_status, uint32_t size) {
  struct dm_answer answer = {0};
  const char *text;
  int32_t result = dm_fill_header(&answer.header, sizeof answer, name, 0);
  if (result == 0) result = ask(DM_TABLE_STATUS, &answer.header);
  if (result == 0) result = dm_read_status(&answer, &text);
  if (result < 0) return result;
  size_t length = strlen(text);
  if (length >= size) return -ENOSPC;
  memcpy(ret_status, text, length + 1);
  return 0;
}

int32_t wrenn_dm_list(const char *prefix, char *ret_names, uint32_t size) {
  struct dm_answer answer = {0};
  int32_t result = dm_fill_header(&answer.header, sizeof answer, "", 0);
  if (result == 0) result = ask(DM_LIST_DEVICES, &answer.header);
  return result < 0 ? result : dm_read_names(&answer, prefix, ret_names, size);
}
