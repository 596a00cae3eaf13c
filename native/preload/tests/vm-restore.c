/* A real guest under QEMU, paused and restored through the shim in both of its modes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pages/crc32c.h"
#include "tests/run.h"
#include "vm.h"
#include "wrenn.h"

enum { VMM_UID = 210001, PAGER_UID = 12345, STATE_BYTES_MAX = 200 * 1024, TICKS = 8 };

/* Pauses happen in one order, so the tests share what the one before left on disk. */
static struct vm vm;
static struct tick paused_at;
static uint64_t first_state_bytes;

static double now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static const char *path_of(const char *name) {
  static char paths[16][VM_PATH_BYTES];
  static int next;
  char *path = paths[next++ % 16];
  (void)snprintf(path, VM_PATH_BYTES, "%.64s/%s", vm.directory, name);
  return path;
}

static uint32_t sum_of_ram(void) {
  static uint8_t buffer[1 << 20];
  uint32_t sum = 0;
  int fd = open(vm.ram, O_RDONLY | O_CLOEXEC);
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0) sum = crc32c(sum, buffer, (size_t)got);
  (void)close(fd);
  return sum;
}

static const char *layers_of(const char *name) {
  static char layers[640];
  (void)snprintf(layers, sizeof layers, "%s\n%s\n%s\n%s\n%s", path_of("g0"), path_of("g1"),
                 path_of("g2"), path_of("draft"), path_of(name));
  return layers;
}

static struct wrenn_pages_target generation(const char *name, const char *parent, uint8_t id) {
  const char *directory = path_of(name);
  assert(mkdir(directory, 0755) == 0);
  struct wrenn_pages_target target = {.directory = directory, .id = {id}};
  target.layer_directories = layers_of(name);
  if (parent != NULL) {
    char header[24];
    (void)snprintf(header, sizeof header, "%s/memory.header", parent);
    target.parent_header = path_of(header);
  }
  return target;
}

static void report(const char *what, const uint64_t counts[WRENN_PAGES_COUNTS], double ms) {
  (void)printf("# %s: looked at %" PRIu64 " KiB, stored %" PRIu64 ", zeros %" PRIu64
               ", unchanged %" PRIu64 ", %.1f ms\n",
               what, counts[WRENN_PAGES_READ] / 1024, counts[WRENN_PAGES_DATA] / 1024,
               counts[WRENN_PAGES_ZERO] / 1024, counts[WRENN_PAGES_UNCHANGED] / 1024, ms);
}

static void a_guest_boots_with_its_memory_in_a_file_and_is_paused(void) {
  uint64_t counts[WRENN_PAGES_COUNTS];
  char text[256];
  vm_start(&vm, &(struct vm_start){0});
  (void)vm_wait_tick(&vm, TICKS);
  double start = now_ms();
  first_state_bytes = vm_save(&vm, path_of("state0"));
  double saved = now_ms();
  vm_kill(&vm);
  paused_at = vm_wait_tick(&vm, 0);
  (void)printf("# pause with shared memory: %" PRIu64 " bytes of state, %.1f ms\n",
               first_state_bytes, saved - start);
  assert(first_state_bytes < STATE_BYTES_MAX && paused_at.wrong == 0);
  struct wrenn_pages_target target = generation("g0", NULL, 0xa0);
  start = now_ms();
  assert(wrenn_pages_seal_file(vm.ram, VM_MEMORY_BYTES, &target, counts, text, sizeof text) == 0);
  report("first generation", counts, now_ms() - start);
}

static void expect_it_goes_on(const char *what, double start) {
  double running = now_ms();
  struct tick tick = vm_wait_tick(&vm, paused_at.count + TICKS);
  (void)printf("# restore (%s): running after %.0f ms\n", what, running - start);
  assert(tick.nonce == paused_at.nonce && tick.wrong == 0);
}

static void a_private_restore_goes_on_and_leaves_the_file_alone(void) {
  uint32_t before = sum_of_ram();
  double start = now_ms();
  vm_start(&vm, &(struct vm_start){.mode = "private", .is_restore = true, .uid = VMM_UID});
  vm_load(&vm, path_of("state0"));
  expect_it_goes_on("private", start);
  assert(sum_of_ram() == before);
}

