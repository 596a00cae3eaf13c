/* Where the fields of a layer's footer lie: the last 64 bytes of its file. */
#ifndef WRENN_PAGES_LAYER_LAYOUT_H
#define WRENN_PAGES_LAYER_LAYOUT_H

#include <stdint.h>

/* "WRENNMEM" as a file shows it. */
#define FOOTER_MAGIC UINT64_C(0x4d454d4e4e455257)

enum {
  FOOTER_VERSION = 1,
  FOOTER_MAGIC_AT = 0,
  FOOTER_VERSION_AT = 8,
  FOOTER_CHUNK_AT = 12,
  FOOTER_DATA_AT = 16,
  FOOTER_ID_AT = 24,
  FOOTER_TABLE_CRC_AT = 40,
  FOOTER_ZERO_AT = 44, /* 16 bytes that are zero */
  FOOTER_CRC_AT = 60,  /* CRC-32C of the 60 bytes before */
  FOOTER_BYTES = 64,
};

#endif
