import { expect, test } from "bun:test";
import { checkTag, describeLinks, describeSlot, parseSlotName, SLOT_MAX } from "./slot.ts";

test("the first and the last slot have the addresses of the specification", () => {
  expect([describeSlot("ab01", 1), describeLinks("ab01", 1)]).toEqual([
    { index: 1, netns: "wrenn-ab01-1", tap: "tap0", hostIp: "10.11.0.1", vmmUid: 2_100_000_001 },
    { veth: "wv-ab01-1", vethAddress: "10.12.0.2", uplinkAddress: "10.12.0.3" },
  ]);
  expect([describeSlot("ab01", SLOT_MAX), describeLinks("ab01", SLOT_MAX)]).toEqual([
    {
      index: 32_767,
      netns: "wrenn-ab01-32767",
      tap: "tap0",
      hostIp: "10.11.127.255",
      vmmUid: 2_100_032_767,
    },
    { veth: "wv-ab01-32767", vethAddress: "10.12.255.254", uplinkAddress: "10.12.255.255" },
  ]);
});

test("no two slots share an address or a name", () => {
  const seen = new Set<string>();
  for (let index = 1; index <= SLOT_MAX; index++) {
    const { netns, hostIp } = describeSlot("ab01", index);
    const { veth, vethAddress, uplinkAddress } = describeLinks("ab01", index);
    for (const value of [netns, hostIp, veth, vethAddress, uplinkAddress]) seen.add(value);
  }

  expect(seen.size).toBe(5 * SLOT_MAX);
});

// IFNAMSIZ is 16 with the NUL.
test("the longest device name fits the kernel's 15 characters", () => {
  expect(describeLinks("zzzz", SLOT_MAX).veth.length).toBeLessThanOrEqual(15);
});

test.each([0, -1, 1.5, Number.NaN, SLOT_MAX + 1])("slot %p is refused", (index) => {
  expect(() => describeSlot("ab01", index)).toThrow("must be a whole number from 1 to 32767");
});

test.each(["", "abc", "abcde", "ABCD", "a-b1", "a/.."])("tag %p is refused", (tag) => {
  expect(() => checkTag(tag)).toThrow("must be four characters of 0-9a-z");
});

test("a slot's number is read from its names and from no others", () => {
  const numbers = [
    "wv-ab01-7",
    "wv-ab01-32767",
    "wv-ab01-32768",
    "wv-ab01-07",
    "wv-ab01-",
    "wv-x-1",
  ];

  expect(numbers.map((name) => parseSlotName("wv-ab01-", name))).toEqual([
    7,
    32_767,
    null,
    null,
    null,
    null,
  ]);
});
