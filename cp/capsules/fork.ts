// Forking a running capsule: capsules that go on from the same instant, on the same host. Their
// rows and their places come first, as in a create, and end as creates do.

import { Code, ConnectError } from "@connectrpc/connect";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import type { ForkSandboxResponse_Result } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import type { AgentClient } from "../agents/agent-clients.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { FORK_TIMEOUT_MS } from "../agents/limits.ts";
import type { Begun } from "../begun.ts";
import type { Db } from "../db/client.ts";
import { secondsFromNow } from "../db/time.ts";
import { AppError } from "../errors.ts";
import { type EventActor, recordEvents } from "../events/outbox.ts";
import type { Claim } from "../idempotency/answer-once.ts";
import { holdTeam, requireRoom } from "../limits/placing.ts";
import { lockHost } from "../scheduler/host-loads.ts";
import { countRoom } from "../scheduler/placement.ts";
import type { CapsuleRow, ForkResult } from "./capsule.ts";
import {
  amountsOf,
  failCapsule,
  finishStart,
  STARTING_DEADLINE_SEC,
  type StartingCapsule,
} from "./create.ts";
import type { CapsuleDeps } from "./deps.ts";
import { insertionEvent } from "./events.ts";
import type { RunningCapsule } from "./find-on-host.ts";
import { stopping } from "./host-change.ts";
import { insertCapsule, updateDeadline } from "./queries.ts";
import { createFailure, recordedCapsule, settledCreate } from "./settled.ts";

export interface ForkRequest {
  readonly actor: EventActor;
  readonly count: number;
  /** The source's when not told. */
  readonly timeoutSec: number | undefined;
  readonly claim: Claim<"capsule">;
}

/**
 * Begins to fork the running capsule; the end are as many results as were asked for, in no order.
 * Throws the 402 of a limit of the team that all of them together would pass. Throws, or ends so, when there is
 * none at all: `no_hosts_available` when its host has no room for any, `host_unavailable`, and what the host
 * refused it with.
 */
export async function forkCapsule(
  deps: CapsuleDeps,
  { capsule: source, agent }: RunningCapsule,
  request: ForkRequest,
): Promise<Begun<Id<"capsule">, ForkResult[]>> {
  const started = await placeForks(deps, source, request);
  const ids = started.map(({ row }) => row.id);
  return { ids, done: startForks(deps, { source, agent, started }, request) };
}

async function startForks(
  deps: CapsuleDeps,
  {
    source,
    agent,
    started,
  }: { source: CapsuleRow; agent: AgentClient; started: readonly StartingCapsule[] },
  request: ForkRequest,
): Promise<ForkResult[]> {
  let reported: readonly ForkSandboxResponse_Result[];
  try {
    const options = { timeoutMs: FORK_TIMEOUT_MS, signal: deps.ending };
    const children = started.map(({ row }) => ({
      sandboxId: encodeId("capsule", row.id),
      envdAccessToken: deps.envdTokens.of(row.id),
      operationId: row.operationId,
    }));
    const timeoutSec = request.timeoutSec ?? source.timeoutSec;
    const sandboxId = encodeId("capsule", source.id);
    reported = (await agent.forkSandbox({ sandboxId, children, timeoutSec }, options)).results;
  } catch (error) {
    if (deps.ending.aborted) throw stopping();
    const failure = agentFailure(error, "placement");
    const ended = await Promise.all(
      started.map((fork) => outcome(deps, fork, failCapsule(deps, fork, failure))),
    );
    if (ended.every((fork) => "error" in fork)) throw failure;
    return filled(ended, request.count);
  }
  const results = new Map(reported.map((result) => [result.sandboxId, result]));
  const forks = await Promise.all(
    started.map((fork) => {
      const result = results.get(encodeId("capsule", fork.row.id));
      const ending =
        result?.errorCode === ""
          ? finishStart(deps, fork, result)
          : failCapsule(deps, fork, failureOf(result));
      return outcome(deps, fork, ending);
    }),
  );
  return filled(forks, request.count);
}

/**
 * The forks that another request began, once each is over, and why there are no more of `count`.
 * Throws `service_unavailable` when they take too long.
 */
