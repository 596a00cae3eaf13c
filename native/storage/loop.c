#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "descriptor.h"
#include "wrenn.h"

/* LOOP_CTL_GET_FREE reserves nothing, so others may win the device; each loss is one try. */
enum { ATTACH_TRIES = 64, DEVICE_PATH_BYTES = 32 };

static int open_device(uint32_t index, int flags) {
  char path[DEVICE_PATH_BYTES];
  (void)snprintf(path, sizeof path, "/dev/loop%u", index);
  return open(path, flags | O_CLOEXEC);
}

int32_t wrenn_loop_attach(const char *path, int32_t read_only) {
  int access = read_only ? O_RDONLY : O_RDWR;
  AUTO_FD file = open(path, access | O_CLOEXEC);
  if (file < 0) return -errno;
  AUTO_FD control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return -errno;

  struct loop_config config = {.fd = (uint32_t)file};
  if (read_only) config.info.lo_flags = LO_FLAGS_READ_ONLY;
  /* Only a label, for losetup -l: the kernel works with the descriptor. */
  memcpy(config.info.lo_file_name, path, strnlen(path, LO_NAME_SIZE - 1));

  for (int tries = 0; tries < ATTACH_TRIES; tries++) {
    int index = ioctl(control, LOOP_CTL_GET_FREE);
    if (index < 0) return -errno;
    AUTO_FD device = open_device((uint32_t)index, access);
    if (device < 0) return -errno;
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0) return index;
    if (errno != EBUSY) return -errno;
  }
  return -EBUSY;
}

int32_t wrenn_loop_detach(uint32_t index) {
  AUTO_FD device = open_device(index, O_RDONLY);
  if (device < 0) return -errno;
  return ioctl(device, LOOP_CLR_FD) < 0 ? -errno : 0;
}
