#define _GNU_SOURCE
#include "vm.h"

#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wrenn.h"

enum { WAIT_MS_MAX = 90000, ANSWER_BYTES = 16384, USERFAULT_FD = 40 };

static void pause_ms(long ms) {
  struct timespec pause = {.tv_nsec = ms * 1000000};
  (void)nanosleep(&pause, NULL);
}

/* One entry of a cpio archive (newc, see cpio(5)). */
static void put_entry(FILE *archive, const char *name, unsigned mode, unsigned device_major,
                      unsigned device_minor, const char *bytes, size_t size) {
  static unsigned inode;
  size_t name_size = strlen(name) + 1;
  (void)fprintf(archive, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X", ++inode,
                mode, 0u, 0u, 1u, 0u, size, 0u, 0u, device_major, device_minor, name_size, 0u);
  (void)fwrite(name, 1, name_size, archive);
  while (ftell(archive) % 4 != 0) (void)fputc(0, archive);
  (void)fwrite(bytes, 1, size, archive);
  while (ftell(archive) % 4 != 0) (void)fputc(0, archive);
}

static void make_initrd(const char *path, const char *program) {
  struct stat status;
  FILE *source = fopen(program, "re");
  assert(source != NULL && fstat(fileno(source), &status) == 0);
  size_t size = (size_t)status.st_size;
  char *bytes = malloc(size);
  assert(bytes != NULL && fread(bytes, 1, size, source) == size && fclose(source) == 0);
  FILE *archive = fopen(path, "we");
  assert(archive != NULL);
  put_entry(archive, "dev", S_IFDIR | 0755, 0, 0, "", 0);
  put_entry(archive, "dev/console", S_IFCHR | 0600, 5, 1, "", 0);
  put_entry(archive, "init", S_IFREG | 0755, 0, 0, bytes, size);
  put_entry(archive, "TRAILER!!!", 0, 0, 0, "", 0);
  assert(fclose(archive) == 0);
  free(bytes);
}

void vm_make(struct vm *ret_vm, const char *kernel, const char *guest) {
  struct vm *vm = ret_vm;
  *vm = (struct vm){.kernel = kernel, .process = -1, .monitor_fd = -1};
  strcpy(vm->directory, "/dev/shm/wrenn-preload-test-XXXXXX");
  assert(mkdtemp(vm->directory) != NULL && chmod(vm->directory, 0777) == 0);
  (void)snprintf(vm->ram, sizeof vm->ram, "%s/ram", vm->directory);
  (void)snprintf(vm->serial, sizeof vm->serial, "%s/serial", vm->directory);
  (void)snprintf(vm->monitor, sizeof vm->monitor, "%s/monitor", vm->directory);
  (void)snprintf(vm->initrd, sizeof vm->initrd, "%s/initrd", vm->directory);
  make_initrd(vm->initrd, guest);
  int fd = open(vm->ram, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  assert(fd >= 0 && ftruncate(fd, (off_t)VM_MEMORY_BYTES) == 0 && close(fd) == 0);
}

static void set_environment(const struct vm *vm, const struct vm_start *start) {
  if (start->mode == NULL) return;
  char number[16];
  int device = open("/dev/userfaultfd", O_RDWR);
  assert(device >= 0 && dup2(device, USERFAULT_FD) == USERFAULT_FD);
  (void)snprintf(number, sizeof number, "%d", USERFAULT_FD);
  (void)setenv("LD_PRELOAD", getenv("WRENN_PRELOAD"), 1);
  (void)setenv("WRENN_RAM_FILE", vm->ram, 1);
  (void)setenv("WRENN_RAM_MODE", start->mode, 1);
  (void)setenv("WRENN_USERFAULT_FD", number, 1);
  if (start->pager_socket != NULL) (void)setenv("WRENN_RAM_SOCKET", start->pager_socket, 1);
}

static void become(uid_t uid) {
  if (uid == 0) return;
  if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0) {
    _exit(126);
  }
}

static void execute(const struct vm *vm, const struct vm_start *start) {
  char memory[256], serial[192], monitor[192], append[192], mib[16];
  (void)snprintf(mib, sizeof mib, "%d", VM_MEMORY_MIB);
  (void)snprintf(memory, sizeof memory, "memory-backend-file,id=mem,size=%dM,mem-path=%s,share=on",
                 VM_MEMORY_MIB, vm->ram);
  (void)snprintf(serial, sizeof serial, "file,id=console,path=%s,append=on", vm->serial);
  (void)snprintf(monitor, sizeof monitor, "unix:%s,server=on,wait=off", vm->monitor);
  (void)snprintf(append, sizeof append,
                 "console=ttyS0 quiet loglevel=1 panic=-1 cryptomgr.notests no_timer_check "
                 "tsc_early_khz=%" PRId32,
                 wrenn_tsc_khz(50));
  /* clang-format off */
  const char *arguments[] = {
      "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine",
      "microvm,isa-serial=on,rtc=on,x-option-roms=off,memory-backend=mem,mem-merge=off",
      "-bios", "qboot.rom", "-cpu", "max", "-m", mib, "-object", memory, "-nodefaults",
      "-no-user-config", "-no-reboot", "-display", "none", "-chardev", serial, "-serial",
      "chardev:console", "-qmp", monitor, "-kernel", vm->kernel, "-initrd", vm->initrd, "-append",
      append, "-sandbox",
      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
      start->is_restore ? "-incoming" : NULL, "defer", NULL};
  /* clang-format on */
  set_environment(vm, start);
  become(start->uid);
  (void)execvp(arguments[0], (char *const *)(uintptr_t)arguments);
  _exit(127);
}

