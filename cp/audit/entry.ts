// Who changed what, as it is told and as it is kept.

import type { Id } from "../../proto/ids.ts";
import type { AUDIT_SCOPES, AUDIT_STATUSES, auditLogs } from "../db/tables.ts";

/** Who made something happen. Ids in their external form; the platform itself has none. */
export interface Actor {
  readonly type: "user" | "api_key" | "system";
  readonly id: string;
  /** A user's mail address, a key's label. */
  readonly name: string;
}

/** Of the platform's own team are what concerns accounts and hosts of everybody. */
export interface AuditEntry {
  readonly teamId: Id<"team">;
  readonly actor: Actor;
  readonly resource: { readonly type: string; readonly id: string | null };
  readonly action: string;
  readonly scope?: (typeof AUDIT_SCOPES)[number];
  readonly status?: (typeof AUDIT_STATUSES)[number];
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Which entries somebody asks for. */
export interface AuditFilter {
  readonly teamId: Id<"team">;
  readonly scopes: readonly (typeof AUDIT_SCOPES)[number][];
  /** Empty: all. */
  readonly resourceTypes: readonly string[];
  readonly actions: readonly string[];
}

export type AuditRow = typeof auditLogs.$inferSelect;

export interface AuditPage {
  readonly rows: AuditRow[];
  /** Whether there are older ones. */
  readonly hasMore: boolean;
}
