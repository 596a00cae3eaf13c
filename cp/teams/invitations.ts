// Inviting somebody to a team by mail, whether they have an account or not. What is answered does not tell which.
//
// The token in the mail is good once, for a week, and for the account with the address that it was sent to: the mail
// shows that the address is theirs. It is void when the invitation is revoked or sent again, and when whoever sent it
// may not invite any more.

import { networkOf } from "../../proto/http1/admission.ts";
import { encodeId, type Id, newId } from "../../proto/ids.ts";
import { personAsActor, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { Clock } from "../clock.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { randomHex, sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { Mailer } from "../mail/mailer.ts";
import { invitationMail } from "../mail/messages.ts";
import { parseEmail } from "../mail-address.ts";
import {
  CODE_PER_ADDRESS,
  INVITATIONS_PER_RECIPIENT,
  MEMBERS_PER_USER,
  type RateLimiter,
} from "../rate-limiter.ts";
import {
  countOtherInvitations,
  deleteInvitation,
  deleteOldInvitations,
  findInvitation,
  listInvitations,
  replaceInvitation,
} from "./invitation-queries.ts";
import { MEMBERS_MAX, type TeamChange } from "./members.ts";
import {
  findMember,
  findRole,
  findTeamLocked,
  insertMember,
  listMembers,
  lockUser,
} from "./queries.ts";
import type { Membership } from "./service.ts";
import type { InvitationRow, InvitedRole, TeamRow } from "./team.ts";

const LIFE_SEC = 7 * 24 * 3600;
const TOKEN_BYTES = 32;
/** That wait in one team: the list has no pages. */
export const INVITATIONS_MAX = 100;

export interface InvitationsDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly mailer: Mailer;
  readonly rateLimiter: RateLimiter;
  /** Where the link in a mail leads, without a trailing slash. */
  readonly publicUrl: string;
}

/** What somebody holds who was sent a token. */
export interface Invitation {
  readonly id: Id<"invitation">;
  readonly teamId: Id<"team">;
  readonly email: string;
  readonly role: InvitedRole;
}

export class Invitations {
  readonly #deps: InvitationsDeps;

  constructor(deps: InvitationsDeps) {
    this.#deps = deps;
  }

  /**
   * Mails an invitation to the address; one that waits there already is replaced. Throws `forbidden` for plain
   * members, `rate_limited`, `conflict` when too many wait, and `invalid_request` for one who is in the team.
   */
  async send(
    change: TeamChange,
    { email: text, role, inviter }: { email: string; role: InvitedRole; inviter: UserCaller },
  ): Promise<InvitationRow> {
    const { db, mailer, rateLimiter, publicUrl } = this.#deps;
    const email = parseEmail(text);
    if (inviter.role === "member") throw notManager();
    await rateLimiter.attempt(MEMBERS_PER_USER, change.by);
    // Whoever sends them: one person gets no heap of mails.
    await rateLimiter.attempt(INVITATIONS_PER_RECIPIENT, email);
    const { teamId, by: invitedBy } = change;
    const token = randomHex(TOKEN_BYTES);
    const invitation = { id: newId("invitation"), email, role };
    return await db.transaction(async (tx) => {
      const team = await lockManaged(tx, change);
      const members = await listMembers(tx, teamId);
      if (members.some((member) => member.email === email)) {
        throw new AppError("invalid_request", "email: is a member of the team already");
      }
      if ((await countOtherInvitations(tx, { teamId, email })) >= INVITATIONS_MAX) {
        throw new AppError("conflict", `at most ${INVITATIONS_MAX} invitations of a team wait`);
      }
      const tokenHash = sha256Hex(token);
      const times = await replaceInvitation(tx, {
        ...{ ...invitation, teamId, tokenHash, invitedBy, lifeSec: LIFE_SEC },
      });
      const mail = { to: email, inviter: inviter.name, teamName: team.name, role };
      await mailer.send(invitationMail({ ...mail, publicUrl, token, lifeSec: LIFE_SEC }), tx);
      const metadata = { email, role };
      await recordAudit(tx, { ...invitationEntry(change, invitation.id, "create"), metadata });
      return { ...invitation, ...times, invitedBy: inviter.email };
    });
  }

