/* The files of the run directory: whole, first come first served, valid whatever a VMM says. */
#include "../../tests/run.h"
#include "../keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int directory;

static void read_text(const char *name, char *ret_text, size_t size) {
  int file = openat(directory, name, O_RDONLY | O_CLOEXEC);
  assert(file >= 0);
  ssize_t length = read(file, ret_text, size - 1);
  assert(length >= 0);
  ret_text[length] = '\0';
  (void)close(file);
}

static void a_process_has_a_start_time_and_a_missing_one_none(void) {
  char text[32];
  assert(process_start_time(getpid(), text, sizeof(text)) == 0);
  assert(strspn(text, "0123456789") == strlen(text) && strlen(text) > 0);
  assert(process_start_time(0x3ffffff, text, sizeof(text)) == -ESRCH);
}

static void a_run_directory_has_one_keeper(void) {
  assert(record_keeper(directory) == 0);
  assert(record_keeper(directory) == -EEXIST);
}

static void last_words_are_escaped(void) {
  const char words[] = "a\"b\\c\n\x01\xff</";
  struct vmm_end end = {
      .status = SIGKILL, .was_asked = true, .errors = words, .errors_size = sizeof(words) - 1};
  char text[512];
  assert(record_exit(directory, &end) == 0);
  read_text("exit.json", text, sizeof(text));
  assert(strcmp(text, "{\"reason\":\"signaled\",\"status\":9,\"wasAsked\":true,"
                      "\"stderr\":\"a\\u0022b\\u005cc\\u000a\\u0001\\u00ff</\"}\n") == 0);
}

static void the_longest_last_words_still_make_a_whole_record(void) {
  char words[1024];
  char text[16384];
  memset(words, 0x01, sizeof(words));
  struct vmm_end end = {.status = 1 << 8, .errors = words, .errors_size = sizeof(words)};
  assert(record_exit(directory, &end) == 0);
  read_text("exit.json", text, sizeof(text));
  size_t length = strlen(text);
  assert(length > 6 * sizeof(words) && strcmp(text + length - 3, "\"}\n") == 0);
}

static void the_end_of_a_pager_is_told_beside_the_vmms(void) {
  struct vmm_end end = {.status = SIGKILL, .errors = "", .has_pager = true, .pager_status = 1 << 8};
  char text[512];
  assert(record_exit(directory, &end) == 0);
  read_text("exit.json", text, sizeof(text));
  assert(strcmp(text, "{\"reason\":\"signaled\",\"status\":9,\"wasAsked\":false,\"stderr\":\"\","
                      "\"pager\":{\"reason\":\"exited\",\"status\":1}}\n") == 0);
}

int main(void) {
  char path[] = "/tmp/keeper-record-XXXXXX";
  assert(mkdtemp(path) != NULL);
  directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert(directory >= 0);
  RUN(a_process_has_a_start_time_and_a_missing_one_none);
  RUN(a_run_directory_has_one_keeper);
  RUN(last_words_are_escaped);
  RUN(the_longest_last_words_still_make_a_whole_record);
  RUN(the_end_of_a_pager_is_told_beside_the_vmms);
  assert(unlinkat(directory, "keeper.json", 0) == 0 && unlinkat(directory, "exit.json", 0) == 0);
  (void)close(directory);
  /* Also shows that nothing half written was left. */
  assert(rmdir(path) == 0);
  return 0;
}
