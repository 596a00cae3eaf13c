// Hosts: announcing them, and the credentials of their agents.

import { AGENTS_DOMAIN } from "../../proto/certificates/names.ts";
import { encodeId, type Id, idFromUuid, newId } from "../../proto/ids.ts";
import type { Actor } from "../audit/entry.ts";
import { personAsActor, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { HostTokenSubject, Tokens } from "../auth/tokens.ts";
import { type Authority, BadRequest, KeyToCertify } from "../certificates/authority.ts";
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
  deleteExpiredRefreshTokens,
  findHost,
  insertHost,
  insertHostToken,
  insertRefreshToken,
  listHosts,
  lockRefreshToken,
  markHostReachable,
  markHostTokenUsed,
  noteRefresh,
  prepareHeartbeat,
  revokeCredentials,
  updateCertificate,
  wasDeleted,
} from "./queries.ts";

const REFRESH_TOKEN_BYTES = 32;
const CERT_NAME_BYTES = 8;
const REFRESH_TOKEN_TTL_SEC = 60 * 24 * 3600;
/**
 * A refresh token works again for the same key this long after its first use: an agent that lost the answer, or
 * died before it saved it, would otherwise be locked out.
 */
const REFRESH_GRACE_SEC = 5 * 60;

export interface HostsDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly tokens: Tokens;
  readonly oneTimeTokens: OneTimeTokens;
  readonly teams: Teams;
  readonly authority: Authority;
}

export interface HostWithTeam {
  readonly host: HostRow;
  readonly teamName: string | null;
}

export interface HostCredentials extends HostWithTeam {
  readonly token: string;
  readonly refreshToken: string;
  readonly certPem: string;
  /** Of the authorities that certify who may call the agent. */
  readonly trustedPem: string;
}

interface NewCredentials {
  readonly hostId: Id<"host">;
  readonly certName: string;
  readonly request: KeyToCertify;
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
   * Another registration token for a host whose agent has no credentials. Throws `not_found`,
   * `forbidden`, or `invalid_request` when the host has some.
   */
  async regenerateToken(id: Id<"host">, user: UserCaller) {
    const found = await this.find(id, user);
    if (!canManage(found.host, user)) throw new AppError("forbidden", "not your host to manage");
    if (found.host.status !== "pending" && found.host.certName !== "") {
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
   * An agent trades its registration token, and a request to certify its key, for credentials; the host is online
   * from then on, and none that it had before are good. Throws `unauthorized` for a token that is unknown, used or
   * expired, or whose host has credentials; `invalid_request` for what is no such request, which uses no token up.
   */
  async register(
    registrationToken: string,
    { csr, facts }: { csr: string; facts: HostFacts },
  ): Promise<HostCredentials> {
    const { db, clock, oneTimeTokens } = this.#deps;
    const request = await parseRequest(csr);
    const credentials = await oneTimeTokens.redeem(
      HOST_REGISTRATION,
      registrationToken,
      (subject) => {
        const { hostId, tokenId } = parseSubject(subject);
        return db.transaction(async (tx) => {
          const now = clock.now();
          const host = await bringHostOnline(tx, hostId, facts);
          if (host === undefined) throw badRegistrationToken();
          await revokeCredentials(tx, hostId);
          await markHostTokenUsed(tx, { id: tokenId, now });
          await recordEvents(tx, hostEvents("host.up", host));
          await recordAudit(tx, hostEntry(host, SYSTEM_ACTOR, "register"));
          const certName = newCertName(hostId);
          return await this.#issueCredentials(tx, { hostId, certName, request });
        });
      },
    );
    if (credentials === null) throw badRegistrationToken();
    return credentials;
  }

  /**
   * The next credentials. The refresh token is used up; an agent that lost the answer gets another one for the same
   * key within a short grace. Throws `unauthorized` for a token that is
   * unknown or expired, and for one that is used twice in any other way: somebody has it who should not, so that
   * all credentials of the host are revoked. `invalid_request` for a bad `csr`, which uses nothing up.
   */
  async refresh(refreshToken: string, csr: string): Promise<HostCredentials> {
    const request = await parseRequest(csr);
    const hash = sha256Hex(refreshToken);
    const outcome = await this.#deps.db.transaction(async (tx) => {
      const found = await lockRefreshToken(tx, { hash, graceSec: REFRESH_GRACE_SEC });
      if (found === undefined) return "unknown";
      const { token, isFresh } = found;
      const { hostId } = token;
      const host = (await findHost(tx, hostId))?.host;
      if (host === undefined || host.certName === "") return "unknown";
      const usedForKey = request.fingerprint;
      const isRepeated = isFresh && token.usedForKey === usedForKey;
      if (token.revokedAt !== null && !isRepeated) {
        await revokeCredentials(tx, hostId);
        await recordAudit(tx, hostEntry(host, SYSTEM_ACTOR, "credentials_revoke"));
        return "reused";
      }
      await noteRefresh(tx, { id: token.id, usedForKey });
      await deleteExpiredRefreshTokens(tx, hostId);
      return await this.#issueCredentials(tx, { hostId, certName: host.certName, request });
    });
    if (outcome === "unknown") {
      throw new AppError("unauthorized", "refresh_token: unknown, used or expired");
    }
    if (outcome === "reused") {
      const advice = "register the host again";
      throw new AppError("unauthorized", `refresh_token: used twice, all are void; ${advice}`);
    }
    return outcome;
  }

