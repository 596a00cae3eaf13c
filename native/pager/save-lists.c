#include "save-lists.h"

#include <errno.h>

int32_t save_working_set(const struct pager *pager, uint64_t *ret_bytes) {
  if (pager->record.directory < 0) return -ENOENT;
  struct page_list list = {0};
  int32_t result = server_working_set(&pager->server, &list);
  if (result < 0) return result;
  *ret_bytes = list.bytes;
  result = page_list_save(&list, pager->record.directory, pager->record.name);
  page_list_free(&list);
  return result;
}

int32_t save_removed(const struct pager *pager, uint64_t *ret_bytes) {
  if (pager->removed.directory < 0) return -ENOENT;
  struct page_list list = {0};
  int32_t result = server_removed(&pager->server, &list);
  if (result < 0) return result;
  *ret_bytes = list.bytes;
  result = page_list_save(&list, pager->removed.directory, pager->removed.name);
  page_list_free(&list);
  return result;
}
