// Root disks by a real device-mapper, which needs a real host (tests/host-rig).

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { Kernel } from "../native/kernel.ts";
import { MappedDevices } from "./mapped-devices.ts";
import { MappedDisks } from "./mapped-disks.ts";
import { type DiskSource, savedDiskSource } from "./saved-disk.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");
const MIB = 1024 * 1024;
const UID = 210_001;
const TAG = "tdm0";
const isSoak = Boolean(process.env.WRENN_SOAK);
const CYCLES = isSoak ? 500 : 20;
/** In a host that is emulated. */
const CYCLES_TIMEOUT_MS = isSoak ? 3_600_000 : 600_000;

const stack = new AsyncDisposableStack();
let kernel: Kernel;
let home: string;
let dir: string;
let base: DiskSource;
let disks: MappedDisks;

beforeAll(async () => {
  kernel = stack.use(await Kernel.open(NATIVE_DIR));
  home = await mkdtemp("/var/tmp/wrenn-dm-");
  stack.defer(() => rm(home, { recursive: true }));
  dir = join(home, "sandboxes");
  await mkdir(dir);
  base = await makeBase();
  disks = await openDisks();
});

afterAll(async () => {
  await removeAll();
  await stack.disposeAsync();
});

async function removeAll(): Promise<void> {
  for (const id of await disks.list()) await disks.remove(id);
}

beforeEach(async () => {
  await removeAll();
  expect([await devices(), await loops(), await readdir(dir)]).toEqual([[], [], []]);
});

function openDisks(): Promise<MappedDisks> {
  return MappedDisks.open({ dir, kernel, tag: TAG });
}

// 16 MiB with 8 MiB of data in front.
async function makeBase(): Promise<DiskSource> {
  const path = join(home, "base.ext4");
  await writeFile(path, Buffer.alloc(8 * MIB, "capsule"), { mode: 0o444 });
  await using file = await open(path, "r+");
  await file.truncate(16 * MIB);
  return { sha256: "0".repeat(64), path, sizeBytes: 16 * MIB };
}

function devices(): Promise<string[]> {
  return kernel.storage.listMapped(`wrenn-${TAG}-`);
}

/** Loop devices of files below this test's directory. */
async function loops(): Promise<string[]> {
  const blocks = (await readdir("/sys/block")).filter((name) => name.startsWith("loop"));
  const files = await Promise.all(
    blocks.map((name) => readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => "")),
  );
  return files.filter((file) => file.startsWith(home));
}

async function writeAt(path: string, text: string, at: number): Promise<void> {
  await using file = await open(path, "r+");
  await file.write(Buffer.from(text), 0, text.length, at);
  await file.sync();
}

async function readAt(path: string, length: number, at: number): Promise<string> {
  await using file = await open(path, "r");
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at);
  return buffer.toString("latin1", 0, bytesRead);
}

function make(capsuleId: string, from: DiskSource = base, sizeMib = 32) {
  return disks.create({ capsuleId, base: from, sizeMib, uid: UID });
}

test("a disk has its base's bytes and its own size, and shares its origin", async () => {
  const one = await make("cl-1");
  const two = await make("cl-2");

  await writeAt(one.path, "overwritten", 0);

  expect(await kernel.storage.sizeBytes(one.path)).toBe(32 * MIB);
  expect([await readAt(one.path, 11, 0), await readAt(two.path, 7, 0)]).toEqual([
    "overwritten",
    "capsule",
  ]);
  expect(await readAt(base.path, 7, 0)).toBe("capsule");
  expect((await devices()).length).toBe(3);
  expect(await disks.allocatedBytes("cl-1")).toBeLessThan(MIB);
  expect((await disks.list()).sort()).toEqual(["cl-1", "cl-2"]);
});

test("what was written is there when the device is made anew, by another agent", async () => {
  const first = await make("cl-1");
  await writeAt(first.path, "kept", 4 * MIB);
  await disks.detach("cl-1");
  await disks.detach("cl-1");
  expect([await devices(), await loops()]).toEqual([[], []]);

  disks = await openDisks();
  expect(() => disks.live("cl-1")).toThrow("not attached");
  const { path } = await disks.attach("cl-1");

  expect(await readAt(path, 4, 4 * MIB)).toBe("kept");
});

test("an agent that starts takes up the devices that are in use", async () => {
  const { path } = await make("cl-1");
  await using _held = await open(path, "r");

  disks = await openDisks();

  expect(disks.live("cl-1").path).toBe(path);
  expect((await devices()).length).toBe(2);
});

