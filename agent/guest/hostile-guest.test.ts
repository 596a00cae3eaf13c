// A guest that speaks as it likes. Whatever it sends, the answer is a typed error within bounds of time
// and memory.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { EntryInfoSchema } from "../../proto/gen/envd/filesystem_pb.js";
import { StartResponseSchema } from "../../proto/gen/envd/process_pb.js";
import { longestPauseMs, PAUSE_MS_MAX } from "../../tests/harness/longest-pause.ts";
import { AgentError } from "../errors.ts";
import {
  GUEST_CALL_TIMEOUT_MS,
  KILL_GRACE_MS,
  LIST_ITEMS_MAX,
  STREAM_MESSAGE_BYTES_MAX,
  STREAMS_PER_CAPSULE_MAX,
} from "../limits.ts";
import { exec } from "./exec.ts";
import { listDir, readFile, writeFile } from "./files.ts";
import { Guest } from "./guest.ts";
import { StreamBudget } from "./stream-budget.ts";

/** As the guest's default user. */
const at = (path: string) => ({ path, user: "" });

type Reply = (socket: Bun.Socket<undefined>, request: string) => void;

let listener: Bun.TCPSocketListener<undefined>;
let reply: Reply;
let guest: Guest;
let requests: string[];
let budget: StreamBudget;

beforeEach(() => {
  requests = [];
  listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes) {
        const text = bytes.toString("latin1");
        if (!/^(GET|POST) /.test(text)) return;
        requests.push(text.split("\r\n")[0] ?? "");
        reply(socket, text);
      },
    },
  });
  budget = new StreamBudget(200);
  guest = new Guest({
    hostIp: "127.0.0.1",
    port: listener.port,
    accessToken: "secret",
    teamId: "team",
    budget,
  });
});

afterEach(() => {
  guest.close();
  listener.stop(true);
});

function http(status: string, headers: string[], body: Uint8Array | string = ""): Uint8Array {
  const head = [`HTTP/1.1 ${status}`, ...headers, "Connection: close", "", ""].join("\r\n");
  return Buffer.concat([Buffer.from(head), Buffer.from(body)]);
}

/** A Connect stream that begins with these bytes. */
function stream(body: Uint8Array): Uint8Array {
  return http("200 OK", ["Content-Type: application/connect+proto"], body);
}

function envelope(flags: number, payload: Uint8Array, length = payload.byteLength): Uint8Array {
  const header = Buffer.alloc(5);
  header.writeUInt8(flags);
  header.writeUInt32BE(length, 1);
  return Buffer.concat([header, payload]);
}

function startEvent(pid: number): Uint8Array {
  const event = { event: { event: { case: "start" as const, value: { pid } } } };
  return envelope(0, toBinary(StartResponseSchema, create(StartResponseSchema, event)));
}

function endWith(bytes: Uint8Array): Reply {
  return (socket) => {
    socket.write(bytes);
    socket.end();
  };
}

function run(timeoutMs = 5_000) {
  const command = { cmd: "true", args: [], envs: {}, cwd: "", user: "" };
  return exec(guest, command, { timeoutMs, caller: new AbortController().signal });
}

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.catch((error: unknown) => error);
  return error instanceof AgentError ? `${error.code} ${error.subject}` : `no AgentError: ${error}`;
}

test("a redirect is not followed", async () => {
  let isReached = false;
  using other = Bun.serve({
    port: 0,
    fetch() {
      isReached = true;
      return new Response("internal");
    },
  });
  reply = endWith(http("302 Found", [`Location: ${other.url}`, "Content-Length: 0"]));

  const read = Array.fromAsync(readFile(guest, at("/etc/passwd")));

  expect(await failure(read)).toBe("unavailable guest");
  expect(isReached).toBe(false);
});

test("a compressed body is refused unread", async () => {
  const bomb = Bun.gzipSync(new Uint8Array(1_000_000));
  reply = endWith(
    http("200 OK", ["Content-Encoding: gzip", `Content-Length: ${bomb.length}`], bomb),
  );

  expect(await failure(Array.fromAsync(readFile(guest, at("/x"))))).toBe("unavailable guest");
});

