// Reading the record of who changed what.

import type { Id } from "../../proto/ids.ts";
import type { Authenticator, MemberCaller } from "../auth/authenticator.ts";
import type { Db } from "../db/client.ts";
import { AppError } from "../errors.ts";
import type { AuditFilter, AuditPage, AuditRow } from "./entry.ts";
import {
  deleteOldAuditLogs,
  findPosition,
  lastPosition,
  placeAuditLogs,
  selectAuditLogs,
  selectAuditLogsAfter,
} from "./queries.ts";

/** What an export holds of the log at a time, whatever its length. */
export const EXPORT_BATCH = 500;
/** Exports of one team under way at one control plane: each may go on for as long as its client takes. */
const EXPORTS_PER_TEAM_MAX = 4;

export interface AuditDeps {
  readonly db: Db;
  readonly authenticator: Authenticator;
  readonly retentionDays: number;
}

export class Audit {
  readonly #deps: AuditDeps;
  readonly #exports = new Map<Id<"team">, number>();

  constructor(deps: AuditDeps) {
    this.#deps = deps;
  }

  /**
   * Entries that come before the given one, newest first. A walk from page to page meets each entry that there was
   * when it began once, whatever is written meanwhile. Throws `invalid_request` for an entry that is unknown,
   * unless its time is given, too.
   */
  async list(
    filter: AuditFilter,
    page: { before: Date | undefined; beforeId: Id<"auditLog"> | undefined; limit: number },
  ): Promise<AuditPage> {
    const { db } = this.#deps;
    await placeAuditLogs(db);
    const { before, beforeId, limit } = page;
    const { teamId } = filter;
    const position = beforeId && (await findPosition(db, { teamId, id: beforeId }));
    if (beforeId !== undefined && position === undefined && before === undefined) {
      throw new AppError("invalid_request", "before_id: is no entry of this log");
    }
    const from = position === undefined ? { ...(before && { before }) } : { position };
    const rows = await selectAuditLogs(db, { ...filter, ...from, limit: limit + 1 });
    return { rows: rows.slice(0, limit), hasMore: rows.length > limit };
  }

  /**
   * All entries that there are by now, oldest first, in batches that are read as they are taken. Ends with
   * `forbidden` or `unauthorized` when the caller may not see them any more, or not all. Throws `rate_limited`.
   */
  async *export(filter: AuditFilter, by: MemberCaller): AsyncGenerator<AuditRow[]> {
    using _ = this.#admit(by.teamId);
    const { db, authenticator } = this.#deps;
    await placeAuditLogs(db);
    const upTo = await lastPosition(db);
    let after = 0;
    while (true) {
      const rows = await selectAuditLogsAfter(db, {
        ...filter,
        after,
        upTo,
        limit: EXPORT_BATCH,
      });
      if (rows.length > 0) yield rows;
      if (rows.length < EXPORT_BATCH) return;
      after = rows.at(-1)?.position ?? upTo;
      const now = await authenticator.memberByGrant(by.grant);
      if (now.role === "member" && by.role !== "member") throw noManager();
    }
  }

  /** One pass that places what no reader has asked for. */
  async place(): Promise<number> {
    return await placeAuditLogs(this.#deps.db);
  }

  /** Forgets at most `limit` of what is past its time; how many it were. */
  async prune(limit: number): Promise<number> {
    const { db, retentionDays: days } = this.#deps;
    return await deleteOldAuditLogs(db, { days, limit });
  }

  #admit(teamId: Id<"team">): Disposable {
    const underWay = this.#exports.get(teamId) ?? 0;
    if (underWay >= EXPORTS_PER_TEAM_MAX) {
      throw new AppError("rate_limited", "the team has as many exports under way as it may");
    }
    this.#exports.set(teamId, underWay + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#exports.get(teamId) ?? 1) - 1;
        if (left > 0) this.#exports.set(teamId, left);
        else this.#exports.delete(teamId);
      },
    };
  }
}

function noManager(): AppError {
  return new AppError("forbidden", "you don't manage this team any more: ask again");
}

/** What a member sees of their team's log: those who manage it everything. */
export function filterOf(
  { teamId, role }: MemberCaller,
  which: Pick<AuditFilter, "resourceTypes" | "actions">,
): AuditFilter {
  const scopes = role === "member" ? (["team"] as const) : (["team", "admin"] as const);
  return { teamId, scopes, ...which };
}
