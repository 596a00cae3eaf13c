// Capsules, what they start from, what they used, and what happened to them.

import { sql } from "drizzle-orm";
import {
  bigint,
  bigserial,
  boolean,
  check,
  date,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgSequence,
  pgTable,
  primaryKey,
  text,
  unique,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import { CAPSULE_STATES, SNAPSHOT_SOURCES } from "../capsule-states.ts";
import { teams } from "./account-tables.ts";
import { createdAt, idColumn, instant, isOneOf } from "./columns.ts";
import { hosts } from "./host-tables.ts";

export const TEMPLATE_TYPES = ["base", "snapshot"] as const;
export const BUILD_STATUSES = ["pending", "running", "success", "failed", "cancelled"] as const;
export const TEMPLATE_OPERATION_KINDS = ["create", "delete"] as const;
export const SUBJECT_KINDS = ["capsule", "template"] as const;
export const METRIC_TIERS = ["10m", "2h", "24h"] as const;
export const EVENT_OUTCOMES = ["success", "error", ""] as const;
export const ACTOR_TYPES = ["user", "api_key", "system"] as const;
/** Who of a team may see an entry: `team` everybody, `admin` its owner and admins. */
export const AUDIT_SCOPES = ["team", "admin"] as const;
export const AUDIT_STATUSES = ["success", "info", "warning", "error"] as const;

type StringMap = Record<string, string>;

export const templates = pgTable(
  "templates",
  {
    id: uuid("id").primaryKey().defaultRandom(),
    name: text("name").notNull(),
    type: text("type", { enum: TEMPLATE_TYPES }).notNull().default("base"),
    vcpus: integer("vcpus").notNull(),
    memoryMb: integer("memory_mb").notNull(),
    sizeBytes: bigint("size_bytes", { mode: "number" }).notNull().default(0),
    createdAt: createdAt(),
    teamId: idColumn("team", "team_id").notNull(),
    defaultUser: text("default_user").notNull(),
    defaultEnv: jsonb("default_env").$type<StringMap>().notNull().default({}),
    metadata: jsonb("metadata").$type<StringMap>().notNull().default({}),
    /** Whether every team may start capsules from it, by its team's slug and its name. */
    isPublic: boolean("is_public").notNull().default(false),
  },
  (t) => [
    unique("templates_team_name").on(t.teamId, t.name),
    index("idx_templates_team_id").on(t.teamId),
    index("idx_templates_public").on(t.createdAt.desc(), t.id.desc()).where(sql`is_public`),
    check("templates_type", isOneOf(t.type, TEMPLATE_TYPES)),
  ],
);

/** The hosts that have a template whose files are not on all of them. */
export const templateHosts = pgTable(
  "template_hosts",
  {
    templateId: uuid("template_id")
      .notNull()
      .references(() => templates.id, { onDelete: "cascade" }),
    hostId: idColumn("host", "host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
  },
  (t) => [
    primaryKey({ columns: [t.templateId, t.hostId] }),
    index("idx_template_hosts_host_id").on(t.hostId),
  ],
);

/**
 * What a host has or may have of a template that no row of `templates` tells of: one that is being
 * made, or one whose files are still to be removed there.
 */
export const templateOperations = pgTable(
  "template_operations",
  {
    templateId: uuid("template_id").notNull(),
    hostId: idColumn("host", "host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    kind: text("kind", { enum: TEMPLATE_OPERATION_KINDS }).notNull(),
    operationId: uuid("operation_id").notNull(),
    deadline: instant("deadline").notNull(),
    teamId: idColumn("team", "team_id").notNull(),
    name: text("name").notNull(),
    /** What it is made of; null when it is to be removed. */
    capsuleId: idColumn("capsule", "capsule_id"),
    isOverwriting: boolean("is_overwriting").notNull().default(false),
    actor: jsonb("actor")
      .$type<{ type: (typeof ACTOR_TYPES)[number]; id: string; name: string }>()
      .notNull(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.templateId, t.hostId] }),
    index("idx_template_operations_deadline").on(t.deadline),
    uniqueIndex("template_operations_name").on(t.teamId, t.name).where(sql`kind = 'create'`),
    check("template_operations_kind", isOneOf(t.kind, TEMPLATE_OPERATION_KINDS)),
  ],
);

/**
 * `operation_id` names the operation that last moved `status`, so that a late answer of an earlier
 * one is recognised; snapshots do not. `state_deadline` is when a transient state counts as lost.
 * `snapshotted_from` is what a capsule is besides that it is `snapshotting`, which it is as long as
 * `template_operations` tell of a snapshot of it and nothing else moves it. `durable_at` is since when
 * a pause is safe against a loss of the host's memory. The defaults are the template's at
 * the create: a resume needs them after the template is gone. `metrics_saved_for` is the operation
 * after whose pause the capsule's points were copied here. `disk_used_mb` is what its host said last
 * of its disk, null until it has; `sent_bytes` what it said last that it has sent, as it is counted in
 * `capsule_usage`. `metadata` is what its host says of it,
 * `labels` what its owner does. `error_code` is the API's code of a create
 * that failed, whose `reason` says why.
 */
export const capsules = pgTable(
  "capsules",
  {
    id: idColumn("capsule", "id").primaryKey(),
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id),
    hostId: idColumn("host", "host_id").notNull(),
    template: text("template").notNull(),
    status: text("status", { enum: CAPSULE_STATES }).notNull().default("pending"),
    vcpus: integer("vcpus").notNull(),
    memoryMb: integer("memory_mb").notNull(),
    timeoutSec: integer("timeout_sec").notNull(),
    diskSizeMb: integer("disk_size_mb").notNull(),
    diskUsedMb: integer("disk_used_mb"),
    sentBytes: bigint("sent_bytes", { mode: "number" }).notNull().default(0),
    hostIp: text("host_ip").notNull().default(""),
    createdAt: createdAt(),
    startedAt: instant("started_at"),
    lastActiveAt: instant("last_active_at"),
    lastUpdated: instant("last_updated").notNull().defaultNow(),
    templateId: uuid("template_id"),
    templateTeamId: idColumn("team", "template_team_id"),
    metadata: jsonb("metadata").$type<StringMap>().notNull().default({}),
    labels: jsonb("labels").$type<StringMap>().notNull().default({}),
    operationId: uuid("operation_id").notNull(),
    reason: text("reason").notNull().default(""),
    errorCode: text("error_code").notNull().default(""),
    stateDeadline: instant("state_deadline"),
    snapshottedFrom: text("snapshotted_from", { enum: SNAPSHOT_SOURCES }),
    privatePorts: boolean("private_ports").notNull().default(false),
    durableAt: instant("durable_at"),
    defaultUser: text("default_user").notNull(),
    defaultEnv: jsonb("default_env").$type<StringMap>().notNull().default({}),
    metricsSavedFor: uuid("metrics_saved_for"),
    /** Up to when its use is in `capsule_usage`. */
    countedAt: instant("counted_at").notNull().default(sql`clock_timestamp()`),
  },
  (t) => [
    index("idx_capsules_status").on(t.status),
    index("idx_capsules_metrics_saved").on(t.status).where(sql`metrics_saved_for is not null`),
    index("idx_capsules_host_status").on(t.hostId, t.status),
    index("idx_capsules_team_id").on(t.teamId),
    index("idx_capsules_team_live")
      .on(t.teamId, t.createdAt.desc(), t.id.desc())
      .where(sql`status not in ('stopped', 'error')`),
    check("capsules_status", isOneOf(t.status, CAPSULE_STATES)),
    check("capsules_snapshotted_from", isOneOf(t.snapshottedFrom, SNAPSHOT_SOURCES)),
    check(
      "capsules_snapshotting",
      sql`(${t.status} = 'snapshotting') = (${t.snapshottedFrom} is not null)`,
    ),
    check("capsules_sizes", sql`vcpus > 0 and memory_mb > 0 and disk_size_mb > 0`),
    check("capsules_timeout", sql`${t.timeoutSec} >= 0`),
  ],
);

