#include "regions.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "pages/memory-index.h"

/* A reader of just that JSON: an array of flat objects. `at` never passes `end`. */
struct reader {
  const char *at;
  const char *end;
};

static void skip_space(struct reader *reader) {
  while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL && *reader->at != 0) {
    reader->at++;
  }
}

static bool take(struct reader *reader, char wanted) {
  skip_space(reader);
  if (reader->at == reader->end || *reader->at != wanted) return false;
  reader->at++;
  return true;
}

/* Field names are plain ASCII: a backslash makes the message invalid. */
static bool take_string(struct reader *reader, const char **ret_text, size_t *ret_size) {
  if (!take(reader, '"')) return false;
  const char *start = reader->at;
  while (reader->at < reader->end && *reader->at != '"') {
    if (*reader->at == '\\' || (unsigned char)*reader->at < ' ') return false;
    reader->at++;
  }
  if (reader->at == reader->end) return false;
  *ret_text = start;
  *ret_size = (size_t)(reader->at++ - start);
  return true;
}

static bool take_number(struct reader *reader, uint64_t *ret_value) {
  skip_space(reader);
  const char *start = reader->at;
  uint64_t value = 0;
  while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
    uint64_t digit = (uint64_t)(*reader->at - '0');
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value)) {
      return false;
    }
    reader->at++;
  }
  if (reader->at == start) return false;
  *ret_value = value;
  return true;
}

static bool skip_scalar(struct reader *reader) {
  static const char *const WORDS[] = {"true", "false", "null"};
  const char *text;
  size_t size;
  uint64_t value;
  skip_space(reader);
  for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
    size_t length = strlen(WORDS[i]);
    if ((size_t)(reader->end - reader->at) >= length && memcmp(reader->at, WORDS[i], length) == 0) {
      reader->at += length;
      return true;
    }
  }
  return take_string(reader, &text, &size) || take_number(reader, &value);
}

enum field {
  FIELD_ADDRESS,
  FIELD_SIZE,
  FIELD_OFFSET,
  FIELD_PAGE_SIZE,
  FIELD_PAGE_SIZE_KIB,
  FIELDS,
};
static const char *const FIELD_NAMES[FIELDS] = {"base_host_virt_addr", "size", "offset",
                                                "page_size", "page_size_kib"};

struct fields {
  uint64_t values[FIELDS];
  bool present[FIELDS];
};

static bool take_field(struct reader *reader, struct fields *fields) {
  const char *name;
  size_t size;
  if (!take_string(reader, &name, &size) || !take(reader, ':')) return false;
  for (int i = 0; i < FIELDS; i++) {
    if (strlen(FIELD_NAMES[i]) != size || memcmp(FIELD_NAMES[i], name, size) != 0) continue;
    if (fields->present[i]) return false;
    fields->present[i] = true;
    return take_number(reader, &fields->values[i]);
  }
  return skip_scalar(reader);
}

static bool take_object(struct reader *reader, struct fields *fields) {
  if (!take(reader, '{')) return false;
  if (take(reader, '}')) return true;
  do {
    if (!take_field(reader, fields)) return false;
  } while (take(reader, ','));
  return take(reader, '}');
}

/* page_size_kib is in bytes despite its name in the versions of Firecracker that send it. */
static int32_t check_page_size(const struct fields *fields, struct failure *failure) {
  uint64_t kib = fields->values[FIELD_PAGE_SIZE_KIB];
  uint64_t bytes = fields->present[FIELD_PAGE_SIZE] ? fields->values[FIELD_PAGE_SIZE]
                   : kib < MEMORY_BLOCK_BYTES       ? kib * 1024
                                                    : kib;
  if (!fields->present[FIELD_PAGE_SIZE] && !fields->present[FIELD_PAGE_SIZE_KIB]) return 0;
  if (bytes == MEMORY_BLOCK_BYTES) return 0;
  return fail(failure, -EOPNOTSUPP, "regions: pages of %" PRIu64 " bytes; only %d are served",
              bytes, MEMORY_BLOCK_BYTES);
}

