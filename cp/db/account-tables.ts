// Who uses the platform: teams, users, what they sign in with, and where their events go.

import { sql } from "drizzle-orm";
import {
  boolean,
  check,
  date,
  index,
  integer,
  jsonb,
  numeric,
  pgTable,
  primaryKey,
  text,
  unique,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import type { TeamLimits } from "../team-limits.ts";
import { createdAt, idColumn, instant, isOneOf, updatedAt } from "./columns.ts";

export const USER_STATUSES = ["inactive", "active", "disabled", "deleted"] as const;
/** What a key may do with its team's resources. */
export const KEY_SCOPES = ["read", "exec", "write", "admin"] as const;
export const TEAM_ROLES = ["owner", "admin", "member"] as const;
/** As what somebody can be invited: a team has one owner. */
export const INVITED_ROLES = ["admin", "member"] as const;

export const teams = pgTable(
  "teams",
  {
    id: idColumn("team", "id").primaryKey(),
    name: text("name").notNull(),
    slug: text("slug").notNull().unique(),
    isByoc: boolean("is_byoc").notNull().default(false),
    createdAt: createdAt(),
    deletedAt: instant("deleted_at"),
    slugChangedAt: instant("slug_changed_at"),
    /** When what a deleted team owns is looked after next; null: nothing is left, or the team lives. */
    purgeAt: instant("purge_at"),
    /** What an administrator said of it; for the rest it is held to the settings' limits. */
    limits: jsonb("limits").$type<Partial<TeamLimits>>().notNull().default({}),
  },
  (t) => [
    index("idx_teams_slug").on(t.slug),
    index("idx_teams_purge_at").on(t.purgeAt).where(sql`purge_at is not null`),
  ],
);

/** Slugs that a team gave up lately: nobody else may have them, so that references lead to nobody else. */
export const reservedSlugs = pgTable(
  "reserved_slugs",
  {
    slug: text("slug").primaryKey(),
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id, { onDelete: "cascade" }),
    reservedAt: instant("reserved_at").notNull().defaultNow(),
    expiresAt: instant("expires_at").notNull(),
  },
  (t) => [index("idx_reserved_slugs_expires_at").on(t.expiresAt)],
);

export const users = pgTable(
  "users",
  {
    id: idColumn("user", "id").primaryKey(),
    email: text("email").notNull().unique(),
    passwordHash: text("password_hash"),
    name: text("name").notNull().default(""),
    isAdmin: boolean("is_admin").notNull().default(false),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
    deletedAt: instant("deleted_at"),
    status: text("status", { enum: USER_STATUSES }).notNull(),
  },
  (t) => [
    check("users_status", isOneOf(t.status, USER_STATUSES)),
    index("idx_users_deleted_at").on(t.deletedAt).where(sql`status = 'deleted'`),
  ],
);

export const usersTeams = pgTable(
  "users_teams",
  {
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id),
    userId: idColumn("user", "user_id")
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    isDefault: boolean("is_default").notNull().default(false),
    role: text("role", { enum: TEAM_ROLES }).notNull().default("member"),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.teamId, t.userId] }),
    index("idx_users_teams_user_id").on(t.userId),
    uniqueIndex("users_teams_one_owner").on(t.teamId).where(sql`role = 'owner'`),
    uniqueIndex("users_teams_one_default").on(t.userId).where(sql`is_default`),
    check("users_teams_role", isOneOf(t.role, TEAM_ROLES)),
  ],
);

/** Invitations that wait to be accepted; one that was accepted or revoked is no more. */
export const teamInvitations = pgTable(
  "team_invitations",
  {
    id: idColumn("invitation", "id").primaryKey(),
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id, { onDelete: "cascade" }),
    email: text("email").notNull(),
    role: text("role", { enum: INVITED_ROLES }).notNull(),
    /** SHA-256 of the token in the mail, in hexadecimal digits. */
    tokenHash: text("token_hash").notNull().unique(),
    invitedBy: idColumn("user", "invited_by")
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    createdAt: createdAt(),
    expiresAt: instant("expires_at").notNull(),
  },
  (t) => [
    unique("team_invitations_team_email").on(t.teamId, t.email),
    index("idx_team_invitations_invited_by").on(t.invitedBy),
    index("idx_team_invitations_expires_at").on(t.expiresAt),
    check("team_invitations_role", isOneOf(t.role, INVITED_ROLES)),
  ],
);

