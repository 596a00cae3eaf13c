/*
 * The file system that a VMM sees: an empty read-only tmpfs with /usr of the host, read-only, the
 * files and directories it was given as /vm/<name>, and the devices it was given. Nothing else has
 * a name in it, so the directories above those files may be closed to the VMM's uid.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Inodes and bytes for a few directories, mount points and device nodes. */
static const char ROOT_OPTIONS[] = "size=64k,nr_inodes=64,mode=0755";
/* Where dynamic programs look for the loader; links into /usr on most distributions. */
static const char *const LIBRARY_DIRS[] = {"lib", "lib64"};

/* Binds the object behind a descriptor, so that what is mounted is what was opened. */
static int bind_descriptor(int source, const char *target, unsigned long flags) {
  char path[64];
  (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", source);
  if (mount(path, target, NULL, MS_BIND, NULL) < 0) return -errno;
  if (mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0) return -errno;
  return 0;
}

static int touch(const char *path) {
  int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return -errno;
  return close(file) < 0 ? -errno : 0;
}

static int bind_library_dir(const char *name) {
  char source[16];
  char link[PATH_MAX];
  (void)snprintf(source, sizeof(source), "/%s", name);
  ssize_t length = readlink(source, link, sizeof(link) - 1);
  if (length > 0) {
    link[length] = '\0';
    return symlink(link, name) < 0 ? -errno : 0;
  }
  int directory = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return errno == ENOENT ? 0 : -errno;
  int r = mkdir(name, 0755) < 0 ? -errno : 0;
  if (r == 0) r = bind_descriptor(directory, name, MS_RDONLY | MS_NOSUID | MS_NODEV);
  (void)close(directory);
  return r;
}

static int bind_system(struct failure *ret_failure) {
  int usr = open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (usr < 0) return fail(ret_failure, -errno, "open /usr");
  int r = mkdir("usr", 0755) < 0 ? -errno : 0;
  if (r == 0) r = bind_descriptor(usr, "usr", MS_RDONLY | MS_NOSUID | MS_NODEV);
  (void)close(usr);
  for (size_t i = 0; r == 0 && i < sizeof(LIBRARY_DIRS) / sizeof(LIBRARY_DIRS[0]); i++) {
    r = bind_library_dir(LIBRARY_DIRS[i]);
  }
  return r < 0 ? fail(ret_failure, r, "show /usr in the jail") : 0;
}

/* A node of our own, so that the VMM needs no group that owns the host's. */
static int make_node(const char *target, const struct stat *host, uid_t uid) {
  if (mknod(target, (host->st_mode & S_IFMT) | 0600, host->st_rdev) < 0) return -errno;
  return chown(target, uid, uid) < 0 ? -errno : 0;
}

/* Under the host's name: /dev/kvm, or /dev/net/tun, whose directory is made, too. */
static int make_device(const char *path, uid_t uid) {
  struct stat status;
  char target[128];
  if (stat(path, &status) < 0) return -errno;
  if (!S_ISCHR(status.st_mode) || strncmp(path, "/dev/", 5) != 0) return -ENODEV;
  if (snprintf(target, sizeof(target), "%s", path + 1) >= (int)sizeof(target)) return -ENAMETOOLONG;
  char *name = strrchr(target, '/');
  *name = '\0';
  if (mkdir(target, 0755) < 0 && errno != EEXIST) return -errno;
  *name = '/';
  return make_node(target, &status, uid);
}

static int show_file(int source, const struct jail_file *file, uid_t uid) {
  struct stat status;
  char target[128];
  (void)snprintf(target, sizeof(target), "vm/%s", file->name);
  if (fstat(source, &status) < 0) return -errno;
  if (S_ISBLK(status.st_mode)) return make_node(target, &status, uid);
  bool is_directory = S_ISDIR(status.st_mode);
  if (!S_ISREG(status.st_mode) && !S_ISSOCK(status.st_mode) && !is_directory) return -EINVAL;
  int r = is_directory ? mkdir(target, 0755) < 0 ? -errno : 0 : touch(target);
  if (r < 0) return r;
  unsigned long flags = MS_NOSUID | MS_NODEV;
  if (!file->writable) flags |= MS_RDONLY;
  if (!file->executable) flags |= MS_NOEXEC;
  return bind_descriptor(source, target, flags);
}

static int fill_root(const struct keeper_options *options, const int *sources,
                     struct failure *ret_failure) {
  int r = bind_system(ret_failure);
  if (r < 0) return r;
  if (mkdir("vm", 0755) < 0 || mkdir("dev", 0755) < 0) {
    return fail(ret_failure, -errno, "make the jail's directories");
  }
  for (size_t i = 0; i < options->files_count; i++) {
    r = show_file(sources[i], &options->files[i], options->uid);
    if (r < 0) return fail(ret_failure, r, "show %s in the jail", options->files[i].name);
  }
  r = make_device("/dev/null", options->uid);
  if (r < 0) return fail(ret_failure, r, "make /dev/null in the jail");
  for (size_t i = 0; i < options->devices_count; i++) {
    r = make_device(options->devices[i], options->uid);
    if (r < 0) return fail(ret_failure, r, "make device %.100s in the jail", options->devices[i]);
  }
  return 0;
}

/* The host's tree goes out of reach: stacked below the new root and then detached. */
static int enter_root(void) {
  if (syscall(SYS_pivot_root, ".", ".") < 0) return -errno;
  if (umount2(".", MNT_DETACH) < 0) return -errno;
  if (chdir("/") < 0) return -errno;
  if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) < 0) {
    return -errno;
  }
  return 0;
}

int jail_enter_root(const struct keeper_options *options, struct failure *ret_failure) {
  int sources[JAIL_FILES_MAX];
  for (size_t i = 0; i < options->files_count; i++) {
    const char *path = options->files[i].path;
    sources[i] = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (sources[i] < 0) return fail(ret_failure, -errno, "open %.120s", path);
  }
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
    return fail(ret_failure, -errno, "make mounts private");
  }
  /* Over the run directory, in this mount namespace only: any existing directory would do. */
  if (mount("jail", options->run_dir, "tmpfs", MS_NOSUID | MS_NOEXEC, ROOT_OPTIONS) < 0) {
    return fail(ret_failure, -errno, "mount the jail's root");
  }
  if (chdir(options->run_dir) < 0) return fail(ret_failure, -errno, "enter the jail's root");
  int r = fill_root(options, sources, ret_failure);
  if (r < 0) return r;
  r = enter_root();
  if (r < 0) return fail(ret_failure, r, "enter the jail");
  return 0;
}
