// Commands, terminals and large files of a real capsule, by WebSocket and stream.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { agentClient } from "../harness/agent-client.ts";
import type { Capsule, Client } from "../harness/client.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { GROWTH_MIB_MAX, programSizes } from "../harness/program-sizes.ts";
import { RawWebSocket } from "../harness/raw-websocket.ts";
import { StreamClient, textOf } from "../harness/stream-client.ts";
import { waitFor } from "../harness/wait-for.ts";

const MB = 1_000_000;

setDefaultTimeout(120_000);

let client: Client;
let base: URL;
let headers: Record<string, string>;
let capsule: Capsule;
beforeAll(async () => {
  client = await adminClient();
  const { baseUrl, account } = await platform();
  base = new URL(baseUrl);
  headers = { "x-api-key": account.apiKey };
  capsule = await client.create({ memory_mb: 512 });
});
afterAll(() => client.destroy(capsule.id));

const path = (route: string, id = capsule.id) => `/v1/capsules/${id}/${route}`;
const open = (route: string) => StreamClient.open(base, path(route), headers);
const sh = async (line: string) => (await client.sh(capsule.id, line)).stdout.trim();
const exec = async (script: string, more: Record<string, unknown> = {}) => {
  const stream = await open("exec/stream");
  stream.send({ type: "start", cmd: "/bin/sh", args: ["-c", script], ...more });
  return stream;
};
const terminal = async (more: Record<string, unknown> = {}) => {
  const stream = await open("pty");
  stream.send({ type: "start", envs: { PS1: "$ " }, args: ["--norc"], ...more });
  const started = await stream.until("started");
  return { stream, started };
};

describe("a command", () => {
  test("runs as asked, and tells both streams and its exit", async () => {
    await using stream = await exec("id -un; pwd; echo $A; echo err >&2; exit 7", {
      envs: { A: "ä" },
      cwd: "/usr",
    });
    const messages = await stream.rest();

    expect(textOf(messages, "stdout")).toBe("wrenn-user\n/usr\nä\n");
    expect(textOf(messages, "stderr")).toBe("err\n");
    expect(messages.at(-1)).toEqual({ type: "exit", exit_code: 7 });
    expect(await stream.closed).toBe(1000);
  });

  test("that is stopped is gone with its children", async () => {
    await using stream = await exec("sleep 4321 & sleep 4321; wait");
    await stream.until("start");
    await waitFor("both children", () => sh("pgrep -fc 'sleep 4321' || true"), {
      holds: (n) => Number(n) >= 2,
      timeoutMs: 60_000,
    });
    stream.send({ type: "stop" });

    expect(await stream.until("exit")).toEqual({ type: "exit", exit_code: -1 });
    await waitFor("the end of all children", () => sh("pgrep -xc sleep || true"), {
      holds: (n) => n === "0",
      timeoutMs: 60_000,
    });
  });

  test("that runs out of time is killed and says so", async () => {
    await using stream = await exec("sleep 1234", { timeout_sec: 1 });

    expect((await stream.rest()).at(-1)).toMatchObject({ type: "error", code: "exec_timeout" });
    await waitFor("the end of all children", () => sh("pgrep -xc sleep || true"), {
      holds: (n) => n === "0",
      timeoutMs: 60_000,
    });
  });

  test("goes on without its client, and can be attached to by two at once", async () => {
    const stream = await exec("while ! [ -e /tmp/go ]; do sleep 0.1; done; echo went; exit 4");
    const { pid } = await stream.until("start");
    await stream[Symbol.asyncDispose]();
    await using one = await open(`processes/${pid}/stream`);
    await using two = await open(`processes/${pid}/stream`);
    await Promise.all([one.until("start"), two.until("start")]);
    await sh("touch /tmp/go");

    const expected = [
      { type: "stdout", data: "went\n" },
      { type: "exit", exit_code: 4 },
    ];
    expect<unknown>(await Promise.all([one.rest(), two.rest()])).toEqual([expected, expected]);
  });

  test("prints characters whole although their bytes come apart", async () => {
    await using stream = await exec("printf '\\303'; sleep 0.5; printf '\\251\\377'");

    expect(textOf(await stream.rest(), "stdout")).toBe("é\ufffd");
  });
});

