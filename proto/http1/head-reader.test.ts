// Whatever came before on the connection, a head means what it means alone.

import { expect, test } from "bun:test";
import { FUZZ_TIMEOUT_MS, fuzz, type Random } from "../../tests/harness/random.ts";
import { ByteWindow } from "./byte-window.ts";
import { MalformedHttp, parseRequestHead, parseResponseHead } from "./head.ts";
import { HeadReader } from "./head-reader.ts";
import { endToEnd } from "./hop.ts";

const REQUEST_LINES = [
  "GET / HTTP/1.1",
  "GET /other?x HTTP/1.1",
  "POST / HTTP/1.1",
  "GET / HTTP/1.0",
  "GET http://b.example/ HTTP/1.1",
  "GET http://b.example HTTP/1.1",
  "OPTIONS * HTTP/1.1",
  "GET / HTTP/1.1 x",
];
const REQUEST_FIELDS = [
  "",
  "\r\nHost: a.example",
  "\r\nHost: A.example",
  "\r\nHost: a.example\r\nX: 1",
  "\r\nhost: a.example\r\nConnection: close",
  "\r\nHost: a.example\r\nContent-Length: 5",
  "\r\nHost: a.example\r\nTransfer-Encoding: chunked",
  "\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket",
  "\r\nHost: a.example\r\nContent-Length: 5\r\nContent-Length: 5",
  "\r\nHost: a b",
  "\r\nHost: a.example\r\nno colon",
];
const STATUS_LINES = ["HTTP/1.1 200 OK", "HTTP/1.1 204 No", "HTTP/1.0 200 OK", "HTTP/1.1 200"];
const ANSWER_FIELDS = [
  "",
  "\r\nContent-Length: 5",
  "\r\nContent-Length: 5x",
  "\r\nTransfer-Encoding: chunked",
  "\r\nContent-Length: 5\r\nConnection: close",
];
const METHODS = ["GET", "HEAD", "POST"];

function textOf(random: Random, starts: readonly string[], fields: readonly string[]): Buffer {
  return Buffer.from(`${random.pick([...starts])}${random.pick([...fields])}\r\n\r\n`, "latin1");
}

function orMalformed<T>(read: () => T): T | string {
  try {
    return read();
  } catch (error) {
    if (error instanceof MalformedHttp) return error.message;
    throw error;
  }
}

function windowOf(bytes: Buffer): ByteWindow {
  const window = new ByteWindow();
  window.add(bytes);
  return window;
}

test(
  "a request is read the same whatever came before it",
  () =>
    fuzz((random) => {
      const reader = new HeadReader();
      for (let i = 0; i < 20; i++) {
        const head = textOf(random, REQUEST_LINES, REQUEST_FIELDS);
        const read = orMalformed(() => reader.takeRequest(windowOf(head)));

        expect(read).toEqual(orMalformed(() => parseRequestHead(head)));
      }
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "an answer is read the same whatever came before it",
  () =>
    fuzz((random) => {
      const reader = new HeadReader();
      for (let i = 0; i < 20; i++) {
        const head = textOf(random, STATUS_LINES, ANSWER_FIELDS);
        const method = random.pick(METHODS);
        const read = orMalformed(() => reader.takeResponse(windowOf(head), method));

        expect(read).toEqual(orMalformed(() => parseResponseHead(head, method)));
      }
    }),
  FUZZ_TIMEOUT_MS,
);

test("lines that come again are read once, longer heads each time", () => {
  const reader = new HeadReader();
  const take = (target: string, value: string) => {
    const text = `GET ${target} HTTP/1.1\r\nHost: x\r\nA: ${value}\r\nConnection: close\r\n\r\n`;
    return reader.takeRequest(windowOf(Buffer.from(text)));
  };
  const long = "a".repeat(4096);
  const [first, second, third] = [take("/1", "a"), take("/2", "a"), take("/3", long)];
  const fourth = take("/4", long);

  expect([first?.target, second?.target, third?.target]).toEqual(["/1", "/2", "/3"]);
  expect(second?.headers).toBe(first?.headers as never);
  expect(fourth?.headers).not.toBe(third?.headers as never);
  const [passed, again] = [endToEnd(second?.headers ?? []), endToEnd(second?.headers ?? [])];
  expect(again).toBe(passed);
  expect(passed.map(({ name }) => name)).toEqual(["Host", "A"]);
});
