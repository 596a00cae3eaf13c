#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>

#include "clock.h"
#include "pager.h"
#include "save-lists.h"

enum {
  POLL_MEMORY = 0, /* the userfaultfd, or before that the socket that brings it */
  POLL_SIGNALS = 1,
  POLL_CONTROL = 2,
  POLLS = POLL_CONTROL + CONTROL_POLLS,

  /* While the address space changes, the thread that changes it needs the processor. */
  RETRY_PAUSE_US = 50,
  /* A discard of all of a guest takes milliseconds: after this something is broken. */
  RETRY_S_MAX = 10,
  /* A VMM that ends unmaps its memory first. */
  ENDING_MS_MAX = 500,

  ANSWER_BYTES = 1024,
};

static const char *state_of(const struct pager *pager) {
  if (pager->server.uffd < 0) return "waiting";
  return pager->may_run ? "serving" : "prefetching";
}

static void answer_saved(struct control_client *client, int32_t result, uint64_t bytes) {
  char text[ANSWER_BYTES];
  int size = result == 0
                 ? snprintf(text, sizeof text, "{\"saved\":true,\"bytes\":%" PRIu64 "}\n", bytes)
                 : snprintf(text, sizeof text, "{\"saved\":false,\"errno\":%d}\n", -result);
  control_send(client, text, (size_t)size);
}

static void answer_stats(const struct pager *pager, struct control_client *client) {
  const struct server *server = &pager->server;
  char text[ANSWER_BYTES];
  struct timespec cpu = {0};
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  struct stats_context context = {
      .state = state_of(pager),
      .bytes_read = server->memory.bytes_read,
      .chunks_verified = memory_chunks_verified(&server->memory),
      .cpu_us = (uint64_t)cpu.tv_sec * 1000000u + (uint64_t)cpu.tv_nsec / 1000,
  };
  int32_t size = stats_format(&server->stats, &context, text, sizeof text);
  if (size >= 0) control_send(client, text, (size_t)size);
}

static void answer_regions(const struct pager *pager, struct control_client *client) {
  const struct regions *regions = &pager->server.regions;
  char text[REGIONS_MAX * 128];
  int size = snprintf(text, sizeof text, "{\"regions\":[");
  for (size_t i = 0; i < regions->count; i++) {
    const struct region *region = &regions->list[i];
    size += snprintf(text + size, sizeof text - (size_t)size,
                     "%s{\"address\":%" PRIu64 ",\"size\":%" PRIu64 ",\"offset\":%" PRIu64 "}",
                     i == 0 ? "" : ",", region->address, region->size, region->offset);
  }
  size += snprintf(text + size, sizeof text - (size_t)size, "]}\n");
  control_send(client, text, (size_t)size);
}

static void answer_ready(struct control_client *client) {
  static const char TEXT[] = "{\"ready\":true}\n";
  client->waits_until_ready = false;
  control_send(client, TEXT, sizeof TEXT - 1);
}

static void answer(void *context, struct control_client *client, enum control_command command) {
  static const char STOPPING[] = "{\"stopping\":true}\n";
  static const char UNKNOWN[] = "{\"error\":\"unknown command\"}\n";
  struct pager *pager = context;
  uint64_t bytes = 0;
  switch (command) {
    case CONTROL_STATS:
      answer_stats(pager, client);
      break;
    case CONTROL_READY:
      client->waits_until_ready = true;
      if (pager->may_run) answer_ready(client);
      break;
    case CONTROL_WORKING_SET: {
      int32_t result = save_working_set(pager, &bytes);
      answer_saved(client, result, bytes);
      break;
    }
    case CONTROL_REMOVED: {
      int32_t result = save_removed(pager, &bytes);
      answer_saved(client, result, bytes);
      break;
    }
    case CONTROL_REGIONS:
      answer_regions(pager, client);
      break;
    case CONTROL_STOP:
      pager->is_stop_wanted = true;
      control_send(client, STOPPING, sizeof STOPPING - 1);
      break;
    case CONTROL_UNKNOWN:
      control_send(client, UNKNOWN, sizeof UNKNOWN - 1);
      break;
  }
}

