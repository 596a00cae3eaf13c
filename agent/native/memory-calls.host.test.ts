// A guest's memory in a file on btrfs, where stat names another device than /proc/<pid>/maps.

import { expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Kernel } from "./kernel.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");
const MIB = 1024 * 1024;

test("where a process has mapped a file is found on btrfs", async () => {
  await using stack = new AsyncDisposableStack();
  const kernel = stack.use(await Kernel.open(NATIVE_DIR));
  const dir = await mkdtemp("/var/tmp/wrenn-btrfs-");
  stack.defer(() => rm(dir, { recursive: true }));
  const [image, mount] = [join(dir, "image"), join(dir, "mount")];
  await mkdir(mount);
  await writeFile(image, "");
  await truncate(image, 256 * MIB);
  run("mkfs.btrfs", "-q", image);
  run("mount", "-o", "loop", image, mount);
  stack.defer(() => run("umount", "--lazy", mount));
  const [mapped, other] = [join(mount, "flat"), join(mount, "other")];
  await writeFile(mapped, Buffer.alloc(MIB, 1));
  await writeFile(other, Buffer.alloc(MIB, 2));
  // Held until the end: it is unmapped when it is collected.
  const pages = Bun.mmap(mapped, { shared: false });

  const { address, sizeBytes } = await kernel.memory.findMapping(process.pid, mapped);
  const failure = await kernel.memory.findMapping(process.pid, other).catch(String);

  expect(failure).toContain("ENXIO");
  expect([sizeBytes, address > 0n, pages.length]).toEqual([BigInt(MIB), true, MIB]);
});

function run(...command: string[]): void {
  const { success, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr}`);
}
