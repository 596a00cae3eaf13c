import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NATIVE_DIR } from "../../tests/harness/vmm-fixture.ts";
import { Kernel } from "../native/kernel.ts";
import { createGuestRam } from "./guest-ram.ts";
import { mountRunDir, unmountRunDir } from "./run-dir.ts";

const MIB = 1024 * 1024;
const SMALL = { hasHugePages: false };
let kernel: Kernel;
let base = "";

beforeAll(async () => {
  kernel = await Kernel.open(NATIVE_DIR);
  base = await mkdtemp("/var/tmp/wrenn-run-");
});
afterAll(async () => {
  await kernel.close();
  await rm(base, { recursive: true });
});

test("the run directory is mounted once and keeps what lives in it", async () => {
  const dir = join(base, "with space/run");
  await mountRunDir(kernel, dir, SMALL);
  await writeFile(join(dir, "alive"), "");

  await mountRunDir(kernel, dir, SMALL);

  expect(existsSync(join(dir, "alive"))).toBe(true);
  expect((await stat(dir)).mode & 0o777).toBe(0o700);
  await unmountRunDir(kernel, dir);
  await unmountRunDir(kernel, dir);
  expect(existsSync(join(dir, "alive"))).toBe(false);
});

test("the run directory is not taken away from who uses it", async () => {
  const dir = join(base, "busy");
  await mountRunDir(kernel, dir, SMALL);
  const file = await open(join(dir, "file"), "w");

  await expect(unmountRunDir(kernel, dir)).rejects.toThrow("EBUSY");
  await file.close();
  await unmountRunDir(kernel, dir);
});

test("what RAM files have their pages of is set anew at each start", async () => {
  const dir = join(base, "huge");
  const options = async () => /huge=\w+/.exec(await mountOf(dir))?.[0];

  await mountRunDir(kernel, dir, { hasHugePages: true });
  expect(await options()).toBe("huge=within_size");
  await mountRunDir(kernel, dir, SMALL);
  expect(await options()).toBeUndefined();
  await mountRunDir(kernel, dir, { hasHugePages: true });
  expect(await options()).toBe("huge=within_size");

  expect(await mountOf(dir)).toMatch(/nosuid,nodev,noexec.*,size=\d+k/);
  await unmountRunDir(kernel, dir);
});

/** Its line in /proc/mounts. */
async function mountOf(dir: string): Promise<string> {
  const lines = (await readFile("/proc/mounts", "utf8")).split("\n");
  return lines.find((line) => line.startsWith(`wrenn ${dir} `)) ?? "";
}

test("a RAM file is sparse, private and its user's, and made once", async () => {
  const dir = join(base, "ram");
  await mkdir(dir);

  const path = await createGuestRam(dir, { sizeMib: 512, uid: 219_802 });

  const { size, blocks, uid, gid, mode } = await stat(path);
  expect({ size, blocks, uid, gid, mode: mode & 0o777 }).toEqual({
    size: 512 * MIB,
    blocks: 0,
    uid: 219_802,
    gid: 219_802,
    mode: 0o600,
  });
  await expect(createGuestRam(dir, { sizeMib: 1, uid: 0 })).rejects.toThrow("EEXIST");
});
