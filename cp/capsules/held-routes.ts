// Answers about work on a capsule: its end if that comes while the client waits, else the capsule as it
// is by then, with where to look at it again.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import { isCompat, namedFor } from "../compat.ts";
import { AppError } from "../errors.ts";
import { endWithin, holdOf } from "../held-answer.ts";
import type { Log } from "../log.ts";
import type { CapsuleRow } from "./capsule.ts";
import { type Capsule, toCapsule } from "./schema.ts";
import type { Capsules } from "./service.ts";

/** How long an answer is held when the client does not say: what most of that kind take, and more. */
export const HOLD_SEC = { create: 25, resume: 25, pause: 25, destroy: 20, snapshot: 55 } as const;

/** The first clients give up after 5 s, take nothing but 201, and know `starting`. */
const COMPAT_CREATE_SEC = 4;

/** For descriptions of such routes. */
export const ACCEPTED =
  "What takes longer than the client waits (`Prefer`: `respond-async` not at all, `wait=N` seconds) " +
  "is answered 202 and goes on; the capsule says how far it is.";

export interface HeldDeps {
  readonly capsules: Capsules;
  readonly log: Log;
}

export interface HeldCall {
  readonly caller: TeamCaller;
  readonly request: Request;
  readonly set: { readonly headers: Record<string, string | number> };
}

export interface HeldWork<Result> {
  readonly id: Id<"capsule">;
  readonly done: Promise<Result>;
  readonly standardSec: number;
}

/** The end, or for 202 the capsule. Throws what the work failed with while the client waited. */
export async function heldEnd<Result>(
  deps: HeldDeps,
  { caller, request, set }: HeldCall,
  { id, done, standardSec }: HeldWork<Result>,
): Promise<{ readonly result: Result } | { readonly accepted: Capsule }> {
  // The first clients take no 202, and wait.
  if (isCompat(request)) return { result: await done };
  const hold = holdOf(request.headers.get("prefer"), standardSec);
  if (hold.applied !== null) set.headers["preference-applied"] = hold.applied;
  const end = await endWithin(done, hold);
  if (end !== null) return end;
  logBreakOff(deps, id, done);
  return { accepted: await acceptedCapsule(deps, { caller, set }, id) };
}

/** A capsule that was begun, for the answer 201: running, or below `/compat/0.1` maybe still starting. */
export async function createdCapsule(
  deps: HeldDeps,
  call: HeldCall,
  work: Omit<HeldWork<CapsuleRow>, "standardSec">,
): Promise<{ readonly isDone: boolean; readonly capsule: Capsule }> {
  if (!isCompat(call.request)) {
    return await heldCapsule(deps, call, { ...work, standardSec: HOLD_SEC.create });
  }
  const { id, done } = work;
  const end = await endWithin(done, { waitMs: COMPAT_CREATE_SEC * 1000, applied: null });
  if (end === null) logBreakOff(deps, id, done);
  const row = end?.result ?? (await deps.capsules.get({ id, teamId: call.caller.teamId }));
  const capsule = toCapsule(namedFor(call.request, row), deps.capsules.trafficToken(row));
  return { isDone: true, capsule };
}

/** What the work itself fails with is on record. */
function logBreakOff({ log }: HeldDeps, id: Id<"capsule">, done: Promise<unknown>): void {
  done.catch((error) => {
    if (error instanceof AppError) return;
    log.error("work broke off that a client was told to ask for", { capsule: id, error });
  });
}

/** The capsule as it is by now, whose work goes on. */
export async function acceptedCapsule(
  { capsules }: HeldDeps,
  { caller, set }: Pick<HeldCall, "caller" | "set">,
  id: Id<"capsule">,
): Promise<Capsule> {
  const capsule = await capsules.get({ id, teamId: caller.teamId });
  set.headers.location = `/v1/capsules/${encodeId("capsule", id)}`;
  return toCapsule(capsule, capsules.trafficToken(capsule));
}

/** The same for work that ends with the capsule. */
export async function heldCapsule(
  deps: HeldDeps,
  call: HeldCall,
  work: HeldWork<CapsuleRow>,
): Promise<{ readonly isDone: boolean; readonly capsule: Capsule }> {
  const end = await heldEnd(deps, call, work);
  if ("accepted" in end) return { isDone: false, capsule: end.accepted };
  const { result } = end;
  const capsule = toCapsule(namedFor(call.request, result), deps.capsules.trafficToken(result));
  return { isDone: true, capsule };
}
