/* Runs a function inside a network namespace without moving the caller's thread. */
#ifndef WRENN_IN_NETNS_H
#define WRENN_IN_NETNS_H

#include <stdint.h>

/*
 * Calls run(argument) on a new thread inside the namespace at `path` and returns its result; with
 * NULL or "" it calls it here. -errno if the namespace cannot be opened or entered.
 */
int32_t in_netns(const char *path, int32_t (*run)(void *), void *argument);

/*
 * Calls run(argument) on a new thread that may leave its namespaces, since it ends with the call.
 */
int32_t on_own_thread(int32_t (*run)(void *), void *argument);

#endif
