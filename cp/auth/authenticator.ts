// Who is calling: credentials of a request to a caller, or a refusal.

import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import type { TEAM_ROLES } from "../db/tables.ts";
import { sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import { SharedLookups } from "../shared-lookups.ts";
import { type AuthQueries, prepareAuthQueries, touchApiKey } from "./queries.ts";
import type { Tokens } from "./tokens.ts";

const API_KEY_PATTERN = /^wrn_[0-9a-f]{32}$/;

/** The credentials of a request as its headers carry them. */
export interface Credentials {
  readonly apiKey: string | null;
  readonly authorization: string | null;
  readonly hostToken: string | null;
}

/** Somebody who acts for a team, by a key of that team or as one of its members. */
export interface TeamCaller {
  readonly teamId: Id<"team">;
  readonly actor: {
    readonly type: "user" | "api_key";
    readonly id: Id<"user"> | Id<"apiKey">;
    /** A user's mail address, a key's label. */
    readonly name: string;
  };
}

/** A signed-in person. `role` is null once they are no longer a member of the token's team. */
export interface UserCaller {
  readonly id: Id<"user">;
  readonly email: string;
  readonly name: string;
  readonly isAdmin: boolean;
  readonly teamId: Id<"team">;
  readonly role: (typeof TEAM_ROLES)[number] | null;
}

/** A signed-in person who is a member of the token's team right now. */
export interface MemberCaller extends UserCaller {
  readonly role: (typeof TEAM_ROLES)[number];
}

type ApiKeyRow = Awaited<ReturnType<AuthQueries["apiKeysByHash"]>>[number];

/** Turns credentials into callers. Every method throws `unauthorized` when they are no good. */
export class Authenticator {
  /** Where our pages come from. */
  readonly ownOrigins: ReadonlySet<string>;
  readonly #db: Db;
  readonly #queries: AuthQueries;
  readonly #apiKeys: SharedLookups<string, ApiKeyRow>;
  readonly #tokens: Tokens;

  constructor(deps: { db: Db; tokens: Tokens; ownOrigins: ReadonlySet<string> }) {
    this.ownOrigins = deps.ownOrigins;
    this.#db = deps.db;
    this.#queries = prepareAuthQueries(deps.db);
    this.#apiKeys = new SharedLookups({
      look: this.#queries.apiKeysByHash,
      keyOf: (hash) => hash,
      keyOfValue: ({ keyHash }) => keyHash,
    });
    this.#tokens = deps.tokens;
  }

  /** An API key if there is one, good or bad; otherwise a user's token and a live membership. */
  async team(credentials: Credentials): Promise<TeamCaller> {
    if (credentials.apiKey !== null) return await this.#apiKey(credentials.apiKey);
    if (credentials.authorization === null) {
      throw new AppError("unauthorized", "an API key or a bearer token is required");
    }
    const { teamId, id, email } = await this.member(credentials);
    return { teamId, actor: { type: "user", id, name: email } };
  }

  /** Also `account_deactivated` when the account isn't active. Read from the database each time. */
  async user(credentials: Credentials): Promise<UserCaller> {
    const token = bearer(credentials.authorization);
    const ids = token === null ? null : await this.#tokens.verifyUser(token);
    if (ids === null) throw new AppError("unauthorized", "a valid bearer token is required");

    const row = await this.#queries.userWithMembership(ids);
    if (row === undefined) throw new AppError("unauthorized", "a valid bearer token is required");
    if (row.status !== "active") {
      throw new AppError("account_deactivated", "this account is not active");
    }
    const { id, email, name, isAdmin } = row;
    const role = row.teamDeletedAt === null ? row.role : null;
    return { id, email, name, isAdmin, teamId: ids.teamId, role };
  }

  /** Like `user`; also `forbidden` when the user has left the token's team or it was deleted. */
  async member(credentials: Credentials): Promise<MemberCaller> {
    const user = await this.user(credentials);
    if (user.role === null) {
      throw new AppError("forbidden", "you are not a member of this team: switch team first");
    }
    return { ...user, role: user.role };
  }

  /** Like `user`; also `forbidden` when the user is no administrator of the platform. */
  async admin(credentials: Credentials): Promise<UserCaller> {
    const user = await this.user(credentials);
    if (!user.isAdmin) throw new AppError("forbidden", "platform administrators only");
    return user;
  }

  async host(credentials: Credentials): Promise<Id<"host">> {
    const token = credentials.hostToken;
    const hostId = token === null ? null : await this.#tokens.verifyHost(token);
    if (hostId === null) throw new AppError("unauthorized", "a valid host token is required");
    return hostId;
  }

  async #apiKey(key: string): Promise<TeamCaller> {
    const row = API_KEY_PATTERN.test(key) ? await this.#apiKeys.of(sha256Hex(key)) : undefined;
    if (row === undefined) {
      throw new AppError("unauthorized", "the API key is not valid", {
        reason: "auth_invalid_api_key",
      });
    }

    if (row.isStampDue) await touchApiKey(this.#db, row.id);
    return { teamId: row.teamId, actor: { type: "api_key", id: row.id, name: row.name } };
  }
}

function bearer(authorization: string | null): string | null {
  return /^bearer +(\S+)$/i.exec(authorization ?? "")?.[1] ?? null;
}
