// Damaged warm snapshots, set aside by agents that are killed in between, or whose clock is set.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Log } from "../log.ts";
import { removeDirectory } from "../snapshots/durable-files.ts";
import { WarmAsides } from "./warm-asides.ts";

const GOOD = "a".repeat(64);
const BAD = "b".repeat(64);
/** The steps of setting aside, of which each begins with one of its parts. */
const STEPS = ["log", "now", "remove", "removal"] as const;

// Sets one snapshot aside, and is killed at a step.
const AGENT = `
const { rename } = await import("node:fs/promises");
const { removeDirectory } = await import(process.argv[1] + "/../snapshots/durable-files.ts");
const { WarmAsides } = await import(process.argv[1] + "/warm-asides.ts");
const [, , dir, bad, step] = process.argv;
const reach = (name) => name === step && process.kill(process.pid, "SIGKILL");
const log = { warn: () => reach("log"), error: () => {} };
const now = () => (reach("now"), new Date(3000));
const remove = async (directory) => {
  reach("remove");
  // Half of it is gone.
  if (step === "removal") await rename(directory, directory + ".removed");
  reach("removal");
  await removeDirectory(directory);
};
const asides = new WarmAsides({ log, now, snapshots: { remove } }, dir + "/aside");
await asides.setAside(dir + "/" + bad, new Error("damaged"));
`;

let base: string;

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "wrenn-asides-"));
});
afterAll(() => rm(base, { recursive: true }));

/** With a good snapshot, a damaged one, and those that were set aside at these times. */
async function newDirectory(...stamps: number[]): Promise<string> {
  const dir = await mkdtemp(join(base, "warm-"));
  for (const name of [GOOD, BAD, ...stamps.map((stamp) => `aside/${stamp}-${BAD}`)]) {
    await mkdir(join(dir, name), { recursive: true });
    await writeFile(join(dir, name, "manifest.json"), name);
  }
  return dir;
}

function openAsides(dir: string, nowMs: number): WarmAsides {
  const log = new Log({ level: "error", write: () => {} });
  const parts = { log, now: () => new Date(nowMs), snapshots: { remove: removeDirectory } };
  return new WarmAsides(parts, join(dir, "aside"));
}

const namesIn = async (...path: string[]) => (await readdir(join(...path))).sort();

test.each(STEPS)("killed at its step %s, nothing good is gone and nothing stays", async (step) => {
  const dir = await newDirectory(900, 2000);
  const args = ["-e", AGENT, import.meta.dirname, dir, BAD, step];
  const child = Bun.spawn([process.execPath, ...args], { stdio: ["ignore", "inherit", "inherit"] });
  await child.exited;
  expect(child.signalCode).toBe("SIGKILL");

  await openAsides(dir, 4000).sweep();

  const isMoved = step === "remove" || step === "removal";
  expect(await namesIn(dir)).toEqual([GOOD, "aside", ...(isMoved ? [] : [BAD])].sort());
  expect(await namesIn(dir, GOOD)).toEqual(["manifest.json"]);
  const stamps = isMoved ? [2000, 3000] : [900, 2000];
  expect(await namesIn(dir, "aside")).toEqual(stamps.map((stamp) => `${stamp}-${BAD}`).sort());
  for (const stamp of stamps) {
    expect(await namesIn(dir, `aside/${stamp}-${BAD}`)).toEqual(["manifest.json"]);
  }

  // What was not moved is found again.
  if (!isMoved) await openAsides(dir, 4000).setAside(join(dir, BAD), new Error("damaged"));
  expect(await namesIn(dir)).toEqual([GOOD, "aside"]);
  expect((await namesIn(dir, "aside")).length).toBe(2);
});

test("the newest are kept, also when the clock was set back", async () => {
  const dir = await newDirectory(5_000_000, 6_000_000);

  await openAsides(dir, 9000).setAside(join(dir, BAD), new Error("damaged"));

  expect(await namesIn(dir, "aside")).toEqual([`6000000-${BAD}`, `6000001-${BAD}`]);
});

test("what cannot be set aside stays, and is no failure of the create that found it", async () => {
  const dir = await newDirectory();
  await writeFile(join(dir, "aside"), "no directory");

  await openAsides(dir, 9000).setAside(join(dir, BAD), new Error("damaged"));

  expect(await namesIn(dir)).toEqual([GOOD, "aside", BAD].sort());
});

test("two creates that find the same set it aside once", async () => {
  const dir = await newDirectory();
  const asides = openAsides(dir, 9000);

  await Promise.all([1, 2].map(() => asides.setAside(join(dir, BAD), new Error("damaged"))));

  expect(await namesIn(dir)).toEqual([GOOD, "aside"]);
  expect(await namesIn(dir, "aside")).toEqual([`9000-${BAD}`]);
});