static void let_run(struct pager *pager) {
  pager->may_run = true;
  pager->server.stats.prefetch_us = (monotonic_ns() - pager->connected_ns) / 1000;
  for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
    struct control_client *client = &pager->control.clients[i];
    if (client->fd >= 0 && client->waits_until_ready) answer_ready(client);
  }
}

/* Faults first; a step of the working set only when none waits. Returns 1 while there is work. */
static int32_t serve(struct pager *pager) {
  struct server *server = &pager->server;
  int32_t result = server_read_events(server);
  if (result == 0) result = server_serve(server);
  if (result == 0) result = server_prefetch(server);
  if (result < 0) return result;
  pager->retrying_since_ns = 0;
  bool is_enough = result == 0 || server->prefetched_bytes >= pager->options.prefetch_before_bytes;
  if (!pager->may_run && is_enough) let_run(pager);
  return result;
}

static int32_t put_off(struct pager *pager) {
  uint64_t now = monotonic_ns();
  if (pager->retrying_since_ns == 0) pager->retrying_since_ns = now;
  if (now - pager->retrying_since_ns > (uint64_t)RETRY_S_MAX * 1000000000u) {
    return fail(&pager->server.failure, -ETIMEDOUT, "the VMM's memory keeps changing");
  }
  struct timespec pause = {.tv_nsec = RETRY_PAUSE_US * 1000};
  (void)nanosleep(&pause, NULL);
  return 1;
}

/* Whether the keeper says so within the time that it takes to find out. */
static bool is_vmm_ending(const struct pager *pager) {
  struct pollfd signals = {.fd = pager->signals, .events = POLLIN};
  return poll(&signals, 1, ENDING_MS_MAX) == 1;
}

/* Returns 1 when there is more to do at once, 0 to wait, -ESRCH when the VMM is gone, -errno. */
static int32_t work(struct pager *pager, const struct pollfd *polls) {
  if (pager->server.uffd >= 0) {
    if ((polls[POLL_MEMORY].revents & (POLLERR | POLLNVAL)) != 0) {
      return fail(&pager->server.failure, -EBADF, "the userfaultfd cannot be waited for");
    }
    int32_t result = serve(pager);
    if (result == -EAGAIN) return put_off(pager);
    if (result == -ENOENT && is_vmm_ending(pager)) return -ESRCH;
    return result;
  }
  if (polls[POLL_MEMORY].revents != 0) {
    int32_t result = pager_accept(pager);
    if (result != 1) return result;
    pager->connected_ns = monotonic_ns();
    result = server_check_regions(&pager->server);
    return result < 0 ? result : 1;
  }
  uint64_t limit_ns = (uint64_t)pager->options.connect_timeout_ms * 1000000u;
  if (monotonic_ns() - pager->started_ns < limit_ns) return 0;
  return fail(&pager->server.failure, -ETIMEDOUT, "no VMM has connected in time");
}

static int wait_ms(const struct pager *pager, bool has_work) {
  if (has_work) return 0;
  if (pager->server.uffd >= 0) return -1;
  int64_t waited_ms = (int64_t)((monotonic_ns() - pager->started_ns) / 1000000u);
  int64_t left_ms = pager->options.connect_timeout_ms - waited_ms;
  return left_ms > 0 ? (int)left_ms : 0;
}

int32_t pager_loop(struct pager *pager) {
  bool has_work = false;
  for (;;) {
    struct pollfd polls[POLLS] = {
        [POLL_MEMORY] = {.fd = pager->server.uffd >= 0 ? pager->server.uffd : pager->listener,
                         .events = POLLIN},
        [POLL_SIGNALS] = {.fd = pager->signals, .events = POLLIN},
    };
    control_polls(&pager->control, polls + POLL_CONTROL);
    if (poll(polls, POLLS, wait_ms(pager, has_work)) < 0 && errno != EINTR) {
      return fail(&pager->server.failure, -errno, "poll: %m");
    }
    control_work(&pager->control, polls + POLL_CONTROL, answer, pager);
    if (pager->is_stop_wanted || polls[POLL_SIGNALS].revents != 0) {
      pager->is_stop_wanted = true;
      return 0;
    }
    int32_t result = work(pager, polls);
    if (result == -ESRCH) return 0;
    if (result < 0) return result;
    has_work = result > 0;
  }
}
