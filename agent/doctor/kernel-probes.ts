// What the kernel does when it is asked, tried on objects that nobody else knows and that go at once. All of
// them carry the doctor's process id, so that the next one removes what a killed one left.

import { existsSync } from "node:fs";
import type { MachineConfig } from "../config.ts";
import type { Kernel } from "../native/kernel.ts";
import { hostRules } from "../network/rules.ts";
import { mappedNode } from "../rootfs/mapped-tables.ts";
import { canReflink } from "../rootfs/probe-reflink.ts";
import { isLimited, type NetworkShare } from "../shares.ts";
import { nearestDirectory } from "./file-checks.ts";
import { attempt, type Finding, failed, ok, sentence, warning } from "./finding.ts";

const PREFIX = "wrenn-doctor-";
const NETNS_DIR = "/run/netns";
const NAMESPACES = "network namespaces";
const TAP = "tap0";
const SECTORS = 2048;

type Cow = MachineConfig["cow"];

/** The firewall and the devices of a capsule, in a network namespace of the doctor's own. */
export async function probeNetwork(
  { network }: Pick<Kernel, "network">,
  share: NetworkShare,
): Promise<Finding[]> {
  const netns = `${PREFIX}${process.pid}`;
  const wasThere = existsSync(NETNS_DIR);
  const made = await attempt(NAMESPACES, {
    remedy: "run it as root, outside of a container; the kernel needs CONFIG_NET_NS",
    probe: async () => {
      // Of a killed doctor that had this process id.
      await network.deleteNetns(netns);
      await network.createNetns(netns);
      return ok(NAMESPACES, "can be made");
    },
  });
  if (made.status !== "ok") return [made];
  const nftables = await attempt("nftables", {
    remedy: "modprobe nf_tables; the kernel needs CONFIG_NF_TABLES, NFT_CT, NFT_FIB, NFT_MASQ",
    probe: async () => {
      await network.runNft(netns, hostRules("doct"));
      return ok("nftables", "takes the rules of capsules");
    },
  });
  const taps = await attempt("tap devices", {
    remedy: "modprobe tun; /dev/net/tun must be there",
    probe: async () => {
      await network.createTap({ netns, name: TAP }, 0);
      return ok("tap devices", "can be made");
    },
  });
  const rates = await probeRates(network, share);
  const removed = await attempt(NAMESPACES, {
    remedy: `see what holds it, and remove what ${NETNS_DIR}/${PREFIX}* names`,
    probe: async () => {
      await removeNetns(network, netns);
      if (!wasThere) await network.unshareNetnsDirectory();
      return made;
    },
  });
  return [removed, nftables, taps, rates];
}

async function probeRates(network: Kernel["network"], share: NetworkShare): Promise<Finding> {
  const failure = await network.tryRate().then(() => null, sentence);
  return judgeNetworkShares(share, failure);
}

/** `failure`: null where devices can be held to a rate. */
export function judgeNetworkShares(share: NetworkShare, failure: string | null): Finding {
  const check = "network shares";
  if (failure === null) return ok(check, "capsules can be held to a rate");
  const found = `capsules cannot be held to a rate: ${failure}`;
  const remedy = "modprobe sch_tbf; the kernel needs CONFIG_NET_SCH_TBF";
  return isLimited(share) ? failed(check, found, remedy) : warning(check, found, remedy);
}

/** The doctor's own, and what killed ones left. One that stays keeps no other from it. */
async function removeNetns(network: Kernel["network"], own: string): Promise<void> {
  const names = await network.listNetns(PREFIX);
  const gone = names.filter((name) => name === own || isAbandoned(name));
  const results = await Promise.allSettled(gone.map((name) => network.deleteNetns(name)));
  const failures = results.flatMap((r) => (r.status === "rejected" ? sentence(r.reason) : []));
  if (failures.length > 0) throw new Error(failures.join("; "));
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

/** Null if a snapshot device can be made and removed, else why not. */
async function probeMapper(kernel: Pick<Kernel, "storage">): Promise<string | null> {
  try {
    await kernel.storage.deviceMapperVersion();
  } catch {
    return "this kernel has no device-mapper (/dev/mapper/control)";
  }
  return await tryMapper(kernel).then(() => null, sentence);
}

async function tryMapper({ storage }: Pick<Kernel, "storage">): Promise<void> {
  for (const name of (await storage.listMapped(PREFIX)).sort().reverse()) {
    if (isAbandoned(name)) await storage.removeMapped(name);
  }
  await using stack = new AsyncDisposableStack();
  const make = async (suffix: string, table: string) => {
    const name = `${PREFIX}${process.pid}-${suffix}`;
    const device = await storage.createMapped(name);
    stack.defer(() => removePatiently(storage, name));
    await storage.loadMapped(name, [table]);
    await storage.resumeMapped(name);
    return mappedNode(device);
  };
  const origin = await make("a", `0 ${SECTORS} zero`);
  const store = await make("b", `0 ${SECTORS} zero`);
  await make("c", `0 ${SECTORS} snapshot ${origin} ${store} N 8`);
}

/** udev looks at a device that has just been made, and keeps it busy meanwhile. */
async function removePatiently(storage: Kernel["storage"], name: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await storage.removeMapped(name);
    } catch (error) {
      if (!/EBUSY/.test(sentence(error)) || tries === 100) throw error;
    }
    await Bun.sleep(40);
  }
}

/** Of a doctor that was killed. */
function isAbandoned(name: string): boolean {
  const pid = Number.parseInt(name.slice(PREFIX.length), 10);
  return !existsSync(`/proc/${pid}`);
}
