#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "descriptor.h"
#include "in-netns.h"
#include "rtnetlink.h"
#include "wrenn.h"

/* A dump fails when devices come and go meanwhile; pools do that for seconds at most. */
enum { DUMP_TRIES = 100 };

struct device {
  const char *name;
  uint32_t tx_queue_length;
  uint32_t address;
  uint32_t prefix_length;
  uint32_t gateway;
};

static bool is_device_name(const char *name) {
  size_t length = strnlen(name, IF_NAMESIZE);
  return length > 0 && length < IF_NAMESIZE;
}

int32_t wrenn_veth_create(const char *name, const char *peer, const char *netns) {
  if (!is_device_name(name) || !is_device_name(peer)) return -EINVAL;
  AUTO_FD fd = open(netns, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;

  struct rt_request request;
  (void)rt_start(&request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
  rt_put_string(&request, IFLA_IFNAME, name);
  struct rtattr *info = rt_begin(&request, IFLA_LINKINFO);
  rt_put_string(&request, IFLA_INFO_KIND, "veth");
  struct rtattr *details = rt_begin(&request, IFLA_INFO_DATA);
  struct rtattr *other = rt_begin(&request, VETH_INFO_PEER);
  (void)rt_reserve(&request, sizeof(struct ifinfomsg));
  rt_put_string(&request, IFLA_IFNAME, peer);
  rt_put_u32(&request, IFLA_NET_NS_FD, (uint32_t)fd);
  rt_end(&request, other);
  rt_end(&request, details);
  rt_end(&request, info);
  return rt_send(&request);
}

static int32_t delete_device(void *opaque) {
  const struct device *device = opaque;
  struct rt_request request;
  (void)rt_start(&request, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
  rt_put_string(&request, IFLA_IFNAME, device->name);
  return rt_send(&request);
}

int32_t wrenn_link_delete(const char *netns, const char *name) {
  if (!is_device_name(name)) return -EINVAL;
  struct device device = {.name = name};
  return in_netns(netns, delete_device, &device);
}

static int32_t bring_up(void *opaque) {
  const struct device *device = opaque;
  struct rt_request request;
  struct ifinfomsg *link = rt_start(&request, RTM_NEWLINK, 0, sizeof *link);
  link->ifi_flags = IFF_UP;
  link->ifi_change = IFF_UP;
  rt_put_string(&request, IFLA_IFNAME, device->name);
  if (device->tx_queue_length > 0) rt_put_u32(&request, IFLA_TXQLEN, device->tx_queue_length);
  return rt_send(&request);
}

int32_t wrenn_link_up(const char *netns, const char *name, uint32_t tx_queue_length) {
  if (!is_device_name(name)) return -EINVAL;
  struct device device = {.name = name, .tx_queue_length = tx_queue_length};
  return in_netns(netns, bring_up, &device);
}

int32_t wrenn_link_list(const char *prefix, char *ret_names, uint32_t size) {
  if (size == 0) return -ENOSPC;
  for (int tries = 0; tries < DUMP_TRIES; tries++) {
    struct rt_names list = {.prefix = prefix, .names = ret_names, .size = size};
    struct rt_request request;
    (void)rt_start(&request, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
    int32_t result = rt_dump(&request, rt_collect_name, &list);
    if (result == -EINTR) continue;
    if (result < 0) return result;
    ret_names[list.used] = '\0';
    return (int32_t)list.used;
  }
  return -EINTR;
}

struct addressing {
  const char *name; /* "": of all devices */
  struct rt_text text;
};

static int32_t list_addresses(struct rt_text *text, uint32_t index) {
  struct rt_request request;
  struct ifaddrmsg *message = rt_start(&request, RTM_GETADDR, 0, sizeof *message);
  message->ifa_family = AF_INET;
  message->ifa_index = index;
  return rt_dump(&request, rt_collect_text, text);
}

static int32_t list_routes(struct rt_text *text, uint32_t index) {
  struct rt_request request;
  struct rtmsg *message = rt_start(&request, RTM_GETROUTE, 0, sizeof *message);
  message->rtm_family = AF_INET;
  if (index != 0) rt_put_u32(&request, RTA_OIF, index);
  return rt_dump(&request, rt_collect_text, text);
}

static int32_t list_addressing(void *opaque) {
  struct addressing *addressing = opaque;
  bool is_one = addressing->name[0] != '\0';
  uint32_t index = is_one ? if_nametoindex(addressing->name) : 0;
  if (is_one && index == 0) return -errno;
  for (int tries = 0; tries < DUMP_TRIES; tries++) {
    addressing->text.used = 0;
    int32_t result = list_addresses(&addressing->text, index);
    if (result == 0) result = list_routes(&addressing->text, index);
    if (result != -EINTR) return result;
  }
  return -EINTR;
}

int32_t wrenn_addressing_list(const char *netns, const char *name, char *ret_text, uint32_t size) {
  if (name[0] != '\0' && !is_device_name(name)) return -EINVAL;
  if (size == 0) return -ENOSPC;
  struct addressing addressing = {.name = name, .text = {.text = ret_text, .size = size}};
  int32_t result = in_netns(netns, list_addressing, &addressing);
  if (result < 0) return result;
  ret_text[addressing.text.used] = '\0';
  return (int32_t)addressing.text.used;
}

static int32_t add_address(void *opaque) {
  const struct device *device = opaque;
  uint32_t index = if_nametoindex(device->name);
  if (index == 0) return -errno;
  struct rt_request request;
  struct ifaddrmsg *message = rt_start(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL,
                                       sizeof *message);
  message->ifa_family = AF_INET;
  message->ifa_prefixlen = (uint8_t)device->prefix_length;
  message->ifa_index = index;
  rt_put_u32(&request, IFA_LOCAL, htonl(device->address));
  rt_put_u32(&request, IFA_ADDRESS, htonl(device->address));
  return rt_send(&request);
}

int32_t wrenn_address_add(const char *netns, const char *name, uint32_t address,
                          uint32_t prefix_length) {
  if (!is_device_name(name) || prefix_length > 32) return -EINVAL;
  struct device device = {.name = name, .address = address, .prefix_length = prefix_length};
  return in_netns(netns, add_address, &device);
}

static int32_t add_route(void *opaque) {
  const struct device *device = opaque;
  uint32_t index = if_nametoindex(device->name);
  if (index == 0) return -errno;
  struct rt_request request;
  struct rtmsg *message = rt_start(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL,
                                   sizeof *message);
  message->rtm_family = AF_INET;
  message->rtm_dst_len = (uint8_t)device->prefix_length;
  message->rtm_table = RT_TABLE_MAIN;
  message->rtm_protocol = RTPROT_BOOT;
  message->rtm_scope = RT_SCOPE_UNIVERSE;
  message->rtm_type = RTN_UNICAST;
  if (device->prefix_length > 0) rt_put_u32(&request, RTA_DST, htonl(device->address));
  rt_put_u32(&request, RTA_GATEWAY, htonl(device->gateway));
  rt_put_u32(&request, RTA_OIF, index);
  return rt_send(&request);
}

int32_t wrenn_route_add(const char *netns, const char *name, uint32_t destination,
                        uint32_t prefix_length, uint32_t gateway) {
  if (!is_device_name(name) || prefix_length > 32) return -EINVAL;
  struct device device = {
      .name = name, .address = destination, .prefix_length = prefix_length, .gateway = gateway};
  return in_netns(netns, add_route, &device);
}
