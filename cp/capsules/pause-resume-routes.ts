// Routes that put capsules to rest, bring them back and fork them: HTTP only.

import { Elysia, t } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { namedFor } from "../compat.ts";
import { AppError } from "../errors.ts";
import { keyed } from "../idempotency/service.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import type { ForkResult } from "./capsule.ts";
import {
  ACCEPTED,
  type HeldCall,
  type HeldDeps,
  heldCapsule,
  heldEnd,
  lookAt,
} from "./held-routes.ts";
import type { ResumeSource } from "./lifecycle.ts";
import { CHANGE_ERRORS, RESTORE_ERRORS } from "./route-errors.ts";
import {
  Capsule,
  CapsuleParams,
  ForkCapsule,
  ForkList,
  KeyedHeldHeaders,
  ResumeCapsule,
  toFork,
} from "./schema.ts";

/** Below the prefix of capsules. */
export function pauseResumeRoutes(deps: AuthDeps & HeldDeps) {
  const { capsules } = deps;
  const shownForks = ({ caller, request }: HeldCall, forks: readonly ForkResult[]) =>
    forks.map((fork) => {
      if ("error" in fork) return toFork(fork);
      const capsule = namedFor(request, fork.capsule);
      return toFork({ capsule }, capsules.trafficToken(caller, capsule));
    });
  return new Elysia()
    .use(authPlugin(deps))
    .post(
      "/:id/pause",
      async ({ caller, params, headers, request, server, set, status }) => {
        // None of these is bound to how long a connection may be idle.
        server?.timeout(request, 0);
        const id = parseId("capsule", params.id, "id");
        const key = keyed(caller, headers["idempotency-key"], { operation: "pause", id });
        const { done } = await capsules.pause(caller, id, key);
        const work = { id, done, verb: "pause" } as const;
        const { isDone, capsule } = await heldCapsule(deps, { caller, request, set }, work);
        return isDone ? capsule : status(202, capsule);
      },
      {
        team: "write",
        params: CapsuleParams,
        headers: KeyedHeldHeaders,
        response: {
          200: Capsule,
          202: Capsule,
          ...errors(...CHANGE_ERRORS, "conflict", "no_hosts_available"),
        },
        detail: {
          summary: "Pause a running capsule: memory and disk stay as they are",
          description: ACCEPTED,
        },
      },
    )
    .post(
      "/:id/resume",
      async ({ caller, params, headers, body, request, server, set, status }) => {
        server?.timeout(request, 0);
        const id = parseId("capsule", params.id, "id");
        const from = resumeSource(body);
        const meant = { operation: "resume", id, from };
        const key = keyed(caller, headers["idempotency-key"], meant);
        const { done } = await capsules.resume(caller, id, from, key);
        const work = { id, done, verb: "resume" } as const;
        const { isDone, capsule } = await heldCapsule(deps, { caller, request, set }, work);
        return isDone ? capsule : status(202, capsule);
      },
      {
        team: "write",
        params: CapsuleParams,
        headers: KeyedHeldHeaders,
        body: t.Optional(t.Nullable(ResumeCapsule)),
        response: {
          200: Capsule,
          202: Capsule,
          ...errors(...RESTORE_ERRORS),
        },
        detail: {
          summary: "Resume a paused capsule",
          description:
            `${ACCEPTED} ` +
            "`metadata.resumed_from` says what it came back from: `memory` of its last pause, " +
            "`previous_memory` when that was asked for and is older than its disk, or `disk` when it " +
            "booted: after its microVM or its host was lost, or its memory damaged, as a machine " +
            "after a power cut.",
        },
      },
    )
    .post(
      "/:id/fork",
      async ({ caller, params, headers, body, request, server, set, status }) => {
        server?.timeout(request, 0);
        const sourceId = parseId("capsule", params.id, "id");
        const asked = { count: body?.count ?? 1, timeoutSec: body?.timeout_sec };
        const meant = { operation: "fork", id: sourceId, ...asked };
        const key = keyed(caller, headers["idempotency-key"], meant);
        const { id, ids, done } = await capsules.fork(caller, sourceId, asked, key);
        const call = { caller, request, set };
        const end = await heldEnd(deps, call, { id, done, verb: "fork" });
        if (end !== null) return status(201, shownForks(call, end.result));
        lookAt(call, id);
        const forks = await capsules.forksSoFar(ids, asked.count);
        return status(202, shownForks(call, forks));
      },
      {
        team: "write",
        params: CapsuleParams,
        headers: KeyedHeldHeaders,
        body: t.Optional(t.Nullable(ForkCapsule)),
        response: {
          201: ForkList,
          202: ForkList,
          ...errors(...RESTORE_ERRORS),
        },
        detail: {
          summary: "Make capsules that go on from where a running one is",
          description:
            `${ACCEPTED} ` +
            "One entry per fork, each with either the capsule or an error; 202 has those that were begun, and " +
            "`Location` names the first of them. A fork that fails then is left as `error`.",
        },
      },
    );
}

/** Null: whatever is newest. Throws `invalid_request` when it is said twice. */
function resumeSource(body: ResumeCapsule | null | undefined): ResumeSource | null {
  if (body?.from !== undefined && body.memory !== undefined) {
    throw new AppError("invalid_request", "memory: `from` says it already");
  }
  return body?.from ?? (body?.memory === false ? "disk" : null);
}
