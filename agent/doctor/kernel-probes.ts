// What the kernel does when it is asked, tried on objects that nobody else knows and that go at once. All of
// them carry the doctor's process id, so that the next one removes what a killed one left.

import { existsSync } from "node:fs";
import { dirname } from "node:path";
import type { MachineConfig } from "../config.ts";
import type { Kernel } from "../native/kernel.ts";
import { hostRules } from "../network/rules.ts";
import { mappedNode } from "../rootfs/mapped-tables.ts";
import { canReflink } from "../rootfs/probe-reflink.ts";
import { type Finding, failed, ok, sentence, warning } from "./finding.ts";

const PREFIX = "wrenn-doctor-";
const TAP = "tap0";
const SECTORS = 2048;

type Cow = MachineConfig["cow"];

/** The firewall and the devices of a capsule, in a network namespace of the doctor's own. */
export async function probeNetwork(kernel: Kernel): Promise<Finding[]> {
  const { network } = kernel;
  const wasThere = existsSync("/run/netns");
  for (const name of await network.listNetns(PREFIX)) {
    if (isAbandoned(name)) await network.deleteNetns(name);
  }
  const netns = `${PREFIX}${process.pid}`;
  try {
    await network.createNetns(netns);
  } catch (error) {
    const remedy = "run it as root, outside of a container; the kernel needs CONFIG_NET_NS";
    return [failed("network namespaces", sentence(error), remedy)];
  }
  try {
    return [
      ok("network namespaces", "can be made"),
      await attempt("nftables", {
        act: () => network.runNft(netns, hostRules("doct")),
        found: "takes the rules of capsules",
        remedy: "modprobe nf_tables; the kernel needs CONFIG_NF_TABLES, NFT_CT, NFT_FIB, NFT_MASQ",
      }),
      await attempt("tap devices", {
        act: () => network.createTap({ netns, name: TAP }, 0),
        found: "can be made",
        remedy: "modprobe tun; /dev/net/tun must be there",
      }),
    ];
  } finally {
    await network.deleteNetns(netns);
    if (!wasThere) await network.unshareNetnsDirectory();
  }
}

/** How root disks share their base image here: WRENN_COW, what it comes to, and what it needs. */
export async function probeDisks(
  kernel: Kernel,
  { dir, cow }: { dir: string; cow: Cow },
): Promise<Finding[]> {
  const at = nearestDirectory(dir);
  const reflinks = await canReflink(kernel, at).catch((error: unknown) => sentence(error));
  const mapper = await probeMapper(kernel);
  return [
    judgeCow(cow, reflinks === true, mapper === null),
    judgeReflinks({ at, cow, reflinks }),
    judgeMapper(cow, mapper),
  ];
}

export function judgeCow(cow: Cow, canReflink: boolean, hasMapper: boolean): Finding {
  const kind = cow === "auto" ? (canReflink ? "reflink" : "copy") : cow;
  const why = cow === "auto" ? "auto takes it where the file system can" : `WRENN_COW=${cow}`;
  if ((kind === "reflink" && !canReflink) || (kind === "dm" && !hasMapper)) {
    const remedy = "set WRENN_COW=auto, or give the host what is missing";
    return failed("cow", `WRENN_COW=${cow} does not work here`, remedy);
  }
  if (kind !== "copy") return ok("cow", `${kind} (${why})`);
  const found = "copy: each capsule takes the time and the space of its whole image";
  const remedy = `put WRENN_DIR on XFS or btrfs${hasMapper ? ", or set WRENN_COW=dm" : ""}`;
  return warning("cow", found, remedy);
}

/** `reflinks`: what was seen, or why nothing could be tried. */
export function judgeReflinks(o: { at: string; cow: Cow; reflinks: boolean | string }): Finding {
  const { at, cow, reflinks } = o;
  if (reflinks === true) return ok("reflinks", `files of ${at} can share extents`);
  if (typeof reflinks === "string") {
    return failed("reflinks", `nothing can be written in ${at}: ${reflinks}`, "make it writable");
  }
  const found = `files of ${at} cannot share extents: pauses and forks copy disks`;
  if (cow === "dm") return ok("reflinks", `${found}, but for what device-mapper shares`);
  return warning("reflinks", found, "put WRENN_DIR on XFS (made with reflink=1) or btrfs");
}

/** `failure`: null where snapshots of device-mapper can be made. */
export function judgeMapper(cow: Cow, failure: string | null): Finding {
  if (failure === null) return ok("device-mapper", "snapshots can be made");
  if (cow !== "dm") return ok("device-mapper", `not there, and not needed with WRENN_COW=${cow}`);
  return failed("device-mapper", failure, "modprobe dm_snapshot; or set WRENN_COW=auto");
}

/** Null if a snapshot device can be made, else why not. Nothing is left of it. */
async function probeMapper(kernel: Kernel): Promise<string | null> {
  const { storage } = kernel;
  try {
    await storage.deviceMapperVersion();
  } catch {
    return "this kernel has no device-mapper (/dev/mapper/control)";
  }
  for (const name of (await storage.listMapped(PREFIX)).sort().reverse()) {
    if (isAbandoned(name)) await storage.removeMapped(name);
  }
  await using stack = new AsyncDisposableStack();
  const make = async (suffix: string, table: string) => {
    const name = `${PREFIX}${process.pid}-${suffix}`;
    const device = await storage.createMapped(name);
    stack.defer(() => removePatiently(kernel, name));
    await storage.loadMapped(name, [table]);
    await storage.resumeMapped(name);
    return mappedNode(device);
  };
  try {
    const origin = await make("a", `0 ${SECTORS} zero`);
    const store = await make("b", `0 ${SECTORS} zero`);
    await make("c", `0 ${SECTORS} snapshot ${origin} ${store} N 8`);
    return null;
  } catch (error) {
    return sentence(error);
  }
}

/** udev looks at a device that has just been made, and keeps it busy meanwhile. */
async function removePatiently(kernel: Kernel, name: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await kernel.storage.removeMapped(name);
    } catch (error) {
      if (!/EBUSY/.test(sentence(error)) || tries === 100) throw error;
    }
    await Bun.sleep(40);
  }
}

async function attempt(
  check: string,
  probe: { act: () => Promise<unknown>; found: string; remedy: string },
): Promise<Finding> {
  try {
    await probe.act();
    return ok(check, probe.found);
  } catch (error) {
    return failed(check, sentence(error), probe.remedy);
  }
}

/** Of a doctor that was killed. */
function isAbandoned(name: string): boolean {
  const pid = Number.parseInt(name.slice(PREFIX.length), 10);
  return !existsSync(`/proc/${pid}`);
}

function nearestDirectory(path: string): string {
  return existsSync(path) ? path : nearestDirectory(dirname(path));
}