/** Capsules that a host has and no record knows: from a restored database, or another one. */
export const unknownCapsules = pgTable(
  "unknown_capsules",
  {
    hostId: idColumn("host", "host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    capsuleId: idColumn("capsule", "capsule_id").notNull(),
    firstSeenAt: instant("first_seen_at").notNull().defaultNow(),
    /** Since when it is paused because nobody claimed it. */
    quarantinedAt: instant("quarantined_at"),
  },
  (t) => [primaryKey({ columns: [t.hostId, t.capsuleId] })],
);

/**
 * What each request with an `Idempotency-Key` began, and how that ended: `code` is null until then,
 * empty when it went well, else that of the error, as reason and message are.
 */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id),
    key: text("key").notNull(),
    requestHash: text("request_hash").notNull(),
    subjectKind: text("subject_kind", { enum: SUBJECT_KINDS }).notNull(),
    subjectIds: uuid("subject_ids").array().notNull(),
    code: text("code"),
    reason: text("reason").notNull().default(""),
    message: text("message").notNull().default(""),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.teamId, t.key] }),
    index("idx_idempotency_keys_created_at").on(t.createdAt),
    check("idempotency_keys_subject_kind", isOneOf(t.subjectKind, SUBJECT_KINDS)),
  ],
);

/** Of events, in the order in which they were seen committed. */
export const eventPositions = pgSequence("event_positions");

