import { expect, test } from "bun:test";
import { OutputBuffer } from "./output-buffer.ts";

test("pieces of any size are kept in order up to the bound, and no byte more", () => {
  const buffer = new OutputBuffer(5, () => {});

  expect([buffer.append(Uint8Array.of(1, 2)), buffer.append(Uint8Array.of(3, 4, 5))]).toEqual([
    true,
    true,
  ]);
  expect(buffer.append(Uint8Array.of(6))).toBe(false);
  expect([...buffer.contents()]).toEqual([1, 2, 3, 4, 5]);
});

test("the piece that goes over the bound is kept as far as it fits", () => {
  const buffer = new OutputBuffer(4, () => {});

  expect(buffer.append(Uint8Array.of(1, 2, 3, 4, 5, 6))).toBe(false);
  expect([...buffer.contents()]).toEqual([1, 2, 3, 4]);
});

// A hostile guest sends what it has byte by byte.
test("a million pieces of one byte cost no more than twice their size", () => {
  const buffer = new OutputBuffer(2 ** 20, () => {});
  const piece = Uint8Array.of(7);
  for (let i = 0; i < 2 ** 20; i++) buffer.append(piece);

  expect(buffer.contents().byteLength).toBe(2 ** 20);
  expect(buffer.contents().buffer.byteLength).toBeLessThanOrEqual(2 ** 21);
});
