/* Tests of cmdline.c and small-file.c, given an empty directory: one "ok <sentence>" a line,
 * abort() at the first that is not so. Run under sanitizers, which see what a wrong length would
 * read or write. */
#include "../cmdline.h"
#include "../small-file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 1024
#define RANDOM_TEXTS 200000

static void ok(const char *sentence) { printf("ok %s\n", sentence); }

static void expect_value(const char *cmdline, const char *key, const char *expected) {
  char value[32];
  int length = cmdline_value(cmdline, key, value, sizeof(value));
  if (expected == NULL) {
    assert(length == -EINVAL);
    assert(value[0] == '\0');
    return;
  }
  assert(length == (int)strlen(expected));
  assert(strcmp(value, expected) == 0);
}

static void a_value_is_found_by_its_whole_key(void) {
  expect_value("root=/dev/vda rw wrenn.dns=1.1.1.1", "root", "/dev/vda");
  expect_value("xroot=/dev/vdb root=/dev/vda", "root", "/dev/vda");
  expect_value("root2=/dev/vdb", "root", NULL);
  expect_value("root", "root", NULL);
  expect_value("", "root", NULL);
  expect_value("  \n", "root", NULL);
  expect_value("root=", "root", "");
  expect_value("root=a=b\n", "root", "a=b");
  ok("a value is found by its whole key");
}

static void the_last_of_several_values_wins(void) {
  expect_value("init=/a init=/b", "init", "/b");
  ok("the last of several values wins");
}

static void quotes_keep_blanks_together(void) {
  expect_value("a=\"x init=/evil y\" init=/b", "init", "/b");
  expect_value("a=\"x y\" b=1", "a", "x y");
  expect_value("a=\"open init=/b", "init", NULL);
  expect_value("a=\"", "a", "\"");
  ok("quotes keep blanks together");
}

static void a_value_that_does_not_fit_is_refused(void) {
  char value[4] = "old";
  assert(cmdline_value("a=1234", "a", value, sizeof(value)) == -ENOSPC);
  assert(value[0] == '\0');
  assert(cmdline_value("a=123", "a", value, sizeof(value)) == 3);
  ok("a value that does not fit is refused");
}

static void a_word_alone_is_found(void) {
  assert(cmdline_has("quiet ro", "ro"));
  assert(!cmdline_has("root=/dev/vda rodata=off ro=1", "ro"));
  assert(!cmdline_has("a=\"x ro y\"", "ro"));
  ok("a word alone is found");
}

static void host_names_have_plain_characters(void) {
  char longest[HOSTNAME_MAX_BYTES + 2];
  memset(longest, 'a', sizeof(longest));
  longest[HOSTNAME_MAX_BYTES] = '\0';
  assert(hostname_is_valid("capsule"));
  assert(hostname_is_valid("cl-0a1b.example"));
  assert(hostname_is_valid(longest));
  longest[HOSTNAME_MAX_BYTES] = 'a';
  longest[HOSTNAME_MAX_BYTES + 1] = '\0';
  assert(!hostname_is_valid(longest));
  assert(!hostname_is_valid(""));
  assert(!hostname_is_valid("-a"));
  assert(!hostname_is_valid("a-"));
  assert(!hostname_is_valid("a b"));
  assert(!hostname_is_valid("a\nb"));
  assert(!hostname_is_valid("\xc3\xa4"));
  ok("host names have plain characters");
}

static void expect_resolv_conf(const char *servers, const char *expected) {
  char text[TEXT_BYTES];
  int length = resolv_conf_text(servers, text, sizeof(text));
  assert(length == (int)(strlen(RESOLV_CONF_MARK) + strlen(expected)));
  assert(strncmp(text, RESOLV_CONF_MARK, strlen(RESOLV_CONF_MARK)) == 0);
  assert(strcmp(text + strlen(RESOLV_CONF_MARK), expected) == 0);
}

