/* PID 1 of a capsule's guest until it turns into tini, which runs envd.
 *
 * It prepares what a distribution's init would (file systems, host name, network, name resolution,
 * the size of the root file system) in a few milliseconds, with no configuration but the kernel
 * command line, and then execs `tini -- envd`. Nothing here waits without bound, and a step that
 * fails is reported on the console and the next one tried: a capsule with envd and half a network
 * can still be asked what is wrong, and one that hangs can't.
 *
 * How a guest ends: tini ends when envd ends, and with it PID 1, so the kernel panics. The host
 * boots every guest with `panic=-1` (reboot at once) and its VMM without reboot, so the VMM exits
 * and the agent sees it. The same happens when tini or envd can't be executed.
 *
 * no_new_privs MUST NOT be set: sudo inside the guest needs set-user-ID programs.
 * /tmp is on the root disk on purpose: a tmpfs there would turn every temporary file into memory.
 *
 * Kernel command line: `wrenn.hostname=<name>` (default "capsule"), `wrenn.dns=<ip>[,<ip>…]`. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cmdline.h"
#include "console.h"
#include "network.h"
#include "small-file.h"

#define DEFAULT_HOSTNAME "capsule"
#define DEFAULT_DNS "8.8.8.8,8.8.4.4"

/* COMMAND_LINE_SIZE of x86 is 2048; other architectures stay below this too. */
#define CMDLINE_MAX_BYTES 4096

/* /etc/hosts and /etc/resolv.conf beyond this are the user's own work and are left alone. */
#define ETC_FILE_MAX_BYTES 16384

/* include/uapi/linux/ext4.h and magic.h, which musl's headers don't have. */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#define EXT4_SUPER_MAGIC 0xEF53

#define SECTOR_BYTES 512

/* The limits systemd gives its services: programs that walk every descriptor stay fast, and those
 * that need many may raise their own soft limit. */
#define OPEN_FILES_SOFT 1024
#define OPEN_FILES_HARD 524288

const char *const CONSOLE_PROGRAM = "wrenn-init";

struct mount_point {
  const char *source;
  const char *target;
  const char *type;
  unsigned long flags;
  const char *data;
  mode_t mode; /* of the directory, if it has to be made */
};

static const struct mount_point MOUNTS[] = {
    {"proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, 0555},
    {"sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, 0555},
    {"devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755", 0755},
    {"devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666", 0755},
    {"tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=50%", 01777},
    {"tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=20%,nr_inodes=100k", 0755},
    {"cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC,
     "nsdelegate,memory_recursiveprot", 0755},
};

/* Written one by one: a write that names a controller the kernel lacks fails as a whole. */
static const char *const CGROUP_CONTROLLERS[] = {"+cpu", "+memory", "+pids", "+io"};

static void mount_all(void) {
  for (size_t i = 0; i < sizeof(MOUNTS) / sizeof(MOUNTS[0]); i++) {
    const struct mount_point *at = &MOUNTS[i];
    if (mkdir(at->target, at->mode) < 0 && errno != EEXIST) say_errno("mkdir %s", at->target);
    /* EBUSY: the kernel (devtmpfs) or the initrd has mounted it already. */
    if (mount(at->source, at->target, at->type, at->flags, at->data) < 0 && errno != EBUSY) {
      say_errno("mount %s on %s", at->source, at->target);
    }
  }
}

static void make_links(void) {
  static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                         {"/proc/self/fd/0", "/dev/stdin"},
                                         {"/proc/self/fd/1", "/dev/stdout"},
                                         {"/proc/self/fd/2", "/dev/stderr"}};
  for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
    if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST) say_errno("link %s", links[i][1]);
  }
}

static void make_run_directories(void) {
  if (mkdir("/run/lock", 01777) < 0 && errno != EEXIST) say_errno("mkdir /run/lock");
  if (chmod("/run/lock", 01777) < 0) say_errno("chmod /run/lock");
  if (mkdir("/run/wrenn", 0755) < 0 && errno != EEXIST) say_errno("mkdir /run/wrenn");
}

