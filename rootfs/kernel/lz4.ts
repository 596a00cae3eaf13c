// Decodes LZ4's legacy frame, which Linux uses for a kernel compressed with CONFIG_KERNEL_LZ4:
// a magic number, then blocks of at most 8 MiB, each after its compressed size. Format:
// lz4_Frame_format.md ("Legacy frame") and lz4_Block_format.md of the LZ4 project.

import { BuildError } from "../run.ts";

const BLOCK_BYTES_MAX = 8 * 1024 * 1024;
const MATCH_BYTES_MIN = 4;

/**
 * Decodes a legacy frame that holds `size` bytes.
 * @throws BuildError if the data is cut off, malformed or of another size.
 */
export function lz4Legacy(frame: Buffer, size: number): Uint8Array {
  const output = new Uint8Array(size);
  let written = 0;
  let at = 4;
  while (at + 4 <= frame.length) {
    const length = frame.readUInt32LE(at);
    at += 4;
    if (length === 0 || at + length > frame.length) throw corrupt();
    written = decodeBlock(frame.subarray(at, at + length), output, written);
    at += length;
  }
  if (written !== size) throw corrupt();
  return output;
}

/** Decodes one block into output at `start`; returns where it ended. */
function decodeBlock(block: Uint8Array, output: Uint8Array, start: number): number {
  const end = Math.min(output.length, start + BLOCK_BYTES_MAX);
  let at = 0;
  let to = start;

  const byte = () => {
    const value = block[at++];
    if (value === undefined) throw corrupt();
    return value;
  };
  const extended = (nibble: number) => {
    let length = nibble;
    for (let more = nibble === 15 ? 255 : 0; more === 255; length += more) more = byte();
    return length;
  };

  while (at < block.length) {
    const token = byte();
    const literals = extended(token >> 4);
    if (at + literals > block.length || to + literals > end) throw corrupt();
    output.set(block.subarray(at, at + literals), to);
    at += literals;
    to += literals;
    if (at === block.length) break; // The last sequence has no match.
    const distance = byte() | (byte() << 8);
    const length = extended(token & 15) + MATCH_BYTES_MIN;
    if (distance === 0 || to - distance < start || to + length > end) throw corrupt();
    copyMatch(output, to, distance, length);
    to += length;
  }
  return to;
}

/** A match may overlap what it writes: it then repeats its first `distance` bytes. */
function copyMatch(output: Uint8Array, to: number, distance: number, length: number): void {
  if (distance >= length) {
    output.copyWithin(to, to - distance, to - distance + length);
    return;
  }
  for (let i = 0; i < length; i++) output[to + i] = output[to + i - distance] ?? 0;
}

function corrupt(): BuildError {
  return new BuildError("the kernel image's LZ4 data is corrupt");
}
