/*
 * renew: gives a guest what may not be shared with the one it was restored from. It serves until
 * its standard input ends; what a message is says message.h. Each pair of fields is done in order
 * up to the first failure, which is the answer as one sentence; an empty one: all is done.
 *
 *   advance <nanoseconds>   moves the real-time clock, however late the message is read
 *   hostname <name>         sets the host name
 *   connections <address>   ends TCP connections with peers that are neither this guest nor the
 *                           host at that address: their other ends belong to the guest of before.
 *                           Programs that wait for such a peer are told, and need not wait for ever
 *   entropy <hex digits>    mixes the bytes into the kernel's pool, credits them and reseeds the
 *                           generator, so that the next random number already differs
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <unistd.h>

#include "message.h"

enum { ENTROPY_BYTES_MAX = 512, NS_PER_S = 1000000000 };

/* Of <linux/random.h>, which musl does not carry. */
#define RNDADDENTROPY _IOW('R', 0x03, int[2])
#define RNDRESEEDCRNG _IO('R', 0x07)

struct entropy {
  int bit_count;
  int byte_count;
  uint8_t bytes[ENTROPY_BYTES_MAX];
};

static int advance_clock(const char *text) {
  struct timex change = {.modes = ADJ_SETOFFSET | ADJ_NANO};
  char *rest;
  int64_t offset_ns;

  errno = 0;
  offset_ns = strtoll(text, &rest, 10);
  if (errno != 0 || rest == text || *rest != '\0') return -EINVAL;
  change.time.tv_sec = offset_ns / NS_PER_S;
  change.time.tv_usec = offset_ns % NS_PER_S;
  /* The kernel wants the fraction to be positive. */
  if (change.time.tv_usec < 0) {
    change.time.tv_sec -= 1;
    change.time.tv_usec += NS_PER_S;
  }
  return adjtimex(&change) < 0 ? -errno : 0;
}

static int set_hostname(const char *name) {
  return sethostname(name, strlen(name)) < 0 ? -errno : 0;
}

static int parse_hex(const char *text, struct entropy *ret_entropy) {
  size_t digits = strlen(text);

  if (digits == 0 || digits % 2 != 0 || digits / 2 > ENTROPY_BYTES_MAX) return -EINVAL;
  for (size_t i = 0; i < digits / 2; i++) {
    char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
    char *rest;

    ret_entropy->bytes[i] = (uint8_t)strtoul(pair, &rest, 16);
    if (*rest != '\0') return -EINVAL;
  }
  ret_entropy->byte_count = (int)(digits / 2);
  ret_entropy->bit_count = ret_entropy->byte_count * 8;
  return 0;
}

static int add_entropy(const char *hex) {
  struct entropy entropy;
  int result = parse_hex(hex, &entropy);
  int fd;

  if (result < 0) return result;
  fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (ioctl(fd, RNDADDENTROPY, &entropy) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0) result = -errno;
  close(fd);
  return result;
}

/* Of <linux/netlink.h>, <linux/sock_diag.h> and <linux/inet_diag.h>, see sock_diag(7). */
enum { NETLINK_SOCK_DIAG = 4, SOCK_DIAG_BY_FAMILY = 20, SOCK_DESTROY = 21 };
enum { NLM_F_REQUEST = 0x1, NLM_F_ACK = 0x4, NLM_F_DUMP = 0x300, NLMSG_ERROR = 2, NLMSG_DONE = 3 };
enum { STATE_LISTEN = 10, SOCKETS_MAX = 4096 };

struct netlink_address {
  uint16_t family;
  uint16_t pad;
  uint32_t port;
  uint32_t groups;
};

struct netlink_header {
  uint32_t length;
  uint16_t type;
  uint16_t flags;
  uint32_t sequence;
  uint32_t port;
};

struct socket_id {
  uint16_t source_port;
  uint16_t peer_port;
  uint32_t source[4];
  uint32_t peer[4];
  uint32_t interface;
  uint32_t cookie[2];
};

struct socket_request {
  struct netlink_header header;
  uint8_t family;
  uint8_t protocol;
  uint8_t extensions;
  uint8_t pad;
  uint32_t states;
  struct socket_id id;
};

struct socket_answer {
  uint8_t family;
  uint8_t state;
  uint8_t timer;
  uint8_t retransmits;
  struct socket_id id;
};

struct connections {
  struct socket_request to_end[SOCKETS_MAX];
  size_t count;
  uint32_t host;
};

/* The IPv4 address in network byte order, also of an IPv6 socket's peer; 0: there is none. */
static uint32_t ipv4_of(uint8_t family, const uint32_t address[4]) {
  if (family == AF_INET) return address[0];
  return address[0] == 0 && address[1] == 0 && address[2] == htonl(0xffff) ? address[3] : 0;
}

static int stays(const struct socket_answer *answer, uint32_t host) {
  static const uint32_t LOOPBACK6[4] = {0, 0, 0, 0x01000000};
  uint32_t peer = ipv4_of(answer->family, answer->id.peer);

  if (answer->state == STATE_LISTEN) return 1;
  if (memcmp(answer->id.peer, answer->id.source, sizeof(answer->id.peer)) == 0) return 1;
  if (answer->family == AF_INET6 && memcmp(answer->id.peer, LOOPBACK6, sizeof(LOOPBACK6)) == 0)
    return 1;
  return peer == host || ntohl(peer) >> 24 == 127;
}

