#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "wrenn.h"

int32_t wrenn_descriptor_send(int32_t socket, const char *text, int32_t descriptor) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)),
                         .cmsg_level = SOL_SOCKET,
                         .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.align), &descriptor, sizeof descriptor);
  struct iovec body = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};
  struct msghdr message = {.msg_iov = &body,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) return -errno;
  return (size_t)sent == body.iov_len ? 0 : -EMSGSIZE;
}
