/* Text that wrenn-init reads and writes, as pure functions: no system calls, so they are tested on
 * any machine. Every function that fills a buffer returns the text's length without its NUL, or
 * -EINVAL (the input has no such text or a malformed one) or -ENOSPC (the buffer is too small);
 * the buffer then holds an empty string. */
#ifndef WRENN_CMDLINE_H
#define WRENN_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

/* Longest host name: HOST_NAME_MAX of Linux, see gethostname(2). */
#define HOSTNAME_MAX_BYTES 64

/* resolv.conf(5): the resolver uses the first three name servers only. */
#define NAMESERVERS_MAX 3

/* First line of a resolv.conf that wrenn-init may rewrite; a file without it is the user's. */
#define RESOLV_CONF_MARK \
  "# Written by wrenn-init at each boot; remove this line to keep your own.\n"

/* The value of `key=` in a kernel command line, double quotes taken off; the last one wins, as for
 * the kernel's own parameters. A bare `key` is -EINVAL. */
int cmdline_value(const char *cmdline, const char *key, char *ret_value, size_t capacity);

/* Whether the word stands alone in the command line, such as `ro`. */
bool cmdline_has(const char *cmdline, const char *word);

/* Letters, digits, `-` and `.`, no leading or trailing punctuation, 1..HOSTNAME_MAX_BYTES. */
bool hostname_is_valid(const char *name);

/* resolv.conf for a comma-separated list of addresses. Words that are no IPv4 or IPv6 address are
 * left out; with none left the result is -EINVAL. */
int resolv_conf_text(const char *servers, char *ret_text, size_t capacity);

/* /etc/hosts with `name` on its 127.0.1.1 line, which is replaced, or put after the first line if
 * there is none. A text that already has the name on that line comes back unchanged, so a second
 * boot writes nothing. */
int hosts_text(const char *old_text, const char *name, char *ret_text, size_t capacity);

#endif
