// From the request for a capsule to the end of a first command in it: booted, and from a warm template.

import type { Client } from "../harness/client.ts";
import type { BareSnapshot, BareVmm } from "./bare-vmm.ts";
import { inTurn, type Row, timed } from "./rows.ts";

const COLD_RUNS = 3;
const WARM_RUNS = 9;
export const SHAPE = { vcpus: 1, memory_mb: 512 };

/** Milliseconds. */
async function createAndExec(client: Client): Promise<number> {
  let id = "";
  const ms = await timed(async () => {
    id = (await client.create(SHAPE)).id;
    await client.exec(id, { cmd: "/bin/true" });
  });
  await client.destroy(id);
  return ms;
}

/** Milliseconds. */
export async function restoreAndExec(bare: BareVmm, snapshot: BareSnapshot): Promise<number> {
  await using stack = new AsyncDisposableStack();
  return await timed(async () => {
    const machine = stack.use(await bare.restore(snapshot));
    await machine.execTrue();
  });
}

/** The platform must make no warm snapshots. */
export async function benchColdCreate(client: Client, bare: BareVmm): Promise<Row> {
  const medians = await inTurn(
    COLD_RUNS,
    () => createAndExec(client),
    () => bare.bootAndExec(SHAPE),
  );
  return {
    name: "cold create to the end of a first exec",
    unit: "ms",
    ...medians,
    baselineIs: "the bare VMM with the same flags",
  };
}

/** The warm snapshot of SHAPE must be there. */
export async function benchWarmCreate(
  client: Client,
  bare: BareVmm,
  snapshot: BareSnapshot,
): Promise<Row> {
  const medians = await inTurn(
    WARM_RUNS,
    () => createAndExec(client),
    () => restoreAndExec(bare, snapshot),
  );
  return {
    name: "create from a warm template to the end of a first exec",
    unit: "ms",
    ...medians,
    baselineIs: "a bare restore, then envd directly",
  };
}
