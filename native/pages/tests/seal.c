/* Saving what a process has changed of its memory. */
#define _GNU_SOURCE
#include "pages/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pages/memory.h"
#include "pages/page-list.h"
#include "pages/tests/support/snapshot.h"
#include "preload/hand-over.h"
#include "tests/run.h"
#include "wrenn.h"

enum { PAGE = MEMORY_BLOCK_BYTES, PAGES = 2000 };

/* A stopped process that has mapped a flat file of a snapshot's memory, and what it did there. */
struct guest {
  struct snapshot snapshot;
  char flat[128];
  uint8_t *memory; /* at the same address in the child */
  pid_t process;
  int pagemap;
};

enum { REWRITTEN = 11, CHANGED = 500, ZEROED = 900, RUN_LENGTH = 40 };
/* What it does once it goes on. */
enum { LATER = 1200, LATER_BY_KERNEL = 1300, LATER_ZEROED = 510, LATER_PAGES = 12 };

static void change_memory(const struct guest *guest, uint8_t *memory) {
  const uint8_t *expected = guest->snapshot.expected;
  for (int i = 0; i < RUN_LENGTH; i++) {
    size_t rewritten = (size_t)(REWRITTEN + i) * PAGE;
    memcpy(memory + rewritten, expected + rewritten, PAGE);
    memset(memory + (size_t)(CHANGED + i) * PAGE, 0x5a, PAGE);
    memset(memory + (size_t)(ZEROED + i) * PAGE, 0, PAGE);
  }
}

static void change_memory_later(uint8_t *memory) {
  memset(memory + (size_t)LATER * PAGE, 0x77, 10 * PAGE);
  memset(memory + (size_t)LATER_ZEROED * PAGE, 0, PAGE);
  int pipe_fds[2];
  assert(pipe(pipe_fds) == 0 && write(pipe_fds[1], "system call", 11) == 11);
  assert(read(pipe_fds[0], memory + (size_t)LATER_BY_KERNEL * PAGE, 11) == 11);
  (void)close(pipe_fds[0]);
  (void)close(pipe_fds[1]);
}

static void await_stop(const struct guest *guest) {
  int status;
  assert(waitpid(guest->process, &status, WUNTRACED) == guest->process && WIFSTOPPED(status));
}

