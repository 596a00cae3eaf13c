#define _GNU_SOURCE
#include <errno.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wrenn.h"

int32_t wrenn_landlock_version(void) {
  long version = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0,
                         LANDLOCK_CREATE_RULESET_VERSION);
  if (version >= 0) return (int32_t)version;
  /* Not compiled in, or not among the modules that the kernel was started with. */
  return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
}
