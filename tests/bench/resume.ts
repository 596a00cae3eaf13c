// Resuming: to the end of a first command, and what prefetching the working set saves the guest.

import { PAGER_DIR, readPagerStats } from "../../agent/memory/pager.ts";
import type { Client } from "../harness/client.ts";
import type { BareSnapshot, BareVmm } from "./bare-vmm.ts";
import { pauseDurably, resume, runDirOf } from "./capsule-files.ts";
import { restoreAndExec, SHAPE } from "./create.ts";
import { inTurn, median, type Row, timed } from "./rows.ts";

const RESUME_RUNS = 7;
const FAULT_RUNS = 3;
const STATS_TIMEOUT_MS = 10_000;

export async function benchResume(
  client: Client,
  bare: BareVmm,
  snapshot: BareSnapshot,
): Promise<Row> {
  const { id } = await client.create(SHAPE);
  // The first resume records what later ones bring ahead.
  await pauseDurably(client, id);
  await resume(client, id);
  await client.exec(id, { cmd: "/bin/true" });
  const medians = await inTurn(
    RESUME_RUNS,
    async () => {
      await pauseDurably(client, id);
      return await timed(async () => {
        await resume(client, id);
        await client.exec(id, { cmd: "/bin/true" });
      });
    },
    () => restoreAndExec(bare, snapshot),
  );
  await client.destroy(id);
  return {
    name: "resume to the end of a first exec",
    unit: "ms",
    ...medians,
    baselineIs: "a bare restore, then envd directly",
  };
}

/** Counted until a first command has ended, at a first resume and at the two after it. */
export async function benchPrefetch(client: Client): Promise<Row[]> {
  const faults: number[][] = [[], [], []];
  for (let i = 0; i < FAULT_RUNS; i++) {
    const { id } = await client.create(SHAPE);
    await client.exec(id, { cmd: "/bin/true" });
    for (const counts of faults) {
      await pauseDurably(client, id);
      await resume(client, id);
      await client.exec(id, { cmd: "/bin/true" });
      counts.push(await faultsOf(id));
    }
    await client.destroy(id);
  }
  const [without = [], second = [], third = []] = faults;
  const row = (name: string, counts: number[]): Row => ({
    name,
    unit: "faults",
    ours: median(counts),
    baseline: median(without),
    baselineIs: "at the first resume, without prefetch",
    runs: FAULT_RUNS,
  });
  return [
    row("faults of the guest to the end of a first exec, second resume", second),
    row("faults of the guest to the end of a first exec, third resume", third),
  ];
}

async function faultsOf(id: string): Promise<number> {
  const { faults } = await readPagerStats(await runDirOf(id), STATS_TIMEOUT_MS);
  if (typeof faults !== "number")
    throw new Error(`The pager of ${id} in ${PAGER_DIR} has no count`);
  return faults;
}
