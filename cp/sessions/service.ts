// Sessions of people: a browser has one by its cookie, a program by its token.
//
// A session is over after a day, or when nobody used it for six hours, by the database's clock. To
// end one is to delete its row: that is seen by the next request, and by what is open.

import type { Id } from "../../proto/ids.ts";
import { accountEntry, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { CsrfTokens } from "../auth/csrf-tokens.ts";
import type { Db, Queryable } from "../db/client.ts";
import { randomHex, sha256Hex } from "../digest.ts";
import {
  deleteEndedSessions,
  deleteOldestSessions,
  deleteSession,
  deleteSessionsOf,
  insertSession,
  listSessions,
} from "./queries.ts";
import type { NewSession, SessionClient, SessionRow } from "./session.ts";

const LIFE_SEC = 24 * 3600;
const SECRET_BYTES = 32;
const USER_AGENT_LENGTH_MAX = 255;
/** A program that logs in for each of its calls ends its own oldest sessions. */
export const SESSIONS_PER_USER_MAX = 200;

export class Sessions {
  readonly #db: Db;
  readonly #csrfTokens: CsrfTokens;

  constructor(deps: { db: Db; csrfTokens: CsrfTokens }) {
    this.#db = deps.db;
    this.#csrfTokens = deps.csrfTokens;
  }

  /** A new session in the caller's transaction, which has locked the user's row and looked at it. */
  async begin(
    q: Queryable,
    options: { userId: Id<"user">; teamId: Id<"team">; client: SessionClient },
  ): Promise<NewSession> {
    const { userId, teamId, client } = options;
    const secret = randomHex(SECRET_BYTES);
    const id = sha256Hex(secret);
    await deleteOldestSessions(q, { userId, kept: SESSIONS_PER_USER_MAX - 1 });
    await insertSession(q, {
      ...{ id, userId, teamId, lifeSec: LIFE_SEC },
      userAgent: client.userAgent.slice(0, USER_AGENT_LENGTH_MAX),
      ipAddress: client.address,
    });
    return { id, secret, csrfToken: this.#csrfTokens.of(id) };
  }

  /** Those of a user that live, the one used last first. */
  async list(userId: Id<"user">): Promise<SessionRow[]> {
    return await listSessions(this.#db, userId);
  }

  /** A person ends a session of theirs, if it is one. */
  async endBy(by: UserCaller, id: string): Promise<void> {
    await this.#db.transaction(async (tx) => {
      if (!(await this.end({ id, userId: by.id }, tx))) return;
      const action = id === by.grant.id ? "logout" : "session_end";
      await recordAudit(tx, accountEntry(by, action));
    });
  }

  /** A person ends every session of theirs. */
  async endAllBy(by: UserCaller): Promise<void> {
    await this.#db.transaction(async (tx) => {
      await this.endAll(by.id, tx);
      await recordAudit(tx, accountEntry(by, "logout_all"));
    });
  }

  /** False when the user has no such session, maybe any more. */
  async end(session: { id: string; userId: Id<"user"> }, q: Queryable): Promise<boolean> {
    return await deleteSession(q, session);
  }

  /** Whether the user has that session, and it goes on. */
  async isThere(
    session: { id: string; userId: Id<"user"> },
    q: Queryable = this.#db,
  ): Promise<boolean> {
    return (await listSessions(q, session.userId)).some(({ id }) => id === session.id);
  }

  /** Ends every session of a user. */
  async endAll(userId: Id<"user">, q: Queryable): Promise<void> {
    await deleteSessionsOf(q, userId);
  }

  /** Forgets at most `limit` of those that are over; how many it were. */
  async expire(limit: number): Promise<number> {
    return await deleteEndedSessions(this.#db, limit);
  }
}
