// Where teams have their events told, and what was told there.

import { sql } from "drizzle-orm";
import {
  bigint,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  text,
  unique,
  uuid,
} from "drizzle-orm/pg-core";
import { teams } from "./account-tables.ts";
import { createdAt, idColumn, instant, isOneOf, updatedAt } from "./columns.ts";

export const DELIVERY_STATUSES = ["pending", "delivered", "dead"] as const;

export const channels = pgTable(
  "channels",
  {
    id: idColumn("channel", "id").primaryKey(),
    teamId: idColumn("team", "team_id")
      .notNull()
      .references(() => teams.id, { onDelete: "cascade" }),
    name: text("name").notNull(),
    provider: text("provider").notNull(),
    /** Each value encrypted: some are secrets, and any may be personal. */
    config: jsonb("config").$type<Record<string, string>>().notNull().default({}),
    /** Names the key that the values are encrypted with. */
    keyName: text("key_name").notNull().default(""),
    eventTypes: text("event_types").array().notNull().default([]),
    /** Attempts that failed since one succeeded. */
    failures: integer("failures").notNull().default(0),
    /** Nothing is delivered until then; null: nothing is wrong. */
    pausedUntil: instant("paused_until"),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (t) => [
    unique("channels_team_name").on(t.teamId, t.name),
    index("idx_channels_team_id").on(t.teamId),
    index("idx_channels_key_name").on(t.keyName),
  ],
);

/** Each channel's queue: one row for each event that it is to be told. */
export const channelDeliveries = pgTable(
  "channel_deliveries",
  {
    id: idColumn("delivery", "id").primaryKey(),
    channelId: idColumn("channel", "channel_id")
      .notNull()
      .references(() => channels.id, { onDelete: "cascade" }),
    /** Of the event. */
    position: bigint("position", { mode: "number" }).notNull(),
    /** What the event is about: of one thing nothing is told before what comes first. */
    resource: text("resource").notNull(),
    status: text("status", { enum: DELIVERY_STATUSES }).notNull().default("pending"),
    attempts: integer("attempts").notNull().default(0),
    /** Of whoever is delivering it; without one that answers for it, anybody's from `next_attempt_at` on. */
    claim: uuid("claim"),
    nextAttemptAt: instant("next_attempt_at").notNull().defaultNow(),
    /** Of the last attempt: the receiver's status, null without an answer, and what was wrong. */
    responseStatus: integer("response_status"),
    error: text("error").notNull().default(""),
    /** When it was put into the queue, last. */
    createdAt: createdAt(),
    finishedAt: instant("finished_at"),
  },
  (t) => [
    unique("channel_deliveries_channel_position").on(t.channelId, t.position),
    index("idx_channel_deliveries_pending")
      .on(t.channelId, t.position)
      .where(sql`status = 'pending'`),
    index("idx_channel_deliveries_order")
      .on(t.channelId, t.resource, t.position)
      .where(sql`status = 'pending'`),
    check("channel_deliveries_status", isOneOf(t.status, DELIVERY_STATUSES)),
  ],
);
