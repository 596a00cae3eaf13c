#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "descriptor.h"
#include "wrenn.h"

enum { PAGE_BYTES = 4096 };

/* A line of /proc/<pid>/maps: "7f..-7f.. rw-p 00000000 00:1f 1234   /path". */
struct mapping {
  uint64_t start, end, offset, inode;
  unsigned device_major, device_minor;
};

static bool read_mapping(FILE *maps, struct mapping *ret_mapping) {
  char line[8192];
  struct mapping read;
  while (fgets(line, sizeof line, maps) != NULL) {
    char access[5];
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &read.start,
               &read.end, access, &read.offset, &read.device_major, &read.device_minor,
               &read.inode) != 7) {
      continue;
    }
    *ret_mapping = read;
    return true;
  }
  return false;
}

static bool is_same_file(const struct mapping *a, const struct mapping *b) {
  return a->inode == b->inode && a->device_major == b->device_major &&
         a->device_minor == b->device_minor;
}

/*
 * How the kernel names a file in maps, seen on a mapping of our own: there the device is the file
 * system's, which on btrfs is another than stat's, that of the subvolume.
 */
static int32_t name_file(const char *path, struct mapping *ret_name) {
  AUTO_FD file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -errno;
  FILE *maps = fopen("/proc/self/maps", "re");
  if (maps == NULL) return -errno;
  void *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE, file, 0);
  int32_t result = page == MAP_FAILED ? -errno : -ENXIO;
  struct mapping mapping;
  while (result == -ENXIO && read_mapping(maps, &mapping)) {
    if ((uintptr_t)page < mapping.start || (uintptr_t)page >= mapping.end) continue;
    *ret_name = mapping;
    result = 0;
  }
  (void)fclose(maps);
  if (page != MAP_FAILED) (void)munmap(page, PAGE_BYTES);
  return result;
}

static int32_t open_maps(int32_t pid, FILE **ret_maps) {
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/%" PRId32 "/maps", pid);
  *ret_maps = fopen(path, "re");
  if (*ret_maps != NULL) return 0;
  return errno == ENOENT ? -ESRCH : -errno;
}

int32_t wrenn_pages_find_mapping(int32_t pid, const char *path, uint64_t offset,
                                 uint64_t ret_mapping[2]) {
  struct mapping name = {0};
  int32_t result = name_file(path, &name);
  if (result < 0) return result;
  FILE *maps;
  result = open_maps(pid, &maps);
  if (result < 0) return result;
  struct mapping mapping;
  struct mapping largest = {0};
  while (read_mapping(maps, &mapping)) {
    bool is_larger = mapping.end - mapping.start > largest.end - largest.start;
    if (mapping.offset != offset || !is_same_file(&mapping, &name)) continue;
    if (is_larger) largest = mapping;
  }
  (void)fclose(maps);
  if (largest.end == 0) return -ENXIO;
  ret_mapping[0] = largest.start;
  ret_mapping[1] = largest.end - largest.start;
  return 0;
}
