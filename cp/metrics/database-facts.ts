// What the control plane's metrics need of the database: one question in some seconds, however
// many ask, and an answer or none within the time of a scrape.

import type { Db } from "../db/client.ts";
import { countCapsules, countConnections } from "./queries.ts";

/** Two Prometheus servers and a curious person make one question. */
const FRESH_MS = 5000;
/** Prometheus gives up after 10 s unless told otherwise. */
const WAIT_MS = 3000;

export interface DatabaseFacts {
  readonly capsules: Readonly<Record<string, number>>;
  readonly connections: Readonly<Record<string, number>>;
  /** From the question to its answer, the wait for a free connection included. */
  readonly seconds: number;
}

export class DatabaseFactsReader {
  readonly #db: Db;
  readonly #monotonicMs: () => number;
  #asking: Promise<DatabaseFacts | null> | null = null;
  #known: { facts: DatabaseFacts; atMs: number } | null = null;

  constructor(db: Db, monotonicMs: () => number) {
    this.#db = db;
    this.#monotonicMs = monotonicMs;
  }

  /** Null if the database does not answer in time. Never throws. */
  async read(): Promise<DatabaseFacts | null> {
    if (this.#known && this.#monotonicMs() - this.#known.atMs < FRESH_MS) return this.#known.facts;
    // A question that hangs is not asked again beside itself.
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return await within(this.#asking, WAIT_MS);
  }

  async #ask(): Promise<DatabaseFacts | null> {
    const startedAt = this.#monotonicMs();
    try {
      const capsules = await countCapsules(this.#db);
      const seconds = (this.#monotonicMs() - startedAt) / 1000;
      const facts = { capsules, connections: await countConnections(this.#db), seconds };
      this.#known = { facts, atMs: this.#monotonicMs() };
      return facts;
    } catch {
      // That it does not answer is what is told; why, each request's own failure tells the log.
      return null;
    }
  }
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | null> {
  const { promise: late, resolve } = Promise.withResolvers<null>();
  const timer = setTimeout(() => resolve(null), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
