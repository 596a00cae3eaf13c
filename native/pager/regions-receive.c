#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "regions.h"

enum { DESCRIPTORS_MAX = 4 };

struct message {
  char text[REGIONS_MESSAGE_BYTES_MAX];
  size_t size;
  int uffd;
  bool is_excess; /* more than one descriptor came */
};

static void take_descriptors(struct message *message, struct msghdr *header) {
  for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
       part = CMSG_NXTHDR(header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      if (message->uffd < 0) {
        message->uffd = fd;
      } else {
        message->is_excess = true;
        (void)close(fd);
      }
    }
  }
  if ((header->msg_flags & MSG_CTRUNC) != 0) message->is_excess = true;
}

/* Returns 1 when the other side has sent all it will, 0 to go on, or -errno. */
static int32_t receive_part(int socket, struct message *message) {
  union {
    char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec text = {.iov_base = message->text + message->size,
                       .iov_len = sizeof message->text - message->size};
  struct msghdr header = {.msg_iov = &text,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes};
  ssize_t got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0) return errno == EINTR || errno == EAGAIN ? 0 : -errno;
  take_descriptors(message, &header);
  message->size += (size_t)got;
  return got == 0 ? 1 : 0;
}

/* The senders keep their socket open, so the message ends where its brackets close. */
static bool is_whole(const struct message *message) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < message->size; i++) {
    char c = message->text[i];
    if (c == '"') in_string = !in_string;
    if (in_string) continue;
    if (c == '[' || c == '{') depth++;
    if ((c == ']' || c == '}') && --depth == 0) return true;
  }
  return false;
}

static int32_t receive_whole(int socket, int timeout_ms, struct message *message,
                             struct failure *failure) {
  uint64_t deadline_ns = monotonic_ns() + (uint64_t)timeout_ms * 1000000u;
  while (!is_whole(message)) {
    if (message->size == sizeof message->text) {
      return fail(failure, -EBADMSG, "regions: the message is longer than %zu bytes",
                  sizeof message->text);
    }
    uint64_t now_ns = monotonic_ns();
    if (now_ns >= deadline_ns) {
      return fail(failure, -ETIMEDOUT, "regions: none within %d ms", timeout_ms);
    }
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    int left_ms = (int)((deadline_ns - now_ns) / 1000000u) + 1;
    if (poll(&ready, 1, left_ms) <= 0) continue;
    int32_t result = receive_part(socket, message);
    if (result < 0) return fail(failure, result, "regions: cannot be received (errno %d)", -result);
    if (result == 1 && !is_whole(message)) {
      return fail(failure, -ECONNRESET, "regions: the VMM hung up within its message");
    }
  }
  return 0;
}

int32_t regions_receive(int socket, int timeout_ms, uint64_t total_bytes,
                        struct regions *ret_regions, int *ret_uffd, struct failure *failure) {
  struct message message = {.uffd = -1};
  int32_t result = receive_whole(socket, timeout_ms, &message, failure);
  if (result == 0 && (message.uffd < 0 || message.is_excess)) {
    result = fail(failure, -EBADMSG, "regions: not exactly one descriptor came along");
  }
  if (result == 0) {
    result = regions_parse(message.text, message.size, total_bytes, ret_regions, failure);
  }
  if (result < 0) {
    if (message.uffd >= 0) (void)close(message.uffd);
    return result;
  }
  *ret_uffd = message.uffd;
  return 0;
}
