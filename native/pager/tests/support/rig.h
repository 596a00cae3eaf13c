/* A pager and the process whose memory it serves, both children of the test. */
#ifndef WRENN_PAGER_TESTS_RIG_H
#define WRENN_PAGER_TESTS_RIG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pages/tests/support/snapshot.h"

enum { RIG_PATH_BYTES = 96, RIG_ARGUMENTS_MAX = 40, RIG_ANSWER_BYTES = 1024 };

struct rig {
  struct snapshot snapshot;
  char socket[RIG_PATH_BYTES];
  char control[RIG_PATH_BYTES];
  char reason[RIG_PATH_BYTES];
  char record[RIG_PATH_BYTES];
  char removed[RIG_PATH_BYTES];
  char *arguments[RIG_ARGUMENTS_MAX];
  int argument_count;
  pid_t pager;
  pid_t vmm;
};

/* What the VMM sees. `memory` holds the guest: total_bytes of it. */
struct guest {
  const struct rig *rig;
  uint8_t *memory;
  uint64_t total_bytes;
  const uint8_t *expected;
  int uffd; /* kept open */
};

/* Makes the snapshot and the pager's command line; nothing runs yet. */
void rig_make(struct rig *ret_rig, uint64_t pages);

/* Adds an option and its value. */
void rig_option(struct rig *rig, const char *name, const char *value);

/*
 * Starts the pager in this program, with its sanitizers, or as the program that was built. It works
 * in the snapshot's directory.
 */
void rig_start_pager(struct rig *rig);
void rig_start_program(struct rig *rig);

/*
 * Starts a VMM that maps memory, hands it over and then runs `body`, whose result is its exit
 * status.
 */
void rig_start_vmm(struct rig *rig, int (*body)(struct guest *guest));

/* The same without mapping and handing over: `body` does that. */
void rig_start_bare_vmm(struct rig *rig, int (*body)(struct guest *guest));

/* Maps and registers guest->memory; hands it to the pager. 0 or -errno. */
int guest_map(struct guest *guest);
/* The same with these UFFD_FEATURE_EVENT_* and no other. */
int guest_map_with(struct guest *guest, uint64_t features);
int guest_hand_over(struct guest *guest);

/* Waits (at most 20 s, then the test fails) and returns the status of wait(2). */
int rig_wait(pid_t child);

/* Waits for the pager after telling it, as the keeper does, that its VMM has ended. */
int rig_end_pager(const struct rig *rig);

/*
 * For a pager that gives up: the VMM must wait, as the keeper kills it only now. Returns the status
 * of the pager.
 */
int rig_wait_for_verdict(const struct rig *rig);

/* Waits until one of the children has ended, and leaves it to be waited for. */
pid_t rig_wait_for_first(void);

/* True when the child does not end within `ms`. */
bool rig_still_runs(pid_t child, int ms);

/* Waits until a file is there. */
void rig_wait_for_file(const char *path);

/* Connects to the control socket. */
int rig_connect(const struct rig *rig);

/* Sends a command, returns the line that answers it in `ret_answer`. */
void rig_ask(const struct rig *rig, const char *command, char ret_answer[RIG_ANSWER_BYTES]);

/* The number after "name": in an answer. */
uint64_t rig_number(const char *answer, const char *name);

/* Reads a small file into `ret_text`, NUL-terminated. */
void rig_read(const char *path, char ret_text[RIG_ANSWER_BYTES]);

/* Both children must have been waited for. */
void rig_remove(struct rig *rig);

#endif
