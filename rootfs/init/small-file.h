/* Reading the small files that a guest's start depends on. */
#ifndef WRENN_SMALL_FILE_H
#define WRENN_SMALL_FILE_H

#include <stddef.h>

/* Reads a whole file into a text with a NUL at its end. Returns its length, -EFBIG if it has
 * `capacity` bytes or more, or another -errno; the text is empty then. Does not wait on a FIFO. */
int read_small_file(const char *path, char *ret_text, size_t capacity);

#endif
