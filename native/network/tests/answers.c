/* The kernel's answers, whole, cut and lying about their lengths; under AddressSanitizer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "network/rt-answer.h"
#include "network/rtnetlink.h"
#include "tests/run.h"

enum { ANSWER_MAX = 512 };

struct answer {
  _Alignas(struct nlmsghdr) char bytes[ANSWER_MAX];
  size_t size;
};

static void append(struct answer *answer, uint16_t type, const void *payload, size_t size) {
  struct nlmsghdr header = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(size), .nlmsg_type = type};
  assert(answer->size + NLMSG_SPACE(size) <= ANSWER_MAX);
  memcpy(answer->bytes + answer->size, &header, sizeof header);
  if (size > 0) memcpy(answer->bytes + answer->size + NLMSG_HDRLEN, payload, size);
  answer->size += NLMSG_SPACE(size);
}

static void append_error(struct answer *answer, int error) {
  struct nlmsgerr refusal = {.error = error};
  append(answer, NLMSG_ERROR, &refusal, sizeof refusal);
}

static void append_link(struct answer *answer, const char *name) {
  struct rt_request request;
  (void)rt_start(&request, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));
  rt_put_u32(&request, IFLA_MTU, 1500);
  rt_put_string(&request, IFLA_IFNAME, name);
  append(answer, RTM_NEWLINK, request.payload, request.header.nlmsg_len - NLMSG_HDRLEN);
}

/* In memory that ends where the answer does. */
static int32_t read_names(const struct answer *answer, size_t size, char ret_names[64]) {
  char *copy = malloc(size > 0 ? size : 1);
  bool interrupted = false;
  struct rt_names names = {.prefix = "wv-", .names = ret_names, .size = 64};
  assert(copy != NULL);
  memcpy(copy, answer->bytes, size);
  int32_t result = rt_read_dump(copy, size, rt_collect_name, &names, &interrupted);
  ret_names[names.used] = '\0';
  free(copy);
  return result;
}

static void names_are_collected_from_whole_messages(void) {
  char names[64];
  struct answer answer = {0};
  append_link(&answer, "wv-abcd-1");
  append_link(&answer, "eth0");
  append_link(&answer, "wv-");
  assert(read_names(&answer, answer.size, names) == 0);
  assert(strcmp(names, "wv-abcd-1\nwv-\n") == 0);
  append(&answer, NLMSG_DONE, NULL, 0);
  assert(read_names(&answer, answer.size, names) == 1);
}

static void an_answer_cut_anywhere_is_refused_or_ends_with_a_whole_message(void) {
  char names[64];
  struct answer answer = {0};
  append_link(&answer, "wv-abcd-1");
  size_t padded = answer.size;
  size_t length = ((struct nlmsghdr *)(void *)answer.bytes)->nlmsg_len;
  append_link(&answer, "wv-abcd-2");
  assert(length < padded);
  for (size_t cut = 0; cut < answer.size; cut++) {
    bool is_whole = cut == 0 || (cut >= length && cut <= padded) || cut >= padded + length;
    assert(read_names(&answer, cut, names) == (is_whole ? 0 : -EBADMSG));
  }
}

static void lengths_that_leave_their_message_are_refused(void) {
  char names[64];
  struct answer answer = {0};
  append_link(&answer, "wv-abcd-1");
  struct nlmsghdr *header = (struct nlmsghdr *)(void *)answer.bytes;
  struct rtattr *attribute = (struct rtattr *)(void *)(answer.bytes +
                                                       NLMSG_SPACE(sizeof(struct ifinfomsg)));
  for (uint16_t length = 0; length < sizeof *attribute; length++) {
    attribute->rta_len = length;
    assert(read_names(&answer, answer.size, names) == -EBADMSG);
  }
  attribute->rta_len = UINT16_MAX;
  assert(read_names(&answer, answer.size, names) == -EBADMSG);
  for (uint32_t length = 0; length < NLMSG_HDRLEN; length++) {
    header->nlmsg_len = length;
    assert(read_names(&answer, answer.size, names) == -EBADMSG);
  }
  /* Too short for what a link begins with: it has no attributes. */
  header->nlmsg_len = NLMSG_HDRLEN;
  assert(read_names(&answer, NLMSG_HDRLEN, names) == 0 && names[0] == '\0');
}

static void an_acknowledgement_is_zero_or_a_negative_errno(void) {
  struct answer answer = {0};
  append_error(&answer, 0);
  assert(rt_read_acknowledgement(answer.bytes, answer.size) == 0);
  answer.size = 0;
  append_error(&answer, -EEXIST);
  assert(rt_read_acknowledgement(answer.bytes, answer.size) == -EEXIST);
  assert(rt_read_acknowledgement(answer.bytes, NLMSG_HDRLEN + 3) == -EBADMSG);
  assert(rt_read_acknowledgement(answer.bytes, 3) == -EBADMSG);
  answer.size = 0;
  append_error(&answer, 7);
  assert(rt_read_acknowledgement(answer.bytes, answer.size) == -EBADMSG);
  answer.size = 0;
  append(&answer, NLMSG_ERROR, NULL, 0);
  assert(rt_read_acknowledgement(answer.bytes, answer.size) == -EBADMSG);
}

static void a_message_is_told_in_hexadecimal_but_for_the_flags_of_a_route(void) {
  char text[64];
  struct rt_text list = {.text = text, .size = sizeof text};
  struct answer answer = {0};
  bool interrupted = false;
  struct rtmsg route = {.rtm_family = 2, .rtm_dst_len = 31, .rtm_flags = RTNH_F_LINKDOWN};
  append(&answer, RTM_NEWROUTE, &route, sizeof route);
  append(&answer, RTM_NEWADDR, "\x01\xfe", 2);
  assert(rt_read_dump(answer.bytes, answer.size, rt_collect_text, &list, &interrupted) == 0);
  text[list.used] = '\0';
  assert(strcmp(text, "021f00000000000000000000\n01fe\n") == 0);

  list = (struct rt_text){.text = text, .size = 2 * sizeof route + 1};
  assert(rt_collect_text((const void *)answer.bytes, &list) == -ENOSPC && list.used == 0);
}

int main(void) {
  RUN(names_are_collected_from_whole_messages);
  RUN(an_answer_cut_anywhere_is_refused_or_ends_with_a_whole_message);
  RUN(lengths_that_leave_their_message_are_refused);
  RUN(a_message_is_told_in_hexadecimal_but_for_the_flags_of_a_route);
  RUN(an_acknowledgement_is_zero_or_a_negative_errno);
  return 0;
}
