// A capsule as the control plane knows it.

import type { Id } from "../../proto/ids.ts";
import type { capsules } from "../db/tables.ts";
import type { AppError } from "../errors.ts";

export type CapsuleRow = typeof capsules.$inferSelect;

export interface CapsuleOfTeam {
  readonly id: Id<"capsule">;
  readonly teamId: Id<"team">;
}

/** What is asked of a capsule that is to be made; what is left out is the platform's choice. */
export interface NewCapsule {
  /** Name of a template of the team or of the platform, or a slug, a slash and a name. */
  readonly template?: string | undefined;
  readonly vcpus?: number | undefined;
  readonly memoryMb?: number | undefined;
  /** How long it may be inactive; 0 any time. */
  readonly timeoutSec: number;
  readonly privatePorts: boolean;
  /** What its owner calls it by. */
  readonly labels: Labels;
}

export type Labels = Readonly<Record<string, string>>;

/** A capsule that goes on from where another one is, or why there is none. */
export type ForkResult = { readonly capsule: CapsuleRow } | { readonly error: AppError };
