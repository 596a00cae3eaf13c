// Creates that restore a guest which has booted before: each capsule is somebody of its own.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { open, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { untilNone } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";
import { FAILPOINTS } from "../failpoints.ts";

const RESTORES = process.env.WRENN_SOAK ? 200 : 5;
/** One for each kind of thing that is there or not at that step; all of them by `make soak`. */
const SOME_POINTS = ["claim", "boot", "stop", "publish"].map((step) => `warm.after-${step}`);
const CLOCK_OFF_MS_MAX = 50;
/** What has a checksum of its own. */
const CHUNK_BYTES = 64 * 1024;
const IDENTITY = "cat /proc/sys/kernel/random/uuid /etc/machine-id /proc/sys/kernel/hostname";

const TIMEOUT_MS = 300_000;
setDefaultTimeout(TIMEOUT_MS);

let agent: AgentProcess;

beforeAll(async () => {
  agent = await AgentProcess.start();
  await agent.kill("SIGTERM");
  await agent.restart({ warm: "on" });
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

async function warmNames(): Promise<string[]> {
  const names = await readdir(join(agent.dir, "warm")).catch(() => []);
  return names.filter((name) => /^[0-9a-f]{64}$/.test(name));
}

async function untilLogged(event: string, times = 1): Promise<void> {
  const look = async () => countOf(await agent.log(), `"${event}"`);
  await waitFor(`${event} in the log`, look, {
    holds: (count) => count >= times,
    timeoutMs: GUEST_MS,
  });
}

async function destroy(sandboxId: string): Promise<void> {
  await agent.client.destroySandbox({ sandboxId });
}

function countOf(log: string, text: string): number {
  return log.split(text).length - 1;
}

test(
  "after the first create others restore its kind, each with names and numbers of its own",
  async () => {
    await destroy(await agent.create());
    await untilLogged("warm.made");

    const seen: string[] = [];
    for (let i = 0; i < RESTORES; i += 1) {
      const id = await agent.create();
      const sentAt = Date.now();
      const clockMs = Number(await agent.sh(id, "date +%s%3N"));
      expect(clockMs).toBeGreaterThan(sentAt - CLOCK_OFF_MS_MAX);
      expect(clockMs).toBeLessThan(Date.now() + CLOCK_OFF_MS_MAX);
      const names = (await agent.sh(id, IDENTITY)).trim().split("\n");
      expect(names[2]).toBe(id);
      seen.push(...names);
      await destroy(id);
    }

    expect(new Set(seen).size).toBe(3 * RESTORES);
    expect(countOf(await agent.log(), '"source":"warm"')).toBe(RESTORES);
    expect(await agent.leftovers()).toEqual(NOTHING);
  },
  TIMEOUT_MS + RESTORES * 10_000,
);

/** What others, or a disk, may do to a warm snapshot. */
const DAMAGES: Readonly<Record<string, (directory: string) => Promise<unknown>>> = {
  "without its manifest": (directory) => rm(join(directory, "manifest.json")),
  "with a torn device state": (directory) => truncate(join(directory, "device-state"), 100),
  "without its memory": async (directory) => rm(await layerOf(directory)),
  // Its checksums are found to be wrong when the guest wants the page; its flat file was made before.
  "with a changed page": async (directory) => {
    await rm(await flatFile());
    await using layer = await open(await layerOf(directory), "r+");
    const { size } = await layer.stat();
    for (let at = 77; at < size - CHUNK_BYTES; at += CHUNK_BYTES) await layer.write("?", at);
  },
  "without a disk": (directory) => rm(join(directory, "disk.ext4")),
};
const SOME = Object.keys(DAMAGES).filter((_, i) => process.env.WRENN_SOAK || i % 3 === 0);

async function flatFile(): Promise<string> {
  const glob = new Bun.Glob("flat/*/*.flat");
  const paths = await Array.fromAsync(glob.scan({ cwd: agent.dir, absolute: true }));
  const times = await Promise.all(paths.map(async (path) => (await stat(path)).mtimeMs));
  return paths[times.indexOf(Math.max(...times))] ?? "";
}

async function layerOf(directory: string): Promise<string> {
  const layer = (await readdir(directory)).find((name) => /^memory\.[0-9a-f-]{36}$/.test(name));
  return join(directory, layer ?? "");
}

test.each(SOME)("a warm snapshot %s costs a boot, is set aside and made anew", async (damage) => {
  const [name = ""] = await warmNames();
  const before = countOf(await agent.log(), '"warm.made"');
  const setAside = countOf(await agent.log(), '"warm.set-aside"');
  await DAMAGES[damage]?.(join(agent.dir, "warm", name));

  const id = await agent.create();

  expect(await agent.sh(id, "echo booted")).toBe("booted\n");
  expect(countOf(await agent.log(), '"warm.set-aside"')).toBe(setAside + 1);
  const aside = await readdir(join(agent.dir, "warm/aside"));
  expect(aside.filter((file) => file.endsWith(name))).not.toEqual([]);
  expect(aside.length).toBeLessThanOrEqual(2);
  await destroy(id);
  await untilLogged("warm.made", before + 1);
  expect(await warmNames()).toEqual([name]);
  expect(await agent.leftovers()).toEqual(NOTHING);
});

// It is mapped, so a guest would die of what is not there.
test("a flat file that was cut is not mapped, and the create restores all the same", async () => {
  await truncate(await flatFile(), 4096);
  const fallbacks = countOf(await agent.log(), '"warm.fallback"');

  const id = await agent.create();

  expect(await agent.sh(id, "echo restored")).toBe("restored\n");
  expect(countOf(await agent.log(), '"warm.fallback"')).toBe(fallbacks);
  await destroy(id);
});

describe("killed while a warm snapshot is made", () => {
  const all = FAILPOINTS.filter((point) => point.startsWith("warm."));
  const points = process.env.WRENN_SOAK ? all : all.filter((point) => SOME_POINTS.includes(point));
  test.each(points)("at %s: nothing is left but the capsule", async (point) => {
    for (const name of await warmNames()) {
      await Bun.$`rm -r ${join(agent.dir, "warm", name)}`.quiet();
    }
    await agent.kill("SIGTERM");
    await agent.restart({ warm: "on", failpoint: `${point}:kill` });

    const creating = agent.create().catch(() => "");
    await agent.exited();
    await creating;
    await agent.restart();

    for (const id of Object.keys(await agent.statuses())) await destroy(id);
    await untilNone(agent);
    expect(await agent.leftovers()).toEqual(NOTHING);
  });
});
