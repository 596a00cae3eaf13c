// Who is calling: credentials of a request to a caller, or a refusal.

import type { Id } from "../../proto/ids.ts";
import type { Clock } from "../clock.ts";
import type { Db } from "../db/client.ts";
import type { KEY_SCOPES, TEAM_ROLES } from "../db/tables.ts";
import { sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import { SharedLookups } from "../shared-lookups.ts";
import type { CsrfProof, CsrfTokens } from "./csrf-tokens.ts";
import type { LastUses } from "./last-uses.ts";
import { type AuthQueries, prepareAuthQueries } from "./queries.ts";
import type { TeamRequests } from "./team-requests.ts";
import type { HostTokenSubject, Tokens } from "./tokens.ts";

const API_KEY_PATTERN = /^wrn_[0-9a-f]{32}$/;
const SESSION_SECRET_PATTERN = /^[0-9a-f]{64}$/;

export type Scope = (typeof KEY_SCOPES)[number];

/** The credentials of a request as its headers carry them. */
export interface Credentials {
  readonly apiKey: string | null;
  readonly authorization: string | null;
  readonly hostToken: string | null;
  /** The secret in a session's cookie. */
  readonly session: string | null;
  /** What shows that a change by a session comes from a page of ours; null for what changes nothing. */
  readonly csrf: CsrfProof | null;
}

/** What a caller was known by: good for as long as it is there. */
export type Grant = ApiKeyGrant | SessionGrant | PlatformGrant;

interface ApiKeyGrant {
  readonly kind: "apiKey";
  readonly keyHash: string;
}

interface SessionGrant {
  readonly kind: "session";
  readonly id: string;
  /** The end of the token that named it; null: a cookie did. */
  readonly until: Date | null;
}

/** An administrator's, who acts for the platform's team. */
interface PlatformGrant {
  readonly kind: "platform";
  readonly session: SessionGrant;
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

/** One whose right to act can be looked at again. */
export interface GrantedCaller extends TeamCaller {
  readonly grant: Grant;
  /** What of the team's resources it may use; null: everything. */
  readonly scopes: readonly Scope[] | null;
  /** What of the API its team may ask for in a minute, where that was said of it. */
  readonly requestsPerMinute: number | null;
}

/** A signed-in person. `role` is null once they are no longer a member of the session's team. */
export interface UserCaller {
  readonly id: Id<"user">;
  readonly email: string;
  readonly name: string;
  readonly isAdmin: boolean;
  readonly teamId: Id<"team">;
  readonly requestsPerMinute: number | null;
  readonly role: (typeof TEAM_ROLES)[number] | null;
  readonly grant: SessionGrant;
}

/** A signed-in person who is a member of the session's team right now. */
export interface MemberCaller extends UserCaller {
  readonly role: (typeof TEAM_ROLES)[number];
}

type ApiKeyRow = Awaited<ReturnType<AuthQueries["apiKeysByHash"]>>[number];
type SessionRow = Awaited<ReturnType<AuthQueries["sessionsById"]>>[number];

export interface AuthenticatorDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly tokens: Tokens;
  readonly csrfTokens: CsrfTokens;
  readonly lastUses: LastUses;
  readonly teamRequests: TeamRequests;
  readonly ownOrigins: ReadonlySet<string>;
}

/** Turns credentials into callers. Every method throws `unauthorized` when they are no good. */
export class Authenticator {
  /** Where our pages come from. */
  readonly ownOrigins: ReadonlySet<string>;
  readonly #deps: AuthenticatorDeps;
  readonly #apiKeys: SharedLookups<string, ApiKeyRow>;
  readonly #sessions: SharedLookups<string, SessionRow>;

  constructor(deps: AuthenticatorDeps) {
    this.ownOrigins = deps.ownOrigins;
    this.#deps = deps;
    const queries = prepareAuthQueries(deps.db);
    this.#apiKeys = new SharedLookups({
      look: queries.apiKeysByHash,
      keyOf: (hash) => hash,
      keyOfValue: ({ keyHash }) => keyHash,
    });
    this.#sessions = new SharedLookups({
      look: queries.sessionsById,
      keyOf: (id) => id,
      keyOfValue: ({ id }) => id,
    });
  }

  /**
   * An API key if there is one, good or bad; otherwise a person and a live membership. Throws `forbidden` for a
   * key without the scope, `rate_limited` once the team has asked for too much; `isAgain` for a request that was
   * counted.
   */
  async team(
    credentials: Credentials,
    { scope, isAgain = false }: { scope: Scope; isAgain?: boolean },
  ): Promise<GrantedCaller> {
    const caller = await this.#team(credentials);
    if (!isAgain) {
      await this.#deps.teamRequests.count(caller.teamId, caller.requestsPerMinute);
    }
    if (may(caller, scope)) return caller;
    throw new AppError("forbidden", `the API key has no scope ${scope}`, {
      reason: "auth_scope_missing",
      details: { scope },
    });
  }

  async #team(credentials: Credentials): Promise<GrantedCaller> {
    const { apiKey } = credentials;
    if (apiKey !== null) {
      if (!API_KEY_PATTERN.test(apiKey)) throw wrongApiKey();
      return await this.#usedApiKey(sha256Hex(apiKey));
    }
    if (credentials.authorization === null && credentials.session === null) {
      throw new AppError("unauthorized", "an API key, a bearer token or a session is required");
    }
    return asTeamCaller(await this.member(credentials));
  }

  /**
   * By a bearer token if there is one, good or bad; otherwise by a session's cookie, and then
   * `forbidden` for a change that does not show the session's CSRF token. Also `account_deactivated` when the
   * account isn't active. Read from the database each time.
   */
  async user(credentials: Credentials): Promise<UserCaller> {
    const { authorization, session, csrf } = credentials;
    if (authorization !== null) return await this.#bearer(authorization);
    const isSecret = session !== null && SESSION_SECRET_PATTERN.test(session);
    if (!isSecret) throw notSignedIn();
    const id = sha256Hex(session);
    const user = await this.#usedSession({ kind: "session", id, until: null });
    if (csrf !== null && !this.#deps.csrfTokens.proves(id, csrf)) {
      throw new AppError("forbidden", "X-CSRF-Token: must be the value of the CSRF cookie", {
        reason: "auth_csrf_failed",
      });
    }
    return user;
  }

  /** Like `user`; also `forbidden` when the user has left the session's team or it was deleted. */
  async member(credentials: Credentials): Promise<MemberCaller> {
    return asMember(await this.user(credentials));
  }

  /** Like `user`; also `forbidden` when the user is no administrator of the platform. */
  async admin(credentials: Credentials): Promise<UserCaller> {
    return asAdministrator(await this.user(credentials));
  }

  /** Like `admin`, as one who acts for the platform's team. */
  async platform(credentials: Credentials): Promise<GrantedCaller> {
    return asPlatformCaller(await this.admin(credentials));
  }

  /** Whether the token is still good is for its host's row to say. */
  async host(credentials: Credentials): Promise<HostTokenSubject> {
    const token = credentials.hostToken;
    const host = token === null ? null : await this.#deps.tokens.verifyHost(token);
    if (host === null) throw new AppError("unauthorized", "a valid host token is required");
    return host;
  }

  /** Whom a session names by now, without that being a use of it: as `member`. */
  async memberByGrant(grant: SessionGrant): Promise<MemberCaller> {
    return asMember(userCaller(await this.#sessionRow(grant), grant));
  }

  /** Whom the grant names by now, if it still acts for a team: as `team`. */
  async byGrant(grant: Grant, { isUse }: { isUse: boolean }): Promise<GrantedCaller> {
    if (grant.kind === "apiKey") {
      if (isUse) return await this.#usedApiKey(grant.keyHash);
      return keyCaller(await this.#apiKeyRow(grant.keyHash));
    }
    const session = grant.kind === "platform" ? grant.session : grant;
    const user = isUse
      ? await this.#usedSession(session)
      : userCaller(await this.#sessionRow(session), session);
    return grant.kind === "platform"
      ? asPlatformCaller(asAdministrator(user))
      : asTeamCaller(asMember(user));
  }

  /** Whom the session names by now, if they administer the platform: as `admin`, but no use of the session. */
  async adminByGrant(grant: SessionGrant): Promise<UserCaller> {
    return asAdministrator(userCaller(await this.#sessionRow(grant), grant));
  }

  async #bearer(authorization: string): Promise<UserCaller> {
    const token = /^bearer +(\S+)$/i.exec(authorization)?.[1];
    const named = token === undefined ? null : await this.#deps.tokens.verifyUser(token);
    if (named === null) throw notSignedIn();
    return await this.#usedSession({
      kind: "session",
      id: named.sessionId,
      until: named.expiresAt,
    });
  }

  async #usedSession(grant: SessionGrant): Promise<UserCaller> {
    const row = await this.#sessionRow(grant);
    if (row.isStampDue) this.#deps.lastUses.noteSession(row.id);
    return userCaller(row, grant);
  }

  async #sessionRow({ id, until }: SessionGrant): Promise<SessionRow> {
    if (until !== null && until <= this.#deps.clock.now()) throw notSignedIn();
    const row = await this.#sessions.of(id);
    if (row === undefined) throw notSignedIn();
    if (row.status === "active") return row;
    throw new AppError("account_deactivated", "this account is not active");
  }

  async #usedApiKey(keyHash: string): Promise<GrantedCaller> {
    const row = await this.#apiKeyRow(keyHash);
    if (row.isStampDue) this.#deps.lastUses.noteApiKey(row.id);
    return keyCaller(row);
  }

  async #apiKeyRow(keyHash: string): Promise<ApiKeyRow> {
    const row = await this.#apiKeys.of(keyHash);
    if (row === undefined) throw wrongApiKey();
    return row;
  }
}

