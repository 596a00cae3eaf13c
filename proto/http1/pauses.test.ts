// What a client or a guest sends, at its worst, through a real front: nobody else waits for it.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { once } from "node:events";
import { connect } from "node:net";
import { longestPauseMs, PAUSE_MS_MAX } from "../../tests/harness/longest-pause.ts";
import { get, ProxyFixture } from "../../tests/harness/proxy-fixture.ts";

const MIB = 2 ** 20;
const TIMEOUT_MS = 60_000;

let fixture: ProxyFixture;

beforeEach(() => {
  fixture = new ProxyFixture();
});

afterEach(() => fixture[Symbol.asyncDispose]());

const fill = (text: string) => text.repeat(Math.ceil(MIB / text.length));
const LAST = get("/", "Connection: close");
const head = (lines: string) => `GET / HTTP/1.1\r\nHost:\r\n${lines}\r\n`;

/** Sends all of it and reads until the front ends the connection; returns how many bytes came. */
async function flood(port: number, text: string): Promise<number> {
  const socket = connect({ port, host: "127.0.0.1" });
  let received = 0;
  socket.on("data", (bytes: Buffer) => {
    received += bytes.length;
  });
  socket.on("error", () => {});
  socket.write(text);
  await once(socket, "close");
  return received;
}

test.each([
  ["requests", fill(head(""))],
  ["empty lines", fill("\r\n")],
  ["headers", fill(head("a:\r\n".repeat(254)))],
  ["options of the connection", fill(head(`Connection: ${",".repeat(62_000)}\r\n`))],
  ["headers for the connection", fill(head("Connection:a\r\n".repeat(254)))],
  ["blanks", fill(head(`X:${" ".repeat(62_000)}a\r\n`))],
  ["a host", fill(`GET http://${"a".repeat(60_000)} HTTP/1.1\r\nHost:\r\n\r\n`)],
  ["a head without end", `GET / HTTP/1.1\r\n${fill("a:\r\n")}`],
])(
  "a mebibyte of %s of a client holds nobody up",
  async (_, text) => {
    const port = fixture.frontOf(1);
    fixture.pool.close();

    const pauseMs = await longestPauseMs(() => flood(port, text + LAST));

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
  },
  TIMEOUT_MS,
);

test.each([
  ["single bytes", fill("1\r\nx\r\n")],
  ["extensions", fill(`1;${"x".repeat(4000)}\r\nx\r\n`)],
])(
  "a mebibyte of chunks of %s of a client holds nobody up",
  async (_, chunks) => {
    const upstream = await fixture.server((socket, text) => {
      if (text.endsWith("0\r\n\r\n")) socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    const port = fixture.frontOf(upstream.port);
    const lines = "Host: x\r\nConnection: close\r\nTransfer-Encoding: chunked";
    const request = `POST / HTTP/1.1\r\n${lines}\r\n\r\n${chunks}0\r\n\r\n`;

    const pauseMs = await longestPauseMs(() => flood(port, request));

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
    expect(upstream.received()).toEndWith("0\r\n\r\n");
  },
  TIMEOUT_MS,
);

const chunks = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${fill("1\r\nx\r\n")}0\r\n\r\n`;
test.each([
  ["chunks", "1.1", chunks],
  ["chunks for a client that knows none", "1.0", chunks],
  ["answers before the answer", "1.1", fill("HTTP/1.1 100 \r\n\r\n")],
  ["headers", "1.1", `HTTP/1.1 200 OK\r\n${fill("a:\r\n")}\r\n`],
  ["a body", "1.1", `HTTP/1.1 200 OK\r\n\r\n${fill("x")}`],
])(
  "a mebibyte of %s of a guest holds nobody up",
  async (_, minor, text) => {
    const upstream = await fixture.server((socket) => socket.end(text));
    const port = fixture.frontOf(upstream.port);
    let received = 0;

    const pauseMs = await longestPauseMs(async () => {
      received = await flood(port, `GET / HTTP/${minor}\r\nHost: x\r\nConnection: close\r\n\r\n`);
    });

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
    expect(received).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);

test("a server that goes on with answers before the answer is a broken one", async () => {
  const upstream = await fixture.server((socket) => {
    socket.end(`${"HTTP/1.1 103 \r\n\r\n".repeat(17)}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n`);
  });

  const response = await fetch(`http://127.0.0.1:${fixture.frontOf(upstream.port)}/`);

  expect([response.status, await response.text()]).toEqual([502, "broken"]);
});
