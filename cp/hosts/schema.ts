// Hosts and their agents' credentials, on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import { HOST_STATUSES, HOST_TYPES } from "../db/tables.ts";
import { ID_LENGTH_MAX, parseId, timestamp } from "../wire.ts";
import type { HostFacts, HostRow, NewHost } from "./host.ts";

/** No control characters: NUL isn't storable, the others garble lists. */
const label = Type.String({ maxLength: 64, pattern: "^[^\\u0000-\\u001f\\u007f]*$" });
const token = Type.String({ minLength: 1, maxLength: 128 });
/** One of ours has 400 characters. */
const csr = Type.String({
  minLength: 1,
  maxLength: 4096,
  description:
    "PKCS #10 in PEM, with a key of ECDSA and the curve P-256 that the agent has made and keeps.",
});

export const CreateHost = Type.Object({
  type: Type.Union([Type.Literal("regular"), Type.Literal("byoc")]),
  team_id: Type.Optional(Type.String({ maxLength: ID_LENGTH_MAX })),
  provider: Type.Optional(label),
  availability_zone: Type.Optional(label),
});
type CreateHost = Static<typeof CreateHost>;

export const HostParams = Type.Object({ id: Type.String({ maxLength: ID_LENGTH_MAX }) });

export const RegisterHost = Type.Object({
  token,
  csr,
  arch: Type.String({ maxLength: 32, pattern: "^[A-Za-z0-9_.-]*$" }),
  cpu_cores: Type.Integer({ minimum: 1, maximum: 65_536 }),
  memory_mb: Type.Integer({ minimum: 1, maximum: 2_147_483_647 }),
  disk_gb: Type.Integer({ minimum: 0, maximum: 2_147_483_647 }),
  address: Type.String({
    maxLength: 255,
    pattern: "^([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$",
    description: "`host:port` at which the control plane reaches the agent.",
  }),
});
type RegisterHost = Static<typeof RegisterHost>;

export const RefreshHost = Type.Object({ refresh_token: token, csr });

export const Host = Type.Object(
  {
    id: Type.String(),
    type: t.UnionEnum(HOST_TYPES),
    team_id: Type.Optional(Type.String()),
    team_name: Type.Optional(Type.String()),
    provider: Type.Optional(Type.String()),
    availability_zone: Type.Optional(Type.String()),
    arch: Type.Optional(Type.String()),
    cpu_cores: Type.Optional(Type.Integer()),
    memory_mb: Type.Optional(Type.Integer()),
    disk_gb: Type.Optional(Type.Integer()),
    address: Type.Optional(Type.String()),
    status: t.UnionEnum(HOST_STATUSES),
    last_heartbeat_at: Type.Optional(Type.String({ format: "date-time" })),
    created_by: Type.Optional(Type.String()),
    created_at: Type.String({ format: "date-time" }),
    updated_at: Type.String({ format: "date-time" }),
  },
  { $id: "Host" },
);
export type Host = Static<typeof Host>;

export const HostList = Type.Array(Host);

export const HostWithRegistrationToken = Type.Object({
  host: Host,
  registration_token: Type.String({ description: "Works once, within an hour." }),
});

export const HostCredentials = Type.Object({
  host: Host,
  token: Type.String({ description: "For the `X-Host-Token` header, good for seven days." }),
  refresh_token: Type.String({
    description:
      "Gets the next credentials, once, within sixty days. One that is used again by another key voids all.",
  }),
  cert_pem: Type.String({ description: "The agent's certificate, good for a day." }),
  ca_cert_pem: Type.String({ description: "Whose certificates those have who call the agent." }),
});

/** Throws `invalid_request` for a malformed team. */
export function toNewHost(body: CreateHost): NewHost {
  return {
    type: body.type,
    teamId: body.team_id === undefined ? null : parseId("team", body.team_id, "team_id"),
    provider: body.provider ?? "",
    availabilityZone: body.availability_zone ?? "",
  };
}

export function toHostFacts(body: RegisterHost): HostFacts {
  const { arch, cpu_cores: cpuCores, memory_mb: memoryMb, disk_gb: diskGb, address } = body;
  return { arch, cpuCores, memoryMb, diskGb, address };
}

/** A host as those who may see it do; what is not known is left out. */
export function toHost(row: HostRow, teamName: string | null = null): Host {
  const text = (name: string, value: string | null) => (value ? { [name]: value } : {});
  const number = (name: string, value: number) => (value > 0 ? { [name]: value } : {});
  return {
    id: encodeId("host", row.id),
    type: row.type,
    ...(row.teamId === null ? {} : { team_id: encodeId("team", row.teamId) }),
    ...text("team_name", teamName),
    ...text("provider", row.provider),
    ...text("availability_zone", row.availabilityZone),
    ...text("arch", row.arch),
    ...number("cpu_cores", row.cpuCores),
    ...number("memory_mb", row.memoryMb),
    ...number("disk_gb", row.diskGb),
    ...text("address", row.address),
    status: row.status,
    ...(row.lastHeartbeatAt === null ? {} : { last_heartbeat_at: timestamp(row.lastHeartbeatAt) }),
    ...(row.createdBy === null ? {} : { created_by: encodeId("user", row.createdBy) }),
    created_at: timestamp(row.createdAt),
    updated_at: timestamp(row.updatedAt),
  };
}
