/* The kernel's answers to what rtnetlink.h asks, read without asking it. */
#ifndef WRENN_RT_ANSWER_H
#define WRENN_RT_ANSWER_H

#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Called for each message of a dump. Returns 0 to go on or -errno, which ends it. */
typedef int32_t rt_visit(const struct nlmsghdr *message, void *argument);

/*
 * What an acknowledgement says: 0 or -errno. `answer` is aligned for struct nlmsghdr. -EBADMSG: it
 * is none, or is cut off.
 */
int32_t rt_read_acknowledgement(const void *answer, size_t size);

/*
 * Calls `visit` for each message of one part of a dump. Returns 1 when it was the last part, 0 when
 * more follow, the kernel's -errno or visit's. ret_interrupted becomes true when the table
 * changed under the dump, and stays as it was otherwise. -EBADMSG: a message leaves the answer.
 */
int32_t rt_read_dump(const void *answer, size_t size, rt_visit *visit, void *argument,
                     bool *ret_interrupted);

/* Device names, each followed by '\n'; `names` is not yet ended by a NUL. */
struct rt_names {
  const char *prefix;
  char *names;
  uint32_t size; /* of `names`; room for a NUL is kept */
  uint32_t used;
};

/* An rt_visit: collects in struct rt_names who starts with its prefix. -ENOSPC: no room; -EBADMSG.
 */
int32_t rt_collect_name(const struct nlmsghdr *message, void *names);

/* Messages in hexadecimal, each followed by '\n'; `text` is not yet ended by a NUL. */
struct rt_text {
  char *text;
  uint32_t size; /* of `text`; room for a NUL is kept */
  uint32_t used;
};

/*
 * An rt_visit: appends what a message says, without its header, to struct rt_text. The flags of a
 * route, by which the kernel tells whether somebody is at the other end, are left out. -ENOSPC: no
 * room.
 */
int32_t rt_collect_text(const struct nlmsghdr *message, void *text);

#endif
