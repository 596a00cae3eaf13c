// Makes a capsule run step by step, a new one or a paused one. What a failure or a crash leaves behind is for
// takeDown or freeHost: all of it carries the capsule's id, but for the network slot, which the journal knows.

import { mkdir } from "node:fs/promises";
import { AgentError, unknownTemplate } from "../errors.ts";
import { Guest, type GuestIdentity } from "../guest/guest.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { BOOT_POLL_MS } from "../limits.ts";
import { isMemoryDamaged } from "../memory/pager-verdict.ts";
import type { NetworkSlot } from "../network/network-pool.ts";
import { SnapshotError } from "../snapshots/snapshot-error.ts";
import type { Generation } from "../snapshots/snapshots.ts";
import { exitOf, type VmmProcess, type VmmSpec } from "../vmm/vmm.ts";
import { capsuleRunDir, consoleLogPath } from "./capsule-paths.ts";
import { holdDevices, holdShares } from "./hold-shares.ts";
import type { HostParts } from "./host-parts.ts";
import { vmmEnded, waitForGuest } from "./wait-for-guest.ts";

/** What a capsule starts from. */
export type CapsuleSource =
  /** The base image of its template, booted. */
  | { readonly kind: "image" }
  /** The same, but the guest is told nothing: whoever is restored from it gets a name of its own. */
  | { readonly kind: "nameless" }
  /** The disk that it has, booted. */
  | { readonly kind: "disk" }
  | {
      readonly kind: "memory";
      readonly generation: Generation;
      /** Its disk is still the generation's, byte for byte; otherwise it is made anew from that. */
      readonly isDiskKept: boolean;
      /** The token that envd had then; null: none. */
      readonly savedToken: string | null;
    };

/** The operation, for its failpoints. */
export type BuildVerb = "create" | "resume" | "warm";

/** What the steps hand back as they succeed, so that a failure finds it. */
export interface BuildProgress {
  slot: number | null;
  vmm: VmmProcess | null;
  guest: Guest | null;
  envdVersion: string;
  /** Milliseconds per step. */
  readonly timings: Record<string, number>;
}

/**
 * Builds the capsule and returns once envd has its identity. Throws AgentError, the signal's reason
 * between two steps, or what a part of the host throws.
 */
export async function buildCapsule(
  parts: HostParts,
  spec: CapsuleSpec,
  options: {
    verb: BuildVerb;
    source: CapsuleSource;
    progress: BuildProgress;
    signal: AbortSignal;
  },
): Promise<void> {
  const { verb, source, progress, signal } = options;
  const { failpoints } = parts;
  const step = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted();
    const startedAt = performance.now();
    try {
      return await run();
    } finally {
      progress.timings[`${name}_ms`] = Math.round(performance.now() - startedAt);
    }
  };

  const slot = await step("network", () => takeSlot(parts, spec, { verb, progress }));
  failpoints.reach(`${verb}.after-network`);
  const cgroup = await step("cgroup", () => makeCgroup(parts, spec));
  failpoints.reach(`${verb}.after-cgroup`);
  const fresh = { slot: slot.index, before: "nothing" } as const;
  await step("shares", () => holdShares(parts, spec, fresh));
  const disk = await step("disk", () => prepareDisk(parts, spec, { slot, source, verb }));
  failpoints.reach(`${verb}.after-disk`);
  const made = { slot, cgroup, disk, source, progress, verb };
  const vmm = await step("vmm", () => startVmm(parts, spec, made));
  failpoints.reach(`${verb}.after-vmm`);
  await step("guest", async () => {
    try {
      await meetGuest(parts, spec, { slot, vmm, source, progress, signal });
    } catch (error) {
      if (signal.aborted) throw error;
      throw (await damageOf(parts, spec, vmm)) ?? (await endOf(vmm, error)) ?? error;
    }
  });
  failpoints.reach(`${verb}.after-guest`);
}

/** The connection to the guest of a capsule, new or adopted, which ends with its VMM at the latest. */
export function connectGuest(
  parts: HostParts,
  spec: CapsuleSpec,
  { slot, vmm }: { slot: NetworkSlot; vmm: VmmProcess },
): Guest {
  const guest = new Guest({
    hostIp: slot.hostIp,
    accessToken: spec.accessToken,
    teamId: spec.teamId,
    budget: parts.streamBudget,
    observe: (outcome) => parts.metrics.observeGuestCall(outcome),
  });
  // A VMM that is paused and resumed again and again has many of them in turn.
  const held = new WeakRef(guest);
  void vmm.exited.then(() => held.deref()?.close());
  return guest;
}

async function takeSlot(
  parts: HostParts,
  spec: CapsuleSpec,
  { verb, progress }: { verb: BuildVerb; progress: BuildProgress },
): Promise<NetworkSlot> {
  const slot = await parts.network.acquire();
  progress.slot = slot.index;
  // A crash here loses no slot: the pool removes, at its next opening, those that no row names.
  parts.failpoints.reach(`${verb}.after-acquire`);
  parts.journal.setSlot(spec.id, slot.index);
  return slot;
}

