#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Lists of ranges (32 MiB while one doubles), their files' bytes, and the allocator's slack. */
enum { ALLOCATION_ROOM_MIB = 128 };

/* ASan needs address space and system calls of its own; the plain binary is tested with these. */
#if defined(__SANITIZE_ADDRESS__)
enum { IS_SANITIZED = 1 };
#else
enum { IS_SANITIZED = 0 };
#endif

/* clang-format off */
static const uint32_t ALLOWED[] = {
    SYS_read,          SYS_write,          SYS_pread64,          SYS_close,
    SYS_fstat,         SYS_newfstatat,     SYS_poll,             SYS_ppoll,
    SYS_ioctl,         SYS_recvmsg,        SYS_recvfrom,         SYS_sendto,
    SYS_accept4,       SYS_getsockopt,     SYS_openat,           SYS_renameat,
    SYS_unlinkat,      SYS_fsync,          SYS_fadvise64,        SYS_clock_gettime,
    SYS_nanosleep,     SYS_clock_nanosleep, SYS_restart_syscall, SYS_mmap,
    SYS_munmap,        SYS_mremap,         SYS_brk,              SYS_fcntl,
    SYS_rt_sigprocmask, SYS_rt_sigreturn,  SYS_exit,             SYS_exit_group,
    SYS_getrandom,
};
/* clang-format on */
enum { ALLOWED_COUNT = sizeof ALLOWED / sizeof *ALLOWED };

static int32_t limit_resources(struct failure *failure) {
  struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) < 0) return fail(failure, -errno, "RLIMIT_CORE: %m");
  if (IS_SANITIZED) return 0;
  FILE *file = fopen("/proc/self/statm", "re");
  unsigned long long data_pages = 0;
  if (file == NULL || fscanf(file, "%*u %*u %*u %*u %*u %llu", &data_pages) != 1) {
    if (file != NULL) (void)fclose(file);
    return fail(failure, -EIO, "/proc/self/statm cannot be read");
  }
  (void)fclose(file);
  rlim_t bytes = data_pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)ALLOCATION_ROOM_MIB << 20);
  struct rlimit data = {bytes, bytes};
  return setrlimit(RLIMIT_DATA, &data) < 0 ? fail(failure, -errno, "RLIMIT_DATA: %m") : 0;
}

/* What is below the working directory becomes all that has a name. */
static int32_t enter_directory(struct failure *failure) {
  char path[PATH_MAX];
  unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (getcwd(path, sizeof path) == NULL) return fail(failure, -errno, "getcwd: %m");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
      mount(path, path, NULL, MS_BIND, NULL) < 0 || chdir(path) < 0 ||
      syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
      mount(NULL, "/", NULL, flags, NULL) < 0) {
    return fail(failure, -errno, "a root of its own: %m");
  }
  return 0;
}

static int32_t leave_host(struct failure *failure) {
  int own = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
  if (unshare(own) < 0) return fail(failure, -errno, "namespaces: %m");
  return enter_directory(failure);
}

static int32_t become(uid_t uid, struct failure *failure) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[2] = {0};
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
      return fail(failure, -errno, "drop capability %d: %m", capability);
    }
  }
  if (setgroups(0, NULL) < 0) return fail(failure, -errno, "setgroups: %m");
  if (setresgid(uid, uid, uid) < 0) return fail(failure, -errno, "setresgid: %m");
  if (setresuid(uid, uid, uid) < 0) return fail(failure, -errno, "setresuid: %m");
  /* The change of user took them, but for what would be inherited. */
  return syscall(SYS_capset, &header, none) < 0 ? fail(failure, -errno, "capset: %m") : 0;
}

static int32_t install(struct sock_filter *filter, unsigned short length, struct failure *failure) {
  struct sock_fprog program = {.len = length, .filter = filter};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0) {
    return fail(failure, -errno, "seccomp: %m");
  }
  return 0;
}

#define LOAD(field) \
  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define JUMP_IF(value, then, otherwise) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (then), (otherwise))
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, (action))

int32_t confine(int64_t uid, struct failure *failure) {
  int32_t result = limit_resources(failure);
  if (result == 0 && uid >= 0) result = leave_host(failure);
  if (result == 0 && uid >= 0) result = become((uid_t)uid, failure);
  if (result < 0) return result;
  /* A pager whose keeper was killed would wait for a VMM that never comes. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return fail(failure, -errno, "keeper: %m");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return fail(failure, -errno, "no_new_privs: %m");
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return fail(failure, -errno, "dumpable: %m");
  if (IS_SANITIZED) return 0;
  struct sock_filter filter[4 + ALLOWED_COUNT + 2] = {
      LOAD(arch),
      JUMP_IF(AUDIT_ARCH_X86_64, 1, 0),
      ANSWER(SECCOMP_RET_KILL_PROCESS),
      LOAD(nr),
  };
  for (size_t i = 0; i < ALLOWED_COUNT; i++) {
    filter[4 + i] = (struct sock_filter)JUMP_IF(ALLOWED[i], (uint8_t)(ALLOWED_COUNT - i), 0);
  }
  filter[4 + ALLOWED_COUNT] = (struct sock_filter)ANSWER(SECCOMP_RET_ERRNO | EPERM);
  filter[5 + ALLOWED_COUNT] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
  return install(filter, sizeof filter / sizeof *filter, failure);
}
