#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "descriptor.h"
#include "in-netns.h"
#include "wrenn.h"

struct tap {
  const char *name;
  uint32_t uid;
};

/*
 * Without TUNSETPERSIST, which comes last, the device goes with the descriptor: no cleanup needed.
 */
static int32_t create_tap(void *opaque) {
  const struct tap *tap = opaque;
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  memcpy(request.ifr_name, tap->name, strlen(tap->name));

  AUTO_FD fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (ioctl(fd, TUNSETIFF, &request) < 0) return -errno;
  if (ioctl(fd, TUNSETOWNER, (unsigned long)tap->uid) < 0) return -errno;
  if (ioctl(fd, TUNSETPERSIST, 1UL) < 0) return -errno;
  return 0;
}

int32_t wrenn_tap_create(const char *netns, const char *name, uint32_t uid) {
  size_t length = strnlen(name, IF_NAMESIZE);
  if (length == 0 || length >= IF_NAMESIZE) return -EINVAL;
  struct tap tap = {.name = name, .uid = uid};
  return in_netns(netns, create_tap, &tap);
}
