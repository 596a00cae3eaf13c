// Makes a capsule step by step. Each step is journalled before it acts; what a failure leaves behind
// is for takeDown, which needs no more than the journal knows.

import { mkdir } from "node:fs/promises";
import { AgentError } from "../errors.ts";
import { Guest } from "../guest/guest.ts";
import { BOOT_POLL_MS, BOOT_TIMEOUT_MS } from "../limits.ts";
import type { NetworkSlot } from "../network/network-pool.ts";
import type { VmmProcess } from "../vmm/vmm.ts";
import { capsuleRunDir, consoleLogPath } from "./capsule-paths.ts";
import type { CapsuleSpec } from "./capsule-spec.ts";
import type { HostParts } from "./host-parts.ts";
import { waitForGuest } from "./wait-for-guest.ts";

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
  options: { progress: BuildProgress; signal: AbortSignal },
): Promise<void> {
  const { progress, signal } = options;
  const step = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted();
    parts.journal.beginStep(spec.id, name);
    const startedAt = performance.now();
    try {
      return await run();
    } finally {
      progress.timings[`${name}_ms`] = Math.round(performance.now() - startedAt);
    }
  };

  const slot = await step("network", () => takeSlot(parts, spec, progress));
  parts.failpoints.reach("create.after-network");
  const cgroup = await step("cgroup", () => makeCgroup(parts, spec));
  parts.failpoints.reach("create.after-cgroup");
  const disk = await step("disk", () => makeDisk(parts, spec, slot));
  parts.failpoints.reach("create.after-disk");
  const vmm = await step("vmm", () => startVmm(parts, spec, { slot, cgroup, disk, progress }));
  parts.failpoints.reach("create.after-vmm");
  await step("guest", () => meetGuest(parts, spec, { slot, vmm, progress, signal }));
  parts.failpoints.reach("create.after-guest");
}

/** The connection to the guest of a capsule, new or adopted. */
export function connectGuest(parts: HostParts, spec: CapsuleSpec, slot: NetworkSlot): Guest {
  return new Guest({
    hostIp: slot.hostIp,
    accessToken: spec.accessToken,
    budget: parts.streamBudget,
    observe: (outcome) => parts.metrics.observeGuestCall(outcome),
  });
}

async function takeSlot(
  parts: HostParts,
  spec: CapsuleSpec,
  progress: BuildProgress,
): Promise<NetworkSlot> {
  const slot = await parts.network.acquire();
  progress.slot = slot.index;
  // A crash here loses no slot: the pool removes, at its next opening, those that no row names.
  parts.failpoints.reach("create.after-acquire");
  parts.journal.setSlot(spec.id, slot.index);
  return slot;
}

function makeCgroup(parts: HostParts, spec: CapsuleSpec) {
  return parts.cgroups.create({ capsuleId: spec.id, ...parts.vmm.limits(spec) });
}

async function makeDisk(parts: HostParts, spec: CapsuleSpec, slot: NetworkSlot): Promise<string> {
  const ids = { teamId: spec.templateTeamId, templateId: spec.templateId };
  const base = await parts.images.resolve(ids);
  if (base === null) {
    throw new AgentError("failed_precondition", "The host does not have the template's image", {
      subject: "host",
    });
  }
  const disk = await parts.disks.create({
    capsuleId: spec.id,
    base,
    sizeMib: spec.diskMib,
    uid: slot.vmmUid,
  });
  return disk.path;
}

async function startVmm(
  parts: HostParts,
  spec: CapsuleSpec,
  made: {
    slot: NetworkSlot;
    cgroup: Awaited<ReturnType<typeof makeCgroup>>;
    disk: string;
    progress: BuildProgress;
  },
): Promise<VmmProcess> {
  const { slot, cgroup, disk, progress } = made;
  const runDir = capsuleRunDir(parts.runDir, spec.id);
  await mkdir(runDir, { mode: 0o700 });
  const vmm = await parts.vmm.boot({
    capsuleId: spec.id,
    runDir,
    vcpus: spec.vcpus,
    memoryMib: spec.memoryMib,
    kernel: parts.guestKernel,
    cmdlineExtra: [`wrenn.capsule=${spec.id}`, `wrenn.template=${spec.templateId}`],
    rootDisk: disk,
    netns: slot.netns,
    tap: slot.tap,
    uid: slot.vmmUid,
    consoleLog: consoleLogPath(parts.logsDir, spec.id),
    cgroup,
  });
  progress.vmm = vmm;
  parts.failpoints.reach("create.after-boot");
  const { pid, startTime, keeperPid, keeperStartTime } = vmm;
  parts.journal.setProcess(spec.id, { pid, startTime, keeperPid, keeperStartTime });
  return vmm;
}

async function meetGuest(
  parts: HostParts,
  spec: CapsuleSpec,
  made: { slot: NetworkSlot; vmm: VmmProcess; progress: BuildProgress; signal: AbortSignal },
): Promise<void> {
  const { slot, vmm, progress, signal } = made;
  const guest = connectGuest(parts, spec, slot);
  progress.guest = guest;
  const { accel } = parts.vmm;
  progress.envdVersion = await waitForGuest(guest, {
    vmm,
    timeoutMs: BOOT_TIMEOUT_MS[accel],
    pollMs: BOOT_POLL_MS[accel],
    signal,
  });
  const identity = {
    capsuleId: spec.id,
    templateId: spec.templateId,
    defaultUser: spec.defaultUser,
    envs: spec.defaultEnvs,
  };
  await guest.init(identity, parts.now());
}
