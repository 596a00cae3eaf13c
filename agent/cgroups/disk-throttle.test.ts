import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findDisk, throttleFiles } from "./disk-throttle.ts";

const SHARE = { readBytesPerS: 1048576, writeBytesPerS: 0, readsPerS: 100, writesPerS: 0 };

let root: string;
/** A directory that is there on this machine, under the root of nobody. */
let dir: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "wrenn-disks-"));
  dir = join(root, "var/lib/wrenn");
  await mkdir(dir, { recursive: true });
});
afterAll(() => rm(root, { recursive: true }));

/** A machine with these mounts, and a disk of which 8:2 is a partition. */
async function machine(mounts: string): Promise<string> {
  const at = await mkdtemp(join(root, "machine-"));
  await mkdir(join(at, "proc/self"), { recursive: true });
  await writeFile(join(at, "proc/self/mountinfo"), mounts);
  await mkdir(join(at, "sys/devices/sda/sda2"), { recursive: true });
  await mkdir(join(at, "sys/dev/block"), { recursive: true });
  await writeFile(join(at, "sys/devices/sda/dev"), "8:0\n");
  await writeFile(join(at, "sys/devices/sda/sda2/partition"), "2\n");
  await symlink("../../devices/sda/sda2", join(at, "sys/dev/block/8:2"));
  return at;
}

test("a share is one line of io.max in v2, and no rate is max", () => {
  expect(throttleFiles(2, "8:0", SHARE)).toEqual([
    { name: "io.max", value: "8:0 rbps=1048576 wbps=max riops=100 wiops=max" },
  ]);
});

test("a share is a file for each rate in v1, and no rate is 0", () => {
  expect(throttleFiles(1, "8:0", SHARE)).toEqual([
    { name: "blkio.throttle.read_bps_device", value: "8:0 1048576" },
    { name: "blkio.throttle.write_bps_device", value: "8:0 0" },
    { name: "blkio.throttle.read_iops_device", value: "8:0 100" },
    { name: "blkio.throttle.write_iops_device", value: "8:0 0" },
  ]);
});

test("the disk is that of the innermost mount, and of those the last", async () => {
  const at = await machine(
    [
      `30 1 7:3 / ${root} rw - xfs /dev/loop3 rw`,
      "20 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
      `31 1 7:5 / ${root} rw - xfs /dev/loop5 rw`,
      `32 1 7:9 / ${root}/va rw - xfs /dev/loop9 rw`,
    ].join("\n"),
  );

  expect(await findDisk(dir, at)).toBe("7:5");
});

test("of a partition it is the whole disk, which is what can be throttled", async () => {
  const at = await machine("20 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw\n");

  expect(await findDisk(dir, at)).toBe("8:0");
});

test("a mount point may have blanks", async () => {
  const odd = join(root, "a b");
  await mkdir(odd);
  const at = await machine(
    `20 1 254:0 / / rw - ext4 /dev/vda rw\n21 1 7:1 / ${root}/a\\040b rw - xfs /dev/loop1 rw\n`,
  );

  expect(await findDisk(odd, at)).toBe("7:1");
});

test("where there is none, what is there instead is named", async () => {
  const at = await machine("20 1 0:45 / / rw - overlay overlay rw\n");

  await expect(findDisk(dir, at)).rejects.toThrow("on no disk that can be throttled (overlay)");
});
