/* What is refused before the kernel is asked, and how a netlink message is laid out. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/if_link.h>
#include <string.h>

#include "network/rtnetlink.h"
#include "tests/run.h"
#include "wrenn.h"

static const char *SIXTEEN = "wv-abcd-32767abc";

static void device_names_over_15_characters_are_refused(void) {
  assert(wrenn_veth_create(SIXTEEN, "eth0", "/proc/self/ns/net") == -EINVAL);
  assert(wrenn_veth_create("wv", "", "/proc/self/ns/net") == -EINVAL);
  assert(wrenn_link_delete(NULL, SIXTEEN) == -EINVAL);
  assert(wrenn_link_up(NULL, "", 0) == -EINVAL);
  assert(wrenn_tap_create(NULL, SIXTEEN, 1) == -EINVAL);
  assert(wrenn_address_add(NULL, "lo", 0x0a000001, 33) == -EINVAL);
  assert(wrenn_route_add(NULL, "lo", 0, 33, 0x0a000001) == -EINVAL);
  assert(wrenn_addressing_list(NULL, SIXTEEN, NULL, 0) == -EINVAL);
}

static void a_setting_outside_proc_sys_is_refused(void) {
  assert(wrenn_sysctl_write(NULL, "../self/oom_score_adj", "0") == -EINVAL);
  assert(wrenn_sysctl_write(NULL, "/etc/passwd", "0") == -EINVAL);
  assert(wrenn_sysctl_write(NULL, "net/no_such_setting", "0") == -ENOENT);

  char text[64] = "before";
  assert(wrenn_sysctl_read(NULL, "kernel/ostype\n../self/comm", text, sizeof text) == -EINVAL);
  assert(text[0] == '\0');
  assert(wrenn_sysctl_read(NULL, "/etc/passwd", text, sizeof text) == -EINVAL);
}

static void a_setting_as_long_as_no_path_is_refused(void) {
  char key[PATH_MAX + 1] = "";
  memset(key, 'a', PATH_MAX);
  assert(wrenn_sysctl_write(NULL, key, "0") == -ENAMETOOLONG);
}

static void settings_are_read_a_line_each(void) {
  char text[16];
  const char *keys = "kernel/ostype\nnet/no_such_setting\nkernel/ostype";
  assert(wrenn_sysctl_read(NULL, keys, text, sizeof text) == 13);
  assert(strcmp(text, "Linux\n\nLinux\n") == 0);
  assert(wrenn_sysctl_read(NULL, "", text, sizeof text) == 0 && text[0] == '\0');
}

static void a_namespace_that_does_not_exist_is_named_by_enoent(void) {
  assert(wrenn_link_up("/run/netns/wrenn-none", "lo", 0) == -ENOENT);
  assert(wrenn_veth_create("wv", "eth0", "/run/netns/wrenn-none") == -ENOENT);
  assert(wrenn_netns_delete("/run/netns/wrenn-none") == -ENOENT);
}

static void an_answer_that_does_not_fit_is_refused(void) {
  char names[4] = "??";
  assert(wrenn_addressing_list(NULL, "lo", names, 0) == -ENOSPC);
  assert(wrenn_addressing_list(NULL, "lo", names, 4) == -ENOSPC);
  assert(wrenn_link_list("lo", names, 0) == -ENOSPC);
  assert(wrenn_link_list("lo", names, 3) == -ENOSPC);
  assert(wrenn_link_list("lo", names, 4) == 3);
  assert(strcmp(names, "lo\n") == 0);
  char text[8];
  assert(wrenn_sysctl_read(NULL, "kernel/ostype", text, 0) == -ENOSPC);
  assert(wrenn_sysctl_read(NULL, "kernel/ostype", text, 6) == -ENOSPC);
  assert(wrenn_sysctl_read(NULL, "kernel/ostype", text, sizeof text) == 6);
  /* Where the first leaves room for the NUL alone, the second's empty line has none. */
  char exact[7];
  const char *keys = "kernel/ostype\nnet/no_such_setting";
  assert(wrenn_sysctl_read(NULL, keys, exact, sizeof exact) == -ENOSPC);
}

static void a_nest_covers_its_attributes_and_keeps_alignment(void) {
  struct rt_request request;
  memset(&request, 0xff, sizeof request);
  (void)rt_start(&request, RTM_NEWLINK, NLM_F_CREATE, sizeof(struct ifinfomsg));
  size_t start = request.header.nlmsg_len;

  struct rtattr *nest = rt_begin(&request, IFLA_LINKINFO);
  rt_put_string(&request, IFLA_INFO_KIND, "veth");
  rt_end(&request, nest);

  /* Header 4, "veth" and NUL 5, padded to 8: 4 + 4 + 8. */
  assert(nest->rta_len == 16);
  assert(request.header.nlmsg_len == start + 16);
  assert(request.header.nlmsg_flags == (NLM_F_REQUEST | NLM_F_CREATE));
  const struct rtattr *kind = RTA_DATA(nest);
  assert(kind->rta_type == IFLA_INFO_KIND && kind->rta_len == 9);
  const char *text = RTA_DATA(kind);
  assert(strcmp(text, "veth") == 0 && text[5] == 0 && text[6] == 0 && text[7] == 0);
}

static void the_time_stamp_counter_gives_the_same_frequency_twice(void) {
  assert(wrenn_tsc_khz(9) == -EINVAL);
  assert(wrenn_tsc_khz(1001) == -EINVAL);
  int32_t first = wrenn_tsc_khz(50);
  int32_t second = wrenn_tsc_khz(50);
  assert(first > 100000 && second > 100000);
  /* One part in ten thousand: the machine may be busy. */
  assert(first - second < first / 10000 && second - first < first / 10000);
}

int main(void) {
  RUN(device_names_over_15_characters_are_refused);
  RUN(a_setting_outside_proc_sys_is_refused);
  RUN(a_setting_as_long_as_no_path_is_refused);
  RUN(settings_are_read_a_line_each);
  RUN(a_namespace_that_does_not_exist_is_named_by_enoent);
  RUN(an_answer_that_does_not_fit_is_refused);
  RUN(a_nest_covers_its_attributes_and_keeps_alignment);
  RUN(the_time_stamp_counter_gives_the_same_frequency_twice);
  return 0;
}
