// What became of a capsule when something that was asked of its VMM failed.

import type { LiveCapsule } from "./live.ts";
import { isFull } from "./pause-space.ts";
import { SnapshotError, toSnapshotError } from "./snapshot-error.ts";

/** A VMM that ended is known as such once its keeper has ended, too. */
const EXIT_NOTICE_MS = 100;

/** After a failure that may have come from the VMM's end, or from a want of room on the disk of `dir`. */
export async function explainFailure(
  { capsuleId, process }: LiveCapsule,
  { what, error, dir }: { what: string; error: unknown; dir: string },
): Promise<SnapshotError> {
  const exit = await Promise.race([process.exited, Bun.sleep(EXIT_NOTICE_MS)]);
  const message = `Cannot ${what} ${capsuleId}`;
  if (exit !== undefined) {
    const lost = `${message}: its VMM ended: ${exit.detail}`;
    return new SnapshotError("vmm_lost", lost, { cause: error });
  }
  const failure = toSnapshotError(message, error);
  // A VMM has words of its own for it.
  if (failure.code !== "failed" || !(await isFull(dir))) return failure;
  return new SnapshotError("no_space", failure.message, { cause: error });
}
