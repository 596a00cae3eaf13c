// Capsules on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import {
  FORKS_MAX,
  MEMORY_MB_MAX,
  TIMEOUT_SEC_MAX,
  VCPUS_MAX,
} from "../../proto/hostagent/bounds.ts";
import { encodeId } from "../../proto/ids.ts";
import { CAPSULE_STATES } from "../capsule-states.ts";
import { AppError } from "../errors.ts";
import { IdempotencyHeaders } from "../idempotency/schema.ts";
import { timestamp } from "../wire.ts";
import type { CapsuleRow, ForkResult, Labels, NewCapsule } from "./capsule.ts";
import { RESUME_SOURCES } from "./lifecycle.ts";
import {
  CAPSULES_LISTED_MAX,
  LABEL_FILTER_LENGTH_MAX,
  LABEL_LENGTH_MAX,
  LABELS_MAX,
  TEMPLATE_REFERENCE_PATTERN,
  VOLUME_ID_LENGTH_MAX,
  VOLUMES_MAX,
} from "./limits.ts";

const INT32_MIN = -(2 ** 31);

/** What hosts say in a capsule's metadata: nobody else may. */
const SYSTEM_KEYS = "kernel_version|vmm|vmm_version|agent_version|envd_version|resumed_from";
const LABEL_KEY = `^(?!(?:${SYSTEM_KEYS})$)[a-zA-Z0-9][a-zA-Z0-9._-]{0,${LABEL_LENGTH_MAX - 1}}$`;
const LABEL_VALUE = `^[^\\u0000]{0,${LABEL_LENGTH_MAX}}$`;

/** Zero and less mean the default of processors and memory, as in the first API. */
export const CreateCapsule = t.Object({
  template: t.Optional(
    t.String({
      pattern: TEMPLATE_REFERENCE_PATTERN,
      description:
        "Name of a template of the team or of the platform; `<slug>/<name>` of another team's that is " +
        "public; `wrenn/<name>` of the platform's.",
    }),
  ),
  vcpus: t.Optional(
    Type.Integer({
      minimum: INT32_MIN,
      maximum: VCPUS_MAX,
      description: "Zero or less means the default.",
    }),
  ),
  memory_mb: t.Optional(
    Type.Integer({
      minimum: INT32_MIN,
      maximum: MEMORY_MB_MAX,
      description: "MiB, at least 128. Zero or less means the default.",
    }),
  ),
  timeout_sec: t.Optional(
    Type.Integer({
      minimum: 0,
      maximum: TIMEOUT_SEC_MAX,
      description: "How long the capsule may be inactive, in seconds; 0 means any time.",
    }),
  ),
  metadata: t.Optional(
    t.Record(t.String({ pattern: LABEL_KEY }), t.String({ pattern: LABEL_VALUE }), {
      maxProperties: LABELS_MAX,
      additionalProperties: false,
      description: "Names and values of yours: the list finds capsules by them.",
    }),
  ),
  volume_ids: t.Optional(
    t.Array(t.String({ maxLength: VOLUME_ID_LENGTH_MAX }), {
      maxItems: VOLUMES_MAX,
      description: "There are no volumes yet: anything but none is answered with 501.",
    }),
  ),
  private_ports: t.Optional(
    Type.Boolean({
      description:
        "Whether the URLs of its ports ask for `traffic_token`; if not, they are public.",
    }),
  ),
});
export type CreateCapsule = Static<typeof CreateCapsule>;

export const ResumeCapsule = t.Object({
  from: t.Optional(
    t.UnionEnum([...RESUME_SOURCES], {
      description:
        "`memory`: the last pause, with the disk of then; a disk that went on since is set aside. `disk`: " +
        "boots the disk as it is; the memory stays. Default: whatever is newest.",
    }),
  ),
  memory: t.Optional(
    Type.Boolean({
      deprecated: true,
      description: "False is `disk` in `from`, true its default. Not beside `from`.",
    }),
  ),
});
export type ResumeCapsule = Static<typeof ResumeCapsule>;

export const ForkCapsule = t.Object({
  count: t.Optional(
    Type.Integer({ minimum: 1, maximum: FORKS_MAX, description: "How many. Default 1." }),
  ),
  timeout_sec: t.Optional(
    Type.Integer({
      minimum: 0,
      maximum: TIMEOUT_SEC_MAX,
      description: "As in a create. Default: the source's.",
    }),
  ),
});
export type ForkCapsule = Static<typeof ForkCapsule>;

export const ListQuery = t.Object({
  metadata: t.Optional(
    t.String({
      maxLength: LABEL_FILTER_LENGTH_MAX,
      description:
        "Only those with all these, written like a query: `metadata=app%3Dweb%26tier%3Dfree`.",
    }),
  ),
});

/** Of a route whose work may go on behind its answer. */
export const HeldHeaders = t.Object({
  prefer: t.Optional(
    t.String({
      description:
        "RFC 7240: `respond-async` is answered at once, `wait=N` after at most N seconds; " +
        "what else it says is ignored.",
    }),
  ),
});

/** The same of one that may be asked twice. */
export const KeyedHeldHeaders = t.Composite([IdempotencyHeaders, HeldHeaders]);

