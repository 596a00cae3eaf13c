import { expect, test } from "bun:test";
import { parseRequestHead } from "../../proto/http1/head.ts";
import { encodeId, idFromUuid } from "../../proto/ids.ts";
import { proxyTarget } from "./proxy-host.ts";

const ID = idFromUuid("capsule", "01234567-89ab-cdef-0123-456789abcdef");
const TEXT = encodeId("capsule", ID);
const BARE = TEXT.slice("cl-".length);

function target(host: string, ...lines: string[]) {
  const text = ["GET / HTTP/1.1", `Host: ${host}`, ...lines, "", ""].join("\r\n");
  return proxyTarget(parseRequestHead(Buffer.from(text)), "wrenn.test");
}

const found = (port: number) => ({ capsuleId: ID, port });

test.each([
  [`3000-${TEXT}.wrenn.test`, 3000],
  [`3000-${BARE}.wrenn.test`, 3000],
  [`1-${TEXT}.wrenn.test:8443`, 1],
  [`65535-${TEXT.toUpperCase()}.Wrenn.Test`, 65_535],
  [`3000-${TEXT}.wrenn.test.`, 3000],
  [`3000-${BARE}-client.wrenn.test`, 3000],
  [`3000-${TEXT}.localhost:8080`, 3000],
  [`3000-${TEXT}.elsewhere.example`, 3000],
])("%s is port %p of the capsule", (host, port) => {
  expect(target(host)).toEqual(found(port));
});

test.each([
  `0-${TEXT}.wrenn.test`,
  `65536-${TEXT}.wrenn.test`,
  `03000-${TEXT}.wrenn.test`,
  "3000-cl-short.wrenn.test",
  `3000-${"z".repeat(25)}.wrenn.test`,
  "3000-.wrenn.test",
])("%s is a bad target", (host) => {
  expect(target(host)).toHaveProperty("why");
});

test.each(["wrenn.test", "api.wrenn.test", "localhost:8080", "127.0.0.1", `${TEXT}.wrenn.test`])(
  "%s is the API",
  (host) => {
    expect(target(host)).toBeNull();
  },
);

test.each([
  ["localhost:8080", found(80)],
  ["127.0.0.1", found(80)],
  ["[::1]:80", found(80)],
  ["sandbox.wrenn.test", found(80)],
  ["api.wrenn.test", null],
  ["app.example", null],
])("the sandbox's headers at %s mean %p", (host, expected) => {
  expect(target(host, `E2b-Sandbox-Id: ${BARE}`, "E2b-Sandbox-Port: 80")).toEqual(expected);
});
