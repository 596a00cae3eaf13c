import { describe, expect, test } from "bun:test";
import { lz4Legacy } from "./lz4.ts";

const MAGIC = [0x02, 0x21, 0x4c, 0x18];

/** A legacy frame of the given blocks. */
function frame(...blocks: number[][]): Buffer {
  const sized = blocks.map((block) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(block.length);
    return [...length, ...block];
  });
  return Buffer.from([...MAGIC, ...sized.flat()]);
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const bytes = (value: string) => [...Buffer.from(value)];

describe("a legacy LZ4 frame", () => {
  test("gives back literals", () => {
    expect(text(lz4Legacy(frame([0x50, ...bytes("hello")]), 5))).toBe("hello");
  });

  test("repeats a match that overlaps what it writes", () => {
    // "ab", then 8 bytes from 2 bytes back, then "!".
    const block = [0x24, ...bytes("ab"), 2, 0, 0x10, ...bytes("!")];

    expect(text(lz4Legacy(frame(block), 11))).toBe("ababababab!");
  });

  test("extends lengths beyond 15 and 270", () => {
    const literals = "x".repeat(15 + 255 + 7);
    // Match length 4 + 15 + 255 + 1 = 275.
    const block = [0xff, 255, 7, ...bytes(literals), 1, 0, 255, 1, 0x10, ...bytes("y")];

    expect(text(lz4Legacy(frame(block), 277 + 275 + 1))).toBe(`${"x".repeat(552)}y`);
  });

  test("joins its blocks, which do not refer to one another", () => {
    expect(text(lz4Legacy(frame([0x10, 0x61], [0x10, 0x62]), 2))).toBe("ab");
    expect(() => lz4Legacy(frame([0x10, 0x61], [0x10, 0x62, 2, 0, 0x10, 0x63]), 7)).toThrow(
      "corrupt",
    );
  });

  test.each([
    ["a block cut off", Buffer.from([...MAGIC, 9, 0, 0, 0, 0x50])],
    ["literals beyond the block", frame([0x50, 0x61])],
    ["a length that never ends", frame([0xf0, 255])],
    ["a match before the start", frame([0x10, 0x61, 2, 0, 0x10, 0x62])],
    ["a distance of zero", frame([0x10, 0x61, 0, 0, 0x10, 0x62])],
    ["more than it says", frame([0x50, ...bytes("hello")], [0x10, 0x61])],
    ["less than it says", frame([0x10, 0x61])],
    ["an empty block", frame([])],
  ])("is refused with %s", (_name, data) => {
    expect(() => lz4Legacy(data, 5)).toThrow("corrupt");
  });
});
