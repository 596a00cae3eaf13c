/*
 * A real directory, changed as the input says between what is read of the kernel's events. In the
 * end the tree as the records tell it is the tree that is there.
 */
int watch_main(int argc, char **argv);
#define main watch_main
#include "guest/watch.c"
#undef main

#include <ftw.h>
#include <sys/ioctl.h>

#include "fuzz.h"

enum { STEPS_MAX = 200, PATH_BYTES = 24, PATHS_MAX = 256 };
enum operation { MAKE_DIRECTORY, MAKE_FILE, RENAME, REMOVE, CHANGE_MODE, READ_EVENTS, OPERATIONS };

struct paths {
  char list[PATHS_MAX][PATH_BYTES];
  size_t count;
};

/* Beside one another in a directory that who runs this has made. */
static char root[PATH_MAX];
static char outside[PATH_MAX];
static int root_directory;
static int inotify;        /* one for all inputs: to end it takes milliseconds */
static struct paths found; /* by nftw, which has no argument for it */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place) {
  (void)status, (void)type, (void)place;
  return remove(path);
}

void fuzz_seeds(void) {
  /* mkdir a; mkdir a/a; make a/a/b; read; rename a to b; read; remove b/a/b */
  static const uint8_t MOVE[] = {0, 1, 0, 5, 1, 0x25, 5, 2, 1, 2, 5, 3, 0x26};
  /* mkdir a; read; mkdir b; rename a to b/a; read; make b/a/b; read */
  static const uint8_t NEST[] = {0, 1, 5, 0, 2, 2, 1, 6, 5, 1, 0x26, 5};
  /* mkdir a; mkdir a/b; read; rename a to outside; read; make a file in its b; read; and back */
  static const uint8_t LEAVE[] = {0, 1, 0, 9, 5, 2, 1, 0x81, 5, 1, 0xb9, 5, 2, 0x81, 3, 5};
  const char *base = getenv("TMPDIR");
  assert(base != NULL);
  (void)snprintf(root, sizeof root, "%s/root", base);
  (void)snprintf(outside, sizeof outside, "%s/outside", base);
  assert(mkdir(root, 0700) == 0 && mkdir(outside, 0700) == 0);
  root_directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  assert(root_directory >= 0 && inotify >= 0);
  fuzz_seed("move", MOVE, sizeof MOVE);
  fuzz_seed("nest", NEST, sizeof NEST);
  fuzz_seed("leave", LEAVE, sizeof LEAVE);
}

/* Two bits a name, from the top of the tree on: a, b and c; none ends it. The last: outside. */
static void path_of(uint8_t bits, char ret_path[PATH_BYTES]) {
  bool is_outside = bits >= 128 && (bits & 3) != 0;
  size_t size = (size_t)snprintf(ret_path, PATH_BYTES, "%s", is_outside ? "../outside/" : "");
  size_t start = size;
  for (int i = 0; i < 3 && (bits & 3) != 0; i++, bits >>= 2) {
    if (size > start) ret_path[size++] = '/';
    ret_path[size++] = (char)('a' + (bits & 3) - 1);
  }
  ret_path[size] = '\0';
}

static void add(struct paths *paths, const char *path) {
  for (size_t i = 0; i < paths->count; i++) {
    if (strcmp(paths->list[i], path) == 0) return;
  }
  assert(paths->count < PATHS_MAX && strlen(path) < PATH_BYTES);
  strcpy(paths->list[paths->count++], path);
}

