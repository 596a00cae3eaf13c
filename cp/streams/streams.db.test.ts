// WebSockets through a real listener, with an agent whose processes are real.

import { beforeAll, describe, expect, test } from "bun:test";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { RawWebSocket } from "../../tests/harness/raw-websocket.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { StreamClient, textOf } from "../../tests/harness/stream-client.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

const platform = await forThisFile(TestPlatform.start());
let base: URL;
let id: string;
beforeAll(async () => {
  base = platform.controlPlane.listen().url;
  id = await platform.create();
});

const key = () => ({ "x-api-key": platform.team.apiKey });
const open = (route: string, headers: Record<string, string> = key()) =>
  StreamClient.open(base, `/v1/capsules/${id}/${route}`, headers);
const exec = async (script: string, more: Record<string, unknown> = {}) => {
  const client = await open("exec/stream");
  client.send({ type: "start", cmd: "/bin/sh", args: ["-c", script], ...more });
  return client;
};
const isAlive = (pid: number | undefined) => {
  try {
    process.kill(pid ?? 0, 0);
    return true;
  } catch {
    return false;
  }
};

describe("a command", () => {
  test("tells its start, both streams, its exit, and says goodbye", async () => {
    await using client = await exec("echo out; echo err >&2; exit 7");
    const messages = await client.rest();

    expect(messages[0]).toEqual({ type: "start", pid: expect.any(Number) });
    expect([textOf(messages, "stdout"), textOf(messages, "stderr")]).toEqual(["out\n", "err\n"]);
    expect(messages.at(-1)).toEqual({ type: "exit", exit_code: 7 });
    expect(await client.closed).toBe(1000);
  });

  test("has the variables, directory and time that were asked for", async () => {
    await using client = await exec('echo "$A"; pwd', {
      envs: { A: "é" },
      cwd: "/usr",
      args: null,
    });
    client.send({ type: "start" });
    await using asked = await exec('echo "$A"; pwd', { envs: { A: "é" }, cwd: "/usr" });
    await using late = await exec("sleep 60", { timeout_sec: 1 });

    expect(textOf(await asked.rest(), "stdout")).toBe("é\n/usr\n");
    expect((await late.rest()).at(-1)).toMatchObject({ type: "error", code: "exec_timeout" });
  });

  test("is killed by stop with its children, and its exit is told", async () => {
    await using client = await exec("sleep 1000 & echo $!; wait");
    const child = Number((await client.until("stdout")).data);
    client.send({ type: "stop" });

    expect(await client.until("exit")).toEqual({ type: "exit", exit_code: -1 });
    await waitFor("the end of the child", () => !isAlive(child));
  });

  test("goes on when its client goes away", async () => {
    const client = await exec("sleep 1000");
    const { pid } = await client.until("start");
    await client[Symbol.asyncDispose]();
    await waitFor("the end of all calls at the agent", () => platform.agent.underWay, {
      holds: (calls) => calls === 0,
    });

    expect(isAlive(pid)).toBe(true);
    process.kill(-(pid ?? 0), "SIGKILL");
  });

  // The first Wrenn replaced both halves.
  test("prints characters whole although their bytes come apart", async () => {
    const script = "printf '\\303'; sleep 0.2; printf '\\251'; printf '\\377'; printf '\\303' >&2";
    await using client = await exec(script);
    const messages = await client.rest();

    expect([textOf(messages, "stdout"), textOf(messages, "stderr")]).toEqual(["é\ufffd", "\ufffd"]);
  });

  test("prints bytes as they are when base64 is asked for", async () => {
    await using client = await open("exec/stream?encoding=base64");
    client.send({ type: "start", cmd: "/usr/bin/printf", args: ["\\377\\0x"] });

    const { data = "" } = await client.until("stdout");
    expect([...Buffer.from(data, "base64")]).toEqual([255, 0, 120]);
  });
});

describe("a process that runs", () => {
  test("is read by its tag or pid by several at once, from now on, to its end", async () => {
    const script = "while ! [ -e $0 ]; do sleep 0.05; done; echo go; exit 3";
    const file = `/tmp/wrenn-${crypto.randomUUID()}`;
    const { body } = await platform.call("POST", `/v1/capsules/${id}/exec`, {
      body: { cmd: "/bin/sh", args: ["-c", script, file], background: true, tag: "attached" },
    });
    await using byTag = await open("processes/attached/stream");
    await using byPid = await open(`processes/${body.pid}/stream`);
    const starts = [await byTag.until("start"), await byPid.until("start")];
    byPid.send({ type: "stop" });
    await Bun.write(file, "");

    const both = await Promise.all([byTag.rest(), byPid.rest()]);
    expect(starts.map(({ pid }) => pid)).toEqual([Number(body.pid), Number(body.pid)]);
    const expected = [
      { type: "stdout", data: "go\n" },
      { type: "exit", exit_code: 3 },
    ];
    expect<unknown>(both).toEqual([expected, expected]);
  });

  test("that does not exist is told as an error", async () => {
    await using client = await open("processes/nobody/stream");

    expect(await client.rest()).toEqual([
      {
        type: "error",
        code: "not_found",
        data: "process with tag 'nobody' does not exist",
        reason: "process_not_found",
        retryable: false,
      },
    ]);
    expect(await client.closed).toBe(1008);
  });
});

