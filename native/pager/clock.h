#ifndef WRENN_PAGER_CLOCK_H
#define WRENN_PAGER_CLOCK_H

#include <stdint.h>

/* Of a clock that nobody sets. */
uint64_t monotonic_ns(void);

#endif
