/*
 * Takes from the pager what it does not need: it reads what tenants wrote, and serves one of them.
 */
#ifndef WRENN_PAGER_CONFINE_H
#define WRENN_PAGER_CONFINE_H

#include <stdint.h>

#include "pages/failure.h"

/*
 * Bounds what memory may still be allocated, forbids core dumps (they would hold guest memory),
 * and with uid >= 0 becomes that user and group without supplementary groups; of the capabilities
 * only CAP_KILL stays, to end a VMM that runs as another user. Then a system call filter is set:
 * whatever is not needed fails with EPERM. -errno with the reason: the process must not go on.
 */
int32_t confine(int64_t uid, struct failure *failure);

/* Narrows the filter: from here on no other process than that of `pidfd` can be signalled. */
int32_t confine_to_vmm(int pidfd, struct failure *failure);

#endif