// Numbers are given to others: a link to /dev/dm-1 showed a capsule another one's disk.
test("a device is found by its name, whichever number it gets", async () => {
  for (const id of ["cl-1", "cl-2"]) await writeAt((await make(id)).path, id, 0);
  for (const id of ["cl-1", "cl-2"]) await disks.detach(id);

  disks = await openDisks();
  const two = await disks.attach("cl-2");
  const one = await disks.attach("cl-1");

  expect([await readAt(one.path, 4, 0), await readAt(two.path, 4, 0)]).toEqual(["cl-1", "cl-2"]);
});

test("a disk that is replaced can be put back, until it is dropped", async () => {
  const disk = { capsuleId: "cl-1", base, sizeMib: 32, uid: UID };
  await writeAt((await make("cl-1")).path, "the first", 0);

  for (let i = 0; i < 2; i++) {
    const { path } = await disks.replace(disk);
    expect(await readAt(path, 7, 0)).toBe("capsule");
    await writeAt(path, "another", 0);
  }
  expect(await disks.list()).toEqual(["cl-1"]);
  for (let i = 0; i < 2; i++) await disks.putBack("cl-1");
  expect(await readAt((await disks.attach("cl-1")).path, 9, 0)).toBe("the first");

  await disks.replace(disk);
  for (let i = 0; i < 2; i++) await disks.setAside("cl-1", 3);
  await disks.dropAsides("cl-1", []);
  await disks.putBack("cl-1");
  expect(await readAt((await disks.attach("cl-1")).path, 7, 0)).toBe("capsule");
});

test("a replacement that fails leaves the disk where it was", async () => {
  await writeAt((await make("cl-1")).path, "kept", 0);
  const missing = { ...base, path: join(dir, "missing.ext4") };
  const garbage = join(home, "garbage.cow");
  await writeFile(garbage, Buffer.alloc(MIB, 7));
  const torn = { ...base, cow: { path: garbage, diskBytes: 32 * MIB } };

  for (const from of [missing, torn]) {
    const disk = { capsuleId: "cl-1", base: from, sizeMib: 32, uid: UID };
    expect(await disks.replace(disk).catch(String)).toMatch(/ENOENT|load table of .*: ENXIO/);
  }

  expect(await readdir(dir)).toEqual(["cl-1.dm"]);
  expect(await readAt((await disks.attach("cl-1")).path, 4, 0)).toBe("kept");
});

test("a crash between two renames loses no disk", async () => {
  await writeAt((await make("cl-1")).path, "kept", 0);
  await disks.detach("cl-1");
  const at = join(dir, "cl-1.dm");
  await Bun.$`mv ${at} ${at}.aside; mkdir ${at}.partial ${dir}/cl-2.dm.removed`;

  disks = await openDisks();

  expect(await readdir(dir)).toEqual(["cl-1.dm"]);
  expect(await readAt((await disks.attach("cl-1")).path, 4, 0)).toBe("kept");
});

async function save(capsuleId: string, name: string): Promise<DiskSource> {
  const directory = join(home, name);
  await mkdir(directory);
  const disk = await disks.live(capsuleId).save(directory);
  return savedDiskSource(directory, disk, "f".repeat(64));
}

test("a saved disk is what the disk was, and what is made of it needs neither", async () => {
  const { path } = await make("cl-1");
  await writeAt(path, "saved", 4 * MIB);
  const saved = await save("cl-1", "saved");
  await writeAt(path, "later", 4 * MIB);
  await disks.remove("cl-1");

  const clone = await make("cl-2", saved);
  await writeAt(clone.path, "clone", 5 * MIB);
  const again = await save("cl-2", "again");
  await rm(join(home, "saved"), { recursive: true });
  await disks.remove("cl-2");
  const last = await make("cl-3", again, 48);

  expect(await kernel.storage.sizeBytes(last.path)).toBe(48 * MIB);
  expect([
    await readAt(last.path, 7, 0),
    await readAt(last.path, 5, 4 * MIB),
    await readAt(last.path, 5, 5 * MIB),
  ]).toEqual(["capsule", "saved", "clone"]);
  expect((await stat(again.cow?.path ?? "")).blocks * 512).toBeLessThan(MIB);
  await rm(join(home, "again"), { recursive: true });
});