/** Whether the caller may do what the scope is about. */
export function may({ scopes }: GrantedCaller, scope: Scope): boolean {
  return scopes === null || scopes.includes(scope);
}

function keyCaller({ id, keyHash, name, teamId, ...row }: ApiKeyRow): GrantedCaller {
  const actor = { type: "api_key", id, name } as const;
  const { scopes, requestsPerMinute } = row;
  return { teamId, grant: { kind: "apiKey", keyHash }, scopes, actor, requestsPerMinute };
}

function userCaller(row: SessionRow, grant: SessionGrant): UserCaller {
  const { userId: id, email, name, isAdmin, teamId, role, requestsPerMinute } = row;
  return { id, email, name, isAdmin, teamId, role, requestsPerMinute, grant };
}

function asMember(user: UserCaller): MemberCaller {
  if (user.role === null) {
    throw new AppError("forbidden", "you are not a member of this team: switch team first");
  }
  return { ...user, role: user.role };
}

function asAdministrator(user: UserCaller): UserCaller {
  if (!user.isAdmin) throw new AppError("forbidden", "platform administrators only");
  return user;
}

function asPlatformCaller({ id, email, grant: session }: UserCaller): GrantedCaller {
  const actor = { type: "user", id, name: email } as const;
  const grant = { kind: "platform", session } as const;
  return { teamId: PLATFORM_TEAM, grant, scopes: null, actor, requestsPerMinute: null };
}

function asTeamCaller({ teamId, id, email, ...user }: MemberCaller): GrantedCaller {
  const { grant, requestsPerMinute } = user;
  const actor = { type: "user", id, name: email } as const;
  return { teamId, grant, scopes: null, actor, requestsPerMinute };
}

function notSignedIn(): AppError {
  return new AppError("unauthorized", "a valid bearer token or session is required");
}

function wrongApiKey(): AppError {
  return new AppError("unauthorized", "the API key is not valid", {
    reason: "auth_invalid_api_key",
  });
}