static bool is_whole(const struct region *region, uint64_t total_bytes) {
  uint64_t end;
  return region->size > 0 && region->address % MEMORY_BLOCK_BYTES == 0 &&
         region->size % MEMORY_BLOCK_BYTES == 0 && region->offset % MEMORY_BLOCK_BYTES == 0 &&
         !__builtin_add_overflow(region->address, region->size, &end) &&
         !__builtin_add_overflow(region->offset, region->size, &end) && end <= total_bytes;
}

static int32_t add_region(struct regions *regions, const struct fields *fields,
                          uint64_t total_bytes, struct failure *failure) {
  if (regions->count == REGIONS_MAX) {
    return fail(failure, -EBADMSG, "regions: more than %d", REGIONS_MAX);
  }
  for (int i = FIELD_ADDRESS; i <= FIELD_OFFSET; i++) {
    if (!fields->present[i]) return fail(failure, -EBADMSG, "regions: no %s", FIELD_NAMES[i]);
  }
  int32_t result = check_page_size(fields, failure);
  if (result < 0) return result;
  struct region region = {.address = fields->values[FIELD_ADDRESS],
                          .size = fields->values[FIELD_SIZE],
                          .offset = fields->values[FIELD_OFFSET]};
  if (!is_whole(&region, total_bytes)) {
    return fail(failure, -EBADMSG, "regions: number %zu is not in the snapshot's memory",
                regions->count);
  }
  regions->list[regions->count++] = region;
  return 0;
}

static int by_address(const void *a, const void *b) {
  const struct region *first = a;
  const struct region *second = b;
  return (first->address > second->address) - (first->address < second->address);
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

static int32_t check_disjoint(const struct regions *regions, struct failure *failure) {
  for (size_t i = 0; i < regions->count; i++) {
    for (size_t j = 0; j < i; j++) {
      const struct region *a = &regions->list[i];
      const struct region *b = &regions->list[j];
      if (overlap(a->address, a->size, b->address, b->size) ||
          overlap(a->offset, a->size, b->offset, b->size)) {
        return fail(failure, -EBADMSG, "regions: two of them overlap");
      }
    }
  }
  return 0;
}

int32_t regions_parse(const char *text, size_t size, uint64_t total_bytes,
                      struct regions *ret_regions, struct failure *failure) {
  struct reader reader = {.at = text, .end = text + size};
  struct regions regions = {0};
  if (!take(&reader, '[')) return fail(failure, -EBADMSG, "regions: not a JSON array");
  do {
    struct fields fields = {0};
    if (!take_object(&reader, &fields)) {
      return fail(failure, -EBADMSG, "regions: invalid at byte %td", reader.at - text);
    }
    int32_t result = add_region(&regions, &fields, total_bytes, failure);
    if (result < 0) return result;
  } while (take(&reader, ','));
  bool is_closed = take(&reader, ']');
  skip_space(&reader);
  if (!is_closed || reader.at != reader.end) {
    return fail(failure, -EBADMSG, "regions: invalid at byte %td", reader.at - text);
  }
  int32_t result = check_disjoint(&regions, failure);
  if (result < 0) return result;
  qsort(regions.list, regions.count, sizeof *regions.list, by_address);
  *ret_regions = regions;
  return 0;
}

const struct region *regions_find_address(const struct regions *regions, uint64_t address) {
  for (size_t i = 0; i < regions->count; i++) {
    const struct region *region = &regions->list[i];
    if (address >= region->address && address - region->address < region->size) return region;
  }
  return NULL;
}

const struct region *regions_find_offset(const struct regions *regions, uint64_t offset) {
  for (size_t i = 0; i < regions->count; i++) {
    const struct region *region = &regions->list[i];
    if (offset >= region->offset && offset - region->offset < region->size) return region;
  }
  return NULL;
}
