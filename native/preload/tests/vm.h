/* A QEMU microvm without emulated disk or network, driven by its monitor socket. */
#ifndef WRENN_PRELOAD_TESTS_VM_H
#define WRENN_PRELOAD_TESTS_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { VM_PATH_BYTES = 104, VM_MEMORY_MIB = 256 };
#define VM_MEMORY_BYTES ((uint64_t)VM_MEMORY_MIB << 20)

struct vm {
  char directory[VM_PATH_BYTES - 32];
  char ram[VM_PATH_BYTES]; /* on a tmpfs */
  char serial[VM_PATH_BYTES];
  char monitor[VM_PATH_BYTES];
  char initrd[VM_PATH_BYTES];
  const char *kernel;
  pid_t process;
  int monitor_fd;
};

struct tick {
  uint64_t nonce;
  uint64_t count;
  uint64_t wrong; /* sum over the ticks printed since the start */
};

/* How to start it. */
struct vm_start {
  const char *mode;         /* WRENN_RAM_MODE, or NULL: without the shim */
  const char *pager_socket; /* for "uffd" */
  bool is_restore;          /* wait for a state */
  uid_t uid;                /* 0: as root */
};

/* Makes directory, initrd (of the program `guest`) and a memory file of the right size. */
void vm_make(struct vm *ret_vm, const char *kernel, const char *guest);

/* Starts QEMU, with an empty console log, and connects to its monitor. */
void vm_start(struct vm *vm, const struct vm_start *start);

/* Sends a command and returns when it has succeeded; the test fails when it has not. */
void vm_command(struct vm *vm, const char *json);

/* Stops the vCPUs and writes the device state, without memory. Returns the state's size. */
uint64_t vm_save(struct vm *vm, const char *state);

/* Loads a state and lets the vCPUs run. */
void vm_load(struct vm *vm, const char *state);

/* Waits until the guest has printed a tick above `count`; the last one printed. */
struct tick vm_wait_tick(const struct vm *vm, uint64_t count);

void vm_kill(struct vm *vm);
void vm_remove(struct vm *vm);

#endif
