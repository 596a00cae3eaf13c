// Agents that are killed while they let a guest run on. The guest is a file here: what it is, and whether it was
// told the time since it stood still; with a VMM: no-room.vm.test.ts.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

// One pass over one capsule.
const AGENT = `
const { readFile, writeFile } = await import("node:fs/promises");
const { Failpoints } = await import(process.argv[1] + "/../failpoints.ts");
const { Stalls } = await import(process.argv[1] + "/stalls.ts");
const [, , runDir, failpoint] = process.argv;
const guest = runDir + "/cl-1/guest";
const vmm = {
  endStall: async () => {
    if ((await readFile(guest, "utf8")) !== "stands still") return false;
    await writeFile(guest, "runs, late");
    return true;
  },
};
const log = { warn: (event, { error }) => error && console.error(event, error) };
const failpoints = new Failpoints(failpoint || null);
const disks = { losesWrites: false };
const pauses = { wake: () => writeFile(guest, "runs, on time") };
const capsule = { spec: { id: "cl-1" }, state: { status: "running" }, progress: { vmm } };
const stalls = new Stalls({ vmm, disks, log, failpoints, runDir, logsDir: runDir }, pauses);
await stalls.pass([capsule]);
`;

let base: string;

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "wrenn-stalls-"));
});
afterAll(() => rm(base, { recursive: true }));

async function newRunDir(guest: string): Promise<string> {
  const runDir = await mkdtemp(join(base, "run-"));
  await mkdir(join(runDir, "cl-1"));
  await writeFile(join(runDir, "cl-1/guest"), guest);
  return runDir;
}

async function pass(runDir: string, failpoint = ""): Promise<unknown> {
  const args = ["-e", AGENT, import.meta.dirname, runDir, failpoint];
  const child = Bun.spawn([process.execPath, ...args], { stdio: ["ignore", "inherit", "inherit"] });
  await child.exited;
  return child.signalCode;
}

const guestIn = (runDir: string) => readFile(join(runDir, "cl-1/guest"), "utf8");

test.each([
  ["stall.after-mark", "stands still"],
  ["stall.after-continue", "runs, late"],
  ["stall.after-wake", "runs, on time"],
])("killed at %s it %s, and the next agent lets it run on time", async (point, left) => {
  const runDir = await newRunDir("stands still");

  expect(await pass(runDir, `${point}:kill`)).toBe("SIGKILL");
  expect(await guestIn(runDir)).toBe(left);
  expect(await pass(runDir)).toBe(null);

  expect(await guestIn(runDir)).toBe("runs, on time");
  expect(await readdir(join(runDir, "cl-1"))).toEqual(["guest"]);
});

test("a guest that did not stand still is told nothing", async () => {
  const runDir = await newRunDir("runs");

  await pass(runDir);

  expect(await guestIn(runDir)).toBe("runs");
  expect(await readdir(join(runDir, "cl-1"))).toEqual(["guest"]);
});
