// What a capsule of the platform has on this host: the benchmark looks past the API.

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readVmmRecord } from "../../agent/keeper/run-records.ts";
import type { Client } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { waitFor } from "../harness/wait-for.ts";

const WAIT_TIMEOUT_MS = 240_000;

async function agentDir(): Promise<string> {
  return (await platform()).dir.agentDir;
}

export async function runDirOf(id: string): Promise<string> {
  return join(await agentDir(), "run", id);
}

/** Pauses the capsule and waits until its memory is on disk and nothing of it runs. */
export async function pauseDurably(client: Client, id: string): Promise<void> {
  const runDir = await runDirOf(id);
  await client.json("POST", `/v1/capsules/${id}/pause`);
  await waitFor("the end of a paused VMM", async () => existsSync(runDir), {
    holds: (isThere) => !isThere,
    timeoutMs: WAIT_TIMEOUT_MS,
  });
}

export async function resume(client: Client, id: string): Promise<void> {
  await client.json("POST", `/v1/capsules/${id}/resume`);
}

/** Waits until the warm snapshot that a create has asked for is there, and its guest gone. */
export async function awaitWarm(kept: readonly string[]): Promise<void> {
  const dir = await agentDir();
  const names = async (path: string) => {
    const entries = await readdir(join(dir, path), { withFileTypes: true }).catch(() => []);
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  };
  await waitFor(
    "a warm snapshot",
    async () => {
      const made = (await names("warm")).some((name) => /^[0-9a-f]{64}$/.test(name));
      const others = (await names("run")).filter((name) => !kept.includes(name));
      return made && others.length === 0;
    },
    { holds: (isMade) => isMade, timeoutMs: WAIT_TIMEOUT_MS },
  );
}

/** Bytes that the VMM, its keeper and its pager have for themselves, shared with nobody. */
export async function ownBytesOf(id: string): Promise<number> {
  const record = await readVmmRecord(await runDirOf(id));
  if (record === null) throw new Error(`${id} has no VMM`);
  const pids = [record.pid, record.keeperPid, record.pagerPid].filter((pid) => pid !== undefined);
  const sizes = await Promise.all(pids.map(anonymousBytes));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * Pages that are no file's: what a process wrote, or was given by a pager. A clean page of a mapped
 * file is the page cache's, however few have it mapped.
 */
export async function anonymousBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "latin1");
  const kib = /^Anonymous:\s*(\d+) kB$/m.exec(text)?.[1];
  if (kib === undefined) throw new Error(`/proc/${pid}/smaps_rollup has no Anonymous`);
  return Number(kib) * 1024;
}
