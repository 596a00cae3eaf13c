// JSON Web Tokens of users and hosts: HS256 with the one secret, told apart by `typ`.

import { jwt } from "@elysiajs/jwt";
import { decodeId, encodeId, type Id } from "../../proto/ids.ts";
import type { Clock } from "../clock.ts";
import type { TEAM_ROLES } from "../db/tables.ts";

const USER_TOKEN_TTL_SEC = 6 * 3600;
const HOST_TOKEN_TTL_SEC = 7 * 24 * 3600;
/** Ours are under 1 KiB; what is longer isn't worth a signature check. */
const TOKEN_LENGTH_MAX = 4096;

/** An id of a session. */
const SESSION_ID = /^[0-9a-f]{64}$/;

export interface UserTokenSubject {
  /** The token is good as long as the session is, and no longer than it says itself. */
  readonly sessionId: string;
  readonly userId: Id<"user">;
  readonly teamId: Id<"team">;
  readonly role: (typeof TEAM_ROLES)[number];
  readonly email: string;
  readonly name: string;
  readonly isAdmin: boolean;
}

export interface HostTokenSubject {
  readonly hostId: Id<"host">;
  /** The token is good as long as this is the host's name in certificates. */
  readonly certName: string;
}

export interface Tokens {
  signUser(subject: UserTokenSubject): Promise<string>;
  /** The session that the token names, or null when it is forged, expired, malformed or a host's. */
  verifyUser(token: string): Promise<{ sessionId: string; expiresAt: Date } | null>;
  signHost(subject: HostTokenSubject): Promise<string>;
  /** Whose token it is, or null when it is forged, expired, malformed or a user's. */
  verifyHost(token: string): Promise<HostTokenSubject | null>;
}

/** Signs and checks with `secret`; role, mail and name in a token are for its bearer to read. */
export function createTokens(options: { secret: string; clock: Clock }): Tokens {
  const { clock } = options;
  const { sign, verify } = jwt({ secret: options.secret, alg: "HS256" }).decorator.jwt;
  const nowSec = () => Math.floor(clock.now().getTime() / 1000);

  async function claims(token: string) {
    if (token.length > TOKEN_LENGTH_MAX) return null;
    const options = { algorithms: ["HS256"], currentDate: clock.now(), requiredClaims: ["exp"] };
    return (await verify(token, options)) || null;
  }

  return {
    signUser({ sessionId: jti, userId, teamId, role, email, name, isAdmin }) {
      const exp = nowSec() + USER_TOKEN_TTL_SEC;
      const admin = isAdmin ? { is_admin: true } : {};
      const sub = encodeId("user", userId);
      const team_id = encodeId("team", teamId);
      return sign({ jti, sub, team_id, role, email, name, ...admin, exp });
    },
    async verifyUser(token) {
      const payload = await claims(token);
      if (payload === null || payload.typ === "host") return null;
      const sessionId = String(payload.jti);
      if (!SESSION_ID.test(sessionId)) return null;
      return { sessionId, expiresAt: new Date(Number(payload.exp) * 1000) };
    },
    signHost({ hostId, certName }) {
      const id = encodeId("host", hostId);
      const exp = nowSec() + HOST_TOKEN_TTL_SEC;
      return sign({ sub: id, host_id: id, cert_name: certName, typ: "host", exp });
    },
    async verifyHost(token) {
      const payload = await claims(token);
      if (payload === null || payload.typ !== "host") return null;
      const hostId = decodeId("host", String(payload.host_id));
      return hostId === null ? null : { hostId, certName: String(payload.cert_name ?? "") };
    },
  };
}
