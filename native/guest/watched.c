#include "watched.h"

#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

static struct directory **bucket_of(struct watched *watched, int watch) {
  return &watched->buckets[(unsigned int)watch % WATCHED_BUCKETS];
}

struct directory *watched_find(const struct watched *watched, int watch) {
  struct directory *at = watched->buckets[(unsigned int)watch % WATCHED_BUCKETS];

  while (at != NULL && at->watch != watch) at = at->next;
  return at;
}

struct directory *watched_add(struct watched *watched, int watch, const char *path) {
  struct directory *directory = watched_find(watched, watch);
  size_t size = strlen(path) + 1;

  /* The same directory under another path: it has moved. */
  if (directory != NULL) watched_drop(watched, directory);
  directory = malloc(sizeof(*directory) + size);
  if (directory == NULL) return NULL;
  memcpy(directory->path, path, size);
  directory->watch = watch;
  directory->told = NULL;
  directory->next = *bucket_of(watched, watch);
  *bucket_of(watched, watch) = directory;
  watched->count++;
  return directory;
}

static void forget(struct directory *directory) {
  while (directory->told != NULL) {
    struct told *told = directory->told;

    directory->told = told->next;
    free(told);
  }
}

void watched_drop(struct watched *watched, struct directory *directory) {
  struct directory **at = bucket_of(watched, directory->watch);

  while (*at != directory) at = &(*at)->next;
  *at = directory->next;
  forget(directory);
  free(directory);
  watched->count--;
}

static bool is_within(const char *path, const char *above) {
  size_t length = strlen(above);

  return strncmp(path, above, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

void watched_abandon(struct watched *watched, const char *path) {
  struct directory *next;

  for (size_t bucket = 0; bucket < WATCHED_BUCKETS; bucket++) {
    for (struct directory *at = watched->buckets[bucket]; at != NULL; at = next) {
      next = at->next;
      if (!is_within(at->path, path)) continue;
      (void)inotify_rm_watch(watched->inotify, at->watch);
      watched_drop(watched, at);
    }
  }
}

void watched_remember(struct watched *watched, struct directory *directory, const char *name) {
  size_t size = strlen(name) + 1;
  struct told *told = malloc(sizeof(*told) + size);

  if (told == NULL) return;
  memcpy(told->name, name, size);
  told->next = directory->told;
  directory->told = told;
  watched->has_told = true;
}

bool watched_take(struct directory *directory, const char *name) {
  for (struct told **at = &directory->told; *at != NULL; at = &(*at)->next) {
    struct told *told = *at;

    if (strcmp(told->name, name) != 0) continue;
    *at = told->next;
    free(told);
    return true;
  }
  return false;
}

void watched_forget_all(struct watched *watched) {
  for (size_t bucket = 0; bucket < WATCHED_BUCKETS; bucket++)
    for (struct directory *at = watched->buckets[bucket]; at != NULL; at = at->next) forget(at);
  watched->has_told = false;
}
