#define _GNU_SOURCE
#include "hand-over.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* linux/userfaultfd.h since 6.1 */
#endif

static int open_userfault(int device) {
  int own_device = -1;
  if (device < 0) own_device = device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  int uffd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)
                         : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  int error = errno;
  if (own_device >= 0) (void)close(own_device);
  return uffd < 0 ? -error : uffd;
}

/* linux/userfaultfd.h since 6.7: who writes to a page is noted, and nobody waits. */
enum { FEATURE_WP_ASYNC = 1 << 15 };

/* A kernel that does not know a feature refuses them all, and can be asked again. */
static int start_userfault(int uffd, uint64_t features) {
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  return ioctl(uffd, UFFDIO_API, &api) < 0 ? -errno : 0;
}

static int register_range(int uffd, void *address, size_t size, uint64_t mode) {
  struct uffdio_register range = {.range = {.start = (uintptr_t)address, .len = size},
                                  .mode = mode};
  return ioctl(uffd, UFFDIO_REGISTER, &range) < 0 ? -errno : 0;
}

int userfault_register(int device, void *address, size_t size) {
  int uffd = open_userfault(device);
  if (uffd < 0) return uffd;
  uint64_t mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
  int result = start_userfault(uffd, UFFD_FEATURE_EVENT_REMOVE | FEATURE_WP_ASYNC);
  if (result == -EINVAL) {
    mode = UFFDIO_REGISTER_MODE_MISSING;
    result = start_userfault(uffd, UFFD_FEATURE_EVENT_REMOVE);
  }
  if (result == 0) result = register_range(uffd, address, size, mode);
  if (result == 0) return uffd;
  (void)close(uffd);
  return result;
}

int userfault_track(void *address, size_t size) {
  int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  if (uffd < 0) return -errno;
  int result = start_userfault(uffd, FEATURE_WP_ASYNC);
  if (result == 0) result = register_range(uffd, address, size, UFFDIO_REGISTER_MODE_WP);
  if (result == 0) return uffd;
  (void)close(uffd);
  return result;
}

static int32_t send_with_descriptor(int socket, const char *text, size_t size, int descriptor) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct iovec body = {.iov_base = (char *)(uintptr_t)text, .iov_len = size};
  struct msghdr message = {.msg_iov = &body,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  struct cmsghdr *part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(part), &descriptor, sizeof descriptor);
  ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  if (sent < 0) return -errno;
  return (size_t)sent == size ? 0 : -EMSGSIZE;
}

int32_t hand_over(const char *path, int uffd, const void *address, size_t size, uint64_t offset) {
  char text[256];
  int length = snprintf(text, sizeof text,
                        "[{\"base_host_virt_addr\":%" PRIuPTR ",\"size\":%zu,\"offset\":%" PRIu64
                        ",\"page_size\":4096}]",
                        (uintptr_t)address, size, offset);
  struct sockaddr_un target = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof target.sun_path) return -ENAMETOOLONG;
  strncpy(target.sun_path, path, sizeof target.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int32_t result = connect(fd, (struct sockaddr *)&target, sizeof target) < 0
                       ? -errno
                       : send_with_descriptor(fd, text, (size_t)length, uffd);
  (void)close(fd);
  return result;
}
