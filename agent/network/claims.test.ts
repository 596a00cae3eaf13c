// Claims are files, so a directory of the test's own will do; the owners are directories.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { linkSync, rmSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kernel } from "../native/kernel.ts";
import { SlotClaims } from "./claims.ts";
import { SLOT_MAX } from "./slot.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");

let kernel: Kernel;
let base: string;
let count = 0;

beforeAll(async () => {
  kernel = await Kernel.open(NATIVE_DIR);
  base = await mkdtemp(join(tmpdir(), "wrenn-claims-"));
});

afterAll(async () => {
  await kernel.close();
  await rm(base, { recursive: true });
});

async function newMachine() {
  const dir = join(base, String(count++));
  const open = async (tag: string) => {
    const owner = join(dir, `owner-${tag}`);
    await mkdir(owner, { recursive: true });
    return SlotClaims.open({ kernel, tag, owner, dir: join(dir, "run") });
  };
  return { dir, open };
}

async function failureOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no failure",
    (error) => error.message,
  );
}

test("agents that claim at once get different numbers", async () => {
  const machine = await newMachine();
  const agents = [await machine.open("aaaa"), await machine.open("bbbb")] as const;

  const numbers = await Promise.all(
    Array.from({ length: 40 }, (_, at) => (at % 2 === 0 ? agents[0] : agents[1]).claimNext()),
  );

  expect(numbers.sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, at) => at + 1));
  expect((await agents[0].listOwn()).length).toBe(20);
});

test("a number rests after its release", async () => {
  const claims = await (await newMachine()).open("aaaa");
  const first = await claims.claimNext();
  await claims.release(first);

  expect(await claims.claimNext()).toBe(first + 1);
});

test("numbers go on behind those of capsules that were there, and come round in the end", async () => {
  const claims = await (await newMachine()).open("aaaa");
  await claims.claim(5);

  expect(await claims.claimNext()).toBe(6);
  await claims.claim(SLOT_MAX);
  expect(await claims.claimNext()).toBe(1);
});

test("an agent never releases another's claim", async () => {
  const machine = await newMachine();
  const [mine, theirs] = [await machine.open("aaaa"), await machine.open("bbbb")];
  const index = await theirs.claimNext();

  await mine.release(index);

  expect(await theirs.listOwn()).toEqual([index]);
  expect(await failureOf(mine.claim(index))).toContain("belongs to the agent at");
});

test("claims survive their agent, which claims them again", async () => {
  const machine = await newMachine();
  const index = await (await machine.open("aaaa")).claimNext();

  const successor = await machine.open("aaaa");
  await successor.claim(index);

  expect(await successor.listOwn()).toEqual([index]);
  expect(await successor.claimNext()).toBe(index + 1);
});

test("the claims of an agent whose directory is gone are free, once", async () => {
  const machine = await newMachine();
  // Numbers whose namespaces cannot exist on the machine that runs this test.
  const gone = await machine.open("aaaa");
  for (const index of [32_001, 32_002]) await gone.claim(index);
  await rm(join(machine.dir, "owner-aaaa"), { recursive: true });
  const heirs = await Promise.all(["bbbb", "cccc", "dddd", "eeee"].map(machine.open));

  const results = await Promise.all(heirs.map((heir) => failureOf(heir.claim(32_001))));

  expect(results.filter((result) => result === "no failure")).toHaveLength(1);
  const won = heirs[results.indexOf("no failure")];
  expect(await won?.listOwn()).toEqual([32_001]);
  // Nobody is in the way of the next.
  await won?.claim(32_002);
  expect(await won?.listOwn()).toEqual([32_001, 32_002]);
});

test("an abandoned number that somebody else takes just before the lock stays theirs", async () => {
  const machine = await newMachine();
  const gone = await machine.open("aaaa");
  await gone.claim(32_003);
  await rm(join(machine.dir, "owner-aaaa"), { recursive: true });
  const quick = await machine.open("bbbb");
  const run = join(machine.dir, "run");
  // What another agent does between the look and the lock.
  const tryLockFile = (path: string) => {
    rmSync(join(run, "slots/32003"));
    linkSync(join(run, "agents/bbbb"), join(run, "slots/32003"));
    return kernel.tryLockFile(path);
  };
  const owner = join(machine.dir, "owner-cccc");
  await mkdir(owner);
  const late = await SlotClaims.open({
    ...{ tag: "cccc", owner, dir: run },
    kernel: { network: kernel.network, tryLockFile },
  });

  expect(await failureOf(late.claim(32_003))).toContain("belongs to the agent at");
  expect(await quick.listOwn()).toEqual([32_003]);
});

test("a tag is refused while the directory that has it exists, and taken over after", async () => {
  const machine = await newMachine();
  await machine.open("aaaa");
  const owner = join(machine.dir, "another");
  await mkdir(owner);
  const openAgain = () =>
    SlotClaims.open({ kernel, tag: "aaaa", owner, dir: join(machine.dir, "run") });

  expect(await failureOf(openAgain())).toContain("Tag aaaa belongs to the agent at");
  await rm(join(machine.dir, "owner-aaaa"), { recursive: true });
  const claims = await openAgain();

  expect(await claims.claimNext()).toBe(1);
});

test("a claim is whole or not there: it is a link to its agent's file", async () => {
  const machine = await newMachine();
  const claims = await machine.open("aaaa");
  await claims.claimNext();

  const run = join(machine.dir, "run");
  const inodes = [await stat(join(run, "agents/aaaa")), await stat(join(run, "slots/1"))];
  expect(inodes[0]?.ino).toBe(inodes[1]?.ino ?? 0);

  await claims.release(1);
  await claims.unregister();
  expect([await readdir(join(run, "agents")), await readdir(join(run, "slots"))]).toEqual([[], []]);
});
