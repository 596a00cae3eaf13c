// The guest client against a real envd, run on this host: root, because envd changes users.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { AgentError } from "../errors.ts";
import { HELD_PER_CAPSULE_BYTES_MAX, OUTPUT_BYTES_MAX } from "../limits.ts";
import { type Command, exec, startBackground } from "./exec.ts";
import { entryType, listDir, makeDir, readFile, removePath, writeFile } from "./files.ts";
import { Guest } from "./guest.ts";
import { listProcesses, signalProcess } from "./processes.ts";
import { StreamBudget } from "./stream-budget.ts";

/** As the guest's default user. */
const at = (path: string) => ({ path, user: "" });

const ROOT = resolve(import.meta.dirname, "../..");
const TOKEN = "0123456789abcdef".repeat(4);

let dir: string;
let envd: Bun.Subprocess<"ignore", "ignore", "pipe">;
let guest: Guest;
let budget: StreamBudget;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-guest-"));
  await mkdir(join(dir, "etc"));
  // A namespace for the host name that /init sets. The clock stays as it is: it is not off.
  envd = Bun.spawn(
    [
      ...["unshare", "--uts", process.execPath, join(ROOT, "envd/main.ts")],
      ...["--hostname", "127.0.0.1", "--port", "0"],
      ...["--programs", join(ROOT, "build/envd"), "--control-peer", "127.0.0.1"],
      ...["--run-dir", join(dir, "run"), "--etc-dir", join(dir, "etc")],
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const port = await listeningPort(envd.stderr);
  budget = new StreamBudget(200);
  guest = new Guest({
    hostIp: "127.0.0.1",
    port,
    accessToken: TOKEN,
    teamId: "team",
    budget,
  });
  const identity = { capsuleId: "cl-test", templateId: "t", defaultUser: "root", envs: { A: "1" } };
  await guest.init(identity, new Date());
});

afterAll(async () => {
  guest.close();
  envd.kill();
  await envd.exited;
  await rm(dir, { recursive: true });
});

function command(script: string, more: Partial<Command> = {}): Command {
  return { cmd: "/bin/sh", args: ["-c", script], envs: {}, cwd: "/", user: "", ...more };
}

async function run(script: string, more: Partial<Command> = {}, timeoutMs = 10_000) {
  const options = { timeoutMs, caller: new AbortController().signal };
  const { stdout, stderr, ...rest } = await exec(guest, command(script, more), options);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { stdout: text(stdout), stderr: text(stderr), ...rest };
}

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.catch((error: unknown) => error);
  return error instanceof AgentError ? `${error.code} ${error.subject}` : `no failure: ${error}`;
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  return Buffer.concat(await Array.fromAsync(chunks));
}

