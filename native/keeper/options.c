/* The command line. Every option but those of network, control, devices and pager must be given. */
#include "keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number) {
  if (text[0] < '0' || text[0] > '9') return -EINVAL;
  char *end = NULL;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0' || number < min || number > max) return -EINVAL;
  *ret_number = number;
  return 0;
}

/* A file name: not empty, no slash, not hidden. */
static bool is_name(const char *text) {
  return text[0] != '\0' && text[0] != '.' && strchr(text, '/') == NULL && strlen(text) < 64;
}

/* "name=ro:/path", "name=rw:/path" or "name=rx:/path". The text is cut up in place. */
static int parse_file(char *text, struct jail_file *ret_file) {
  char *mode = strchr(text, '=');
  if (mode == NULL) return -EINVAL;
  *mode++ = '\0';
  bool writable = strncmp(mode, "rw:", 3) == 0;
  bool executable = strncmp(mode, "rx:", 3) == 0;
  if (!writable && !executable && strncmp(mode, "ro:", 3) != 0) return -EINVAL;
  if (!is_name(text) || mode[3] != '/') return -EINVAL;
  *ret_file = (struct jail_file){
      .name = text, .path = mode + 3, .writable = writable, .executable = executable};
  return 0;
}

static int add_text(char *value, char **list, size_t max, size_t *count) {
  if (*count == max) return -EINVAL;
  list[(*count)++] = value;
  return 0;
}

/* The loader obeys its variables: they, too, are the agent's to choose and nobody else's. */
static int add_variable(char *value, struct keeper_options *o) {
  if (value[0] == '=' || strchr(value, '=') == NULL) return -EINVAL;
  return add_text(value, o->environment, ENVIRONMENT_MAX + 1, &o->environment_count);
}

static int add_path(const char *value, const char **list, size_t max, size_t *count) {
  if (value[0] != '/' || *count == max) return -EINVAL;
  list[(*count)++] = value;
  return 0;
}

static int parse_path(const char *value, const char **ret_path) {
  if (value[0] != '/') return -EINVAL;
  *ret_path = value;
  return 0;
}

static int parse_name(const char *value, const char **ret_name) {
  if (!is_name(value)) return -EINVAL;
  *ret_name = value;
  return 0;
}

static int parse_limit(const char *name, const char *value, struct keeper_options *o) {
  uint64_t number = 0;
  if (strcmp(name, "--log-max") == 0) return parse_number(value, 4096, 1U << 30, &o->log_max_bytes);
  if (strcmp(name, "--fsize") == 0) return parse_number(value, 1, INT64_MAX, &o->fsize_max_bytes);
  if (strcmp(name, "--nofile") == 0) return parse_number(value, 16, 65536, &o->nofile_max);
  if (strcmp(name, "--uid") == 0) {
    /* 0 would be no jail at all; 2^32-1 and 2^32-2 mean "nobody in particular" to the kernel. */
    int r = parse_number(value, 1, UINT32_MAX - 2, &number);
    o->uid = (uid_t)number;
    return r;
  }
  if (strcmp(name, "--grace-ms") == 0) {
    int r = parse_number(value, 1, 600000, &number);
    o->grace_ms = (int)number;
    return r;
  }
  return -ENOENT;
}

static int parse_option(const char *name, char *value, struct keeper_options *o) {
  if (strcmp(name, "--run-dir") == 0) return parse_path(value, &o->run_dir);
  if (strcmp(name, "--console-log") == 0) return parse_path(value, &o->console_log);
  if (strcmp(name, "--netns") == 0) return parse_path(value, &o->netns);
  if (strcmp(name, "--tap") == 0) return parse_name(value, &o->tap);
  if (strcmp(name, "--control") == 0) return parse_name(value, &o->control);
  if (strcmp(name, "--cgroup") == 0) {
    return add_path(value, o->cgroups, CGROUPS_MAX, &o->cgroups_count);
  }
  if (strcmp(name, "--device") == 0) {
    return add_path(value, o->devices, DEVICES_MAX, &o->devices_count);
  }
  if (strcmp(name, "--file") == 0) {
    if (o->files_count == JAIL_FILES_MAX) return -EINVAL;
    int r = parse_file(value, &o->files[o->files_count]);
    if (r == 0) o->files_count++;
    return r;
  }
  if (strcmp(name, "--env") == 0) return add_variable(value, o);
  if (strcmp(name, "--pager-dir") == 0) return parse_path(value, &o->pager_dir);
  if (strcmp(name, "--pager-arg") == 0) {
    if (o->pager_command_count == 0 && value[0] != '/') return -EINVAL;
    return add_text(value, o->pager_command, PAGER_ARGUMENTS_MAX, &o->pager_command_count);
  }
  return parse_limit(name, value, o);
}

static const char *first_missing(const struct keeper_options *o) {
  if (o->run_dir == NULL) return "--run-dir";
  if (o->console_log == NULL) return "--console-log";
  if (o->log_max_bytes == 0) return "--log-max";
  if (o->uid == 0) return "--uid";
  if (o->fsize_max_bytes == 0) return "--fsize";
  if (o->nofile_max == 0) return "--nofile";
  if (o->grace_ms == 0) return "--grace-ms";
  if (o->netns == NULL && o->tap != NULL) return "--netns";
  if (o->pager_dir == NULL && o->pager_command_count > 0) return "--pager-dir";
  if (o->pager_dir != NULL && o->pager_command_count == 0) return "--pager-arg";
  return NULL;
}

int options_parse(int argc, char *const argv[], struct keeper_options *ret_options,
                  struct failure *ret_failure) {
  static char locale[] = "LC_ALL=C";
  struct keeper_options o = {.environment = {locale}, .environment_count = 1};
  int i = 1;
  for (; i < argc && strcmp(argv[i], "--") != 0; i += 2) {
    if (i + 1 >= argc) return fail(ret_failure, -EINVAL, "option %s: value is missing", argv[i]);
    int r = parse_option(argv[i], argv[i + 1], &o);
    if (r == -ENOENT) return fail(ret_failure, -EINVAL, "option %s is unknown", argv[i]);
    if (r < 0) {
      return fail(ret_failure, -EINVAL, "option %s: cannot use \"%s\"", argv[i], argv[i + 1]);
    }
  }
  if (i + 1 >= argc || argv[i + 1][0] != '/') {
    return fail(ret_failure, -EINVAL, "the command after -- must be an absolute path");
  }
  const char *missing = first_missing(&o);
  if (missing != NULL) return fail(ret_failure, -EINVAL, "option %s is missing", missing);
  o.command = &argv[i + 1];
  *ret_options = o;
  return 0;
}
