// Names that are no text, there and back.
import { expect, test } from "bun:test";
import { withRandom } from "../tests/harness/random.ts";
import { shownName, systemBytes, systemName } from "./file-names.ts";

/** Of the characters that stand for bytes, U+EF80 and U+EFFF. */
const NEAR = [0xee, 0xbe, 0xbf, 0x80];

test("what is UTF-8 is shown as it is", () => {
  for (const name of ["", "a b", "ü", "日本", "🐳", "\ufeffmark", "\ufffd", "\ue000"]) {
    expect(shownName(Buffer.from(name))).toBe(name);
    expect(systemName(name)).toBe(name);
  }
});

test("bytes that are none are shown one by one, and what else stands for them, too", () => {
  const shown = (...bytes: number[]) => shownName(Buffer.from(bytes));

  expect(shown(0x61, 0xff, 0x62)).toBe("a\uefffb");
  expect(shown(0xe9, 0x80)).toBe("\uefe9\uef80");
  expect(shown(0xed, 0xa0, 0x80, 0xc3, 0xbc)).toBe("\uefed\uefa0\uef80ü");
  expect(shown(...Buffer.from("\uef80"))).toBe("\uefee\uefbe\uef80");
});

test("every name comes back byte for byte, and no two look alike", () =>
  withRandom((random) => {
    const seen = new Map<string, string>();
    for (let i = 0; i < 5000; i++) {
      const bytes = random.bytes(1 + (i % 12));
      // Half of them lie where the two meanings could meet.
      if (i % 2 === 0) for (const [at, byte] of bytes.entries()) bytes[at] = NEAR[byte % 4] ?? 0;
      const shown = shownName(bytes);

      expect(systemBytes(shown)).toEqual(bytes);
      expect(shown.isWellFormed()).toBeTrue();
      expect(seen.get(shown) ?? bytes.toString("hex")).toBe(bytes.toString("hex"));
      seen.set(shown, bytes.toString("hex"));
    }
  }));
