// TLS and HTTP/2 of clients that say nothing, ask for everything, or send what no client should.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type ClientHttp2Session, connect } from "node:http2";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { Front, type FrontLimits } from "../../proto/http1/listener.ts";
import { makeCertificates, tlsPaths } from "../../scripts/dev/tls.ts";
import { frame, GET, HELLO } from "../../tests/harness/http2-frames.ts";
import { longestPauseMs, PAUSE_MS_MAX } from "../../tests/harness/longest-pause.ts";
import { frontLimits } from "./limits.ts";
import { TlsListener } from "./tls-listener.ts";

const NEVER_MS = 60_000;
const PATIENT = {
  firstRequestMs: NEVER_MS,
  headMs: NEVER_MS,
  keptAliveMs: NEVER_MS,
  stalledMs: NEVER_MS,
};

let dir: string;
let resources: AsyncDisposableStack;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-tls-"));
  await makeCertificates(dir, "wrenn.test");
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(() => {
  resources = new AsyncDisposableStack();
});
afterEach(() => resources.disposeAsync());

/** A front that answers each request with its path, below /wait after a while; returns its port. */
async function open(limits: Partial<FrontLimits>): Promise<number> {
  const front = resources.use(
    new Front({
      limits: { ...frontLimits(4096), ...limits },
      failed: (error) => {
        throw error;
      },
      router: async ({ target }) => {
        if (target.startsWith("/wait")) await Bun.sleep(300);
        return { status: 200, headers: [], body: target };
      },
    }),
  );
  const listener = await TlsListener.open(front, tlsPaths(dir));
  resources.defer(() => listener.stop());
  return listener.listen({ hostname: "127.0.0.1", port: 0 });
}

function session(port: number): ClientHttp2Session {
  const made = connect(`https://localhost:${port}`, { rejectUnauthorized: false });
  made.on("error", () => {});
  resources.defer(() => made.destroy());
  return made;
}

/** Of one request: its status and body, or how it failed. */
function ask(over: ClientHttp2Session, path: string): Promise<string> {
  return new Promise((resolve) => {
    const request = over.request({ ":path": path });
    let text = "";
    request.on("response", ({ ":status": status }) => {
      text = `${status} `;
    });
    request.on("data", (piece: Buffer) => {
      text += piece;
    });
    request.on("end", () => resolve(text));
    request.on("error", (error) => resolve(error.message));
  });
}

async function tls(port: number, protocol: string): Promise<TLSSocket> {
  const ALPNProtocols = [protocol];
  const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols });
  socket.on("error", () => {});
  resources.defer(() => void socket.destroy());
  await new Promise((resolve) => socket.on("secureConnect", resolve).on("close", resolve));
  return socket;
}

const closed = (socket: { on(event: "close", listener: () => void): unknown }) =>
  new Promise<void>((resolve) => socket.on("close", resolve));

describe("a connection ends", () => {
  test("without a handshake", async () => {
    const port = await open({ silences: { ...PATIENT, firstRequestMs: 500 } });
    const socket = connectTcp({ port, host: "127.0.0.1" });
    socket.on("error", () => {});

    await closed(socket);
  });

  test("of HTTP/2 without a request", async () => {
    const port = await open({ silences: { ...PATIENT, firstRequestMs: 500 } });

    await closed(session(port));
  });

  test("of HTTP/1.1 without a request", async () => {
    const port = await open({ silences: { ...PATIENT, firstRequestMs: 500 } });
    const socket = await tls(port, "http/1.1");
    socket.resume();

    await closed(socket);
  });

  test("of HTTP/2 without a further request, whatever else is said", async () => {
    const port = await open({ silences: { ...PATIENT, keptAliveMs: 500 } });
    const asking = session(port);
    const answer = await ask(asking, "/a");
    const pings = setInterval(() => asking.ping(() => {}), 100);

    await closed(asking);
    clearInterval(pings);

    expect(answer).toBe("200 /a");
  });
});

describe("of one address", () => {
  const limits = { connectionsMax: 10, connectionsPerAddressMax: 3 };

  test("connections too many are closed before their handshake, others are served again", async () => {
    const port = await open({ ...limits, silences: PATIENT });
    const all = [session(port), session(port), session(port)];
    await Promise.all(all.map((one) => once(one, "connect")));
    const tooMany = await tls(port, "h2");
    const wasServed = !tooMany.destroyed;
    for (const one of all) one.destroy();
    for (let answer = ""; answer !== "200 /again"; ) {
      const again = session(port);
      answer = await ask(again, "/again");
      again.destroy();
    }

    expect(wasServed).toBe(false);
  });

  test("requests of HTTP/2 count, too, and those too many are told so", async () => {
    const port = await open({ ...limits, silences: PATIENT });
    const asking = session(port);
    await once(asking, "connect");
    const answers = await Promise.all([1, 2, 3, 4].map((i) => ask(asking, `/wait/${i}`)));

    const statuses = answers.map((answer) => answer.slice(0, 3));
    expect(statuses).toEqual(["200", "200", "429", "429"]);
    expect(await ask(asking, "/later")).toBe("200 /later");
  });
});

test("a path with bytes of any script is taken, as by HTTP/1.1", async () => {
  const port = await open({ silences: PATIENT });

  expect(await ask(session(port), "/\u00e0?\u00a0")).toStartWith("200 /");
});

describe("a mebibyte of", () => {
  const MIB = 2 ** 20;
  const fill = (make: (index: number) => Buffer) => {
    const size = make(0).length;
    return Buffer.concat(Array.from({ length: Math.floor(MIB / size) }, (_, i) => make(i)));
  };

  test.each<[string, Buffer]>([
    ["requests", fill((i) => frame(1, 5, 2 * i + 1, GET))],
    [
      "requests that are taken back",
      fill((i) =>
        Buffer.concat([frame(1, 5, 2 * i + 1, GET), frame(3, 0, 2 * i + 1, [0, 0, 0, 8])]),
      ),
    ],
    ["pings", fill(() => frame(6, 0, 0, Array(8).fill(0)))],
    ["settings", fill(() => frame(4, 0, 0, []))],
    ["windows", fill(() => frame(8, 0, 0, [0, 0, 0, 1]))],
    ["priorities", fill(() => frame(2, 0, 1, [0, 0, 0, 0, 1]))],
    ["unknown frames", fill(() => frame(0xbb, 0, 0, []))],
    ["body in empty frames", Buffer.concat([frame(1, 4, 1, GET), fill(() => frame(0, 0, 1, []))])],
    [
      "body in single bytes",
      Buffer.concat([frame(1, 4, 1, GET), fill(() => frame(0, 0, 1, [1])).subarray(0, 600_000)]),
    ],
    [
      "a head without end",
      Buffer.concat([frame(1, 0, 1, GET), fill(() => frame(9, 0, 1, [0, 1, 0x61, 1, 0x61]))]),
    ],
  ])("%s holds nobody up", async (_, bytes) => {
    const port = await open({ silences: PATIENT });

    const pauseMs = await longestPauseMs(async () => {
      const socket = await tls(port, "h2");
      socket.resume();
      socket.write(HELLO);
      const written = new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
      await Promise.race([written, closed(socket)]);
      // Another client has its turn behind what was sent.
      expect(await ask(session(port), "/other")).toBe("200 /other");
    });

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
  });
});
