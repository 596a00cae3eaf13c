import { expect, test } from "bun:test";
import { parseRequestHead } from "../../proto/http1/head.ts";
import { TrustedProxies } from "../client-address.ts";
import { forwardedHeaders } from "./forwarded.ts";

const REQUEST = parseRequestHead(
  Buffer.from(
    "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\n" +
      "X-Forwarded-Proto: https\r\nX-Forwarded-Host: b.test\r\n\r\n",
  ),
);

test.each([
  ["203.0.113.7", ["203.0.113.7", "http", "a.test"]],
  ["198.51.100.9", ["192.0.2.1", "https", "b.test"]],
])("what %s says of others is told only if it is a proxy of ours", (address, told) => {
  const proxies = new TrustedProxies(["198.51.100.0/24"]);
  const headers = forwardedHeaders(REQUEST, { address, scheme: "http" }, proxies);

  expect(headers.map(({ value }) => value)).toEqual(told);
});