  /**
   * The agent of the host is alive; a host that was unreachable is online again. Throws `unauthorized` when its
   * credentials were revoked, and `not_found`, with the reason `host_deleted` and the host's id once the host was
   * deleted: only that lets an agent forget it, for anything on the way, and a restored database, may answer 404.
   */
  async heartbeat({ hostId, certName }: HostTokenSubject): Promise<void> {
    const [host] = await this.#heartbeat.execute({ hostId, certName });
    if (host === undefined) throw await this.#whyUnknown(hostId);
    if (host.status !== "unreachable") return;
    await this.#deps.db.transaction(async (tx) => {
      const reachable = await markHostReachable(tx, hostId);
      if (reachable !== undefined) await recordEvents(tx, hostEvents("host.up", reachable));
    });
  }

  async #whyUnknown(id: Id<"host">): Promise<AppError> {
    const { db } = this.#deps;
    if ((await findHost(db, id)) !== undefined) {
      return new AppError("unauthorized", "the host's credentials were revoked");
    }
    if (!(await wasDeleted(db, id))) return hostNotFound();
    const details = { host_id: encodeId("host", id) };
    return new AppError("not_found", "the host was deleted", { reason: "host_deleted", details });
  }

  async #issueCredentials(
    q: Queryable,
    { hostId, certName, request }: NewCredentials,
  ): Promise<HostCredentials> {
    const { authority, tokens } = this.#deps;
    const { certPem, fingerprint, expiresAt } = await authority.signAgent(request, certName);
    const certificate = { certName, certFingerprint: fingerprint, certExpiresAt: expiresAt };
    await updateCertificate(q, hostId, certificate);
    const found = await findHost(q, hostId);
    if (found === undefined) throw new Error("unreachable: the host's row is locked");
    const refreshToken = randomHex(REFRESH_TOKEN_BYTES);
    const tokenHash = sha256Hex(refreshToken);
    const id = newId("hostRefreshToken");
    await insertRefreshToken(q, { id, hostId, tokenHash, ttlSec: REFRESH_TOKEN_TTL_SEC });
    const token = await tokens.signHost({ hostId, certName });
    return { ...found, token, refreshToken, certPem, trustedPem: authority.trustedPem };
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

/** Throws `invalid_request` unless it is a request to certify a key, by who has that key. */
async function parseRequest(csr: string): Promise<KeyToCertify> {
  try {
    return await KeyToCertify.parse(csr);
  } catch (error) {
    if (!(error instanceof BadRequest)) throw error;
    throw new AppError("invalid_request", `csr: ${error.message}`);
  }
}

/** What was certified under another name before is not that host's agent any more. */
function newCertName(hostId: Id<"host">): string {
  return `${randomHex(CERT_NAME_BYTES)}.${encodeId("host", hostId)}.${AGENTS_DOMAIN}`;
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
