// Root disks on real file systems with reflinks (XFS and btrfs in loop devices) and on one that can only
// copy (tmpfs).

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Kernel } from "../native/kernel.ts";
import type { BaseImage } from "./images.ts";
import { openRootDisks } from "./open-root-disks.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");
const MIB = 1024 * 1024;
const UID = 210_001;

const stack = new AsyncDisposableStack();
let kernel: Kernel;
let reflinkDir: string;
let btrfsDir: string;
let copyDir: string;

beforeAll(async () => {
  kernel = stack.use(await Kernel.open(NATIVE_DIR));
  const dir = await mkdtemp("/tmp/wrenn-rootfs-");
  stack.defer(() => rm(dir, { recursive: true }));
  reflinkDir = join(dir, "xfs");
  btrfsDir = join(dir, "btrfs");
  copyDir = join(dir, "tmpfs");
  for (const path of [reflinkDir, btrfsDir, copyDir]) await mkdir(path);
  for (const [make, mount] of [
    [["mkfs.xfs", "-q", "-m", "reflink=1"], reflinkDir],
    [["mkfs.btrfs", "-q"], btrfsDir],
  ] as const) {
    await run(["truncate", "-s", "512M", `${mount}.img`]);
    await run([...make, `${mount}.img`]);
    await run(["mount", "-o", "loop", `${mount}.img`, mount]);
    stack.defer(() => run(["umount", mount]));
  }
  await kernel.storage.mountTmpfs(copyDir, { sizeMib: 256, mode: 0o755 });
  stack.defer(() => kernel.storage.unmount(copyDir));
});

afterAll(() => stack.disposeAsync());

