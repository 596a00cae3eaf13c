// Programs of a platform are known by pid and start time; whatever is in their records, and when there are
// none, nothing of them is overlooked and nothing else is taken for them.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { processStartTime, signal } from "./process-table.ts";
import { Processes, type Program } from "./processes.ts";

const TERM = { signal: "SIGTERM", graceMs: 5_000 } as const;
const SLEEP = ["sleep", "600"];

let dir: string;
let processes: Processes;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-processes-"));
  processes = new Processes(dir, { muteTimeoutMs: 200 });
});

afterEach(async () => {
  for (const name of await processes.names()) await processes.stop(name, TERM);
  await rm(dir, { recursive: true });
});

function program(changes: Partial<Program> = {}): Program {
  return { name: "it", command: SLEEP, env: {}, stop: TERM, answers: async () => {}, ...changes };
}

async function pidOf(name: string): Promise<number> {
  const record = await processes.running(name);
  if (record === null) throw new Error(`${name} does not run`);
  return record.pid;
}

async function writeRecord(name: string, text: string): Promise<void> {
  await mkdir(join(dir, "processes"), { recursive: true });
  await writeFile(join(dir, "processes", `${name}.json`), text);
}

test("a pid that is used again is no running program, and is not ended", async () => {
  const stranger = Bun.spawn(SLEEP);
  await writeRecord("it", JSON.stringify({ name: "it", pid: stranger.pid, startTime: "1" }));

  expect(await processes.running("it")).toBeNull();
  await processes.stop("it", TERM);

  expect(await processStartTime(stranger.pid)).not.toBeNull();
  stranger.kill();
});

test.each(["", "{", "null", '{"pid":0}', '{"pid":-1,"startTime":"1"}'])(
  "a record that holds %p is none",
  async (text) => {
    await writeRecord("it", text);

    expect(await processes.running("it")).toBeNull();
    await processes.stop("it", TERM);
    expect(await processes.names()).toEqual([]);
  },
);

test("a program whose record and log are deleted is found, and ended", async () => {
  const { pid } = await processes.start(program());
  await rm(join(dir, "processes"), { recursive: true });
  await rm(join(dir, "logs"), { recursive: true });

  expect(await processes.names()).toEqual(["it"]);
  await processes.stop("it", TERM);

  expect(await processStartTime(pid)).toBeNull();
});

test("children that outlive a program end with it", async () => {
  await processes.start(program({ command: ["sh", "-c", "sleep 600 & echo $!; wait"] }));
  let child = 0;
  while (child === 0) child = Number(await Bun.file(processes.logPath("it")).text());
  process.kill(await pidOf("it"), "SIGKILL");

  await processes.stop("it", TERM);

  expect(await processStartTime(child)).toBeNull();
});

test("one that stands still or ignores the signal is ended too", async () => {
  const script = "trap '' TERM; echo ready; while :; do sleep 1; done";
  const { pid } = await processes.start(program({ command: ["sh", "-c", script] }));
  while ((await Bun.file(processes.logPath("it")).text()) === "") await Bun.sleep(1);
  process.kill(pid, "SIGSTOP");

  await processes.stop("it", { signal: "SIGTERM", graceMs: 100 });

  expect(await processStartTime(pid)).toBeNull();
});

test("what runs with the same settings is left alone, with others it is replaced", async () => {
  expect(await processes.ensure(program({ env: { A: "1" } }))).toBe(true);
  const first = await pidOf("it");

  const envOnce = { TOKEN: "of one start" };
  expect(await processes.ensure(program({ env: { A: "1" }, envOnce }))).toBe(false);
  expect(await pidOf("it")).toBe(first);

  expect(await processes.ensure(program({ env: { A: "2" } }))).toBe(true);
  expect(await processStartTime(first)).toBeNull();
});

test("what runs and is mute is replaced", async () => {
  const attempts = { left: 1 };
  const answers = async () => {
    if (attempts.left-- > 0) throw new Error("mute");
  };
  await processes.start(program());
  const first = await pidOf("it");

  attempts.left = Number.POSITIVE_INFINITY;
  const ensured = processes.ensure(program({ answers }));
  while ((await processStartTime(first)) !== null) await Bun.sleep(10);
  attempts.left = 0;

  expect(await ensured).toBe(true);
  expect(await pidOf("it")).not.toBe(first);
});

test("a program that ends says why in one sentence, and is not waited for", async () => {
  const script =
    "echo noise; echo 'Cannot start: the moon is missing' >&2; echo more noise; exit 1";
  const answers = () => Promise.reject(new Error("no answer"));

  const failure = processes.ensure(program({ command: ["sh", "-c", script], answers }));

  expect(failure).rejects.toThrow(
    `it ended: Cannot start: the moon is missing (log: ${processes.logPath("it")})`,
  );
});

test("a signal to a process that has ended is no failure", async () => {
  const child = Bun.spawn(["true"]);
  await child.exited;

  await signal({ pid: child.pid, startTime: "1" }, "SIGTERM");
});

test("logs and records are for root alone", async () => {
  await processes.ensure(program());
  const listed = await Bun.$`find ${dir} -mindepth 1 -perm /077`.text();

  expect(listed).toBe("");
});
