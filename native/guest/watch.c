/*
 * watch: `watch [--recursive] <count> <directory>` tells what happens in a directory until its
 * standard input ends, as a sequence of NUL-terminated records on standard output: one letter, then
 * the path relative to the directory. The directory is given as envd/file-names.ts shows it.
 *
 *   S  the watch stands; what happens from now on is told. Has no path.
 *   C  made, or moved here        W  content changed       A  attributes changed
 *   D  removed                    R  moved away            O  the kernel dropped events; no path
 *   L  of this directory, and of what lies below it, nothing is told: no more can be watched
 *
 * With --recursive, directories that appear are watched at once and what they hold already is told
 * as made, once. Links are never followed. Files of uploads that are not in their place yet are not
 * told; a file whose place one takes is told as written. When the directory itself goes away the
 * output ends after a record D with an empty path. A directory that cannot be watched at the start
 * is one sentence on stderr and an exit status that is the errno, ENOSPC when there are more than
 * `count` directories or than the kernel allows.
 *
 * What it watches the kernel counts for a user of its own (inotify(7)), not for root, whose
 * programs in the guest have the same number once more.
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
#include <sys/syscall.h>
#include <unistd.h>

#include "watched.h"

/* See envd/files/staged-file.ts. */
static const char PASSING_PREFIX[] = ".wrenn-upload-";

enum { EVENT_BUFFER_BYTES = 64 * 1024, OUTPUT_BUFFER_BYTES = 64 * 1024 };

/* A number that images give nobody; there need not be such a user. */
enum { WATCHING_UID = 2000049983 };

/* Of <linux/capability.h>, which musl does not carry. */
enum { CAPABILITY_VERSION_3 = 0x20080522, CAP_DAC_READ_SEARCH = 2 };

static const uint32_t CHANGES = IN_CREATE | IN_MOVED_TO | IN_MODIFY | IN_DELETE | IN_MOVED_FROM |
                                IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR |
                                IN_DONT_FOLLOW | IN_EXCL_UNLINK;

struct watcher {
  struct watched watched;
  const char *root;
  size_t count_max;
  bool is_recursive;
  bool is_started;
  bool is_over;
  /* Of the passing name that was moved last. */
  uint32_t passing_cookie;
};

static void tell(char letter, const char *directory, const char *name) {
  putchar(letter);
  fputs(directory, stdout);
  if (*directory != '\0' && *name != '\0') putchar('/');
  fputs(name, stdout);
  putchar('\0');
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
static bool is_unnamed(const struct watcher *watcher, const char *above, const char *name) {
  char *path;
  char *full;
  bool is_there;

  if (name[0] != '#' || name[1 + strspn(name + 1, "0123456789")] != '\0') return false;
  path = join(above, name);
  full = path == NULL ? NULL : join(watcher->root, path);
  is_there = full != NULL && faccessat(AT_FDCWD, full, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  free(full);
  free(path);
  return !is_there;
}

/* Whether an upload causes the event before its file is in its place, or when it takes another's.
 */
static bool is_untold(struct watcher *watcher, const struct directory *directory,
                      const struct inotify_event *event) {
  if (event->mask & IN_MOVED_TO && event->cookie == watcher->passing_cookie) return true;
  if (is_passing(event->name) && event->mask & IN_MOVED_FROM)
    watcher->passing_cookie = event->cookie;
  return is_passing(event->name) || is_unnamed(watcher, directory->path, event->name);
}

static int watch_tree(struct watcher *watcher, const char *path);

/*
 * Watches what lies below a directory that is watched, and once the watch has started tells all
 * that the directory holds. -errno before that, when there is more than can be watched.
 */
static int scan(struct watcher *watcher, const char *path, int watch) {
  char *full = join(watcher->root, path);
  DIR *stream = full == NULL ? NULL : opendir(full);
  struct dirent *entry;
  int result = 0;

  while (result == 0 && stream != NULL && (entry = readdir(stream)) != NULL) {
    const char *name = entry->d_name;
    char *child;

    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || is_passing(name)) continue;
    if (watcher->is_started) {
      struct directory *current = watched_find(&watcher->watched, watch);

      tell('C', path, name);
      if (current != NULL) watched_remember(&watcher->watched, current, name);
    }
    if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) continue;
    child = join(path, name);
    if (child != NULL) result = watch_tree(watcher, child);
    free(child);
  }
  if (stream != NULL) closedir(stream);
  free(full);
  return result;
}

/* The watch descriptor, or -errno. */
static int add_watch(const struct watcher *watcher, const char *path) {
  char *full;
  int watch;

  if (watcher->watched.count >= watcher->count_max) return -ENOSPC;
  full = join(watcher->root, path);
  if (full == NULL) return -ENOMEM;
  watch = inotify_add_watch(watcher->watched.inotify, full, CHANGES);
  if (watch < 0) watch = -errno;
  free(full);
  return watch;
}

