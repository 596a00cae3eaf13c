import { expect, test } from "bun:test";
import { header } from "../../proto/http1/head.ts";
import { withinHost } from "./cookie-domain.ts";

const HOST = "8000-cl-1.wrenn.test";
const set = (value: string) => withinHost(header("Set-Cookie", value), () => HOST).value;

test.each([
  ["a=1; Domain=wrenn.test; Path=/", "a=1; Path=/"],
  ["a=1;domain=.wrenn.test", "a=1"],
  ["a=1; Path=/;\tDOMAIN\t=\twrenn.test ; Secure", "a=1; Path=/; Secure"],
  [`a=1; Domain=${HOST}; Domain=wrenn.test`, `a=1; Domain=${HOST}`],
  ["a=1; Domain=8000-cl-2.wrenn.test", "a=1"],
  ["a=1; Domain=test", "a=1"],
  ["a=1; Domain", "a=1"],
  ["=; Domain=wrenn.test", "="],
])("a cookie of one capsule, %p, is none of its neighbours'", (value, expected) => {
  expect(set(value)).toBe(expected);
});

test.each([
  "a=1",
  "a=1; Path=/; Secure; HttpOnly; SameSite=Lax",
  `a=1; Domain=${HOST}`,
  `a=1; Domain=.${HOST.toUpperCase()}; Path=/`,
  "domain=wrenn.test; Path=/domain",
])("%p passes as it came", (value) => {
  expect(set(value)).toBe(value);
});

test("no other header is looked at", () => {
  const line = header("X-Cookie", "a=1; Domain=wrenn.test");

  expect(withinHost(line, () => HOST)).toBe(line);
});
