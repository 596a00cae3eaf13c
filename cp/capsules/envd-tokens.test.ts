import { expect, test } from "bun:test";
import { idFromUuid } from "../../proto/ids.ts";
import { EnvdTokens } from "./envd-tokens.ts";

const KEY = Uint8Array.fromHex("00112233445566778899aabbccddeeff".repeat(2));
const FIRST = idFromUuid("capsule", "00000000-0000-0000-0000-000000000001");
const SECOND = idFromUuid("capsule", "00000000-0000-0000-0000-000000000002");

// A capsule keeps its token over restarts and upgrades of the control plane. The value is that of
// Python's hmac and hashlib.
test("the token of a capsule is the same for ever", () => {
  expect(new EnvdTokens(KEY).of(FIRST)).toBe(
    "4f72f31008ed4a896a03843bd86cd3c9923bf2992363e1cb2d0fe8a298d4acca",
  );
});

test("another capsule or another key has another token", () => {
  const tokens = [
    new EnvdTokens(KEY).of(FIRST),
    new EnvdTokens(KEY).of(SECOND),
    new EnvdTokens(new Uint8Array(32)).of(FIRST),
  ];

  expect(new Set(tokens).size).toBe(3);
});
