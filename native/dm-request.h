/* The buffers of the device-mapper's ioctls, made and read without asking the kernel. */
#ifndef WRENN_DM_REQUEST_H
#define WRENN_DM_REQUEST_H

#include <linux/dm-ioctl.h>
#include <stddef.h>
#include <stdint.h>

/* A table of one target; 1 KiB of parameters is twice what a snapshot with two long paths needs. */
enum { DM_PARAMETERS_BYTES = 1024, DM_ANSWER_BYTES = 64 * 1024 };

struct dm_table {
  struct dm_ioctl header;
  struct dm_target_spec target;
  char parameters[DM_PARAMETERS_BYTES];
};

/* An answer whose length only the kernel knows; a fuller one is flagged DM_BUFFER_FULL_FLAG. */
struct dm_answer {
  struct dm_ioctl header;
  char payload[DM_ANSWER_BYTES];
};

/* Fills the header for a request of `size` bytes in all. -EINVAL, -ENAMETOOLONG: a bad name. */
int32_t dm_fill_header(struct dm_ioctl *header, size_t size, const char *name, uint32_t flags);

/* Fills a table of one target. Errors as above and -ENAMETOOLONG for target or parameters. */
int32_t dm_fill_table(struct dm_table *table, const char *name, uint64_t sectors,
                      const char *target, const char *parameters);

/* Points ret_text at the first target's status inside the answer. -ENXIO: there is no target. */
int32_t dm_read_status(const struct dm_answer *answer, const char **ret_text);

/* Copies the names with that prefix as wrenn_link_list does. -EBADMSG: the list leaves its buffer. */
int32_t dm_read_names(const struct dm_answer *answer, const char *prefix, char *ret_names,
                      uint32_t size);

#endif
