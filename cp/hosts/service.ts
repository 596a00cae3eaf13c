// Hosts: announcing them, and the credentials of their agents.

import { encodeId, type Id, idFromUuid, newId } from "../../proto/ids.ts";
import type { Actor } from "../audit/entry.ts";
import { personAsActor, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { Tokens } from "../auth/tokens.ts";
import type { Clock } from "../clock.ts";
import type { Db, Queryable } from "../db/client.ts";
import { randomHex, sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import { recordEvents, SYSTEM_ACTOR } from "../events/outbox.ts";
import { HOST_REGISTRATION, type OneTimeTokens } from "../one-time-tokens.ts";
import { PLATFORM_TEAM } from "../platform-team.ts";
import type { Teams } from "../teams/service.ts";
import { authorizeCreate, canManage, canSee } from "./access.ts";
import { hostEvents } from "./events.ts";
import type { HostFacts, HostRow, NewHost } from "./host.ts";
import {
  bringHostOnline,
  deleteDeadRefreshTokens,
  findHost,
  insertHost,
  insertHostToken,
  insertRefreshToken,
  listHosts,
  markHostReachable,
  markHostTokenUsed,
  prepareHeartbeat,
  useRefreshToken,
  wasDeleted,
} from "./queries.ts";

const REFRESH_TOKEN_BYTES = 32;
const REFRESH_TOKEN_TTL_SEC = 60 * 24 * 3600;
/**
 * A refresh token works again this long after its first use: an agent that lost the answer, or died
 * before it saved it, would otherwise be locked out for good.
 */
const REFRESH_GRACE_SEC = 5 * 60;

export interface HostsDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly tokens: Tokens;
  readonly oneTimeTokens: OneTimeTokens;
  readonly teams: Teams;
}

export interface HostWithTeam {
  readonly host: HostRow;
  readonly teamName: string | null;
}

export interface HostCredentials extends HostWithTeam {
  readonly token: string;
  readonly refreshToken: string;
}

export class Hosts {
  readonly #deps: HostsDeps;
  readonly #heartbeat: ReturnType<typeof prepareHeartbeat>;

  constructor(deps: HostsDeps) {
    this.#deps = deps;
    this.#heartbeat = prepareHeartbeat(deps.db);
  }

  /** Announces a host. Throws `invalid_request` naming the field, or `forbidden`. */
  async create(request: NewHost, user: UserCaller) {
    const { db, clock } = this.#deps;
    const teamId = await authorizeCreate(this.#deps.teams, request, user);
    const now = clock.now();
    const row = {
      ...request,
      id: newId("host"),
      teamId,
      createdBy: user.id,
      createdAt: now,
      updatedAt: now,
    };
    const { registrationToken, tokenRow } = await this.#issueRegistrationToken(row.id, user.id);
    await db.transaction(async (tx) => {
      await insertHost(tx, row);
      await insertHostToken(tx, tokenRow);
      await recordAudit(tx, hostEntry(row, personAsActor(user), "create"));
    });
    return { ...(await this.find(row.id, user)), registrationToken };
  }

  /** All hosts for an administrator of the platform, else the hosts of the user's team. */
  async list(user: UserCaller): Promise<HostWithTeam[]> {
    if (!user.isAdmin && user.role === null) return [];
    return await listHosts(this.#deps.db, user.isAdmin ? null : user.teamId);
  }

  /** Throws `not_found` also for a host that the user may not see. */
  async find(id: Id<"host">, user: UserCaller): Promise<HostWithTeam> {
    const found = await findHost(this.#deps.db, id);
    if (found === undefined || !canSee(found.host, user)) throw hostNotFound();
    return found;
  }

  /**
   * Another registration token for a host whose agent has not registered. Throws `not_found`,
   * `forbidden`, or `invalid_request` when the host is no longer pending.
   */
  async regenerateToken(id: Id<"host">, user: UserCaller) {
    const found = await this.find(id, user);
    if (!canManage(found.host, user)) throw new AppError("forbidden", "not your host to manage");
    if (found.host.status !== "pending") {
      throw new AppError("invalid_request", "the host has registered already");
    }
    const { registrationToken, tokenRow } = await this.#issueRegistrationToken(id, user.id);
    await this.#deps.db.transaction(async (tx) => {
      await insertHostToken(tx, tokenRow);
      await recordAudit(tx, hostEntry(found.host, personAsActor(user), "token_create"));
    });
    return { ...found, registrationToken };
  }

  /**
   * An agent trades its registration token for credentials; the host is online from then on. Throws
   * `unauthorized` for a token that is unknown, used or expired, or whose host isn't pending.
   */
  async register(registrationToken: string, facts: HostFacts): Promise<HostCredentials> {
    const { db, clock, oneTimeTokens } = this.#deps;
    const credentials = await oneTimeTokens.redeem(
      HOST_REGISTRATION,
      registrationToken,
      (subject) => {
        const { hostId, tokenId } = parseSubject(subject);
        return db.transaction(async (tx) => {
          const now = clock.now();
          const host = await bringHostOnline(tx, hostId, facts);
          if (host === undefined) throw badRegistrationToken();
          await markHostTokenUsed(tx, { id: tokenId, now });
          await recordEvents(tx, hostEvents("host.up", host));
          await recordAudit(tx, hostEntry(host, SYSTEM_ACTOR, "register"));
          return await this.#issueCredentials(tx, hostId);
        });
      },
    );
    if (credentials === null) throw badRegistrationToken();
    return credentials;
  }

  /** The next pair of credentials; the old refresh token is void soon after. `unauthorized` if bad. */
  async refresh(refreshToken: string): Promise<HostCredentials> {
    const graceSec = REFRESH_GRACE_SEC;
    return await this.#deps.db.transaction(async (tx) => {
      const hash = sha256Hex(refreshToken);
      const hostId = await useRefreshToken(tx, { hash, graceSec });
      if (hostId === undefined) {
        throw new AppError("unauthorized", "refresh_token: unknown, used or expired");
      }
      await deleteDeadRefreshTokens(tx, { hostId, graceSec });
      return await this.#issueCredentials(tx, hostId);
    });
  }

  /**
   * The agent of host `id` is alive; a host that was unreachable is online again. Throws `not_found`,
   * with the reason `host_deleted` and the host's id once the host was deleted: only that lets an agent
   * forget it, for anything on the way, and a restored database, may answer 404.
   */
  async heartbeat(id: Id<"host">): Promise<void> {
    const [host] = await this.#heartbeat.execute({ id });
    if (host === undefined) {
      if (!(await wasDeleted(this.#deps.db, id))) throw hostNotFound();
      const details = { host_id: encodeId("host", id) };
      throw new AppError("not_found", "the host was deleted", { reason: "host_deleted", details });
    }
    if (host.status !== "unreachable") return;
    await this.#deps.db.transaction(async (tx) => {
      const reachable = await markHostReachable(tx, id);
      if (reachable !== undefined) await recordEvents(tx, hostEvents("host.up", reachable));
    });
  }

  async #issueCredentials(q: Queryable, hostId: Id<"host">): Promise<HostCredentials> {
    const found = await findHost(q, hostId);
    if (found === undefined) throw new Error("unreachable: the host's row is locked");
    const refreshToken = randomHex(REFRESH_TOKEN_BYTES);
    await insertRefreshToken(q, {
      id: newId("hostRefreshToken"),
      hostId,
      tokenHash: sha256Hex(refreshToken),
      ttlSec: REFRESH_TOKEN_TTL_SEC,
    });
    return { ...found, token: await this.#deps.tokens.signHost(hostId), refreshToken };
  }

  /** The token comes before its row, which is only a record: a token without one names no host. */
  async #issueRegistrationToken(hostId: Id<"host">, createdBy: Id<"user">) {
    const { clock, oneTimeTokens } = this.#deps;
    const id = newId("hostToken");
    const createdAt = clock.now();
    const expiresAt = new Date(createdAt.getTime() + HOST_REGISTRATION.ttlSec * 1000);
    const registrationToken = await oneTimeTokens.issue(HOST_REGISTRATION, `${hostId} ${id}`);
    return { registrationToken, tokenRow: { id, hostId, createdBy, createdAt, expiresAt } };
  }
}

function parseSubject(subject: string): { hostId: Id<"host">; tokenId: Id<"hostToken"> } {
  const [host = "", token = ""] = subject.split(" ");
  return { hostId: idFromUuid("host", host), tokenId: idFromUuid("hostToken", token) };
}

/** In the log of the team that it belongs to, else of the platform. */
function hostEntry(host: Pick<HostRow, "id" | "teamId">, actor: Actor, action: string) {
  const resource = { type: "host", id: encodeId("host", host.id) };
  return { teamId: host.teamId ?? PLATFORM_TEAM, actor, resource, action, scope: "admin" } as const;
}

function hostNotFound(): AppError {
  return new AppError("not_found", "host not found", { reason: "host_not_found" });
}

function badRegistrationToken(): AppError {
  return new AppError("unauthorized", "token: unknown, used or expired");
}
