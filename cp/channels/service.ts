// Where a team has its events told.

import { encodeId, type Id, newId } from "../../proto/ids.ts";
import type { Actor } from "../audit/entry.ts";
import { recordAudit } from "../audit/record.ts";
import type { Db, Tx } from "../db/client.ts";
import { randomHex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { ChannelEvent } from "../events/event-types.ts";
import type { EventPayload } from "../events/payload.ts";
import { CHANNEL_TESTS_PER_TEAM, type RateLimiter } from "../rate-limiter.ts";
import { timestamp } from "../wire.ts";
import { type ChannelConfig, type ChannelRow, type Provider, toProvider } from "./channel.ts";
import type { ConfigSealing } from "./config-sealing.ts";
import { parseConfig, recipientsOf } from "./provider-config.ts";
import {
  type ChannelKey,
  countChannelsLocked,
  deleteChannel,
  findChannel,
  findChannelLocked,
  hasChannelNamed,
  insertChannel,
  listChannels,
  membersAmong,
  selectSealedOtherwise,
  updateChannel,
} from "./queries.ts";
import type { Sender } from "./sender.ts";

/** The list has no pages, and each event goes to each channel. */
export const CHANNELS_PER_TEAM_MAX = 50;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;
const SECRET_BYTES = 32;
const RESEAL_BATCH = 100;

export interface ChannelsDeps {
  readonly db: Db;
  readonly sealing: ConfigSealing;
  readonly sender: Sender;
  readonly rateLimiter: RateLimiter;
}

/** Who changes a channel of which team. */
export interface ChannelChange {
  readonly teamId: Id<"team">;
  readonly actor: Actor;
}

/** `secret` is a webhook's, told here and never again. */
export interface ToldChannel {
  readonly row: ChannelRow;
  readonly secret?: string;
}

export class Channels {
  readonly #deps: ChannelsDeps;

  constructor(deps: ChannelsDeps) {
    this.#deps = deps;
  }

  /** Throws `invalid_request`, and `conflict` for a name that is taken or where there are too many. */
  async create(
    change: ChannelChange,
    given: { name: string; provider: Provider; config: ChannelConfig; events: ChannelEvent[] },
  ): Promise<ToldChannel> {
    const { teamId } = change;
    const { provider, events: eventTypes } = given;
    const name = toName(given.name);
    const id = newId("channel");
    const config = await this.#checked(teamId, provider, given.config);
    const row = await this.#deps.db.transaction(async (tx) => {
      if ((await countChannelsLocked(tx, teamId)) >= CHANNELS_PER_TEAM_MAX) {
        throw new AppError("conflict", `a team has at most ${CHANNELS_PER_TEAM_MAX} channels`);
      }
      const sealed = this.#deps.sealing.seal(id, config);
      const inserted = await insertChannel(tx, {
        ...{ id, teamId, name, provider, eventTypes, ...sealed },
      });
      if (inserted === undefined) throw nameTaken(name);
      await audit(tx, change, inserted, "create");
      return inserted;
    });
    return told(row, config);
  }

  /** By name. */
  async list(teamId: Id<"team">): Promise<ChannelRow[]> {
    return await listChannels(this.#deps.db, teamId);
  }

  /** Throws `not_found`. */
  async get(key: ChannelKey): Promise<ChannelRow> {
    const row = await findChannel(this.#deps.db, key);
    if (row === undefined) throw noSuchChannel();
    return row;
  }

  /** Names it anew, and says what it is told. Throws `not_found`, `conflict`, `invalid_request`. */
  async update(
    change: ChannelChange,
    id: Id<"channel">,
    given: { name: string; events: ChannelEvent[] },
  ): Promise<ChannelRow> {
    const name = toName(given.name);
    const key = { id, teamId: change.teamId };
    return await this.#deps.db.transaction(async (tx) => {
      await countChannelsLocked(tx, change.teamId);
      if (await hasChannelNamed(tx, { ...key, name })) throw nameTaken(name);
      const row = await updateChannel(tx, key, { name, eventTypes: given.events });
      if (row === undefined) throw noSuchChannel();
      await audit(tx, change, row, "update");
      return row;
    });
  }

  /** Another config instead of the one before; what waits is delivered there. Throws `not_found`, `invalid_request`. */
  async rotate(
    change: ChannelChange,
    id: Id<"channel">,
    given: ChannelConfig,
  ): Promise<ToldChannel> {
    const key = { id, teamId: change.teamId };
    const { provider } = await this.get(key);
    const config = await this.#checked(change.teamId, toProvider(provider), given);
    const row = await this.#deps.db.transaction(async (tx) => {
      if ((await findChannelLocked(tx, key)) === undefined) throw noSuchChannel();
      const sealed = this.#deps.sealing.seal(id, config);
      const isRight = { failures: 0, pausedUntil: null };
      const updated = await updateChannel(tx, key, { ...sealed, ...isRight });
      if (updated === undefined) throw noSuchChannel();
      await audit(tx, change, updated, "rotate_config");
      return updated;
    });
    return told(row, config);
  }

  /** Nothing is told there any more. One that the team does not have is no error. */
  async remove(change: ChannelChange, id: Id<"channel">): Promise<void> {
    await this.#deps.db.transaction(async (tx) => {
      const row = await deleteChannel(tx, { id, teamId: change.teamId });
      if (row !== undefined) await audit(tx, change, row, "delete");
    });
  }

  /** Sends one message to a config that need not be a channel's. Throws `invalid_request` when it does not arrive. */
  async test(teamId: Id<"team">, provider: Provider, given: ChannelConfig): Promise<void> {
    await this.#deps.rateLimiter.attempt(CHANNEL_TESTS_PER_TEAM, teamId);
    const config = await this.#checked(teamId, provider, given);
    const deliveryId = crypto.randomUUID();
    const letter = { teamId, provider, config, event: testEvent(), deliveryId };
    const verdict = await this.#deps.sender.send(letter);
    if (verdict.kind === "delivered") return;
    const why = verdict.kind === "limited" ? "answered 429" : verdict.error;
    throw new AppError("invalid_request", `config: the receiver did not take the test: ${why}`);
  }

  /** What a delivery needs to know; throws for a key that is missing here. */
  configOf(row: ChannelRow): ChannelConfig {
    return this.#deps.sealing.open(row.id, row);
  }

  /** One pass that encrypts with the first key what another one was used for; how many it were. */
  async reseal(): Promise<number> {
    const { db, sealing } = this.#deps;
    return await db.transaction(async (tx) => {
      const { keyNames } = sealing;
      const rows = await selectSealedOtherwise(tx, { keyNames, limit: RESEAL_BATCH });
      for (const row of rows) {
        const key = { id: row.id, teamId: row.teamId };
        await updateChannel(tx, key, {
          ...sealing.seal(row.id, this.configOf(row)),
        });
      }
      return rows.length;
    });
  }

  /** Mails go to members of the team only: it is nobody's way to write to strangers. */
  async #checked(
    teamId: Id<"team">,
    provider: Provider,
    given: ChannelConfig,
  ): Promise<ChannelConfig> {
    const config = parseConfig(provider, given);
    if (provider === "webhook") return { secret: randomHex(SECRET_BYTES), ...config };
    if (provider !== "email") return config;
    const emails = recipientsOf(config);
    const members = await membersAmong(this.#deps.db, { teamId, emails });
    if (members.length === emails.length) return config;
    throw new AppError("invalid_request", "config.to: must be addresses of members of the team");
  }
}

