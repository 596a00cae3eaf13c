/*
 * The index of a memory snapshot: what each page of a guest is, and where its bytes lie. One header
 * file holds the index of one generation, whole: no chain of parents is walked to find a page.
 * docs/memory.md has the layout on disk.
 */
#ifndef WRENN_PAGES_MEMORY_INDEX_H
#define WRENN_PAGES_MEMORY_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

enum {
  MEMORY_BLOCK_BYTES = 4096,
  MEMORY_ID_BYTES = 16,
  /* A merge is due long before (the agent merges at 8 generations); each layer is an open file. */
  MEMORY_LAYERS_MAX = 64,
  /* 128 MiB of index: 16 GiB of guest in which every page differs in kind from its neighbours. */
  MEMORY_MAPPINGS_MAX = 4 * 1024 * 1024,
};
#define MEMORY_TOTAL_BYTES_MAX (256ull << 30)

enum memory_kind {
  MEMORY_HOLE = 0, /* never touched; in a difference: as in the parent */
  MEMORY_ZERO = 1, /* touched, and all zeros */
  MEMORY_DATA = 2, /* bytes in a layer */
};

enum layer_format {
  LAYER_RAW = 1,    /* the data alone, as version 1 of the header has it: no checksums */
  LAYER_SUMMED = 2, /* data, checksums per chunk, footer */
};

struct memory_mapping {
  uint64_t offset; /* in the guest's memory, as length and storage in bytes: multiples of a block */
  uint64_t length;
  uint64_t storage; /* offset in the layer; 0 unless kind is data */
  uint32_t layer;   /* index into layers; 0 unless kind is data */
  uint32_t kind;
};

struct memory_layer {
  uint8_t id[MEMORY_ID_BYTES]; /* the build that wrote it; names its file */
  uint64_t data_bytes;         /* 0 for a raw layer: its file's size decides */
  uint32_t footer_crc;         /* pins the exact file; 0 for a raw layer */
  uint32_t format;
};

struct memory_index {
  uint64_t total_bytes;
  uint64_t generation;
  uint8_t id[MEMORY_ID_BYTES];
  uint8_t base_id[MEMORY_ID_BYTES];
  uint64_t mapping_count;
  struct memory_mapping *mappings; /* sorted, without gaps, cover [0, total_bytes); owned */
  uint32_t layer_count;
  struct memory_layer layers[MEMORY_LAYERS_MAX];
};

/*
 * Reads the bytes of a header, version 1 or 2, trusting nothing in them. On success the caller
 * frees ret_index. -EBADMSG: torn, changed or invalid, with the reason; -ENOMEM.
 */
int32_t memory_index_decode(const uint8_t *bytes, size_t size, struct memory_index *ret_index,
                            struct failure *failure);

/* Reads a whole header file. Errors of memory_index_decode, -EFBIG (over the bounds), -errno. */
int32_t memory_index_load(int fd, struct memory_index *ret_index, struct failure *failure);

void memory_index_free(struct memory_index *index);

/* The number of the mapping that holds `offset`, which is below total_bytes. */
uint64_t memory_index_find(const struct memory_index *index, uint64_t offset);

/*
 * Checks an index in memory by the same rules as one on disk. -EBADMSG with the reason.
 */
int32_t memory_index_check(const struct memory_index *index, struct failure *failure);

/* The bytes of a version 2 header; the caller frees ret_bytes. -ENOMEM. */
int32_t memory_index_encode(const struct memory_index *index, uint8_t **ret_bytes,
                            size_t *ret_size);

/*
 * Lays `difference` over `base`, of the same total size: its holes show the base, all else hides
 * it. The result has the difference's ids, the generation after the base's, and only the layers
 * that it uses. The caller frees ret_index. -EINVAL: the sizes differ; -E2BIG: too many layers or
 * mappings (merge first); -ENOMEM.
 */
int32_t memory_index_overlay(const struct memory_index *base, const struct memory_index *difference,
                             struct memory_index *ret_index);

/*
 * Appends a mapping to an index being built (capacity: the array's current room, 0 at first),
 * joining it to the last one where both the kind and the place of the bytes go on. -ENOMEM,
 * -E2BIG.
 */
int32_t memory_index_append(struct memory_index *index, uint64_t *capacity,
                            const struct memory_mapping *mapping);

#endif
