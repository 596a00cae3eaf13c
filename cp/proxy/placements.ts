// Where capsules are, remembered for a while: the proxy asks for every request.
//
// A remembered place may be out of date: the agent knows better and says so, and then it is forgotten.
// What is not running is remembered only as long as keeps a flood of requests off the database.

import type { Id } from "../../proto/ids.ts";
import type { AgentOfHost } from "../agents/agent-clients.ts";
import { besidesSnapshots, type CapsuleState } from "../capsule-states.ts";
import type { Db } from "../db/client.ts";
import { prepareProxyQueries } from "./queries.ts";

const RUNNING_TTL_MS = 120_000;
const OTHER_TTL_MS = 250;
const REMEMBERED_MAX = 20_000;

export interface Placement {
  /** Null: there is no such capsule. */
  readonly status: CapsuleState | null;
  /** Of its host; null when that has none. */
  readonly agent: AgentOfHost | null;
  /** Its ports ask for the traffic token. */
  readonly isPrivate: boolean;
}

interface Remembered {
  readonly placement: Placement;
  readonly until: number;
}

const UNKNOWN: Placement = { status: null, agent: null, isPrivate: false };

export class Placements {
  readonly #select: ReturnType<typeof prepareProxyQueries>;
  readonly #known = new Map<Id<"capsule">, Remembered>();
  /** Look-ups under way: many requests at once ask once. */
  readonly #asked = new Map<Id<"capsule">, Promise<Placement>>();

  constructor(db: Db) {
    this.#select = prepareProxyQueries(db);
  }

  /** At once when it is remembered. */
  of(id: Id<"capsule">): Placement | Promise<Placement> {
    const known = this.#known.get(id);
    if (known !== undefined && known.until > performance.now()) return known.placement;
    return this.#asked.get(id) ?? this.#ask(id);
  }

  /** Somebody knows better: the next one asks the database. */
  forget(id: Id<"capsule">): void {
    this.#known.delete(id);
    this.#asked.delete(id);
  }

  #ask(id: Id<"capsule">): Promise<Placement> {
    const asked = this.#read(id).finally(() => {
      if (this.#asked.get(id) === asked) this.#asked.delete(id);
    });
    this.#asked.set(id, asked);
    return asked;
  }

  async #read(id: Id<"capsule">): Promise<Placement> {
    const row = await this.#select(id);
    const placement: Placement =
      row === undefined
        ? UNKNOWN
        : {
            status: besidesSnapshots(row),
            agent: row.agent?.address ? row.agent : null,
            isPrivate: row.privatePorts,
          };
    const ttlMs = placement.status === "running" ? RUNNING_TTL_MS : OTHER_TTL_MS;
    // The oldest entry goes: a Map keeps the order of insertion.
    this.#known.delete(id);
    if (this.#known.size >= REMEMBERED_MAX) {
      const [oldest] = this.#known.keys();
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    this.#known.set(id, { placement, until: performance.now() + ttlMs });
    return placement;
  }
}
