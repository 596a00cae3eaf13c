/* The memory of a snapshot, open for reading: its index and the layers that the index names. */
#ifndef WRENN_PAGES_MEMORY_H
#define WRENN_PAGES_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "layer.h"
#include "memory-index.h"

struct memory {
  struct memory_index index;
  struct layer layers[MEMORY_LAYERS_MAX];
  uint8_t *chunk_buffer;
  uint64_t bytes_read;
};

/*
 * Loads the header at `header` and opens each layer as memory.<uuid> (or version 1's
 * memfile.<uuid>, memfile) in the first of the NULL-terminated `directories` that has it. Free by
 * memory_close. -ENOENT: a layer is nowhere; errors of memory_index_load and layer_open.
 */
int32_t memory_open(const char *header, const char *const *directories, struct memory *ret_memory,
                    struct failure *failure);

void memory_close(struct memory *memory);

/*
 * The longest run of one kind that starts at `offset` and ends by `end`; adjacent data of different
 * layers is one run, and a hole is a run of zeros. Returns the run's end.
 */
uint64_t memory_run(const struct memory *memory, uint64_t offset, uint64_t end, bool *ret_is_data);

/* Reads a range, zeros included. Errors of layer_read; `target` is then undefined. */
int32_t memory_read(struct memory *memory, uint64_t offset, uint8_t *target, size_t size,
                    struct failure *failure);

/* Asks the kernel to read the data of a range ahead, in requests as large as the layers allow. */
void memory_read_ahead(const struct memory *memory, uint64_t offset, uint64_t size);

uint64_t memory_chunks_verified(const struct memory *memory);

/* Writes the file name of a layer, "memory.<uuid>", to `ret_name`. */
enum { MEMORY_NAME_BYTES = 64 };
void memory_layer_name(const char *stem, const uint8_t id[MEMORY_ID_BYTES],
                       char ret_name[MEMORY_NAME_BYTES]);

#endif
