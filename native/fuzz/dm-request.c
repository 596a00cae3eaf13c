/* Answers of the device-mapper, and the texts that it is asked with and answers. */
#include "storage/dm-request.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "wrenn.h"

enum { NAMES_BYTES = 256 };

void fuzz_seeds(void) {
  struct {
    struct dm_ioctl header;
    struct dm_target_spec target;
    char status[16];
  } status = {.header = {.data_start = offsetof(__typeof__(status), target), .target_count = 1},
              .status = "16/2048 8"};
  struct {
    struct dm_ioctl header;
    struct dm_name_list list;
    char name[16];
  } names = {.header = {.data_start = offsetof(__typeof__(names), list)}, .list = {.dev = 64512}};
  memcpy(names.list.name, "wrenn-a", 8);
  fuzz_seed("status", &status, sizeof status);
  fuzz_seed("names", &names, sizeof names);
  fuzz_seed_text("table", "0 2048 snapshot /dev/loop0 /dev/loop1 P 8\n2048 8 zero");
}

/* What the input does not fill is zero, as in the buffer that the kernel is given. */
static void read_answer(const uint8_t *bytes, size_t size) {
  struct dm_answer *answer = calloc(1, sizeof *answer);
  char *names = malloc(NAMES_BYTES);
  const char *text = NULL;
  assert(answer != NULL && names != NULL);
  memcpy(answer, bytes, size < sizeof *answer ? size : sizeof *answer);
  if (dm_read_status(answer, &text) == 0) assert(strlen(text) < sizeof *answer);
  int32_t length = dm_read_names(answer, "wrenn-", names, NAMES_BYTES);
  if (length >= 0) assert(length < NAMES_BYTES && names[length] == '\0');
  free(names);
  free(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  struct dm_table table;
  uint64_t sectors[2] = {0};
  char *text = strndup((const char *)bytes, size);
  assert(text != NULL);
  read_answer(bytes, size);
  if (dm_fill_table(&table, "wrenn-a", text) == 0) assert(table.header.target_count > 0);
  (void)wrenn_dm_classify_snapshot(text, sectors);
  free(text);
  return 0;
}
