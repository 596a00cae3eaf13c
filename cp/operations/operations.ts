// Whether the control plane that began an operation is still there to end it.
//
// Each control plane holds one PostgreSQL advisory lock for its lifetime, and the first 32 bits of
// every operation id it gives out are the number of that lock. When the process dies, however it
// dies, its connection closes and PostgreSQL frees the lock: whoever looks at a row of an operation
// under way knows at once, without clocks or heartbeats, that nobody will finish it. A lost
// connection costs the number too: the process takes a new one, and what it had begun counts as
// abandoned. That is safe, for every move names the operation it belongs to.

import { type SQL, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import { capsules } from "../db/tables.ts";
import { randomHex } from "../digest.ts";
import { LOCK_CLASS, LockSession } from "./lock-session.ts";

/** Pause before a lost session is opened again. */
const REOPEN_MS = 250;

export class Operations implements AsyncDisposable {
  readonly #url: string;
  readonly #closing = Promise.withResolvers<void>();
  readonly #keeper: Promise<void>;
  #isClosing = false;
  #session: LockSession;

  private constructor(url: string, session: LockSession) {
    this.#url = url;
    this.#session = session;
    this.#keeper = this.#keep();
  }

  /** Takes a number of its own; throws when the database cannot be reached. */
  static async open(url: string): Promise<Operations> {
    return new Operations(url, await LockSession.open(url));
  }

  /** The id of an operation that this process begins: a UUID of version 8 (RFC 9562, 5.8). */
  next(): string {
    const random = randomHex(12);
    return [
      this.#session.number,
      random.slice(0, 4),
      `8${random.slice(4, 7)}`,
      `8${random.slice(7, 10)}`,
      random.slice(10, 22),
    ].join("-");
  }

  /** Gives the number back: what this process has not finished counts as abandoned. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    this.#closing.resolve();
    await this.#keeper;
    await this.#session.end(1);
  }

  async #keep(): Promise<void> {
    while (!this.#isClosing) {
      await Promise.race([this.#session.lost, this.#closing.promise]);
      if (this.#isClosing) return;
      await this.#session.end(0);
      await this.#reopen();
    }
  }

  async #reopen(): Promise<void> {
    while (!this.#isClosing) {
      try {
        this.#session = await LockSession.open(this.#url);
        return;
      } catch {
        // The database is away, as every request says; the next try may find it.
        await Promise.race([Bun.sleep(REOPEN_MS), this.#closing.promise]);
      }
    }
  }
}

/** SQL that is true for an operation, a capsule's if not told, whose control plane holds no lock. */
export function isAbandoned(operationId: PgColumn = capsules.operationId): SQL<boolean> {
  // pg_locks writes a lock of two int4 as unsigned classid and objid, with objsubid 2.
  return sql<boolean>`not exists (
    select from pg_locks
    where locktype = 'advisory' and objsubid = 2
      and database = (select oid from pg_database where datname = current_database())
      and classid::bigint = ${LOCK_CLASS}
      and objid::bigint = ('x' || substr(${operationId}::text, 1, 8))::bit(32)::bigint
  )`;
}