/*
 * Watches the directory and, if recursive, all below it. -errno when it cannot be watched, and not
 * for the directory's own sake, who may have gone or be none: that counts for the root only.
 */
static int watch_tree(struct watcher *watcher, const char *path) {
  int watch = add_watch(watcher, path);

  if (watch >= 0 && watched_add(&watcher->watched, watch, path) == NULL) watch = -ENOMEM;
  if (watch >= 0) return watcher->is_recursive ? scan(watcher, path, watch) : 0;
  if (*path != '\0' && watch != -ENOSPC && watch != -ENOMEM) return 0;
  if (!watcher->is_started) return watch;
  tell('L', path, "");
  return 0;
}

static void appear(struct watcher *watcher, struct directory *directory,
                   const struct inotify_event *event) {
  char *path;

  /* A scan that has told the name has watched the directory as well. */
  if (watched_take(directory, event->name)) return;
  tell('C', directory->path, event->name);
  if (!watcher->is_recursive || !(event->mask & IN_ISDIR)) return;
  path = join(directory->path, event->name);
  if (path != NULL) (void)watch_tree(watcher, path);
  free(path);
}

static void vanish(struct watcher *watcher, struct directory *directory,
                   const struct inotify_event *event, char letter) {
  char *path;

  (void)watched_take(directory, event->name);
  tell(letter, directory->path, event->name);
  if (!(event->mask & IN_ISDIR)) return;
  path = join(directory->path, event->name);
  if (path != NULL) watched_abandon(&watcher->watched, path);
  free(path);
}

static void handle_named(struct watcher *watcher, struct directory *directory,
                         const struct inotify_event *event) {
  if (is_untold(watcher, directory, event)) return;
  if (event->mask & (IN_CREATE | IN_MOVED_TO)) {
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

static void handle(struct watcher *watcher, const struct inotify_event *event) {
  struct directory *directory = watched_find(&watcher->watched, event->wd);

  if (event->mask & IN_Q_OVERFLOW) tell('O', "", "");
  if (directory == NULL) return;
  if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT) && *directory->path == '\0') {
    tell('D', "", "");
    watcher->is_over = true;
  } else if (event->mask & IN_IGNORED) {
    watched_drop(&watcher->watched, directory);
  } else if (event->len > 0) {
    /* What has no name are the directory's own attributes, which the one above it tells. */
    handle_named(watcher, directory, event);
  }
}

/* Handles what the kernel has queued. -errno on failure. */
static int handle_queued(struct watcher *watcher) {
  static char buffer[EVENT_BUFFER_BYTES] __attribute__((aligned(8)));
  ssize_t got = read(watcher->watched.inotify, buffer, sizeof(buffer));

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
      {.fd = watcher->watched.inotify, .events = POLLIN},
      {.fd = STDIN_FILENO, .events = POLLIN},
  };

  while (!watcher->is_over) {
    int ready = poll(fds, 2, 0);

    if (ready == 0) {
      if (watcher->watched.has_told) watched_forget_all(&watcher->watched);
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

/*
 * Becomes the user whose watches the kernel counts, with the one right that watching takes; root
 * stays the one whose they are in a namespace that has no such number.
 */
static int watch_apart(void) {
  struct {
    uint32_t version;
    int pid;
  } header = {.version = CAPABILITY_VERSION_3};
  struct {
    uint32_t effective;
    uint32_t permitted;
    uint32_t inheritable;
  } capabilities[2] = {
      {.effective = 1u << CAP_DAC_READ_SEARCH, .permitted = 1u << CAP_DAC_READ_SEARCH}};

  if (seteuid(WATCHING_UID) < 0) return errno == EINVAL ? 0 : -errno;
  return syscall(SYS_capset, &header, capabilities) < 0 ? -errno : 0;
}

static int start(struct watcher *watcher) {
  int result = watch_apart();

  if (result < 0) return result;
  watcher->watched.inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  result = watcher->watched.inotify < 0 ? -errno : watch_tree(watcher, "");
  if (result < 0) return result;
  watcher->is_started = true;
  tell('S', "", "");
  return 0;
}

int main(int argc, char **argv) {
  static char output[OUTPUT_BUFFER_BYTES];
  static struct watcher watcher;
  int result;

  if (argc < 3 || argc > 4) return EINVAL;
  read_shown(argv[argc - 1]);
  watcher.root = argv[argc - 1];
  watcher.count_max = strtoul(argv[argc - 2], NULL, 10);
  watcher.is_recursive = argc == 4 && strcmp(argv[1], "--recursive") == 0;
  (void)setvbuf(stdout, output, _IOFBF, sizeof(output));
  result = start(&watcher);
  if (result == 0) result = run(&watcher);
  if (result < 0) fprintf(stderr, "watch: %s: %s\n", watcher.root, strerror(-result));
  return -result;
}
