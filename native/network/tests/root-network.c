/* Makes real namespaces and devices, under names of its own process, and removes them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/run.h"
#include "wrenn.h"

static char netns[64], veth[16], text[4096];

static ino_t current_netns(void) {
  struct stat status;
  assert(stat("/proc/thread-self/ns/net", &status) == 0);
  return status.st_ino;
}

static void the_caller_stays_in_its_own_namespace(void) {
  struct stat made;
  ino_t before = current_netns();

  assert(wrenn_netns_create(netns) == 0);

  assert(current_netns() == before);
  assert(stat(netns, &made) == 0 && made.st_ino != before);
  assert(wrenn_netns_create(netns) == -EEXIST);
}

static void a_veth_pair_reaches_into_the_namespace(void) {
  assert(wrenn_veth_create(veth, "eth0", netns) == 0);
  assert(wrenn_veth_create(veth, "eth1", netns) == -EEXIST);
  assert(if_nametoindex(veth) > 0);
  assert(wrenn_address_add(NULL, veth, 0x0a0cfffe, 31) == 0);
  assert(wrenn_address_add(netns, "eth0", 0x0a0cffff, 31) == 0);
  assert(wrenn_address_add(netns, "eth0", 0x0a0cffff, 31) == -EEXIST);
  assert(wrenn_link_up(NULL, veth, 0) == 0);
  assert(wrenn_link_up(netns, "eth0", 0) == 0);
  assert(wrenn_route_add(netns, "eth0", 0, 0, 0x0a0cfffe) == 0);
  assert(wrenn_route_add(netns, "eth0", 0, 0, 0x0a0cfffe) == -EEXIST);
  assert(wrenn_route_add(netns, "lo", 0x01020304, 32, 0x05060708) == -ENETUNREACH);
}

static void what_is_listed_of_addresses_and_routes_changes_with_them_alone(void) {
  static char before[64 * 1024], after[64 * 1024], of_one[64 * 1024];
  int32_t size = wrenn_addressing_list(netns, "", before, sizeof before);
  assert(size > 0 && strlen(before) == (size_t)size);
  assert(wrenn_addressing_list(netns, "", after, sizeof after) == size);
  assert(strcmp(before, after) == 0);
  int32_t size_of_one = wrenn_addressing_list(netns, "eth0", of_one, sizeof of_one);
  assert(size_of_one > 0 && size_of_one < size);
  assert(wrenn_addressing_list(netns, "eth1", of_one, sizeof of_one) == -ENODEV);

  assert(wrenn_route_add(netns, "eth0", 0x01020304, 32, 0x0a0cfffe) == 0);
  assert(wrenn_addressing_list(netns, "", after, sizeof after) > size);
  assert(wrenn_addressing_list(netns, "eth0", of_one, sizeof of_one) > size_of_one);
}

/* In a child, which may move into the namespace for good; returns the child's exit status. */
static int open_tap_as(uid_t uid) {
  pid_t child = fork();
  assert(child >= 0);
  if (child == 0) {
    int ns = open(netns, O_RDONLY | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    strcpy(request.ifr_name, "tap0");
    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) _exit(90);
    /* The descriptor belongs to the namespace it was opened in. */
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0 || setresuid(uid, uid, uid) < 0) _exit(91);
    _exit(ioctl(tun, TUNSETIFF, &request) < 0 ? errno : 0);
  }
  int status;
  assert(waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void a_tap_opens_for_its_owner_and_for_no_other(void) {
  assert(wrenn_tap_create(netns, "tap0", 210001) == 0);
  assert(wrenn_link_up(netns, "tap0", 5000) == 0);

  assert(open_tap_as(210001) == 0);
  assert(open_tap_as(210002) == EPERM);
}

static void a_rate_is_set_changed_and_taken_away_again(void) {
  assert(wrenn_rate_try() == 0);
  assert(wrenn_rate_set(netns, "tap0", 0, 0, 0) == 0);
  assert(wrenn_rate_set(netns, "tap0", 2 << 20, 1 << 17, 1 << 18) == 0);
  assert(wrenn_rate_set(netns, "tap0", 12500000000, 1 << 30, 1 << 30) == 0);
  assert(wrenn_rate_set(netns, "tap0", 0, 0, 0) == 0);
  assert(wrenn_rate_set(netns, "tap0", 0, 0, 0) == 0);
  assert(wrenn_rate_set(netns, "tap0", 1, 0, 1) == -EINVAL);
  assert(wrenn_rate_set(netns, "tap1", 1000, 1000, 1000) == -ENODEV);
}

static void a_setting_changes_in_the_namespace_alone(void) {
  char before[16] = {0}, after[16] = {0};
  int fd = open("/proc/sys/net/ipv4/conf/all/log_martians", O_RDONLY | O_CLOEXEC);
  assert(fd >= 0 && read(fd, before, sizeof before - 1) > 0);

  assert(wrenn_sysctl_write(netns, "net/ipv4/conf/all/log_martians",
                            before[0] == '0' ? "1" : "0") == 0);

  assert(pread(fd, after, sizeof after - 1, 0) > 0);
  assert(strcmp(before, after) == 0);
  assert(close(fd) == 0);
  assert(wrenn_sysctl_read(netns, "net/ipv4/conf/all/log_martians", text, sizeof text) == 2);
  assert(text[0] == (before[0] == '0' ? '1' : '0') && text[1] == '\n');
}

static void nft_runs_in_the_namespace_and_explains_what_it_refuses(void) {
  assert(wrenn_nft_run(netns, "add table inet sentence", text, sizeof text) == 0);
  assert(wrenn_nft_run(netns, "list tables", text, sizeof text) == 0);
  assert(strcmp(text, "table inet sentence\n") == 0);
  assert(wrenn_nft_run(NULL, "list tables", text, sizeof text) == 0);
  assert(strstr(text, "sentence") == NULL);

  assert(wrenn_nft_run(netns, "add rule inet sentence none drop", text, sizeof text) == -EINVAL);
  assert(strstr(text, "No such file or directory") != NULL);
  assert(wrenn_nft_run(netns, "nonsense", text, 8) == -EINVAL);
  assert(strlen(text) == 7);
}

static void a_failed_buffer_of_nft_commands_changes_nothing(void) {
  const char *commands = "add table inet first\nadd chain inet none x";
  assert(wrenn_nft_run(netns, commands, text, sizeof text) == -EINVAL);
  assert(wrenn_nft_run(netns, "list tables", text, sizeof text) == 0);
  assert(strstr(text, "first") == NULL);
}

static void deletion_takes_the_pair_and_the_namespace(void) {
  assert(wrenn_link_delete(NULL, veth) == 0);
  assert(wrenn_link_delete(NULL, veth) == -ENODEV);
  assert(wrenn_netns_delete(netns) == 0);
  assert(wrenn_netns_delete(netns) == -ENOENT);
  assert(access(netns, F_OK) < 0);
}

static void a_namespace_that_was_never_mounted_is_deleted_too(void) {
  int fd = open(netns, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
  assert(fd >= 0 && close(fd) == 0);
  assert(wrenn_netns_delete(netns) == 0);
}

/* Below the directory so mounted, a namespace is not hidden when iproute2 mounts it again. */
static void a_directory_of_namespaces_is_shared_once_and_unshared_when_empty(void) {
  char directory[64];
  (void)snprintf(directory, sizeof directory, "/tmp/wrenn-netns-%d", getpid());
  assert(mkdir(directory, 0755) == 0);
  assert(wrenn_netns_unshare_directory(directory) == -EINVAL);
  assert(wrenn_netns_share_directory(directory) == 0);
  assert(wrenn_netns_share_directory(directory) == 0);

  char inside[80];
  (void)snprintf(inside, sizeof inside, "%s/one", directory);
  assert(wrenn_netns_create(inside) == 0);
  assert(wrenn_netns_unshare_directory(directory) == -ENOTEMPTY);
  assert(wrenn_netns_delete(inside) == 0);
  assert(wrenn_netns_unshare_directory(directory) == 0);
  assert(wrenn_netns_unshare_directory(directory) == -EINVAL);
  assert(rmdir(directory) == 0);
}

int main(void) {
  (void)mkdir("/run/netns", 0755);
  (void)snprintf(netns, sizeof netns, "/run/netns/wrenn-test-%d", getpid());
  (void)snprintf(veth, sizeof veth, "wt-%d", getpid() % 1000000);
  RUN(the_caller_stays_in_its_own_namespace);
  RUN(a_veth_pair_reaches_into_the_namespace);
  RUN(what_is_listed_of_addresses_and_routes_changes_with_them_alone);
  RUN(a_tap_opens_for_its_owner_and_for_no_other);
  RUN(a_rate_is_set_changed_and_taken_away_again);
  RUN(a_setting_changes_in_the_namespace_alone);
  RUN(nft_runs_in_the_namespace_and_explains_what_it_refuses);
  RUN(a_failed_buffer_of_nft_commands_changes_nothing);
  RUN(deletion_takes_the_pair_and_the_namespace);
  RUN(a_namespace_that_was_never_mounted_is_deleted_too);
  RUN(a_directory_of_namespaces_is_shared_once_and_unshared_when_empty);
  return 0;
}