test("a disk becomes an image by itself, as large and with holes", async () => {
  const { path } = await make("cl-1");
  await writeAt(path, "flat", 30 * MIB);
  const flat = join(home, "flat.ext4");

  await kernel.storage.copySparse(path, flat);

  const status = await stat(flat);
  expect(status.size).toBe(32 * MIB);
  expect(status.blocks * 512).toBeLessThan(9 * MIB);
  expect([await readAt(flat, 7, 0), await readAt(flat, 4, 30 * MIB)]).toEqual(["capsule", "flat"]);
  await rm(flat);
});

test("a disk that is written in full fits its file", async () => {
  const { path } = await make("cl-1");
  await using file = await open(path, "r+");

  for (let at = 0; at < 32 * MIB; at += MIB) await file.write(Buffer.alloc(MIB, 9), 0, MIB, at);
  await file.sync();

  const status = kernel.classifySnapshot(
    await kernel.storage.statusMapped(`wrenn-${TAG}-disk-cl-1`),
  );
  expect(status.state).toBe("active");
  expect(await readAt(path, 3, 32 * MIB - 3)).toBe("\t\t\t");
});

/** Writes over the front of a disk, and returns when that is there or has failed; its exit status. */
function writeThrough(path: string): Bun.Subprocess {
  const command = ["dd", "if=/dev/zero", `of=${path}`, "bs=1M", "count=1", "conv=notrunc,fsync"];
  return Bun.spawn(command, { stdio: ["ignore", "ignore", "ignore"] });
}

test("what is written while the disks hold waits until they go on, under another agent too", async () => {
  const { path } = await make("cl-1");
  await disks.hold();
  await disks.hold();
  const write = writeThrough(path);
  await Bun.sleep(1000);
  expect(write.exitCode).toBe(null);
  expect(await make("cl-2").catch(String)).toContain("ENOSPC");
  const saving = disks.live("cl-1").save(home);
  expect(await saving.catch(String)).toContain("ENOSPC");

  disks = await openDisks();
  await disks.release();

  expect(await write.exited).toBe(0);
  expect(await readAt(path, 1, 0)).toBe("\0");
  await rm(join(home, "disk.cow"), { force: true });
});

/** "1" while the device holds what is read and written. */
async function suspended(path: string): Promise<string> {
  return (await readFile(`/sys/block/${basename(path)}/dm/suspended`, "utf8")).trim();
}

test("a disk that is saved while the disks begin to hold is held after that, and goes on with them", async () => {
  const { path } = await make("cl-1");
  const devices = await MappedDevices.open({ dir, kernel, tag: TAG });
  await devices.release();

  await devices.whileStill("cl-1", () => devices.hold());
  expect(await suspended(path)).toBe("1");
  await devices.release();
  expect(await suspended(path)).toBe("0");

  await devices.whileStill("cl-1", async () => {
    await devices.hold();
    await devices.release();
    // Under the copy nothing moves.
    expect(await suspended(path)).toBe("1");
  });
  expect(await suspended(path)).toBe("0");
});

test("what waits fails when its disk is given up, which then can go", async () => {
  const { path } = await make("cl-1");
  const other = await make("cl-2");
  await disks.hold();
  const write = writeThrough(path);
  await Bun.sleep(500);

  await disks.abandon("cl-1");
  expect(await write.exited).not.toBe(0);
  await disks.hold();
  await disks.remove("cl-1");
  await disks.release();

  expect(await readAt(other.path, 7, 0)).toBe("capsule");
});

test("what the guest discards is given back to the host", async () => {
  const { path } = await make("cl-1");
  {
    await using file = await open(path, "r+");
    await file.write(Buffer.alloc(8 * MIB, 9), 0, 8 * MIB, 0);
    await file.sync();
  }
  const before = await disks.allocatedBytes("cl-1");

  await Bun.$`blkdiscard --length ${8 * MIB} ${path}`.quiet();

  const after = await disks.allocatedBytes("cl-1");
  expect(before).toBeGreaterThan(8 * MIB);
  expect(after).toBeLessThan(2 * MIB);
});

test(
  `nothing is left of ${CYCLES} disks that come and go`,
  async () => {
    for (let i = 0; i < CYCLES; i++) {
      await make("cl-1");
      await disks.remove("cl-1");
    }

    expect([await devices(), await loops(), await readdir(dir)]).toEqual([[], [], []]);
  },
  CYCLES_TIMEOUT_MS,
);
