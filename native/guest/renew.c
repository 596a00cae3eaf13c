/*
 * renew: gives a guest what may not be shared with the one it was restored from. Each argument pair
 * is done in order; the first failure ends it with status 1 and one sentence on stderr.
 *
 *   advance <nanoseconds>   moves the real-time clock, however late this program starts
 *   hostname <name>         sets the host name
 *   entropy <hex digits>    mixes the bytes into the kernel's pool, credits them and reseeds the
 *                           generator, so that the next random number already differs
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timex.h>
#include <unistd.h>

enum { ENTROPY_BYTES_MAX = 512, NS_PER_S = 1000000000 };

/* Of <linux/random.h>, which musl does not carry. */
#define RNDADDENTROPY _IOW('R', 0x03, int[2])
#define RNDRESEEDCRNG _IO('R', 0x07)

struct entropy {
	int bit_count;
	int byte_count;
	uint8_t bytes[ENTROPY_BYTES_MAX];
};

static int advance_clock(const char *text)
{
	struct timex change = { .modes = ADJ_SETOFFSET | ADJ_NANO };
	char *rest;
	int64_t offset_ns;

	errno = 0;
	offset_ns = strtoll(text, &rest, 10);
	if (errno != 0 || rest == text || *rest != '\0')
		return -EINVAL;
	change.time.tv_sec = offset_ns / NS_PER_S;
	change.time.tv_usec = offset_ns % NS_PER_S;
	/* The kernel wants the fraction to be positive. */
	if (change.time.tv_usec < 0) {
		change.time.tv_sec -= 1;
		change.time.tv_usec += NS_PER_S;
	}
	return adjtimex(&change) < 0 ? -errno : 0;
}

static int set_hostname(const char *name)
{
	return sethostname(name, strlen(name)) < 0 ? -errno : 0;
}

static int parse_hex(const char *text, struct entropy *ret_entropy)
{
	size_t digits = strlen(text);

	if (digits == 0 || digits % 2 != 0 || digits / 2 > ENTROPY_BYTES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < digits / 2; i++) {
		char pair[3] = { text[2 * i], text[2 * i + 1], '\0' };
		char *rest;

		ret_entropy->bytes[i] = (uint8_t)strtoul(pair, &rest, 16);
		if (*rest != '\0')
			return -EINVAL;
	}
	ret_entropy->byte_count = (int)(digits / 2);
	ret_entropy->bit_count = ret_entropy->byte_count * 8;
	return 0;
}

static int add_entropy(const char *hex)
{
	struct entropy entropy;
	int result = parse_hex(hex, &entropy);
	int fd;

	if (result < 0)
		return result;
	fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, RNDADDENTROPY, &entropy) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		result = -errno;
	close(fd);
	return result;
}

static int renew(const char *what, const char *value)
{
	if (strcmp(what, "advance") == 0)
		return advance_clock(value);
	if (strcmp(what, "hostname") == 0)
		return set_hostname(value);
	if (strcmp(what, "entropy") == 0)
		return add_entropy(value);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		int result = renew(argv[i], argv[i + 1]);

		if (result < 0) {
			fprintf(stderr, "renew: %s: %s\n", argv[i], strerror(-result));
			return 1;
		}
	}
	return 0;
}
