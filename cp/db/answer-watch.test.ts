// Sockets of the driver, at a server of this file's.

import { expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { AnswerWatch } from "./answer-watch.ts";

test("a connection that is reset after an answer closes without an error, as the driver has it", async () => {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer((socket) => accepted.resolve(socket)).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  const watch = new AnswerWatch({ waitMsMax: 1000 });
  try {
    const socket = watch.connect({ host: ["127.0.0.1"], port: [port], path: false });
    const told: unknown[] = [];
    socket.on("error", (error) => told.push(error));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    const peer = await accepted.promise;
    peer.on("error", () => {});
    peer.pause();
    const answered = new Promise((resolve) => socket.once("data", resolve));
    peer.write("answer");
    await answered;
    socket.write("asked, and never read");

    peer.resetAndDestroy();

    expect(await closed).toBe(false);
    expect(told).toEqual([]);
  } finally {
    watch.close();
    server.close();
  }
});
