// The client against a scripted monitor on a real unix socket.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import { VmmError } from "../../vmm/vmm.ts";
import { QmpClient } from "./qmp.ts";

const GREETING = '{"QMP":{"version":{},"capabilities":[]}}\r\n';
const TIMEOUT_MS = 300;
const Answer = Type.Object({ running: Type.Boolean() });
const status = { schema: Answer, timeoutMs: TIMEOUT_MS };
let directory = "";
let count = 0;

beforeAll(async () => {
  // Longer than a socket's address may be.
  const base = await mkdtemp(join(tmpdir(), "wrenn-qmp-"));
  directory = join(base, "d".repeat(120));
  await Bun.$`mkdir ${directory}`;
});
afterAll(async () => {
  await rm(join(directory, ".."), { recursive: true });
});

interface Monitor extends AsyncDisposable {
  readonly name: string;
}

/** Says hello and answers each line that the client sends with what `answer` makes of it. */
async function monitor(
  answer: (command: { execute: string; id: number }, socket: Socket) => string,
  hello: string = GREETING,
): Promise<Monitor> {
  const name = `m${count++}`;
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.write(hello);
    socket.on("data", (data) => {
      for (const line of data.toString().trim().split("\n")) {
        socket.write(answer(JSON.parse(line), socket));
      }
    });
  });
  // Bound by a relative name, since the whole path does not fit.
  const { promise, resolve } = Promise.withResolvers<void>();
  const previous = process.cwd();
  process.chdir(directory);
  server.listen(name, resolve);
  process.chdir(previous);
  await promise;
  return {
    name,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const obliging = (extra: (command: { execute: string; id: number }) => string) =>
  monitor((command) =>
    command.execute === "qmp_capabilities"
      ? `{"return":{},"id":${command.id}}\r\n`
      : extra(command),
  );

const connect = (name: string) => QmpClient.connect(directory, { name, timeoutMs: TIMEOUT_MS });

describe("QmpClient", () => {
  test("negotiates and returns an answer, with events in between", async () => {
    await using peer = await obliging(
      ({ id }) => `{"event":"RESUME"}\r\n{"return":{"running":true},"id":${id}}\r\n`,
    );
    await using qmp = await connect(peer.name);

    expect(await qmp.execute("query-status", status)).toEqual({ running: true });
    expect(await qmp.execute("query-status", status)).toEqual({ running: true });
  });

  test("passes on a refusal and can go on", async () => {
    await using peer = await obliging(({ id, execute }) =>
      execute === "bad"
        ? `{"error":{"class":"GenericError","desc":"not now"},"id":${id}}\r\n`
        : `{"return":{"running":false},"id":${id}}\r\n`,
    );
    await using qmp = await connect(peer.name);

    const refusal = qmp.execute("bad", status).catch((error: Error) => error.cause);
    expect(await refusal).toEqual(new VmmError("not now"));
    expect(await qmp.execute("query-status", status)).toEqual({ running: false });
  });

  const hostile: Record<string, (id: number) => string> = {
    "an answer of another shape": (id) => `{"return":{"running":"yes"},"id":${id}}\r\n`,
    "an answer to another command": (id) => `{"return":{"running":true},"id":${id + 1}}\r\n`,
    "an answer to no command": () => '{"return":{"running":true}}\r\n',
    "a second greeting": () => GREETING,
    "no JSON": () => "hello\r\n",
    "events without end": () => '{"event":"X"}\r\n'.repeat(20_000),
    "a message without end": () => "x".repeat(300_000),
    silence: () => "",
  };
  for (const [name, answer] of Object.entries(hostile)) {
    test(`gives up on ${name}, for good`, async () => {
      await using peer = await obliging(({ id }) => answer(id));
      await using qmp = await connect(peer.name);

      await expect(qmp.execute("query-status", status)).rejects.toThrow(VmmError);
      await qmp.execute("query-status", status).catch(() => {});
      await expect(qmp.execute("query-status", status)).rejects.toThrow(VmmError);
    });
  }

  test("gives up on a monitor that hangs up", async () => {
    await using peer = await monitor((_, socket) => {
      socket.destroy();
      return "";
    });

    await expect(connect(peer.name)).rejects.toThrow(VmmError);
  });

  test("gives up on a monitor that does not greet", async () => {
    await using peer = await monitor(() => "", "");
    const startedAt = performance.now();

    await expect(connect(peer.name)).rejects.toThrow(`no answer within ${TIMEOUT_MS} ms`);
    await connect(peer.name).catch(() => {});
    expect(performance.now() - startedAt).toBeLessThan(10 * TIMEOUT_MS);
  });

  test("says so when nobody listens", async () => {
    await expect(connect("nobody")).rejects.toThrow("QMP: cannot connect");
  });
});
