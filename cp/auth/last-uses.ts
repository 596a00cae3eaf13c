// When keys and sessions were used last, written behind: a write for each request would cost more than it.

import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { stampApiKeys, stampSessions } from "./queries.ts";

/** Of each kind; what is noted beyond it is noted again with its next use. */
const NOTED_MAX = 10_000;

export class LastUses {
  readonly #db: Db;
  #apiKeys = new Set<Id<"apiKey">>();
  #sessions = new Set<string>();

  constructor({ db }: { db: Db }) {
    this.#db = db;
  }

  noteApiKey(id: Id<"apiKey">): void {
    if (this.#apiKeys.size < NOTED_MAX) this.#apiKeys.add(id);
  }

  noteSession(id: string): void {
    if (this.#sessions.size < NOTED_MAX) this.#sessions.add(id);
  }

  /** Writes what was noted. What fails is lost: whoever goes on using it is noted again. */
  async write(): Promise<{ keys: number; sessions: number }> {
    const [keys, sessions] = [[...this.#apiKeys], [...this.#sessions]];
    this.#apiKeys = new Set();
    this.#sessions = new Set();
    if (keys.length > 0) await stampApiKeys(this.#db, keys);
    if (sessions.length > 0) await stampSessions(this.#db, sessions);
    return { keys: keys.length, sessions: sessions.length };
  }
}
