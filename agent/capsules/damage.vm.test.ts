// Generations that were torn or changed on the disk: each is refused, and the capsule boots its disk; whoever asks
// for memory gets the one before with its own disk, and is told so. What only a guest's wish shows ends the VMM
// and never reads as zeros. Files are read past the page cache, which a restored guest has of its own time.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { open, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import {
  arm,
  codeOf,
  destroyAll,
  infoOf,
  pauseDurably,
  resume,
  untilStatus,
} from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import { GUEST_MS, waitFor } from "../../tests/harness/wait-for.ts";

const CHUNK_BYTES = 64 * 1024;
const WORDS = "echo 3 > /proc/sys/vm/drop_caches; cat /dev/shm/word /root/word";

setDefaultTimeout(240_000);

let agent: AgentProcess;
let id: string;
let word = 0;

beforeAll(async () => {
  agent = await AgentProcess.start();
  id = await agent.create();
  await newGeneration();
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

/** Pauses the capsule with the next word in memory and on disk. */
async function newGeneration(): Promise<string> {
  word += 1;
  await agent.sh(id, `echo ${word} | tee /dev/shm/word > /root/word; sync`);
  await pauseDurably(agent, id);
  return await newest();
}

async function generations(): Promise<number[]> {
  const names = await readdir(join(agent.dir, "snapshots", id));
  return names.flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : [])).sort((a, b) => b - a);
}

async function newest(): Promise<string> {
  return join(agent.dir, "snapshots", id, String((await generations())[0]));
}

/** The layer that this generation stored. */
async function ownLayer(directory: string): Promise<string> {
  const names = (await readdir(directory)).filter((name) => /^memory\.[0-9a-f-]{36}$/.test(name));
  const layers = await Promise.all(
    names.map(async (name) => ({
      path: join(directory, name),
      ...(await stat(join(directory, name))),
    })),
  );
  const own = layers.find(({ nlink }) => nlink === 1) ?? layers[0];
  if (own === undefined) throw new Error(`${directory} has no layer`);
  return own.path;
}

/** Turns a bit at each place; negative ones are counted from the end. */
async function flip(path: string, ...places: number[]): Promise<void> {
  await using file = await open(path, "r+");
  const { size } = await file.stat();
  for (const place of places) {
    const at = place < 0 ? size + place : place;
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 0x40;
    await file.write(byte, 0, 1, at);
  }
}

async function cut(path: string): Promise<void> {
  await truncate(path, Math.floor((await stat(path)).size / 2));
}

const DAMAGES: readonly (readonly [string, (directory: string) => Promise<void>])[] = [
  ["a header with a changed bit", (directory) => flip(join(directory, "memory.header"), 100)],
  ["a torn header", (directory) => cut(join(directory, "memory.header"))],
  ["a layer with a changed table", async (directory) => flip(await ownLayer(directory), -70)],
  ["a torn layer", async (directory) => cut(await ownLayer(directory))],
  ["a missing layer", async (directory) => rm(await ownLayer(directory))],
  ["device state with a changed bit", (directory) => flip(join(directory, "device-state"), 5000)],
  ["a torn manifest", (directory) => cut(join(directory, "manifest.json"))],
  ["a manifest with a changed bit", (directory) => flip(join(directory, "manifest.json"), 60)],
  ["a torn disk", (directory) => cut(join(directory, "disk.ext4"))],
];
const SOME = process.env.WRENN_SOAK ? DAMAGES : DAMAGES.filter((_, i) => i % 2 === 0);

describe("damage that shows when a generation is loaded", () => {
  test.each(SOME)("%s: the one before can be chosen, and is said to", async (_, damage) => {
    await resume(agent, id);
    const before = word;
    await damage(await newGeneration());

    expect(await resume(agent, id, "memory")).toBe("previous_memory");

    expect(await agent.sh(id, WORDS)).toBe(`${before}\n${before}\n`);
    word = before;
    await newGeneration();
    // The damaged one is not what the next pause would fall back to.
    expect(await generations()).toHaveLength(2);
    expect((await agent.leftovers()).files.filter((name) => name.includes("replaced"))).toEqual([]);
  });

  test("by itself the capsule boots its disk, which is newer than the memory before", async () => {
    await resume(agent, id);
    await cut(join(await newGeneration(), "device-state"));

    expect(await resume(agent, id)).toBe("disk");

    expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
    await newGeneration();
  });
});