export const sessions = pgTable(
  "sessions",
  {
    /** SHA-256 of the secret in the browser's cookie, in hexadecimal digits. */
    id: text("id").primaryKey(),
    userId: idColumn("user", "user_id")
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id, { onDelete: "cascade" }),
    userAgent: text("user_agent").notNull().default(""),
    ipAddress: text("ip_address").notNull().default(""),
    createdAt: createdAt(),
    lastSeenAt: instant("last_seen_at").notNull().defaultNow(),
    expiresAt: instant("expires_at").notNull(),
  },
  (t) => [
    index("idx_sessions_user_id").on(t.userId),
    index("idx_sessions_expires_at").on(t.expiresAt),
  ],
);

export const teamApiKeys = pgTable(
  "team_api_keys",
  {
    id: idColumn("apiKey", "id").primaryKey(),
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id),
    name: text("name").notNull(),
    keyHash: text("key_hash").notNull().unique(),
    keyPrefix: text("key_prefix").notNull(),
    createdBy: idColumn("user", "created_by").references(() => users.id, { onDelete: "set null" }),
    createdAt: createdAt(),
    lastUsed: instant("last_used"),
    expiresAt: instant("expires_at"),
    /** Null: all of them. */
    scopes: text("scopes", { enum: KEY_SCOPES }).array(),
  },
  (t) => [
    index("idx_team_api_keys_team_id").on(t.teamId),
    check(
      "team_api_keys_scopes",
      sql`${t.scopes} <@ array[${sql.raw(KEY_SCOPES.map((scope) => `'${scope}'`).join(", "))}]`,
    ),
  ],
);

export const oauthProviders = pgTable(
  "oauth_providers",
  {
    provider: text("provider").notNull(),
    providerId: text("provider_id").notNull(),
    userId: idColumn("user", "user_id")
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    email: text("email").notNull().default(""),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.provider, t.providerId] }),
    index("idx_oauth_providers_user_id").on(t.userId),
  ],
);

/** Mails on their way. */
export const outgoingMails = pgTable(
  "outgoing_mails",
  {
    id: uuid("id").primaryKey(),
    /** The mail, encrypted with the platform's key: it may hold a code. */
    sealed: text("sealed").notNull(),
    attempts: integer("attempts").notNull().default(0),
    nextAttemptAt: instant("next_attempt_at").notNull().defaultNow(),
    createdAt: createdAt(),
    expiresAt: instant("expires_at").notNull(),
  },
  (t) => [
    index("idx_outgoing_mails_next_attempt_at").on(t.nextAttemptAt),
    index("idx_outgoing_mails_expires_at").on(t.expiresAt),
  ],
);

export const adminPermissions = pgTable(
  "admin_permissions",
  {
    id: idColumn("permission", "id").primaryKey(),
    userId: idColumn("user", "user_id")
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    permission: text("permission").notNull(),
    createdAt: createdAt(),
  },
  (t) => [
    unique("admin_permissions_user_permission").on(t.userId, t.permission),
    index("idx_admin_permissions_user_id").on(t.userId),
  ],
);

export const dailyUsage = pgTable(
  "daily_usage",
  {
    teamId: idColumn("team", "team_id").notNull(),
    day: date("day").notNull(),
    cpuMinutes: numeric("cpu_minutes", { precision: 20, scale: 6 }).notNull().default("0"),
    ramMbMinutes: numeric("ram_mb_minutes", { precision: 20, scale: 6 }).notNull().default("0"),
  },
  (t) => [primaryKey({ columns: [t.teamId, t.day] })],
);
