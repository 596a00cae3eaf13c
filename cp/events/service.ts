// What has happened: the order in which it is told, reading the past, and the stream of Redis.
//
// The table is the one source. What has been seen committed gets a position, and in the same transaction goes to
// whoever keeps a queue of it (`placed`): from there on neither a crash nor Redis can lose it. The stream in Redis is a
// copy for readers of their own, in the same order. An entry's number there is the event's position, which Redis takes
// only in ascending order: what a control plane added before it died is refused the second time, so that nothing is
// doubled, and several may add at once.

import type { Redis } from "ioredis";
import type { Id } from "../../proto/ids.ts";
import type { Db, Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { type EventPage, type EventRow, toPayload } from "./payload.ts";
import type { Placed } from "./placed.ts";
import {
  deleteOldEvents,
  type EventFilter,
  findEventPosition,
  hasUnplaced,
  markPublished,
  placeEvents,
  selectEventsAfter,
  selectUnpublished,
} from "./queries.ts";

export const EVENT_STREAM = "wrenn:events";
export const EVENT_STREAM_GROUP = "wrenn-channels-v1";
/** Entries that the stream keeps, about. */
const STREAM_LENGTH_MAX = 10_000;
/** Of one transaction, which others wait for: each event may go into the queues of 50 channels. */
const PLACE_BATCH = 200;
const PUBLISH_BATCH = 500;
/** What Redis says to an entry whose number it has passed. */
const IS_PASSED = "equal or smaller than the target stream top item";

export interface EventsDeps {
  readonly db: Db;
  readonly redis: Redis;
  readonly retentionDays: number;
  /** Called in the transaction that gives positions. */
  readonly placed: (tx: Tx, placed: Placed) => Promise<void>;
}

export class Events {
  readonly #deps: EventsDeps;

  constructor(deps: EventsDeps) {
    this.#deps = deps;
  }

  /** Gives positions to all that is committed; how many got one. */
  async place(): Promise<number> {
    const { db, placed } = this.#deps;
    let count = 0;
    while (await hasUnplaced(db)) {
      const batch = await db.transaction(async (tx) => {
        const places = await placeEvents(tx, PLACE_BATCH);
        if (places !== null) await placed(tx, places);
        return places;
      });
      if (batch === null) break;
      count += batch.count;
    }
    return count;
  }

  /**
   * What was told after an event, or since the oldest that is kept, oldest first. Who goes on from the last one meets
   * each event once, however late its transaction ended. Throws `invalid_request` for an event that is not kept.
   */
  async list(
    filter: EventFilter,
    page: { after: Id<"event"> | undefined; limit: number },
  ): Promise<EventPage> {
    await this.place();
    const { db } = this.#deps;
    const { after: id, limit } = page;
    const { teamId } = filter;
    const after = id === undefined ? 0 : await findEventPosition(db, { teamId, id });
    if (after === undefined) {
      throw new AppError("invalid_request", "after: is no event that is kept");
    }
    const rows = await selectEventsAfter(db, { ...filter, after, limit: limit + 1 });
    return { rows: rows.slice(0, limit), hasMore: rows.length > limit };
  }

  /** Adds to the stream of Redis what is not there yet, in order; how many it were. Throws while Redis is away. */
  async publish(): Promise<number> {
    const { db } = this.#deps;
    let count = 0;
    let rows: EventRow[];
    do {
      rows = await selectUnpublished(db, PUBLISH_BATCH);
      if (rows.length === 0) break;
      await this.#addToStream(rows);
      const ids = rows.map(({ id }) => id);
      await markPublished(db, ids);
      count += rows.length;
    } while (rows.length === PUBLISH_BATCH);
    return count;
  }

  /** Forgets at most `limit` events past their time; how many it were. */
  async expire(limit: number): Promise<number> {
    const { db, retentionDays: days } = this.#deps;
    return await deleteOldEvents(db, { days, limit });
  }

  async #addToStream(rows: readonly EventRow[]): Promise<void> {
    const { redis } = this.#deps;
    const pipeline = redis.pipeline();
    // Redis may be another one than before.
    pipeline.xgroup("CREATE", EVENT_STREAM, EVENT_STREAM_GROUP, "0", "MKSTREAM");
    for (const row of rows) {
      const entry = ["payload", JSON.stringify(toPayload(row))] as const;
      const bound = ["MAXLEN", "~", STREAM_LENGTH_MAX] as const;
      pipeline.xadd(EVENT_STREAM, ...bound, `${row.position}-1`, ...entry);
    }
    const [, ...added] = (await pipeline.exec()) ?? [];
    const failed = added.find(([error]) => error !== null && !error.message.includes(IS_PASSED));
    if (failed?.[0]) throw failed[0];
    if (added.length < rows.length) throw new Error("Redis did not answer for every entry");
  }
}
