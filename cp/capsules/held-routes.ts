// Answers about work on a capsule: its end if that comes while the client waits, else the capsule as it
// is by then, with where to look at it again.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import { AppError } from "../errors.ts";
import { endWithin, holdOf } from "../held-answer.ts";
import type { Log } from "../log.ts";
import type { CapsuleRow } from "./capsule.ts";
import { type Capsule, toCapsule } from "./schema.ts";
import type { Capsules } from "./service.ts";

/** How long an answer is held when the client does not say: what most of that kind take, and more. */
export const HOLD_SEC = { create: 25, resume: 25, pause: 25, destroy: 20, snapshot: 55 } as const;

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
  const hold = holdOf(request.headers.get("prefer"), standardSec);
  if (hold.applied !== null) set.headers["preference-applied"] = hold.applied;
  const end = await endWithin(done, hold);
  if (end !== null) return end;

  done.catch((error) => {
    // What the work itself fails with is on record.
    if (error instanceof AppError) return;
    deps.log.error("work broke off that a client was told to ask for", { capsule: id, error });
  });
  return { accepted: await acceptedCapsule(deps, { caller, set }, id) };
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
  return { isDone: true, capsule: toCapsule(result, deps.capsules.trafficToken(result)) };
}
