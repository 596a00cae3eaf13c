/* What a generation's header says is there, compared with what is there. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "target.h"
#include "wrenn.h"

static int32_t name_layers(const struct memory_index *index, char *ret_text, uint32_t size) {
  uint32_t used = 0;
  for (uint32_t i = 0; i < index->layer_count; i++) {
    char name[MEMORY_NAME_BYTES];
    memory_layer_name("memory", index->layers[i].id, name);
    int length = snprintf(ret_text + used, size - used, "%s\n", name);
    if (length < 0 || (uint32_t)length >= size - used) return -ENOSPC;
    used += (uint32_t)length;
  }
  return 0;
}

int32_t wrenn_pages_check(const char *header, const char *layer_directories,
                          uint64_t *ret_total_bytes, char *ret_text, uint32_t text_size) {
  struct failure failure = {0};
  struct memory memory;
  if (text_size == 0) return -EINVAL;
  ret_text[0] = '\0';
  int32_t result = pages_open_memory(header, layer_directories, &memory, &failure);
  if (result < 0) {
    const char *reason = failure.text[0] == '\0' ? strerror(-result) : failure.text;
    (void)snprintf(ret_text, text_size, "%s", reason);
    return result;
  }
  result = name_layers(&memory.index, ret_text, text_size);
  if (result == 0) *ret_total_bytes = memory.index.total_bytes;
  memory_close(&memory);
  return result;
}
