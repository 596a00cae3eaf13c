/* Messages on the guest's console, which the host keeps in the capsule's console log. */
#ifndef WRENN_CONSOLE_H
#define WRENN_CONSOLE_H

/* Who speaks, at the start of each line. Defined by each program. */
extern const char *const CONSOLE_PROGRAM;

/* Prints "<program>: <message>" and a newline in one write(2). */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints "<program>: <message>: <name of errno> (<number>)". Keeps errno. */
void say_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
