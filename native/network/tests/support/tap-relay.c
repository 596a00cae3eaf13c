/*
 * tap-relay <slot netns> <its TAP> <guest netns> <its TAP>: stands for a VMM in tests. It passes
 * frames between the TAP of a network slot and one in a namespace that plays the guest, virtio
 * headers and all, until its standard input ends. Prints "ready" once both are open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The largest frame with offloads, and its header. */
enum { FRAME_BYTES = 65536 + 64 };

static int open_tap(const char *netns, const char *name) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  int ns = open(netns, O_RDONLY | O_CLOEXEC);
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) return -1;
  int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  return tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0 ? -1 : tap;
}

/* A frame that the other side cannot take is lost, as on a wire. */
static int pass_frame(int from, int to) {
  static char frame[FRAME_BYTES];
  ssize_t size = read(from, frame, sizeof frame);
  if (size < 0) return errno == EAGAIN ? 0 : -1;
  return write(to, frame, (size_t)size) < 0 && errno != EAGAIN && errno != EIO ? -1 : 0;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  int slot = open_tap(argv[1], argv[2]);
  int guest = open_tap(argv[3], argv[4]);
  if (slot < 0 || guest < 0) {
    perror("tap-relay");
    return 1;
  }
  (void)puts("ready");
  (void)fflush(stdout);

  struct pollfd files[] = {
      {.fd = slot, .events = POLLIN}, {.fd = guest, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  for (;;) {
    if (poll(files, 3, -1) < 0 && errno != EINTR) return 1;
    if (files[2].revents != 0) return 0;
    if ((files[0].revents & POLLIN) && pass_frame(slot, guest) < 0) return 1;
    if ((files[1].revents & POLLIN) && pass_frame(guest, slot) < 0) return 1;
  }
}
