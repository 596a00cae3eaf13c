// A create from its place in the queue to the running capsule, or back to nothing.

import { AgentError, unknownTemplate } from "../errors.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { CONSOLE_TAIL_BYTES } from "../limits.ts";
import { buildCapsule, type CapsuleSource, newProgress } from "../machine/build-capsule.ts";
import { consoleLogPath } from "../machine/capsule-paths.ts";
import type { HostParts } from "../machine/host-parts.ts";
import { takeDown } from "../machine/take-down.ts";
import type { Semaphore } from "../semaphore.ts";
import type { MemoryTemplates } from "../templates/memory-templates.ts";
import type { WarmSnapshots } from "../templates/warm-snapshots.ts";
import type { Capsule } from "./capsule.ts";
import { isGenerationUnusable, snapshotFailure } from "./capsule-errors.ts";
import type { CapsuleStates, Starting } from "./states.ts";

/** A create failed and what it had made could not be removed: the row stays in the journal. */
export class StuckCreate extends Error {
  override readonly name = "StuckCreate";
  /** What the create failed with. */
  readonly failure: AgentError;

  constructor(failure: AgentError, cause: unknown) {
    super("A failed create could not be undone", { cause });
    this.failure = failure;
  }
}

export interface CreateOptions {
  readonly states: CapsuleStates;
  /** That the capsule is in. */
  readonly state: Starting;
  readonly boots: Semaphore;
  readonly warm: WarmSnapshots;
  readonly templates: MemoryTemplates;
  /** Null: what its template is. */
  readonly source: CapsuleSource | null;
}

/**
 * Builds the capsule and journals it as running. On failure everything is removed, the outcome is
 * journalled and thrown as an AgentError; or StuckCreate if removing failed.
 */
export async function createCapsule(
  parts: HostParts,
  capsule: Capsule,
  options: CreateOptions,
): Promise<void> {
  const { states, state } = options;
  const { signal } = state.operation;
  const startedAt = performance.now();
  const sinceStart = () => Math.round(performance.now() - startedAt);
  let origin = "";
  try {
    using _permit = await options.boots.acquire(signal, capsule.spec.teamId);
    capsule.progress.timings.queued_ms = sinceStart();
    origin = await build(parts, capsule, options);
    // Nothing is awaited from here on: a destroy comes before this line or finds the capsule running.
    signal.throwIfAborted();
    states.move(capsule, { from: state, to: { status: "running", resumed: null } });
  } catch (error) {
    // What a part says when it is cut off is not the reason.
    await undo(parts, capsule, { error, reason: signal.aborted ? signal.reason : error });
  }
  const timings = { ...capsule.progress.timings, total_ms: sinceStart() };
  parts.log.info("capsule.created", { capsule: capsule.spec.id, source: origin, ...timings });
  parts.metrics.observeCreated(timings);
  parts.failpoints.reach("create.after-running");
}

async function build(
  parts: HostParts,
  capsule: Capsule,
  { source, state, warm, templates }: CreateOptions,
): Promise<"memory" | "warm" | "image"> {
  const { signal } = state.operation;
  const memory = source ?? (await templateSource(capsule, templates));
  if (memory === null && (await buildWarm(parts, capsule, { warm, signal }))) return "warm";
  const { spec, progress } = capsule;
  const from = memory ?? ({ kind: "image" } as const);
  try {
    await buildCapsule(parts, spec, { verb: "create", source: from, progress, signal });
  } catch (error) {
    // Its files may have gone in the middle: each of them is missed in another way.
    const isOfTemplate = source === null && memory !== null && !signal.aborted;
    throw isOfTemplate && (await isGone(templates, spec)) ? unknownTemplate(error) : error;
  }
  if (memory !== null) return "memory";
  warm.makeLater(spec);
  return "image";
}

/** A template that holds memory also says how many processors and how much memory there are. */
async function templateSource(
  capsule: Capsule,
  templates: MemoryTemplates,
): Promise<CapsuleSource | null> {
  const { templateTeamId: teamId, templateId, diskMib } = capsule.spec;
  const template = await templates.find({ teamId, templateId });
  if (template === null) return null;
  const { generation, facts } = template;
  const { vcpus, memoryMib, savedToken } = facts;
  const shape = { vcpus, memoryMib, diskMib: Math.max(diskMib, facts.diskMib) };
  capsule.spec = { ...capsule.spec, ...shape };
  return { kind: "memory", generation, isDiskKept: false, savedToken };
}

async function isGone(templates: MemoryTemplates, spec: CapsuleSpec): Promise<boolean> {
  const { templateTeamId: teamId, templateId } = spec;
  // One that is there and damaged is another matter.
  return (await templates.find({ teamId, templateId }).catch(() => undefined)) === null;
}

/** Whether a warm snapshot became the capsule. If not, nothing of it is left, as before. */
async function buildWarm(
  parts: HostParts,
  capsule: Capsule,
  { warm, signal }: { warm: WarmSnapshots; signal: AbortSignal },
): Promise<boolean> {
  const { spec, progress } = capsule;
  const generation = await warm.find(spec);
  if (generation === null) return false;
  try {
    const source = { kind: "memory", generation, isDiskKept: false, savedToken: null } as const;
    await buildCapsule(parts, spec, { verb: "create", source, progress, signal });
    return true;
  } catch (error) {
    // A boot would not know that user either.
    if (signal.aborted || (error instanceof AgentError && error.code === "invalid_argument")) {
      throw error;
    }
    parts.log.warn("warm.fallback", { capsule: spec.id, error, ...progress.timings });
    warm.counts.fallbacks += 1;
    progress.guest?.close();
    const { slot, vmm } = progress;
    await takeDown(parts, { id: spec.id, slot, vmm }, () => parts.journal.setSlot(spec.id, null));
    capsule.progress = newProgress({ slot: null, envdVersion: "" });
    // A guest that does not come up would not for the next create either, which would wait for it, too.
    const isGuest = error instanceof AgentError && error.subject === "guest";
    if (isGuest || isGenerationUnusable(error)) await warm.setAside(generation.directory, error);
    return false;
  }
}

async function undo(
  parts: HostParts,
  capsule: Capsule,
  { error, reason }: { error: unknown; reason: unknown },
): Promise<never> {
  const { spec, progress } = capsule;
  const failure = snapshotFailure(reason);
  parts.metrics.observeCreateFailed(failure.code);
  parts.log.warn("capsule.create-failed", {
    capsule: spec.id,
    error,
    ...progress.timings,
    console: await consoleTail(consoleLogPath(parts.logsDir, spec.id)),
  });
  progress.guest?.close();
  try {
    const { slot, vmm } = progress;
    const forget = () => parts.journal.finishCreate(spec, failure, parts.now());
    await takeDown(parts, { id: spec.id, slot, vmm }, forget);
  } catch (cause) {
    throw new StuckCreate(failure, cause);
  }
  throw failure;
}

async function consoleTail(path: string): Promise<string> {
  const file = Bun.file(path);
  if (!(await file.exists())) return "";
  return file.slice(Math.max(0, file.size - CONSOLE_TAIL_BYTES)).text();
}
