// The development platform through its commands, from the states that crashes and people leave it in: what
// died is started again, a stop leaves nothing on the machine, and no capsule is lost by either.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "../../tests/harness/client.ts";
import { agentTag, type KernelObjects, kernelObjects } from "../../tests/harness/leaks.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { bringUp } from "./bring-up.ts";
import { type DevDir, locateDevDir } from "./dev-dir.ts";
import { attachPlatform } from "./platform.ts";
import { Processes } from "./processes.ts";
import { PRIVATE } from "./settings.ts";
import { warmCounts } from "./warm-up.ts";

const TEST_TIMEOUT_MS = 240_000;
const SERVERS = ["postgres", "redis", "cp", "agent"] as const;
const SUPERVISORS = ["supervisor", "guard"] as const;
type Name = (typeof SERVERS)[number] | (typeof SUPERVISORS)[number];

/** In a soak every combination. */
const COMBINATIONS: Name[][] = process.env.WRENN_SOAK
  ? combinations(SERVERS).filter(({ length }) => length > 0)
  : [["agent"], [...SERVERS]];
/** The killed parts, as the arguments of a test. */
const KILLED = COMBINATIONS.map((names) => [names] as const);

let home: string;
let dir: DevDir;
let processes: Processes;
/** All that the commands printed. */
let printed = "";
/** What a shell exports that has sourced the platform's file: each later command is given in one. */
let sourced: Record<string, string> = {};
let tag: string;
/** A capsule that lives through it all, with something in it. */
let id: string;
/** What a capsule of the default shape said right behind the start, when a warm guest may be on its way. */
let early: string;

beforeAll(async () => {
  home = join(await mkdtemp(join(tmpdir(), "wrenn-platform-")), "dev");
  dir = await locateDevDir(home);
  processes = new Processes(dir.path);
  expect(await command("up")).toBe(0);
  const text = await Bun.file(join(dir.path, "env")).text();
  sourced = Object.fromEntries(
    [...text.matchAll(/^export (\w+)='(.*)'$/gm)].map((all) => all.slice(1)),
  );
  tag = await agentTag(dir.agentDir);
  const api = await client();
  const { id: earlyId } = await api.create();
  early = (await api.sh(earlyId, "id -un")).stdout;
  await api.destroy(earlyId);
  id = (await api.create({ memory_mb: 256 })).id;
  await api.write(id, "/home/wrenn-user/kept", "kept");
}, TEST_TIMEOUT_MS);

afterAll(async () => {
  await command("reset");
  await rm(join(home, ".."), { recursive: true });
}, TEST_TIMEOUT_MS);

