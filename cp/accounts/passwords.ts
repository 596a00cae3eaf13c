// Changing a password, adding one, and getting another one by mail. Each ends all sessions of the account, for
// whoever knew the old password may have begun one.

import { networkOf } from "../../proto/http1/admission.ts";
import { type Id, idFromUuid } from "../../proto/ids.ts";
import { accountEntry, recordAudit } from "../audit/record.ts";
import type { Db } from "../db/client.ts";
import { sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Mailer } from "../mail/mailer.ts";
import { passwordChangedMail, passwordResetMail } from "../mail/messages.ts";
import { parseEmail } from "../mail-address.ts";
import { type OneTimeTokens, PASSWORD_RESET } from "../one-time-tokens.ts";
import {
  CODE_PER_ADDRESS,
  PASSWORD_PER_USER,
  type RateLimiter,
  RESET_PER_ACCOUNT,
  RESET_PER_ADDRESS,
} from "../rate-limiter.ts";
import type { Sessions } from "../sessions/service.ts";
import { assertPassword, hashPassword, verifyPassword } from "./password.ts";
import { findUser, findUserByEmail, type UserRow, updatePassword } from "./queries.ts";

/** Whom a code is kept for that is mailed to nobody. */
const NOBODY = "nobody";

export interface PasswordsDeps {
  readonly db: Db;
  readonly mailer: Mailer;
  readonly sessions: Sessions;
  readonly oneTimeTokens: OneTimeTokens;
  readonly rateLimiter: RateLimiter;
  /** Where the link in a mail leads, without a trailing slash. */
  readonly publicUrl: string;
  readonly log: Log;
}

export interface PasswordChange {
  /** Of an account that has one. */
  readonly current: string | undefined;
  readonly next: string;
  /** Of an account that has none: the new one again. */
  readonly again: string | undefined;
}

export class Passwords implements AsyncDisposable {
  readonly #deps: PasswordsDeps;
  readonly #underWay = new Set<Promise<void>>();

  constructor(deps: PasswordsDeps) {
    this.#deps = deps;
  }

  /**
   * Gives the account another password, or its first. Throws `wrong_password`, `rate_limited`, or
   * `invalid_request` naming the field.
   */
  async change(userId: Id<"user">, { current, next, again }: PasswordChange): Promise<void> {
    assertPassword(next, "new_password");
    const user = await findUser(this.#deps.db, userId);
    if (user === undefined) throw new AppError("unauthorized", "the account is gone");
    if (user.passwordHash === null) {
      if (again !== next) {
        throw new AppError("invalid_request", "confirm_password: must be the new password again");
      }
      await this.#replace(user, next, "added");
      return;
    }
    if (current === undefined) {
      throw new AppError("invalid_request", "current_password: is missing");
    }
    await this.#deps.rateLimiter.attempt(PASSWORD_PER_USER, userId);
    if (!(await verifyPassword(current, user.passwordHash))) throw wrongPassword();
    await this.#deps.rateLimiter.reset(PASSWORD_PER_USER, userId);
    await this.#replace(user, next, "changed");
  }

  /**
   * Mails a code to the active account with that address, if there is one. What is answered, and when, does
   * not tell: a code is kept for anybody, before the answer, so that all are refused alike while that can't be.
   * Throws `invalid_request` for what is no address, and `rate_limited`.
   */
  async requestReset(request: { email: string; address: string }): Promise<void> {
    const email = parseEmail(request.email);
    const { db, oneTimeTokens, rateLimiter } = this.#deps;
    await rateLimiter.attempt(RESET_PER_ADDRESS, networkOf(request.address));
    const user = await findUserByEmail(db, email);
    const subject = user?.status === "active" ? `${user.id} ${sealOf(user)}` : NOBODY;
    const token = await oneTimeTokens.issue(PASSWORD_RESET, subject);
    if (user?.status !== "active") return;
    const mailing = this.#mailReset(user, token)
      .catch((error) => this.#deps.log.error("no code to reset a password was mailed", { error }))
      .finally(() => this.#underWay.delete(mailing));
    this.#underWay.add(mailing);
  }

  /** Takes the code and sets the password. Throws `invalid_token`, `rate_limited`, `invalid_request`. */
  async reset(request: { token: string; next: string; address: string }): Promise<void> {
    const { token, next, address } = request;
    assertPassword(next, "new_password");
    const { db, oneTimeTokens, rateLimiter } = this.#deps;
    await rateLimiter.attempt(CODE_PER_ADDRESS, networkOf(address));
    const isReset = await oneTimeTokens.redeem(PASSWORD_RESET, token, async (subject) => {
      if (subject === NOBODY) return false;
      const [id = "", seal] = subject.split(" ");
      const user = await findUser(db, idFromUuid("user", id));
      if (user === undefined || user.status !== "active" || sealOf(user) !== seal) return false;
      await this.#replace(user, next, "reset");
      return true;
    });
    if (isReset !== true) throw new AppError("invalid_token", "token: unknown or expired");
  }

  /** Waits for the mails that were asked for. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async #mailReset({ id, email: to, name }: UserRow, token: string): Promise<void> {
    const { db, mailer, rateLimiter, publicUrl } = this.#deps;
    await rateLimiter.attempt(RESET_PER_ACCOUNT, id);
    const { ttlSec: lifeSec } = PASSWORD_RESET;
    await mailer.send(passwordResetMail({ to, name, publicUrl, token, lifeSec }), db);
  }

  async #replace(user: UserRow, next: string, change: "changed" | "added" | "reset") {
    const { db, mailer, sessions } = this.#deps;
    const { id, name, email: to, passwordHash: from } = user;
    const hash = await hashPassword(next);
    await db.transaction(async (tx) => {
      // Of two changes at once the second one was about a password that is no more.
      if (!(await updatePassword(tx, { id, from, to: hash }))) throw wrongPassword();
      await sessions.endAll(id, tx);
      await recordAudit(tx, accountEntry(user, `password_${change}`));
      await mailer.send(passwordChangedMail({ to, name, change }), tx);
    });
  }
}

/** Of the password that a code was mailed for: one that came before a change is void after it. */
function sealOf({ passwordHash }: UserRow): string {
  return sha256Hex(passwordHash ?? "");
}

function wrongPassword(): AppError {
  return new AppError("wrong_password", "current_password: is not the password of this account");
}
