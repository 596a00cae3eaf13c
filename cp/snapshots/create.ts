// Making a snapshot. What a host may have of it is on record before the host is asked, under the id
// that the template will have; the template itself appears whole, in the transaction that replaces
// the one of the same name if it may. The host knows the attempt by the template's id: a control
// plane that takes over from a dead one joins it.

import { Code, ConnectError } from "@connectrpc/connect";
import type { CreateSnapshotResponse } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { selectHost } from "../agents/host-address.ts";
import { SNAPSHOT_TIMEOUT_MS } from "../agents/limits.ts";
import { recordAudit } from "../audit/record.ts";
import type { Begun } from "../begun.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import { beginSnapshotting, endSnapshotting } from "../capsules/snapshotting.ts";
import type { Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import { type EventActor, recordEvents } from "../events/outbox.ts";
import type { Claim } from "../idempotency/answer-once.ts";
import { type HeldTeam, holdTeam, requireRoom } from "../limits/placing.ts";
import { templatesInTheWay } from "../templates/service.ts";
import { DEFAULT_ALIAS, isReserved, type TemplateRow } from "../templates/template.ts";
import type { SnapshotDeps } from "./deps.ts";
import { snapshotEvent } from "./events.ts";
import {
  deleteOperation,
  deleteTemplate,
  insertOperation,
  insertTemplate,
  isUniqueViolation,
  type OperationRow,
  secondsFromNow,
  selectCreate,
  selectSource,
  selectTemplate,
  updateToDelete,
} from "./queries.ts";
import { REMOVAL_LEASE_SEC, recordRemovals, removeFiles } from "./remove.ts";

/** The host's answer, and time to write it down. */
const DEADLINE_SEC = SNAPSHOT_TIMEOUT_MS / 1000 + 30;
/** How long another control plane, which has the host's answer too, may take to write it down. */
const SETTLED_WAIT_MS = 30_000;
const SETTLED_POLL_MS = 50;

export interface SnapshotRequest {
  readonly source: RunningCapsule;
  readonly actor: EventActor;
  readonly name: string;
  readonly isOverwriting: boolean;
  readonly claim: Claim<"template">;
}

/**
 * Begins to make a template of the capsule. Throws, or ends with, `name_reserved`, `template_name_taken`, the 402
 * of a limit of the team, and what the host refused it with; nothing is left of it then, or what is left is removed
 * as soon as its host answers. A template that was to be replaced is still there.
 */
export async function createSnapshot(
  deps: SnapshotDeps,
  request: SnapshotRequest,
): Promise<Begun<string, TemplateRow>> {
  const { capsule } = request.source;
  const operation = await deps.db.transaction(async (tx) => {
    const templateId = crypto.randomUUID();
    const team = await holdTeamOf(deps, tx, capsule);
    await request.claim?.(tx, [templateId]);
    const isOneMore = await requireFreeName(tx, request);
    // How large it will be is not known: that is looked at when it is.
    const asked = { snapshots: isOneMore ? 1 : 0, snapshotMb: 1 };
    requireRoom(team.limits, await team.snapshotUse(), asked);
    const inserted = await insertOperation(tx, {
      templateId,
      hostId: capsule.hostId,
      kind: "create",
      operationId: deps.operations.next(),
      deadline: secondsFromNow(DEADLINE_SEC),
      teamId: capsule.teamId,
      name: request.name,
      capsuleId: capsule.id,
      isOverwriting: request.isOverwriting,
      actor: request.actor,
    });
    if (inserted === undefined) throw nameTaken(request.name);
    const { actor } = request;
    await recordAudit(tx, {
      ...{ teamId: capsule.teamId, actor, resource: { type: "snapshot", id: request.name } },
      ...{ action: "create", metadata: { sandbox_id: encodeId("capsule", capsule.id) } },
    });
    await beginSnapshotting(tx, { id: capsule.id, actor, deadlineSec: DEADLINE_SEC });
    return inserted;
  });
  const done = runCreate(deps, operation, { timeoutMs: SNAPSHOT_TIMEOUT_MS });
  return { ids: [operation.templateId], done };
}

/**
 * Asks the host, or joins who asked before, and records the outcome. Throws like the create; when
 * `isJoining`, a host that does not answer in time decides nothing: `service_unavailable`.
 */
export async function runCreate(
  deps: SnapshotDeps,
  operation: OperationRow,
  { timeoutMs, isJoining = false }: { timeoutMs: number; isJoining?: boolean },
): Promise<TemplateRow> {
  let reported: CreateSnapshotResponse;
  try {
    reported = await askHost(deps, operation, timeoutMs);
  } catch (error) {
    if (deps.ending.aborted) {
      throw new AppError("service_unavailable", "the control plane is stopping: try again");
    }
    const failure = error instanceof AppError ? error : agentFailure(error, "placement");
    const isAtIt = isUndecided(error, failure);
    if (isJoining && isAtIt) {
      throw new AppError("service_unavailable", "the host is still at it", { cause: error });
    }
    await failCreate(deps, operation, { failure, isAtIt });
    throw failure;
  }
  return await recordCreated(deps, operation, reported);
}

/**
 * Nothing may be left of it. What the host may still be making (`isAtIt`) is removed once it must
 * have come to an end: a removal before that would find nothing.
 */
export async function failCreate(
  deps: SnapshotDeps,
  operation: OperationRow,
  { failure, isAtIt }: { failure: AppError; isAtIt: boolean },
): Promise<void> {
  const removal = await deps.db.transaction(async (tx) => {
    const leaseSec = isAtIt ? DEADLINE_SEC : REMOVAL_LEASE_SEC;
    const updated = await updateToDelete(tx, operation, leaseSec);
    if (updated !== undefined) {
      const event = snapshotEvent("template.snapshot.create", operation, failure.message);
      await recordEvents(tx, [event]);
      await endSnapshottingOf(tx, operation);
    }
    return updated;
  });
  if (removal !== undefined && !isAtIt) await removeFiles(deps, removal);
}

async function askHost(deps: SnapshotDeps, operation: OperationRow, timeoutMs: number) {
  const { templateId, teamId, capsuleId, hostId } = operation;
  if (capsuleId === null) throw new Error("unreachable: a create without its capsule");
  const host = await selectHost(deps.db, hostId);
  if (host === undefined || host.address === "") {
    throw new AppError("host_unavailable", "the capsule's host was deleted");
  }
  const options = { timeoutMs, signal: deps.ending };
  const sandboxId = encodeId("capsule", capsuleId);
  const request = { sandboxId, teamId, templateId, operationId: templateId };
  return await deps.agents.at(host).createSnapshot(request, options);
}

/** The template, with the one that it replaces gone. */
async function recordCreated(
  deps: SnapshotDeps,
  operation: OperationRow,
  reported: CreateSnapshotResponse,
): Promise<TemplateRow> {
  const { name } = operation;
  try {
    const created = await deps.db.transaction(async (tx) => {
      const team = await holdTeamOf(deps, tx, operation);
      if (!(await deleteOperation(tx, operation))) return undefined;
      const replaced = operation.isOverwriting ? await replaceOld(deps, tx, operation) : [];
      const snapshotMb = Number(reported.sizeBytes) / 2 ** 20;
      requireRoom(team.limits, await team.snapshotUse(), { snapshotMb });
      const template = await insertCreated(tx, operation, reported);
      await endSnapshottingOf(tx, operation);
      return { template, replaced };
    });
    if (created !== undefined) {
      for (const removal of created.replaced) deps.inBackground(removeFiles(deps, removal));
      return created.template;
    }
  } catch (error) {
    const failure = isUniqueViolation(error) ? nameTaken(name, error) : error;
    if (!(failure instanceof AppError)) throw error;
    await failCreate(deps, operation, { failure, isAtIt: false });
    throw failure;
  }
  return await settledTemplate(deps, operation.templateId, SETTLED_WAIT_MS);
}

async function holdTeamOf(
  deps: SnapshotDeps,
  tx: Tx,
  { teamId }: Pick<OperationRow, "teamId">,
): Promise<HeldTeam> {
  return await holdTeam(tx, { teamId, defaults: deps.teamLimits });
}

/** Nobody sees the capsule as it was before, and the template or its failure not yet, or the other way round. */
async function endSnapshottingOf(tx: Tx, { capsuleId: id, actor }: OperationRow): Promise<void> {
  if (id !== null) await endSnapshotting(tx, { id, actor });
}

/** The template that was made, or what is known of it while it is being made. Throws like `recordedTemplate`. */
export async function templateSoFar(deps: SnapshotDeps, id: string): Promise<TemplateRow> {
  const operation = await selectCreate(deps.db, id);
  if (operation === undefined || operation.capsuleId === null) return recordedTemplate(deps, id);
  const source = await selectSource(deps.db, operation.capsuleId);
  if (source === undefined) throw new Error("unreachable: the row of a capsule was deleted");
  const { teamId, name, createdAt } = operation;
  const known = { id, teamId, name, createdAt, type: "snapshot" } as const;
  return { ...source, ...known, sizeBytes: 0, metadata: {}, isPublic: false };
}

/** The template that was made. Throws `conflict` when it was deleted since. */
export async function recordedTemplate(deps: SnapshotDeps, id: string): Promise<TemplateRow> {
  const template = await selectTemplate(deps.db, id);
  if (template !== undefined) return template;
  throw new AppError("conflict", "the snapshot was given up, or deleted meanwhile");
}

/**
 * The template that another control plane, or another request, is making, once it is there. Throws
 * `conflict` when it was given up, `service_unavailable` when that takes longer than `waitMs`.
 */
export async function settledTemplate(
  deps: SnapshotDeps,
  templateId: string,
  waitMs: number,
): Promise<TemplateRow> {
  const endsAtMs = performance.now() + waitMs;
  while ((await selectCreate(deps.db, templateId)) !== undefined) {
    if (performance.now() > endsAtMs) {
      throw new AppError("service_unavailable", "the snapshot is still being made: try again");
    }
    await Bun.sleep(SETTLED_POLL_MS);
  }
  return await recordedTemplate(deps, templateId);
}

async function insertCreated(
  tx: Tx,
  operation: OperationRow,
  reported: CreateSnapshotResponse,
): Promise<TemplateRow> {
  const { templateId, hostId, teamId, name, capsuleId } = operation;
  const source = capsuleId === null ? undefined : await selectSource(tx, capsuleId);
  if (source === undefined) throw new Error("unreachable: the row of a capsule was deleted");
  const { resumed_from: _, ...metadata } = source.metadata;
  const template = await insertTemplate(tx, {
    ...source,
    id: templateId,
    hostId,
    teamId,
    name,
    type: "snapshot",
    vcpus: reported.vcpus > 0 ? reported.vcpus : source.vcpus,
    memoryMb: reported.memoryMb > 0 ? reported.memoryMb : source.memoryMb,
    sizeBytes: Number(reported.sizeBytes),
    metadata,
  });
  await recordEvents(tx, [snapshotEvent("template.snapshot.create", operation)]);
  return template;
}

async function replaceOld(
  deps: SnapshotDeps,
  tx: Tx,
  { teamId, name, actor }: OperationRow,
): Promise<OperationRow[]> {
  const old = await deleteTemplate(tx, { teamId, name });
  return old === undefined ? [] : await recordRemovals(deps, tx, { ...old, actor });
}

/** Whether there is none of the name yet. */
async function requireFreeName(tx: Tx, request: SnapshotRequest): Promise<boolean> {
  const { name, isOverwriting } = request;
  const { teamId } = request.source.capsule;
  const named = await templatesInTheWay(tx, { teamId, name });
  if (name === DEFAULT_ALIAS || named.some((row) => isReserved(row, teamId))) {
    throw new AppError("name_reserved", `name: "${name}" is a template of the platform`);
  }
  const own = named[0];
  if (own !== undefined && !(isOverwriting && own.type === "snapshot")) throw nameTaken(name);
  return own === undefined;
}

function nameTaken(name: string, cause?: unknown): AppError {
  const message = `name: the template "${name}" exists already, or is being made`;
  return new AppError("template_name_taken", message, { cause });
}

/** The host is at it, or cannot be asked: it may come to an end yet. */
function isUndecided(error: unknown, failure: AppError): boolean {
  const isLate = ConnectError.from(error).code === Code.DeadlineExceeded;
  return isLate || failure.code === "host_unavailable";
}