/** The exit status of `make dev-<name>`. */
async function command(name: "up" | "down" | "reset"): Promise<number> {
  const child = Bun.spawn([process.execPath, join(import.meta.dirname, "main.ts"), name], {
    // As in a shell that has sourced the file of this platform; the caller's databases are the caller's.
    env: { ...process.env, DATABASE_URL: "", REDIS_URL: "", ...sourced, DEV_DIR: home },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  printed += `$ ${name}\n${stdout}${stderr}`;
  return await child.exited;
}

async function client(): Promise<Client> {
  const { baseUrl, account } = await attachPlatform(home);
  return new Client(baseUrl, { "x-api-key": account.apiKey });
}

async function kill(names: readonly Name[]): Promise<void> {
  const records = await Promise.all(names.map((name) => processes.running(name)));
  for (const record of records) {
    if (record === null) throw new Error(`not all of ${names} run`);
    process.kill(record.pid, "SIGKILL");
  }
  for (const record of records) if (record) await processes.ended(record, 10_000);
}

async function pids(names: readonly Name[]): Promise<(number | undefined)[]> {
  return await Promise.all(names.map(async (name) => (await processes.running(name))?.pid));
}

/** A control plane that starts hears from the host that it was paused meanwhile. */
async function resume(): Promise<void> {
  const api = await client();
  await waitFor("a pause", () => api.get(id), {
    holds: ({ status }) => status === "paused",
    timeoutMs: 60_000,
  });
  await api.json("POST", `/v1/capsules/${id}/resume`);
}

/** The API's and the agent's answer, through all that may be down at first. */
async function read(id: string): Promise<string> {
  return await waitFor(
    `a file of ${id}`,
    async () => {
      const bytes = await (await client())
        .read(id, "/home/wrenn-user/kept")
        .catch(() => new Uint8Array());
      return new TextDecoder().decode(bytes);
    },
    { holds: (text) => text === "kept", timeoutMs: 60_000 },
  );
}

/** What of the platform is on the machine. */
async function left(): Promise<string[]> {
  const objects: KernelObjects = await kernelObjects(dir.agentDir, tag);
  const names = await processes.names();
  const mounts = (await Bun.file("/proc/self/mountinfo").text()).split("\n");
  return [
    ...Object.values(objects).flat(),
    ...names,
    ...mounts.filter((line) => line.includes(dir.path)),
  ];
}

test(
  "a capsule created right behind the start works, and what later ones restore is made meanwhile",
  async () => {
    expect(early).toBe("wrenn-user\n");
    await waitFor("a guest that has booted", async () => warmCounts(await attachPlatform(home)), {
      holds: ({ made, failed }) => made > 0 && failed === 0,
      timeoutMs: 60_000,
    });
  },
  TEST_TIMEOUT_MS,
);

describe("what is killed", () => {
  test.each([...KILLED, [["cp", "redis", "supervisor"]], [["guard"]]] as [Name[]][])(
    "%p: starts again by itself, and a capsule goes on",
    async (killed) => {
      const before = await pids(killed);

      await kill(killed);

      await waitFor(`${killed} to run`, () => pids([...SERVERS, ...SUPERVISORS]), {
        holds: (all) => !all.includes(undefined) && !all.some((pid) => before.includes(pid)),
        timeoutMs: 60_000,
      });
      expect(await read(id)).toBe("kept");
    },
    TEST_TIMEOUT_MS,
  );

  test.each(KILLED)(
    "%p, with those that look after it: the next start heals it, and it is where it was",
    async (killed) => {
      const { ports } = await attachPlatform(home);

      await kill([...killed, ...SUPERVISORS]);

      expect(await command("up")).toBe(0);
      expect((await attachPlatform(home)).ports).toEqual(ports);
      expect(await read(id)).toBe("kept");
    },
    TEST_TIMEOUT_MS,
  );

  test.each(KILLED)(
    "%p: a stop leaves nothing on the machine, and the capsule is paused",
    async (killed) => {
      await kill([...SUPERVISORS, ...killed]);

      expect(await command("down")).toBe(0);
      expect(await left()).toEqual([]);
      expect(await command("up")).toBe(0);
      await resume();
      expect(await read(id)).toBe("kept");
    },
    TEST_TIMEOUT_MS,
  );
});

test(
  "another user of the machine reads nothing but what is public, and writes nothing",
  async () => {
    const api = await client();
    const { id: paused } = await api.create({});
    await api.json("POST", `/v1/capsules/${paused}/pause`);

    const open = await openToOthers(dir.path);

    // What guests boot from is made of Debian's packages; certificates are shown to everybody.
    const isPublic = /^R (agent\/(images|kernels)(\/.*)?|agent\/tag|tls(\/(ca|cert)\.[a-z]+)?)$/;
    expect(open.filter((line) => !isPublic.test(line))).toEqual([]);
    expect(open).toContain("R tls/ca.pem");
    await api.destroy(paused);
  },
  TEST_TIMEOUT_MS,
);

test("no secret is in an argument list, or in what the commands and programs print", async () => {
  const { secrets } = await attachPlatform(home);
  const { adminPassword, ...unsaid } = secrets;
  const all = await Bun.$`cat /proc/*/cmdline`.nothrow().quiet().text();
  const logs = await Bun.$`cat ${home}/logs/*.log`.quiet().text();

  expect(Object.values(secrets).filter((secret) => all.includes(secret))).toEqual([]);
  expect(Object.values(unsaid).filter((secret) => printed.includes(secret))).toEqual([]);
  expect(Object.values(secrets).filter((secret) => logs.includes(secret))).toEqual([]);
  // What is shown is what it is for.
  expect(printed).toContain(`Login    admin@wrenn.localhost  ${adminPassword}`);
});

test(
  "a start that all runs already for changes nothing",
  async () => {
    const before = await pids(SERVERS);

    expect(await command("up")).toBe(0);

    expect(await pids(SERVERS)).toEqual(before);
    expect(printed).toContain("It runs already");
  },
  TEST_TIMEOUT_MS,
);

test(
  "a start whose first capsule fails says why, and touches nothing that is older",
  async () => {
    const failing = () =>
      bringUp({ home, choices: PRIVATE, progress: () => {} }, () =>
        Promise.reject(new Error("no capsule today")),
      );

    // Once beside what runs, once after a stop.
    await kill(["cp", ...SUPERVISORS]);
    await expect(failing()).rejects.toThrow("no capsule today");
    expect(await read(id)).toBe("kept");
    expect(await command("down")).toBe(0);
    await expect(failing()).rejects.toThrow("no capsule today");
    expect(await left()).toEqual([]);

    expect(await command("up")).toBe(0);
    await resume();
    expect(await read(id)).toBe("kept");
  },
  TEST_TIMEOUT_MS,
);

test(
  "a stop works without the files that say what runs",
  async () => {
    for (const name of ["processes", "logs", "ports.json", "choices.json"]) {
      await rm(join(home, name), { recursive: true });
    }

    expect(await command("down")).toBe(0);

    expect(await left()).toEqual([]);
    expect(await command("up")).toBe(0);
    await resume();
    expect(await read(id)).toBe("kept");
  },
  TEST_TIMEOUT_MS,
);

test(
  "where no agent can start, a stop leaves capsules alone and says so; a reset ends them",
  async () => {
    const journal = join(dir.agentDir, "journal.db");
    await kill(["agent", ...SUPERVISORS]);
    for (const suffix of ["-wal", "-shm"]) await rm(`${journal}${suffix}`, { force: true });
    await writeFile(journal, "no journal".repeat(1000));

    expect(await command("down")).toBe(1);

    expect(printed).toMatch(/1 microVM runs on without an agent \(.*make dev-reset destroys them/);
    expect((await kernelObjects(dir.agentDir, tag)).netns).not.toEqual([]);
    expect(await command("reset")).toBe(0);
    expect(await left()).toEqual([]);
    expect(await stat(home).catch(() => null)).toBeNull();
  },
  TEST_TIMEOUT_MS,
);

/** Paths below the directory that the user nobody may read (R) or write (W). */
async function openToOthers(directory: string): Promise<string[]> {
  const all = await readdir(directory, { recursive: true });
  const script = 'while read -r p; do [ -r "$p" ] && echo "R $p"; [ -w "$p" ] && echo "W $p"; done';
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
  const child = Bun.spawn([...nobody, "bash", "-c", script], {
    cwd: directory,
    stdio: [new Blob([all.map((path) => `${path}\n`).join("")]), "pipe", "ignore"],
  });
  const found = await new Response(child.stdout).text();
  return found.trim().split("\n").sort();
}

function combinations<T>(of: readonly T[]): T[][] {
  const subsets = Array.from({ length: 2 ** of.length }, (_, bits) => bits);
  return subsets.map((bits) => of.filter((_, i) => (bits & (1 << i)) !== 0));
}
