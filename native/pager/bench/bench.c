/* What a page costs, each way beside the kernel's own and beside memcpy, in one run. */
#define _GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pager/tests/support/rig.h"
#include "pages/crc32c.h"
#include "pages/page-list.h"
#include "pages/pages.h"
#include "wrenn.h"

enum { PAGE = 4096, PAGES = 65536, ROUNDS = 7 };
static const size_t BYTES = (size_t)PAGES * PAGE;

static double now_s(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The fastest of some runs: what else the machine does can only add to one. */
static double best_of(double (*measure)(void *), void *context) {
  double best = measure(context);
  for (int i = 1; i < ROUNDS; i++) {
    double seconds = measure(context);
    if (seconds < best) best = seconds;
  }
  return best;
}

static double memcpy_seconds;

static void report(const char *what, double seconds, uint64_t pages) {
  double bytes = (double)pages * PAGE;
  (void)printf("%-52s %8.3f us/page %8.2f GB/s %7.2f x memcpy\n", what,
               seconds * 1e6 / (double)pages, bytes / seconds / 1e9,
               seconds / (double)pages / (memcpy_seconds / PAGES));
  (void)fflush(stdout);
}

struct buffers {
  uint8_t *a;
  uint8_t *b;
};

static double copy(void *context) {
  struct buffers *buffers = context;
  double start = now_s();
  memcpy(buffers->b, buffers->a, BYTES);
  return now_s() - start;
}

static double check_zero(void *context) {
  struct buffers *buffers = context;
  bool all = true;
  double start = now_s();
  for (size_t at = 0; at < BYTES; at += PAGE) all = pages_are_zero(buffers->b + at, PAGE) && all;
  assert(all);
  return now_s() - start;
}

static double compare(void *context) {
  struct buffers *buffers = context;
  bool all = true;
  double start = now_s();
  for (size_t at = 0; at < BYTES; at += PAGE) {
    all = pages_are_equal(buffers->a + at, buffers->b + at, PAGE) && all;
  }
  assert(all);
  return now_s() - start;
}

static double checksum(void *context) {
  struct buffers *buffers = context;
  volatile uint32_t sum = 0;
  double start = now_s();
  for (size_t at = 0; at < BYTES; at += 16 * PAGE) sum ^= crc32c(0, buffers->a + at, 16 * PAGE);
  return now_s() - start;
}

static void bench_memory(void) {
  struct buffers buffers = {.a = aligned_alloc(PAGE, BYTES), .b = aligned_alloc(PAGE, BYTES)};
  assert(buffers.a != NULL && buffers.b != NULL);
  memset(buffers.a, 1, BYTES);
  memset(buffers.b, 2, BYTES);
  memcpy_seconds = best_of(copy, &buffers);
  report("memcpy", memcpy_seconds, PAGES);
  report("compare two pages", best_of(compare, &buffers), PAGES);
  report("CRC-32C in chunks of 64 KiB", best_of(checksum, &buffers), PAGES);
  memset(buffers.b, 0, BYTES);
  report("look for zeros", best_of(check_zero, &buffers), PAGES);
  free(buffers.a);
  free(buffers.b);
}

static uint64_t touch(const uint8_t *memory, uint64_t stride) {
  volatile uint64_t sum = 0;
  for (uint64_t first = 0; first < stride; first++) {
    for (uint64_t page = first; page < PAGES; page += stride) sum += memory[page * PAGE];
  }
  return sum;
}

static double touch_private(void *context) {
  int fd = *(int *)context;
  uint8_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  assert(memory != MAP_FAILED);
  double start = now_s();
  (void)touch(memory, 1);
  double seconds = now_s() - start;
  (void)munmap(memory, BYTES);
  return seconds;
}

static void bench_private(const struct snapshot *snapshot) {
  char path[128];
  (void)snprintf(path, sizeof path, "%s/flat", snapshot->directory);
  int files[] = {open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), memfd_create("flat", MFD_CLOEXEC)};
  for (int i = 0; i < 2; i++) {
    assert(files[i] >= 0);
    assert(write(files[i], snapshot->expected, BYTES) == (ssize_t)BYTES);
    report(i == 0 ? "MAP_PRIVATE of a cached file, sequential reads"
                  : "MAP_PRIVATE of a memfd, sequential reads",
           best_of(touch_private, &files[i]), PAGES);
    (void)close(files[i]);
  }
}

