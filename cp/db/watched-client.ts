// The driver's client as drizzle uses it, with each wait for the server under watch.
//
// It keeps work away from connections that are gone, too: the driver (postgres.js 3.4.9) would send a
// transaction's next statement, its ROLLBACK among them, into a closed connection, and later begin a new
// connection of that place with those bytes, which no server takes.

import type { ISql, Sql } from "postgres";
import { isLost } from "../outage.ts";
import type { AnswerWatch } from "./answer-watch.ts";

/** The driver rejects the transaction of a lost connection in the same round; this is for a busy loop. */
const LOSS_TOLD_MS = 1000;

/** The same client, for what drizzle calls: `unsafe` and `begin`. */
export function watchedClient(sql: Sql, watch: AnswerWatch): Sql {
  return Object.assign(derived(sql), {
    unsafe: watchedUnsafe(sql, () => {
      assertAnswers(watch, "new");
      return watch.begin();
    }),
    begin: async (work: (tx: ISql) => Promise<unknown>) => {
      assertAnswers(watch, "new");
      return new Transaction(watch).run(sql, work);
    },
  });
}

class Transaction {
  readonly #watch: AnswerWatch;
  readonly #waits = new Set<() => void>();
  readonly #over = Promise.withResolvers<void>();
  #failure: unknown = null;

  constructor(watch: AnswerWatch) {
    this.#watch = watch;
  }

  async run(sql: Sql, work: (tx: ISql) => Promise<unknown>): Promise<unknown> {
    // For BEGIN, which may wait for a connection.
    const begun = this.#wait();
    try {
      return await sql.begin((tx) => {
        begun();
        return this.#work(tx, work);
      });
    } catch (error) {
      this.#failure = error;
      throw error;
    } finally {
      this.#over.resolve();
      // The driver never settles what it had not sent yet.
      for (const end of this.#waits) end();
    }
  }

  async #work(tx: ISql, work: (tx: ISql) => Promise<unknown>): Promise<unknown> {
    const unsafe = watchedUnsafe(tx, () => {
      if (this.#failure !== null) throw this.#failure;
      assertAnswers(this.#watch, "begun");
      return this.#wait();
    });
    try {
      return await work(Object.assign(derived(tx), { unsafe }));
    } catch (error) {
      if (isLost(error)) await this.#lossTold();
      throw error;
    } finally {
      if (this.#watch.refusal("begun") !== null) await this.#lossTold();
      // Whoever began it was told, and nothing is to be sent on what is gone.
      if (this.#failure !== null) await new Promise<never>(() => {});
      // For COMMIT or ROLLBACK.
      this.#wait();
    }
  }

  async #lossTold(): Promise<void> {
    await Promise.race([this.#over.promise, Bun.sleep(LOSS_TOLD_MS)]);
  }

  #wait(): () => void {
    const end = this.#watch.begin();
    this.#waits.add(end);
    return () => {
      end();
      this.#waits.delete(end);
    };
  }
}

function assertAnswers(watch: AnswerWatch, work: "new" | "begun"): void {
  const refusal = watch.refusal(work);
  if (refusal !== null) throw refusal;
}

function watchedUnsafe(sql: ISql, begin: () => () => void) {
  return (...query: Parameters<ISql["unsafe"]>) => {
    const end = begin();
    const pending = sql.unsafe(...query);
    pending.then(end, end);
    return pending;
  };
}

function derived<T extends ISql>(sql: T): T {
  return Object.create(sql);
}
