// The keys by which programs act for a team.

import { encodeId, type Id, newId } from "../../proto/ids.ts";
import type { Actor } from "../audit/entry.ts";
import { personAsActor, recordAudit } from "../audit/record.ts";
import type { MemberCaller, Scope } from "../auth/authenticator.ts";
import type { Clock } from "../clock.ts";
import type { Db } from "../db/client.ts";
import { randomHex, sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { ApiKeyRow } from "./api-key.ts";
import {
  countApiKeys,
  deleteApiKey,
  hasApiKey,
  insertApiKey,
  isActiveMember,
  listApiKeys,
  lockTeam,
} from "./queries.ts";

const KEY_RANDOM_BYTES = 16;
const PREFIX_LENGTH = 10;
const DEFAULT_NAME = "Unnamed API Key";
/** The list has no pages, so it needs an end; honest teams have a handful. */
export const API_KEYS_PER_TEAM_MAX = 1000;

export class ApiKeys {
  readonly #db: Db;
  readonly #clock: Clock;

  constructor(deps: { db: Db; clock: Clock }) {
    this.#db = deps.db;
    this.#clock = deps.clock;
  }

  /**
   * A new key; `secret` is returned here and never again. `conflict` when the team has too many,
   * `invalid_request` when its end is over, `forbidden` for one who has left the team meanwhile.
   */
  async create(options: {
    teamId: Id<"team">;
    createdBy: Id<"user">;
    actor: Actor;
    name: string;
    /** Null: none. */
    expiresAt: Date | null;
    /** Null: all. */
    scopes: Scope[] | null;
  }): Promise<{ row: ApiKeyRow; secret: string }> {
    const { teamId, createdBy, actor, expiresAt, scopes } = options;
    if (expiresAt !== null && expiresAt <= this.#clock.now()) {
      throw new AppError("invalid_request", "expires_at: must be in the future");
    }
    const secret = `wrn_${randomHex(KEY_RANDOM_BYTES)}`;
    const row = await this.#db.transaction(async (tx) => {
      await lockTeam(tx, teamId);
      // Who goes, goes with the keys that they made: none may come behind that.
      if (!(await isActiveMember(tx, { teamId, userId: createdBy }))) {
        throw new AppError("forbidden", "you are not a member of this team: switch team first");
      }
      if ((await countApiKeys(tx, teamId)) >= API_KEYS_PER_TEAM_MAX) {
        throw new AppError("conflict", `a team can have at most ${API_KEYS_PER_TEAM_MAX} API keys`);
      }
      const inserted = await insertApiKey(tx, {
        id: newId("apiKey"),
        teamId,
        name: options.name.trim() || DEFAULT_NAME,
        keyHash: sha256Hex(secret),
        keyPrefix: secret.slice(0, PREFIX_LENGTH),
        ...{ createdBy, expiresAt, scopes },
        createdAt: this.#clock.now(),
      });
      const { id, name } = inserted;
      await recordAudit(tx, { ...keyEntry({ id, teamId }, actor, "create"), metadata: { name } });
      return inserted;
    });
    return { row, secret };
  }

  /** The team's keys, newest first. */
  async list(teamId: Id<"team">) {
    return await listApiKeys(this.#db, teamId);
  }

  /**
   * The key is void from now on; a key that the team doesn't have is no error. Throws `forbidden` for one that
   * somebody else made, unless the caller manages the team.
   */
  async remove(
    key: { id: Id<"apiKey">; teamId: Id<"team"> },
    by: Pick<MemberCaller, "id" | "role" | "email">,
  ): Promise<void> {
    const createdBy = by.role === "member" ? by.id : undefined;
    const isDeleted = await this.#db.transaction(async (tx) => {
      if (!(await deleteApiKey(tx, { ...key, createdBy }))) return false;
      const entry = keyEntry(key, personAsActor(by), "revoke");
      await recordAudit(tx, { ...entry, status: "warning" });
      return true;
    });
    if (isDeleted) return;
    if (createdBy === undefined || !(await hasApiKey(this.#db, key))) return;
    throw new AppError("forbidden", "members delete the keys that they made: ask an admin");
  }
}

function keyEntry(
  { id, teamId }: { id: Id<"apiKey">; teamId: Id<"team"> },
  actor: Actor,
  action: string,
) {
  return { teamId, actor, resource: { type: "api_key", id: encodeId("apiKey", id) }, action };
}
