// What a snapshot of an idle Python guest takes on disk, beside its RAM.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Client } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { SHAPE } from "./create.ts";
import type { Row } from "./rows.ts";

const NAME = "bench-idle-python";
const PYTHON = "import json, re, socket, ssl, subprocess, threading, time; time.sleep(1e6)";
/** For the imports, on an emulated processor. */
const IDLE_MS = 10_000;
const BLOCK_BYTES = 512;
const MIB = 1024 * 1024;

export async function benchSnapshotSize(client: Client): Promise<Row> {
  const { id } = await client.create(SHAPE);
  try {
    await client.exec(id, { cmd: "python3", args: ["-c", PYTHON], background: true, tag: "idle" });
    await Bun.sleep(IDLE_MS);
    await client.json("POST", "/v1/snapshots", { sandbox_id: id, name: NAME });
    const bytes = await memoryBytes();
    return {
      name: "snapshot of an idle Python guest: memory and device state",
      unit: "MiB",
      ours: bytes / MIB,
      baseline: SHAPE.memory_mb,
      baselineIs: "its RAM; its disk shares its extents",
      runs: 1,
    };
  } finally {
    await client.json("DELETE", `/v1/snapshots/${NAME}`).catch(() => {});
    await client.destroy(id);
  }
}

/** Of the only memory template there is, without its disk. */
async function memoryBytes(): Promise<number> {
  const teams = join((await platform()).dir.agentDir, "images/teams");
  const glob = new Bun.Glob("*/*/memory/manifest.json");
  const found = await Array.fromAsync(glob.scan({ cwd: teams, absolute: true }));
  const [manifest, another] = found;
  if (manifest === undefined || another !== undefined) throw new Error(`found ${found}`);
  const directory = join(manifest, "..");
  const names = (await readdir(directory)).filter((name) => name !== "disk.ext4");
  const sizes = names.map(async (name) => (await stat(join(directory, name))).blocks * BLOCK_BYTES);
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
