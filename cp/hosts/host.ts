// A host as the control plane knows it.

import type { Id } from "../../proto/ids.ts";
import type { hosts } from "../db/tables.ts";

export type HostRow = typeof hosts.$inferSelect;

/** A host that is announced. */
export interface NewHost extends Pick<HostRow, "type" | "provider" | "availabilityZone"> {
  /** Whose it is to be; null for nobody's. */
  readonly teamId: Id<"team"> | null;
}

/** What a host's agent says of its machine, and where it listens. */
export type HostFacts = Pick<HostRow, "arch" | "cpuCores" | "memoryMb" | "diskGb" | "address">;
