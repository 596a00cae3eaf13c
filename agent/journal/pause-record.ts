// What is known of a capsule that is paused, or half-way there or back.

import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

const Nullable = Type.Union([Type.Integer(), Type.Null()]);

/** As the journal keeps it. */
const PauseRecord = Type.Object({
  /** ttl_expired: the agent paused it since nobody used it. */
  reason: Type.Union([Type.Literal("requested"), Type.Literal("ttl_expired")]),
  /** UUID of the operation that paused or resumes it; empty if the agent did it by itself. */
  operationId: Type.String(),
  /** The generation that the pause makes; null until it is stopped. */
  generation: Nullable,
  /** Milliseconds since 1970; null while its memory is nowhere but with its VMM. */
  durableAtMs: Nullable,
  /** The generation whose disk the capsule's own still is; null: it went on, or may have. */
  diskGeneration: Nullable,
});
export type PauseRecord = Static<typeof PauseRecord>;
export type PauseReason = PauseRecord["reason"];

export function newPause(reason: PauseReason, operationId: string): PauseRecord {
  const nothing = { generation: null, durableAtMs: null, diskGeneration: null };
  return { reason, operationId, ...nothing };
}

/** For the resume of a capsule that was not paused: its VMM had ended. */
export function endedPause(now: Date): PauseRecord {
  return { ...newPause("requested", ""), durableAtMs: now.getTime() };
}

export function isEnded({ generation, durableAtMs }: PauseRecord): boolean {
  return generation === null && durableAtMs !== null;
}

/** Throws if the text is not what `JSON.stringify` made of a record. */
export function parsePause(text: string): PauseRecord {
  return Value.Parse(PauseRecord, JSON.parse(text));
}
