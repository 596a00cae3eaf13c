/*
 * Serves one VMM's missing pages from one snapshot. The functions here fill pages and read events;
 * none waits. The loop that calls them is in loop.c.
 */
#ifndef WRENN_PAGER_SERVER_H
#define WRENN_PAGER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pages/failure.h"
#include "pages/memory.h"
#include "pages/page-list.h"
#include "regions.h"
#include "stats.h"

enum {
  /*
   * What a fault brings at least, around it. Measured on the reference machine: a fault costs 55
   * us with one page and 80 us with 16, nearly all of it wake-ups; larger ones bring pages nobody
   * wants.
   */
  FAULT_WINDOW_BYTES = 64 * 1024,
  /* What it grows to, doubling, while faults go on where the last one ended. */
  FAULT_WINDOW_BYTES_MAX = 512 * 1024,
  /* One read and one UFFDIO_COPY of a prefetch: larger ones gain nothing and hold up faults. */
  PREFETCH_STEP_BYTES = 256 * 1024,
  /*
   * Of what is recorded. A guest that runs for long touches nearly everything, and each page that
   * is brought ahead is private to its VM, looked at by the next sealing, and 1.3 us of the resume.
   */
  WORKING_SET_BYTES_MAX = 128 * 1024 * 1024,
  /* A thread has one fault at a time; no VMM has nearly as many threads. */
  FAULTS_WAITING_MAX = 4096,
};

struct waiting_fault {
  uint64_t address;
  uint64_t since_ns;
};

struct server {
  struct memory memory;
  struct regions regions;
  int uffd; /* owned; -1 before the VMM has handed it over */
  uint64_t window_bytes;
  uint8_t *populated; /* bit per page of the guest: we filled it */
  uint8_t *removed;   /* bit per page: the guest gave it back, so it reads as zeros */
  uint8_t *staging;   /* PREFETCH_STEP_BYTES */

  struct waiting_fault waiting[FAULTS_WAITING_MAX];
  size_t waiting_count;
  uint64_t last_run_end;
  uint64_t window_now;

  struct page_list prefetch; /* what to bring before anyone asks, in the order it was wanted */
  size_t prefetch_next;      /* index of the range under way */
  uint64_t prefetch_done;    /* bytes of that range */
  uint64_t prefetched_bytes;

  bool is_recording;
  struct page_list touched; /* what the first faults brought, in their order */
  struct stats stats;
  struct failure failure;
};

/* Needs server->memory. -ENOMEM. */
int32_t server_prepare(struct server *server, uint64_t window_bytes);

void server_free(struct server *server);

/*
 * Reads the events that wait: faults are queued, what the guest gave back is noted. Returns 0, or
 * -EPROTO for an event that cannot be served, -ESRCH: the VMM is gone; with the reason.
 */
int32_t server_read_events(struct server *server);

/*
 * Answers what is queued. -EAGAIN: some had to stay queued, since the address space is changing;
 * -ESRCH: the VMM is gone; anything else is fatal, with the reason: -EBADMSG and -EIO for bad data.
 */
int32_t server_serve(struct server *server);

/*
 * Fills the first and the last page of each region. Memory that a VMM did not register never faults
 * and reads as zeros, which is found out here: -ENOENT with the reason; errors of server_serve.
 */
int32_t server_check_regions(struct server *server);

/*
 * Brings the next step of the list. Returns 1 while there is more, else 0; errors of server_serve.
 */
int32_t server_prefetch(struct server *server);

/*
 * What the next resume is to bring ahead: what this one brought, and what faults had to bring
 * besides; or the latter alone, once both are more than WORKING_SET_BYTES_MAX. -ENOMEM; the caller
 * frees ret_list.
 */
int32_t server_working_set(const struct server *server, struct page_list *ret_list);

/* Every range that the guest gave back. The caller frees ret_list. -ENOMEM, -E2BIG. */
int32_t server_removed(const struct server *server, struct page_list *ret_list);

#endif
