// Creating a capsule.
//
// The row comes first, in one transaction with its place on a host and with the client's
// idempotency key. Then the host is asked. Whatever becomes of the client, of this process, of the
// host or of the database in between, the row says how far it got: what nobody finishes is settled
// from what the host says (loops/settle-operations.ts).

import type { CreateSandboxResponse } from "../../proto/gen/hostagent/hostagent_pb.js";
import { MEMORY_MB_MIN } from "../../proto/hostagent/bounds.ts";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import type { AgentOfHost } from "../agents/agent-clients.ts";
import { agentFailure, isCutOff } from "../agents/agent-errors.ts";
import { CREATE_TIMEOUT_MS, DESTROY_TIMEOUT_MS } from "../agents/limits.ts";
import type { Begun } from "../begun.ts";
import { ENDED_STATES } from "../capsule-states.ts";
import { secondsFromNow } from "../db/time.ts";
import { AppError } from "../errors.ts";
import { type EventActor, recordEvents } from "../events/outbox.ts";
import { answerOnce, type Claim } from "../idempotency/answer-once.ts";
import { freeKey, type KeyedRequest, keepOutcome } from "../idempotency/service.ts";
import { holdTeam, requireRoom } from "../limits/placing.ts";
import { lockHost, selectCandidateHosts } from "../scheduler/host-loads.ts";
import { type CapsuleShape, type HostLoad, hasRoom, rankHosts } from "../scheduler/placement.ts";
import { type FoundTemplate, findTemplate, hostsOfTemplate } from "../templates/service.ts";
import type { TemplateRow } from "../templates/template.ts";
import type { CapsuleRow, NewCapsule } from "./capsule.ts";
import type { CapsuleDefaults, CapsuleDeps } from "./deps.ts";
import { insertionEvent } from "./events.ts";
import { DISK_SIZE_MB } from "./limits.ts";
import { moveCapsule, moveFromAny, runningColumns } from "./moves.ts";
import { insertCapsule, selectCapsule, updateDeadline } from "./queries.ts";
import { recordedCapsule, settledCreate } from "./settled.ts";

/** From the insert to the question to the host there is only one short transaction. */
const PENDING_DEADLINE_SEC = 30;
/** The host's answer, the clean-up when it is a failure, and time to write it down. */
export const STARTING_DEADLINE_SEC = (CREATE_TIMEOUT_MS + DESTROY_TIMEOUT_MS) / 1000 + 30;

export interface CreateRequest {
  readonly teamId: Id<"team">;
  readonly actor: EventActor;
  readonly asked: NewCapsule;
  readonly key: KeyedRequest | undefined;
}

/**
 * Begins to create a capsule; the end is that it runs. Throws `not_found` for the template, `invalid_request`,
 * the 402 of a limit of the team, `no_hosts_available`, `agent_error` (the capsule is then `error` and not on
 * the host), and `conflict` when it was destroyed meanwhile or the idempotency key belongs to another body.
 */
export async function createCapsule(
  deps: CapsuleDeps,
  request: CreateRequest,
): Promise<Begun<Id<"capsule">, CapsuleRow>> {
  return await answerOnce(deps.db, request.key, {
    kind: "capsule",
    run: async (claim) => await placeAndStart(deps, request, claim),
    settled: async ([id]) => await settledCreate(deps.db, id),
    found: async ([id]) => await recordedCapsule(deps.db, id),
    areFailuresKept: false,
  });
}

async function placeAndStart(
  deps: CapsuleDeps,
  request: CreateRequest,
  claim: Claim<"capsule">,
): Promise<Begun<Id<"capsule">, CapsuleRow>> {
  const { teamId } = request;
  const template = await findTemplate(deps.db, {
    teamId,
    reference: request.asked.template,
    defaultName: deps.defaults.template,
  });
  const placed = await placeCapsule(deps, { request, template, claim });
  const { actor, key } = request;
  const done = startPlaced(deps, { ...placed, template, actor, key });
  return { ids: [placed.row.id], done };
}

async function startPlaced(deps: CapsuleDeps, start: Start): Promise<CapsuleRow> {
  try {
    return await startCapsule(deps, start);
  } catch (error) {
    // Not one of the outcomes: the database failed us. Nobody else waits for this operation, so let
    // it be settled at once instead of at its deadline.
    if (!(error instanceof AppError)) {
      const { id, operationId } = start.row;
      await updateDeadline(deps.db, { id, operationId, afterSec: 0 }).catch(() => {});
    }
    throw error;
  }
}

