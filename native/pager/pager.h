/* The pager program, apart from main(): see pager.c. */
#ifndef WRENN_PAGER_PAGER_H
#define WRENN_PAGER_PAGER_H

#include <stdint.h>

#include "control.h"
#include "options.h"
#include "server.h"

enum {
  PAGER_EXIT_ENDED = 0,  /* the VMM has ended, or is to end now */
  PAGER_EXIT_FAILED = 1, /* the VMM is to be killed; the reason file says why */
  PAGER_EXIT_USAGE = 2,
};

struct pager {
  struct options options;
  struct server server;
  struct control control;
  int listener; /* for the VMM; closed once it has connected */
  int signals;
  int reason;
  bool may_run; /* what is to be there before the VMM runs, is there */
  bool is_stop_wanted;
  uint64_t started_ns;
  uint64_t connected_ns;
  uint64_t retrying_since_ns; /* 0: nothing had to be put off */
};

/* Runs the pager to its end. Returns its exit status. */
int pager_run(int argc, char *const *argv);

/*
 * Opens what the options name, then gives up privileges. -errno with the reason in
 * pager->server.failure; what was opened is closed by pager_close.
 */
int32_t pager_open(struct pager *pager);
void pager_close(struct pager *pager);

/*
 * Takes the VMM's connection, if it is the VMM's. Returns 1 when it was, 0 to go on waiting,
 * -errno.
 */
int32_t pager_accept(struct pager *pager);

/*
 * Serves until it is told to stop or the VMM's memory is gone (0), or something fails: -errno with
 * the reason.
 */
int32_t pager_loop(struct pager *pager);

#endif
