/*
 * Giving a file that was written without a name (O_TMPFILE of open(2)) its name, so that nobody
 * ever finds a part of it there. Paths may lead through /proc/<pid>/fd of who holds the file and
 * the directory. Those who watch the directory hear of a file that was written and closed.
 */
#ifndef WRENN_GUEST_PUBLISH_H
#define WRENN_GUEST_PUBLISH_H

/* Gives the file the name, which nothing may have. An errno (EEXIST), 0: done. */
int publish_new(const char *file, const char *name);

/*
 * Puts the file in the place of the old one that has the name, by way of the name `aside`, which is
 * gone again after any failure. An errno, 0: done; ESTALE: another one has the name by now.
 */
int publish_over(const char *file, const char *aside, const char *name, const char *old);

/*
 * Makes sure that the file can be written up to that size whatever else fills the disk, and leaves
 * its content and size. An errno, 0: done, or nothing that its file system could promise.
 */
int publish_reserve(const char *file, const char *size);

#endif
