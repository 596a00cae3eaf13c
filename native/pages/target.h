/* Where generations are read from and written to: shared by sealing and merging. */
#ifndef WRENN_PAGES_TARGET_H
#define WRENN_PAGES_TARGET_H

#include "memory.h"
#include "wrenn.h"

enum { PAGES_PATH_BYTES = 4096 };

struct pages_paths {
  char layer[PAGES_PATH_BYTES];
  char header[PAGES_PATH_BYTES];
};

/* The paths of the two files of a new generation. -ENAMETOOLONG. */
int32_t pages_paths_of(const struct wrenn_pages_target *target, struct pages_paths *ret_paths);

/*
 * memory_open with directories one per line. -E2BIG: more than 16 of them; errors of memory_open.
 */
int32_t pages_open_memory(const char *header, const char *layer_directories,
                          struct memory *ret_memory, struct failure *failure);

/* Writes a new header and syncs it. On failure nothing is left behind. -EEXIST, -ENOSPC, … */
int32_t pages_write_header(const struct memory_index *index, const char *path);

int32_t pages_sync_directory(const char *directory);

#endif
