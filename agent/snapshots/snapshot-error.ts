// What can go wrong with a snapshot, as those who pause and resume capsules need to tell it apart.

import { hasCode } from "../native/syscall-error.ts";

/**
 * no_space: the disk is full; nothing was lost. damaged: torn or changed files. not_found: there is
 * no such snapshot. incompatible: made by another VMM, processor or guest kernel. exists: the target
 * is taken. abandoned: the capsule was resumed meanwhile. not_paused: there is nothing to seal.
 * vmm_lost: the VMM has ended. failed: anything else; `cause` says what.
 */
export type SnapshotErrorCode =
  | "no_space"
  | "damaged"
  | "not_found"
  | "incompatible"
  | "exists"
  | "abandoned"
  | "not_paused"
  | "vmm_lost"
  | "failed";

/** The message may name host paths: it is for the log. */
export class SnapshotError extends Error {
  override readonly name = "SnapshotError";
  readonly code: SnapshotErrorCode;

  constructor(code: SnapshotErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** It is whole, and a host like the one that made it can use it. */
export class IncompatibleError extends SnapshotError {
  /** What it was made with and what is here, as far as they differ; names no paths. */
  readonly difference: string;

  constructor(directory: string, difference: string) {
    super("incompatible", `${directory}: ${difference}`);
    this.difference = difference;
  }
}

/** Any failure as a SnapshotError that says what was being done. */
export function toSnapshotError(what: string, cause: unknown): SnapshotError {
  if (cause instanceof SnapshotError) return cause;
  return new SnapshotError(codeOf(cause), `${what}: ${String(cause)}`, { cause });
}

function codeOf(cause: unknown): SnapshotErrorCode {
  if (hasCode(cause, "ENOSPC", "EDQUOT")) return "no_space";
  if (hasCode(cause, "EBADMSG", "EIO")) return "damaged";
  if (hasCode(cause, "ESRCH")) return "vmm_lost";
  return "failed";
}
