import { describe, expect, test } from "bun:test";
import { decodeId, encodeId, encodeUuid, idFromUuid, newId } from "./ids.ts";

describe("ids", () => {
  test("a UUID survives the round trip through its external form", () => {
    for (let i = 0; i < 200; i++) {
      const id = newId("capsule");
      expect(decodeId("capsule", encodeId("capsule", id))).toBe(id);
    }
  });

  test("small values are padded to 25 digits", () => {
    const four = idFromUuid("team", "00000000-0000-0000-0000-000000000004");

    expect(encodeId("team", four)).toBe("team-0000000000000000000000004");
    expect(encodeUuid(four)).toBe("0000000000000000000000004");
  });

  test("the largest 128-bit value decodes and the next one does not", () => {
    expect(decodeId("capsule", "cl-f5lxx1zz5pnorynqglhzmsp33")).toBe(
      idFromUuid("capsule", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    );
    expect(decodeId("capsule", "cl-f5lxx1zz5pnorynqglhzmsp34")).toBeNull();
    expect(decodeId("capsule", `cl-${"z".repeat(25)}`)).toBeNull();
  });

  test.each([
    "",
    "cl-",
    "cl-0",
    "team-0000000000000000000000004",
    "cl-00000000000000000000000041",
    "cl-000000000000000000000000A",
    "cl-000000000000000000000000é",
  ])("%p is no capsule id", (text) => {
    expect(decodeId("capsule", text)).toBeNull();
  });
});
