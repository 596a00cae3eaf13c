/* Who waits for a page that comes from elsewhere, with a real userfaultfd. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "pager/tests/support/rig.h"
#include "tests/run.h"

enum { PAGE = MEMORY_BLOCK_BYTES, PAGES = 64, PAGE_READ = 5 };

static bool is_as_saved(const struct guest *guest, uint64_t page) {
  return memcmp(guest->memory + page * PAGE, guest->expected + page * PAGE, PAGE) == 0;
}

static bool is_stopped(pid_t pid) {
  char path[32], stat[256] = "";
  (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t length = read(fd, stat, sizeof(stat) - 1);
  close(fd);
  const char *name_end = length > 0 ? strrchr(stat, ')') : NULL;
  return name_end != NULL && name_end[2] == 'T';
}

static void *read_the_page(void *context) {
  return is_as_saved(context, PAGE_READ) ? NULL : context;
}

/* While its fault waits for the pager the page comes from elsewhere, and nobody is woken. */
static int read_what_came_meanwhile(struct guest *guest) {
  pid_t pager = guest->rig->pager;
  if (kill(pager, SIGSTOP) < 0) return 1;
  while (!is_stopped(pager)) sched_yield();
  pthread_t reader;
  if (pthread_create(&reader, NULL, read_the_page, guest) != 0) return 2;
  struct pollfd faults = {.fd = guest->uffd, .events = POLLIN};
  if (poll(&faults, 1, 10000) != 1) return 3;
  struct uffdio_copy copy = {
      .dst = (uintptr_t)guest->memory + PAGE_READ * PAGE,
      .src = (uintptr_t)guest->expected + PAGE_READ * PAGE,
      .len = PAGE,
      .mode = UFFDIO_COPY_MODE_DONTWAKE,
  };
  if (ioctl(guest->uffd, UFFDIO_COPY, &copy) < 0) return 4;
  if (kill(pager, SIGCONT) < 0) return 5;
  struct timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += 10;
  void *result;
  if (pthread_timedjoin_np(reader, &result, &deadline) != 0) return 6;
  return result == NULL ? 0 : 7;
}

static void who_waits_for_a_page_that_is_there_is_woken(void) {
  struct rig rig;
  rig_make(&rig, PAGES);
  rig_option(&rig, "--window-kib", "4");
  rig_start_pager(&rig);
  rig_start_vmm(&rig, read_what_came_meanwhile);
  assert(rig_wait(rig.vmm) == 0);
  assert(rig_end_pager(&rig) == 0);
  rig_remove(&rig);
}

int main(void) {
  RUN(who_waits_for_a_page_that_is_there_is_woken);
  return 0;
}