function makeCgroup(parts: HostParts, spec: CapsuleSpec) {
  return parts.cgroups.create({ capsuleId: spec.id, ...parts.vmm.limits(spec) });
}

async function prepareDisk(
  parts: HostParts,
  spec: CapsuleSpec,
  { slot, source, verb }: { slot: NetworkSlot; source: CapsuleSource; verb: BuildVerb },
): Promise<string> {
  const isKept = source.kind === "disk" || (source.kind === "memory" && source.isDiskKept);
  // It was another VMM's user's before the pause.
  if (isKept) return (await parts.disks.attach(spec.id, slot.vmmUid)).path;
  const base = source.kind === "memory" ? source.generation.disk : await baseImage(parts, spec);
  const { id: capsuleId, diskMib: sizeMib } = spec;
  const wanted = { capsuleId, base, sizeMib, uid: slot.vmmUid };
  // What a capsule has of its own may be all that is left of it.
  if (verb === "resume") return (await parts.disks.replace(wanted)).path;
  await parts.disks.remove(capsuleId);
  return (await parts.disks.create(wanted)).path;
}

async function baseImage(parts: HostParts, spec: CapsuleSpec) {
  const ids = { teamId: spec.templateTeamId, templateId: spec.templateId };
  const base = await parts.images.resolve(ids);
  if (base !== null) return base;
  throw unknownTemplate();
}

async function startVmm(
  parts: HostParts,
  spec: CapsuleSpec,
  made: {
    slot: NetworkSlot;
    cgroup: Awaited<ReturnType<typeof makeCgroup>>;
    disk: string;
    source: CapsuleSource;
    progress: BuildProgress;
    verb: BuildVerb;
  },
): Promise<VmmProcess> {
  const { slot, cgroup, disk, source, progress, verb } = made;
  const runDir = capsuleRunDir(parts.runDir, spec.id);
  await mkdir(runDir, { mode: 0o700 });
  const vmmSpec: VmmSpec = {
    capsuleId: spec.id,
    runDir,
    vcpus: spec.vcpus,
    memoryMib: spec.memoryMib,
    kernel: parts.guestKernel,
    // No names: a restored guest would go on showing those of the one that was booted.
    cmdlineExtra: [],
    rootDisk: disk,
    netns: slot.netns,
    tap: slot.tap,
    uid: slot.vmmUid,
    consoleLog: consoleLogPath(parts.logsDir, spec.id),
    cgroup,
  };
  const vmm =
    source.kind === "memory"
      ? await parts.snapshots.restore({ spec: vmmSpec, generation: source.generation })
      : await parts.vmm.boot(vmmSpec);
  progress.vmm = vmm;
  await holdDevices(parts, spec, source.kind === "memory" ? "unknown" : "nothing");
  parts.failpoints.reach(`${verb}.after-boot`);
  return vmm;
}

async function meetGuest(
  parts: HostParts,
  spec: CapsuleSpec,
  made: {
    slot: NetworkSlot;
    vmm: VmmProcess;
    source: CapsuleSource;
    progress: BuildProgress;
    signal: AbortSignal;
  },
): Promise<void> {
  const { slot, vmm, source, progress, signal } = made;
  const guest = connectGuest(parts, spec, { slot, vmm });
  progress.guest = guest;
  progress.envdVersion = await waitForGuest(guest, {
    start: source.kind === "memory" ? "restore" : "boot",
    vmm,
    ...parts.bootTime,
    consoleLog: consoleLogPath(parts.logsDir, spec.id),
    pollMs: BOOT_POLL_MS[parts.vmm.accel],
    signal,
  });
  if (source.kind === "nameless") return;
  const renewal = source.kind === "memory" ? { savedToken: source.savedToken } : null;
  await guest.init(identityOf(spec), parts.now(), renewal);
}

/** A guest may want only now what turns out to be damaged; its pager ends it then. */
async function damageOf(
  parts: HostParts,
  { id }: CapsuleSpec,
  vmm: VmmProcess,
): Promise<SnapshotError | null> {
  if (!(await isMemoryDamaged(capsuleRunDir(parts.runDir, id)))) return null;
  const { detail } = await vmm.exited;
  return new SnapshotError("damaged", `The memory of ${id} is damaged: ${detail}`);
}

/** However it was noticed: a call that was cut off says nothing of it. A refusal of the guest's is none. */
async function endOf(vmm: VmmProcess, error: unknown): Promise<AgentError | null> {
  if (error instanceof AgentError && error.code === "invalid_argument") return null;
  const exit = await exitOf(vmm);
  return exit && vmmEnded(exit);
}

/** What envd of the capsule is to know. */
export function identityOf(spec: CapsuleSpec): GuestIdentity {
  return {
    capsuleId: spec.id,
    templateId: spec.templateId,
    defaultUser: spec.defaultUser,
    envs: spec.defaultEnvs,
  };
}

export function newProgress(known: { slot: number | null; envdVersion: string }): BuildProgress {
  return { ...known, vmm: null, guest: null, timings: {} };
}
