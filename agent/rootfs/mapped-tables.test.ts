import { expect, test } from "bun:test";
import { cowBytes, diskSectors, mappedNode, originTable, snapshotTable } from "./mapped-tables.ts";

const MIB = 1024 * 1024;

test("a disk is as large as asked for, and never smaller than its base", () => {
  expect(diskSectors({ sizeMib: 10_240, baseBytes: 5120 * MIB })).toBe(20_971_520);
  expect(diskSectors({ sizeMib: 1, baseBytes: 5120 * MIB })).toBe(10_485_760);
});

test("an origin is the base image, and a hole up to the disk's size", () => {
  const devices = { baseDevice: "/dev/loop3", holeDevice: "/dev/loop5" };
  const origin = { ...devices, baseBytes: 5120 * MIB };

  expect(originTable({ ...origin, sectors: 20_971_520 })).toEqual([
    "0 10485760 linear /dev/loop3 0",
    "10485760 10485760 linear /dev/loop5 0",
  ]);
  expect(originTable({ ...origin, sectors: 10_485_760 })).toEqual([
    "0 10485760 linear /dev/loop3 0",
  ]);
});

test("a snapshot covers its origin with persistent exceptions of 4 KiB", () => {
  const disk = { originDevice: "/dev/dm-0", cowDevice: "/dev/loop4", sectors: 2048 };

  expect(snapshotTable(disk)).toEqual([
    "0 2048 snapshot /dev/dm-0 /dev/loop4 P 8 1 discard_zeroes_cow",
  ]);
});

// dm-snapshot stores 256 exceptions of 16 bytes in a 4 KiB chunk, and one chunk as header.
test("the exceptions of a disk that is written in full fit their file", () => {
  const sectors = 10_485_760;
  const chunks = sectors / 8;
  const needed = (1 + chunks + Math.ceil(chunks / 256)) * 4096;

  expect(cowBytes(sectors)).toBeGreaterThanOrEqual(needed);
});

test("a device number names its node, with minors over 255 too", () => {
  expect(mappedNode(0xfc00n)).toBe("/dev/dm-0");
  expect(mappedNode(0xfc07n)).toBe("/dev/dm-7");
  expect(mappedNode(0x10fc00n)).toBe("/dev/dm-256");
});