/* Writes the file aside and renames it, so that a guest that is cut off keeps the old one. */
static void replace_file(const char *path, const char *text) {
  char aside[64];
  snprintf(aside, sizeof(aside), "%s.wrenn-init", path);
  int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) {
    say_errno("create %s", aside);
    return;
  }
  size_t length = strlen(text);
  ssize_t written = write(fd, text, length);
  if (written >= 0 && (size_t)written != length) errno = ENOSPC;
  bool ok = written >= 0 && (size_t)written == length && fchmod(fd, 0644) == 0;
  if (!ok) say_errno("write %s", aside);
  close(fd);
  if (ok && rename(aside, path) < 0) say_errno("rename %s to %s", aside, path);
  if (!ok) unlink(aside);
}

/* Writes to a file that the kernel provides. */
static int write_kernel_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = write(fd, text, strlen(text)) < 0 ? -errno : 0;
  close(fd);
  return result;
}

static void enable_cgroup_controllers(void) {
  for (size_t i = 0; i < sizeof(CGROUP_CONTROLLERS) / sizeof(CGROUP_CONTROLLERS[0]); i++) {
    int result = write_kernel_file("/sys/fs/cgroup/cgroup.subtree_control", CGROUP_CONTROLLERS[i]);
    if (result < 0 && result != -EINVAL) { /* EINVAL: a kernel without that controller. */
      errno = -result;
      say_errno("enable cgroup controller %s", CGROUP_CONTROLLERS[i]);
    }
  }
}

static void set_hostname(const char *cmdline) {
  char name[HOSTNAME_MAX_BYTES + 1];
  int length = cmdline_value(cmdline, "wrenn.hostname", name, sizeof(name));
  if (length < 0 || !hostname_is_valid(name)) {
    if (length != -EINVAL) say("wrenn.hostname is no valid host name, using " DEFAULT_HOSTNAME);
    strcpy(name, DEFAULT_HOSTNAME);
  }
  if (sethostname(name, strlen(name)) < 0) say_errno("set host name %s", name);

  static char old_hosts[ETC_FILE_MAX_BYTES];
  static char new_hosts[ETC_FILE_MAX_BYTES];
  int old_length = read_small_file("/etc/hosts", old_hosts, sizeof(old_hosts));
  if (old_length == -ENOENT || old_length == 0) {
    strcpy(old_hosts, "127.0.0.1\tlocalhost\n");
  } else if (old_length < 0) {
    return;
  }
  int new_length = hosts_text(old_hosts, name, new_hosts, sizeof(new_hosts));
  if (new_length >= 0 && strcmp(old_hosts, new_hosts) != 0) replace_file("/etc/hosts", new_hosts);

  char line[HOSTNAME_MAX_BYTES + 2];
  snprintf(line, sizeof(line), "%s\n", name);
  read_small_file("/etc/hostname", old_hosts, sizeof(old_hosts));
  if (strcmp(old_hosts, line) != 0) replace_file("/etc/hostname", line);
}

static void set_name_servers(const char *cmdline) {
  static char old_text[ETC_FILE_MAX_BYTES];
  char servers[256];
  char text[512];
  int old_length = read_small_file("/etc/resolv.conf", old_text, sizeof(old_text));
  bool is_ours = old_length == -ENOENT || old_length == 0 ||
                 strncmp(old_text, RESOLV_CONF_MARK, strlen(RESOLV_CONF_MARK)) == 0;
  if (!is_ours) return;
  int length = cmdline_value(cmdline, "wrenn.dns", servers, sizeof(servers));
  if (length < 0) strcpy(servers, DEFAULT_DNS);
  if (resolv_conf_text(servers, text, sizeof(text)) < 0) {
    say("wrenn.dns names no IP address, using " DEFAULT_DNS);
    resolv_conf_text(DEFAULT_DNS, text, sizeof(text));
  }
  if (strcmp(old_text, text) != 0) replace_file("/etc/resolv.conf", text);
}

