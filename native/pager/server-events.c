#include <errno.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <unistd.h>

#include "clock.h"
#include "server.h"

enum { EVENTS_PER_READ = 64 };

static int32_t queue_fault(struct server *server, const struct uffd_msg *event) {
  uint64_t flags = event->arg.pagefault.flags;
  if ((flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR)) != 0) {
    return fail(&server->failure, -EPROTO, "a write-protect or minor fault: not registered for");
  }
  if (server->waiting_count == FAULTS_WAITING_MAX) {
    return fail(&server->failure, -EPROTO, "more than %d faults wait", FAULTS_WAITING_MAX);
  }
  server->waiting[server->waiting_count++] = (struct waiting_fault){
      .address = event->arg.pagefault.address, .since_ns = monotonic_ns()};
  return 0;
}

/*
 * The guest gave pages back (a balloon, free page reporting): from here on they read as zeros. The
 * kernel discards them only after this event is read and refuses to fill any until then.
 */
static void note_removed(struct server *server, uint64_t start, uint64_t end) {
  for (size_t i = 0; i < server->regions.count; i++) {
    const struct region *region = &server->regions.list[i];
    uint64_t from = start > region->address ? start : region->address;
    uint64_t region_end = region->address + region->size;
    uint64_t to = end < region_end ? end : region_end;
    for (uint64_t at = from; at < to; at += MEMORY_BLOCK_BYTES) {
      uint64_t page = (region->offset + (at - region->address)) / MEMORY_BLOCK_BYTES;
      uint8_t bit = (uint8_t)(1u << (page % 8));
      server->removed[page / 8] |= bit;
      server->populated[page / 8] &= (uint8_t)~bit;
      server->stats.pages_removed++;
    }
  }
}

static int32_t note_event(struct server *server, const struct uffd_msg *event) {
  switch (event->event) {
    case UFFD_EVENT_PAGEFAULT:
      return queue_fault(server, event);
    case UFFD_EVENT_REMOVE:
      note_removed(server, event->arg.remove.start, event->arg.remove.end);
      return 0;
    case UFFD_EVENT_FORK:
      (void)close((int)event->arg.fork.ufd);
      return fail(&server->failure, -EPROTO, "the VMM forked: its copy cannot be served");
    case UFFD_EVENT_REMAP:
      return fail(&server->failure, -EPROTO, "the VMM moved the guest's memory");
    case UFFD_EVENT_UNMAP:
      return fail(&server->failure, -EPROTO, "the VMM unmapped the guest's memory");
    default:
      return fail(&server->failure, -EPROTO, "unknown userfaultfd event %u", event->event);
  }
}

int32_t server_read_events(struct server *server) {
  struct uffd_msg events[EVENTS_PER_READ];
  for (;;) {
    ssize_t got = read(server->uffd, events, sizeof events);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return 0;
    if (got < 0) {
      return fail(&server->failure, -errno, "the userfaultfd cannot be read: %m");
    }
    size_t count = (size_t)got / sizeof *events;
    if (count == 0) return fail(&server->failure, -EPROTO, "the userfaultfd is not one");
    for (size_t i = 0; i < count; i++) {
      int32_t result = note_event(server, &events[i]);
      if (result < 0) return result;
    }
    if (count < EVENTS_PER_READ) return 0;
  }
}
