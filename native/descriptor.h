/*
 * A descriptor that closes itself when its variable leaves scope, so that early returns are safe.
 */
#ifndef WRENN_DESCRIPTOR_H
#define WRENN_DESCRIPTOR_H

#include <errno.h>
#include <unistd.h>

static inline void close_descriptor(const int *fd) {
  if (*fd >= 0) {
    int saved = errno;
    (void)close(*fd);
    errno = saved;
  }
}

#define AUTO_FD __attribute__((cleanup(close_descriptor))) int

#endif
