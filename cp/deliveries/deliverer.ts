// Events on their way to channels.
//
// Each channel's queue is rows of the database, written in the transaction that gives the event its place: so it
// survives control planes and Redis alike, several deliver at once, and what waits can be listed and sent again. A
// control plane takes rows for a minute and is at many channels at once, each at a few events; a receiver that is slow
// holds up nobody but itself. One that dies leaves what it had taken to the others when that minute is over: then it
// may arrive twice, under the same event id. What became of attempts is written in batches, before more is taken.

import type { Id } from "../../proto/ids.ts";
import { toProvider } from "../channels/channel.ts";
import type { Sender } from "../channels/sender.ts";
import type { Channels } from "../channels/service.ts";
import type { Verdict } from "../channels/verdict.ts";
import type { Db } from "../db/client.ts";
import { toPayload } from "../events/payload.ts";
import type { Log } from "../log.ts";
import type { ClaimedDelivery, Settled } from "./delivery.ts";
import {
  buryOld,
  type ChannelHealth,
  claimDeliveries,
  deleteOldDeliveries,
  noteHealth,
  settleDeliveries,
} from "./queries.ts";

/** An attempt ends in ten seconds. */
const CLAIM_SEC = 60;
/** Of one control plane; each holds a connection and a few KiB. */
const IN_FLIGHT_MAX = 512;
export const IN_FLIGHT_PER_CHANNEL_MAX = 8;
/** Pauses before the second and the third attempt, which is the last. */
const RETRY_SEC = [10, 30] as const;
/** Before one that failed through our own fault is tried again. */
const OWN_FAULT_SEC = 60;
/** A receiver that is away, or asks for patience, for longer loses what waited for it. */
const WAIT_HOURS_MAX = 24;
/** What is being delivered when the process must end gets this long. */
const STOP_GRACE_MS = 3000;
const EXPIRE_BATCH = 10_000;

export interface DelivererDeps {
  readonly db: Db;
  readonly channels: Pick<Channels, "configOf">;
  readonly sender: Sender;
  readonly log: Log;
  /** Called when there may be something to do: an attempt has ended. */
  readonly wake: () => void;
}

/** What a pass wrote down of attempts that had ended, and how many it began. */
export type DeliveryCounts = Record<"begun" | "delivered" | "postponed" | "dead", number>;

export class Deliverer implements AsyncDisposable {
  readonly #deps: DelivererDeps;
  readonly #ending = new AbortController();
  readonly #inFlight = new Map<Id<"channel">, number>();
  readonly #attempts = new Set<Promise<void>>();
  #isEnding = false;
  #ended: { settled: Settled; claimed: ClaimedDelivery; verdict: Verdict | null }[] = [];

  constructor(deps: DelivererDeps) {
    this.#deps = deps;
  }

  /** One pass: writes down what has ended, and begins what is due. It waits for no receiver. */
  async pass(): Promise<DeliveryCounts> {
    const counts = await this.#settle();
    const room = IN_FLIGHT_MAX - this.#attempts.size;
    if (room <= 0 || this.#isEnding) return counts;
    const claimed = await claimDeliveries(this.#deps.db, {
      ...{ claim: crypto.randomUUID(), claimSec: CLAIM_SEC, limit: room },
      ...{ perChannel: IN_FLIGHT_PER_CHANNEL_MAX, inFlight: this.#inFlight },
    });
    for (const one of claimed) this.#begin(one);
    return { ...counts, begun: claimed.length };
  }

  /** Gives up what waited too long, and forgets what is not kept. */
  async expire(): Promise<{ dead: number; expired: number }> {
    const { db } = this.#deps;
    const dead = await buryOld(db, { hours: WAIT_HOURS_MAX, limit: EXPIRE_BATCH });
    return { dead, expired: await deleteOldDeliveries(db, EXPIRE_BATCH) };
  }

  /** Ends what is under way, and writes down what became of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    const grace = AbortSignal.timeout(STOP_GRACE_MS);
    grace.addEventListener("abort", () => this.#ending.abort());
    await Promise.all(this.#attempts);
    this.#ending.abort();
    await this.#settle();
  }

  #begin(claimed: ClaimedDelivery): void {
    const { channelId } = claimed.delivery;
    this.#inFlight.set(channelId, (this.#inFlight.get(channelId) ?? 0) + 1);
    const attempt = this.#attempt(claimed).finally(() => {
      const left = (this.#inFlight.get(channelId) ?? 1) - 1;
      if (left === 0) this.#inFlight.delete(channelId);
      else this.#inFlight.set(channelId, left);
      this.#attempts.delete(attempt);
      this.#deps.wake();
    });
    this.#attempts.add(attempt);
  }

  /** Never rejects. */
  async #attempt(claimed: ClaimedDelivery): Promise<void> {
    const { channel, delivery, event } = claimed;
    const { channels, sender, log } = this.#deps;
    let verdict: Verdict | null = null;
    try {
      if (event === null) {
        verdict = { kind: "failed", status: null, error: "the event is not kept any more" };
      } else {
        const letter = { teamId: channel.teamId, provider: toProvider(channel.provider) };
        verdict = await sender.send(
          {
            ...{ ...letter, config: channels.configOf(channel) },
            ...{ event: toPayload(event), deliveryId: onceId(delivery) },
          },
          this.#ending.signal,
        );
      }
    } catch (error) {
      if (!this.#ending.signal.aborted) {
        log.error("delivery to a channel failed here", { channel: channel.id, error });
      }
    }
    const isEnding = this.#ending.signal.aborted;
    this.#ended.push({ settled: settledOf(claimed, verdict, isEnding), claimed, verdict });
  }