static uint64_t stride;

static int touch_all(struct guest *guest) {
  char answer[RIG_ANSWER_BYTES];
  rig_ask(guest->rig, "ready", answer);
  double start = now_s();
  (void)touch(guest->memory, stride);
  double seconds = now_s() - start;
  rig_ask(guest->rig, "stats", answer);
  char name[128];
  (void)snprintf(name, sizeof name, "pager, %s, %s windows", stride == 1 ? "sequential" : "strided",
                 guest->rig->arguments[guest->rig->argument_count - 1]);
  report(name, seconds, PAGES);
  report("  of that the pager's own processor time", (double)rig_number(answer, "cpuUs") / 1e6,
         PAGES);
  (void)printf("  %" PRIu64 " faults, p50 %.0f us, p99 %.0f us, the guest waits %.1f us for each\n",
               rig_number(answer, "faults"), (double)rig_number(answer, "faultP50Ns") / 1e3,
               (double)rig_number(answer, "faultP99Ns") / 1e3,
               seconds * 1e6 / (double)rig_number(answer, "faults"));
  (void)fflush(stdout);
  return 0;
}

static void bench_pager(const char *window_kib, uint64_t wanted_stride) {
  struct rig rig;
  stride = wanted_stride;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--window-kib", window_kib);
  rig_start_pager(&rig);
  rig_start_vmm(&rig, touch_all);
  assert(rig_wait(rig.vmm) == 0 && rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

static int measure_prefetch(struct guest *guest) {
  char answer[RIG_ANSWER_BYTES];
  rig_ask(guest->rig, "ready", answer);
  rig_ask(guest->rig, "stats", answer);
  uint64_t copied = rig_number(answer, "pagesCopied");
  double seconds = (double)rig_number(answer, "prefetchUs") / 1e6;
  report("pager, prefetch of all data, first read (checked)", seconds, copied);
  report("  of that the pager's own processor time", (double)rig_number(answer, "cpuUs") / 1e6,
         copied);
  uint64_t zeroed = rig_number(answer, "pagesZeroed");
  return copied + zeroed == PAGES ? 0 : 1;
}

static void bench_prefetch(void) {
  struct rig rig;
  struct page_list all = {0};
  rig_make(&rig, PAGES);
  int directory = open(rig.snapshot.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert(page_list_append(&all, 0, BYTES) == 0);
  assert(page_list_save(&all, directory, "working-set") == 0 && close(directory) == 0);
  page_list_free(&all);
  rig_option(&rig, "--prefetch", rig.record);
  rig_option(&rig, "--prefetch-before-mib", "4096");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, measure_prefetch);
  assert(rig_wait(rig.vmm) == 0 && rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

static void bench_seal(const struct snapshot *snapshot) {
  char directory[128];
  char path[128];
  char text[256] = "";
  uint64_t counts[WRENN_PAGES_COUNTS];
  (void)snprintf(path, sizeof path, "%s/flat", snapshot->directory);
  for (int over_parent = 0; over_parent < 2; over_parent++) {
    (void)snprintf(directory, sizeof directory, "%s/seal-%d", snapshot->directory, over_parent);
    assert(mkdir(directory, 0700) == 0);
    struct wrenn_pages_target target = {.directory = directory,
                                        .parent_header = over_parent ? snapshot->header : NULL,
                                        .layer_directories = snapshot->directory,
                                        .id = {1}};
    double start = now_s();
    assert(wrenn_pages_seal_file(path, BYTES, &target, counts, text, sizeof text) == 0);
    report(over_parent ? "seal: compare with the parent, nothing to store"
                       : "seal: all of it, checked and synced",
           now_s() - start, counts[WRENN_PAGES_READ] / PAGE);
  }
}

int main(void) {
  struct snapshot snapshot;
  (void)printf("%d MiB, the best of %d runs where repeated\n", PAGES / 256, ROUNDS);
  bench_memory();
  snapshot_make(&snapshot, PAGES);
  bench_private(&snapshot);
  bench_seal(&snapshot);
  snapshot_remove(&snapshot);
  bench_pager("4", 1);
  bench_pager("16", 1);
  bench_pager("64", 1);
  bench_pager("64", 257);
  bench_pager("256", 257);
  bench_prefetch();
  return 0;
}
