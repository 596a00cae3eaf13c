/*
 * watch: `watch [--recursive] <directory>` tells what happens in a directory until its standard
 * input ends, as a sequence of NUL-terminated records on standard output: one letter, then the path
 * relative to the directory. The directory is given as envd/file-names.ts shows it.
 *
 *   S  the watch stands; what happens from now on is told. Has no path.
 *   C  made, or moved here        W  content changed       A  attributes changed
 *   D  removed                    R  moved away            O  the kernel dropped events; no path
 *
 * With --recursive, directories that appear are watched at once and what they hold already is told
 * as made, once. Links are never followed. Files of uploads that are not in their place yet are not
 * told; a file whose place one takes is told as written. When the directory itself goes away the
 * output ends after a record D with an empty path. A directory that cannot be watched at the start
 * is one sentence on stderr and an exit status that is the errno.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* See envd/files/staged-file.ts. */
static const char PASSING_PREFIX[] = ".wrenn-upload-";

enum { EVENT_BUFFER_BYTES = 64 * 1024, OUTPUT_BUFFER_BYTES = 64 * 1024 };

/* The kernel counts watch descriptors up, so that they spread evenly. */
enum { BUCKETS = 1024 };

static const uint32_t CHANGES = IN_CREATE | IN_MOVED_TO | IN_MODIFY | IN_DELETE | IN_MOVED_FROM |
                                IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR |
                                IN_DONT_FOLLOW | IN_EXCL_UNLINK;

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

struct watcher {
  int inotify;
  const char *root;
  bool is_recursive;
  bool is_over;
  /* Whether any directory remembers told names. */
  bool has_told;
  /* Of the passing name that was moved last. */
  uint32_t passing_cookie;
  /* By watch descriptor. */
  struct directory *buckets[BUCKETS];
};

static void tell(char letter, const char *directory, const char *name) {
  putchar(letter);
  fputs(directory, stdout);
  if (*directory != '\0' && *name != '\0') putchar('/');
  fputs(name, stdout);
  putchar('\0');
}

static void forget_told(struct directory *directory) {
  while (directory->told != NULL) {
    struct told *told = directory->told;

    directory->told = told->next;
    free(told);
  }
}

/* Removes the name from what has been told; whether it was there. */
static bool take_told(struct directory *directory, const char *name) {
  for (struct told **at = &directory->told; *at != NULL; at = &(*at)->next) {
    struct told *told = *at;

    if (strcmp(told->name, name) != 0) continue;
    *at = told->next;
    free(told);
    return true;
  }
  return false;
}

static void remember_told(struct watcher *watcher, struct directory *directory, const char *name) {
  size_t size = strlen(name) + 1;
  struct told *told = malloc(sizeof(*told) + size);

  /* Without memory a name is told twice, which is better than never. */
  if (told == NULL) return;
  memcpy(told->name, name, size);
  told->next = directory->told;
  directory->told = told;
  watcher->has_told = true;
}

static struct directory **bucket_of(struct watcher *watcher, int watch) {
  return &watcher->buckets[(unsigned int)watch % BUCKETS];
}

static struct directory *find_directory(struct watcher *watcher, int watch) {
  for (struct directory *at = *bucket_of(watcher, watch); at != NULL; at = at->next)
    if (at->watch == watch) return at;
  return NULL;
}

static void drop_directory(struct watcher *watcher, struct directory *directory) {
  struct directory **at = bucket_of(watcher, directory->watch);

  while (*at != directory) at = &(*at)->next;
  *at = directory->next;
  forget_told(directory);
  free(directory);
}