describe("commands", () => {
  test("streams and exit code come back apart", async () => {
    expect(await run("echo out; echo err >&2; exit 7")).toMatchObject({
      stdout: "out\n",
      stderr: "err\n",
      exitCode: 7,
      timedOut: false,
    });
  });

  test("the capsule's environment and the command's reach it, the command's first", async () => {
    expect((await run("echo $A $B", { envs: { B: "2" } })).stdout).toBe("1 2\n");
    expect((await run("echo $A", { envs: { A: "3" } })).stdout).toBe("3\n");
  });

  test("a command past its time is killed with its children, and what it printed is kept", async () => {
    const result = await run("echo before; sleep 300 & sleep 300", {}, 500);

    expect(result).toMatchObject({ stdout: "before\n", timedOut: true, exitCode: -1 });
    expect(await listProcesses(guest)).toEqual([]);
  });

  test("a command that prints without end is killed and refused", async () => {
    expect(await failure(run("yes", {}, 60_000))).toBe("resource_exhausted process");
    expect(await listProcesses(guest)).toEqual([]);
  }, 60_000);

  test("output as large as the bound is kept whole", async () => {
    const { stdout } = await run(`head -c ${OUTPUT_BYTES_MAX} /dev/zero`, {}, 60_000);

    expect(stdout.length).toBe(OUTPUT_BYTES_MAX);
  }, 60_000);

  test("a command whose guest stands still is cut off with the reason, and no later one is", async () => {
    const reason = new AgentError("resource_exhausted", "There is no room", { subject: "host" });
    const running = failure(run("sleep 300", {}, 300_000));
    await waitFor("the process", () => listProcesses(guest), { holds: (all) => all.length === 1 });

    guest.cutOff(reason);

    expect(await running).toBe("resource_exhausted host");
    await waitFor("its end", () => listProcesses(guest), { holds: (all) => all.length === 0 });
    expect((await run("echo later")).stdout).toBe("later\n");
  });

  test("a command ends when its caller goes away", async () => {
    const caller = new AbortController();
    const running = exec(guest, command("sleep 300"), {
      timeoutMs: 300_000,
      caller: caller.signal,
    });
    await waitFor("the process", () => listProcesses(guest), { holds: (all) => all.length === 1 });

    caller.abort();

    expect(await failure(running)).toBe("aborted request");
    await waitFor("the end of the process", () => listProcesses(guest), {
      holds: (all) => all.length === 0,
    });
  });

  test("a wrong user or directory is the caller's mistake, a missing command is its own", async () => {
    expect(await failure(run("true", { user: "nobody-here" }))).toBe("invalid_argument request");
    expect(await failure(run("true", { cwd: "/nonexistent" }))).toBe("invalid_argument process");
    expect(await run("", { cmd: "/nonexistent/program", args: [] })).toMatchObject({
      exitCode: 127,
    });
  });

  test("a background command goes on after its start, and is killed by tag", async () => {
    const pid = await startBackground(guest, command("sleep 300"), "job");
    expect(await listProcesses(guest)).toMatchObject([{ pid, tag: "job", cmd: "/bin/sh" }]);

    await signalProcess(guest, { case: "tag", value: "job" }, "SIGKILL");

    await waitFor("the end of the process", () => listProcesses(guest), {
      holds: (all) => all.length === 0,
    });
    const again = signalProcess(guest, { case: "tag", value: "job" }, "SIGKILL");
    expect(await failure(again)).toBe("not_found process");
  });
});

