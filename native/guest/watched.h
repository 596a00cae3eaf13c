/* The directories of a watch, by their watch descriptors, and what has been told of their content.
 */
#ifndef WRENN_GUEST_WATCHED_H
#define WRENN_GUEST_WATCHED_H

#include <stdbool.h>
#include <stddef.h>

/* The kernel counts watch descriptors up, so that they spread evenly. */
enum { WATCHED_BUCKETS = 1024 };

/* A name that a scan has told and whose IN_CREATE may still be in the kernel's queue. */
struct told {
  struct told *next;
  char name[];
};

struct directory {
  struct directory *next;
  int watch;
  struct told *told;
  /* Relative to the root, "" for the root itself. */
  char path[];
};

struct watched {
  int inotify;
  size_t count;
  /* Whether any directory remembers told names. */
  bool has_told;
  struct directory *buckets[WATCHED_BUCKETS];
};

struct directory *watched_find(const struct watched *watched, int watch);

/* Takes the directory in, in place of one with the same descriptor. NULL without memory. */
struct directory *watched_add(struct watched *watched, int watch, const char *path);

void watched_drop(struct watched *watched, struct directory *directory);

/* Stops watching a directory that has left the tree, and all below it. */
void watched_abandon(struct watched *watched, const char *path);

/* Without memory a name is told twice, which is better than never. */
void watched_remember(struct watched *watched, struct directory *directory, const char *name);

/* Removes the name from what has been told; whether it was there. */
bool watched_take(struct directory *directory, const char *name);

/* With an empty queue no IN_CREATE of a name that a scan has told can come any more. */
void watched_forget_all(struct watched *watched);

#endif