test.each([
  ["no HTTP", Buffer.from("SSH-2.0-OpenSSH_9.2\r\n")],
  ["another content type", http("200 OK", ["Content-Type: text/html"], "<html>")],
  ["half an envelope", stream(Buffer.from([0, 0]))],
  ["an envelope that is cut off", stream(envelope(0, Buffer.alloc(3), 100))],
  ["an envelope that is no message", stream(envelope(0, Buffer.from([0xff, 0xff, 0xff])))],
  ["an end that is no JSON", stream(envelope(2, Buffer.from("{")))],
  [
    "an end before the command's",
    stream(Buffer.concat([startEvent(5), envelope(2, Buffer.from("{}"))])),
  ],
  ["no end at all", stream(startEvent(5))],
  ["a compressed envelope", stream(envelope(1, Buffer.alloc(3)))],
])("a command answered by %s is an unavailable guest", async (_, bytes) => {
  reply = endWith(bytes);

  expect(await failure(run())).toBe("unavailable guest");
});

test("a message that claims to be larger than the bound is refused before it is read", async () => {
  reply = (socket) => {
    socket.write(stream(envelope(0, Buffer.alloc(10), STREAM_MESSAGE_BYTES_MAX + 1)));
  };

  expect(await failure(run())).toBe("resource_exhausted guest");
});

test("a stream that never ends its command ends at the deadline", async () => {
  reply = (socket, request) => {
    // Signals and lists stay unanswered, too.
    if (!request.includes("/Start ")) return;
    socket.write(stream(startEvent(5)));
    const keepalive = envelope(0, Buffer.from([0x0a, 0x02, 0x22, 0x00]));
    const timer = setInterval(() => {
      if (socket.readyState <= 0) clearInterval(timer);
      else socket.write(keepalive);
    }, 100);
  };
  const startedAt = performance.now();

  const result = await run(100);

  expect(result).toMatchObject({ timedOut: true, exitCode: -1 });
  // The deadline, the grace for envd's own kill, and that for the agent's.
  expect(performance.now() - startedAt).toBeLessThan(100 + 2 * KILL_GRACE_MS + 1_000);
}, 30_000);