/* As plain share=off this walked and grew with all of the memory. */
static void a_second_pause_saves_as_little_and_its_pages_are_read_from_the_process(void) {
  uint64_t mapping[3];
  static uint64_t ranges[2 * 65536];
  uint64_t counts[WRENN_PAGES_COUNTS];
  char text[256];
  double start = now_ms();
  uint64_t bytes = vm_save(&vm, path_of("state1"));
  (void)printf("# second pause, after a private restore: %" PRIu64 " bytes of state, %.1f ms\n",
               bytes, now_ms() - start);
  paused_at = vm_wait_tick(&vm, 0);
  assert(bytes < STATE_BYTES_MAX && bytes < 2 * first_state_bytes);

  assert(wrenn_pages_find_mapping(vm.process, vm.ram, 0, mapping) == 0);
  assert(mapping[1] == VM_MEMORY_BYTES);
  int32_t runs = wrenn_pages_private(vm.process, mapping[0], mapping[1], ranges, 65536);
  uint64_t own = 0;
  for (int32_t i = 0; i < runs; i++) own += ranges[2 * i + 1] - ranges[2 * i];
  assert(runs > 0 && own > 0 && own < VM_MEMORY_BYTES / 2);
  struct wrenn_pages_target target = generation("g1", "g0", 0xa1);
  start = now_ms();
  assert(wrenn_pages_seal_process(
             &(struct wrenn_process_memory){
                 .pid = vm.process, .address = mapping[0], .total_bytes = VM_MEMORY_BYTES},
             "", &target, counts, text, sizeof text) == 0);
  report("second generation", counts, now_ms() - start);
  assert(counts[WRENN_PAGES_READ] == own && counts[WRENN_PAGES_DATA] < own);
  vm_kill(&vm);
}

static pid_t start_pager(const char *header, const char *prefetch) {
  (void)unlink(path_of("pager.sock"));
  (void)unlink(path_of("control.sock"));
  (void)fflush(stdout);
  pid_t pager = fork();
  if (pager == 0) {
    const char *program = realpath(getenv("WRENN_PAGER"), NULL);
    if (program == NULL || chdir(vm.directory) < 0) _exit(126);
    (void)execl(
        program, "pager", "--header", path_of(header), "--layers", path_of("g0"), "--layers",
        path_of("g1"), "--layers", path_of("g2"), "--socket", path_of("pager.sock"), "--control",
        path_of("control.sock"), "--reason", path_of("reason"), "--vmm-uid", "210001", "--uid",
        "12345", prefetch == NULL ? "--record" : "--prefetch",
        prefetch == NULL ? "working-set" : path_of("working-set"), "--removed", "removed", NULL);
    _exit(127);
  }
  struct stat status;
  for (int waited = 0; stat(path_of("pager.sock"), &status) < 0; waited++) {
    assert(waited < 10000);
    (void)usleep(1000);
  }
  return pager;
}

/* As the keeper does when the VMM has ended. */
static void end_pager(pid_t pager) {
  int status;
  assert(kill(pager, SIGTERM) == 0);
  assert(waitpid(pager, &status, 0) == pager && status == 0);
}

static void ask_pager(const char *command, char *ret_answer, size_t size) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path_of("control.sock"), sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
  assert(send(fd, command, strlen(command), 0) == (ssize_t)strlen(command));
  ssize_t got = recv(fd, ret_answer, size - 1, 0);
  assert(got > 0 && close(fd) == 0);
  ret_answer[got] = '\0';
}

static uint64_t number_in(const char *answer, const char *name) {
  const char *at = strstr(answer, name);
  assert(at != NULL);
  return strtoull(at + strlen(name), NULL, 10);
}

static uint64_t restore_by_pager(const char *header, const char *state, const char *prefetch,
                                 pid_t *ret_pager) {
  char answer[1024];
  double start = now_ms();
  *ret_pager = start_pager(header, prefetch);
  vm_start(&vm, &(struct vm_start){.mode = "uffd",
                                   .pager_socket = path_of("pager.sock"),
                                   .is_restore = true,
                                   .uid = VMM_UID});
  ask_pager("ready\n", answer, sizeof answer);
  vm_load(&vm, path_of(state));
  expect_it_goes_on(prefetch == NULL ? "uffd" : "uffd, prefetch", start);
  ask_pager("stats\n", answer, sizeof answer);
  (void)printf("# %s", answer);
  return number_in(answer, "\"faults\":");
}

static uint64_t faults_without_prefetch;

static void a_restore_by_the_pager_goes_on_from_two_layers(void) {
  pid_t pager;
  uint64_t mapping[3];
  uint64_t counts[WRENN_PAGES_COUNTS];
  char text[256];
  assert(chown(vm.directory, PAGER_UID, PAGER_UID) == 0);
  faults_without_prefetch = restore_by_pager("g1/memory.header", "state1", NULL, &pager);
  assert(faults_without_prefetch > 0);

  double start = now_ms();
  uint64_t bytes = vm_save(&vm, path_of("state2"));
  (void)printf("# third pause, after a restore by the pager: %" PRIu64 " bytes, %.1f ms\n", bytes,
               now_ms() - start);
  assert(bytes < STATE_BYTES_MAX);
  paused_at = vm_wait_tick(&vm, 0);
  char answer[1024];
  ask_pager("removed\n", answer, sizeof answer);
  ask_pager("regions\n", answer, sizeof answer);
  mapping[0] = number_in(answer, "\"address\":");
  struct wrenn_pages_target target = generation("g2", "g1", 0xa2);
  start = now_ms();
  assert(wrenn_pages_seal_process(
             &(struct wrenn_process_memory){
                 .pid = vm.process, .address = mapping[0], .total_bytes = VM_MEMORY_BYTES},
             path_of("removed"), &target, counts, text, sizeof text) == 0);
  report("third generation", counts, now_ms() - start);
  assert(counts[WRENN_PAGES_UNCHANGED] > 0 && counts[WRENN_PAGES_READ] < VM_MEMORY_BYTES / 2);
  vm_kill(&vm);
  end_pager(pager);
}