interface Placed {
  readonly row: CapsuleRow;
  readonly host: HostLoad;
}

/** Claims a place on the best host that has room, in the transaction that inserts the row. */
async function placeCapsule(
  deps: CapsuleDeps,
  {
    request,
    template,
    claim,
  }: { request: CreateRequest; template: FoundTemplate; claim: Claim<"capsule"> },
): Promise<Placed> {
  const { asked } = request;
  const shape = shapeOf(asked, { template, defaults: deps.defaults });
  const candidates = await findCandidates(deps, request.teamId, template);

  for (const candidate of rankHosts(candidates, shape)) {
    const placed = await deps.db.transaction(async (tx) => {
      const { teamId } = request;
      const team = await holdTeam(tx, { teamId, defaults: deps.teamLimits });
      requireRoom(team.limits, await team.capsuleUse(), amountsOf(shape, 1));
      const host = await lockHost(tx, candidate.id);
      if (host === undefined || !hasRoom(host, shape)) return null;
      const id = newId("capsule");
      await claim?.(tx, [id]);
      const row = await insertCapsule(tx, {
        id,
        teamId,
        hostId: host.id,
        template: template.reference,
        templateId: template.id,
        templateTeamId: template.teamId,
        ...shape,
        timeoutSec: asked.timeoutSec,
        privatePorts: asked.privatePorts,
        labels: asked.labels,
        defaultUser: template.defaultUser,
        defaultEnv: template.defaultEnv,
        operationId: deps.operations.next(),
        stateDeadline: secondsFromNow(PENDING_DEADLINE_SEC),
      });
      await recordEvents(tx, [insertionEvent(row, request.actor)]);
      return { row, host };
    });
    if (placed !== null) return placed;
  }
  throw new AppError("no_hosts_available", "no host has sufficient resources for the capsule");
}

/** What that many of the shape have of their team's limits. */
export function amountsOf({ vcpus, memoryMb, diskSizeMb }: CapsuleShape, count: number) {
  const disk = { diskMb: diskSizeMb * count };
  return { capsules: count, vcpus: vcpus * count, memoryMb: memoryMb * count, ...disk };
}

/** Hosts that are online and, when the template holds memory, have it. */
async function findCandidates(
  deps: CapsuleDeps,
  teamId: Id<"team">,
  template: TemplateRow,
): Promise<HostLoad[]> {
  const online = await selectCandidateHosts(deps.db, teamId);
  if (online.length === 0) throw new AppError("no_hosts_available", "no host is online");
  if (template.type !== "snapshot") return online;
  const holders = await hostsOfTemplate(deps.db, template.id);
  const having = online.filter(({ id }) => holders.has(id));
  if (having.length > 0) return having;
  const message = `no host that has the template "${template.name}" is online`;
  throw new AppError("no_hosts_available", message);
}

/** A template that holds memory fixes its size. */
function shapeOf(
  asked: NewCapsule,
  { template, defaults }: { template: TemplateRow; defaults: CapsuleDefaults },
): CapsuleShape {
  const diskSizeMb = DISK_SIZE_MB;
  if (template.type === "snapshot") {
    return { vcpus: template.vcpus, memoryMb: template.memoryMb, diskSizeMb };
  }
  const { vcpus = defaults.vcpus, memoryMb = defaults.memoryMb } = asked;
  if (memoryMb < MEMORY_MB_MIN) {
    throw new AppError("invalid_request", `memory_mb: must be at least ${MEMORY_MB_MIN}`);
  }
  return { vcpus, memoryMb, diskSizeMb };
}

/** A capsule in `starting`, whose start this process is to end. */
export interface StartingCapsule {
  readonly row: CapsuleRow;
  readonly host: AgentOfHost & Pick<HostLoad, "id">;
  readonly actor: EventActor;
  readonly key: KeyedRequest | undefined;
}

interface Start extends StartingCapsule {
  readonly template: TemplateRow;
}

async function startCapsule(deps: CapsuleDeps, start: Start): Promise<CapsuleRow> {
  const { row, host, actor } = start;
  const { id, operationId } = row;
  const starting = await moveCapsule(deps.db, {
    id,
    from: "pending",
    to: "starting",
    operationId,
    set: { stateDeadline: secondsFromNow(STARTING_DEADLINE_SEC) },
    event: { type: "capsule.state.changed", outcome: "", actor },
  });
  if (starting === undefined) return await overtaken(deps, start);

  let reported: CreateSandboxResponse;
  try {
    const options = { timeoutMs: CREATE_TIMEOUT_MS, signal: deps.ending };
    reported = await deps.agents.at(host).createSandbox(toAgent(deps, start), options);
  } catch (error) {
    // The host goes on, and the next control plane sees what becomes of it.
    if (deps.ending.aborted) {
      throw new AppError("service_unavailable", "the control plane is stopping: try again");
    }
    const failure = agentFailure(error, "create");
    // A host that was cut off may be asked again, by the same key too: nothing of this one stays.
    return await failCapsule(deps, start, failure, { isKeyFree: isCutOff(error) });
  }
  return await finishStart(deps, start, reported);
}

