/* Preloaded into mke2fs -d: makes the times it sees the image's, so that the same tree gives the
 * same bytes. mke2fs copies atime, mtime and ctime of each file and asks the clock for its own.
 *
 * WRENN_EPOCH is the image's date in seconds. A file keeps its time of change if that is older; its
 * other times, which depend on the build, become its time of change. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

static time_t epoch(void) {
  static time_t value;
  if (value == 0) {
    const char *text = getenv("WRENN_EPOCH");
    value = text == NULL ? 0 : (time_t)strtoll(text, NULL, 10);
    if (value <= 0) abort(); /* An image with the times of the build would go unnoticed. */
  }
  return value;
}

static void settle(struct stat64 *info) {
  if (info->st_mtim.tv_sec >= epoch()) info->st_mtim.tv_sec = epoch();
  info->st_mtim.tv_nsec = 0;
  info->st_atim = info->st_mtim;
  info->st_ctim = info->st_mtim;
}

int lstat64(const char *path, struct stat64 *ret_info) {
  int (*next)(const char *, struct stat64 *);
  *(void **)&next = dlsym(RTLD_NEXT, "lstat64");
  int result = next(path, ret_info);
  if (result == 0) settle(ret_info);
  return result;
}

time_t time(time_t *ret_now) {
  if (ret_now != NULL) *ret_now = epoch();
  return epoch();
}

int gettimeofday(struct timeval *restrict ret_now, void *restrict zone) {
  (void)zone;
  ret_now->tv_sec = epoch();
  ret_now->tv_usec = 0;
  return 0;
}
