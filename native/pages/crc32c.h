/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of every part of a memory snapshot. */
#ifndef WRENN_PAGES_CRC32C_H
#define WRENN_PAGES_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to start) over `size` bytes. crc32c(0, "123456789", 9) is 0xe3069283. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The same without the processor's instruction, for other machines and to test the one above. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);

#endif