static bool is_within(const char *path, const char *above) {
  size_t length = strlen(above);

  return strncmp(path, above, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* Stops watching a directory that has left the tree, and all below it. */
static void abandon(struct watcher *watcher, const char *path) {
  struct directory *next;

  for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
    for (struct directory *at = watcher->buckets[bucket]; at != NULL; at = next) {
      next = at->next;
      if (!is_within(at->path, path)) continue;
      (void)inotify_rm_watch(watcher->inotify, at->watch);
      drop_directory(watcher, at);
    }
  }
}

/* With an empty queue no IN_CREATE of a name that a scan has told can come any more. */
static void forget_all_told(struct watcher *watcher) {
  for (size_t bucket = 0; bucket < BUCKETS; bucket++)
    for (struct directory *at = watcher->buckets[bucket]; at != NULL; at = at->next)
      forget_told(at);
  watcher->has_told = false;
}

static char *join(const char *above, const char *name) {
  char *path;

  if (*above == '\0') return strdup(name);
  return asprintf(&path, "%s/%s", above, name) < 0 ? NULL : path;
}

static bool is_passing(const char *name) {
  return strncmp(name, PASSING_PREFIX, sizeof(PASSING_PREFIX) - 1) == 0;
}

/* The kernel calls a file without a name "#" and its inode's number. */
static bool is_unnamed(const struct watcher *watcher, const struct directory *directory,
                       const char *name) {
  char *path;
  char *full;
  bool is_there;

  if (name[0] != '#' || name[1 + strspn(name + 1, "0123456789")] != '\0') return false;
  path = join(directory->path, name);
  full = path == NULL ? NULL : join(watcher->root, path);
  is_there = full != NULL && faccessat(AT_FDCWD, full, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  free(full);
  free(path);
  return !is_there;
}

/* Whether an upload causes the event before its file is in place, or when it takes another's. */
static bool is_untold(struct watcher *watcher, const struct directory *directory,
                      const struct inotify_event *event) {
  if (event->len == 0) return false;
  if (event->mask & IN_MOVED_TO && event->cookie == watcher->passing_cookie) return true;
  if (is_passing(event->name) && event->mask & IN_MOVED_FROM)
    watcher->passing_cookie = event->cookie;
  return is_passing(event->name) || is_unnamed(watcher, directory, event->name);
}

static int watch_tree(struct watcher *watcher, const char *path, bool is_told);

/* Watches the directories in this one, telling what it holds when asked to. */
static void scan(struct watcher *watcher, struct directory *directory, bool is_told) {
  char *full = join(watcher->root, directory->path);
  DIR *stream = full == NULL ? NULL : opendir(full);
  /* Watching a child may replace this entry of the list, not the path. */
  char *path = strdup(directory->path);
  int watch = directory->watch;
  struct dirent *entry;

  while (stream != NULL && path != NULL && (entry = readdir(stream)) != NULL) {
    const char *name = entry->d_name;
    char *child;

    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || is_passing(name)) continue;
    if (is_told) {
      struct directory *current = find_directory(watcher, watch);

      tell('C', path, name);
      if (current != NULL) remember_told(watcher, current, name);
    }
    if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) continue;
    child = join(path, name);
    if (child != NULL) (void)watch_tree(watcher, child, is_told);
    free(child);
  }
  if (stream != NULL) closedir(stream);
  free(path);
  free(full);
}

/* Watches the directory and, if recursive, all below it. -errno: it cannot be watched itself. */
static int watch_tree(struct watcher *watcher, const char *path, bool is_told) {
  char *full = join(watcher->root, path);
  size_t size = strlen(path) + 1;
  struct directory *directory;
  int watch;

  if (full == NULL) return -ENOMEM;
  watch = inotify_add_watch(watcher->inotify, full, CHANGES);
  free(full);
  if (watch < 0) return -errno;

  /* The same directory under another path: it has moved. */
  directory = find_directory(watcher, watch);
  if (directory != NULL) drop_directory(watcher, directory);
  directory = malloc(sizeof(*directory) + size);
  if (directory == NULL) return -ENOMEM;
  memcpy(directory->path, path, size);
  directory->watch = watch;
  directory->told = NULL;
  directory->next = *bucket_of(watcher, watch);
  *bucket_of(watcher, watch) = directory;
  if (watcher->is_recursive) scan(watcher, directory, is_told);
  return 0;
}

static void appear(struct watcher *watcher, struct directory *directory,
                   const struct inotify_event *event) {
  char *path;

  /* A scan that has told the name has watched the directory as well. */
  if (take_told(directory, event->name)) return;
  tell('C', directory->path, event->name);
  if (!watcher->is_recursive || !(event->mask & IN_ISDIR)) return;
  path = join(directory->path, event->name);
  if (path != NULL) (void)watch_tree(watcher, path, true);
  free(path);
}