function told(row: ChannelRow, { secret }: ChannelConfig): ToldChannel {
  return secret === undefined ? { row } : { row, secret };
}

function toName(text: string): string {
  const name = text.trim().toLowerCase().replace(/\s+/g, "-");
  if (NAME.test(name)) return name;
  throw new AppError(
    "invalid_request",
    "name: must have 1 to 64 letters, digits, dots, hyphens and underscores",
  );
}

function testEvent(): EventPayload {
  return {
    id: encodeId("event", newId("event")),
    event: "channel.test",
    outcome: "success",
    timestamp: timestamp(new Date()),
    team_id: "test",
    actor: { type: "system" },
    resource: { id: "test", type: "channel" },
  };
}

async function audit(tx: Tx, change: ChannelChange, row: ChannelRow, action: string) {
  const { id, name, provider } = row;
  const status = { create: "success", delete: "warning" } as const;
  await recordAudit(tx, {
    ...{ ...change, resource: { type: "channel", id: encodeId("channel", id) }, action },
    status: action === "create" || action === "delete" ? status[action] : "info",
    metadata: { name, provider },
  });
}

function nameTaken(name: string): AppError {
  return new AppError("conflict", `the team has a channel ${name}`);
}

function noSuchChannel(): AppError {
  return new AppError("not_found", "no such channel", { reason: "channel_not_found" });
}
