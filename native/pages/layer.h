/*
 * A layer: the blocks that one generation stored, in one immutable file that any number of headers
 * refer to. Data from offset 0 (so that it can be mapped and cloned), then a CRC-32C per chunk of
 * data, then a footer. docs/memory.md has the layout.
 */
#ifndef WRENN_PAGES_LAYER_H
#define WRENN_PAGES_LAYER_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "memory-index.h"

/*
 * What one checksum covers, and so the least that is read to serve a page for the first time. As
 * large as a fault's chunk: smaller ones cost table, larger ones cost the first fault.
 */
enum { LAYER_CHUNK_BYTES = 64 * 1024 };

struct layer {
  int fd; /* owned */
  uint32_t format;
  uint64_t data_bytes;
  uint32_t *sums;    /* per chunk; NULL for a raw layer */
  uint8_t *verified; /* bit per chunk: it was read once and matched */
  uint64_t chunks_verified;
};

/*
 * Takes over `fd` (also on failure) and checks size, footer and table against what the header says.
 * -EBADMSG: it is not that layer, whole; -errno.
 */
int32_t layer_open(int fd, const struct memory_layer *expected, struct layer *ret_layer,
                   struct failure *failure);

void layer_close(struct layer *layer);

/*
 * Reads `size` bytes of data. A chunk that was not read before is read whole and compared with its
 * checksum first, through `chunk_buffer` (LAYER_CHUNK_BYTES). Blocks: for the disk. -EBADMSG: a
 * chunk does not match; -EIO: the file is shorter than it was; -errno. `target` is then undefined.
 */
int32_t layer_read(struct layer *layer, uint64_t offset, uint8_t *target, size_t size,
                   uint8_t *chunk_buffer, struct failure *failure);

/* Writes a layer. Zeroed at first; free by layer_writer_finish or layer_writer_abandon. */
struct layer_writer {
  int fd; /* not owned */
  uint8_t *chunk;
  size_t chunk_filled;
  uint64_t data_bytes;
  uint32_t *sums;
  uint64_t sums_room;
};

/* Starts at offset 0 of an empty file. -ENOMEM. */
int32_t layer_writer_start(struct layer_writer *writer, int fd);

/*
 * Appends whole blocks; the first one's offset in the layer is writer->data_bytes before the call.
 * Blocks: for the disk. -ENOSPC and others of write(2): the file is then useless.
 */
int32_t layer_writer_append(struct layer_writer *writer, const uint8_t *blocks, size_t size);

/*
 * Writes what is left, table and footer, and syncs the file. ret_layer is what a header must say of
 * it. The writer is freed, also on failure.
 */
int32_t layer_writer_finish(struct layer_writer *writer, const uint8_t id[MEMORY_ID_BYTES],
                            struct memory_layer *ret_layer);

void layer_writer_abandon(struct layer_writer *writer);

#endif
