// Requests that HTTP/2 delivers and HTTP/1.1 cannot say. Bun resets such streams itself before anybody hears of
// them, so the headers are forged here on a stream that is real. And bodies that come in many frames at once.

import { expect, test } from "bun:test";
import { once } from "node:events";
import {
  connect,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { connect as connectTcp } from "node:net";
import { bodyReader, readPayload } from "../../proto/http1/body.ts";
import { Front } from "../../proto/http1/listener.ts";
import { NO_EVENTS } from "../../proto/http1/wire.ts";
import { frame, HELLO, POST } from "../../tests/harness/http2-frames.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { Http2Wire } from "./http2-wire.ts";
import { frontLimits } from "./limits.ts";

const WHY = "The request's method, path or headers are malformed";
const PEER = { address: "127.0.0.1", scheme: "https" } as const;

/** A server that gives its requests to `serve`. */
async function serverOf(
  serve: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void,
): Promise<{ port: number } & AsyncDisposable> {
  const server = createServer().listen(0, "127.0.0.1");
  server.on("stream", serve);
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { port, [Symbol.asyncDispose]: async () => void server.close() };
}

test.each<[what: string, method: string, forged: Record<string, string>]>([
  ["a path with a space", "GET", { ":path": "/a b" }],
  ["a path with a line's end", "POST", { ":path": "/a\nb" }],
  ["a method that is no word", "GET", { ":method": "G T" }],
  ["a connection of its own", "GET", { connection: "close" }],
  ["a framing of its own", "POST", { "transfer-encoding": "chunked" }],
  ["a header in a header", "GET", { a: "b\r\nc: d" }],
])("%s is answered like what else is malformed, and told", async (_, method, forged) => {
  const told: unknown[] = [];
  await using front = new Front({
    limits: frontLimits(4096),
    failed: (error) => {
      throw error;
    },
    router: ({ target }) => ({ status: 200, headers: [], body: target }),
    refuse: (status, why) => ({ status, why, headers: [], body: why }),
    answered: ({ status, why }, request) => told.push([request, status, why]),
  });
  await using server = await serverOf((stream, headers) =>
    Http2Wire.open(
      stream,
      { ...headers, ...forged },
      {
        serve: (wire) => front.serve(wire, PEER),
        refuse: (wire, why) => front.refuse(wire, PEER, why),
      },
    ),
  );
  const client = connect(`http://127.0.0.1:${server.port}`);
  const request = client.request({ ":path": "/", ":method": method });
  if (method === "POST") request.end("a body");
  const [headers] = await once(request, "response");
  const pieces: Buffer[] = [];
  request.on("data", (piece: Buffer) => pieces.push(piece));
  await once(request, "end");
  client.destroy();

  expect(headers[":status"]).toBe(400);
  expect(Buffer.concat(pieces).toString()).toBe(WHY);
  expect(told).toEqual([[null, 400, WHY]]);
});

/** What a wire is given of a request whose frames come in one piece; `isEnded`: the last one ends its body. */
async function passedOn(payloads: readonly string[], isEnded: boolean): Promise<string> {
  const received: Buffer[] = [];
  await using server = await serverOf((stream, headers) =>
    Http2Wire.open(stream, headers, {
      serve: (wire) => {
        wire.events = { ...NO_EVENTS, onData: (bytes) => void received.push(bytes) };
      },
      refuse: (_, why) => {
        throw new Error(why);
      },
    }),
  );
  const bodies = payloads.map((text, i) => {
    const isLast = isEnded && i === payloads.length - 1;
    return frame(0, isLast ? 1 : 0, 1, [...Buffer.from(text)]);
  });
  const socket = connectTcp({ port: server.port, host: "127.0.0.1" });
  socket.write(Buffer.concat([HELLO, frame(1, 4, 1, POST), ...bodies]));

  const whole = payloads.join("");
  const body = await waitFor("the body", () => payloadOf(Buffer.concat(received)), {
    holds: ({ text, isDone }) => text.length >= whole.length && isDone === isEnded,
  });
  socket.destroy();
  return body.text;
}

function payloadOf(received: Buffer): { text: string; isDone: boolean } {
  const end = received.indexOf("\r\n\r\n") + 4;
  const body = bodyReader("chunked");
  const { payload } = readPayload(body, received.subarray(end));
  return { text: payload.toString(), isDone: body.isDone };
}

// The first passes at once, the others together.
test.each([
  ["that ends with them", true],
  ["that goes on", false],
])("a body in many frames at once %s is passed on whole and in order", async (_, isEnded) => {
  const payloads = Array.from({ length: 200 }, (_, i) => `${i} `);

  expect(await passedOn(payloads, isEnded)).toBe(payloads.join(""));
});
