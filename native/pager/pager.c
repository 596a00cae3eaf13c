/*
 * Serves the missing pages of one restored capsule from the layers of its snapshot.
 *
 * One process per capsule. It may run as a user of its own, sees the layers of one snapshot only,
 * and a bad layer or a broken message ends one capsule and no other; the keeper ties its life to
 * that of one VMM. Measured, it takes 1.5 MiB, and no time: a page's cost is the kernel's
 * wake-ups.
 *
 * One thread. A fault takes microseconds once it is read, so a second thread would wait for the
 * same address space's locks, and order between events and fills would need locks of ours.
 *
 * The pager never lets a guest read wrong bytes. What cannot be read, does not match its checksum,
 * or asks for what is not served ends the pager; the kernel blocks a fault until it is answered,
 * the VMM's own copy of the userfaultfd keeps it blocked then, and the keeper, parent of both,
 * kills the VMM. When the VMM has ended, the keeper sends SIGTERM. So the pager needs no right over
 * any other process, and sees none.
 */
#define _GNU_SOURCE
#include "pager.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "save-lists.h"

static void write_reason(const struct pager *pager, int32_t error) {
  const char *name = strerrorname_np(-error);
  char text[2 * FAILURE_TEXT_BYTES];
  int size = snprintf(text, sizeof text, "{\"reason\":\"%s\",\"error\":\"%s\"}\n",
                      pager->server.failure.text, name == NULL ? "" : name);
  if (pager->reason >= 0) (void)!write(pager->reason, text, (size_t)size);
  (void)!write(STDERR_FILENO, text, (size_t)size);
}

static int finish(struct pager *pager, int32_t result) {
  uint64_t bytes;
  if (result < 0) {
    write_reason(pager, result);
    return PAGER_EXIT_FAILED;
  }
  int32_t record = save_working_set(pager, &bytes);
  int32_t removed = save_removed(pager, &bytes);
  if (record < 0 && record != -ENOENT) result = record;
  if (removed < 0 && removed != -ENOENT) result = removed;
  if (result == 0) return PAGER_EXIT_ENDED;
  (void)fail(&pager->server.failure, result, "a list could not be written at the end");
  write_reason(pager, result);
  return PAGER_EXIT_FAILED;
}

int pager_run(int argc, char *const *argv) {
  struct failure failure;
  struct options options;
  if (options_parse(argc, argv, &options, &failure) < 0) {
    (void)fprintf(stderr, "pager: %s\n", failure.text);
    return PAGER_EXIT_USAGE;
  }
  struct pager *pager = calloc(1, sizeof *pager);
  if (pager == NULL) return PAGER_EXIT_FAILED;
  pager->options = options;
  pager->server.uffd = pager->listener = pager->signals = pager->reason = -1;
  for (int i = 0; i < MEMORY_LAYERS_MAX; i++) pager->server.memory.layers[i].fd = -1;
  pager->started_ns = monotonic_ns();
  control_start(&pager->control, -1);
  if (options.reason != NULL) {
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    pager->reason = open(options.reason, flags, 0644);
  }
  int32_t result = pager_open(pager);
  if (result == 0) result = pager_loop(pager);
  int status = finish(pager, result);
  pager_close(pager);
  free(pager);
  return status;
}
