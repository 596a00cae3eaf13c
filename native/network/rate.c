#define _GNU_SOURCE
#include <errno.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>

#include "in-netns.h"
#include "rtnetlink.h"
#include "wrenn.h"

struct rate {
  const char *name;
  uint64_t bytes_per_s;
  uint32_t burst_bytes;
  uint32_t queue_bytes;
};

static int32_t remove_rate(uint32_t index) {
  struct rt_request request;
  struct tcmsg *message = rt_start(&request, RTM_DELQDISC, 0, sizeof *message);
  message->tcm_ifindex = (int)index;
  message->tcm_parent = TC_H_ROOT;
  int32_t result = rt_send(&request);
  /* What a device has by itself is nothing that could be deleted. */
  return result == -ENOENT ? 0 : result;
}

static int32_t set_rate(void *opaque) {
  const struct rate *rate = opaque;
  uint32_t index = if_nametoindex(rate->name);
  if (index == 0) return -errno;
  if (rate->bytes_per_s == 0) return remove_rate(index);

  struct tc_tbf_qopt parameters = {
      .rate = {.linklayer = TC_LINKLAYER_ETHERNET,
               .rate = rate->bytes_per_s < UINT32_MAX ? (uint32_t)rate->bytes_per_s : UINT32_MAX},
      .limit = rate->queue_bytes,
  };
  struct rt_request request;
  /* Of one that is there with the same kind, it changes the numbers and leaves what is queued. */
  struct tcmsg *message = rt_start(&request, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE,
                                   sizeof *message);
  message->tcm_ifindex = (int)index;
  message->tcm_parent = TC_H_ROOT;
  rt_put_string(&request, TCA_KIND, "tbf");
  struct rtattr *options = rt_begin(&request, TCA_OPTIONS);
  rt_put(&request, TCA_TBF_PARMS, &parameters, sizeof parameters);
  rt_put(&request, TCA_TBF_RATE64, &rate->bytes_per_s, sizeof rate->bytes_per_s);
  rt_put_u32(&request, TCA_TBF_BURST, rate->burst_bytes);
  rt_end(&request, options);
  return rt_send(&request);
}

int32_t wrenn_rate_set(const char *netns, const char *name, uint64_t bytes_per_s,
                       uint32_t burst_bytes, uint32_t queue_bytes) {
  size_t length = strnlen(name, IF_NAMESIZE);
  if (length == 0 || length >= IF_NAMESIZE) return -EINVAL;
  if (bytes_per_s > 0 && (burst_bytes == 0 || queue_bytes == 0)) return -EINVAL;
  struct rate rate = {.name = name,
                      .bytes_per_s = bytes_per_s,
                      .burst_bytes = burst_bytes,
                      .queue_bytes = queue_bytes};
  return in_netns(netns, set_rate, &rate);
}

static int32_t try_rate(void *opaque) {
  if (unshare(CLONE_NEWNET) < 0) return -errno;
  return set_rate(opaque);
}

int32_t wrenn_rate_try(void) {
  struct rate rate = {
      .name = "lo", .bytes_per_s = 1 << 20, .burst_bytes = 1 << 17, .queue_bytes = 1 << 17};
  return on_own_thread(try_rate, &rate);
}