export async function settledForks(
  db: Db,
  { forkIds, count }: { forkIds: readonly Id<"capsule">[]; count: number },
): Promise<ForkResult[]> {
  const forks = await Promise.all(forkIds.map((id) => settled(settledCreate(db, id))));
  const late = forks.find((fork) => "error" in fork && fork.error.code === "service_unavailable");
  if (late !== undefined && "error" in late) throw late.error;
  return filled(forks, count);
}

/** The forks as they are by now: those that failed say why, the others are whatever became of them. */
export async function recordedForks(
  db: Db,
  { forkIds, count }: { forkIds: readonly Id<"capsule">[]; count: number },
): Promise<ForkResult[]> {
  const rows = await Promise.all(forkIds.map((id) => recordedCapsule(db, id)));
  const forks = rows.map((capsule) =>
    capsule.errorCode === "" ? { capsule } : { error: createFailure(capsule) },
  );
  return filled(forks, count);
}

function filled(forks: readonly ForkResult[], count: number): ForkResult[] {
  const error = new AppError("no_hosts_available", "the capsule's host has no room for more forks");
  return [...forks, ...Array.from({ length: count - forks.length }, () => ({ error }))];
}

/** Rows for as many forks as the host has room for. */
async function placeForks(
  deps: CapsuleDeps,
  source: CapsuleRow,
  { actor, count, timeoutSec, claim }: ForkRequest,
): Promise<StartingCapsule[]> {
  return await deps.db.transaction(async (tx) => {
    const { teamId } = source;
    const team = await holdTeam(tx, { teamId, defaults: deps.teamLimits });
    requireRoom(team.limits, await team.capsuleUse(), amountsOf(source, count));
    const host = await lockHost(tx, source.hostId);
    if (host === undefined) {
      throw new AppError("host_unavailable", "the capsule's host takes no capsules at present", {
        reason: "host_draining",
      });
    }
    const room = countRoom(host, source, count);
    if (room === 0) {
      throw new AppError("no_hosts_available", "the capsule's host has no room for a fork");
    }
    const forkIds = Array.from({ length: room }, () => newId("capsule"));
    await claim?.(tx, forkIds);
    const rows: CapsuleRow[] = [];
    for (const id of forkIds) {
      const row = {
        ...inherited(source),
        id,
        status: "starting",
        timeoutSec: timeoutSec ?? source.timeoutSec,
        operationId: deps.operations.next(),
        stateDeadline: secondsFromNow(STARTING_DEADLINE_SEC),
      } as const;
      rows.push(await insertCapsule(tx, row));
    }
    await recordEvents(
      tx,
      rows.map((row) => insertionEvent(row, actor)),
    );
    return rows.map((row) => ({ row, host, actor, key: undefined }));
  });
}

function inherited(source: CapsuleRow) {
  const { teamId, hostId, template, templateId, templateTeamId, vcpus, memoryMb } = source;
  const { diskSizeMb, privatePorts, labels, defaultUser, defaultEnv } = source;
  const shared = { teamId, hostId, template, templateId, templateTeamId };
  const size = { vcpus, memoryMb, diskSizeMb };
  return { ...shared, ...size, privatePorts, labels, defaultUser, defaultEnv };
}

async function settled(start: Promise<CapsuleRow>): Promise<ForkResult> {
  try {
    return { capsule: await start };
  } catch (error) {
    if (error instanceof AppError) return { error };
    throw error;
  }
}

async function outcome(
  deps: CapsuleDeps,
  { row: { id, operationId } }: StartingCapsule,
  ending: Promise<CapsuleRow>,
): Promise<ForkResult> {
  try {
    return await settled(ending);
  } catch (error) {
    // The database failed us: let it be settled at once instead of at its deadline.
    await updateDeadline(deps.db, { id, operationId, afterSec: 0 }).catch(() => {});
    throw error;
  }
}

/** The host's words for one fork, as if they had come from a call of its own. */
function failureOf(result: ForkSandboxResponse_Result | undefined): AppError {
  const code = codeFromString(result?.errorCode ?? "") ?? Code.Internal;
  return agentFailure(new ConnectError(result?.errorMessage ?? "no result", code), "placement");
}
