// Accounts by mail and password: sign up, activate, sign in, change team.

import { networkOf } from "../../proto/http1/admission.ts";
import { encodeId, type Id, idFromUuid, newId } from "../../proto/ids.ts";
import { accountEntry, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { Tokens } from "../auth/tokens.ts";
import type { Db, Queryable, Tx } from "../db/client.ts";
import { AppError } from "../errors.ts";
import type { Mailer } from "../mail/mailer.ts";
import { activationMail } from "../mail/messages.ts";
import { parseEmail } from "../mail-address.ts";
import { ACTIVATION, type OneTimeTokens } from "../one-time-tokens.ts";
import {
  CODE_PER_ADDRESS,
  LOGIN_PER_ACCOUNT,
  LOGIN_PER_ACCOUNT_AND_ADDRESS,
  LOGIN_PER_ADDRESS,
  type RateLimiter,
  SIGNUP_PER_ADDRESS,
} from "../rate-limiter.ts";
import type { Sessions } from "../sessions/service.ts";
import type { SessionClient } from "../sessions/session.ts";
import type { Invitations } from "../teams/invitations.ts";
import type { Membership, Teams } from "../teams/service.ts";
import type { InvitedAccount, NewAccount, SignedIn, SignIn } from "./account.ts";
import { appointIfFirst } from "./administrators.ts";
import { parseName } from "./fields.ts";
import { assertPassword, hashPassword, isOldHash, verifyPassword } from "./password.ts";
import {
  activateUser,
  deleteAbandonedUser,
  findUser,
  findUserByEmail,
  findUserLocked,
  insertInactiveUser,
  type UserRow,
  updateName,
  updatePassword,
  voidInactivePassword,
} from "./queries.ts";

/** An account that wasn't activated keeps its address this long: as long as its token lives. */
const SIGNUP_COOLDOWN_SEC = ACTIVATION.ttlSec;

/**
 * How long a login takes that fails: more than any hash of ours and of the first Wrenn's does (bcrypt at cost 10
 * costs twice what argon2id does, at cost 12 six times), so that the time does not tell whether there is such an
 * account, or how old it is.
 */
const FAILED_LOGIN_MS_MIN = 300;

export interface AccountsDeps {
  readonly db: Db;
  readonly mailer: Mailer;
  readonly teams: Teams;
  readonly invitations: Invitations;
  readonly sessions: Sessions;
  readonly tokens: Tokens;
  readonly oneTimeTokens: OneTimeTokens;
  readonly rateLimiter: RateLimiter;
  /** Where the link in a mail leads, without a trailing slash. */
  readonly publicUrl: string;
  /** Whose account is to be the first administrator's; null: the first one that is activated. */
  readonly firstAdministrator: string | null;
}

export class Accounts {
  readonly #deps: AccountsDeps;

  constructor(deps: AccountsDeps) {
    this.#deps = deps;
  }

  /**
   * Makes an inactive account and mails its activation link. Throws `email_taken`,
   * `signup_cooldown`, `rate_limited`, or `invalid_request` naming the field. Without a mail there is no account.
   */
  async signUp(request: NewAccount): Promise<void> {
    const { db, rateLimiter, oneTimeTokens, publicUrl, mailer } = this.#deps;
    const email = parseEmail(request.email);
    const name = parseName(request.name);
    assertPassword(request.password);
    await rateLimiter.attempt(SIGNUP_PER_ADDRESS, networkOf(request.address));

    const user = {
      id: newId("user"),
      email,
      name,
      passwordHash: await hashPassword(request.password),
    };
    const token = await oneTimeTokens.issue(ACTIVATION, user.id);
    const { ttlSec: lifeSec } = ACTIVATION;
    const isNew = await db.transaction(async (tx) => {
      await deleteAbandonedUser(tx, { email, ageSec: SIGNUP_COOLDOWN_SEC });
      if (!(await insertInactiveUser(tx, user))) return false;
      await recordAudit(tx, accountEntry(user, "sign_up"));
      await mailer.send(activationMail({ to: email, name, publicUrl, token, lifeSec }), tx);
      return true;
    });
    if (isNew) return;
    const holder = await findUserByEmail(db, email);
    await this.#voidOtherPassword(holder, request.password);
    throw addressTaken(holder);
  }

  /**
   * Of two who sign up with one address, whoever gets its mails activates the account, and need not be the first: so
   * it has the password of neither, else a stranger who came first would know it.
   */
  async #voidOtherPassword(holder: UserRow | undefined, password: string): Promise<void> {
    if (holder?.status !== "inactive" || holder.passwordHash === null) return;
    if (await verifyPassword(password, holder.passwordHash)) return;
    await voidInactivePassword(this.#deps.db, holder.id);
  }

  /**
   * Makes an active account for the address that the invitation was mailed to, in that team, and signs it in; a sign-up
   * that waits for its activation is replaced, whoever asked for it. Throws `invalid_token`, `email_taken` for one who
   * has an account, `rate_limited`, `conflict` when the team is full, or `invalid_request` naming the field.
   */
  async signUpInvited({ token, client, ...request }: InvitedAccount): Promise<SignedIn> {
    const { db, rateLimiter, invitations } = this.#deps;
    const name = parseName(request.name);
    assertPassword(request.password);
    await rateLimiter.attempt(CODE_PER_ADDRESS, networkOf(client.address));
    await invitations.find(db, token);
    const passwordHash = await hashPassword(request.password);
    return await db.transaction(async (tx) => {
      const invitation = await invitations.find(tx, token);
      const { email } = invitation;
      const user = await this.addVerified(tx, { email, name, passwordHash });
      if (user === null) throw addressTaken(await findUserByEmail(tx, email));
      const membership = await invitations.take(tx, invitation, user.id);
      return await this.#signIn(tx, { user, membership, client });
    });
  }

  /**
   * An active account of somebody who has shown that the address is theirs, in place of a sign-up that waits for its
   * activation, whoever asked for that; null when the address has an account.
   */
  async addVerified(
    tx: Tx,
    { email, ...account }: { email: string; name: string; passwordHash: string | null },
  ): Promise<UserRow | null> {
    const id = newId("user");
    await deleteAbandonedUser(tx, { email, ageSec: 0 });
    if (!(await insertInactiveUser(tx, { id, email, ...account }))) return null;
    await recordAudit(tx, accountEntry({ id, email }, "sign_up"));
    return (await this.#activate(tx, id)) ?? null;
  }

  /** Signs in somebody who was known otherwise than by a password; null unless the account is active. */
  async signInKnown(
    tx: Tx,
    { userId, client }: { userId: Id<"user">; client: SessionClient },
  ): Promise<SignedIn | null> {
    const user = await findUserLocked(tx, userId);
    if (user?.status !== "active") return null;
    await recordAudit(tx, accountEntry(user, "login"));
    const membership = await this.#deps.teams.teamToSignInto(tx, user);
    return await this.#signIn(tx, { user, membership, client });
  }

  /** The account, held until the transaction ends. */
  async lock(tx: Tx, userId: Id<"user">): Promise<UserRow | undefined> {
    return await findUserLocked(tx, userId);
  }

  /** Whether the session goes on. */
  async hasSession(tx: Tx, session: { id: string; userId: Id<"user"> }): Promise<boolean> {
    return await this.#deps.sessions.isThere(session, tx);
  }

  /** At the start: makes an administrator of whom the operator named, if nobody administers the platform. */
  async appointFirstAdministrator(): Promise<void> {
    const { db, firstAdministrator: named } = this.#deps;
    if (named === null) return;
    await db.transaction(async (tx) => {
      const user = await findUserByEmail(tx, named);
      if (user?.status === "active") await appointIfFirst(tx, { user, named });
    });
  }

  /**
   * Activates the account that the token was mailed to and signs it in. Throws `invalid_token` or
   * `already_activated`.
   */
  async activate(token: string, client: SessionClient): Promise<SignedIn> {
    const { db, oneTimeTokens, rateLimiter, teams } = this.#deps;
    await rateLimiter.attempt(CODE_PER_ADDRESS, networkOf(client.address));
    const signedIn = await oneTimeTokens.redeem(ACTIVATION, token, async (subject) => {
      const id = idFromUuid("user", subject);
      return await db.transaction(async (tx) => {
        const user = await this.#activate(tx, id);
        if (user === undefined) throw notActivatable(await findUser(tx, id));
        await recordAudit(tx, accountEntry(user, "sign_up_confirm"));
        return await this.#signIn(tx, {
          ...{ user, client },
          membership: await teams.teamToSignInto(tx, user),
        });
      });
    });
    if (signedIn === null) throw invalidToken();
    return signedIn;
  }

  /**
   * Signs in with mail and password. Throws `unauthorized` alike for an unknown address, an account
   * without a password, a wrong password and a deleted account; with the right password also
   * `account_not_activated` or `account_disabled`.
   */
  async logIn(request: SignIn): Promise<SignedIn> {
    const { db, rateLimiter, teams } = this.#deps;
    const email = parseEmail(request.email);
    const { client, password } = request;
    const address = networkOf(client.address);
    const attempt = `${email} ${address}`;
    await Promise.all([
      rateLimiter.attempt(LOGIN_PER_ADDRESS, address),
      rateLimiter.attempt(LOGIN_PER_ACCOUNT_AND_ADDRESS, attempt),
    ]);
    // Not by those that were refused, else one address could use it up.
    await rateLimiter.attempt(LOGIN_PER_ACCOUNT, email);

    const beganAtMs = performance.now();
    const known = await findUserByEmail(db, email);
    const isPassword = await verifyPassword(password, known?.passwordHash ?? null);
    if (known === undefined || !isPassword) {
      await Bun.sleep(Math.max(0, beganAtMs + FAILED_LOGIN_MS_MIN - performance.now()));
      throw wrongCredentials();
    }
    assertMaySignIn(known);
    await rateLimiter.reset(LOGIN_PER_ACCOUNT_AND_ADDRESS, attempt);
    const hash = await this.#withoutOldHash(known, password);
    return await db.transaction(async (tx) => {
      // Whoever changed it meanwhile has ended all sessions, and this one must not be missed.
      const user = await findUserLocked(tx, known.id);
      if (user === undefined || user.passwordHash !== hash) throw wrongCredentials();
      assertMaySignIn(user);
      await recordAudit(tx, accountEntry(user, "login"));
      const membership = await teams.teamToSignInto(tx, user);
      return await this.#signIn(tx, { user, membership, client });
    });
  }

  /** The hash that the account has now; one of the first Wrenn's is replaced. */
  async #withoutOldHash({ id, passwordHash: from }: UserRow, password: string) {
    if (from === null || !isOldHash(from)) return from;
    const to = await hashPassword(password);
    return (await updatePassword(this.#deps.db, { id, from, to })) ? to : from;
  }

  /** Throws `invalid_request`. */
  async rename(by: Pick<UserCaller, "id" | "email">, name: string): Promise<void> {
    const change = { id: by.id, name: parseName(name) };
    await this.#deps.db.transaction(async (tx) => {
      await updateName(tx, change);
      await recordAudit(tx, accountEntry(by, "rename"));
    });
  }

  /** Changes the session into one of another team of the user. Throws `not_found` or `forbidden`. */
  async switchTeam(
    { id, grant }: UserCaller,
    { teamId, client }: { teamId: Id<"team">; client: SessionClient },
  ): Promise<SignedIn> {
    const { db, teams, sessions } = this.#deps;
    return await db.transaction(async (tx) => {
      const user = await findUserLocked(tx, id);
      const membership = await teams.membership({ teamId, userId: id }, tx);
      const hasEnded = await sessions.end({ id: grant.id, userId: id }, tx);
      if (user === undefined || !hasEnded) {
        throw new AppError("unauthorized", "the session has ended meanwhile");
      }
      const metadata = { team_id: encodeId("team", teamId) };
      await recordAudit(tx, { ...accountEntry(user, "switch_team"), metadata });
      return await this.#signIn(tx, { user, membership, client });
    });
  }

  /** Undefined when it isn't inactive. */
  async #activate(tx: Tx, id: Id<"user">): Promise<UserRow | undefined> {
    const user = await activateUser(tx, id);
    const { firstAdministrator: named } = this.#deps;
    return user === undefined ? undefined : await appointIfFirst(tx, { user, named });
  }

  /** In a transaction that has locked the user's row. */
  async #signIn(
    q: Queryable,
    { user, membership, client }: { user: UserRow; membership: Membership; client: SessionClient },
  ): Promise<SignedIn> {
    const { id: userId, email, name, isAdmin } = user;
    const { team, role } = membership;
    const teamId = team.id;
    const session = await this.#deps.sessions.begin(q, { userId, teamId, client });
    const subject = { userId, teamId, role, email, name, isAdmin };
    const token = await this.#deps.tokens.signUser({ ...subject, sessionId: session.id });
    return { session, token, ...subject };
  }
}

function wrongCredentials(): AppError {
  return new AppError("unauthorized", "invalid email or password", {
    reason: "auth_invalid_credentials",
  });
}

/** Of an account whose password was shown. */
function assertMaySignIn({ status }: UserRow): void {
  switch (status) {
    case "active":
      return;
    case "deleted":
      throw wrongCredentials();
    case "inactive":
      throw new AppError("account_not_activated", "this account has not been activated yet");
    case "disabled":
      throw new AppError("account_disabled", "this account has been disabled");
  }
}

function addressTaken(holder: UserRow | undefined): AppError {
  return holder?.status === "inactive"
    ? new AppError("signup_cooldown", "this address has signed up: look for the activation mail")
    : new AppError("email_taken", "an account with this address exists");
}

function notActivatable(user: UserRow | undefined): AppError {
  return user?.status === "active"
    ? new AppError("already_activated", "this account is active already")
    : invalidToken();
}

function invalidToken(): AppError {
  return new AppError("invalid_token", "token: unknown or expired");
}
