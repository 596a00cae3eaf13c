#include "stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

enum { SUB_BITS = 3, SUB_BUCKETS = 1 << SUB_BITS };

static unsigned bucket_of(uint64_t value) {
  if (value < SUB_BUCKETS) return (unsigned)value;
  unsigned top = 63u - (unsigned)__builtin_clzll(value);
  unsigned sub = (unsigned)(value >> (top - SUB_BITS)) & (SUB_BUCKETS - 1);
  return (top - SUB_BITS + 1) * SUB_BUCKETS + sub;
}

static uint64_t upper_bound_of(unsigned bucket) {
  if (bucket < SUB_BUCKETS) return bucket;
  unsigned shift = bucket / SUB_BUCKETS - 1;
  return ((uint64_t)(SUB_BUCKETS + bucket % SUB_BUCKETS + 1) << shift) - 1;
}

void stats_note_latency(struct stats *stats, uint64_t nanoseconds) {
  stats->latency[bucket_of(nanoseconds)]++;
}

uint64_t stats_latency_ns(const struct stats *stats, double share) {
  uint64_t total = 0;
  for (unsigned i = 0; i < LATENCY_BUCKETS; i++) total += stats->latency[i];
  if (total == 0) return 0;
  uint64_t wanted = (uint64_t)(share * (double)(total - 1)) + 1;
  uint64_t seen = 0;
  unsigned bucket = 0;
  for (; bucket < LATENCY_BUCKETS; bucket++) {
    seen += stats->latency[bucket];
    if (seen >= wanted) break;
  }
  return upper_bound_of(bucket);
}

int32_t stats_format(const struct stats *stats, const struct stats_context *context, char *ret_text,
                     size_t size) {
  int length = snprintf(
      ret_text, size,
      "{\"state\":\"%s\",\"faults\":%" PRIu64 ",\"faultsRepeated\":%" PRIu64
      ",\"pagesCopied\":%" PRIu64 ",\"pagesZeroed\":%" PRIu64 ",\"pagesPrefetched\":%" PRIu64
      ",\"pagesRemoved\":%" PRIu64 ",\"pagesDiscarded\":%" PRIu64 ",\"pagesExisting\":%" PRIu64
      ",\"retries\":%" PRIu64 ",\"prefetchUs\":%" PRIu64 ",\"bytesRead\":%" PRIu64
      ",\"chunksVerified\":%" PRIu64 ",\"cpuUs\":%" PRIu64 ",\"faultP50Ns\":%" PRIu64
      ",\"faultP99Ns\":%" PRIu64 "}\n",
      context->state, stats->faults, stats->faults_repeated, stats->pages_copied,
      stats->pages_zeroed, stats->pages_prefetched, stats->pages_removed, stats->pages_discarded,
      stats->pages_existing, stats->retries, stats->prefetch_us, context->bytes_read,
      context->chunks_verified, context->cpu_us, stats_latency_ns(stats, 0.5),
      stats_latency_ns(stats, 0.99));
  return length < 0 || (size_t)length >= size ? -ENOSPC : length;
}