  /** Those that wait, the newest first. Throws `forbidden` for plain members. */
  async list(change: TeamChange): Promise<InvitationRow[]> {
    return await this.#deps.db.transaction(async (tx) => {
      await lockManaged(tx, change);
      return await listInvitations(tx, change.teamId);
    });
  }

  /** Makes an invitation void; one that is not there is no error. Throws `forbidden` for plain members. */
  async revoke(change: TeamChange, id: Id<"invitation">): Promise<void> {
    await this.#deps.db.transaction(async (tx) => {
      await lockManaged(tx, change);
      if (!(await deleteInvitation(tx, { id, teamId: change.teamId }))) return;
      await recordAudit(tx, { ...invitationEntry(change, id, "revoke"), status: "warning" });
    });
  }

  /**
   * Makes the person a member of the team that the token is of. Throws `invalid_token`, `rate_limited`, `forbidden`
   * for another address than the one that was invited, and `conflict` when the team is full.
   */
  async accept(
    token: string,
    { user, address }: { user: UserCaller; address: string },
  ): Promise<Membership> {
    await this.#deps.rateLimiter.attempt(CODE_PER_ADDRESS, networkOf(address));
    return await this.#deps.db.transaction(async (tx) => {
      const invitation = await this.find(tx, token);
      if (invitation.email !== user.email) {
        throw new AppError("forbidden", "this invitation is for another mail address than yours");
      }
      return await this.take(tx, invitation, user.id);
    });
  }

  /** The open invitation of that token. Throws `invalid_token`. */
  async find(q: Queryable, token: string): Promise<Invitation> {
    const invitation = await findInvitation(q, sha256Hex(token));
    if (invitation === undefined) throw invalidToken();
    return invitation;
  }

  /**
   * Uses the invitation up and makes the user, whose address it must be, a member; who is one already stays what they
   * are. Throws `invalid_token` when somebody else has used it up meanwhile, `account_deactivated` for who is gone
   * meanwhile, and `conflict` when the team is full.
   */
  async take(tx: Tx, invitation: Invitation, userId: Id<"user">): Promise<Membership> {
    const { teamId, role } = invitation;
    const team = await findTeamLocked(tx, teamId);
    if (team === undefined || !(await deleteInvitation(tx, invitation))) throw invalidToken();
    const known = await findMember(tx, { teamId, userId });
    if (known !== undefined) return { team, role: known.role };
    // Who is gone meanwhile has left all teams, and joins none behind that.
    if (!(await lockUser(tx, userId))) {
      throw new AppError("account_deactivated", "this account is not active");
    }
    if ((await listMembers(tx, teamId)).length >= MEMBERS_MAX) {
      throw new AppError("conflict", `a team has at most ${MEMBERS_MAX} members`);
    }
    const createdAt = this.#deps.clock.now();
    await insertMember(tx, { teamId, userId, role, isDefault: false, createdAt });
    const actor = personAsActor({ id: userId, email: invitation.email });
    const resource = { type: "member", id: encodeId("user", userId) };
    const joined = { teamId, actor, resource, action: "join", scope: "admin" } as const;
    await recordAudit(tx, { ...joined, metadata: { role } });
    return { team, role };
  }

  /** Forgets at most `limit` of those that are too old; how many it were. */
  async expire(limit: number): Promise<number> {
    return await deleteOldInvitations(this.#deps.db, limit);
  }
}

/** The team, held until the transaction ends. Throws `forbidden` unless `by` manages it. */
async function lockManaged(tx: Tx, { teamId, by }: TeamChange): Promise<TeamRow> {
  const team = await findTeamLocked(tx, teamId);
  const role = team && (await findRole(tx, { teamId, userId: by }));
  if (team === undefined || role === undefined || role === "member") throw notManager();
  return team;
}

function invitationEntry(
  { teamId, actor }: TeamChange,
  id: Id<"invitation">,
  action: "create" | "revoke",
) {
  const resource = { type: "invitation", id: encodeId("invitation", id) };
  return { teamId, actor, resource, action, scope: "admin" } as const;
}

function notManager(): AppError {
  return new AppError("forbidden", "only the owner and admins of the team do that");
}

function invalidToken(): AppError {
  return new AppError("invalid_token", "token: unknown, used, revoked or expired");
}
