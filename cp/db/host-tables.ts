// The machines that run capsules, and the credentials of their agents.

import { check, index, integer, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { teams, users } from "./account-tables.ts";
import { createdAt, idColumn, instant, isOneOf, updatedAt } from "./columns.ts";

export const HOST_TYPES = ["regular", "byoc"] as const;
export const HOST_STATUSES = ["pending", "online", "unreachable", "offline", "draining"] as const;

export const hosts = pgTable(
  "hosts",
  {
    id: idColumn("host", "id").primaryKey(),
    type: text("type", { enum: HOST_TYPES }).notNull().default("regular"),
    teamId: idColumn("team", "team_id").references(() => teams.id),
    provider: text("provider").notNull().default(""),
    availabilityZone: text("availability_zone").notNull().default(""),
    arch: text("arch").notNull().default(""),
    cpuCores: integer("cpu_cores").notNull().default(0),
    memoryMb: integer("memory_mb").notNull().default(0),
    diskGb: integer("disk_gb").notNull().default(0),
    address: text("address").notNull().default(""),
    status: text("status", { enum: HOST_STATUSES }).notNull().default("pending"),
    lastHeartbeatAt: instant("last_heartbeat_at"),
    metadata: jsonb("metadata").$type<Record<string, string>>().notNull().default({}),
    createdBy: idColumn("user", "created_by").references(() => users.id, { onDelete: "set null" }),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
    /** In its agent's certificates; empty: it has none that is good. */
    certName: text("cert_name").notNull().default(""),
    certFingerprint: text("cert_fingerprint").notNull().default(""),
    certExpiresAt: instant("cert_expires_at"),
  },
  (t) => [
    index("idx_hosts_type").on(t.type),
    index("idx_hosts_team_id").on(t.teamId),
    index("idx_hosts_status").on(t.status),
    check("hosts_type", isOneOf(t.type, HOST_TYPES)),
    check("hosts_status", isOneOf(t.status, HOST_STATUSES)),
  ],
);

/**
 * Hosts that were deleted, which a trigger notes whoever deletes them: their agents are told so, unlike
 * those of hosts that a database restored from a backup does not know.
 */
export const deletedHosts = pgTable("deleted_hosts", {
  id: idColumn("host", "id").primaryKey(),
  deletedAt: instant("deleted_at").notNull().defaultNow(),
});

/** Registration tokens that were given out. The tokens themselves live in Redis only. */
export const hostTokens = pgTable(
  "host_tokens",
  {
    id: idColumn("hostToken", "id").primaryKey(),
    hostId: idColumn("host", "host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    createdBy: idColumn("user", "created_by").references(() => users.id, { onDelete: "set null" }),
    createdAt: createdAt(),
    expiresAt: instant("expires_at").notNull(),
    usedAt: instant("used_at"),
  },
  (t) => [index("idx_host_tokens_host_id").on(t.hostId)],
);

export const hostTags = pgTable(
  "host_tags",
  {
    hostId: idColumn("host", "host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    tag: text("tag").notNull(),
  },
  (t) => [primaryKey({ columns: [t.hostId, t.tag] }), index("idx_host_tags_tag").on(t.tag)],
);

export const hostRefreshTokens = pgTable(
  "host_refresh_tokens",
  {
    id: idColumn("hostRefreshToken", "id").primaryKey(),
    hostId: idColumn("host", "host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    tokenHash: text("token_hash").notNull().unique(),
    expiresAt: instant("expires_at").notNull(),
    createdAt: createdAt(),
    /** Since it was used. */
    revokedAt: instant("revoked_at"),
    /** The key that it was used for, as SHA-256 in hexadecimal. */
    usedForKey: text("used_for_key"),
  },
  (t) => [index("idx_host_refresh_tokens_host_id").on(t.hostId)],
);
