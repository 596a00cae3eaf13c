// `make bench`: a platform of its own, each figure beside its baseline in the same run, as a table and as
// build/bench.json. With names of groups only those: `bun tests/bench/main.ts pause fork`.

import { join, resolve } from "node:path";
import { startPlatform } from "../../scripts/dev/platform.ts";
import { startAgent } from "../../scripts/dev/programs.ts";
import { type Platform, PRIVATE } from "../../scripts/dev/settings.ts";
import { deletePlatform, stopPlatform } from "../../scripts/dev/stop-platform.ts";
import type { Client } from "../harness/client.ts";
import { adminClient } from "../harness/platform.ts";
import { type BareSnapshot, BareVmm } from "./bare-vmm.ts";
import { awaitWarm } from "./capsule-files.ts";
import { benchColdCreate, benchWarmCreate, SHAPE } from "./create.ts";
import { benchExec, benchFiles } from "./exec-and-files.ts";
import { benchFork } from "./fork.ts";
import { benchGetCapsule } from "./get-capsule.ts";
import { benchPager } from "./pager.ts";
import { benchPause } from "./pause.ts";
import { benchProxy } from "./proxy.ts";
import { benchPrefetch, benchResume } from "./resume.ts";
import { printTable, type Row } from "./rows.ts";
import { benchSnapshotSize } from "./snapshot-size.ts";
import { benchStreams } from "./streams.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const HOME = join(ROOT, "build/bench");
const AGENT_GRACE_MS = 30_000;
/** Networks that stand ready for bare machines: a fork is measured against ten at once. */
const BARE_NETWORKS = 11;

/** In a running capsule. */
const INSIDE = {
  exec: async (client: Client, id: string) => [await benchExec(client, await client.get(id))],
  streams: async (client: Client, id: string) => benchStreams(client, await client.get(id)),
  files: async (client: Client, id: string) => benchFiles(client, await client.get(id)),
  proxy: async (client: Client, id: string) => benchProxy(client, await client.get(id)),
  reads: (client: Client) => benchGetCapsule(client),
} satisfies Record<string, (client: Client, id: string) => Promise<Row[]>>;

/** With no warm snapshots: their making behind a create would be measured, too. */
const COLD = {
  cold: async (client: Client, bare: BareVmm) => [await benchColdCreate(client, bare)],
  pause: benchPause,
} satisfies Record<string, (client: Client, bare: BareVmm) => Promise<Row[]>>;

const WARM = {
  create: async (...parts: WarmParts) => [await benchWarmCreate(...parts)],
  resume: async (...parts: WarmParts) => [await benchResume(...parts)],
  prefetch: (client: Client) => benchPrefetch(client),
  size: async (client: Client) => [await benchSnapshotSize(client)],
  fork: benchFork,
} satisfies Record<string, (...parts: WarmParts) => Promise<Row[]>>;
type WarmParts = [client: Client, bare: BareVmm, snapshot: BareSnapshot];

const known = ["pager", ...Object.keys(COLD), ...Object.keys(INSIDE), ...Object.keys(WARM)];
const wanted = process.argv.length > 2 ? process.argv.slice(2) : known;
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  const names = `${unknown.join(", ")}; there are ${known.join(", ")}`;
  console.error(`Cannot measure: no group is named ${names}`);
  process.exit(1);
}

const progress = (line: string) => console.log(`==> ${line}`);
const rows: Row[] = [];
const failed: string[] = [];
process.env.DEV_DIR = HOME;
await stopPlatform(HOME);
await deletePlatform(HOME);
try {
  if (wanted.includes("pager")) await measure("pager", benchPager);
  if (wanted.some((name) => name !== "pager")) await measureOnPlatform();
} finally {
  await stopPlatform(HOME);
  await deletePlatform(HOME);
}
printTable(rows);
await Bun.write(join(ROOT, "build/bench.json"), `${JSON.stringify(rows, null, 2)}\n`);
if (failed.length > 0) {
  console.error(`Not measured: ${failed.join(", ")}`);
  process.exitCode = 1;
}

/** A group that fails is told of, and the others go on. */
async function measure(name: string, group: () => Promise<Row[]>): Promise<void> {
  progress(name);
  try {
    const found = await group();
    rows.push(...found);
    printTable(found);
  } catch (error) {
    failed.push(name);
    console.error(error);
  }
}

async function measureOnPlatform(): Promise<void> {
  const started = await startPlatform({
    home: HOME,
    choices: { ...PRIVATE, agent: { WRENN_WARM: "off" } },
    progress,
  });
  await using bare = await BareVmm.open(BARE_NETWORKS);
  const client = await adminClient();
  for (const [name, group] of groups(COLD)) await measure(name, () => group(client, bare));
  const inside = groups(INSIDE);
  if (inside.length > 0) {
    const { id } = await client.create(SHAPE);
    for (const [name, group] of inside) await measure(name, () => group(client, id));
    await client.destroy(id);
  }
  const warm = groups(WARM);
  if (warm.length === 0) return;
  progress("warm and bare snapshots");
  await makeWarm(started, client);
  const snapshot = await bare.makeSnapshot(SHAPE);
  for (const [name, group] of warm) await measure(name, () => group(client, bare, snapshot));
}

function groups<T>(of: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(of).filter(([name]) => wanted.includes(name));
}

/** From here on creates are restores. */
async function makeWarm(platform: Platform, client: Client): Promise<void> {
  await platform.processes.stop("agent", { signal: "SIGTERM", graceMs: AGENT_GRACE_MS });
  const agentEnv = { ...platform.agentEnv, WRENN_WARM: "on" };
  await startAgent({ ...platform, agentEnv }, async () => "");
  const { id } = await client.create(SHAPE);
  await awaitWarm([id]);
  await client.destroy(id);
}
