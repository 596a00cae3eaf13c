/*
 * attributes: reads and writes the metadata of files, which are extended attributes (xattr(7)), for
 * a runtime that cannot. It serves until its standard input ends.
 *
 * Both ways a message is its length in bytes (four of them, least significant first) and that many
 * bytes of NUL-terminated fields.
 *   get <prefix> <path>...             answers, per path: count, then that many names and values;
 *                                      names without the prefix. What cannot be read has none.
 *   set <prefix> <path> <name> <value>...   makes the attributes with the prefix exactly these;
 *                                      answers the errno, 0 for success.
 * Links are followed. A malformed message ends the program with status 1.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A list of a large directory, all of its paths at once. */
enum { MESSAGE_BYTES_MAX = 64 * 1024 * 1024 };

/* XATTR_LIST_MAX, XATTR_SIZE_MAX and XATTR_NAME_MAX of Linux. */
enum { LIST_BYTES_MAX = 65536, VALUE_BYTES_MAX = 65536, NAME_BYTES_MAX = 255 };

struct message {
	char *bytes;
	size_t size;
	size_t capacity;
};

struct fields {
	const char *at;
	const char *end;
};

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "attributes: %s\n", what);
	exit(1);
}

/* Reads exactly that many bytes; false at the end of the input. */
static bool read_all(void *buffer, size_t size)
{
	char *at = buffer;

	while (size > 0) {
		ssize_t got = read(STDIN_FILENO, at, size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		at += got;
		size -= (size_t)got;
	}
	return true;
}

static void write_all(const void *buffer, size_t size)
{
	const char *at = buffer;

	while (size > 0) {
		ssize_t put = write(STDOUT_FILENO, at, size);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			fail("nobody reads the answers");
		at += put;
		size -= (size_t)put;
	}
}

static void reserve(struct message *message, size_t capacity)
{
	if (capacity > MESSAGE_BYTES_MAX)
		fail("a message is too long");
	if (capacity <= message->capacity)
		return;
	message->capacity = capacity * 2;
	message->bytes = realloc(message->bytes, message->capacity);
	if (message->bytes == NULL)
		fail("out of memory");
}

static void append(struct message *message, const char *bytes, size_t size)
{
	reserve(message, message->size + size + 1);
	memcpy(message->bytes + message->size, bytes, size);
	message->bytes[message->size + size] = '\0';
	message->size += size + 1;
}

static void append_number(struct message *message, int number)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", number);

	append(message, text, (size_t)length);
}

static const char *take(struct fields *fields)
{
	const char *field = fields->at;
	const char *nul = memchr(field, '\0', (size_t)(fields->end - field));

	if (nul == NULL)
		fail("a message is cut off");
	fields->at = nul + 1;
	return field;
}

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Appends what the file has: a count, then names and values. */
static void get(const char *prefix, const char *path, struct message *answer)
{
	static char names[LIST_BYTES_MAX];
	static char value[VALUE_BYTES_MAX];
	ssize_t listed = listxattr(path, names, sizeof(names));
	struct message found = { 0 };
	int count = 0;

	for (const char *name = names; name < names + listed; name += strlen(name) + 1) {
		ssize_t size = has_prefix(name, prefix) ? getxattr(path, name, value, sizeof(value)) : -1;

		if (size < 0 || memchr(value, '\0', (size_t)size) != NULL)
			continue;
		append(&found, name + strlen(prefix), strlen(name + strlen(prefix)));
		append(&found, value, (size_t)size);
		count++;
	}
	append_number(answer, count);
	if (found.size > 0)
		append(answer, found.bytes, found.size - 1);
	free(found.bytes);
}

static int remove_all(const char *prefix, const char *path)
{
	static char names[LIST_BYTES_MAX];
	ssize_t listed = listxattr(path, names, sizeof(names));

	for (const char *name = names; name < names + listed; name += strlen(name) + 1)
		if (has_prefix(name, prefix) && removexattr(path, name) < 0)
			return errno;
	return 0;
}

static int set(const char *prefix, struct fields *fields)
{
	const char *path = take(fields);
	int error = remove_all(prefix, path);

	while (error == 0 && fields->at < fields->end) {
		const char *name = take(fields);
		const char *value = take(fields);
		char full[NAME_BYTES_MAX + 1];
		int length = snprintf(full, sizeof(full), "%s%s", prefix, name);

		if (length < 0 || (size_t)length >= sizeof(full))
			error = ENAMETOOLONG;
		else if (setxattr(path, full, value, strlen(value), 0) < 0)
			error = errno;
	}
	return error;
}

static void serve(const struct message *request, struct message *answer)
{
	struct fields fields = { request->bytes, request->bytes + request->size };
	const char *verb = take(&fields);
	const char *prefix = take(&fields);

	answer->size = 0;
	if (strcmp(verb, "set") == 0) {
		append_number(answer, set(prefix, &fields));
	} else if (strcmp(verb, "get") == 0) {
		while (fields.at < fields.end)
			get(prefix, take(&fields), answer);
	} else {
		fail("a message has an unknown verb");
	}
}

int main(void)
{
	struct message request = { 0 };
	struct message answer = { 0 };
	uint32_t size;

	while (read_all(&size, sizeof(size))) {
		reserve(&request, size);
		request.size = size;
		if (!read_all(request.bytes, size))
			fail("a message is cut off");
		serve(&request, &answer);
		size = (uint32_t)answer.size;
		write_all(&size, sizeof(size));
		write_all(answer.bytes, answer.size);
	}
	return 0;
}
