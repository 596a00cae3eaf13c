// What the kernel says of itself in its files. `root` is `/` but for tests.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { findHierarchies } from "../cgroups/hierarchies.ts";
import { checkUidRange } from "../uid-range.ts";
import { attempt, type Finding, failed, ok, sentence, warning } from "./finding.ts";

const SETUP = "run scripts/setup-host.sh";
/** A capsule is in one of each kind, its pager in another of some; a host has room for some hundreds. */
const NAMESPACES_MIN = 4096;
const NAMESPACES = ["net", "mnt", "pid", "ipc", "uts"] as const;
/**
 * A capsule has up to 80 threads beside its processors, each with a process id; the kernel's old default of
 * 32,768 is 400 of them.
 */
const THREADS_MIN = 131_072;
/** Four for each of a thousand connections of control planes, and some for each capsule. */
const OPEN_FILES_MIN = 16_384;
/** One neighbour for each capsule; above this many of all interfaces the kernel forgets and refuses. */
const NEIGHBOURS_MIN = 4096;

/** The checks that only read. */
export function checkMachine(
  options: { uidBase: number; openFilesMax: () => number; uid: number },
  root = "/",
): Promise<Finding[]> {
  return Promise.all([
    checkRoot(options.uid),
    checkForwarding(root),
    checkNeighbours(root),
    checkCgroups(root),
    checkOpenFiles(options.openFilesMax),
    checkPids(root),
    checkNamespaces(root),
    checkUids(options.uidBase, root),
    checkUserfault(root),
    checkSharedMemory(root),
    checkSwap(root),
    checkThreads(root),
  ]);
}

async function checkRoot(uid: number): Promise<Finding> {
  if (uid === 0) return ok("root", "runs as root");
  return failed("root", `runs as user ${uid}`, "run it as root, as the agent does");
}

async function checkForwarding(root: string): Promise<Finding> {
  const value = await readSetting(root, "net/ipv4/ip_forward");
  if (value === 1) return ok("ip_forward", "the host forwards IPv4");
  const found = "the host forwards no IPv4: capsules have no network";
  return failed("ip_forward", found, `sysctl -w net.ipv4.ip_forward=1, for good: ${SETUP}`);
}

async function checkNeighbours(root: string): Promise<Finding> {
  const key = "net/ipv4/neigh/default/gc_thresh3";
  const value = await readSetting(root, key);
  const found = `${value} neighbours of all interfaces`;
  if (value >= NEIGHBOURS_MIN) return ok("neighbours", found);
  const remedy = `sysctl -w ${key.replaceAll("/", ".")}=32768, for good: ${SETUP}`;
  return warning("neighbours", `${found}: no more capsules than that are reached`, remedy);
}

async function checkCgroups(root: string): Promise<Finding> {
  try {
    const trees = await findHierarchies(root);
    const words = trees.map(
      ({ version, mount, controllers }) => `${controllers.join(", ")} (v${version}, ${mount})`,
    );
    return ok("cgroups", words.join("; "));
  } catch (error) {
    const remedy =
      "boot with systemd.unified_cgroup_hierarchy=1, and without cgroup_disable= on the kernel line";
    return failed("cgroups", sentence(error), remedy);
  }
}

function checkOpenFiles(readMax: () => number): Promise<Finding> {
  const check = "open files";
  const remedy = "ulimit -n 1048576 in this shell; LimitNOFILE=1048576 in the agent's unit";
  const probe = async () => {
    const max = readMax();
    const found = `${max === Number.MAX_SAFE_INTEGER ? "any number of" : max} files may be open`;
    if (max >= OPEN_FILES_MIN) return ok(check, found);
    return warning(check, `${found}, fewer than ${OPEN_FILES_MIN}`, remedy);
  };
  return attempt(check, { remedy, probe });
}

async function checkPids(root: string): Promise<Finding> {
  const [pids, threads] = [
    await readSetting(root, "kernel/pid_max"),
    await readSetting(root, "kernel/threads-max"),
  ];
  const found = `${pids} process ids, ${threads} threads`;
  if (pids >= THREADS_MIN && threads >= THREADS_MIN) return ok("processes", found);
  const remedy = `sysctl -w kernel.pid_max=4194304 kernel.threads-max=1000000, for good: ${SETUP}`;
  return warning("processes", `${found}: too few for hundreds of capsules`, remedy);
}

async function checkNamespaces(root: string): Promise<Finding> {
  const small: string[] = [];
  for (const kind of NAMESPACES) {
    const value = await readSetting(root, `user/max_${kind}_namespaces`);
    if (value < NAMESPACES_MIN) small.push(`user.max_${kind}_namespaces=${value}`);
  }
  if (small.length === 0) {
    return ok("namespaces", `at least ${NAMESPACES_MIN} of each kind`);
  }
  const remedy = `set each to 65536 or more with sysctl -w, for good: ${SETUP}`;
  return failed("namespaces", `too few: ${small.join(", ")}`, remedy);
}

async function checkUids(base: number, root: string): Promise<Finding> {
  try {
    await checkUidRange(base, root);
    return ok("user ids", `nobody of this machine has the 65,536 from ${base} on`);
  } catch (error) {
    const remedy = "set WRENN_UID_BASE to the first of 65,536 ids that nobody has";
    return failed("user ids", sentence(error), remedy);
  }
}

/** Its descriptor comes from the device, since VMMs have no right to the system call. */
async function checkUserfault(root: string): Promise<Finding> {
  const path = "/dev/userfaultfd";
  if (existsSync(join(root, path))) return ok("userfaultfd", `${path} is there`);
  const found = `there is no ${path}: paused capsules cannot be resumed page by page`;
  return failed("userfaultfd", found, "take a kernel of 6.1 or later with CONFIG_USERFAULTFD");
}

/** A guest can tell what another has in memory by how long a write to an equal page takes. */
async function checkSharedMemory(root: string): Promise<Finding> {
  const text = await readIfThere(join(root, "sys/kernel/mm/ksm/run"));
  if (text.trim() !== "1") return ok("memory merging", "the kernel merges no equal pages (KSM)");
  const found = "the kernel merges equal pages of guests (KSM), which tells one of the other";
  return failed("memory merging", found, "echo 2 > /sys/kernel/mm/ksm/run; disable ksmtuned");
}

async function checkSwap(root: string): Promise<Finding> {
  const devices = (await readIfThere(join(root, "proc/swaps"))).trim().split("\n").slice(1);
  const onDisk = devices.map((line) => line.split(/\s/)[0] ?? "").filter((d) => !/zram/.test(d));
  if (onDisk.length === 0) return ok("swap", "no memory of guests is written to a disk");
  const found = `memory of guests may be written to ${onDisk.join(", ")} and stay there`;
  return warning("swap", found, "swapoff -a, and take it out of /etc/fstab");
}

async function checkThreads(root: string): Promise<Finding> {
  const active = (await readIfThere(join(root, "sys/devices/system/cpu/smt/active"))).trim();
  if (active !== "1") return ok("smt", "a processor core runs one thread at a time");
  const found = "two guests may run on one processor core and watch each other's caches (SMT)";
  return warning("smt", found, "boot with nosmt where guests of strangers run side by side");
}

/** NaN if there is none. */
async function readSetting(root: string, key: string): Promise<number> {
  const text = (await readIfThere(join(root, "proc/sys", key))).trim();
  return text === "" ? Number.NaN : Number(text);
}

async function readIfThere(path: string): Promise<string> {
  return await readFile(path, "utf8").catch(() => "");
}
