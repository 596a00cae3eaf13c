/* The files that tell an agent, perhaps one that starts later, what became of the VMM. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEXT_MAX = 8192 };

int process_start_time(pid_t pid, char *ret_text, size_t size) {
  char path[64];
  char stat[1024];
  (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno == ENOENT ? -ESRCH : -errno;
  ssize_t length = read(file, stat, sizeof(stat) - 1);
  int error = errno;
  (void)close(file);
  if (length < 0) return -error;
  stat[length] = '\0';
  /* The name in brackets may hold anything, brackets included: fields count after the last. */
  char *rest = strrchr(stat, ')');
  if (rest == NULL) return -EBADMSG;
  char *save = NULL;
  char *field = strtok_r(rest + 1, " ", &save);
  for (int number = 3; field != NULL && number < 22; number++) field = strtok_r(NULL, " ", &save);
  if (field == NULL || strlen(field) >= size) return -EBADMSG;
  (void)snprintf(ret_text, size, "%s", field);
  return 0;
}

/* Writes the whole file under another name first, so that nobody ever reads half of it. */
static int write_whole(int directory, const char *name, const char *text, bool must_be_first) {
  char aside[64];
  (void)snprintf(aside, sizeof(aside), ".%s.%d", name, (int)getpid());
  int file = openat(directory, aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file < 0) return -errno;
  size_t size = strlen(text);
  ssize_t written = write(file, text, size);
  int error = written < 0 ? errno : ((size_t)written < size ? ENOSPC : 0);
  if (close(file) < 0 && error == 0) error = errno;
  unsigned int flags = must_be_first ? RENAME_NOREPLACE : 0;
  if (error == 0 && renameat2(directory, aside, directory, name, flags) < 0) error = errno;
  if (error != 0) (void)unlinkat(directory, aside, 0);
  return -error;
}

int record_keeper(int run_dir) {
  char start_time[32];
  char text[128];
  int r = process_start_time(getpid(), start_time, sizeof(start_time));
  if (r < 0) return r;
  (void)snprintf(text, sizeof(text), "{\"keeperPid\":%d,\"keeperStartTime\":\"%s\"}\n",
                 (int)getpid(), start_time);
  return write_whole(run_dir, "keeper.json", text, true);
}

int record_vmm(int run_dir, pid_t vmm, pid_t pager) {
  char start_time[32];
  char keeper_start_time[32];
  char pager_text[64] = "";
  char text[256];
  int r = process_start_time(vmm, start_time, sizeof(start_time));
  if (r < 0) return r;
  r = process_start_time(getpid(), keeper_start_time, sizeof(keeper_start_time));
  if (r < 0) return r;
  if (pager >= 0) {
    (void)snprintf(pager_text, sizeof(pager_text), ",\"pagerPid\":%d", (int)pager);
  }
  (void)snprintf(
      text, sizeof(text),
      "{\"pid\":%d,\"startTime\":\"%s\",\"keeperPid\":%d,\"keeperStartTime\":\"%s\"%s}\n", (int)vmm,
      start_time, (int)getpid(), keeper_start_time, pager_text);
  return write_whole(run_dir, "vmm.json", text, true);
}

/* A JSON string's inside: what is not plain ASCII is escaped byte by byte, as Latin-1. */
static void escape(const char *bytes, size_t size, char *ret_text, size_t room) {
  size_t used = 0;
  for (size_t i = 0; i < size && used + 7 <= room; i++) {
    unsigned char byte = (unsigned char)bytes[i];
    if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
      ret_text[used++] = (char)byte;
    } else {
      used += (size_t)snprintf(ret_text + used, room - used, "\\u%04x", byte);
    }
  }
  ret_text[used] = '\0';
}

/* What wait said, as members of an object. */
static void describe_status(int status, char ret_text[64]) {
  bool was_signaled = WIFSIGNALED(status);
  (void)snprintf(ret_text, 64, "\"reason\":\"%s\",\"status\":%d",
                 was_signaled ? "signaled" : "exited",
                 was_signaled ? WTERMSIG(status) : WEXITSTATUS(status));
}

int record_exit(int run_dir, const struct vmm_end *end) {
  char errors[TEXT_MAX - 512];
  char text[TEXT_MAX];
  char vmm[64];
  char pager[64];
  char pager_text[96] = "";
  escape(end->errors, end->errors_size, errors, sizeof(errors));
  describe_status(end->status, vmm);
  if (end->has_pager) {
    describe_status(end->pager_status, pager);
    (void)snprintf(pager_text, sizeof(pager_text), ",\"pager\":{%s}", pager);
  }
  (void)snprintf(text, sizeof(text), "{%s,\"wasAsked\":%s,\"stderr\":\"%s\"%s}\n", vmm,
                 end->was_asked ? "true" : "false", errors, pager_text);
  return write_whole(run_dir, "exit.json", text, false);
}
