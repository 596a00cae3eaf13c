/* The buffers of the device-mapper's ioctls, made and read without asking the kernel. */
#ifndef WRENN_DM_REQUEST_H
#define WRENN_DM_REQUEST_H

#include <linux/dm-ioctl.h>
#include <stddef.h>
#include <stdint.h>

/* A table has a few targets of a line each; more than this is no table of ours. */
enum { DM_TABLE_BYTES = 4096, DM_ANSWER_BYTES = 64 * 1024 };

struct dm_table {
  struct dm_ioctl header;
  char targets[DM_TABLE_BYTES];
};

/* An answer whose length only the kernel knows; a fuller one is flagged DM_BUFFER_FULL_FLAG. */
struct dm_answer {
  struct dm_ioctl header;
  char payload[DM_ANSWER_BYTES];
};

/* Fills the header for a request of `size` bytes in all. -EINVAL, -ENAMETOOLONG: a bad name. */
int32_t dm_fill_header(struct dm_ioctl *header, size_t size, const char *name, uint32_t flags);

/*
 * Fills a table from lines of "<start> <sectors> <target> [<parameters>]", as dmsetup takes them.
 * -EINVAL: there is no line or one is malformed; -ENAMETOOLONG: a name or the table does not fit.
 */
int32_t dm_fill_table(struct dm_table *table, const char *name, const char *lines);

/* Points ret_text at the first target's status inside the answer. -ENXIO: there is no target. */
int32_t dm_read_status(const struct dm_answer *answer, const char **ret_text);

/*
 * Copies the names with that prefix as wrenn_link_list does. -EBADMSG: the list leaves its buffer.
 */
int32_t dm_read_names(const struct dm_answer *answer, const char *prefix, char *ret_names,
                      uint32_t size);

#endif
