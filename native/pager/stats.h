/* What a pager counts, and how long faults took it. */
#ifndef WRENN_PAGER_STATS_H
#define WRENN_PAGER_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Eight buckets per power of two of nanoseconds: percentiles are right to 12 %. */
enum { LATENCY_BUCKETS = 64 * 8 };

struct stats {
  uint64_t faults;           /* served from the snapshot */
  uint64_t faults_repeated;  /* another thread's fault had brought the page */
  uint64_t pages_copied;     /* data, by faults and prefetch */
  uint64_t pages_zeroed;     /* zero page mapped, by faults and prefetch */
  uint64_t pages_prefetched; /* of both, those that no fault asked for */
  uint64_t pages_removed;    /* given back by the guest */
  uint64_t pages_discarded;  /* found missing again without such an event */
  uint64_t pages_existing;   /* were there when they were to be filled */
  uint64_t retries;          /* the address space was changing */
  uint64_t prefetch_us;      /* from the VMM's connection until it may run */
  uint64_t latency[LATENCY_BUCKETS];
};

/* Notes how long a fault took from being read to being answered. */
void stats_note_latency(struct stats *stats, uint64_t nanoseconds);

/* The upper bound of the bucket that holds the given share (0..1) of faults; 0 without faults. */
uint64_t stats_latency_ns(const struct stats *stats, double share);

/* What is told beside the counters. `state` is a plain word. */
struct stats_context {
  const char *state;
  uint64_t bytes_read;
  uint64_t chunks_verified;
  uint64_t cpu_us; /* processor time of the pager since its start */
};

/* Writes one JSON object and a newline. Returns the length, or -ENOSPC. */
int32_t stats_format(const struct stats *stats, const struct stats_context *context, char *ret_text,
                     size_t size);

#endif
