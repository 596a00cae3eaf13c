// POST /v1/capsules is a restore once a capsule of that image and shape has booted.

import { beforeAll, expect, test } from "bun:test";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { startAgent } from "../../scripts/dev/programs.ts";
import type { Capsule, Client } from "../harness/client.ts";
import { journalRows } from "../harness/leaks.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";

const TEST_TIMEOUT_MS = 300_000;
const IDENTITY = "cat /etc/machine-id /proc/sys/kernel/hostname /proc/sys/kernel/random/uuid";
/** Two shapes, whose first creates boot. */
const SHAPES = [{ memory_mb: 256 }, { memory_mb: 320 }];

let client: Client;

beforeAll(async () => {
  client = await adminClient();
  const { agentDir } = (await platform()).dir;
  await waitFor("the end of what the agent boots by itself", () => journalRows(agentDir), {
    holds: (rows) => rows.length === 0,
    timeoutMs: GUEST_MS,
  });
  // Of tests that ran before.
  await rm(await warmDir(), { recursive: true, force: true });
}, TEST_TIMEOUT_MS);

test(
  "the first create of a shape boots, later ones restore it, each with an identity of its own",
  async () => {
    const kept = [];
    for (const shape of SHAPES) {
      const booted = await client.create(shape);
      kept.push(await sourceOf(booted));
      await client.destroy(booted.id);
      await waitFor("a warm snapshot", warmNames, {
        holds: (names) => names.length === kept.length,
        timeoutMs: GUEST_MS,
      });
    }
    const capsules = [];
    for (let count = 0; count < 2; count++) capsules.push(await client.create(SHAPES[0]));
    const sources = await Promise.all(capsules.map(sourceOf));
    const identities = [];
    for (const { id } of capsules) {
      identities.push((await client.sh(id, IDENTITY)).stdout.trim().split("\n"));
    }
    for (const { id } of capsules) await client.destroy(id);

    expect([kept, sources]).toEqual([
      ["image", "image"],
      ["warm", "warm"],
    ]);
    expect(new Set(identities.flat()).size).toBe(3 * capsules.length);
    expect(identities.map((lines) => lines[1])).toEqual(capsules.map(({ id }) => id));
    // One a shape, however many are created.
    expect((await warmNames()).length).toBe(SHAPES.length);
  },
  TEST_TIMEOUT_MS,
);

test(
  "a warm snapshot outlives its agent",
  async () => {
    await restartAgent();

    const capsule = await client.create(SHAPES[1]);
    const source = await sourceOf(capsule);
    await client.destroy(capsule.id);

    expect(source).toBe("warm");
  },
  TEST_TIMEOUT_MS,
);

async function restartAgent(): Promise<void> {
  const parts = await platform();
  const record = await parts.processes.running("agent");
  if (record !== null) {
    process.kill(record.pid, "SIGTERM");
    await parts.processes.ended(record, 30_000);
  }
  const registered = () => Promise.reject(new Error("it is registered already"));
  await startAgent(parts, registered);
}

async function warmDir(): Promise<string> {
  return join((await platform()).dir.agentDir, "warm");
}

async function warmNames(): Promise<string[]> {
  const names = await readdir(await warmDir()).catch(() => []);
  return names.filter((name) => /^[0-9a-f]{64}$/.test(name));
}

/** What the agent says it made the capsule from. */
async function sourceOf({ id }: Capsule): Promise<string> {
  const { processes } = await platform();
  const log = await Bun.file(processes.logPath("agent")).text();
  const line = log
    .split("\n")
    .find((text) => text.includes("capsule.created") && text.includes(id));
  return JSON.parse(line ?? "{}").source;
}