describe("a terminal", () => {
  test("has the size that was asked for, and the one it is given later", async () => {
    const { stream } = await terminal({ cols: 100, rows: 30 });
    await using _stream = stream;
    stream.type("stty size\n");
    await stream.untilOutput("30 100");
    stream.send({ type: "resize", cols: 132, rows: 43 });
    stream.type("stty size\n");
    await stream.untilOutput("43 132");
    stream.type("exit 3\n");

    expect(await stream.until("exit")).toEqual({ type: "exit", exit_code: 3 });
  });

  test("has job control: Ctrl-C ends, Ctrl-Z stops what runs in front", async () => {
    const { stream } = await terminal();
    await using _stream = stream;
    stream.type("sleep 3456; echo sta''tus=$?\n");
    await waitFor("the child", () => sh("pgrep -xc sleep || true"), {
      holds: (n) => n === "1",
      timeoutMs: 60_000,
    });
    stream.type("\u0003");
    stream.type("sleep 3456\n");
    await waitFor("the child", () => sh("pgrep -xc sleep || true"), {
      holds: (n) => n === "1",
      timeoutMs: 60_000,
    });
    stream.type("\u001a");
    await stream.untilOutput("Stopped");
    stream.type("kill %1; echo en''ded\n");
    await stream.untilOutput("ended");
    stream.send({ type: "kill" });

    expect(await stream.until("exit")).toEqual({ type: "exit", exit_code: -1 });
  });

  test("is attached to again with its past, and works on", async () => {
    const { stream, started } = await terminal();
    stream.type("echo be''fore\n");
    await stream.untilOutput("before");
    await stream[Symbol.asyncDispose]();

    await using again = await open("pty");
    again.send({ type: "connect", tag: started.tag, scrollback: true });
    expect(await again.next()).toEqual(started);
    expect(await again.untilOutput("before")).toContain("before");
    again.type("echo af''ter\n");
    await again.untilOutput("after");
    again.send({ type: "kill" });
    await again.until("exit");
  });

  test("takes 100 kB of typing in order, however it comes", async () => {
    const { stream } = await terminal();
    await using _stream = stream;
    const typed = Array.from({ length: 10_000 }, (_, i) => `${String(i).padStart(9, "0")}\n`);
    stream.type(
      "stty -echo -icanon -icrnl; echo re''ady; head -c 100000 | cksum; head -c1; stty size\n",
    );
    await stream.untilOutput("ready");
    for (const line of typed) stream.type(line);
    stream.send({ type: "resize", cols: 99, rows: 33 });
    stream.type("x");
    const output = await stream.untilOutput("33 99");

    const { stdout } = Bun.spawnSync(["cksum"], { stdin: Buffer.from(typed.join("")) });
    expect(output).toContain(stdout.toString().trim());
    stream.send({ type: "kill" });
    await stream.until("exit");
  });
});

test("a reader that takes its time makes the process wait, and misses nothing", async () => {
  const bytes = 60 * MB;
  const script = `head -c ${bytes} /dev/zero | tr '\\0' x; touch /tmp/printed`;
  await using stream = await RawWebSocket.open(base, path("exec/stream"), headers);
  stream.pause();
  stream.send({ type: "start", cmd: "/bin/sh", args: ["-c", script] });
  await Bun.sleep(5000);
  const printed = await sh("ls /tmp/printed 2>/dev/null || true");
  stream.resume();
  await stream.ended;

  expect(stream.receivedBytes).toBeGreaterThan(bytes);
  expect(await sh("ls /tmp/printed")).toBe("/tmp/printed");
  // More than all buffers on the way hold: those of five sockets and a MiB in envd.
  expect(printed).toBe("");
});

