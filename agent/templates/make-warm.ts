// Boots a guest that nobody asked for, lets it run a first command, and keeps it as a warm snapshot.

import { setTimeout as sleep } from "node:timers/promises";
import { encodeId, newId } from "../../proto/ids.ts";
import { exec } from "../guest/exec.ts";
import type { Guest } from "../guest/guest.ts";
import { badAnswer, readText } from "../guest/guest-http.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { GUEST_CALL_TIMEOUT_MS, REMOVAL_RETRY_MS, SMALL_ANSWER_BYTES_MAX } from "../limits.ts";
import { buildCapsule, identityOf, newProgress } from "../machine/build-capsule.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { liveCapsule } from "../machine/live-capsule.ts";
import { type CapsuleRemains, takeDown } from "../machine/take-down.ts";

/** What runs more than once takes other ways through the guest agent's engine than what runs first. */
const REHEARSALS = 3;
/** For what a guest agent does each second. */
const IDLE_MS = 1_200;

/**
 * Makes the snapshot for creates like that spec. The guest is in the journal like a create under way, so
 * that a crash leaves nothing of it. Throws what a create throws, and SnapshotError.
 */
export async function makeWarm(
  parts: HostParts,
  like: CapsuleSpec,
  options: { directory: string; signal: AbortSignal },
): Promise<void> {
  const { directory, signal } = options;
  const { journal, failpoints, log, snapshots } = parts;
  const startedAt = performance.now();
  const spec = namelessSpec(like);
  const progress = newProgress({ slot: null, envdVersion: "" });
  journal.claim(spec, parts.now());
  failpoints.reach("warm.after-claim");
  try {
    const source = { kind: "nameless" } as const;
    await buildCapsule(parts, spec, { verb: "warm", source, progress, signal });
    if (progress.guest === null) throw new Error(`unreachable: ${spec.id} has no guest`);
    await rehearse(parts, spec, { guest: progress.guest, signal });
    const live = liveCapsule(parts, spec, progress.vmm);
    await snapshots.pause(live);
    failpoints.reach("warm.after-stop");
    const generation = await snapshots.seal(live);
    failpoints.reach("warm.after-seal");
    signal.throwIfAborted();
    const published = await snapshots.publish({ from: generation, directory });
    failpoints.reach("warm.after-publish");
    await snapshots.prepareMap(published);
  } finally {
    progress.guest?.close();
    await remove(parts, { id: spec.id, slot: progress.slot, vmm: progress.vmm }, signal);
  }
  const total_ms = Math.round(performance.now() - startedAt);
  log.info("warm.made", { directory, ...progress.timings, total_ms });
}

/**
 * Nobody else knows of the guest, so what cannot be removed is tried again until the agent ends; the next one
 * finds it in the journal. Throws the last failure then.
 */
async function remove(
  parts: HostParts,
  remains: CapsuleRemains,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      return await takeDown(parts, remains, () => parts.journal.forget(remains.id));
    } catch (error) {
      parts.log.error("warm.stuck", { capsule: remains.id, error });
      await sleep(REMOVAL_RETRY_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) throw error;
    }
  }
}

/**
 * Does what every guest restored from this one does first: is told who it is, and runs a command. Their code
 * has run then and lies in memory, compiled; names, entropy and the token are replaced by each restore's own.
 * The token of the rehearsal is taken away again.
 */
async function rehearse(
  parts: HostParts,
  spec: CapsuleSpec,
  { guest, signal }: { guest: Guest; signal: AbortSignal },
): Promise<void> {
  const run = async (script: string) => {
    const command = { cmd: "/bin/sh", args: ["-c", script], envs: {}, cwd: "", user: "" };
    await exec(guest, command, { timeoutMs: GUEST_CALL_TIMEOUT_MS, caller: signal });
  };
  for (let i = 0; i < REHEARSALS; i += 1) {
    signal.throwIfAborted();
    await guest.init(identityOf(spec), parts.now(), { savedToken: null });
    await run("true");
  }
  // What the guest agent does each second by itself, its garbage collector first of all, it does once more.
  await sleep(IDLE_MS, undefined, { signal });
  // Or each restored guest would write the same pages out to its disk.
  await run("sync");
  await forget(guest, signal);
}

/** Afterwards the guest asks for no token. */
async function forget(guest: Guest, caller: AbortSignal): Promise<void> {
  const response = await guest.http.send({
    method: "POST",
    path: "/init",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ accessToken: "" }),
    signal: guest.signal(GUEST_CALL_TIMEOUT_MS, caller),
  });
  const text = await readText(response, SMALL_ANSWER_BYTES_MAX);
  if (response.status !== 204) throw badAnswer(`status ${response.status} for /init`, text);
}

function namelessSpec(like: CapsuleSpec): CapsuleSpec {
  const { vcpus, memoryMib, diskMib, templateId, templateTeamId } = like;
  return {
    ...{ vcpus, memoryMib, diskMib, templateId, templateTeamId },
    id: encodeId("capsule", newId("capsule")),
    operationId: crypto.randomUUID(),
    timeoutSec: 0,
    teamId: templateTeamId,
    defaultUser: "",
    defaultEnvs: {},
    // For the rehearsal: nobody but the agent reaches this guest.
    accessToken: crypto.randomUUID(),
  };
}