static void name_servers_that_are_no_addresses_are_left_out(void) {
  char text[TEXT_BYTES];
  char tiny[8];
  expect_resolv_conf("8.8.8.8,8.8.4.4", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
  expect_resolv_conf("example.com,1.1.1.1,,999.1.1.1", "nameserver 1.1.1.1\n");
  expect_resolv_conf("fd00::1", "nameserver fd00::1\n");
  expect_resolv_conf("1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4",
                     "nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n");
  assert(resolv_conf_text("", text, sizeof(text)) == -EINVAL);
  assert(resolv_conf_text("a\nnameserver 6.6.6.6", text, sizeof(text)) == -EINVAL);
  assert(resolv_conf_text("1.1.1.1", tiny, sizeof(tiny)) == -ENOSPC);
  assert(tiny[0] == '\0');
  ok("name servers that are no addresses are left out");
}

static void expect_hosts(const char *old_text, const char *expected) {
  char text[TEXT_BYTES];
  char again[TEXT_BYTES];
  assert(hosts_text(old_text, "cl-1", text, sizeof(text)) == (int)strlen(expected));
  assert(strcmp(text, expected) == 0);
  assert(hosts_text(text, "cl-1", again, sizeof(again)) == (int)strlen(expected));
  assert(strcmp(text, again) == 0);
}

static void the_host_name_stands_once_in_etc_hosts(void) {
  char text[TEXT_BYTES];
  char tiny[24];
  expect_hosts("127.0.0.1\tlocalhost\n::1\tlocalhost\n",
               "127.0.0.1\tlocalhost\n127.0.1.1\tcl-1\n::1\tlocalhost\n");
  expect_hosts("127.0.0.1 localhost\n127.0.1.1 old\n10.0.0.1 mine\n",
               "127.0.0.1 localhost\n127.0.1.1\tcl-1\n10.0.0.1 mine\n");
  expect_hosts("127.0.1.1 other cl-1\n", "127.0.1.1 other cl-1\n");
  expect_hosts("127.0.1.1 old # cl-1\n", "127.0.1.1\tcl-1\n");
  expect_hosts("127.0.1.10 x", "127.0.1.10 x\n127.0.1.1\tcl-1\n");
  expect_hosts("", "127.0.1.1\tcl-1\n");
  assert(hosts_text("", "not a name", text, sizeof(text)) == -EINVAL);
  assert(hosts_text("127.0.0.1 localhost\n", "cl-1", tiny, sizeof(tiny)) == -ENOSPC);
  assert(tiny[0] == '\0');
  ok("the host name stands once in /etc/hosts, however often it is written");
}

/* Heap copies of the exact size, so that a read past the NUL is seen. */
static void any_text_is_read_within_its_bounds(void) {
  static const char alphabet[] = "a=\" \n\t#,.:127wrenn";
  srandom(1);
  for (int i = 0; i < RANDOM_TEXTS; i++) {
    char value[16];
    size_t length = (size_t)random() % 48;
    char *text = malloc(length + 1);
    assert(text != NULL);
    for (size_t at = 0; at < length; at++) {
      text[at] = alphabet[(size_t)random() % (sizeof(alphabet) - 1)];
    }
    text[length] = '\0';
    size_t capacity = 1 + (size_t)random() % sizeof(value);
    cmdline_value(text, "a", value, capacity);
    cmdline_has(text, "a");
    hostname_is_valid(text);
    resolv_conf_text(text, value, capacity);
    hosts_text(text, "a", value, capacity);
    free(text);
  }
  ok("any text is read within its bounds");
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert(file != NULL);
  assert(fputs(text, file) >= 0);
  assert(fclose(file) == 0);
}

static void a_small_file_is_read_whole_or_not_at_all(const char *dir) {
  char path[256];
  char text[5];
  snprintf(path, sizeof(path), "%s/small", dir);
  assert(read_small_file(path, text, sizeof(text)) == -ENOENT);
  write_file(path, "1234");
  assert(read_small_file(path, text, sizeof(text)) == 4);
  assert(strcmp(text, "1234") == 0);
  write_file(path, "12345");
  assert(read_small_file(path, text, sizeof(text)) == -EFBIG);
  assert(text[0] == '\0');
  write_file(path, "");
  assert(read_small_file(path, text, sizeof(text)) == 0);
  assert(text[0] == '\0');
  assert(read_small_file(dir, text, sizeof(text)) == -EISDIR);
  ok("a small file is read whole or not at all");
}

int main(int argc, char **argv) {
  assert(argc == 2);
  a_small_file_is_read_whole_or_not_at_all(argv[1]);
  a_value_is_found_by_its_whole_key();
  the_last_of_several_values_wins();
  quotes_keep_blanks_together();
  a_value_that_does_not_fit_is_refused();
  a_word_alone_is_found();
  host_names_have_plain_characters();
  name_servers_that_are_no_addresses_are_left_out();
  the_host_name_stands_once_in_etc_hosts();
  any_text_is_read_within_its_bounds();
  return 0;
}
