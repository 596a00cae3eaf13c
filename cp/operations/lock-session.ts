// One connection that holds an advisory lock for as long as it lives.
//
// It has nothing to ask, so it asks from time to time whether the server is there: else a connection that died
// unheard would leave its holder with a lock that others may have by now.

import postgres, { type Sql } from "postgres";
import { AnswerWatch } from "../db/answer-watch.ts";
import { randomHex } from "../digest.ts";

/** Any constant: it keeps these locks apart from other advisory locks of two 32-bit numbers. */
export const LOCK_CLASS = 1_467_442;
const CONNECT_TIMEOUT_SEC = 5;
/** Between two looks whether the server is there. */
const LOOK_EVERY_MS = 2000;
/** A look that takes longer, at a server that answers others, is over a connection that is dead. */
const LOOK_MS_MAX = 5000;

export class LockSession {
  /** Of the lock: 32 bits in hexadecimal. */
  readonly number: string;
  readonly #sql: Sql;
  readonly #watch: AnswerWatch;
  readonly #lost: PromiseWithResolvers<void>;
  readonly #timer: ReturnType<typeof setInterval>;
  #isLooking = false;

  private constructor(parts: {
    number: string;
    sql: Sql;
    watch: AnswerWatch;
    lost: PromiseWithResolvers<void>;
  }) {
    this.number = parts.number;
    this.#sql = parts.sql;
    this.#watch = parts.watch;
    this.#lost = parts.lost;
    this.#timer = setInterval(() => void this.#look(), LOOK_EVERY_MS);
  }

  /** Takes a lock that is free. Throws, within seconds, when the database does not answer. */
  static async open(url: string): Promise<LockSession> {
    const lost = Promise.withResolvers<void>();
    const watch = new AnswerWatch({ waitMsMax: LOOK_MS_MAX });
    const sql = connect(url, watch, lost.resolve);
    const answered = watch.begin();
    try {
      for (;;) {
        const number = randomHex(4);
        const key = Number.parseInt(number, 16) | 0;
        const [row] =
          await sql`select pg_try_advisory_lock(${LOCK_CLASS}::int, ${key}::int) as taken`;
        if (row?.taken === true) return new LockSession({ number, sql, watch, lost });
      }
    } catch (error) {
      await sql.end({ timeout: 0 });
      watch.close();
      throw error;
    } finally {
      answered();
    }
  }

  /** Resolves when the connection, and the lock with it, is gone, or nobody answers on it any more. */
  get lost(): Promise<void> {
    return this.#lost.promise;
  }

  /** Gives the lock back. */
  async end(timeoutSec: number): Promise<void> {
    clearInterval(this.#timer);
    await this.#sql.end({ timeout: timeoutSec });
    this.#watch.close();
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const answered = this.#watch.begin();
    try {
      await this.#sql`select`;
    } catch {
      this.#lost.resolve();
    } finally {
      answered();
      this.#isLooking = false;
    }
  }
}

function connect(url: string, watch: AnswerWatch, closed: () => void): Sql {
  // The driver's types do not know this option.
  const socket: object = { socket: watch.connect };
  return postgres(url, {
    max: 1,
    connect_timeout: CONNECT_TIMEOUT_SEC,
    // The session is the lock: it must not be renewed behind our back.
    idle_timeout: 0,
    max_lifetime: null,
    onclose: closed,
    onnotice: () => {},
    connection: { application_name: "wrenn-cp-operations" },
    ...socket,
  });
}
