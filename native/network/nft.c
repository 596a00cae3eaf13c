#define _GNU_SOURCE
#include <errno.h>
#include <nftables/libnftables.h>
#include <pthread.h>
#include <string.h>

#include "in-netns.h"
#include "wrenn.h"

struct commands {
  const char *text;
  char *answer;
  uint32_t size;
};

/*
 * The library's only global: libnftables (1.0.6) keeps its symbol tables and parser tables in
 * process-wide variables without a lock, and two Workers of one process may well call at once.
 */
static pthread_mutex_t libnftables_lock = PTHREAD_MUTEX_INITIALIZER;

static void copy_text(char *target, uint32_t size, const char *text) {
  size_t length = strnlen(text, size - 1);
  memcpy(target, text, length);
  target[length] = '\0';
}

/* The context opens its netlink socket when it is made, so it must be made inside the namespace. */
static int32_t run_commands(void *opaque) {
  struct commands *commands = opaque;
  struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
  if (context == NULL) return -ENOMEM;
  int32_t result = -ENOMEM;
  if (nft_ctx_buffer_output(context) == 0 && nft_ctx_buffer_error(context) == 0) {
    result = nft_run_cmd_from_buffer(context, commands->text) == 0 ? 0 : -EINVAL;
    const char *text = result == 0 ? nft_ctx_get_output_buffer(context)
                                   : nft_ctx_get_error_buffer(context);
    copy_text(commands->answer, commands->size, text != NULL ? text : "");
  }
  nft_ctx_free(context);
  return result;
}

int32_t wrenn_nft_run(const char *netns, const char *text, char *ret_text, uint32_t size) {
  if (size == 0) return -ENOSPC;
  struct commands commands = {.text = text, .answer = ret_text, .size = size};
  ret_text[0] = '\0';
  (void)pthread_mutex_lock(&libnftables_lock);
  int32_t result = in_netns(netns, run_commands, &commands);
  (void)pthread_mutex_unlock(&libnftables_lock);
  return result;
}
