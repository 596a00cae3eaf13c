// What is known of a capsule that is paused, or half-way there or back.

import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

const Nullable = Type.Union([Type.Integer(), Type.Null()]);

/** As the journal keeps it. */
const PauseRecord = Type.Object({
  /** ttl_expired: the agent paused it since nobody used it. */
  reason: Type.Union([Type.Literal("requested"), Type.Literal("ttl_expired")]),
  /** The generation that the pause makes; null until it is stopped. */
  generation: Nullable,
  /** Milliseconds since 1970; null while its memory is nowhere but with its VMM, or was lost with it. */
  durableAtMs: Nullable,
  /** Its VMM ended before its memory was durable. */
  isLost: Type.Boolean({ default: false }),
  /** The generation whose disk the capsule's own still is; null: it went on, or may have. */
  diskGeneration: Nullable,
});
export type PauseRecord = Static<typeof PauseRecord>;
export type PauseReason = PauseRecord["reason"];

export function newPause(reason: PauseReason): PauseRecord {
  return { reason, generation: null, durableAtMs: null, isLost: false, diskGeneration: null };
}

/** Whether its memory is with its VMM and nowhere else. */
export function isHeldByVmm({ durableAtMs, isLost }: PauseRecord): boolean {
  return durableAtMs === null && !isLost;
}

/** Throws if the text is not what `JSON.stringify` made of a record, here or in an earlier version. */
export function parsePause(text: string): PauseRecord {
  return Value.Parse(PauseRecord, JSON.parse(text));
}
