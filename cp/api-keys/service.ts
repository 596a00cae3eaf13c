// The keys by which programs act for a team.

import { type Id, newId } from "../../proto/ids.ts";
import type { Clock } from "../clock.ts";
import type { Db } from "../db/client.ts";
import { randomHex, sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { ApiKeyRow } from "./api-key.ts";
import { countApiKeysLocked, deleteApiKey, insertApiKey, listApiKeys } from "./queries.ts";

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

  /** A new key; `secret` is returned here and never again. `conflict` when the team has too many. */
  async create(options: {
    teamId: Id<"team">;
    createdBy: Id<"user">;
    name: string;
  }): Promise<{ row: ApiKeyRow; secret: string }> {
    const { teamId, createdBy } = options;
    const secret = `wrn_${randomHex(KEY_RANDOM_BYTES)}`;
    const row = await this.#db.transaction(async (tx) => {
      if ((await countApiKeysLocked(tx, teamId)) >= API_KEYS_PER_TEAM_MAX) {
        throw new AppError("conflict", `a team can have at most ${API_KEYS_PER_TEAM_MAX} API keys`);
      }
      return await insertApiKey(tx, {
        id: newId("apiKey"),
        teamId,
        name: options.name.trim() || DEFAULT_NAME,
        keyHash: sha256Hex(secret),
        keyPrefix: secret.slice(0, PREFIX_LENGTH),
        createdBy,
        createdAt: this.#clock.now(),
      });
    });
    return { row, secret };
  }

  /** The team's keys, newest first. */
  async list(teamId: Id<"team">) {
    return await listApiKeys(this.#db, teamId);
  }

  /** The key is void from now on; a key that the team doesn't have is no error. */
  async remove(key: { id: Id<"apiKey">; teamId: Id<"team"> }): Promise<void> {
    await deleteApiKey(this.#db, key);
  }
}