describe("a terminal", () => {
  const terminal = async (start: Record<string, unknown> = {}) => {
    const client = await open("pty");
    client.send({ type: "start", cmd: "/bin/sh", envs: { PS1: "$ " }, ...start });
    return { client, started: await client.until("started") };
  };

  test("echoes, resizes and ends", async () => {
    const { client, started } = await terminal({ cols: 100, rows: 30 });
    await using _client = client;
    client.type("stty size\n");
    await client.untilOutput("30 100");
    client.send({ type: "resize", cols: 132, rows: 43 });
    client.type("stty size\n");
    await client.untilOutput("43 132");
    client.type("exit 5\n");

    expect(started).toMatchObject({ tag: expect.stringMatching(/^pty-[0-9a-f]{8}$/) });
    expect(await client.until("exit")).toEqual({ type: "exit", exit_code: 5 });
    expect(await client.closed).toBe(1000);
  });

  // The first Wrenn dropped a resize or a kill that followed input, and input above 64 frames.
  test("gets everything that was typed, and what follows it, in order", async () => {
    const { client } = await terminal();
    await using _client = client;
    client.type("stty -echo -icanon; echo re''ady; head -c 20000 | cksum; head -c 1; stty size\n");
    const typed = "0123456789".repeat(2000);
    await client.untilOutput("ready");
    for (const character of typed) client.type(character);
    client.send({ type: "resize", cols: 99, rows: 33 });
    client.type("x");
    const sum = await new Response(
      Bun.spawn(["cksum"], { stdin: Buffer.from(typed) }).stdout,
    ).text();

    expect(await client.untilOutput("33 99")).toContain(sum.trim());
    client.send({ type: "kill" });
    expect(await client.until("exit")).toEqual({ type: "exit", exit_code: -1 });
  });

  test("outlives its client and is attached to again, told as started, with its past", async () => {
    const { client, started } = await terminal();
    client.type("echo be''fore\n");
    await client.untilOutput("before");
    await client[Symbol.asyncDispose]();

    await using again = await open("pty");
    again.send({ type: "connect", tag: started.tag, scrollback: true });
    expect(await again.next()).toEqual(started);
    await again.untilOutput("before");
    again.type("echo af''ter\n");
    await again.untilOutput("after");
    again.send({ type: "kill" });
    expect(await again.until("exit")).toEqual({ type: "exit", exit_code: -1 });
  });

  test("tells its past only when asked", async () => {
    const { client, started } = await terminal();
    client.type("echo be''fore\n");
    await client.untilOutput("before");
    await client[Symbol.asyncDispose]();

    await using again = await open("pty");
    again.send({ type: "connect", tag: started.tag });
    await again.until("started");
    again.type("echo af''ter\n");

    expect(await again.untilOutput("after")).not.toContain("before");
    again.send({ type: "kill" });
  });

  test("carries bytes as they are, and takes input in JSON, too", async () => {
    const { client } = await terminal();
    await using _client = client;
    client.typeInJson("stty -echo raw; printf '\\377\\000\\001'; echo; exit\n");
    const received: Uint8Array[] = [];
    for (let m = await client.next(); m !== null; m = await client.next()) {
      if (m.type !== "output") continue;
      expect(m.isBinary).toBe(true);
      received.push(Uint8Array.fromBase64(m.data ?? ""));
    }

    expect(Buffer.concat(received).includes(Buffer.from([0xff, 0, 1]))).toBe(true);
  });

  test("is known to the first clients in JSON, below their base path", async () => {
    const path = `/compat/0.1/v1/capsules/${id}/pty`;
    await using client = await StreamClient.open(base, path, key());
    client.send({ type: "start", cmd: "/bin/sh", envs: { PS1: "$ " } });
    await client.until("started");
    client.typeInJson("echo $((6 * 7))\n");

    expect(await client.untilOutput("42")).toContain("42");
    client.typeInJson("exit\n");
    const others = await client.rest();
    expect(others.every(({ isBinary }) => isBinary !== true)).toBe(true);
  });

  test("that is killed while its process reads nothing ends all the same", async () => {
    const { client } = await terminal();
    await using _client = client;
    platform.agent.faultBefore("ptySendInput", () => new Promise(() => {}));
    client.type("lost");
    client.type("lost, too");
    client.send({ type: "kill" });

    expect(await client.until("exit")).toEqual({ type: "exit", exit_code: -1 });
  }, 15_000);

  test("types what its client sent with its last breath", async () => {
    const file = `/tmp/wrenn-${crypto.randomUUID()}`;
    const { client } = await terminal();
    client.type(`echo done > ${file}; `);
    client.type("exit\n");
    await client[Symbol.asyncDispose]();

    await waitFor("the file", () => Bun.file(file).exists());
  });

  test("that does not exist is a fatal error", async () => {
    await using client = await open("pty");
    client.send({ type: "connect", tag: "pty-00000000" });

    expect(await client.rest()).toMatchObject([{ type: "error", code: "not_found", fatal: true }]);
  });
});

describe("a reader that takes its time", () => {
  test("makes the process wait, and gets all of it", async () => {
    const file = `/tmp/wrenn-${crypto.randomUUID()}`;
    const script = `head -c 60000000 /dev/zero | tr '\\0' x; echo > ${file}`;
    await using client = await RawWebSocket.open(base, `/v1/capsules/${id}/exec/stream`, key());
    client.pause();
    client.send({ type: "start", cmd: "/bin/sh", args: ["-c", script] });
    await Bun.sleep(1500);
    const hasWaited = !(await Bun.file(file).exists());
    client.resume();
    await client.ended;

    expect(hasWaited).toBe(true);
    expect(client.receivedBytes).toBeGreaterThan(60_000_000);
    expect(await Bun.file(file).exists()).toBe(true);
  }, 20_000);
});