static bool is_within(const char *path, const char *above) {
  size_t length = strlen(above);
  return strncmp(path, above, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static void take_away(struct paths *paths, const char *path) {
  size_t kept = 0;
  for (size_t i = 0; i < paths->count; i++) {
    if (is_within(paths->list[i], path)) continue;
    memmove(paths->list[kept++], paths->list[i], PATH_BYTES);
  }
  paths->count = kept;
}

static void apply(struct paths *paths, const char *records, size_t size) {
  for (const char *at = records; at < records + size; at += strlen(at) + 1) {
    const char *path = at + 1;
    assert(strchr("CDRWA", at[0]) != NULL && path[0] != '\0' && path[0] != '/');
    if (at[0] == 'C') add(paths, path);
    if (at[0] == 'D' || at[0] == 'R') take_away(paths, path);
  }
}

static int note_one(const char *path, const struct stat *status, int type, struct FTW *place) {
  (void)status, (void)type;
  if (place->level > 0) add(&found, path + strlen(root) + 1);
  return 0;
}

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void expect_the_tree(struct paths *told) {
  found.count = 0;
  assert(nftw(root, note_one, 8, FTW_PHYS) == 0);
  qsort(told->list, told->count, PATH_BYTES, by_text);
  qsort(found.list, found.count, PATH_BYTES, by_text);
  assert(told->count == found.count);
  for (size_t i = 0; i < found.count; i++) assert(strcmp(told->list[i], found.list[i]) == 0);
}

static void read_events(struct watcher *watcher) {
  int waiting = 0;
  assert(ioctl(watcher->watched.inotify, FIONREAD, &waiting) == 0);
  while (waiting > 0) {
    assert(handle_queued(watcher) == 0);
    assert(ioctl(watcher->watched.inotify, FIONREAD, &waiting) == 0);
  }
  watched_forget_all(&watcher->watched);
}

/* Returns how many bytes of the input it took. */
static size_t step(struct watcher *watcher, const uint8_t *bytes, size_t size) {
  char path[PATH_BYTES];
  char other[PATH_BYTES];
  path_of(size > 1 ? bytes[1] : 0, path);
  path_of(size > 2 ? bytes[2] : 0, other);
  switch ((enum operation)(bytes[0] % OPERATIONS)) {
    case MAKE_DIRECTORY:
      (void)!mkdirat(root_directory, path, 0700);
      return 2;
    case MAKE_FILE: {
      int fd = openat(root_directory, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      if (fd >= 0) (void)!(write(fd, "x", 1) + close(fd));
      return 2;
    }
    case RENAME:
      (void)!renameat(root_directory, path, root_directory, other);
      return 3;
    case REMOVE:
      if (unlinkat(root_directory, path, 0) < 0) (void)unlinkat(root_directory, path, AT_REMOVEDIR);
      return 2;
    case CHANGE_MODE:
      (void)!fchmodat(root_directory, path, 0700, 0);
      return 2;
    case READ_EVENTS:
    case OPERATIONS:
      break;
  }
  read_events(watcher);
  return 1;
}

static void forget_everything(struct watcher *watcher) {
  char events[4096];
  for (size_t i = 0; i < WATCHED_BUCKETS; i++) {
    struct directory **bucket = &watcher->watched.buckets[i];
    while (*bucket != NULL) {
      (void)inotify_rm_watch(inotify, (*bucket)->watch);
      watched_drop(&watcher->watched, *bucket);
    }
  }
  assert(watcher->watched.count == 0);
  while (read(inotify, events, sizeof events) > 0) continue;
}

static void empty(const char *directory) {
  char path[PATH_MAX + 2];
  for (char name = 'a'; name <= 'c'; name++) {
    (void)snprintf(path, sizeof path, "%s/%c", directory, name);
    (void)nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static struct paths told;
  static struct watcher watcher;
  char *records = NULL;
  size_t records_size = 0;
  FILE *before = stdout;
  told.count = 0;
  watcher = (struct watcher){.root = root, .is_recursive = true, .count_max = PATHS_MAX};
  watcher.watched.inotify = inotify;
  stdout = open_memstream(&records, &records_size);
  assert(stdout != NULL && watch_tree(&watcher, "") == 0);
  watcher.is_started = true;
  for (size_t at = 0, steps = 0; at < size && steps < STEPS_MAX; steps++) {
    at += step(&watcher, bytes + at, size - at);
  }
  read_events(&watcher);
  assert(fclose(stdout) == 0);
  stdout = before;
  apply(&told, records, records_size);
  expect_the_tree(&told);
  free(records);
  forget_everything(&watcher);
  empty(root);
  empty(outside);
  return 0;
}
