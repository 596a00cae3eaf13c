// The client against scripted servers on real unix sockets.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import { VmmError } from "../../vmm/vmm.ts";
import { ApiRefusal, type ApiRequest, VmmApi } from "./vmm-api.ts";

const TIMEOUT_MS = 300;
const Answer = Type.Object({ state: Type.String() });
const asked = { schema: Answer, timeoutMs: TIMEOUT_MS };
const GET: ApiRequest = { method: "GET", path: "/" };
const PUT: ApiRequest = { method: "PUT", path: "/actions", body: { action_type: "é" } };
const NEVER = new Promise(() => {});
let directory = "";
let count = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wrenn-api-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** Answers each piece of what comes with what `answer` makes of it. */
async function serve(answer: (request: string, socket: Socket) => string, name = `s${count++}`) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (data) => void socket.write(answer(data.toString(), socket)));
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(join(directory, name), resolve);
  await promise;
  return {
    name,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const json = (status: string, body: string) =>
  `HTTP/1.1 ${status} \r\nServer: VMM\r\nConnection: keep-alive\r\n` +
  `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const DONE = "HTTP/1.1 204 \r\nServer: VMM\r\nConnection: keep-alive\r\n\r\n";

describe("VmmApi", () => {
  test("sends requests one after the other, and hands back what is asked", async () => {
    const requests: string[] = [];
    await using peer = await serve((request) => {
      requests.push(request);
      return request.startsWith("GET") ? json("200", '{"state":"Paused"}') : DONE;
    });
    await using api = await VmmApi.connect(directory, { name: peer.name });

    await api.send(PUT, TIMEOUT_MS);
    expect(await api.ask(GET, asked)).toEqual({ state: "Paused" });

    expect(requests[0]).toContain("PUT /actions HTTP/1.1\r\nHost: localhost\r\n");
    expect(requests[0]).toEndWith('Content-Length: 20\r\n\r\n{"action_type":"é"}');
    expect(requests[1]).toEndWith("Accept: application/json\r\n\r\n");
  });

  test("an answer may come in pieces", async () => {
    await using peer = await serve((_, socket) => {
      const [head = "", body = ""] = json("200", '{"state":"Running"}').split(/(?<=\r\n\r\n)/);
      socket.write(head.slice(0, 20));
      setTimeout(() => socket.write(head.slice(20)), 10);
      setTimeout(() => socket.write(body.slice(0, 5)), 20);
      setTimeout(() => socket.write(body.slice(5)), 30);
      return "";
    });
    await using api = await VmmApi.connect(directory, { name: peer.name });

    expect(await api.ask(GET, asked)).toEqual({ state: "Running" });
  });

  test("passes on a refusal, cut, and can go on", async () => {
    await using peer = await serve((request) =>
      request.startsWith("GET")
        ? json("200", '{"state":"Running"}')
        : json("400", `{"fault_message":"not now ${"x".repeat(5000)}"}`),
    );
    await using api = await VmmApi.connect(directory, { name: peer.name });

    const refusal = await api.send(PUT, TIMEOUT_MS).catch((error: unknown) => error);

    if (!(refusal instanceof ApiRefusal)) throw new Error(`no refusal: ${refusal}`);
    expect(refusal.message).toStartWith('PUT /actions: 400 {"fault_message":"not now');
    expect([refusal.status, refusal.reason.length]).toEqual([400, 500]);
    expect(await api.ask(GET, asked)).toEqual({ state: "Running" });
  });

  const hostile: Record<string, () => string> = {
    "an answer of another shape": () => json("200", '{"state":1}'),
    "an answer that is not JSON": () => json("200", "{"),
    "no HTTP": () => "hello\r\n\r\n",
    "an answer without a length": () => "HTTP/1.1 200 \r\n\r\n{}",
    "an answer in chunks": () => "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two answers": () => json("200", '{"state":""}') + DONE,
    "a head without end": () => `HTTP/1.1 200 \r\nX: ${"x".repeat(300_000)}`,
    "a body without end": () =>
      `HTTP/1.1 200 \r\nContent-Length: 400000\r\n\r\n${"x".repeat(300_000)}`,
    "an interim answer": () => "HTTP/1.1 100 \r\n\r\n",
    silence: () => "",
  };
  for (const [name, answer] of Object.entries(hostile)) {
    test(`gives up on ${name}, for good`, async () => {
      await using peer = await serve(answer);
      await using api = await VmmApi.connect(directory, { name: peer.name });

      await expect(api.ask(GET, asked)).rejects.toThrow(VmmError);
      await expect(api.ask(GET, asked)).rejects.toThrow(VmmError);
    });
  }

  test("gives up on a VMM that ends", async () => {
    await using peer = await serve((_, socket) => {
      socket.destroy();
      return "";
    });
    await using api = await VmmApi.connect(directory, { name: peer.name });

    await expect(api.send(PUT, TIMEOUT_MS)).rejects.toThrow("closed the connection");
  });

  test("waits for a VMM that is just starting", async () => {
    const start = { timeoutMs: 10_000, ended: NEVER };
    const connected = VmmApi.connect(directory, { name: "late", start });
    await Bun.sleep(20);
    await using peer = await serve(() => DONE, "late");
    await using api = await connected;

    await api.send(PUT, TIMEOUT_MS);
    expect(peer.name).toBe("late");
  });

  test("waits neither for one that has ended nor without end", async () => {
    const failure = "does not listen";

    await expect(VmmApi.connect(directory, { name: "none" })).rejects.toThrow(failure);
    const ended = { timeoutMs: 60_000, ended: Promise.resolve() };
    await expect(VmmApi.connect(directory, { name: "none", start: ended })).rejects.toThrow(
      failure,
    );
    const late = { timeoutMs: 50, ended: NEVER };
    await expect(VmmApi.connect(directory, { name: "none", start: late })).rejects.toThrow(failure);
  });
});