/**
 * Outbox: written in the transaction that changes a state, published later. `position` is null until the row has been
 * seen committed, and orders rows by when that was: no row ever appears before one that has a position.
 */
export const events = pgTable(
  "events",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    /** What the outside knows it by: it tells nobody how much happens. */
    eventId: idColumn("event", "event_id").notNull().default(sql`gen_random_uuid()`),
    teamId: idColumn("team", "team_id").notNull(),
    type: text("type").notNull(),
    outcome: text("outcome", { enum: EVENT_OUTCOMES }).notNull(),
    actor: jsonb("actor")
      .$type<{ type: (typeof ACTOR_TYPES)[number]; id: string; name: string }>()
      .notNull(),
    resource: jsonb("resource").$type<{ type: string; id: string }>().notNull(),
    metadata: jsonb("metadata").$type<StringMap>().notNull().default({}),
    error: text("error").notNull().default(""),
    createdAt: createdAt(),
    publishedAt: instant("published_at"),
    position: bigint("position", { mode: "number" }),
  },
  (t) => [
    uniqueIndex("events_event_id").on(t.eventId),
    uniqueIndex("events_position").on(t.position),
    index("idx_events_team_position").on(t.teamId, t.position),
    index("idx_events_unplaced").on(t.id).where(sql`position is null`),
    index("idx_events_unpublished").on(t.position).where(sql`published_at is null`),
    check("events_outcome", isOneOf(t.outcome, EVENT_OUTCOMES)),
  ],
);

/**
 * Who changed what. `position` is null until the row has been seen committed, and orders rows by when that was:
 * no row ever appears before one that has a position.
 */
export const auditLogs = pgTable(
  "audit_logs",
  {
    id: idColumn("auditLog", "id").primaryKey(),
    teamId: idColumn("team", "team_id").notNull(),
    actorType: text("actor_type", { enum: ACTOR_TYPES }).notNull(),
    actorId: text("actor_id"),
    actorName: text("actor_name").notNull().default(""),
    resourceType: text("resource_type").notNull(),
    resourceId: text("resource_id"),
    action: text("action").notNull(),
    scope: text("scope", { enum: AUDIT_SCOPES }).notNull().default("team"),
    status: text("status", { enum: AUDIT_STATUSES }).notNull().default("success"),
    metadata: jsonb("metadata").$type<StringMap>().notNull().default({}),
    ipAddress: text("ip_address"),
    requestId: text("request_id"),
    createdAt: createdAt(),
    position: bigint("position", { mode: "number" }),
  },
  (t) => [
    uniqueIndex("audit_logs_position").on(t.position),
    index("idx_audit_logs_team_position").on(t.teamId, t.position),
    index("idx_audit_logs_team_resource_position").on(t.teamId, t.resourceType, t.position),
    index("idx_audit_logs_unplaced").on(t.createdAt).where(sql`position is null`),
    check("audit_logs_scope", isOneOf(t.scope, AUDIT_SCOPES)),
    check("audit_logs_status", isOneOf(t.status, AUDIT_STATUSES)),
  ],
);

