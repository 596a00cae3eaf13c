/* Extended attributes (xattr(7)) of files, and the flags beside them (ioctl_iflags(2)). */
#ifndef WRENN_GUEST_ATTRIBUTES_H
#define WRENN_GUEST_ATTRIBUTES_H

#include "message.h"

/*
 * Appends what the file has with the prefix: a count, then that many names, without the prefix, and
 * values. What cannot be read has none, and values with a NUL are left out.
 */
void attributes_get(const char *prefix, const char *path, struct message *answer);

/* Makes the attributes with the prefix the names and values that follow. An errno, 0: done. */
int attributes_set(const char *prefix, const char *path, struct fields *fields);

/*
 * Makes the attributes and flags of one file those of another, but for the attributes with the
 * prefix and for capabilities, which no change of the content survives. An errno, 0: done.
 */
int attributes_carry(const char *except_prefix, const char *from, const char *to);

#endif