static void vanish(struct watcher *watcher, struct directory *directory,
                   const struct inotify_event *event, char letter) {
  char *path;

  (void)take_told(directory, event->name);
  tell(letter, directory->path, event->name);
  if (!(event->mask & IN_ISDIR)) return;
  path = join(directory->path, event->name);
  if (path != NULL) abandon(watcher, path);
  free(path);
}

static void handle(struct watcher *watcher, const struct inotify_event *event) {
  struct directory *directory = find_directory(watcher, event->wd);

  if (event->mask & IN_Q_OVERFLOW) tell('O', "", "");
  if (directory == NULL) return;
  if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT) && *directory->path == '\0') {
    tell('D', "", "");
    watcher->is_over = true;
  } else if (event->mask & IN_IGNORED) {
    drop_directory(watcher, directory);
  } else if (event->len == 0) {
    /* A directory's own attributes are told by the one above it. */
  } else if (is_untold(watcher, directory, event)) {
    /* Its place is told once the content is there. */
  } else if (event->mask & (IN_CREATE | IN_MOVED_TO)) {
    appear(watcher, directory, event);
  } else if (event->mask & IN_DELETE) {
    vanish(watcher, directory, event, 'D');
  } else if (event->mask & IN_MOVED_FROM) {
    vanish(watcher, directory, event, 'R');
  } else if (event->mask & IN_MODIFY) {
    tell('W', directory->path, event->name);
  } else if (event->mask & IN_ATTRIB) {
    tell('A', directory->path, event->name);
  }
}

/* Handles what the kernel has queued. -errno on failure. */
static int handle_queued(struct watcher *watcher) {
  static char buffer[EVENT_BUFFER_BYTES] __attribute__((aligned(8)));
  ssize_t got = read(watcher->inotify, buffer, sizeof(buffer));

  if (got < 0) return errno == EINTR || errno == EAGAIN ? 0 : -errno;
  for (ssize_t at = 0; at < got && !watcher->is_over;) {
    const struct inotify_event *event = (const struct inotify_event *)(buffer + at);

    handle(watcher, event);
    at += (ssize_t)(sizeof(*event) + event->len);
  }
  return 0;
}

static int run(struct watcher *watcher) {
  struct pollfd fds[] = {
      {.fd = watcher->inotify, .events = POLLIN},
      {.fd = STDIN_FILENO, .events = POLLIN},
  };

  while (!watcher->is_over) {
    int ready = poll(fds, 2, 0);

    if (ready == 0) {
      if (watcher->has_told) forget_all_told(watcher);
      if (fflush(stdout) != 0) return -errno;
      ready = poll(fds, 2, -1);
    }
    if (ready < 0 && errno != EINTR) return -errno;
    if (fds[1].revents != 0) return 0;
    if (fds[0].revents != 0) {
      int result = handle_queued(watcher);

      if (result < 0) return result;
    }
  }
  return fflush(stdout) == 0 ? 0 : -errno;
}

/* Puts single bytes for the characters U+EF80 to U+EFFF, which stand for 0x80 to 0xff. */
static void read_shown(char *path) {
  const unsigned char *from = (const unsigned char *)path;
  unsigned char *to = (unsigned char *)path;

  while (*from != '\0') {
    if (from[0] == 0xee && (from[1] == 0xbe || from[1] == 0xbf) && from[2] >= 0x80) {
      *to++ = (unsigned char)(from[2] + (from[1] == 0xbf ? 0x40 : 0));
      from += 3;
    } else {
      *to++ = *from++;
    }
  }
  *to = '\0';
}

int main(int argc, char **argv) {
  static char output[OUTPUT_BUFFER_BYTES];
  static struct watcher watcher;
  int result;

  if (argc < 2 || argc > 3) return EINVAL;
  read_shown(argv[argc - 1]);
  watcher.root = argv[argc - 1];
  watcher.is_recursive = argc == 3 && strcmp(argv[1], "--recursive") == 0;
  (void)setvbuf(stdout, output, _IOFBF, sizeof(output));
  watcher.inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  result = watcher.inotify < 0 ? -errno : watch_tree(&watcher, "", false);
  if (result == 0) {
    tell('S', "", "");
    result = run(&watcher);
  }
  if (result < 0) fprintf(stderr, "watch: %s: %s\n", watcher.root, strerror(-result));
  return -result;
}
