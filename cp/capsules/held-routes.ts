// Answers about work on a capsule: its end if that comes while the client waits, else the capsule as it
// is by then, with where to look at it again.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { GrantedCaller } from "../auth/authenticator.ts";
import { isCompat, namedFor } from "../compat.ts";
import { AppError } from "../errors.ts";
import { endWithin, type Hold, holdOf } from "../held-answer.ts";
import type { Log } from "../log.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import type { CapsuleRow } from "./capsule.ts";
import { type Capsule, toCapsule } from "./schema.ts";
import type { Capsules } from "./service.ts";

/** How long an answer is held when the client does not say: what most of that kind take, and more. */
const HOLD_SEC = {
  create: 25,
  fork: 25,
  resume: 25,
  pause: 25,
  destroy: 20,
  snapshot: 55,
} as const;
export type HeldVerb = keyof typeof HOLD_SEC;

/** The first clients do not say, and give up after 5 s, on a pause or a snapshot after 60 s. */
const COMPAT_HOLD_SEC: Readonly<Record<HeldVerb, number>> = {
  create: 4,
  fork: 4,
  resume: 4,
  pause: 55,
  destroy: 4,
  snapshot: 55,
};

/** For descriptions of such routes. */
export const ACCEPTED =
  "What takes longer than the client waits (`Prefer`: `respond-async` not at all, `wait=N` seconds) " +
  "is answered 202 and goes on; the capsule says how far it is.";

export interface HeldDeps {
  readonly capsules: Capsules;
  readonly log: Log;
}

export interface HeldCall {
  readonly caller: GrantedCaller;
  readonly request: Request;
  readonly set: { readonly headers: Record<string, string | number> };
}

export interface HeldWork<Result> {
  /** What it is about, or begins with. */
  readonly id: Id<"capsule">;
  readonly done: Promise<Result>;
  readonly verb: HeldVerb;
}

/** How long the client waits. */
export function holdFor(request: Request, verb: HeldVerb): Hold {
  const standardSec = (isCompat(request) ? COMPAT_HOLD_SEC : HOLD_SEC)[verb];
  return holdOf(request.headers.get("prefer"), standardSec);
}

/**
 * The end, or null: it goes on when the client waits no more. Throws what the work failed with while it
 * waited.
 */
export async function heldEnd<Result>(
  { log }: HeldDeps,
  { request, set }: HeldCall,
  { id, done, verb }: HeldWork<Result>,
): Promise<{ readonly result: Result } | null> {
  const hold = holdFor(request, verb);
  if (hold.applied !== null) set.headers["preference-applied"] = hold.applied;
  const end = await endWithin(done, hold);
  if (end !== null) return end;
  // What the work itself fails with is on record.
  done.catch((error) => {
    if (error instanceof AppError) return;
    log.error("work broke off that a client was told to ask for", { capsule: id, error });
  });
  return null;
}

/** Says where to look after work that goes on. */
export function lookAt({ caller, request, set }: HeldCall, id: Id<"capsule">): void {
  // The first clients look for themselves, below a path that only they know.
  if (isCompat(request)) return;
  const prefix = caller.teamId === PLATFORM_TEAM ? "/v1/admin" : "/v1";
  set.headers.location = `${prefix}/capsules/${encodeId("capsule", id)}`;
}

/** For 202: the capsule as it is by now, whose work goes on. */
export async function acceptedCapsule(
  { capsules }: HeldDeps,
  call: HeldCall,
  id: Id<"capsule">,
): Promise<Capsule> {
  lookAt(call, id);
  const { caller, request } = call;
  const capsule = await capsules.get({ id, teamId: caller.teamId });
  return toCapsule(namedFor(request, capsule), capsules.trafficToken(caller, capsule));
}

/**
 * The same for work that ends with the capsule. To the first clients, who take no 202, all of it is done:
 * they see by the state how far it is.
 */
export async function heldCapsule(
  deps: HeldDeps,
  call: HeldCall,
  work: HeldWork<CapsuleRow>,
): Promise<{ readonly isDone: boolean; readonly capsule: Capsule }> {
  const { caller, request } = call;
  const end = await heldEnd(deps, call, work);
  if (end === null) {
    const capsule = await acceptedCapsule(deps, call, work.id);
    return { isDone: isCompat(request), capsule };
  }
  const { result } = end;
  const capsule = toCapsule(namedFor(request, result), deps.capsules.trafficToken(caller, result));
  return { isDone: true, capsule };
}
