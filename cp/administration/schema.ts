// What administrators see of everybody's accounts and teams, on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { t } from "elysia";
import { encodeId, type Id } from "../../proto/ids.ts";
import { USER_STATUSES } from "../db/tables.ts";
import { Host, toHost } from "../hosts/schema.ts";
import { AnyTemplateList } from "../snapshots/schema.ts";
import { parseWholeNumber, wholeNumber } from "../whole-number.ts";
import { ID_LENGTH_MAX, timestamp } from "../wire.ts";
import type { HostLoad, ListedTeam, ListedUser, Page } from "./listed.ts";

const PER_PAGE = 100;
const PAGE = { minimum: 1, maximum: 1_000_000 };

export const PageQuery = t.Object({
  page: t.Optional(wholeNumber({ ...PAGE, description: "From 1." })),
});
export type PageQuery = Static<typeof PageQuery>;

export const IdParams = t.Object({ id: t.String({ maxLength: ID_LENGTH_MAX }) });
export const SetActive = Type.Object({ active: Type.Boolean() });
export const SetAdmin = Type.Object({ admin: Type.Boolean() });
export const SetByoc = Type.Object({
  enabled: Type.Optional(Type.Boolean()),
  byoc: Type.Optional(Type.Boolean({ description: "Another name of `enabled`." })),
});

const ofPages = {
  total: Type.Integer(),
  page: Type.Integer(),
  per_page: Type.Integer(),
  total_pages: Type.Integer(),
};
const Instant = Type.String({ format: "date-time" });
const orNull = <T extends typeof Instant | ReturnType<typeof Type.String>>(type: T) =>
  Type.Union([type, Type.Null()]);

const AnyUser = Type.Object({
  id: Type.String(),
  email: Type.String(),
  name: Type.String(),
  is_admin: Type.Boolean(),
  status: t.UnionEnum(USER_STATUSES),
  created_at: Instant,
  teams_joined: Type.Integer(),
  teams_owned: Type.Integer(),
});

const AnyTeam = Type.Object({
  id: Type.String(),
  name: Type.String(),
  slug: Type.String(),
  is_byoc: Type.Boolean(),
  created_at: Instant,
  deleted_at: orNull(Instant),
  member_count: Type.Integer(),
  owner_name: orNull(Type.String()),
  owner_email: orNull(Type.String()),
  active_sandbox_count: Type.Integer(),
  channel_count: Type.Integer(),
  running_vcpus: Type.Integer(),
  running_memory_mb: Type.Integer(),
});

export const UserPage = Type.Object(
  { users: Type.Array(AnyUser), ...ofPages },
  { $id: "UserPage" },
);
export const TeamPage = Type.Object(
  { teams: Type.Array(AnyTeam), ...ofPages },
  { $id: "TeamPage" },
);

const AnyHost = Type.Object({
  ...Host.properties,
  running_vcpus: Type.Integer(),
  running_memory_mb: Type.Integer(),
  running_disk_mb: Type.Integer(),
  paused_memory_mb: Type.Integer(),
  paused_disk_mb: Type.Integer(),
});
export const AnyHostList = Type.Array(AnyHost);

export const AnyTemplatePage = Type.Object({ templates: AnyTemplateList, ...ofPages });

/** Throws `invalid_request`. */
export function toPage({ page }: PageQuery): Page {
  return { page: page === undefined ? 1 : parseWholeNumber(page, "page", PAGE), perPage: PER_PAGE };
}

export function toPages({ page, perPage }: Page, total: number) {
  const pages = Math.ceil(total / perPage);
  return { total, page, per_page: perPage, total_pages: pages };
}

export function toAnyUser(user: ListedUser): Static<typeof AnyUser> {
  return {
    id: encodeId("user", user.id),
    ...{ email: user.email, name: user.name, is_admin: user.isAdmin, status: user.status },
    created_at: timestamp(user.createdAt),
    ...{ teams_joined: user.teamsJoined, teams_owned: user.teamsOwned },
  };
}

export function toAnyTeam({ team, ...listed }: ListedTeam): Static<typeof AnyTeam> {
  return {
    id: encodeId("team", team.id),
    ...{ name: team.name, slug: team.slug, is_byoc: team.isByoc },
    created_at: timestamp(team.createdAt),
    deleted_at: team.deletedAt === null ? null : timestamp(team.deletedAt),
    member_count: listed.memberCount,
    ...{ owner_name: listed.ownerName, owner_email: listed.ownerEmail },
    active_sandbox_count: listed.activeSandboxCount,
    channel_count: listed.channelCount,
    ...{ running_vcpus: listed.runningVcpus, running_memory_mb: listed.runningMemoryMb },
  };
}

export function toAnyHost(
  { host, teamName }: { host: Parameters<typeof toHost>[0]; teamName: string | null },
  loads: ReadonlyMap<Id<"host">, HostLoad>,
): Static<typeof AnyHost> {
  const load = loads.get(host.id);
  return {
    ...toHost(host, teamName),
    running_vcpus: load?.runningVcpus ?? 0,
    running_memory_mb: load?.runningMemoryMb ?? 0,
    running_disk_mb: load?.runningDiskMb ?? 0,
    paused_memory_mb: load?.pausedMemoryMb ?? 0,
    paused_disk_mb: load?.pausedDiskMb ?? 0,
  };
}