/** Records what the host told. Throws `conflict` when the capsule was destroyed meanwhile. */
export async function finishStart(
  deps: CapsuleDeps,
  start: StartingCapsule,
  reported: { hostIp: string; metadata: Record<string, string> },
): Promise<CapsuleRow> {
  return (await recordRunning(deps, start, reported)) ?? (await overtaken(deps, start));
}

function toAgent(deps: CapsuleDeps, { row, template }: Start) {
  return {
    sandboxId: encodeId("capsule", row.id),
    operationId: row.operationId,
    teamId: row.teamId,
    templateId: template.id,
    templateTeamId: template.teamId,
    vcpus: row.vcpus,
    memoryMb: row.memoryMb,
    diskSizeMb: row.diskSizeMb,
    timeoutSec: row.timeoutSec,
    defaultUser: row.defaultUser,
    defaultEnv: row.defaultEnv,
    envdAccessToken: deps.envdTokens.of(row.id),
  };
}

/** Undefined when the capsule is not this operation's to move any more. */
async function recordRunning(
  deps: CapsuleDeps,
  { row, actor, key }: StartingCapsule,
  reported: { hostIp: string; metadata: Record<string, string> },
): Promise<CapsuleRow | undefined> {
  return await deps.db.transaction(async (tx) => {
    // `missing`: the host fell silent for the monitor meanwhile, but has answered us.
    const moved = await moveFromAny(tx, ["starting", "missing"], {
      id: row.id,
      to: "running",
      operationId: row.operationId,
      set: runningColumns(reported),
      event: { type: "capsule.create", outcome: "success", actor },
    });
    if (moved === undefined) return undefined;
    if (key !== undefined) await keepOutcome(tx, key, null);
    return moved;
  });
}

/**
 * Nothing may be left of a create that failed, neither on the host nor as a promise. Throws the
 * failure, if the capsule has not gone on in spite of it.
 */
export async function failCapsule(
  deps: CapsuleDeps,
  start: StartingCapsule,
  failure: AppError,
  { isKeyFree = false } = {},
): Promise<CapsuleRow> {
  const { row, host, actor, key } = start;
  await destroyOnHost(deps, host, row.id);
  const failed = await deps.db.transaction(async (tx) => {
    const moved = await moveCapsule(tx, {
      id: row.id,
      from: "starting",
      to: "error",
      operationId: row.operationId,
      set: { reason: failure.message, errorCode: failure.code },
      event: { type: "capsule.create", outcome: "error", actor, error: failure.message },
    });
    if (moved !== undefined && key !== undefined) {
      if (isKeyFree) await freeKey(tx, key);
      else await keepOutcome(tx, key, failure);
    }
    return moved;
  });
  if (failed !== undefined) throw failure;
  return await overtaken(deps, start);
}

/** Somebody else moved the capsule on: a destroy, or a control plane that took us for dead. */
async function overtaken(deps: CapsuleDeps, { row, host }: StartingCapsule): Promise<CapsuleRow> {
  const current = await selectCapsule(deps.db, row.id);
  const isEnding = ["stopping", ...ENDED_STATES].includes(current?.status ?? "stopped");
  // The host may have begun after it was told to destroy.
  if (isEnding) await destroyOnHost(deps, host, row.id);
  return await settledCreate(deps.db, row.id);
}

/** Best effort: what stays because the host does not answer is destroyed when it does again. */
async function destroyOnHost(
  deps: CapsuleDeps,
  host: StartingCapsule["host"],
  id: Id<"capsule">,
): Promise<void> {
  const sandboxId = encodeId("capsule", id);
  try {
    const options = { timeoutMs: DESTROY_TIMEOUT_MS, signal: deps.ending };
    await deps.agents.at(host).destroySandbox({ sandboxId }, options);
  } catch (error) {
    deps.log.warn("clean-up after a failed create is left to the reconciler", {
      capsule: sandboxId,
      host: host.id,
      error,
    });
  }
}
