#include "options.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "pages/memory-index.h"
#include "server.h"

enum {
  /*
   * What is brought before the VMM may run: at 1.3 us a page this holds it up by 20 ms at most; the
   * rest of a larger working set follows while it runs.
   */
  PREFETCH_BEFORE_MIB = 64,
  CONNECT_TIMEOUT_MS = 30 * 1000,
};

enum kind { TEXT, NUMBER };

struct option {
  const char *name;
  enum kind kind;
  size_t at;
  int64_t minimum;
  int64_t maximum;
};

#define PLACE(field) offsetof(struct options, field)
static const struct option OPTIONS[] = {
    {"--header", TEXT, PLACE(header), 0, 0},
    {"--socket", TEXT, PLACE(socket), 0, 0},
    {"--control", TEXT, PLACE(control), 0, 0},
    {"--reason", TEXT, PLACE(reason), 0, 0},
    {"--prefetch", TEXT, PLACE(prefetch), 0, 0},
    {"--record", TEXT, PLACE(record), 0, 0},
    {"--removed", TEXT, PLACE(removed), 0, 0},
    {"--vmm-uid", NUMBER, PLACE(vmm_uid), 0, UINT32_MAX - 1},
    {"--uid", NUMBER, PLACE(uid), 1, UINT32_MAX - 1},
    {"--window-kib", NUMBER, PLACE(window_bytes), 4, FAULT_WINDOW_BYTES_MAX / 1024},
    {"--prefetch-before-mib", NUMBER, PLACE(prefetch_before_bytes), 0, 1 << 20},
    {"--connect-timeout-ms", NUMBER, PLACE(connect_timeout_ms), 1, 3600 * 1000},
};

static const struct option *find_option(const char *name) {
  for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
    if (strcmp(OPTIONS[i].name, name) == 0) return &OPTIONS[i];
  }
  return NULL;
}

static int32_t set_number(struct options *options, const struct option *option, const char *text,
                          struct failure *failure) {
  char *end;
  errno = 0;
  int64_t value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != 0 || value < option->minimum ||
      value > option->maximum) {
    return fail(failure, -EINVAL, "%s must be a number from %lld to %lld", option->name,
                (long long)option->minimum, (long long)option->maximum);
  }
  memcpy((char *)options + option->at, &value, sizeof value);
  return 0;
}

static int32_t set_option(struct options *options, const char *name, const char *value,
                          size_t *directories, struct failure *failure) {
  if (strcmp(name, "--layers") == 0) {
    if (*directories == LAYER_DIRECTORIES_MAX) {
      return fail(failure, -EINVAL, "--layers is given more than %d times", LAYER_DIRECTORIES_MAX);
    }
    options->directories[(*directories)++] = value;
    return 0;
  }
  const struct option *option = find_option(name);
  if (option == NULL) return fail(failure, -EINVAL, "%.64s is not an option", name);
  if (option->kind == NUMBER) return set_number(options, option, value, failure);
  memcpy((char *)options + option->at, &value, sizeof value);
  return 0;
}

static int32_t check_socket(const char *name, const char *path, struct failure *failure) {
  size_t room = sizeof((struct sockaddr_un *)NULL)->sun_path - strlen(SOCKET_ASIDE_SUFFIX);
  if (path == NULL || strlen(path) < room) return 0;
  return fail(failure, -EINVAL, "%s is too long a path for a socket", name);
}

/* The confined pager has no other directory than its own. */
static int32_t check_output(const char *option, const char *name, struct failure *failure) {
  if (name == NULL) return 0;
  bool is_name = name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
  if (is_name && strlen(name) < OUTPUT_NAME_BYTES) return 0;
  return fail(failure, -EINVAL, "%s must be a name in the working directory", option);
}

int32_t options_parse(int argc, char *const *argv, struct options *ret_options,
                      struct failure *failure) {
  struct options options = {
      .vmm_uid = -1,
      .uid = -1,
      .window_bytes = FAULT_WINDOW_BYTES / 1024,
      .prefetch_before_bytes = PREFETCH_BEFORE_MIB,
      .connect_timeout_ms = CONNECT_TIMEOUT_MS,
  };
  size_t directories = 0;
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return fail(failure, -EINVAL, "%.64s needs a value", argv[i]);
    int32_t result = set_option(&options, argv[i], argv[i + 1], &directories, failure);
    if (result < 0) return result;
  }
  if (options.header == NULL) return fail(failure, -EINVAL, "--header is missing");
  if (options.socket == NULL) return fail(failure, -EINVAL, "--socket is missing");
  if (directories == 0) return fail(failure, -EINVAL, "--layers is missing");
  if ((options.window_bytes & (options.window_bytes - 1)) != 0) {
    return fail(failure, -EINVAL, "--window-kib must be a power of two");
  }
  options.window_bytes *= 1024;
  options.prefetch_before_bytes *= 1024 * 1024;
  int32_t result = check_socket("--socket", options.socket, failure);
  if (result == 0) result = check_socket("--control", options.control, failure);
  if (result == 0) result = check_output("--record", options.record, failure);
  if (result == 0) result = check_output("--removed", options.removed, failure);
  if (result == 0) *ret_options = options;
  return result;
}