export const CapsuleParams = t.Object({
  id: t.String({ maxLength: 64, description: "`cl-` and 25 characters." }),
});

export const Capsule = t.Object({
  id: t.String(),
  status: t.UnionEnum(CAPSULE_STATES, {
    description:
      "`snapshotting`: a snapshot of it is being made. It is `running` or `paused` besides, goes back to " +
      "that, and takes every call that it takes then.",
  }),
  template: t.String(),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  timeout_sec: Type.Integer(),
  disk_size_mb: Type.Integer({ description: "Size of its root disk; 0 until it has booted." }),
  disk_used_mb: t.Optional(
    Type.Integer({
      description:
        "What its root disk took of its host when that last told, which hosts do every few seconds. Only " +
        "where one capsule is asked for.",
    }),
  ),
  host_ip: t.Optional(t.String()),
  created_at: t.String({ format: "date-time" }),
  started_at: t.Optional(t.String({ format: "date-time" })),
  last_active_at: t.Optional(t.String({ format: "date-time" })),
  last_updated: t.String({ format: "date-time" }),
  metadata: t.Optional(t.Record(t.String(), t.String())),
  private_ports: t.Optional(Type.Boolean()),
  traffic_token: t.Optional(
    t.String({
      description: "For the header X-Wrenn-Traffic-Token of requests to private ports.",
    }),
  ),
  durable_at: t.Optional(
    t.String({
      format: "date-time",
      description: "Since when the pause is safe against a failure of the capsule's host.",
    }),
  ),
  reason: t.Optional(t.String({ description: "Why the capsule failed or was stopped." })),
});
export type Capsule = Static<typeof Capsule>;

export const CapsuleList = t.Array(Capsule, { maxItems: CAPSULES_LISTED_MAX });

/** Exactly one of both. */
const Fork = t.Object({
  capsule: t.Optional(Capsule),
  error: t.Optional(t.Object({ code: t.String(), message: t.String() })),
});
type Fork = Static<typeof Fork>;

export const ForkList = t.Array(Fork, { maxItems: FORKS_MAX });

/**
 * What a create asks for. Zero processors or less are left to the platform, and so is memory. Throws
 * `not_implemented` for volumes.
 */
export function toNewCapsule(body: CreateCapsule): NewCapsule {
  if (body.volume_ids !== undefined && body.volume_ids.length > 0) {
    throw new AppError("not_implemented", "volume_ids: there are no volumes yet");
  }
  const positive = (value: number | undefined) =>
    value !== undefined && value > 0 ? value : undefined;
  return {
    template: body.template,
    vcpus: positive(body.vcpus),
    memoryMb: positive(body.memory_mb),
    timeoutSec: body.timeout_sec ?? 0,
    privatePorts: body.private_ports ?? false,
    labels: body.metadata ?? {},
  };
}

/** What a list is asked for. Throws `invalid_request` for what no capsule can have. */
export function toLabels({ metadata = "" }: Static<typeof ListQuery>): Labels {
  const labels = Object.fromEntries(new URLSearchParams(metadata));
  for (const [key, value] of Object.entries(labels)) {
    if (!new RegExp(LABEL_KEY).test(key) || !new RegExp(LABEL_VALUE).test(value)) {
      throw new AppError("invalid_request", "metadata: must be names and values, k=v&k=v");
    }
  }
  return labels;
}

/** What a client sees of a capsule; what is empty is left out. */
export function toCapsule(row: CapsuleRow, trafficToken?: string): Capsule {
  // What hosts say wins: a program of ours may have come to say more.
  const metadata = { ...row.labels, ...row.metadata };
  return {
    id: encodeId("capsule", row.id),
    status: row.status,
    template: row.template,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    timeout_sec: row.timeoutSec,
    disk_size_mb: row.startedAt === null ? 0 : row.diskSizeMb,
    ...(row.hostIp === "" ? {} : { host_ip: row.hostIp }),
    created_at: timestamp(row.createdAt),
    ...(row.startedAt === null ? {} : { started_at: timestamp(row.startedAt) }),
    ...(row.lastActiveAt === null ? {} : { last_active_at: timestamp(row.lastActiveAt) }),
    last_updated: timestamp(row.lastUpdated),
    ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
    ...(row.privatePorts ? { private_ports: true } : {}),
    ...(trafficToken === undefined ? {} : { traffic_token: trafficToken }),
    ...(row.durableAt === null ? {} : { durable_at: timestamp(row.durableAt) }),
    ...(row.reason === "" ? {} : { reason: row.reason }),
  };
}

/** The same of one that was asked for alone. */
export function toCapsuleInFull(row: CapsuleRow, trafficToken?: string): Capsule {
  const used = row.diskUsedMb === null ? {} : { disk_used_mb: row.diskUsedMb };
  return { ...toCapsule(row, trafficToken), ...used };
}

/** How a fork is answered: exactly one of both fields. */
export function toFork(result: ForkResult, trafficToken?: string): Fork {
  if ("capsule" in result) return { capsule: toCapsule(result.capsule, trafficToken) };
  const { code, message } = result.error;
  return { error: { code, message } };
}