describe("files", () => {
  test("content comes back as it was written, its parents are made", async () => {
    const path = join(dir, "new/deep/ü n.bin");
    const content = crypto.getRandomValues(new Uint8Array(60_000));
    await writeFile(guest, at(path), content);

    expect(await collect(readFile(guest, at(path)))).toEqual(Buffer.from(content));
  });

  test("a streamed file of 100 MB goes through without being held", async () => {
    const path = join(dir, "large.bin");
    const lengthBytes = 100_000_000;
    const before = heldBytes();
    let heldMax = 0;
    async function* pieces() {
      for (let i = 0; i < 400; i++) {
        // All others were given away by then, to the guest or to a queue.
        if (i === 399) heldMax = heldBytes();
        yield new Uint8Array(lengthBytes / 400).fill(7);
      }
    }
    await writeFile(guest, at(path), pieces());
    let bytes = 0;
    for await (const chunk of readFile(guest, at(path))) {
      if (bytes === 0) {
        // Time in which what is not held back comes in whole, and more.
        await Bun.sleep(500);
        heldMax = Math.max(heldMax, heldBytes());
      }
      bytes += chunk.byteLength;
    }

    expect(bytes).toBe(lengthBytes);
    expect(heldMax - before).toBeLessThan(lengthBytes / 2);
  }, 60_000);

  test("an upload that breaks off leaves the old file, or none", async () => {
    const path = join(dir, "overwritten");
    const content = async () => new TextDecoder().decode(await collect(readFile(guest, at(path))));
    async function* broken(pieces: number) {
      for (let i = 0; i < pieces; i++) {
        yield new Uint8Array(4_000_000);
        await Bun.sleep(100);
      }
      throw new Error("the client has gone");
    }
    await failure(writeFile(guest, at(path), broken(3)));
    expect(await failure(content())).toBe("not_found file");

    await writeFile(guest, at(path), Buffer.from("old"));
    for (const pieces of [0, 3]) {
      await failure(writeFile(guest, at(path), broken(pieces)));
      expect(await content()).toBe("old");
    }
  });

  test("an empty file is a file, whole or streamed", async () => {
    const path = join(dir, "empty");
    await writeFile(guest, at(path), new Uint8Array());
    expect((await collect(readFile(guest, at(path)))).byteLength).toBe(0);

    await writeFile(guest, at(path), (async function* () {})());
    expect((await collect(readFile(guest, at(path)))).byteLength).toBe(0);
  });

  test("what is missing, there already or of another kind is told apart", async () => {
    const path = join(dir, "absent");
    expect([
      await failure(collect(readFile(guest, at(path)))),
      await failure(listDir(guest, at(path), 1)),
      await failure(removePath(guest, at(path))),
      await failure(collect(readFile(guest, at(dir)))),
      await failure(writeFile(guest, at(dir), new Uint8Array(1))),
      await failure(makeDir(guest, at(dir))),
    ]).toEqual([
      "not_found file",
      "not_found file",
      "not_found file",
      "invalid_argument file",
      "invalid_argument file",
      "already_exists file",
    ]);
  });

  test("a listing tells files, directories and links apart, and a tree is removed whole", async () => {
    const tree = join(dir, "tree");
    await makeDir(guest, at(join(tree, "sub")));
    await writeFile(guest, at(join(tree, "file")), new Uint8Array(3));
    await run("ln -s file link; ln -s /nowhere dangling", { cwd: tree });

    const entries = await listDir(guest, at(tree), 1);
    expect(Object.fromEntries(entries.map((e) => [e.name, entryType(e)]))).toEqual({
      dangling: "symlink",
      file: "file",
      link: "file",
      sub: "directory",
    });
    await removePath(guest, at(tree));
    expect(await failure(listDir(guest, at(tree), 1))).toBe("not_found file");
  });
});

/** What this program takes without garbage, of which there may be tens of megabytes before it is collected. */
function heldBytes(): number {
  Bun.gc(true);
  return process.memoryUsage.rss();
}

async function listeningPort(stream: ReadableStream<Uint8Array>): Promise<number> {
  let text = "";
  for await (const chunk of stream) {
    text += new TextDecoder().decode(chunk);
    const port = /"address":"[^"]*:(\d+)"/.exec(text)?.[1];
    if (port !== undefined) return Number(port);
  }
  throw new Error(`envd did not start: ${text}`);
}

test("what commands of one capsule print is bounded in sum, and free when they have ended", async () => {
  const bytes = 30 * 1024 * 1024;
  const one = command(`head -c ${bytes} /dev/zero`);
  const options = { timeoutMs: 60_000, caller: new AbortController().signal };
  let heldMax = 0;
  const watching = setInterval(() => {
    heldMax = Math.max(heldMax, budget.bytes.heldFor(null));
  }, 1);

  const ends = await Promise.allSettled(Array.from({ length: 6 }, () => exec(guest, one, options)));
  clearInterval(watching);
  const again = await exec(guest, one, options);

  const failures = ends.flatMap((end) => (end.status === "rejected" ? [end.reason] : []));
  expect(failures.length).toBeGreaterThan(0);
  for (const error of failures) {
    expect([error.code, error.subject]).toEqual(["resource_exhausted", "output"]);
  }
  expect(heldMax).toBeLessThanOrEqual(HELD_PER_CAPSULE_BYTES_MAX);
  expect(again.stdout.byteLength).toBe(bytes);
  expect(budget.bytes.heldFor(null)).toBe(0);
});
