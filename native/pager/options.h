/* The command line of the pager. */
#ifndef WRENN_PAGER_OPTIONS_H
#define WRENN_PAGER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "pages/failure.h"

enum { LAYER_DIRECTORIES_MAX = 16 };

/* What is written while it serves has such a name, in the working directory. */
enum { OUTPUT_NAME_BYTES = 200 };

/* A socket has this name while it does not listen yet; it counts in the length of its path. */
#define SOCKET_ASIDE_SUFFIX ".new"

struct options {
  const char *header;                                 /* --header PATH */
  const char *directories[LAYER_DIRECTORIES_MAX + 1]; /* --layers DIR, repeatable, in order */
  const char *socket;                                 /* --socket PATH: the VMM connects here */
  const char *control;                                /* --control PATH */
  const char *reason;                                 /* --reason PATH: why it failed */
  const char *prefetch;                               /* --prefetch PATH: a recorded working set */
  const char *record;                                 /* --record NAME: where to write one */
  const char *removed;                                /* --removed NAME: what the guest gave back */
  int64_t vmm_uid;                                    /* --vmm-uid N: who may connect, else -1 */
  int64_t uid;                                        /* --uid N: whom to run as, else -1 */
  uint64_t window_bytes;                              /* --window-kib N */
  uint64_t prefetch_before_bytes;                     /* --prefetch-before-mib N */
  int64_t connect_timeout_ms;                         /* --connect-timeout-ms N */
};

/* Reads argv[1...]. -EINVAL with the reason, which names the option. */
int32_t options_parse(int argc, char *const *argv, struct options *ret_options,
                      struct failure *failure);

#endif