describe("damage that shows when a page is wanted", () => {
  test.each(["prefetched", "wanted late"])("%s: never zeros, and its disk boots", async (when) => {
    await resume(agent, id);
    await agent.sh(id, "head -c 24M /dev/urandom > /dev/shm/big");
    const directory = await newGeneration();
    const layer = await ownLayer(directory);
    const chunks = Math.floor((await stat(layer)).size / CHUNK_BYTES);
    const middle = Array.from({ length: chunks }, (_, i) => i).slice(chunks / 4, (3 * chunks) / 4);
    await flip(layer, ...middle.map((chunk) => chunk * CHUNK_BYTES + 77));
    if (when === "wanted late") await rm(join(directory, "working-set"), { force: true });

    let from = await resume(agent, id);
    if (from === "memory") {
      expect(await codeOf(agent.sh(id, "md5sum /dev/shm/big"))).not.toBe("none");
      await untilStatus(agent, id, "error");
      from = await resume(agent, id);
    }

    expect(from).toBe("disk");
    expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
    await newGeneration();
  });
});

test("where no memory is whole a resume from memory says so, and the disk is there to boot", async () => {
  for (const number of await generations()) {
    await cut(join(agent.dir, "snapshots", id, String(number), "device-state"));
  }

  expect(await codeOf(resume(agent, id, "memory"))).toBe("FailedPrecondition");
  expect((await infoOf(agent, id))?.status).toBe("paused");

  expect(await resume(agent, id)).toBe("disk");
  expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
});

// The uid that owns the older disk goes with the slot.
test("a memory that turns out to be damaged gives the disk back before the slot", async () => {
  const older = await newGeneration();
  await resume(agent, id);
  await cut(join(await newGeneration(), "device-state"));
  const layers = (await readdir(older)).filter((name) => /^memory\.[0-9a-f-]{36}$/.test(name));
  for (const path of layers.map((name) => join(older, name))) {
    const chunks = Math.floor((await stat(path)).size / CHUNK_BYTES);
    await flip(path, ...Array.from({ length: chunks }, (_, chunk) => chunk * CHUNK_BYTES + 77));
  }
  await waitFor("its slot to be free", () => infoOf(agent, id), {
    holds: (info) => info?.hostIp === "",
    timeoutMs: GUEST_MS,
  });
  await arm(agent, "seal.after-network:kill");

  const resuming = codeOf(resume(agent, id, "memory"));
  await agent.exited();
  await resuming;

  expect(await disks()).toEqual([`sandboxes/${id}.ext4`]);
  await agent.restart();
  expect(await resume(agent, id)).toBe("disk");
  expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
});

async function disks(): Promise<string[]> {
  const { files } = await agent.leftovers();
  return files.filter((name) => name.startsWith("sandboxes/") && !name.includes("kept"));
}

// Between the two the disk of the older generation was in its place.
test("a resume that fails in the end gives back the disk that was there, also after a crash", async () => {
  await newGeneration();
  await resume(agent, id);
  await cut(join(await newGeneration(), "device-state"));
  for (const action of ["fail", "kill"]) {
    await arm(agent, `resume.after-disk:${action}`);

    const code = await codeOf(resume(agent, id, "memory"));
    if (action === "kill") await agent.exited().then(() => agent.restart());

    expect(code).not.toBe("none");
    expect(await disks()).toEqual([`sandboxes/${id}.ext4`]);
  }
  expect(await resume(agent, id)).toBe("disk");
  expect(await agent.sh(id, "cat /root/word")).toBe(`${word}\n`);
  await destroyAll(agent);
  expect(await agent.leftovers()).toEqual(NOTHING);
});
