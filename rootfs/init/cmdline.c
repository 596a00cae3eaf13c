/* Parsers and writers of the small texts in cmdline.h. */
#include "cmdline.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define LOCAL_NAME_ADDRESS "127.0.1.1"

/* End of the word at `at`: a blank outside double quotes, as in the kernel's next_arg(). */
static const char *word_end(const char *at) {
  bool quoted = false;
  while (*at != '\0' && (quoted || !isspace((unsigned char)*at))) {
    if (*at == '"') quoted = !quoted;
    at++;
  }
  return at;
}

static const char *skip_blanks(const char *at) {
  while (isspace((unsigned char)*at)) at++;
  return at;
}

int cmdline_value(const char *cmdline, const char *key, char *ret_value, size_t capacity) {
  size_t key_length = strlen(key);
  const char *value = NULL;
  const char *value_end = NULL;
  ret_value[0] = '\0';
  for (const char *word = skip_blanks(cmdline); *word != '\0';) {
    const char *end = word_end(word);
    if ((size_t)(end - word) > key_length && strncmp(word, key, key_length) == 0 &&
        word[key_length] == '=') {
      value = word + key_length + 1;
      value_end = end;
    }
    word = skip_blanks(end);
  }
  if (value == NULL) return -EINVAL;
  if (value_end - value >= 2 && value[0] == '"' && value_end[-1] == '"') {
    value++;
    value_end--;
  }
  size_t length = (size_t)(value_end - value);
  if (length >= capacity) return -ENOSPC;
  memcpy(ret_value, value, length);
  ret_value[length] = '\0';
  return (int)length;
}

bool cmdline_has(const char *cmdline, const char *wanted) {
  size_t wanted_length = strlen(wanted);
  for (const char *word = skip_blanks(cmdline); *word != '\0';) {
    const char *end = word_end(word);
    if ((size_t)(end - word) == wanted_length && strncmp(word, wanted, wanted_length) == 0) {
      return true;
    }
    word = skip_blanks(end);
  }
  return false;
}

bool hostname_is_valid(const char *name) {
  size_t length = strlen(name);
  if (length == 0 || length > HOSTNAME_MAX_BYTES) return false;
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)name[i];
    bool inner = i > 0 && i + 1 < length;
    if (!(c < 128 && isalnum(c)) && !(inner && (c == '-' || c == '.'))) return false;
  }
  return true;
}

/* Appends to ret_text at *used; false when it does not fit. */
static bool append(char *ret_text, size_t capacity, size_t *used, const char *text, size_t length) {
  if (length >= capacity - *used) return false;
  memcpy(ret_text + *used, text, length);
  *used += length;
  ret_text[*used] = '\0';
  return true;
}

static bool is_ip_address(const char *text) {
  unsigned char address[sizeof(struct in6_addr)];
  return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

int resolv_conf_text(const char *servers, char *ret_text, size_t capacity) {
  size_t used = 0;
  int count = 0;
  bool fits = append(ret_text, capacity, &used, RESOLV_CONF_MARK, strlen(RESOLV_CONF_MARK));
  for (const char *at = servers; fits && *at != '\0' && count < NAMESERVERS_MAX;) {
    size_t length = strcspn(at, ",");
    char address[INET6_ADDRSTRLEN];
    if (length < sizeof(address)) {
      memcpy(address, at, length);
      address[length] = '\0';
      if (is_ip_address(address)) {
        char line[sizeof("nameserver \n") + sizeof(address)];
        int line_length = snprintf(line, sizeof(line), "nameserver %s\n", address);
        fits = append(ret_text, capacity, &used, line, (size_t)line_length);
        count++;
      }
    }
    at += length;
    if (*at == ',') at++;
  }
  if (!fits || count == 0) ret_text[0] = '\0';
  if (!fits) return -ENOSPC;
  return count == 0 ? -EINVAL : (int)used;
}

static bool line_has_address(const char *line, size_t length, const char *address) {
  size_t address_length = strlen(address);
  return length > address_length && strncmp(line, address, address_length) == 0 &&
         isspace((unsigned char)line[address_length]);
}

static bool line_has_name(const char *line, size_t length, const char *name) {
  size_t name_length = strlen(name);
  for (size_t at = 0; at < length;) {
    while (at < length && isspace((unsigned char)line[at])) at++;
    size_t start = at;
    while (at < length && !isspace((unsigned char)line[at])) at++;
    if (start < at && line[start] == '#') return false;
    if (start > 0 && at - start == name_length && strncmp(line + start, name, name_length) == 0) {
      return true;
    }
  }
  return false;
}

int hosts_text(const char *old_text, const char *name, char *ret_text, size_t capacity) {
  char ours[sizeof(LOCAL_NAME_ADDRESS "\t\n") + HOSTNAME_MAX_BYTES];
  ret_text[0] = '\0';
  if (!hostname_is_valid(name)) return -EINVAL;
  size_t ours_length = (size_t)snprintf(ours, sizeof(ours), LOCAL_NAME_ADDRESS "\t%s\n", name);

  bool has_line = false;
  for (const char *line = old_text; *line != '\0';) {
    size_t length = strcspn(line, "\n");
    has_line = has_line || line_has_address(line, length, LOCAL_NAME_ADDRESS);
    line += length + (line[length] == '\n');
  }

  size_t used = 0;
  bool placed = false;
  bool fits = true;
  for (const char *line = old_text; fits && *line != '\0';) {
    size_t length = strcspn(line, "\n");
    bool ended = line[length] == '\n';
    bool replace = !placed && line_has_address(line, length, LOCAL_NAME_ADDRESS) &&
                   !line_has_name(line, length, name);
    if (replace) {
      fits = append(ret_text, capacity, &used, ours, ours_length);
    } else {
      fits = append(ret_text, capacity, &used, line, length) &&
             append(ret_text, capacity, &used, "\n", 1);
      if (fits && !has_line && !placed) fits = append(ret_text, capacity, &used, ours, ours_length);
    }
    placed = placed || replace || !has_line || line_has_address(line, length, LOCAL_NAME_ADDRESS);
    line += length + (ended ? 1 : 0);
  }
  if (fits && !placed) fits = append(ret_text, capacity, &used, ours, ours_length);
  if (!fits) ret_text[0] = '\0';
  return fits ? (int)used : -ENOSPC;
}
