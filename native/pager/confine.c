#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
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
    SYS_read,          SYS_write,          SYS_pread64,         SYS_close,
    SYS_fstat,         SYS_newfstatat,     SYS_poll,            SYS_ppoll,
    SYS_ioctl,         SYS_recvmsg,        SYS_recvfrom,        SYS_sendto,
    SYS_accept4,       SYS_getsockopt,     SYS_openat,          SYS_renameat,
    SYS_unlinkat,      SYS_fsync,          SYS_fadvise64,       SYS_clock_gettime,
    SYS_nanosleep,     SYS_clock_nanosleep, SYS_restart_syscall, SYS_mmap,
    SYS_munmap,        SYS_mremap,         SYS_brk,             SYS_fcntl,
    SYS_pidfd_open,    SYS_pidfd_send_signal, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_rt_sigaction,  SYS_getpid,         SYS_gettid,          SYS_tgkill,
    SYS_prctl,         SYS_exit,           SYS_exit_group,      SYS_getrandom,
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

static int32_t keep_only_kill(struct failure *failure) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {0};
  data[0].permitted = data[0].effective = 1u << CAP_KILL;
  if (syscall(SYS_capset, &header, data) < 0) return fail(failure, -errno, "capset: %m");
  return 0;
}

static int32_t become(uid_t uid, struct failure *failure) {
  if (setgroups(0, NULL) < 0) return fail(failure, -errno, "setgroups: %m");
  if (setresgid(uid, uid, uid) < 0) return fail(failure, -errno, "setresgid: %m");
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return fail(failure, -errno, "keep caps: %m");
  if (setresuid(uid, uid, uid) < 0) return fail(failure, -errno, "setresuid: %m");
  return keep_only_kill(failure);
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

int32_t confine_to_vmm(int pidfd, struct failure *failure) {
  if (IS_SANITIZED) return 0;
  struct sock_filter filter[] = {
      LOAD(nr),
      JUMP_IF(SYS_pidfd_open, 3, 0),
      JUMP_IF(SYS_pidfd_send_signal, 0, 3),
      LOAD(args[0]),
      JUMP_IF((uint32_t)pidfd, 1, 0),
      ANSWER(SECCOMP_RET_ERRNO | EPERM),
      ANSWER(SECCOMP_RET_ALLOW),
  };
  return install(filter, sizeof filter / sizeof *filter, failure);
}
