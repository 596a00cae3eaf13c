#define _GNU_SOURCE
#include "rtnetlink.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "descriptor.h"

enum {
  /* The kernel never sends a larger part of a dump (NLMSG_GOODSIZE is capped at 32 KiB). */
  ANSWER_BYTES = 32 * 1024,
  /* It answers as soon as it has the rtnl lock; this only ends a wait that would never end. */
  ANSWER_TIMEOUT_S = 30,
};

void *rt_reserve(struct rt_request *request, size_t size) {
  size_t at = NLMSG_ALIGN(request->header.nlmsg_len);
  size_t end = at + NLMSG_ALIGN(size);
  assert(end <= sizeof *request);
  void *room = (char *)request + at;
  memset(room, 0, end - at);
  request->header.nlmsg_len = (uint32_t)(at + size);
  return room;
}

void *rt_start(struct rt_request *request, uint16_t type, uint16_t flags, size_t fixed_size) {
  request->header = (struct nlmsghdr){
      .nlmsg_len = NLMSG_HDRLEN,
      .nlmsg_type = type,
      .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
      .nlmsg_seq = 1,
  };
  return rt_reserve(request, fixed_size);
}

void rt_put(struct rt_request *request, uint16_t type, const void *value, size_t size) {
  struct rtattr *attribute = rt_reserve(request, RTA_LENGTH(size));
  attribute->rta_type = type;
  attribute->rta_len = (uint16_t)RTA_LENGTH(size);
  if (size > 0) memcpy(RTA_DATA(attribute), value, size);
}

void rt_put_string(struct rt_request *request, uint16_t type, const char *value) {
  rt_put(request, type, value, strlen(value) + 1);
}

void rt_put_u32(struct rt_request *request, uint16_t type, uint32_t value) {
  rt_put(request, type, &value, sizeof value);
}

struct rtattr *rt_begin(struct rt_request *request, uint16_t type) {
  struct rtattr *nest = rt_reserve(request, RTA_LENGTH(0));
  nest->rta_type = type;
  return nest;
}

void rt_end(struct rt_request *request, struct rtattr *nest) {
  size_t end = NLMSG_ALIGN(request->header.nlmsg_len);
  request->header.nlmsg_len = (uint32_t)end;
  nest->rta_len = (uint16_t)((char *)request + end - (char *)nest);
}

static int32_t open_and_send(struct rt_request *request) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
  int on = 1;
  /* What a dump asks for is all that it answers; without this the kernel tells everything. */
  (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
      send(fd, request, request->header.nlmsg_len, 0) >= 0)
    return fd;
  int error = errno;
  (void)close(fd);
  return -error;
}

static int32_t receive(int fd, void *answer) {
  ssize_t size;
  do {
    size = recv(fd, answer, ANSWER_BYTES, MSG_TRUNC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return errno == EAGAIN ? -ETIMEDOUT : -errno;
  return size > ANSWER_BYTES ? -EMSGSIZE : (int32_t)size;
}

int32_t rt_send(struct rt_request *request) {
  _Alignas(struct nlmsghdr) char answer[ANSWER_BYTES];
  request->header.nlmsg_flags |= NLM_F_ACK;
  AUTO_FD fd = open_and_send(request);
  if (fd < 0) return fd;
  int32_t size = receive(fd, answer);
  return size < 0 ? size : rt_read_acknowledgement(answer, (size_t)size);
}

int32_t rt_dump(struct rt_request *request, rt_visit *visit, void *argument) {
  _Alignas(struct nlmsghdr) char answer[ANSWER_BYTES];
  bool interrupted = false;
  request->header.nlmsg_flags |= NLM_F_DUMP;
  AUTO_FD fd = open_and_send(request);
  if (fd < 0) return fd;
  for (;;) {
    int32_t size = receive(fd, answer);
    if (size < 0) return size;
    int32_t result = rt_read_dump(answer, (size_t)size, visit, argument, &interrupted);
    if (result == 1) return interrupted ? -EINTR : 0;
    if (result < 0) return result;
  }
}