static int ask(int socket, void *request, size_t size) {
  struct netlink_address kernel = {.family = AF_NETLINK};
  ssize_t sent = sendto(socket, request, size, 0, (struct sockaddr *)&kernel, sizeof(kernel));

  return sent < 0 ? -errno : 0;
}

/* One whole message: 1 when it was the last, -errno when the kernel refused. */
static int take_answer(const struct netlink_header *header, struct connections *found) {
  const struct socket_answer *answer = (const struct socket_answer *)(header + 1);
  size_t size = header->length - sizeof(*header);
  struct socket_request *request;
  int error;

  if (header->type == NLMSG_DONE) return 1;
  if (header->type == NLMSG_ERROR) {
    if (size < sizeof(error)) return -EBADMSG;
    memcpy(&error, answer, sizeof(error));
    return error < 0 ? error : 1;
  }
  if (size < sizeof(*answer)) return -EBADMSG;
  if (found == NULL || stays(answer, found->host) || found->count == SOCKETS_MAX) return 0;
  request = &found->to_end[found->count++];
  *request = (struct socket_request){
      .header = {.length = sizeof(*request),
                 .type = SOCK_DESTROY,
                 .flags = NLM_F_REQUEST | NLM_F_ACK},
      .family = answer->family,
      .protocol = IPPROTO_TCP,
      .id = answer->id,
  };
  return 0;
}

/* The messages of one part of an answer: 1 when the last was among them, -errno as above. */
static int take_all(const uint8_t *part, size_t size, struct connections *found) {
  for (size_t at = 0; at < size;) {
    const struct netlink_header *header = (const struct netlink_header *)(part + at);
    size_t left = size - at;
    int result;

    if (left < sizeof(*header) || header->length < sizeof(*header) || header->length > left)
      return -EBADMSG;
    result = take_answer(header, found);
    if (result != 0) return result;
    at += ((size_t)header->length + 3) & ~(size_t)3;
  }
  return 0;
}

static int receive_answers(int socket, struct connections *found) {
  static _Alignas(8) uint8_t buffer[32768];

  for (;;) {
    ssize_t got = recv(socket, buffer, sizeof(buffer), 0);
    int result = got < 0 ? -errno : take_all(buffer, (size_t)got, found);

    if (result != 0) return result < 0 ? result : 0;
  }
}

static int list_connections(int socket, uint8_t family, struct connections *found) {
  struct socket_request request = {
      .header =
          {
              .length = sizeof(request),
              .type = SOCK_DIAG_BY_FAMILY,
              .flags = NLM_F_REQUEST | NLM_F_DUMP,
          },
      .family = family,
      .protocol = IPPROTO_TCP,
      .states = ~(1u << STATE_LISTEN),
  };
  int result = ask(socket, &request, sizeof(request));

  return result < 0 ? result : receive_answers(socket, found);
}

/* A kernel without socket diagnostics leaves it to the network, which resets what it knows not. */
static int end_connections(const char *host) {
  static struct connections found;
  struct in_addr address;
  int result;
  int fd;

  if (inet_pton(AF_INET, host, &address) != 1) return -EINVAL;
  found.host = address.s_addr;
  found.count = 0;
  fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return errno == EPROTONOSUPPORT ? 0 : -errno;
  result = list_connections(fd, AF_INET, &found);
  if (result == 0) (void)list_connections(fd, AF_INET6, &found);
  for (size_t i = 0; result == 0 && i < found.count; i++) {
    result = ask(fd, &found.to_end[i], sizeof(found.to_end[i]));
    if (result == 0) {
      /* One that ended meanwhile is no longer found. */
      (void)receive_answers(fd, NULL);
    }
  }
  close(fd);
  return result == -ENOENT || result == -EOPNOTSUPP ? 0 : result;
}

static int renew(const char *what, const char *value) {
  if (strcmp(what, "advance") == 0) return advance_clock(value);
  if (strcmp(what, "hostname") == 0) return set_hostname(value);
  if (strcmp(what, "entropy") == 0) return add_entropy(value);
  if (strcmp(what, "connections") == 0) return end_connections(value);
  return -EINVAL;
}

static void renew_all(struct fields *fields, struct message *reply) {
  char reason[128] = "";

  while (*reason == '\0' && fields->at < fields->end) {
    const char *what = take(fields);
    int result = renew(what, take(fields));

    if (result < 0) snprintf(reason, sizeof(reason), "%s: %s", what, strerror(-result));
  }
  append(reply, reason, strlen(reason));
}

int main(void) {
  struct message request = {0};
  struct message reply = {0};

  while (receive(&request)) {
    struct fields fields = {request.bytes, request.bytes + request.size};

    reply.size = 0;
    renew_all(&fields, &reply);
    /* What seeds the generator is not for whoever gets a copy of this memory. */
    explicit_bzero(request.bytes, request.size);
    answer(&reply);
  }
  return 0;
}