test("an open stream is activity", async () => {
  await using stream = await exec("sleep 600");
  await stream.until("start");
  const startedAtSec = Date.now() / 1000;
  await Bun.sleep(3000);
  const { sandboxes } = await (await agentClient()).listSandboxes({});
  const reported = sandboxes.find(({ sandboxId }) => sandboxId === capsule.id);

  // The start of the command is activity, too.
  expect(Number(reported?.lastActiveAtUnix)).toBeGreaterThan(startedAtSec + 1);
  stream.send({ type: "stop" });
  await stream.rest();
});

test("a file goes in and out by stream, and one that breaks off leaves nothing", async () => {
  const sizeBytes = process.env.WRENN_SOAK ? 4096 * 1024 * 1024 : 64 * 1024 * 1024;
  const block = crypto.getRandomValues(new Uint8Array(65_536));
  const boundary = "stream-boundary";
  const head = (file: string) =>
    `--${boundary}\r\nContent-Disposition: form-data; name="path"\r\n\r\n${file}\r\n--${boundary}\r\n` +
    `Content-Disposition: form-data; name="file"; filename="upload.bin"\r\n\r\n`;
  const send = (file: string, bytes: number, end: string, signal: AbortSignal) => {
    let sent = -1;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent < 0) controller.enqueue(Buffer.from(head(file)));
        else if (sent < bytes) controller.enqueue(block);
        else {
          if (end !== "") controller.enqueue(Buffer.from(end));
          return controller.close();
        }
        sent = sent < 0 ? 0 : sent + block.byteLength;
      },
    });
    const type = `multipart/form-data; boundary=${boundary}`;
    return client.fetch(path("files/stream/write"), {
      ...{ method: "POST", body, signal },
      headers: { "content-type": type },
    });
  };
  const never = new AbortController().signal;
  const dev = await platform();
  const end = `\r\n--${boundary}--\r\n`;
  // What a program that has just started takes for its first transfer is not what this one holds.
  await send("/home/wrenn-user/large", 16 * MB, end, never);
  const before = await programSizes(dev);
  const written = await send("/home/wrenn-user/large", sizeBytes, end, never);
  const broken = await send("/home/wrenn-user/broken", 4 * MB, "", never);
  const read = await client.fetch(path("files/stream/read"), {
    ...{ method: "POST", body: JSON.stringify({ path: "/home/wrenn-user/large" }), signal: never },
  });
  const hash = new Bun.CryptoHasher("sha256");
  let received = 0;
  for await (const chunk of read.body ?? []) {
    hash.update(chunk);
    received += chunk.byteLength;
  }
  const after = await programSizes(dev);
  const expected = new Bun.CryptoHasher("sha256");
  for (let i = 0; i < sizeBytes; i += block.byteLength) expected.update(block);

  expect([written.status, broken.status, received]).toEqual([204, 400, sizeBytes]);
  expect(hash.digest("hex")).toBe(expected.digest("hex"));
  expect(after.cpMib - before.cpMib).toBeLessThan(GROWTH_MIB_MAX);
  expect(after.agentMib - before.agentMib).toBeLessThan(GROWTH_MIB_MAX);
  await waitFor("the removal of the broken upload", () => sh("ls /home/wrenn-user"), {
    holds: (names) => !names.includes("broken"),
    timeoutMs: 60_000,
  });
  await client.remove(capsule.id, "/home/wrenn-user/large");
}, 1_800_000);

test("a capsule that is destroyed ends its streams with an error", async () => {
  const doomed = await client.create({ memory_mb: 256 });
  await using stream = await StreamClient.open(base, path("exec/stream", doomed.id), headers);
  stream.send({ type: "start", cmd: "/bin/sleep", args: ["1000"] });
  await stream.until("start");
  await client.destroy(doomed.id);

  expect((await stream.rest()).at(-1)).toMatchObject({ type: "error", code: "invalid_state" });
});
