// A create from its place in the queue to the running capsule, or back to nothing.

import { CONSOLE_TAIL_BYTES } from "../limits.ts";
import { buildCapsule } from "./build-capsule.ts";
import type { Capsule } from "./capsule.ts";
import { consoleLogPath } from "./capsule-paths.ts";
import { createFailure } from "./create-failure.ts";
import type { HostParts } from "./host-parts.ts";
import { takeDown } from "./take-down.ts";
import type { TurnQueue } from "./turn-queue.ts";

/** A create failed and what it had made could not be removed: the row stays in the journal. */
export class StuckCreate extends Error {
  override readonly name = "StuckCreate";
}

/**
 * Builds the capsule and journals it as running. On failure everything is removed, the outcome is
 * journalled and thrown as an AgentError; or StuckCreate if removing failed.
 */
export async function createCapsule(
  parts: HostParts,
  capsule: Capsule,
  boots: TurnQueue,
): Promise<void> {
  const { spec, progress } = capsule;
  const { signal } = capsule.abort;
  const startedAt = performance.now();
  const sinceStart = () => Math.round(performance.now() - startedAt);
  try {
    using _place = await boots.enter(signal);
    progress.timings.queued_ms = sinceStart();
    await buildCapsule(parts, spec, { progress, signal });
    // Nothing is awaited from here on: a destroy comes before this line or finds the capsule running.
    signal.throwIfAborted();
    parts.journal.markRunning(spec.id, progress.envdVersion);
  } catch (error) {
    await undo(parts, capsule, error);
  }
  const timings = { ...progress.timings, total_ms: sinceStart() };
  parts.log.info("capsule.created", { capsule: spec.id, ...timings });
  parts.metrics.observeCreated(timings);
  parts.failpoints.reach("create.after-running");
}

async function undo(parts: HostParts, capsule: Capsule, error: unknown): Promise<never> {
  const { spec, progress } = capsule;
  // What a part says when it is cut off is not the reason.
  const { signal } = capsule.abort;
  const failure = createFailure(signal.aborted ? signal.reason : error);
  parts.metrics.observeCreateFailed(failure.code);
  parts.log.warn("capsule.create-failed", {
    capsule: spec.id,
    error,
    ...progress.timings,
    console: await consoleTail(consoleLogPath(parts.logsDir, spec.id)),
  });
  progress.guest?.close();
  try {
    await takeDown(parts, { id: spec.id, slot: progress.slot, vmm: progress.vmm });
  } catch (cause) {
    throw new StuckCreate("A failed create could not be undone", { cause });
  }
  parts.journal.finishCreate(spec, failure, parts.now());
  throw failure;
}

async function consoleTail(path: string): Promise<string> {
  const file = Bun.file(path);
  if (!(await file.exists())) return "";
  return file.slice(Math.max(0, file.size - CONSOLE_TAIL_BYTES)).text();
}
