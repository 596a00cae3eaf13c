// Ten capsules from one, and what each of them takes of the host's memory.

import type { Capsule, Client } from "../harness/client.ts";
import type { BareMachine } from "./bare-machine.ts";
import type { BareSnapshot, BareVmm } from "./bare-vmm.ts";
import { anonymousBytes, ownBytesOf } from "./capsule-files.ts";
import { SHAPE } from "./create.ts";
import { inTurn, median, type Row, timed } from "./rows.ts";

const RUNS = 3;
const FORKS = 10;
/** After this a guest that was restored does nothing more of its own. */
const IDLE_MS = 3_000;
const MIB = 1024 * 1024;

interface Answer {
  readonly capsule?: Capsule;
  readonly error?: { readonly code: string; readonly message: string };
}

export async function benchFork(
  client: Client,
  bare: BareVmm,
  snapshot: BareSnapshot,
): Promise<Row[]> {
  const source = await client.create(SHAPE);
  await client.exec(source.id, { cmd: "/bin/true" });
  await using machine = await bare.restore(snapshot);
  await machine.execTrue();
  const own: number[] = [];
  const bareOwn: number[] = [];
  const medians = await inTurn(
    RUNS,
    () => forkTen(client, source.id, own),
    () => restoreTen(bare, { snapshot, machine, own: bareOwn }),
  );
  const created: Capsule[] = [];
  for (let i = 0; i < RUNS; i++) created.push(await client.create(SHAPE));
  await Bun.sleep(IDLE_MS);
  const createdOwn = await Promise.all(created.map(({ id }) => ownBytesOf(id)));
  await Promise.all([source, ...created].map(({ id }) => client.destroy(id)));
  const memory = (name: string, bytes: number[]): Row => ({
    name,
    unit: "MiB",
    ours: median(bytes) / MIB,
    baseline: median(bareOwn) / MIB,
    baselineIs: "a bare restore",
    runs: bytes.length,
  });
  return [
    {
      name: `fork of ${FORKS}, all answered`,
      unit: "ms",
      ...medians,
      baselineIs: "bare stop, save, ten restores at once until envd answers",
    },
    memory("private memory of an idle fork, VMM, keeper and pager", own),
    memory("private memory of an idle capsule from a warm template", createdOwn),
  ];
}

async function forkTen(client: Client, id: string, own: number[]): Promise<number> {
  let answers: Answer[] = [];
  const ms = await timed(async () => {
    answers = await client.json<Answer[]>("POST", `/v1/capsules/${id}/fork`, { count: FORKS });
  });
  const forks = answers.flatMap(({ capsule }) => (capsule ? [capsule.id] : []));
  try {
    if (forks.length !== FORKS) throw new Error(`fork: ${JSON.stringify(answers)}`);
    await Bun.sleep(IDLE_MS);
    own.push(...(await Promise.all(forks.map(ownBytesOf))));
  } finally {
    await Promise.all(forks.map((fork) => client.destroy(fork)));
  }
  return ms;
}

async function restoreTen(
  bare: BareVmm,
  parts: { snapshot: BareSnapshot; machine: BareMachine; own: number[] },
): Promise<number> {
  const { snapshot, machine, own } = parts;
  const machines: BareMachine[] = [];
  const ms = await timed(async () => {
    await machine.stopAndSave();
    await Promise.all(
      Array.from({ length: FORKS }, async () => {
        const restored = await bare.restore(snapshot);
        machines.push(restored);
        await restored.awaitEnvd();
      }),
    );
  });
  await machine.continue();
  await Bun.sleep(IDLE_MS);
  own.push(...(await Promise.all(machines.map(({ pid }) => anonymousBytes(pid)))));
  await Promise.all(machines.map((restored) => restored[Symbol.asyncDispose]()));
  return ms;
}
