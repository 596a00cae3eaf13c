/* The keeper's command line, a word a line. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "keeper/keeper.h"

static const char NEEDED[] =
    "--run-dir\n/run/a\n--console-log\n/var/log/a\n--log-max\n1048576\n--uid\n1000\n--fsize\n1000\n"
    "--nofile\n256\n--grace-ms\n2000\n";
static const char COMMAND[] = "--\n/usr/bin/vmm\n-a";

/* As many of one as there is room for, and one more. */
static void seed_list(const char *name, const char *option, int count) {
  char text[4096];
  for (int more = 0; more < 2; more++) {
    char full[32];
    (void)snprintf(full, sizeof full, "%s-%d", name, more);
    (void)snprintf(text, sizeof text, "%s", NEEDED);
    for (int i = 0; i < count + more; i++) strcat(text, option);
    strcat(text, COMMAND);
    fuzz_seed_text(full, text);
  }
}

void fuzz_seeds(void) {
  char text[1024];
  (void)snprintf(
      text, sizeof text, "%s%s%s", NEEDED,
      "--netns\n/run/netns/a\n--tap\ntap0\n--control\nqmp.sock\n--file\nlibrary=rx:/a/so\n"
      "--pager-dir\n/run/a/pager\n--pager-arg\n/usr/bin/pager\n--pager-arg\n-x\n",
      COMMAND);
  fuzz_seed_text("all", text);
  seed_list("cgroups", "--cgroup\n/a\n", CGROUPS_MAX);
  seed_list("devices", "--device\n/a\n", DEVICES_MAX);
  seed_list("files", "--file\na=ro:/a\n", JAIL_FILES_MAX);
  seed_list("variables", "--env\na=b\n", ENVIRONMENT_MAX);
  seed_list("pager", "--pager-dir\n/p\n--pager-arg\n/a\n", PAGER_ARGUMENTS_MAX);
}

static void check(const struct keeper_options *options) {
  assert(options->run_dir[0] == '/' && options->console_log[0] == '/');
  assert(options->uid > 0 && options->uid < UINT32_MAX - 1);
  assert(options->cgroups_count <= CGROUPS_MAX && options->devices_count <= DEVICES_MAX);
  assert(options->files_count <= JAIL_FILES_MAX);
  assert(options->environment[options->environment_count] == NULL);
  assert(options->pager_command[options->pager_command_count] == NULL);
  assert(options->command[0][0] == '/');
  for (size_t i = 0; i < options->files_count; i++) {
    const struct jail_file *file = &options->files[i];
    assert(strlen(file->name) > 0 && strchr(file->name, '/') == NULL && file->path[0] == '/');
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  char *words[FUZZ_WORDS_MAX + 1];
  struct keeper_options options;
  struct failure failure = {0};
  int count = fuzz_words(bytes, size, words);
  if (options_parse(count, words, &options, &failure) == 0) {
    check(&options);
  } else {
    assert(failure.step[0] != '\0' && failure.error < 0);
  }
  fuzz_free_words(words);
  return 0;
}