static void a_prefetched_working_set_saves_most_faults_of_the_next_resume(void) {
  pid_t pager;
  uint64_t faults = restore_by_pager("g2/memory.header", "state2", "working-set", &pager);
  (void)printf("# faults: %" PRIu64 " without, %" PRIu64 " with prefetch\n",
               faults_without_prefetch, faults);
  assert(faults * 2 <= faults_without_prefetch);
  vm_kill(&vm);
  end_pager(pager);
}

/* The guest checks all of its memory, so a page that the short stop missed would be found. */
static void a_guest_that_is_saved_while_it_runs_stands_still_for_little(void) {
  uint64_t mapping[3];
  uint64_t counts[WRENN_PAGES_COUNTS];
  char text[256];
  paused_at = (struct tick){0};
  vm_start(&vm, &(struct vm_start){.mode = "private", .is_restore = true, .uid = VMM_UID});
  vm_load(&vm, path_of("state0"));
  (void)vm_wait_tick(&vm, TICKS);
  assert(wrenn_pages_find_mapping(vm.process, vm.ram, 0, mapping) == 0);
  int32_t tracked = wrenn_pages_track(vm.process, mapping[0], VM_MEMORY_BYTES);
  if (tracked == -EOPNOTSUPP) {
    (void)printf("# this kernel does not note writes: Linux 6.7 does\n");
    vm_kill(&vm);
    return;
  }
  assert(tracked == 0);
  struct wrenn_pages_target target = generation("draft", "g0", 0xd0);
  assert(wrenn_pages_seal_process(
             &(struct wrenn_process_memory){
                 .pid = vm.process, .address = mapping[0], .total_bytes = VM_MEMORY_BYTES},
             "", &target, counts, text, sizeof text) == 0);
  report("while it runs", counts, 0);
  (void)usleep(300000);

  double start = now_ms();
  (void)vm_save(&vm, path_of("state3"));
  paused_at = vm_wait_tick(&vm, 0);
  target = generation("g3", "draft", 0xd1);
  assert(wrenn_pages_seal_written(
             &(struct wrenn_process_memory){
                 .pid = vm.process, .address = mapping[0], .total_bytes = VM_MEMORY_BYTES},
             &target, counts, text, sizeof text) == 0);
  report("while it stands still, its device state included", counts, now_ms() - start);
  assert(counts[WRENN_PAGES_READ] < VM_MEMORY_BYTES / 32);
  vm_kill(&vm);
  assert(unlink(vm.ram) == 0);
  assert(wrenn_pages_flatten(path_of("g3/memory.header"), layers_of("g3"), vm.ram, text,
                             sizeof text) == 0);
  assert(chown(vm.ram, VMM_UID, VMM_UID) == 0);

  start = now_ms();
  vm_start(&vm, &(struct vm_start){.mode = "private", .is_restore = true, .uid = VMM_UID});
  vm_load(&vm, path_of("state3"));
  expect_it_goes_on("saved while it ran", start);
  vm_kill(&vm);
}

static void a_pager_that_is_killed_leaves_a_guest_that_waits(void) {
  pid_t pager;
  int status;
  (void)restore_by_pager("g2/memory.header", "state2", NULL, &pager);
  assert(kill(pager, SIGKILL) == 0 && waitpid(pager, &status, 0) == pager);
  struct tick then = vm_wait_tick(&vm, 0);
  (void)usleep(1000000);
  struct tick later = vm_wait_tick(&vm, 0);
  assert(then.wrong == 0 && later.wrong == 0);
  vm_kill(&vm);
}

int main(int argc, char **argv) {
  assert(argc == 3 && getenv("WRENN_PAGER") != NULL && getenv("WRENN_PRELOAD") != NULL);
  vm_make(&vm, argv[1], argv[2]);
  RUN(a_guest_boots_with_its_memory_in_a_file_and_is_paused);
  RUN(a_private_restore_goes_on_and_leaves_the_file_alone);
  RUN(a_second_pause_saves_as_little_and_its_pages_are_read_from_the_process);
  RUN(a_restore_by_the_pager_goes_on_from_two_layers);
  RUN(a_prefetched_working_set_saves_most_faults_of_the_next_resume);
  RUN(a_guest_that_is_saved_while_it_runs_stands_still_for_little);
  RUN(a_pager_that_is_killed_leaves_a_guest_that_waits);
  vm_remove(&vm);
  return 0;
}
