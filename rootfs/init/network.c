/* Interface set-up by the ioctls of netdevice(7): three calls need no netlink parser in PID 1. */
#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "console.h"

#define INTERFACE_WAIT_MS 1000
#define INTERFACE_POLL_MS 2

static struct sockaddr ipv4(const char *text) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  struct sockaddr generic;
  inet_pton(AF_INET, text, &address.sin_addr);
  memcpy(&generic, &address, sizeof(generic));
  return generic;
}

static struct ifreq request_for(const char *interface) {
  struct ifreq request;
  memset(&request, 0, sizeof(request));
  strncpy(request.ifr_name, interface, sizeof(request.ifr_name) - 1);
  return request;
}

static int bring_up(int fd, const char *interface) {
  struct ifreq request = request_for(interface);
  if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) return -errno;
  if ((request.ifr_flags & IFF_UP) != 0) return 0;
  request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
  return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

static int set_address(int fd, int operation, const char *text) {
  struct ifreq request = request_for(GUEST_INTERFACE);
  struct sockaddr address = ipv4(text);
  memcpy(&request.ifr_addr, &address, sizeof(address));
  return ioctl(fd, operation, &request) < 0 ? -errno : 0;
}

static int add_default_route(int fd) {
  char interface[] = GUEST_INTERFACE;
  struct rtentry route;
  memset(&route, 0, sizeof(route));
  route.rt_dst = ipv4("0.0.0.0");
  route.rt_genmask = ipv4("0.0.0.0");
  route.rt_gateway = ipv4(GUEST_GATEWAY);
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  route.rt_dev = interface;
  return ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

/* A driver that was loaded as a module may still be making its interface. */
static bool wait_for_interface(int fd) {
  const struct timespec pause = {.tv_nsec = INTERFACE_POLL_MS * 1000L * 1000L};
  for (int waited_ms = 0; waited_ms < INTERFACE_WAIT_MS; waited_ms += INTERFACE_POLL_MS) {
    struct ifreq request = request_for(GUEST_INTERFACE);
    if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) return true;
    nanosleep(&pause, NULL);
  }
  return false;
}

static bool has_address(int fd) {
  struct ifreq request = request_for(GUEST_INTERFACE);
  return ioctl(fd, SIOCGIFADDR, &request) == 0;
}

/* Reports a failed step and keeps its error in *result. */
static void check(int *result, int step, const char *what) {
  if (step >= 0) return;
  errno = -step;
  say_errno("%s", what);
  *result = step;
}

int network_configure(void) {
  int result = 0;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    check(&result, -errno, "open a socket to configure the network");
    return result;
  }
  check(&result, bring_up(fd, "lo"), "bring up lo");
  if (!wait_for_interface(fd)) {
    close(fd);
    errno = ENODEV;
    say_errno("wait %d ms for " GUEST_INTERFACE, INTERFACE_WAIT_MS);
    return -ENODEV;
  }
  bool was_configured = has_address(fd);
  if (!was_configured) {
    check(&result, set_address(fd, SIOCSIFADDR, GUEST_ADDRESS), "set " GUEST_ADDRESS " on eth0");
    check(&result, set_address(fd, SIOCSIFNETMASK, GUEST_NETMASK), "set the netmask of eth0");
  }
  check(&result, bring_up(fd, GUEST_INTERFACE), "bring up eth0");
  if (!was_configured) check(&result, add_default_route(fd), "add the route via " GUEST_GATEWAY);
  close(fd);
  return result;
}
