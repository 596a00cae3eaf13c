// Nothing that a guest has written is ever lost: a process in it holds memory and a file with known contents,
// and changes some of both between pauses. It is resumed in every way there is; after each resume memory and
// file must be what this side has worked out, and the disk of each generation one that e2fsck accepts.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmod, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { untilDurable } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { fileOn, fileSystemDamage, withCopy } from "../../tests/harness/disk-image.ts";
import { type Random, withRandom } from "../../tests/harness/random.ts";
import { NATIVE_DIR } from "../../tests/harness/vmm-fixture.ts";
import { Witness } from "../../tests/harness/witness.ts";
import { WitnessContents } from "../../tests/harness/witness-contents.ts";
import { Kernel } from "../native/kernel.ts";
import { readManifest } from "../snapshots/manifest.ts";

const isSoak = Boolean(process.env.WRENN_SOAK);
const CYCLES = isSoak ? 200 : 5;
const MIB = 1024 * 1024;
const PAGES = ((isSoak ? 64 : 24) * MIB) / 4096;
const BLOCKS = ((isSoak ? 16 : 8) * MIB) / 4096;
const PAGES_CHANGED = 300;
const BLOCKS_CHANGED = 30;

/** How a cycle gets from its pause to its resume. */
const WAYS = [
  /** Durable, then brought back by the pager. */
  "uffd",
  /** At once, while sealing goes on. */
  "sealing",
  /** Durable, then mapped. */
  "map",
  /** The agent is killed during sealing; a later one finishes it. */
  "killed",
  /** The agent is killed during sealing; a later one resumes at once. */
  "killed, sealing",
] as const;
type Way = (typeof WAYS)[number];

function wayOf(cycle: number): Way {
  return WAYS[cycle % WAYS.length] ?? "uffd";
}

setDefaultTimeout(isSoak ? 7_200_000 : 300_000);

let agent: AgentProcess;
let kernel: Kernel;
let witness: Witness;

beforeAll(async () => {
  agent = await AgentProcess.start();
  kernel = await Kernel.open(NATIVE_DIR);
  witness = new Witness(agent);
});

afterAll(async () => {
  await kernel.close();
  await agent[Symbol.asyncDispose]();
});

interface State {
  readonly nonce: string;
  readonly bootId: string;
  readonly ticks: number;
}

async function stateOf(id: string): Promise<State> {
  return (await witness.ask(id, "state")) as State;
}

/** The directory of the newest generation. */
async function newestOf(id: string): Promise<string> {
  const dir = join(agent.dir, "snapshots", id);
  const numbers = (await readdir(dir)).filter((name) => /^\d+$/.test(name)).map(Number);
  return join(dir, String(Math.max(...numbers)));
}

/** Makes what a resume takes as the word to map the memory: what is restored often has it. */
async function makeFlat(generation: string): Promise<string> {
  const { buildId } = await readManifest(generation);
  const [bootId = ""] = await readdir(join(agent.dir, "flat"));
  const path = join(agent.dir, "flat", bootId, `${buildId}.flat`);
  await kernel.memory.flatten(join(generation, "memory.header"), [generation], path);
  await chmod(path, 0o444);
  return path;
}

/** What is wrong with a generation's disk, "" if nothing is. */
async function diskDamage(generation: string, blocks: string | null): Promise<string> {
  return await withCopy(join(generation, "disk.ext4"), async (copy) => {
    const damage = await fileSystemDamage(copy);
    if (damage !== "" || blocks === null) return damage;
    const file = await fileOn(copy, "/root/witness/blocks");
    const digest = new Bun.CryptoHasher("md5").update(file).digest("hex");
    return digest === blocks ? "" : "the file is not what the guest had synced";
  });
}

/** From the answer of a pause to that of a resume. Answers what is wrong with the disk. */
async function comeBack(id: string, way: Way, blocks: string | null): Promise<string> {
  if (way.startsWith("killed")) {
    await agent.kill();
    await agent.restart();
  }
  const isDurable = !way.endsWith("sealing");
  if (isDurable) await untilDurable(agent, id);
  const damage = isDurable ? await diskDamage(await newestOf(id), blocks) : "";
  const flat = way === "map" ? await makeFlat(await newestOf(id)) : null;
  const { resumedFrom } = await agent.client.resumeSandbox(agent.resumeRequest(id));
  if (flat !== null) await rm(flat);
  expect(resumedFrom).toBe("memory");
  if (isDurable) {
    const { kind } = await Bun.file(join(agent.dir, "run", id, "memory.json")).json();
    expect(kind).toBe(flat === null ? "uffd" : "map");
  }
  return damage;
}

/** What this side knows of a guest. */
interface Known {
  readonly id: string;
  readonly memory: WitnessContents;
  readonly file: WitnessContents;
  readonly state: State;
}

/** A guest with a witness that holds what this side knows. */
async function createKnown(random: Random): Promise<Known> {
  const id = await agent.create();
  const seed = random.bytes(16).toString("hex");
  await witness.start(id, seed);
  await witness.ask(id, `fill ${PAGES} ${BLOCKS}`);
  const memory = new WitnessContents({ seed, kind: "page", count: PAGES });
  const file = new WitnessContents({ seed, kind: "block", count: BLOCKS });
  return { id, memory, file, state: await stateOf(id) };
}

/** Changes the guest, pauses it, brings it back and compares. Answers what it counted. */
async function goThrough({ id, memory, file, state }: Known, cycle: number): Promise<number> {
  const way = wayOf(cycle);
  // What the guest has not synced is in its memory only, and must reach the disk after the resume.
  const isSynced = cycle % 2 === 0;
  await witness.ask(id, `change ${cycle} ${PAGES_CHANGED} ${BLOCKS_CHANGED} ${Number(isSynced)}`);
  memory.change(cycle, PAGES_CHANGED);
  file.change(cycle, BLOCKS_CHANGED);
  await agent.client.pauseSandbox(agent.operation(id));

  const disk = await comeBack(id, way, isSynced ? file.digest : null);

  const { nonce, bootId, ticks } = await stateOf(id);
  const found = (await witness.ask(id, "check")) as { memory: string };
  const isWhole = found.memory === memory.digest;
  const pages = isWhole ? [] : ((await witness.ask(id, "pages")) as number[]);
  const damage = isWhole ? "" : memory.describeDamage(pages);
  expect({ disk, damage, nonce, bootId, hasTicked: ticks > state.ticks, ...found }).toEqual({
    ...{ disk: "", damage: "", nonce: state.nonce, bootId: state.bootId, hasTicked: true },
    ...{ memory: memory.digest, cached: file.digest, stored: file.digest, areNamesWhole: true },
  });
  return ticks;
}

test(`a guest survives ${CYCLES} pauses with all that it wrote`, () =>
  withRandom(async (random) => {
    const known = await createKnown(random);
    const { id } = known;
    let { ticks } = known.state;

    // Contents of cycle 1 are what it begins with.
    for (let cycle = 2; cycle < CYCLES + 2; cycle += 1) {
      const state = { ...known.state, ticks };
      ticks = await goThrough({ ...known, state }, cycle).catch((cause: unknown) => {
        throw new Error(`Cycle ${cycle}, ${wayOf(cycle)}: ${String(cause)}`, { cause });
      });
    }

    const complaints = "dmesg | grep -iE 'ext4.*error|i/o error|bug:|oops|hung|stall' || true";
    expect(await agent.sh(id, complaints)).toBe("");
    await agent.client.destroySandbox({ sandboxId: id });
    expect(await agent.leftovers()).toEqual(NOTHING);
  }));
