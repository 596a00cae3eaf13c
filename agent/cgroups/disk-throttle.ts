// How fast a group may use the host's disk, by the controller that blk-throttle has in each version of cgroups:
// io.max of v2 (Documentation/admin-guide/cgroup-v2.rst, "IO"), blkio.throttle.* of v1 (blkio-controller.rst).

import { readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { DiskShare } from "../shares.ts";
import { CgroupError, type Hierarchy } from "./hierarchies.ts";

interface ThrottleFile {
  readonly name: string;
  readonly value: string;
}

/** The files to write, in order. `device` is `major:minor`. A rate of 0 takes away one that was there. */
export function throttleFiles(
  version: Hierarchy["version"],
  device: string,
  share: DiskShare,
): ThrottleFile[] {
  const { readBytesPerS, writeBytesPerS, readsPerS, writesPerS } = share;
  if (version === 2) {
    const rates = {
      rbps: readBytesPerS,
      wbps: writeBytesPerS,
      riops: readsPerS,
      wiops: writesPerS,
    };
    const words = Object.entries(rates).map(([name, rate]) => `${name}=${rate || "max"}`);
    return [{ name: "io.max", value: `${device} ${words.join(" ")}` }];
  }
  const rates = {
    read_bps: readBytesPerS,
    write_bps: writeBytesPerS,
    read_iops: readsPerS,
    write_iops: writesPerS,
  };
  return Object.entries(rates).map(([name, rate]) => ({
    name: `blkio.throttle.${name}_device`,
    value: `${device} ${rate}`,
  }));
}

/**
 * The disk, as `major:minor`, that the directory's file system lies on: a loop device where that is what is
 * mounted, and the whole disk of a partition, which is all that can be throttled. Throws CgroupError where there is
 * none, as with tmpfs and overlayfs. `root` is `/` but for tests.
 */
export async function findDisk(directory: string, root = "/"): Promise<string> {
  const path = await realpath(directory);
  const mounts = await readFile(join(root, "proc/self/mountinfo"), "utf8");
  const mount = parseMountInfo(mounts).findLast(({ point }) => isBelow(path, point));
  if (mount === undefined) throw new CgroupError(`${path} is on no mount`);
  const device = mount.device.startsWith("0:") ? await deviceOf(mount.source) : mount.device;
  if (device === null) {
    throw new CgroupError(`${path} is on no disk that can be throttled (${mount.source})`);
  }
  const partition = join(root, "sys/dev/block", device);
  const isPartition = await Bun.file(join(partition, "partition")).exists();
  if (!isPartition) return device;
  return (await readFile(join(await realpath(partition), "../dev"), "utf8")).trim();
}

interface Mount {
  readonly device: string;
  readonly point: string;
  readonly source: string;
}

/** The mounts by the length of where they are; of two in one place the one that hides the other comes later. */
function parseMountInfo(text: string): Mount[] {
  const mounts = text.split("\n").flatMap((line) => {
    const [, , device = "", , point = ""] = line.split(" ");
    const [, , source = ""] = line.slice(line.indexOf(" - ") + 1).split(" ");
    return point === "" ? [] : [{ device, point: unescaped(point), source: unescaped(source) }];
  });
  return mounts.sort((a, b) => a.point.length - b.point.length);
}

/** proc_pid_mountinfo(5): blanks and backslashes are octal. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 8)));
}

function isBelow(path: string, point: string): boolean {
  return path === point || path.startsWith(point.endsWith("/") ? point : `${point}/`);
}

/** btrfs shows no disk of its own, but which one it is mounted from. */
async function deviceOf(source: string): Promise<string | null> {
  if (!source.startsWith("/")) return null;
  const status = await stat(source).catch(() => null);
  if (!status?.isBlockDevice()) return null;
  const { rdev } = status;
  // gnu_dev_major(3) of what fits 32 bits.
  return `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`;
}
