// Requests that HTTP/2 delivers and HTTP/1.1 cannot say. Bun resets such streams itself before anybody hears of
// them, so the headers are forged here on a stream that is real.

import { expect, test } from "bun:test";
import { once } from "node:events";
import { connect, createServer, type ServerHttp2Stream } from "node:http2";
import { Front } from "../../proto/http1/listener.ts";
import { Http2Wire } from "./http2-wire.ts";
import { frontLimits } from "./limits.ts";

const WHY = "The request's method, path or headers are malformed";
const PEER = { address: "127.0.0.1", scheme: "https" } as const;

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
  const server = createServer().listen(0, "127.0.0.1");
  server.on("stream", (stream: ServerHttp2Stream, headers) =>
    Http2Wire.open(
      stream,
      { ...headers, ...forged },
      {
        serve: (wire) => front.serve(wire, PEER),
        refuse: (wire, why) => front.refuse(wire, PEER, why),
      },
    ),
  );
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  const client = connect(`http://127.0.0.1:${port}`);
  try {
    const request = client.request({ ":path": "/", ":method": method });
    if (method === "POST") request.end("a body");
    const [headers] = await once(request, "response");
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    await once(request, "end");

    expect(headers[":status"]).toBe(400);
    expect(Buffer.concat(pieces).toString()).toBe(WHY);
    expect(told).toEqual([[null, 400, WHY]]);
  } finally {
    client.destroy();
    server.close();
  }
});