  async #settle(): Promise<DeliveryCounts> {
    const counts = { begun: 0, delivered: 0, postponed: 0, dead: 0 };
    // Others end meanwhile. What can't be written stays for the next pass.
    const ended = [...this.#ended];
    if (ended.length === 0) return counts;
    const { db, log } = this.#deps;
    await db.transaction(async (tx) => {
      await settleDeliveries(
        tx,
        ended.map(({ settled }) => settled),
      );
      const healths = healthsOf(ended);
      if (healths.length > 0) await noteHealth(tx, healths);
    });
    this.#ended = this.#ended.slice(ended.length);
    for (const { settled } of ended) {
      const { status, channelId: channel, error } = settled;
      counts[status === "pending" ? "postponed" : status] += 1;
      if (status === "dead") log.warn("a channel was not told of an event", { channel, error });
    }
    return counts;
  }
}

function settledOf(
  { delivery, event }: ClaimedDelivery,
  verdict: Verdict | null,
  isEnding: boolean,
): Settled {
  const { id, channelId, claim, attempts } = delivery;
  const made = { id, channelId, claim };
  const waits = { ...made, status: "pending", attempts } as const;
  if (verdict === null) {
    const inSec = isEnding ? 0 : OWN_FAULT_SEC;
    return { ...waits, response_status: null, error: "not tried", in_sec: inSec };
  }
  const response_status = verdict.status;
  switch (verdict.kind) {
    case "delivered":
      return {
        ...{ ...made, status: "delivered", attempts: attempts + 1 },
        ...{ response_status, error: "", in_sec: 0 },
      };
    case "limited":
      return { ...waits, response_status, error: "answered 429", in_sec: verdict.afterSec };
    case "failed": {
      const inSec = event === null ? undefined : RETRY_SEC[attempts];
      const { error } = verdict;
      return {
        ...{ ...made, status: inSec === undefined ? "dead" : "pending", attempts: attempts + 1 },
        ...{ response_status, error, in_sec: inSec ?? 0 },
      };
    }
  }
}

/** In the order in which attempts ended. Of a channel that is well and stays so nothing has to be written. */
function healthsOf(
  ended: readonly { claimed: ClaimedDelivery; verdict: Verdict | null }[],
): ChannelHealth[] {
  const healths = new Map<Id<"channel">, ChannelHealth>();
  for (const { claimed, verdict } of ended) {
    const { id, failures } = claimed.channel;
    const before = healths.get(id) ?? { id, succeeded: false, failed: 0, pause_sec: 0 };
    if (verdict?.kind === "delivered" && (failures > 0 || before.failed > 0)) {
      healths.set(id, { ...before, succeeded: true, failed: 0 });
    } else if (verdict?.kind === "failed" && claimed.event !== null) {
      healths.set(id, { ...before, failed: before.failed + 1 });
    } else if (verdict?.kind === "limited") {
      healths.set(id, { ...before, pause_sec: Math.max(before.pause_sec, verdict.afterSec) });
    }
  }
  return [...healths.values()];
}

/** The same for each attempt; another one when it is sent again. */
function onceId({ id, createdAt }: ClaimedDelivery["delivery"]): string {
  return `${id}-${createdAt.getTime()}`;
}
