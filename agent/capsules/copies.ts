// Capsules made from capsules: templates that hold the memory of one, and forks of a running one.

import type { AgentError } from "../errors.ts";
import type { Failpoints } from "../failpoints.ts";
import type { CapsuleSource } from "../machine/build-capsule.ts";
import type { HeldGeneration, Snapshots } from "../snapshots/snapshots.ts";
import type { MadeTemplate, MemoryTemplates, TemplateIds } from "../templates/memory-templates.ts";
import { snapshotFailure } from "./capsule-errors.ts";
import type { CapsuleView } from "./capsule-view.ts";
import type { Capsules } from "./capsules.ts";
import { createFailure } from "./create-failure.ts";

const CHILDREN_THAT_SHARE = 2;

export interface SnapshotRequest extends TemplateIds {
  readonly id: string;
  readonly operationId: string;
}

export interface ForkRequest {
  readonly id: string;
  readonly timeoutSec: number;
  readonly children: readonly {
    readonly id: string;
    readonly accessToken: string;
    readonly operationId: string;
  }[];
}

export interface ForkParts {
  readonly capsules: Capsules;
  readonly snapshots: Snapshots;
  readonly failpoints: Failpoints;
}

export interface Fork {
  readonly id: string;
  readonly result: CapsuleView | AgentError;
}

/**
 * Makes a memory template of a running or paused capsule, which goes on as it was; the same operation
 * again answers what it made. Throws AgentError: not_found, failed_precondition, already_exists (another
 * operation's template), aborted (deleted meanwhile), resource_exhausted.
 */
export async function snapshotCapsule(
  parts: { capsules: Capsules; templates: MemoryTemplates },
  request: SnapshotRequest,
): Promise<MadeTemplate> {
  const { id, operationId } = request;
  try {
    return await parts.templates.make(request, operationId, async (save) => {
      const { spec, held } = await parts.capsules.capture(id, operationId);
      await using _held = held;
      const { vcpus, memoryMib, diskMib, accessToken } = spec;
      const facts = { operationId, savedToken: accessToken, vcpus, memoryMib, diskMib };
      await save({ facts, generation: held.generation });
    });
  } catch (error) {
    throw snapshotFailure(error);
  }
}

/**
 * Starts the children from the source as it is now, which stands still for as long as saving takes
 * what it wrote while the rest was saved. Throws AgentError if none can be tried: not_found,
 * failed_precondition; what becomes of each child is its own.
 */
export async function forkCapsule(
  { capsules, snapshots, failpoints }: ForkParts,
  request: ForkRequest,
): Promise<Fork[]> {
  const [first] = request.children;
  if (first === undefined) return [];
  const { spec, held } = await capsules.capture(request.id, first.operationId);
  // A source that is paused again and again must not take from the children what they start from.
  await using _held = held;
  failpoints.reach("fork.after-hold");
  await shareMemory(snapshots, { held, request });
  const source: CapsuleSource = {
    kind: "memory",
    generation: held.generation,
    isDiskKept: false,
    savedToken: spec.accessToken,
  };
  const { timeoutSec } = request;
  const forks = await Promise.all(
    request.children.map(async ({ id, accessToken, operationId }) => {
      const child = { ...spec, id, accessToken, operationId, timeoutSec };
      try {
        return { id, result: await capsules.create(child, source) };
      } catch (error) {
        return { id, result: createFailure(error) };
      }
    }),
  );
  failpoints.reach("fork.after-children");
  return forks;
}

/**
 * Children that map one file have in common what none of them writes to; a pager brings each its own.
 * Making the file takes as long as one restore does, so an only child does without.
 */
async function shareMemory(
  snapshots: Snapshots,
  { held, request }: { held: HeldGeneration; request: ForkRequest },
): Promise<void> {
  if (request.children.length < CHILDREN_THAT_SHARE) return;
  // On a full disk they start without; what is damaged each of them finds by itself.
  await snapshots.prepareMap(held.generation, "beside").catch(() => {});
}
