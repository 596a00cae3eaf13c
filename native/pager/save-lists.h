/* The lists of pages that a pager leaves to the capsule's next pager and to sealing. */
#ifndef WRENN_PAGER_SAVE_LISTS_H
#define WRENN_PAGER_SAVE_LISTS_H

#include <stdint.h>

#include "pager.h"

/* Writes the working set of this run, or the ranges given back. -ENOENT: not wanted; -errno. */
int32_t save_working_set(const struct pager *pager, uint64_t *ret_bytes);
int32_t save_removed(const struct pager *pager, uint64_t *ret_bytes);

#endif
