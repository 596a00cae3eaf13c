// Capsules made from capsules: templates that hold the memory of one, and forks of a running one.

import { AgentError } from "../errors.ts";
import type { CapsuleSource } from "./build-capsule.ts";
import { snapshotFailure } from "./capsule-errors.ts";
import type { CapsuleView } from "./capsule-view.ts";
import type { Capsules } from "./capsules.ts";
import type { MemoryTemplates, TemplateIds } from "./memory-templates.ts";

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

export interface Fork {
  readonly id: string;
  readonly result: CapsuleView | AgentError;
}

/**
 * Makes a memory template of a running or paused capsule, which goes on as it was. Throws AgentError:
 * not_found, failed_precondition, already_exists (another operation's template), resource_exhausted.
 */
export async function snapshotCapsule(
  parts: { capsules: Capsules; templates: MemoryTemplates },
  request: SnapshotRequest,
): Promise<{ sizeBytes: number; vcpus: number; memoryMib: number }> {
  const { id, operationId } = request;
  const { spec, generation } = await parts.capsules.capture(id, operationId);
  const { vcpus, memoryMib, diskMib, accessToken } = spec;
  const facts = { operationId, savedToken: accessToken, vcpus, memoryMib, diskMib };
  try {
    const sizeBytes = await parts.templates.save(request, { facts, generation });
    return { sizeBytes, vcpus, memoryMib };
  } catch (error) {
    throw snapshotFailure(error);
  }
}

/**
 * Starts the children from the source as it is now, which stands still meanwhile for as long as its
 * memory takes to save. Throws AgentError if none can be tried: not_found, failed_precondition; what
 * becomes of each child is its own.
 */
export async function forkCapsule(capsules: Capsules, request: ForkRequest): Promise<Fork[]> {
  const [first] = request.children;
  if (first === undefined) return [];
  const { spec, generation } = await capsules.capture(request.id, first.operationId);
  const source: CapsuleSource = {
    kind: "memory",
    generation,
    isDiskKept: false,
    savedToken: spec.accessToken,
  };
  const { timeoutSec } = request;
  return await Promise.all(
    request.children.map(async ({ id, accessToken, operationId }) => {
      const child = { ...spec, id, accessToken, operationId, timeoutSec };
      try {
        return { id, result: await capsules.create(child, source) };
      } catch (error) {
        if (error instanceof AgentError) return { id, result: error };
        throw error;
      }
    }),
  );
}