static int connect_monitor(const struct vm *vm) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, vm->monitor, sizeof address.sun_path - 1);
  for (int waited = 0; waited < WAIT_MS_MAX; waited += 2) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    (void)close(fd);
    int status;
    assert(waitpid(vm->process, &status, WNOHANG) == 0);
    pause_ms(2);
  }
  return -1;
}

/* Reads until a line with "return", "error" or, for the greeting, "QMP" has come. */
static void read_answer(struct vm *vm, char answer[ANSWER_BYTES]) {
  size_t filled = 0;
  for (;;) {
    ssize_t got = recv(vm->monitor_fd, answer + filled, ANSWER_BYTES - 1 - filled, 0);
    assert(got > 0);
    filled += (size_t)got;
    answer[filled] = '\0';
    assert(strstr(answer, "\"error\"") == NULL);
    bool is_whole = answer[filled - 1] == '\n';
    if (is_whole && (strstr(answer, "\"return\"") || strstr(answer, "\"QMP\""))) return;
  }
}

void vm_start(struct vm *vm, const struct vm_start *start) {
  char answer[ANSWER_BYTES];
  if (start->uid != 0) assert(chown(vm->ram, start->uid, start->uid) == 0);
  (void)unlink(vm->monitor);
  (void)unlink(vm->serial);
  (void)fflush(stdout);
  vm->process = fork();
  assert(vm->process >= 0);
  if (vm->process == 0) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    execute(vm, start);
  }
  vm->monitor_fd = connect_monitor(vm);
  assert(vm->monitor_fd >= 0);
  read_answer(vm, answer);
  vm_command(vm, "{\"execute\":\"qmp_capabilities\"}");
  vm_command(vm, "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
                 "[{\"capability\":\"x-ignore-shared\",\"state\":true}]}}");
}

static void ask(struct vm *vm, const char *json, int descriptor, char answer[ANSWER_BYTES]) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)),
                         .cmsg_level = SOL_SOCKET,
                         .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.align), &descriptor, sizeof descriptor);
  struct iovec body = {.iov_base = (char *)(uintptr_t)json, .iov_len = strlen(json)};
  struct msghdr message = {.msg_iov = &body,
                           .msg_iovlen = 1,
                           .msg_control = descriptor >= 0 ? control.bytes : NULL,
                           .msg_controllen = descriptor >= 0 ? sizeof control.bytes : 0};
  assert(sendmsg(vm->monitor_fd, &message, MSG_NOSIGNAL) == (ssize_t)strlen(json));
  read_answer(vm, answer);
}

void vm_command(struct vm *vm, const char *json) {
  char answer[ANSWER_BYTES];
  ask(vm, json, -1, answer);
}

static void pass_descriptor(struct vm *vm, int fd) {
  char answer[ANSWER_BYTES];
  ask(vm, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}}", fd, answer);
  assert(close(fd) == 0);
}

static void wait_until(struct vm *vm, const char *query, const char *wanted) {
  char answer[ANSWER_BYTES];
  for (int waited = 0; waited < WAIT_MS_MAX; waited += 2) {
    ask(vm, query, -1, answer);
    if (strstr(answer, wanted) != NULL) return;
    assert(strstr(answer, "\"failed\"") == NULL);
    pause_ms(2);
  }
  abort();
}

uint64_t vm_save(struct vm *vm, const char *state) {
  struct stat status;
  int fd = open(state, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  assert(fd >= 0);
  vm_command(vm, "{\"execute\":\"stop\"}");
  pass_descriptor(vm, fd);
  vm_command(vm, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:state\"}}");
  wait_until(vm, "{\"execute\":\"query-migrate\"}", "\"completed\"");
  assert(stat(state, &status) == 0);
  return (uint64_t)status.st_size;
}

void vm_load(struct vm *vm, const char *state) {
  int fd = open(state, O_RDONLY | O_CLOEXEC);
  assert(fd >= 0);
  pass_descriptor(vm, fd);
  vm_command(vm, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:state\"}}");
  wait_until(vm, "{\"execute\":\"query-migrate\"}", "\"completed\"");
  vm_command(vm, "{\"execute\":\"cont\"}");
}

static struct tick last_tick(const struct vm *vm) {
  struct tick last = {0};
  FILE *serial = fopen(vm->serial, "re");
  if (serial == NULL) return last;
  char line[256];
  while (fgets(line, sizeof line, serial) != NULL) {
    unsigned long long nonce, count, wrong;
    const char *at = strstr(line, "tick ");
    if (strchr(line, '\n') == NULL || at == NULL) continue;
    if (sscanf(at, "tick %llx %llu %llu", &nonce, &count, &wrong) != 3) continue;
    last = (struct tick){.nonce = nonce, .count = count, .wrong = last.wrong + wrong};
  }
  (void)fclose(serial);
  return last;
}

struct tick vm_wait_tick(const struct vm *vm, uint64_t count) {
  for (int waited = 0; waited < WAIT_MS_MAX; waited += 5) {
    struct tick tick = last_tick(vm);
    if (tick.count > count) return tick;
    pause_ms(5);
  }
  (void)fprintf(stderr, "no tick after %" PRIu64 "\n", count);
  abort();
}

void vm_kill(struct vm *vm) {
  int status;
  assert(kill(vm->process, SIGKILL) == 0);
  assert(waitpid(vm->process, &status, 0) == vm->process);
  (void)close(vm->monitor_fd);
  vm->process = -1;
}

void vm_remove(struct vm *vm) {
  char command[256];
  (void)snprintf(command, sizeof command, "rm -r %s", vm->directory);
  assert(system(command) == 0);
}
