import { expect, test } from "bun:test";
import { possibleRegions } from "./guest-regions.ts";

const GIB = 1024 ** 3;
const line = (start: number, size: number, rest = "rw-p 00000000 00:00 0 ") =>
  `${start.toString(16)}-${(start + size).toString(16)} ${rest}\n`;
const NOISE = [
  line(0x1000, 4096, "rw-p 00000000 00:00 0                          [heap]"),
  line(0x10_0000, GIB, "rw-s 00000000 00:10 20                         anon_inode:kvm-vcpu:0"),
  line(0x8000_0000, GIB, "r--p 00000000 fe:00 77                         /a/file"),
  line(0x4000_0000, 0x2000),
].join("");
const AT = 0x7fb4_9320_0000;

test("up to 3 GiB it is the mapping of that size", () => {
  expect(possibleRegions(NOISE + line(AT, GIB), GIB)).toEqual([
    [{ address: AT, size: GIB, offset: 0 }],
  ]);
  expect(possibleRegions(NOISE, GIB)).toEqual([]);
});

test("more is two parts, which the kernel shows as one with the second first", () => {
  const [asMade] = possibleRegions(NOISE + line(AT, 4 * GIB), 4 * GIB);

  expect(asMade).toEqual([
    { address: AT + GIB, size: 3 * GIB, offset: 0 },
    { address: AT, size: GIB, offset: 3 * GIB },
  ]);
});

test("or two mappings of their own", () => {
  const maps = NOISE + line(AT, 2 * GIB) + line(AT + 8 * GIB, 3 * GIB);

  expect(possibleRegions(maps, 5 * GIB)).toEqual([
    [
      { address: AT + 8 * GIB, size: 3 * GIB, offset: 0 },
      { address: AT, size: 2 * GIB, offset: 3 * GIB },
    ],
  ]);
});