static void start_guest(struct guest *guest) {
  snapshot_make(&guest->snapshot, PAGES);
  (void)snprintf(guest->flat, sizeof guest->flat, "%s/flat", guest->snapshot.directory);
  int fd = open(guest->flat, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ssize_t size = (ssize_t)guest->snapshot.total_bytes;
  assert(fd >= 0 && write(fd, guest->snapshot.expected, (size_t)size) == size);
  guest->memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  assert(guest->memory != MAP_FAILED && close(fd) == 0);
  (void)fflush(stdout);
  guest->process = fork();
  if (guest->process == 0) {
    (void)userfault_track(guest->memory, guest->snapshot.total_bytes);
    change_memory(guest, guest->memory);
    for (size_t page = 1000; page < PAGES; page++) {
      if (guest->memory[page * PAGE] != guest->snapshot.expected[page * PAGE]) _exit(1);
    }
    (void)raise(SIGSTOP);
    change_memory_later(guest->memory);
    (void)raise(SIGSTOP);
    _exit(0);
  }
  await_stop(guest);
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/%d/pagemap", (int)guest->process);
  guest->pagemap = open(path, O_RDONLY | O_CLOEXEC);
  assert(guest->pagemap >= 0);
}

static void end_guest(struct guest *guest) {
  int status;
  assert(kill(guest->process, SIGKILL) == 0);
  assert(waitpid(guest->process, &status, 0) == guest->process);
  assert(close(guest->pagemap) == 0);
  assert(munmap(guest->memory, guest->snapshot.total_bytes) == 0);
  snapshot_remove(&guest->snapshot);
}

static uint64_t address_of(const struct guest *guest) { return (uintptr_t)guest->memory; }

static int32_t collect(void *context, uint64_t start, uint64_t end) {
  return page_list_append(context, start, end - start);
}

static void only_pages_that_were_written_are_private(void) {
  struct guest guest;
  struct page_list scanned = {0};
  struct page_list read = {0};
  uint64_t ranges[8];
  start_guest(&guest);
  uint64_t start = address_of(&guest);
  uint64_t end = start + guest.snapshot.total_bytes;

  assert(pages_private(guest.pagemap, start, end, collect, &scanned) == 0);
  assert(pages_private_by_entry(guest.pagemap, start, end, collect, &read) == 0);
  assert(wrenn_pages_private(guest.process, start, end - start, ranges, 4) == 3);

  assert(scanned.count == 3 && scanned.bytes == 3 * RUN_LENGTH * PAGE);
  assert(read.count == 3 && memcmp(read.ranges, scanned.ranges, 3 * sizeof *read.ranges) == 0);
  assert(ranges[0] == start + REWRITTEN * PAGE && ranges[2] == start + CHANGED * PAGE);
  assert(wrenn_pages_private(guest.process, start, end - start, ranges, 2) == -ENOSPC);
  /* The last one, too, where what is looked at ends within it. */
  page_list_free(&read);
  uint64_t within = ranges[4] + PAGE;
  assert(pages_private_by_entry(guest.pagemap, start, within, collect, &read) == 0);
  assert(read.count == 3 && read.bytes == (2 * RUN_LENGTH + 1) * PAGE);
  page_list_free(&scanned);
  page_list_free(&read);
  end_guest(&guest);
}

static void a_mapping_is_found_by_its_file(void) {
  struct guest guest;
  uint64_t mapping[3];
  start_guest(&guest);
  assert(wrenn_pages_find_mapping(guest.process, guest.flat, 0, mapping) == 0);
  assert(mapping[0] == address_of(&guest) && mapping[1] == guest.snapshot.total_bytes);
  assert(wrenn_pages_find_mapping(guest.process, guest.snapshot.header, 0, mapping) == -ENXIO);
  end_guest(&guest);
}

static void *map_between_guards(size_t size) {
  uint8_t *whole = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert(whole != MAP_FAILED);
  assert(mprotect(whole + PAGE, size, PROT_READ | PROT_WRITE) == 0);
  return whole + PAGE;
}

/*
 * As a VMM has it that shares no file: 5 pages of 37 were written, two of them with zeros. And as
 * it has more than 3 GiB: in two mappings, of which the second lies below the first.
 */
static void memory_in_no_file_is_saved_whole(uint64_t high_offset) {
  enum { SIZE = 37 * PAGE };
  struct snapshot snapshot = {.directory = "/tmp/wrenn-anonymous-XXXXXX", .total_bytes = SIZE};
  char text[256];
  uint64_t counts[WRENN_PAGES_COUNTS];
  uint8_t *flat = map_between_guards(SIZE);
  uint8_t *memory = map_between_guards(SIZE);
  memset(flat + 3 * PAGE, 7, 2 * PAGE);
  flat[SIZE - 1] = 1;
  /* What is high in the guest is at the start of its VMM's memory, the rest behind it. */
  uint64_t high_bytes = high_offset == 0 ? 0 : SIZE - high_offset;
  uint8_t *low = memory + high_bytes;
  memset(low + 3 * PAGE, 7, 2 * PAGE);
  memset(high_offset == 0 ? low + 20 * PAGE : memory, 0, 2 * PAGE);
  (high_offset == 0 ? low : memory)[(high_offset == 0 ? SIZE : high_bytes) - 1] = 1;
  assert(mkdtemp(snapshot.directory) != NULL);
  struct wrenn_pages_target target = {.directory = snapshot.directory, .id = {9}};
  struct wrenn_process_memory source = {.pid = getpid(),
                                        .address = (uintptr_t)low,
                                        .total_bytes = SIZE,
                                        .high_offset = high_offset,
                                        .high_address = (uintptr_t)memory};

  assert(wrenn_pages_seal_process(&source, "", &target, counts, text, sizeof text) == 0);

  assert(counts[WRENN_PAGES_READ] == 5 * PAGE && counts[WRENN_PAGES_DATA] == 3 * PAGE);
  snapshot_expect(snapshot.directory, &snapshot, flat);
  assert(munmap(flat - PAGE, SIZE + 2 * PAGE) == 0);
  assert(munmap(memory - PAGE, SIZE + 2 * PAGE) == 0);
  snapshot_remove(&snapshot);
}

static void memory_in_one_mapping_or_two_is_saved_whole(void) {
  memory_in_no_file_is_saved_whole(0);
  memory_in_no_file_is_saved_whole((uint64_t)20 * PAGE);
}

/* Pages that a guest zeroed came back in the next resume when zeros were taken for "unchanged". */
static void a_second_pause_stores_what_changed_and_zeroed_pages_stay_zero(void) {
  struct guest guest;
  char directory[160];
  char text[256];
  uint64_t counts[WRENN_PAGES_COUNTS];
  start_guest(&guest);
  struct wrenn_pages_target target = snapshot_target(&guest.snapshot, "second", directory);

  int32_t result = wrenn_pages_seal_process(
      &(struct wrenn_process_memory){.pid = guest.process,
                                     .address = address_of(&guest),
                                     .total_bytes = guest.snapshot.total_bytes},
      "", &target, counts, text, sizeof text);

  assert(result == 0);
  assert(counts[WRENN_PAGES_READ] == 3 * RUN_LENGTH * PAGE);
  assert(counts[WRENN_PAGES_DATA] == RUN_LENGTH * PAGE);
  assert(counts[WRENN_PAGES_ZERO] + counts[WRENN_PAGES_UNCHANGED] == 2 * RUN_LENGTH * PAGE);
  assert(counts[WRENN_PAGES_UNCHANGED] >= RUN_LENGTH * PAGE);
  uint8_t *expected = malloc(guest.snapshot.total_bytes);
  assert(expected != NULL);
  memcpy(expected, guest.snapshot.expected, guest.snapshot.total_bytes);
  change_memory(&guest, expected);
  snapshot_expect(directory, &guest.snapshot, expected);
  assert(wrenn_pages_seal_process(
             &(struct wrenn_process_memory){.pid = guest.process,
                                            .address = address_of(&guest),
                                            .total_bytes = guest.snapshot.total_bytes},
             "", &target, counts, text, sizeof text) == -EEXIST);
  snapshot_expect(directory, &guest.snapshot, expected);
  free(expected);
  end_guest(&guest);
}

/* Given back: pages 480 to 519, of which the guest has touched 500 to 519 again, and 1500. */
static void pages_given_back_are_saved_as_zeros_unless_touched_again(void) {
  struct guest guest;
  char directory[160];
  char text[256];
  char removed[160];
  uint64_t counts[WRENN_PAGES_COUNTS];
  struct page_list list = {0};
  start_guest(&guest);
  struct wrenn_pages_target target = snapshot_target(&guest.snapshot, "second", directory);
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert(page_list_append(&list, 1500 * PAGE, PAGE) == 0);
  assert(page_list_append(&list, 480 * PAGE, 40 * PAGE) == 0);
  assert(page_list_save(&list, fd, "removed") == 0 && close(fd) == 0);
  page_list_free(&list);
  (void)snprintf(removed, sizeof removed, "%.140s/removed", directory);

  assert(wrenn_pages_seal_process(
             &(struct wrenn_process_memory){.pid = guest.process,
                                            .address = address_of(&guest),
                                            .total_bytes = guest.snapshot.total_bytes},
             removed, &target, counts, text, sizeof text) == 0);

  uint8_t *expected = malloc(guest.snapshot.total_bytes);
  assert(expected != NULL);
  memcpy(expected, guest.snapshot.expected, guest.snapshot.total_bytes);
  change_memory(&guest, expected);
  memset(expected + 480 * PAGE, 0, 20 * PAGE);
  memset(expected + 1500 * PAGE, 0, PAGE);
  snapshot_expect(directory, &guest.snapshot, expected);
  free(expected);
  end_guest(&guest);
}

static bool kernel_notes_writes(const struct guest *guest) {
  uint64_t size = guest->snapshot.total_bytes;
  int32_t result = wrenn_pages_track(guest->process, address_of(guest), size);
  assert(result == 0 || result == -EOPNOTSUPP);
  if (result < 0) (void)printf("# this kernel does not note writes: Linux 6.7 does\n");
  return result == 0;
}

static void a_guest_that_runs_on_stands_still_for_what_it_writes_meanwhile_only(void) {
  struct guest guest;
  char draft[160];
  char final[160];
  char text[256];
  char header[192];
  char layers[256];
  uint64_t counts[WRENN_PAGES_COUNTS];
  start_guest(&guest);
  uint64_t size = guest.snapshot.total_bytes;
  if (kernel_notes_writes(&guest)) {
    struct wrenn_pages_target target = snapshot_target(&guest.snapshot, "draft", draft);
    assert(wrenn_pages_seal_process(
               &(struct wrenn_process_memory){
                   .pid = guest.process, .address = address_of(&guest), .total_bytes = size},
               "", &target, counts, text, sizeof text) == 0);
    assert(kill(guest.process, SIGCONT) == 0);
    await_stop(&guest);
    (void)snprintf(header, sizeof header, "%.160s/memory.header", draft);
    (void)snprintf(layers, sizeof layers, "%.150s\n%.64s", draft, guest.snapshot.directory);
    target = snapshot_target(&guest.snapshot, "final", final);
    target.parent_header = header;
    target.layer_directories = layers;
    target.id[0] = 0xac;

    assert(wrenn_pages_seal_written(
               &(struct wrenn_process_memory){
                   .pid = guest.process, .address = address_of(&guest), .total_bytes = size},
               &target, counts, text, sizeof text) == 0);

    assert(counts[WRENN_PAGES_READ] == LATER_PAGES * PAGE);
    uint8_t *expected = malloc(size);
    assert(expected != NULL);
    memcpy(expected, guest.snapshot.expected, size);
    change_memory(&guest, expected);
    change_memory_later(expected);
    char layer[MEMORY_NAME_BYTES];
    memory_layer_name("memory", (const uint8_t[MEMORY_ID_BYTES]){0xab, 0xcd}, layer);
    (void)snprintf(header, sizeof header, "%.140s/%.50s", draft, layer);
    (void)snprintf(layers, sizeof layers, "%.140s/%.50s", final, layer);
    assert(link(header, layers) == 0);
    snapshot_expect(final, &guest.snapshot, expected);
    free(expected);
  }
  end_guest(&guest);
}

static void memory_that_is_not_registered_cannot_be_followed(void) {
  uint8_t *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
  assert(memory != MAP_FAILED);
  memset(memory, 1, PAGES * PAGE);
  assert(wrenn_pages_track(getpid(), (uintptr_t)memory, PAGES * PAGE) == -EOPNOTSUPP);
  assert(munmap(memory, PAGES * PAGE) == 0);
}

static bool is_empty(const char *directory) { return rmdir(directory) == 0; }

static void a_damaged_parent_is_refused_and_nothing_is_left_behind(void) {
  struct guest guest;
  char directory[160];
  char text[256];
  uint64_t counts[WRENN_PAGES_COUNTS];
  start_guest(&guest);
  struct wrenn_pages_target target = snapshot_target(&guest.snapshot, "second", directory);
  for (uint64_t at = 0; at < file_size(guest.snapshot.layers[1]); at += PAGE) {
    flip_byte(guest.snapshot.layers[1], at, 1);
  }
  assert(wrenn_pages_seal_process(
             &(struct wrenn_process_memory){.pid = guest.process,
                                            .address = address_of(&guest),
                                            .total_bytes = guest.snapshot.total_bytes},
             "", &target, counts, text, sizeof text) == -EBADMSG);
  assert(strlen(text) > 0 && is_empty(directory));
  end_guest(&guest);
}

static void a_parent_of_another_size_is_refused(void) {
  struct guest guest;
  char directory[160];
  char text[256];
  uint64_t counts[WRENN_PAGES_COUNTS];
  start_guest(&guest);
  struct wrenn_pages_target target = snapshot_target(&guest.snapshot, "second", directory);
  assert(wrenn_pages_seal_process(
             &(struct wrenn_process_memory){.pid = guest.process,
                                            .address = address_of(&guest),
                                            .total_bytes = guest.snapshot.total_bytes - PAGE},
             "", &target, counts, text, sizeof text) == -EINVAL);
  assert(strstr(text, "another size") != NULL && is_empty(directory));
  end_guest(&guest);
}

static void a_full_disk_is_reported_and_nothing_is_left_behind(void) {
  struct guest guest;
  char directory[160];
  char text[256];
  uint64_t counts[WRENN_PAGES_COUNTS];
  struct rlimit before;
  start_guest(&guest);
  struct wrenn_pages_target target = snapshot_target(&guest.snapshot, "second", directory);
  assert(getrlimit(RLIMIT_FSIZE, &before) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
  for (rlim_t limit = 0; limit < RUN_LENGTH * PAGE; limit += 10 * PAGE) {
    struct rlimit small = {.rlim_cur = limit, .rlim_max = before.rlim_max};
    assert(setrlimit(RLIMIT_FSIZE, &small) == 0);
    int32_t result = wrenn_pages_seal_process(
        &(struct wrenn_process_memory){.pid = guest.process,
                                       .address = address_of(&guest),
                                       .total_bytes = guest.snapshot.total_bytes},
        "", &target, counts, text, sizeof text);
    assert(setrlimit(RLIMIT_FSIZE, &before) == 0);
    assert(result == -EFBIG && strlen(text) > 0);
  }
  assert(is_empty(directory));
  end_guest(&guest);
}

int main(void) {
  RUN(only_pages_that_were_written_are_private);
  RUN(a_mapping_is_found_by_its_file);
  RUN(memory_in_one_mapping_or_two_is_saved_whole);
  RUN(a_second_pause_stores_what_changed_and_zeroed_pages_stay_zero);
  RUN(pages_given_back_are_saved_as_zeros_unless_touched_again);
  RUN(a_guest_that_runs_on_stands_still_for_what_it_writes_meanwhile_only);
  RUN(memory_that_is_not_registered_cannot_be_followed);
  RUN(a_damaged_parent_is_refused_and_nothing_is_left_behind);
  RUN(a_parent_of_another_size_is_refused);
  RUN(a_full_disk_is_reported_and_nothing_is_left_behind);
  return 0;
}
