// WebSockets through a real listener, with an agent whose processes are real.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { TestPlatform, until } from "../../tests/harness/simulated-agent-platform.ts";
import { StreamClient, textOf } from "../../tests/harness/stream-client.ts";

let platform: TestPlatform;
let base: URL;
let id: string;
beforeAll(async () => {
  platform = await TestPlatform.start();
  base = platform.controlPlane.listen().url;
  id = await platform.create();
});
afterAll(() => platform[Symbol.asyncDispose]());

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
    await until(() => !isAlive(child));
  });

  test("goes on when its client goes away", async () => {
    const client = await exec("sleep 1000");
    const { pid } = await client.until("start");
    await client[Symbol.asyncDispose]();
    await until(() => platform.agent.underWay === 0);

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
