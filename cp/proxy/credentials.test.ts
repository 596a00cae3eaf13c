import { expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { header } from "../../proto/http1/head.ts";
import { OwnCredentials, setsOwnCookie } from "./credentials.ts";

const SECRET = "0123456789abcdef0123456789abcdef";
const KEY = `wrn_${"0f".repeat(16)}`;
const ENVD_TOKEN = "a".repeat(64);

function jwt(secret: string): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256" })}.${part({ sub: "usr-1", exp: 1 })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

function strip(name: string, value: string, envdToken: string | null = ENVD_TOKEN): string[] {
  const kept = new OwnCredentials(SECRET).strip([header(name, value)], () => envdToken);
  return kept.map((line) => line.value);
}

test.each([
  ["X-API-Key", "anything"],
  ["x-host-token", "anything"],
  ["E2B-Traffic-Access-Token", "anything"],
  ["Authorization", `Bearer ${KEY}`],
  ["authorization", KEY],
  ["Authorization", `bearer   e2b_${"0".repeat(40)}`],
  ["Authorization", `Basic ${btoa(`${KEY}:`)}`],
  ["Authorization", `Basic ${btoa(`user:${KEY}`)}`],
  ["Authorization", `Bearer ${jwt(SECRET)}`],
  ["Authorization", `Basic ${btoa(`jwt:${jwt(SECRET)}`)}`],
  ["Cookie", "wrenn_sid=a; __Host-wrenn_csrf=b"],
  ["X-Access-Token", ENVD_TOKEN],
])("%s: %s does not pass", (name, value) => {
  expect(strip(name, value)).toEqual([]);
});

test.each([
  ["Authorization", "Bearer an-application's"],
  ["Authorization", `Bearer ${jwt("another secret")}`],
  ["Authorization", `Basic ${btoa("user:password")}`],
  ["Authorization", 'Digest username="a", realm="b"'],
  ["Cookie", "a=1; session=2"],
  ["X-Access-Token", "an application's"],
])("%s: %s passes", (name, value) => {
  expect(strip(name, value)).toEqual([value]);
});

test("of several cookies only ours are taken out", () => {
  expect(strip("Cookie", "a=1; wrenn_sid=x;wrenn_csrf=y; b=wrenn_sid=z")).toEqual([
    "a=1; b=wrenn_sid=z",
  ]);
});

test("envd gets its own token", () => {
  expect(strip("X-Access-Token", ENVD_TOKEN, null)).toEqual([ENVD_TOKEN]);
});

test.each([
  ["wrenn_sid=x; Path=/", true],
  ["__Host-Wrenn_CSRF = x; Secure; Path=/", true],
  // Without a name: browsers send what stands behind the first equals sign.
  ["=wrenn_port=x; Domain=example.com", true],
  [" = = wrenn_sid=x", true],
  ["sid=wrenn_sid=1", false],
  ["a=1; wrenn_sid=1", false],
  ["=; wrenn_sid=1", false],
])("a response's cookie %p is of ours: %p", (value, isOurs) => {
  expect(setsOwnCookie(header("Set-Cookie", value))).toBe(isOurs);
});
