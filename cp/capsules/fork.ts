// Forking a running capsule: capsules that go on from the same instant, on the same host. Their
// rows and their places come first, as in a create, and end as creates do.

import { Code, ConnectError } from "@connectrpc/connect";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import type { ForkSandboxResponse_Result } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, newId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { FORK_TIMEOUT_MS } from "../agents/limits.ts";
import { AppError } from "../errors.ts";
import { type EventActor, recordCapsuleEvents } from "../events/outbox.ts";
import { failCapsule, finishStart, STARTING_DEADLINE_SEC, type StartingCapsule } from "./create.ts";
import type { OperationDeps } from "./deps.ts";
import { insertionEvent } from "./moves.ts";
import { stopping } from "./pause.ts";
import { countRoom } from "./placement.ts";
import { insertCapsule, lockHost, secondsFromNow } from "./queries.ts";
import type { RunningCapsule } from "./running.ts";
import type { Capsule, CapsuleRow, Fork } from "./schema.ts";

export interface ForkRequest {
  readonly actor: EventActor;
  readonly count: number;
  /** The source's when not told. */
  readonly timeoutSec: number | undefined;
}

/** As many as were asked for, in no order: each is a capsule that runs, or why there is none. */
export type ForkResult = { readonly capsule: Capsule } | { readonly error: AppError };

/**
 * Forks the running capsule. Throws when there is none at all: `no_hosts_available` when its host
 * has no room for any, `host_unavailable`, and what the host refused it with.
 */
export async function forkCapsule(
  deps: OperationDeps,
  { capsule: source, agent }: RunningCapsule,
  request: ForkRequest,
): Promise<ForkResult[]> {
  const started = await placeForks(deps, source, request);
  let told: readonly ForkSandboxResponse_Result[];
  try {
    const options = { timeoutMs: FORK_TIMEOUT_MS, signal: deps.ending };
    const children = started.map(({ row }) => ({
      sandboxId: encodeId("capsule", row.id),
      envdAccessToken: deps.envdTokens.of(row.id),
      operationId: row.operationId,
    }));
    const timeoutSec = request.timeoutSec ?? source.timeoutSec;
    const sandboxId = encodeId("capsule", source.id);
    told = (await agent.forkSandbox({ sandboxId, children, timeoutSec }, options)).results;
  } catch (error) {
    if (deps.ending.aborted) throw stopping();
    const failure = agentFailure(error, "place");
    const ended = await Promise.all(
      started.map((fork) => settled(failCapsule(deps, fork, failure))),
    );
    if (ended.every((fork) => "error" in fork)) throw failure;
    return ended;
  }
  const results = new Map(told.map((result) => [result.sandboxId, result]));
  const forks = await Promise.all(
    started.map((fork) => {
      const result = results.get(encodeId("capsule", fork.row.id));
      return settled(
        result?.errorCode === ""
          ? finishStart(deps, fork, result)
          : failCapsule(deps, fork, failureOf(result)),
      );
    }),
  );
  const error = new AppError("no_hosts_available", "the capsule's host has no room for more forks");
  return [...forks, ...Array.from({ length: request.count - forks.length }, () => ({ error }))];
}

/** How a fork is answered: exactly one of both fields. */
export function toFork(result: ForkResult): Fork {
  if ("capsule" in result) return result;
  const { code, message } = result.error;
  return { error: { code, message } };
}

/** Rows for as many forks as the host has room for. */
async function placeForks(
  deps: OperationDeps,
  source: CapsuleRow,
  { actor, count, timeoutSec }: ForkRequest,
): Promise<StartingCapsule[]> {
  return await deps.db.transaction(async (tx) => {
    const host = await lockHost(tx, source.hostId);
    if (host === undefined) {
      throw new AppError("host_unavailable", "the capsule's host takes no capsules at present");
    }
    const room = countRoom(host, source, count);
    if (room === 0) {
      throw new AppError("no_hosts_available", "the capsule's host has no room for a fork");
    }
    const rows: CapsuleRow[] = [];
    for (let index = 0; index < room; index++) {
      const row = {
        ...inherited(source),
        id: newId("capsule"),
        status: "starting",
        timeoutSec: timeoutSec ?? source.timeoutSec,
        operationId: deps.operations.next(),
        stateDeadline: secondsFromNow(STARTING_DEADLINE_SEC),
      } as const;
      rows.push(await insertCapsule(tx, row));
    }
    await recordCapsuleEvents(
      tx,
      rows.map((row) => insertionEvent(row, actor)),
    );
    return rows.map((row) => ({ row, host, actor, key: undefined }));
  });
}

function inherited(source: CapsuleRow) {
  const { teamId, hostId, template, templateId, templateTeamId, vcpus, memoryMb } = source;
  const { diskSizeMb, privatePorts, defaultUser, defaultEnv } = source;
  const place = { teamId, hostId, template, templateId, templateTeamId };
  return { ...place, vcpus, memoryMb, diskSizeMb, privatePorts, defaultUser, defaultEnv };
}

async function settled(start: Promise<Capsule>): Promise<ForkResult> {
  try {
    return { capsule: await start };
  } catch (error) {
    if (error instanceof AppError) return { error };
    throw error;
  }
}

/** The host's words for one fork, as if they had come from a call of its own. */
function failureOf(result: ForkSandboxResponse_Result | undefined): AppError {
  const code = codeFromString(result?.errorCode ?? "") ?? Code.Internal;
  return agentFailure(new ConnectError(result?.errorMessage ?? "no result", code), "place");
}
