/* /init of the initrd that goes with a distribution's modular kernel: loads the modules the builder
 * put beside it, mounts the root disk and hands over to the init of the root file system. A kernel
 * from `make kernel` has everything built in and needs no initrd.
 *
 * The initrd holds /init, /modules/NN-<name>.ko in load order and /modules/list with their names,
 * one a line. A module that the machine has no device for is no error; without a root disk the
 * program says so and ends, which panics the kernel and so ends the guest.
 *
 * Kernel command line: root= (default /dev/vda), rootfstype= (default ext4), rootflags=, ro,
 * init= (default /usr/local/bin/wrenn-init). */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cmdline.h"
#include "console.h"
#include "small-file.h"

#define CMDLINE_MAX_BYTES 4096
#define LIST_MAX_BYTES 4096
#define PATH_MAX_BYTES 256

/* Virtio disks appear while their module loads; the wait is for a loaded host, not for hardware. */
#define ROOT_WAIT_MS 5000
#define ROOT_POLL_MS 5

const char *const CONSOLE_PROGRAM = "initrd";

static void load_module(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    say_errno("open %s", path);
    return;
  }
  /* ENODEV, EOPNOTSUPP: nothing here for this driver. EEXIST: loaded by another module. */
  if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV &&
      errno != EOPNOTSUPP) {
    say_errno("load %s", path);
  }
  close(fd);
  unlink(path); /* The initrd's memory is the guest's. */
}

static void load_modules(void) {
  static char list[LIST_MAX_BYTES];
  int length = read_small_file("/modules/list", list, sizeof(list));
  if (length < 0) {
    errno = -length;
    say_errno("read /modules/list");
    return;
  }
  char *rest = list;
  for (char *name = strsep(&rest, "\n"); name != NULL; name = strsep(&rest, "\n")) {
    char path[PATH_MAX_BYTES];
    if (*name == '\0') continue;
    snprintf(path, sizeof(path), "/modules/%s", name);
    load_module(path);
  }
}

static bool wait_for(const char *device) {
  const struct timespec pause = {.tv_nsec = ROOT_POLL_MS * 1000L * 1000L};
  for (int waited_ms = 0; waited_ms < ROOT_WAIT_MS; waited_ms += ROOT_POLL_MS) {
    if (access(device, F_OK) == 0) return true;
    nanosleep(&pause, NULL);
  }
  return false;
}

static void value_or(const char *cmdline, const char *key, const char *otherwise, char *ret_value) {
  if (cmdline_value(cmdline, key, ret_value, PATH_MAX_BYTES) <= 0) strcpy(ret_value, otherwise);
}

static void enter_root(const char *cmdline) {
  char device[PATH_MAX_BYTES];
  char type[PATH_MAX_BYTES];
  char flags[PATH_MAX_BYTES];
  value_or(cmdline, "root", "/dev/vda", device);
  value_or(cmdline, "rootfstype", "ext4", type);
  value_or(cmdline, "rootflags", "", flags);
  if (!wait_for(device)) {
    say("root device %s did not appear within %d ms", device, ROOT_WAIT_MS);
    _exit(1);
  }
  unsigned long mount_flags = cmdline_has(cmdline, "ro") ? MS_RDONLY : 0;
  mkdir("/root", 0700);
  if (mount(device, "/root", type, mount_flags, flags) < 0) {
    say_errno("mount %s on the root as %s", device, type);
    _exit(1);
  }
  umount("/proc");
  if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) < 0) say_errno("move /dev to the root disk");
  unlink("/modules/list");
  rmdir("/modules");
  unlink("/init");
  if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
    say_errno("switch to the root disk");
    _exit(1);
  }
  if (chdir("/") < 0) say_errno("chdir /");
}

int main(void) {
  static char cmdline[CMDLINE_MAX_BYTES];
  char program[PATH_MAX_BYTES];
  mkdir("/proc", 0555);
  mkdir("/dev", 0755);
  if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") < 0) say_errno("mount /dev");
  if (mount("proc", "/proc", "proc", 0, NULL) < 0) say_errno("mount /proc");
  int length = read_small_file("/proc/cmdline", cmdline, sizeof(cmdline));
  if (length < 0) {
    errno = -length;
    say_errno("read /proc/cmdline");
  }
  load_modules();
  value_or(cmdline, "init", "/usr/local/bin/wrenn-init", program);
  enter_root(cmdline);
  char *const arguments[] = {program, NULL};
  char *const environment[] = {NULL};
  execve(program, arguments, environment);
  say_errno("exec %s", program);
  return 1;
}
