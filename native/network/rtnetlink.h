/* Requests to the kernel's routing and device tables: build a message, send it, read the answer. */
#ifndef WRENN_RTNETLINK_H
#define WRENN_RTNETLINK_H

#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

#include "rt-answer.h"

/* Every request here has a few names and numbers; 1 KiB is several times the largest. */
struct rt_request {
  struct nlmsghdr header;
  char payload[1024];
};

/* Starts a message of `type`; flags are added to NLM_F_REQUEST. Returns its zeroed fixed part. */
void *rt_start(struct rt_request *request, uint16_t type, uint16_t flags, size_t fixed_size);

/* Appends an attribute. Sizes are bounded by the callers; past the buffer this aborts. */
void rt_put(struct rt_request *request, uint16_t type, const void *value, size_t size);
void rt_put_string(struct rt_request *request, uint16_t type, const char *value);
void rt_put_u32(struct rt_request *request, uint16_t type, uint32_t value);

/* Opens a nested attribute; rt_end closes it with everything appended in between. */
struct rtattr *rt_begin(struct rt_request *request, uint16_t type);
void rt_end(struct rt_request *request, struct rtattr *nest);

/* Appends room for a fixed header inside a nested attribute, zeroed. */
void *rt_reserve(struct rt_request *request, size_t size);

/*
 * Sends the request in the calling thread's namespace and returns the kernel's answer, 0 or -errno.
 */
int32_t rt_send(struct rt_request *request);

/*
 * Sends a dump request and calls visit for each message of the answer; visit's first -errno ends it
 * and is returned. -EINTR: the table changed under the dump, ask again.
 */
int32_t rt_dump(struct rt_request *request, rt_visit *visit, void *argument);

#endif
