/*
 * Takes from the pager what it does not need: it reads what tenants wrote, and serves one of them.
 */
#ifndef WRENN_PAGER_CONFINE_H
#define WRENN_PAGER_CONFINE_H

#include <stdint.h>

#include "pages/failure.h"

/*
 * Bounds what memory may still be allocated and forbids core dumps (they would hold guest memory).
 * With uid >= 0, which takes root, the working directory becomes the root of a mount namespace that
 * holds nothing else, network, ipc, uts and cgroup namespaces are new, and the process becomes that
 * user and group, without supplementary groups and without any capability, for good. (The pid
 * namespace is the keeper's to make: a process cannot enter one itself.) Then a system call filter
 * is set: whatever is not needed fails with EPERM. What is open stays open. -errno with the reason:
 * the process must not go on.
 */
int32_t confine(int64_t uid, struct failure *failure);

#endif
