// What a resume may start from, best first. The disk is never older than a memory: it is what the guest went on
// writing. So a memory is the newest only as long as its disk is the capsule's own, untouched but for resumes
// that nobody was told of; a memory that is older is taken only if it is asked for, and the disk is set aside.

import { AgentError } from "../errors.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import type { PauseRecord } from "../journal/pause-record.ts";
import type { CapsuleSource } from "../machine/build-capsule.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { IncompatibleError } from "../snapshots/snapshot-error.ts";
import { noGeneration } from "./capsule-errors.ts";

/** Null: whatever is newest. */
export type ResumeSource = "memory" | "disk" | null;

export interface ResumeParts {
  readonly disks: Pick<HostParts["disks"], "list" | "canSetAside">;
  readonly snapshots: Pick<HostParts["snapshots"], "listOf" | "load">;
  readonly log: Pick<HostParts["log"], "error">;
}
type Pause = Pick<PauseRecord, "generation" | "diskGeneration" | "durableAtMs">;

/**
 * What is not wanted is not loaded. Throws AgentError failed_precondition: nothing is left of what is asked for, what
 * there is only another host can use, or too much was set aside for it already. `pause`: null of one that was not
 * paused.
 */
export async function* resumeSources(
  { disks, snapshots, log }: ResumeParts,
  spec: Pick<CapsuleSpec, "id" | "accessToken">,
  { from, pause }: { from: ResumeSource; pause: Pause | null },
): AsyncGenerator<CapsuleSource, void, void> {
  const { id } = spec;
  const hasDisk = (await disks.list()).includes(id);
  const newest = pause?.durableAtMs ? pause.generation : null;
  let refused: unknown;
  for (const { number, directory } of from === "disk" ? [] : await snapshots.listOf(id)) {
    if (from === null && hasDisk && number !== newest) continue;
    const isDiskKept = hasDisk && number === pause?.diskGeneration;
    if (from === "memory" && hasDisk && !isDiskKept && !(await disks.canSetAside(id))) {
      throw tooMuchAside();
    }
    const generation = await snapshots.load(directory).catch((error: unknown) => {
      log.error("capsule.refused", { capsule: id, error });
      refused = error;
      return null;
    });
    if (generation === null) continue;
    yield { kind: "memory", generation, isDiskKept, savedToken: spec.accessToken };
  }
  // It is whole: a host that is as it was can take it. The disk goes on without it only if somebody says so.
  if (from === null && refused instanceof IncompatibleError) throw noGeneration(refused);
  if (from !== "memory" && hasDisk) yield { kind: "disk" };
  else if (hasDisk) throw noGeneration(refused);
  else throw nothingLeft(from, refused);
}

function tooMuchAside(): AgentError {
  const message =
    "Too many disks of the capsule are set aside for that memory; they go as later pauses take its place";
  return new AgentError("failed_precondition", message, { subject: "generation" });
}

function nothingLeft(from: ResumeSource, cause: unknown): AgentError {
  const what = from === "disk" ? "No disk" : "No whole memory and no disk";
  const message = `${what} of the capsule is left`;
  return new AgentError("failed_precondition", message, { subject: "generation", cause });
}
