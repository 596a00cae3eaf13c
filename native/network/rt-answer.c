#include "rt-answer.h"

#include <errno.h>
#include <string.h>

static bool is_whole(const struct nlmsghdr *message, size_t left, size_t payload) {
  return left >= NLMSG_HDRLEN && message->nlmsg_len >= NLMSG_LENGTH(payload) &&
         message->nlmsg_len <= left;
}

static int32_t read_error(const struct nlmsghdr *message, size_t left) {
  struct nlmsgerr refusal;
  if (!is_whole(message, left, sizeof refusal.error)) return -EBADMSG;
  memcpy(&refusal.error, NLMSG_DATA(message), sizeof refusal.error);
  return refusal.error > 0 ? -EBADMSG : refusal.error;
}

int32_t rt_read_acknowledgement(const void *answer, size_t size) {
  const struct nlmsghdr *message = answer;
  if (!is_whole(message, size, 0) || message->nlmsg_type != NLMSG_ERROR) return -EBADMSG;
  return read_error(message, size);
}

int32_t rt_read_dump(const void *answer, size_t size, rt_visit *visit, void *argument,
                     bool *ret_interrupted) {
  for (size_t at = 0; at < size;) {
    const struct nlmsghdr *message = (const void *)((const char *)answer + at);
    size_t left = size - at;
    if (!is_whole(message, left, 0)) return -EBADMSG;
    if (message->nlmsg_flags & NLM_F_DUMP_INTR) *ret_interrupted = true;
    if (message->nlmsg_type == NLMSG_DONE) return 1;
    if (message->nlmsg_type == NLMSG_ERROR) {
      int32_t error = read_error(message, left);
      return error < 0 ? error : 1;
    }
    int32_t result = visit(message, argument);
    if (result < 0) return result;
    at += NLMSG_ALIGN(message->nlmsg_len);
  }
  return 0;
}

static int32_t append_name(struct rt_names *list, const char *name, size_t room) {
  uint32_t length = (uint32_t)strnlen(name, room);
  size_t prefix = strlen(list->prefix);
  if (length < prefix || memcmp(name, list->prefix, prefix) != 0) return 0;
  if (list->used + length + 2 > list->size) return -ENOSPC;
  memcpy(list->names + list->used, name, length);
  list->names[list->used + length] = '\n';
  list->used += length + 1;
  return 0;
}

int32_t rt_collect_name(const struct nlmsghdr *message, void *names) {
  if (message->nlmsg_type != RTM_NEWLINK) return 0;
  size_t end = message->nlmsg_len;
  for (size_t at = NLMSG_SPACE(sizeof(struct ifinfomsg)); at < end;) {
    const struct rtattr *attribute = (const void *)((const char *)message + at);
    size_t left = end - at;
    if (left < sizeof *attribute || attribute->rta_len < sizeof *attribute ||
        attribute->rta_len > left) {
      return -EBADMSG;
    }
    if (attribute->rta_type == IFLA_IFNAME) {
      int32_t result = append_name(names, RTA_DATA(attribute), RTA_PAYLOAD(attribute));
      if (result < 0) return result;
    }
    at += RTA_ALIGN(attribute->rta_len);
  }
  return 0;
}

static bool is_of_moment(const struct nlmsghdr *message, size_t at) {
  size_t flags = offsetof(struct rtmsg, rtm_flags);
  return message->nlmsg_type == RTM_NEWROUTE && at >= flags && at < flags + sizeof(unsigned);
}

int32_t rt_collect_text(const struct nlmsghdr *message, void *text) {
  static const char DIGITS[] = "0123456789abcdef";
  struct rt_text *list = text;
  const uint8_t *bytes = NLMSG_DATA(message);
  size_t size = message->nlmsg_len - NLMSG_HDRLEN;
  if (2 * size + 2 > list->size - list->used) return -ENOSPC;
  for (size_t at = 0; at < size; at++) {
    uint8_t byte = is_of_moment(message, at) ? 0 : bytes[at];
    list->text[list->used++] = DIGITS[byte >> 4];
    list->text[list->used++] = DIGITS[byte & 15];
  }
  list->text[list->used++] = '\n';
  return 0;
}
