// How long a pause takes to be answered, by size of the guest, after its boot and after many restores.

import type { Client } from "../harness/client.ts";
import type { BareMachine } from "./bare-machine.ts";
import type { BareVmm } from "./bare-vmm.ts";
import { pauseDurably, resume } from "./capsule-files.ts";
import { inTurn, type Row, timed } from "./rows.ts";

const SIZES_MB = [256, 1024, 4096] as const;
const RUNS = 5;
/** With the pauses that are measured, the tenth and later ones are after this many restores. */
const RESTORES = 9;

interface Figures {
  readonly first: Medians;
  readonly tenth: Medians;
}
type Medians = Awaited<ReturnType<typeof inTurn>>;

/** The platform must make no warm snapshots. */
export async function benchPause(client: Client, bare: BareVmm): Promise<Row[]> {
  await pauseUnmeasured(client, bare);
  const bySize = new Map<number, Figures>();
  for (const memory_mb of SIZES_MB) {
    bySize.set(memory_mb, await measure(client, bare, { vcpus: 1, memory_mb }));
  }
  const baselineIs = "bare stop and save of device state";
  const rows = [...bySize].flatMap(([size, { first, tenth }]): Row[] => [
    { name: `pause answered, ${size} MiB, after a boot`, unit: "ms", ...first, baselineIs },
    { name: `pause answered, ${size} MiB, tenth`, unit: "ms", ...tenth, baselineIs },
  ]);
  return [...rows, flatness(bySize, "first"), flatness(bySize, "tenth")];
}

function flatness(bySize: ReadonlyMap<number, Figures>, which: keyof Figures): Row {
  const small = bySize.get(SIZES_MB[0]);
  const large = bySize.get(SIZES_MB[2]);
  if (small === undefined || large === undefined) throw new Error("unreachable: no such size");
  return {
    name: `pause answered, ${SIZES_MB[2]} MiB, ${which}`,
    unit: "ms",
    ours: large[which].ours,
    baseline: small[which].ours,
    baselineIs: `ours with ${SIZES_MB[0]} MiB`,
    runs: RUNS,
  };
}

/** Or the size that comes first would pay for programs that have only just been started. */
async function pauseUnmeasured(client: Client, bare: BareVmm): Promise<void> {
  const shape = { vcpus: 1, memory_mb: SIZES_MB[0] };
  await using machine = await bare.boot(shape);
  const { id } = await client.create(shape);
  try {
    await answers(client, id, machine);
  } finally {
    await client.destroy(id);
  }
}

async function measure(
  client: Client,
  bare: BareVmm,
  shape: { vcpus: number; memory_mb: number },
): Promise<Figures> {
  await using machine = await bare.boot(shape);
  const { id } = await client.create(shape);
  try {
    await client.exec(id, { cmd: "/bin/true" });
    const first = await answers(client, id, machine);
    for (let i = 0; i < RESTORES; i++) {
      await pauseDurably(client, id);
      await resume(client, id);
    }
    return { first, tenth: await answers(client, id, machine) };
  } finally {
    await client.destroy(id);
  }
}

/** Each pause is followed by a resume at once: the memory stays where it was. */
function answers(client: Client, id: string, machine: BareMachine): Promise<Medians> {
  return inTurn(
    RUNS,
    async () => {
      const ms = await timed(() => client.json("POST", `/v1/capsules/${id}/pause`));
      await resume(client, id);
      return ms;
    },
    async () => {
      const ms = await timed(() => machine.stopAndSave());
      await machine.continue();
      return ms;
    },
  );
}
