#include "save-lists.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int32_t save(const struct page_list *list, const char *name) {
  int directory = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -errno;
  int32_t result = page_list_save(list, directory, name);
  (void)close(directory);
  return result;
}

int32_t save_working_set(const struct pager *pager, uint64_t *ret_bytes) {
  if (pager->options.record == NULL) return -ENOENT;
  struct page_list list = {0};
  int32_t result = server_working_set(&pager->server, &list);
  if (result < 0) return result;
  *ret_bytes = list.bytes;
  result = save(&list, pager->options.record);
  page_list_free(&list);
  return result;
}

int32_t save_removed(const struct pager *pager, uint64_t *ret_bytes) {
  if (pager->options.removed == NULL) return -ENOENT;
  struct page_list list = {0};
  int32_t result = server_removed(&pager->server, &list);
  if (result < 0) return result;
  *ret_bytes = list.bytes;
  result = save(&list, pager->options.removed);
  page_list_free(&list);
  return result;
}
