/* The command line: what is accepted, and that each thing refused is named. */
#include "../../tests/run.h"
#include "../keeper.h"

#include <errno.h>
#include <string.h>

enum { ARGUMENTS_MAX = 64 };

static struct keeper_options options;
static struct failure failure;
static char texts[ARGUMENTS_MAX][128];
static char *arguments[ARGUMENTS_MAX + 1];

/* clang-format off */
static const char *const GOOD[] = {
    "keeper", "--run-dir", "/run/x", "--console-log", "/var/log/x", "--log-max", "65536", "--uid",
    "210001", "--fsize", "1000", "--nofile", "64", "--grace-ms", "100", "--", "/usr/bin/vmm", "-a",
};
/* clang-format on */
enum { GOOD_COUNT = sizeof(GOOD) / sizeof(GOOD[0]), GOOD_OPTIONS_END = 15 };

/* The good command line with two more arguments before the "--". */
static int parse_with(const char *name, const char *value) {
  int count = 0;
  for (int i = 0; i < GOOD_COUNT; i++) {
    if (i == GOOD_OPTIONS_END && name != NULL) {
      (void)snprintf(texts[count++], sizeof(texts[0]), "%s", name);
      (void)snprintf(texts[count++], sizeof(texts[0]), "%s", value);
    }
    (void)snprintf(texts[count++], sizeof(texts[0]), "%s", GOOD[i]);
  }
  for (int i = 0; i < count; i++) arguments[i] = texts[i];
  arguments[count] = NULL;
  return options_parse(count, arguments, &options, &failure);
}

static void a_whole_command_line_is_read(void) {
  assert(parse_with("--file", "disk=rw:/data/disk") == 0);
  assert(strcmp(options.run_dir, "/run/x") == 0 && options.uid == 210001);
  assert(options.log_max_bytes == 65536 && options.grace_ms == 100 && options.nofile_max == 64);
  assert(options.files_count == 1 && options.files[0].writable);
  assert(strcmp(options.files[0].name, "disk") == 0);
  assert(strcmp(options.files[0].path, "/data/disk") == 0);
  assert(strcmp(options.command[0], "/usr/bin/vmm") == 0 && strcmp(options.command[1], "-a") == 0);
}

static void bad_values_are_refused_by_name(void) {
  /* clang-format off */
  const char *const bad[][2] = {
      {"--uid", "0"},           {"--uid", "-1"},           {"--uid", "4294967295"},
      {"--uid", "1x"},          {"--uid", ""},             {"--run-dir", "relative"},
      {"--log-max", "1"},       {"--grace-ms", "9999999"}, {"--file", "x=/data"},
      {"--file", "../x=ro:/d"}, {"--file", "a/b=ro:/d"},   {"--file", "x=ro:d"},
      {"--control", "a/b"},     {"--control", ".hidden"},  {"--cgroup", "cgroup.procs"},
      {"--fsize", "99999999999999999999"},             {"--env", "NAME"},
      {"--env", "=value"},      {"--pager-dir", "pager"},  {"--pager-arg", "pager"},
  };
  /* clang-format on */
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    assert(parse_with(bad[i][0], bad[i][1]) == -EINVAL);
    assert(strstr(failure.step, bad[i][0]) != NULL);
  }
}

static void an_unknown_option_is_refused(void) {
  assert(parse_with("--no-such", "1") == -EINVAL);
  assert(strcmp(failure.step, "option --no-such is unknown") == 0);
}

static void a_tap_needs_its_namespace(void) {
  assert(parse_with("--tap", "tap0") == -EINVAL);
  assert(strcmp(failure.step, "option --netns is missing") == 0);
}

static void lists_are_bounded(void) {
  int count = 0;
  for (; count < 3; count++) arguments[count] = texts[count];
  (void)snprintf(texts[0], sizeof(texts[0]), "keeper");
  count = 1;
  for (int i = 0; i <= CGROUPS_MAX; i++) {
    arguments[count++] = strcpy(texts[2 * i + 1], "--cgroup");
    arguments[count++] = strcpy(texts[2 * i + 2], "/sys/fs/cgroup/x");
  }
  assert(options_parse(count, arguments, &options, &failure) == -EINVAL);
  assert(strstr(failure.step, "--cgroup") != NULL);
}

static void a_missing_option_or_command_is_named(void) {
  char *no_options[] = {texts[0], strcpy(texts[1], "--"), strcpy(texts[2], "/usr/bin/vmm"), NULL};
  assert(options_parse(3, no_options, &options, &failure) == -EINVAL);
  assert(strcmp(failure.step, "option --run-dir is missing") == 0);
  assert(options_parse(1, no_options, &options, &failure) == -EINVAL);
  assert(strstr(failure.step, "command") != NULL);
}

int main(void) {
  RUN(a_whole_command_line_is_read);
  RUN(bad_values_are_refused_by_name);
  RUN(an_unknown_option_is_refused);
  RUN(a_tap_needs_its_namespace);
  RUN(lists_are_bounded);
  RUN(a_missing_option_or_command_is_named);
  return 0;
}
