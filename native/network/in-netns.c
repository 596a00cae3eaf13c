#define _GNU_SOURCE
#include "in-netns.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>

#include "descriptor.h"

struct errand {
  int32_t (*run)(void *);
  void *argument;
  int32_t result;
};

struct visit {
  const char *path;
  struct errand errand;
};

static void *run_errand(void *opaque) {
  struct errand *errand = opaque;
  errand->result = errand->run(errand->argument);
  return NULL;
}

int32_t on_own_thread(int32_t (*run)(void *), void *argument) {
  struct errand errand = {.run = run, .argument = argument, .result = -ECANCELED};
  sigset_t all, before;
  pthread_t thread;

  /*
   * The thread inherits this mask: no handler of the runtime may run on a thread it does not know.
   */
  (void)sigfillset(&all);
  int error = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (error != 0) return -error;
  error = pthread_create(&thread, NULL, run_errand, &errand);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error != 0) return -error;
  error = pthread_join(thread, NULL);
  return error != 0 ? -error : errand.result;
}

static int32_t enter_and_run(void *opaque) {
  struct visit *visit = opaque;
  AUTO_FD fd = open(visit->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (setns(fd, CLONE_NEWNET) < 0) return -errno;
  return visit->errand.run(visit->errand.argument);
}

int32_t in_netns(const char *path, int32_t (*run)(void *), void *argument) {
  if (path == NULL || path[0] == '\0') return run(argument);
  struct visit visit = {.path = path, .errand = {.run = run, .argument = argument}};
  return on_own_thread(enter_and_run, &visit);
}