/* Images carry an empty machine-id; each first boot gets its own, see machine-id(5). */
static void set_machine_id(void) {
  unsigned char bytes[16];
  char text[sizeof(bytes) * 2 + 2];
  char old_text[64];
  if (read_small_file("/etc/machine-id", old_text, sizeof(old_text)) > 0) return;
  if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != (ssize_t)sizeof(bytes)) {
    say_errno("get random bytes for /etc/machine-id");
    return;
  }
  for (size_t i = 0; i < sizeof(bytes); i++) {
    snprintf(text + i * 2, sizeof(text) - i * 2, "%02x", (unsigned)bytes[i]);
  }
  strcat(text, "\n");
  replace_file("/etc/machine-id", text);
}

/* Size of the block device that holds `/`, or -errno. */
static int64_t root_device_bytes(void) {
  struct stat root;
  char path[64];
  char text[32];
  if (stat("/", &root) < 0) return -errno;
  snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/size", major(root.st_dev), minor(root.st_dev));
  int length = read_small_file(path, text, sizeof(text));
  if (length < 0) return length;
  return strtoll(text, NULL, 10) * SECTOR_BYTES;
}

/* The disk may be larger than the image it was made from. ext4 answers at once when the size is
 * right already, so no one has to compare. */
static void grow_root(void) {
  struct statfs info;
  if (statfs("/", &info) < 0 || (uint64_t)info.f_type != EXT4_SUPER_MAGIC) return;
  int64_t device_bytes = root_device_bytes();
  if (device_bytes <= 0) {
    errno = device_bytes < 0 ? (int)-device_bytes : EINVAL;
    say_errno("find the size of the root device");
    return;
  }
  uint64_t blocks = (uint64_t)device_bytes / (uint64_t)info.f_bsize;
  int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, (int)EXT4_IOC_RESIZE_FS, &blocks) < 0) {
    say_errno("grow the root file system to %llu blocks", (unsigned long long)blocks);
  }
  if (fd >= 0) close(fd);
}

/* A host with KVM gives the guest its clock as a PTP device; without one the clock comes from the
 * RTC and from envd. chronyd puts itself into the background, below tini. */
static void start_clock(void) {
  if (access("/dev/ptp0", R_OK) < 0 || access("/usr/sbin/chronyd", X_OK) < 0) return;
  pid_t child = fork();
  if (child < 0) say_errno("fork for chronyd");
  if (child != 0) return;
  char *const arguments[] = {"chronyd", "-f", "/etc/chrony/chrony.conf", NULL};
  char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
  execve("/usr/sbin/chronyd", arguments, environment);
  _exit(127);
}

static void use_console(void) {
  int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) dup2(null, STDIN_FILENO);
  if (console >= 0) {
    dup2(console, STDOUT_FILENO);
    dup2(console, STDERR_FILENO);
  }
}

static void reset_process(void) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
  umask(022);
  struct rlimit files = {.rlim_cur = OPEN_FILES_SOFT, .rlim_max = OPEN_FILES_HARD};
  if (setrlimit(RLIMIT_NOFILE, &files) < 0) say_errno("set the limit of open files");
  if (chdir("/") < 0) say_errno("chdir /");
}

/* tini without -g: a SIGTERM goes to envd alone, which ends its process groups in order. Without
 * -s: it is PID 1, so orphans are its own anyway. */
static void exec_envd(void) {
  static const char *const tinis[] = {"/usr/bin/tini", "/sbin/tini", "/usr/bin/tini-static"};
  char *const arguments[] = {"tini", "--", "/usr/local/bin/envd", NULL};
  char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                               "HOME=/root", "LANG=C.UTF-8", NULL};
  for (size_t i = 0; i < sizeof(tinis) / sizeof(tinis[0]); i++) {
    execve(tinis[i], arguments, environment);
    if (errno != ENOENT) say_errno("exec %s", tinis[i]);
  }
  say("no tini in /usr/bin or /sbin could be executed; the guest ends here");
}

int main(void) {
  static char cmdline[CMDLINE_MAX_BYTES];
  mount_all();
  use_console();
  int length = read_small_file("/proc/cmdline", cmdline, sizeof(cmdline));
  if (length < 0) {
    errno = -length;
    say_errno("read /proc/cmdline");
  }
  make_links();
  make_run_directories();
  enable_cgroup_controllers();
  network_configure();
  grow_root();
  set_hostname(cmdline);
  set_name_servers(cmdline);
  set_machine_id();
  start_clock();
  reset_process();
  exec_envd();
  return 1;
}