/** What a team's capsules held, every ten seconds while there are some; in time the most of each hour. */
export const capsuleMetricsSnapshots = pgTable(
  "capsule_metrics_snapshots",
  {
    teamId: idColumn("team", "team_id").notNull(),
    sampledAt: instant("sampled_at").notNull(),
    runningCount: integer("running_count").notNull().default(0),
    vcpusReserved: integer("vcpus_reserved").notNull().default(0),
    memoryMbReserved: integer("memory_mb_reserved").notNull().default(0),
  },
  (t) => [
    primaryKey({ columns: [t.teamId, t.sampledAt] }),
    index("idx_capsule_metrics_snapshots_sampled_at").on(t.sampledAt),
  ],
);

/**
 * What a capsule used on a day of UTC, up to its `counted_at`. A trigger adds to it, see `cp/usage/queries.ts`; what
 * it added since the team's day was summed up is not `is_summed`.
 */
export const capsuleUsage = pgTable(
  "capsule_usage",
  {
    capsuleId: idColumn("capsule", "capsule_id").notNull(),
    day: date("day").notNull(),
    teamId: idColumn("team", "team_id").notNull(),
    vcpuSec: doublePrecision("vcpu_sec").notNull().default(0),
    memoryMbSec: doublePrecision("memory_mb_sec").notNull().default(0),
    pausedMemoryMbSec: doublePrecision("paused_memory_mb_sec").notNull().default(0),
    sentBytes: bigint("sent_bytes", { mode: "number" }).notNull().default(0),
    isSummed: boolean("is_summed").notNull().default(false),
  },
  (t) => [
    primaryKey({ columns: [t.capsuleId, t.day] }),
    index("idx_capsule_usage_team_day").on(t.teamId, t.day),
    index("idx_capsule_usage_day").on(t.day),
    index("idx_capsule_usage_unsummed").on(t.day, t.teamId).where(sql`not is_summed`),
  ],
);

/** How far the database's clock was set while use was counted by it, as far as control planes noticed. */
export const usageClock = pgTable("usage_clock", {
  name: text("name").primaryKey(),
  steppedMs: doublePrecision("stepped_ms").notNull().default(0),
});

export const capsuleMetricPoints = pgTable(
  "capsule_metric_points",
  {
    capsuleId: idColumn("capsule", "capsule_id").notNull(),
    tier: text("tier", { enum: METRIC_TIERS }).notNull(),
    ts: bigint("ts", { mode: "number" }).notNull(),
    cpuPct: doublePrecision("cpu_pct").notNull().default(0),
    memBytes: bigint("mem_bytes", { mode: "number" }).notNull().default(0),
    diskBytes: bigint("disk_bytes", { mode: "number" }).notNull().default(0),
  },
  (t) => [
    primaryKey({ columns: [t.capsuleId, t.tier, t.ts] }),
    check("capsule_metric_points_tier", isOneOf(t.tier, METRIC_TIERS)),
  ],
);

export const templateBuilds = pgTable(
  "template_builds",
  {
    id: idColumn("build", "id").primaryKey(),
    name: text("name").notNull(),
    baseTemplate: text("base_template").notNull(),
    recipe: jsonb("recipe").$type<unknown[]>().notNull().default([]),
    healthcheck: text("healthcheck").notNull().default(""),
    vcpus: integer("vcpus").notNull(),
    memoryMb: integer("memory_mb").notNull(),
    status: text("status", { enum: BUILD_STATUSES }).notNull().default("pending"),
    currentStep: integer("current_step").notNull().default(0),
    totalSteps: integer("total_steps").notNull().default(0),
    logs: jsonb("logs").$type<unknown[]>().notNull().default([]),
    error: text("error").notNull().default(""),
    capsuleId: idColumn("capsule", "capsule_id"),
    hostId: idColumn("host", "host_id"),
    createdAt: createdAt(),
    startedAt: instant("started_at"),
    completedAt: instant("completed_at"),
    templateId: uuid("template_id"),
    teamId: idColumn("team", "team_id"),
    skipPrePost: boolean("skip_pre_post").notNull().default(false),
    defaultUser: text("default_user").notNull(),
    defaultEnv: jsonb("default_env").$type<StringMap>().notNull().default({}),
    metadata: jsonb("metadata").$type<StringMap>().notNull().default({}),
  },
  (t) => [check("template_builds_status", isOneOf(t.status, BUILD_STATUSES))],
);