async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "inherit"] });
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed`);
}

async function failureOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no failure",
    (error) => error.message,
  );
}

// 16 MiB with 8 MiB of data in front.
async function makeBase(dir: string): Promise<BaseImage> {
  const path = join(dir, "base.ext4");
  await rm(path, { force: true });
  await writeFile(path, Buffer.alloc(8 * MIB, "capsule"), { mode: 0o444 });
  const file = await open(path, "r+");
  await file.truncate(16 * MIB);
  await file.close();
  return { sha256: "0".repeat(64), path, sizeBytes: 16 * MIB };
}

describe.each([
  ["reflink", "XFS", () => reflinkDir],
  ["reflink", "btrfs", () => btrfsDir],
  ["copy", "tmpfs", () => copyDir],
] as const)("by %s on %s", (kind, _fileSystem, dirOf) => {
  async function openDisks() {
    const dir = join(dirOf(), "sandboxes");
    const disks = await openRootDisks({ dir, cow: "auto", kernel, tag: "trd0" });
    return { dir, disks, base: await makeBase(dirOf()) };
  }

  test("is what auto picks", async () => {
    expect((await openDisks()).disks.kind).toBe(kind);
  });

  test("a disk that is replaced can be put back", async () => {
    const { dir, disks, base } = await openDisks();
    const disk = { capsuleId: "cl-replaced", base, sizeMib: 32, uid: UID };
    const { path } = await disks.create(disk);
    await writeFile(path, "the first");

    // Twice, as when the first replacement was of no use; and nobody is to put back the second.
    for (let i = 0; i < 2; i++) await disks.replace(disk);
    expect((await stat(path)).size).toBe(32 * MIB);
    expect(await disks.list()).toEqual(["cl-replaced"]);
    for (let i = 0; i < 2; i++) await disks.putBack("cl-replaced");
    expect(await readFile(path, "utf8")).toBe("the first");
    expect(await readdir(dir)).toEqual(["cl-replaced.ext4"]);

    await disks.replace(disk);
    await disks.remove("cl-replaced");
    expect(await readdir(dir)).toEqual([]);
  });

  test("disks that are set aside stay as long as the generations for which they were", async () => {
    const { dir, disks, base } = await openDisks();
    const capsuleId = "cl-aside";
    const disk = { capsuleId, base, sizeMib: 32, uid: UID };
    const { path } = await disks.create(disk);
    const replace = async (text: string, generation: number) => {
      await writeFile(path, text);
      await disks.replace(disk);
      await disks.setAside(capsuleId, generation);
    };
    const texts = async () => {
      const names = (await readdir(dir)).filter((name) => name.includes("kept"));
      return Promise.all(names.sort().map((name) => readFile(join(dir, name), "utf8")));
    };

    for (const [text, generation] of [
      ["a", 3],
      ["b", 3],
      ["c", 4],
    ] as const) {
      expect(await disks.canSetAside(capsuleId)).toBe(true);
      await replace(text, generation);
    }
    // Nothing was replaced: nothing happens, and nothing is put back.
    await disks.setAside(capsuleId, 4);
    await disks.putBack(capsuleId);
    expect(await texts()).toEqual(["a", "b", "c"]);
    await replace("d", 4);
    expect(await disks.canSetAside(capsuleId)).toBe(false);
    expect(await disks.list()).toEqual([capsuleId]);

    await disks.dropAsides(capsuleId, [4, 5]);
    expect(await texts()).toEqual(["c", "d"]);
    expect((await stat(path)).size).toBe(32 * MIB);
    await disks.remove(capsuleId);
    expect(await readdir(dir)).toEqual([]);
  });

  test("a replacement that fails leaves the disk where it was", async () => {
    const { dir, disks, base } = await openDisks();
    const disk = { capsuleId: "cl-kept", base, sizeMib: 32, uid: UID };
    const { path } = await disks.create(disk);
    await writeFile(path, "kept");

    const missing = { ...base, path: join(dir, "missing.ext4") };
    expect(await failureOf(disks.replace({ ...disk, base: missing }))).toContain("ENOENT");

    expect(await readFile(path, "utf8")).toBe("kept");
    expect(await readdir(dir)).toEqual(["cl-kept.ext4"]);
    await disks.remove("cl-kept");
  });

  test("a disk has its base's bytes, its own size and one owner", async () => {
    const { disks, base } = await openDisks();

    const { path } = await disks.create({ capsuleId: "cl-1", base, sizeMib: 64, uid: UID });

    const status = await stat(path);
    expect([status.size, status.uid, status.gid, status.mode & 0o7777]).toEqual([
      64 * MIB,
      UID,
      UID,
      0o600,
    ]);
    expect((await readFile(path)).subarray(0, 16 * MIB)).toEqual(await readFile(base.path));
    expect(await disks.allocatedBytes("cl-1")).toBeLessThan(9 * MIB);
    await disks.remove("cl-1");
  });

  test("what one disk writes, neither its base nor another disk sees", async () => {
    const { disks, base } = await openDisks();
    const one = await disks.create({ capsuleId: "cl-1", base, sizeMib: 16, uid: UID });
    const two = await disks.create({ capsuleId: "cl-2", base, sizeMib: 16, uid: UID });

    await Bun.write(Bun.file(one.path), "overwritten");

    expect((await readFile(two.path)).subarray(0, 7).toString()).toBe("capsule");
    expect((await readFile(base.path)).subarray(0, 7).toString()).toBe("capsule");
    expect((await disks.list()).sort()).toEqual(["cl-1", "cl-2"]);
    await disks.remove("cl-1");
    await disks.remove("cl-1");
    await disks.remove("cl-2");
    expect(await disks.list()).toEqual([]);
  });

  test("a disk is never smaller than its base, and never made twice", async () => {
    const { disks, base } = await openDisks();
    const disk = { capsuleId: "cl-1", base, sizeMib: 1, uid: UID };
    const { path } = await disks.create(disk);

    expect((await stat(path)).size).toBe(base.sizeBytes);
    expect(await failureOf(disks.create(disk))).toContain("EEXIST");
    expect((await stat(path)).size).toBe(base.sizeBytes);
    await disks.remove("cl-1");
  });

  test("what was half made is gone at the next start, and disks stay", async () => {
    const { dir, disks, base } = await openDisks();
    await disks.create({ capsuleId: "cl-1", base, sizeMib: 16, uid: UID });
    await writeFile(join(dir, "cl-2.ext4.partial"), "half");
    await mkdir(join(dir, ".probe-abc"));

    const next = await openRootDisks({ dir, cow: kind, kernel, tag: "trd0" });

    expect(await readdir(dir)).toEqual(["cl-1.ext4"]);
    expect(await next.list()).toEqual(["cl-1"]);
    await next.remove("cl-1");
  });
});

test("a full file system fails the create and leaves nothing", async () => {
  const dir = join(copyDir, "sandboxes");
  const disks = await openRootDisks({ dir, cow: "copy", kernel, tag: "trd0" });
  const path = join(copyDir, "large.ext4");
  await writeFile(path, Buffer.alloc(150 * MIB, 1));
  const base = { sha256: "1".repeat(64), path, sizeBytes: 150 * MIB };

  const failure = await failureOf(disks.create({ capsuleId: "cl-1", base, sizeMib: 1, uid: UID }));

  expect(failure).toContain("ENOSPC");
  expect(await readdir(dir)).toEqual([]);
  await rm(path);
});

test("a kind that cannot work is refused with the reason", async () => {
  const open = (cow: "reflink" | "dm") =>
    openRootDisks({ dir: join(copyDir, "sandboxes"), cow, kernel, tag: "trd0" });

  expect(await failureOf(open("reflink"))).toContain("cannot share extents");
  const dm = await failureOf(open("dm"));
  // The node may be there without its driver.
  const hasMapper = (await readFile("/proc/misc", "utf8")).includes(" device-mapper");
  expect(dm).toContain(hasMapper ? "no failure" : "this kernel has no device-mapper");
});

test("a clone across file systems says what to do", async () => {
  const base = await makeBase(copyDir);
  const dir = join(reflinkDir, "sandboxes");
  const disks = await openRootDisks({ dir, cow: "reflink", kernel, tag: "trd0" });

  const failure = await failureOf(disks.create({ capsuleId: "cl-1", base, sizeMib: 16, uid: UID }));

  expect(failure).toContain("must be on one file system");
  expect(await readdir(dir)).toEqual([]);
});