test("texts of the guest lose their control characters and their length", async () => {
  const message = `\u001b[31m${"x".repeat(5000)}\u0000`;
  const body = JSON.stringify({ code: "not_found", message });
  reply = endWith(
    http(
      "404 Not Found",
      ["Content-Type: application/json", `Content-Length: ${body.length}`],
      body,
    ),
  );

  const error = await listDir(guest, at("/x"), 1).catch((error: unknown) => error);

  expect(error).toBeInstanceOf(AgentError);
  expect(error instanceof AgentError && error.message).toMatch(/^\[31mx{200,300}$/);
});

test("one capsule opens no more streams than its share, and gives each back", async () => {
  reply = () => {};
  const waiting = Array.from({ length: STREAMS_PER_CAPSULE_MAX }, () => run(60_000));
  const settled = Promise.allSettled(waiting);

  expect(await failure(writeFile(guest, at("/x"), new Uint8Array(1)))).toBe(
    "resource_exhausted capsule",
  );
  guest.close();
  await settled;

  expect(await failure(writeFile(guest, at("/x"), new Uint8Array(1)))).toBe(
    "failed_precondition capsule",
  );
});

test("the end of the capsule ends its calls", async () => {
  reply = () => guest.close();

  expect(await failure(run())).toBe("failed_precondition capsule");
  expect(requests).toEqual(["POST /process.Process/Start HTTP/1.1"]);
});

test("a guest that last heard from a host whose clock was ahead is told anew, with a time that counts", async () => {
  const now = new Date();
  const newestMs = now.getTime() + 3_600_000;
  const times: string[] = [];
  reply = (socket, request) => {
    const isInit = request.startsWith("POST /init");
    const [time = ""] = request.match(/(?<="timestamp":")[^"]*/) ?? [];
    if (isInit) times.push(time);
    const headers = times.length === 1 ? [`x-envd-newest-ns: ${newestMs}000000`] : [];
    endWith(isInit ? http("204 No Content", headers) : http("200 OK", []))(socket, request);
  };
  const identity = { capsuleId: "cl-1", templateId: "t", defaultUser: "root", envs: {} };

  await guest.init(identity, now, { savedToken: null });

  expect(times.slice(1)).toEqual([new Date(newestMs + 1).toISOString()]);
});

describe("an answer without end", () => {
  /**
   * What an honest unary answer may take, and what the HTTP client holds of a broken one; for 10 s of a
   * flood it goes up and down by up to 200 MB between collections, where holding it would take gigabytes.
   */
  const RSS_GROWTH_BYTES_MAX = 400_000_000;
  const CALL_TIMEOUT_MS = 1_000;
  const list = () =>
    guest.call(
      { subject: "file" },
      (options) => guest.files.listDir({ path: "/x", depth: 1 }, options),
      CALL_TIMEOUT_MS,
    );

  /** Sends the head and then the piece again and again, as fast as it is taken or every so often. */
  function endless(head: string, piece: string | Uint8Array, everyMs = 0): Reply {
    const bytes = Buffer.from(piece);
    return (socket) => {
      socket.write(head);
      const timer = setInterval(() => {
        if (socket.readyState <= 0) clearInterval(timer);
        else if (everyMs > 0) socket.write(bytes);
        else for (let i = 0; i < 64 && socket.write(bytes) === bytes.length; i++);
      }, everyMs);
    };
  }

  const head = (...headers: string[]) => ["HTTP/1.1 200 OK", ...headers, "", ""].join("\r\n");
  const block = "x".repeat(65_536);
  const chunk = `10000\r\n${block}\r\n`;
  const unary = "Content-Type: application/proto";
  const stream = "Content-Type: application/connect+proto";
  const chunked = "Transfer-Encoding: chunked";

  test.each([
    ["of headers", endless("HTTP/1.1 200 OK\r\n", `X-${block.slice(0, 1000)}: y\r\n`)],
    ["of one header", endless("HTTP/1.1 200 OK\r\nX: ", block)],
    ["of interim answers", endless("", "HTTP/1.1 100 Continue\r\n\r\n")],
    ["of body", endless(head(unary), block)],
    ["of chunks", endless(head(unary, chunked), chunk)],
    ["of one chunk", endless(`${head(unary, chunked)}FFFFFFFFFFFF\r\n`, block)],
    ["of a chunk's size", endless(head(unary, chunked), "0")],
    ["of trailers", endless(`${head(unary, chunked)}0\r\n`, "X-Trailer: y\r\n")],
    ["of drops", endless(head(unary), "x", 20)],
    ["of nothing", endless("", "", 1_000)],
  ])("%s costs a short call bounded memory and time", async (_, answer) => {
    reply = answer;
    const [startedAt, rss] = [performance.now(), process.memoryUsage.rss()];

    expect(await failure(list())).toMatch(/^(unavailable|resource_exhausted|deadline_exceeded) /);
    expect(performance.now() - startedAt).toBeLessThan(CALL_TIMEOUT_MS + 2_000);
    expect(process.memoryUsage.rss() - rss).toBeLessThan(RSS_GROWTH_BYTES_MAX);
  });

  test.each([
    ["of headers", endless("HTTP/1.1 200 OK\r\n", `X-${block.slice(0, 1000)}: y\r\n`)],
    ["of empty envelopes", endless(head(stream), new Uint8Array(65_535))],
    ["of chunks that are no envelope", endless(head(stream, chunked), chunk)],
    ["of trailers", endless(`${head(stream, chunked)}0\r\n`, "X-Trailer: y\r\n")],
    ["of drops", endless(head(stream), "\0", 20)],
    ["of nothing", endless("", "", 1_000)],
  ])(
    "%s costs a command bounded memory and time",
    async (_, answer) => {
      reply = answer;
      const [startedAt, rss] = [performance.now(), process.memoryUsage.rss()];

      const outcome = await run(200).then(
        ({ timedOut }) => (timedOut ? "timed out" : "ended"),
        (error) => (error instanceof AgentError ? "refused" : String(error)),
      );

      expect(["timed out", "refused"]).toContain(outcome);
      expect(performance.now() - startedAt).toBeLessThan(200 + 2 * KILL_GRACE_MS + 3_000);
      expect(process.memoryUsage.rss() - rss).toBeLessThan(RSS_GROWTH_BYTES_MAX);
    },
    30_000,
  );
});

describe("a mebibyte of", () => {
  const fill = (bytes: Uint8Array, size = 2 ** 20) => {
    return Buffer.concat(Array(Math.floor(size / bytes.length)).fill(bytes));
  };
  /** Of what takes seconds by the mebibyte, in slices that are as long here. */
  const SOME = 2 ** 17;
  const answer = (body: Uint8Array) =>
    http("200 OK", ["Content-Type: application/proto", `Content-Length: ${body.length}`], body);
  /** Field 1 with a field of its own that holds the rest. */
  const within = (body: Uint8Array) => {
    const writer = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(body);
    return writer.finish();
  };

  test.each<[string, Uint8Array]>([
    ["empty entries", fill(Buffer.from([0x0a, 0]))],
    ["entries with short names", fill(Buffer.from([0x0a, 3, 0x0a, 1, 0x61]))],
    ["unknown fields", fill(Buffer.from([0x78, 1]))],
    ["groups in groups", fill(Buffer.from([0x7b]))],
    ["what ends in the middle", within(Buffer.alloc(2 ** 20)).subarray(0, 2 ** 20)],
  ])("%s instead of a list holds nobody up", async (_, body) => {
    reply = endWith(answer(body));

    const pauseMs = await longestPauseMs(() => listDir(guest, at("/x"), 1).catch(() => {}));

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
  });

  test.each<[string, Uint8Array]>([
    ["empty envelopes", fill(new Uint8Array(5), SOME)],
    ["keepalives", fill(envelope(0, Buffer.from([0x0a, 0x02, 0x22, 0x00])), SOME)],
    ["unknown fields", fill(envelope(0, fill(Buffer.from([0x78, 1])).subarray(0, 200_000)))],
    ["empty events", fill(envelope(0, fill(Buffer.from([0x0a, 0])).subarray(0, 200_000)))],
  ])("%s of a command holds nobody up", async (_, body) => {
    reply = endWith(stream(Buffer.concat([startEvent(5), body])));

    const pauseMs = await longestPauseMs(() => run(1_000).catch(() => {}));

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
  });
});

test("more entries than a list may have are told", async () => {
  const entry = toBinary(EntryInfoSchema, create(EntryInfoSchema, { name: "a", path: "/a" }));
  const writer = new BinaryWriter();
  for (let i = 0; i <= LIST_ITEMS_MAX; i++) writer.tag(1, WireType.LengthDelimited).bytes(entry);
  const body = writer.finish();
  const headers = ["Content-Type: application/proto", `Content-Length: ${body.length}`];
  reply = endWith(http("200 OK", headers, body));

  expect(await failure(listDir(guest, at("/x"), 1))).toBe("resource_exhausted file");
});

test("an error that is no JSON or no text is an unavailable guest", async () => {
  for (const body of [Buffer.from("{"), Buffer.from([0xff, 0xfe, 0x22, 0xc3]), Buffer.from("[]")]) {
    const headers = ["Content-Type: application/json", `Content-Length: ${body.length}`];
    reply = endWith(http("500 Internal Server Error", headers, body));

    expect(await failure(listDir(guest, at("/x"), 1))).toMatch(/^(unavailable|internal) /);
  }
});

test("a list that claims to be larger than the bound is refused before it is read", async () => {
  const headers = ["Content-Type: application/proto", `Content-Length: ${10 ** 12}`];
  reply = (socket) => {
    socket.write(http("200 OK", headers, Buffer.alloc(100)));
  };
  const startedAt = performance.now();

  expect(await failure(listDir(guest, at("/x"), 1))).toMatch(/^(unavailable|resource_exhausted) /);
  expect(performance.now() - startedAt).toBeLessThan(GUEST_CALL_TIMEOUT_MS + 2_000);
}, 60_000);
