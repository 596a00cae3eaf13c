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
import { timestamp } from "../wire.ts";
import type { CapsuleRow, ForkResult, NewCapsule } from "./capsule.ts";
import { RESUME_SOURCES, WIRE_STATUSES, wireStatus } from "./lifecycle.ts";
import { CAPSULES_LISTED_MAX, TEMPLATE_NAME_PATTERN } from "./limits.ts";

const INT32_MIN = -(2 ** 31);

/** Zero and less mean the default of processors and memory, as in the first API. */
export const CreateCapsule = t.Object({
  template: t.Optional(
    t.String({
      pattern: TEMPLATE_NAME_PATTERN,
      description: "Name of a template of the team or of the platform.",
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

export const CapsuleParams = t.Object({
  id: t.String({ maxLength: 64, description: "`cl-` and 25 characters." }),
});

export const Capsule = t.Object({
  id: t.String(),
  status: t.UnionEnum(WIRE_STATUSES),
  template: t.String(),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  timeout_sec: Type.Integer(),
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

/** What a create asks for. Zero processors or less are left to the platform, and so is memory. */
export function toNewCapsule(body: CreateCapsule): NewCapsule {
  const positive = (value: number | undefined) =>
    value !== undefined && value > 0 ? value : undefined;
  return {
    template: body.template,
    vcpus: positive(body.vcpus),
    memoryMb: positive(body.memory_mb),
    timeoutSec: body.timeout_sec ?? 0,
    privatePorts: body.private_ports ?? false,
  };
}

/** What a client sees of a capsule; what is empty is left out. */
export function toCapsule(row: CapsuleRow, trafficToken?: string): Capsule {
  return {
    id: encodeId("capsule", row.id),
    status: wireStatus(row.status),
    template: row.template,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    timeout_sec: row.timeoutSec,
    ...(row.hostIp === "" ? {} : { host_ip: row.hostIp }),
    created_at: timestamp(row.createdAt),
    ...(row.startedAt === null ? {} : { started_at: timestamp(row.startedAt) }),
    ...(row.lastActiveAt === null ? {} : { last_active_at: timestamp(row.lastActiveAt) }),
    last_updated: timestamp(row.lastUpdated),
    ...(Object.keys(row.metadata).length === 0 ? {} : { metadata: row.metadata }),
    ...(row.privatePorts ? { private_ports: true } : {}),
    ...(trafficToken === undefined ? {} : { traffic_token: trafficToken }),
    ...(row.durableAt === null ? {} : { durable_at: timestamp(row.durableAt) }),
    ...(row.reason === "" ? {} : { reason: row.reason }),
  };
}

/** How a fork is answered: exactly one of both fields. */
export function toFork(result: ForkResult, trafficToken?: string): Fork {
  if ("capsule" in result) return { capsule: toCapsule(result.capsule, trafficToken) };
  const { code, message } = result.error;
  return { error: { code, message } };
}
