// Signing in by a provider of identities, and connecting one to an account: the authorization code flow with PKCE
// (RFC 6749, RFC 7636), by openid-client.
//
// A visit begins here and ends here, once, in the browser that it began in: what is kept of it, in Redis under its
// `state`, names the SHA-256 of a cookie that nobody else has, so that nobody is signed in to somebody else's account
// by a link (RFC 9700, 4.7). A visit that connects is one of its own kind: it names the session that
// asked, which must still be there at the end. An account is found by the identity alone, never by a mail address: of
// an address the provider knows only whose it was.

import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import {
  authorizationCodeGrant,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  randomNonce,
  randomPKCECodeVerifier,
} from "openid-client";
import { networkOf } from "../../proto/http1/admission.ts";
import { type Id, idFromUuid } from "../../proto/ids.ts";
import type { SignedIn } from "../accounts/account.ts";
import type { Accounts } from "../accounts/service.ts";
import { accountEntry, recordAudit } from "../audit/record.ts";
import type { UserCaller } from "../auth/authenticator.ts";
import type { Db, Tx } from "../db/client.ts";
import { randomHex, sha256Hex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Mailer } from "../mail/mailer.ts";
import { providerChangedMail } from "../mail/messages.ts";
import { parseEmail } from "../mail-address.ts";
import { OAUTH_STATE, type OneTimeTokens } from "../one-time-tokens.ts";
import { OAUTH_PER_ADDRESS, type RateLimiter } from "../rate-limiter.ts";
import type { SessionClient } from "../sessions/session.ts";
import type { Identity, OauthProvider } from "./provider.ts";
import { deleteIdentities, findIdentityOwner, insertIdentity, selectProviders } from "./queries.ts";

const BINDING_BYTES = 32;
const NAME_BYTES_MAX = 100;

const Visit = Type.Object({
  provider: Type.String(),
  intent: Type.Union([Type.Literal("login"), Type.Literal("signup"), Type.Literal("connect")]),
  bindingHash: Type.String(),
  codeVerifier: Type.String(),
  nonce: Type.String(),
  /** Who connects, in which session. */
  user: Type.Optional(Type.Object({ id: Type.String(), sessionId: Type.String() })),
});
type Visit = Static<typeof Visit>;

/** What the page that a visit ends on is told. */
export type OauthFailure =
  | "access_denied"
  | "invalid_state"
  | "missing_code"
  | "exchange_failed"
  | "no_account"
  | "email_taken"
  | "email_not_verified"
  | "account_deactivated"
  | "already_linked"
  | "internal_error";

export type OauthOutcome =
  | { readonly kind: "signedIn"; readonly signedIn: SignedIn; readonly isNew: boolean }
  | { readonly kind: "connected" }
  | { readonly kind: "failed"; readonly isConnect: boolean; readonly failure: OauthFailure };

export interface OauthStart {
  /** Of the provider, where the person goes. */
  readonly url: string;
  /** For a cookie of the browser that goes there. */
  readonly binding: string;
}

export interface OauthReturn {
  readonly provider: string;
  /** What the provider has added to our URL. */
  readonly query: string;
  /** Of the browser's cookie; null: it has none. */
  readonly binding: string | null;
  readonly client: SessionClient;
}

export interface OauthDeps {
  readonly db: Db;
  readonly accounts: Accounts;
  readonly mailer: Mailer;
  readonly oneTimeTokens: OneTimeTokens;
  readonly rateLimiter: RateLimiter;
  readonly log: Log;
  readonly providers: readonly OauthProvider[];
  /** What our own URLs begin with, without a trailing slash. */
  readonly publicUrl: string;
}

/** Ends a visit; the page is told why. */
class Refusal extends Error {
  readonly failure: OauthFailure;

  constructor(failure: OauthFailure) {
    super(failure);
    this.failure = failure;
  }
}

export class Oauth {
  readonly #deps: OauthDeps;
  readonly #providers: ReadonlyMap<string, OauthProvider>;

  constructor(deps: OauthDeps) {
    this.#deps = deps;
    this.#providers = new Map(deps.providers.map((provider) => [provider.name, provider]));
  }

  /** Begins a visit that signs in or up. Throws `provider_not_found`, `rate_limited`, `service_unavailable`. */
  async start(
    name: string,
    { intent, address }: { intent: "login" | "signup"; address: string },
  ): Promise<OauthStart> {
    const provider = this.#find(name);
    await this.#deps.rateLimiter.attempt(OAUTH_PER_ADDRESS, networkOf(address));
    return await this.#begin(provider, { intent });
  }

  /** Begins one that connects an identity to the account of whoever asks. Throws as `start`. */
  async connect(name: string, { id, grant }: UserCaller): Promise<OauthStart> {
    const provider = this.#find(name);
    await this.#deps.rateLimiter.attempt(OAUTH_PER_ADDRESS, id);
    return await this.#begin(provider, { intent: "connect", user: { id, sessionId: grant.id } });
  }

  /**
   * Takes an identity away. Throws `not_found` for one that is not connected, and `last_login_method` when there would
   * be no way to sign in.
   */
  async disconnect(name: string, userId: Id<"user">): Promise<void> {
    await this.#deps.db.transaction(async (tx) => {
      const user = await this.#deps.accounts.lock(tx, userId);
      const known = await selectProviders(tx, userId);
      if (user === undefined || !known.includes(name)) throw notConnected();
      if (user.passwordHash === null && known.every((provider) => provider === name)) {
        throw new AppError("last_login_method", "add a password or another provider first");
      }
      await deleteIdentities(tx, { userId, provider: name });
      const metadata = { provider: name };
      await recordAudit(tx, { ...accountEntry(user, "provider_disconnect"), metadata });
      await this.#tell(tx, { user, provider: name, change: "disconnected" });
    });
  }

  /** Ends a visit, whatever came back; never rejects for what the browser or the provider did. */
  async finish(back: OauthReturn): Promise<OauthOutcome> {
    const state = new URLSearchParams(back.query).get("state") ?? "";
    let isConnect = false;
    try {
      const visit = await this.#takeVisit(state, back);
      if (visit === null) throw new Refusal("invalid_state");
      isConnect = visit.intent === "connect";
      const identity = await this.#identify(visit, { ...back, state });
      return await this.#admit(visit, identity, back.client);
    } catch (error) {
      if (error instanceof Refusal) return { kind: "failed", isConnect, failure: error.failure };
      this.#deps.log.error("a visit to a provider failed", { provider: back.provider, error });
      return { kind: "failed", isConnect, failure: "internal_error" };
    }
  }

  #find(name: string): OauthProvider {
    const provider = this.#providers.get(name);
    if (provider !== undefined) return provider;
    throw new AppError("provider_not_found", "there is no such provider");
  }

  #redirectUri(name: string): string {
    return `${this.#deps.publicUrl}/auth/oauth/${name}/callback`;
  }

  async #begin(provider: OauthProvider, kind: Pick<Visit, "intent" | "user">): Promise<OauthStart> {
    const binding = randomHex(BINDING_BYTES);
    const codeVerifier = randomPKCECodeVerifier();
    const nonce = randomNonce();
    const config = await provider.configuration().catch((cause) => {
      throw new AppError("service_unavailable", "the provider does not answer", { cause });
    });
    const bindingHash = sha256Hex(binding);
    const visit: Visit = { provider: provider.name, ...kind, bindingHash, codeVerifier, nonce };
    const state = await this.#deps.oneTimeTokens.issue(OAUTH_STATE, JSON.stringify(visit));
    const url = buildAuthorizationUrl(config, {
      redirect_uri: this.#redirectUri(provider.name),
      ...{ scope: provider.scope, state, ...(provider.isOpenId ? { nonce } : {}) },
      code_challenge: await calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: "S256",
    });
    return { url: url.href, binding };
  }

  /** The visit of that state, which is over with that; null for another provider's or browser's. */
  async #takeVisit(state: string, { provider, binding }: OauthReturn): Promise<Visit | null> {
    const text = await this.#deps.oneTimeTokens.redeem(OAUTH_STATE, state, async (own) => own);
    if (text === null) return null;
    const visit = Value.Parse(Visit, JSON.parse(text));
    const isOwn = binding !== null && sha256Hex(binding) === visit.bindingHash;
    return isOwn && visit.provider === provider ? visit : null;
  }

  async #identify(visit: Visit, { query, state }: { query: string; state: string }) {
    const provider = this.#find(visit.provider);
    const told = new URLSearchParams(query);
    if (told.has("error")) throw new Refusal("access_denied");
    if (!told.get("code")) throw new Refusal("missing_code");
    try {
      const back = new URL(`${this.#redirectUri(provider.name)}?${told}`);
      const tokens = await authorizationCodeGrant(await provider.configuration(), back, {
        ...{ pkceCodeVerifier: visit.codeVerifier, expectedState: state },
        ...(provider.isOpenId ? { expectedNonce: visit.nonce, idTokenExpected: true } : {}),
      });
      return await provider.identity(tokens.access_token, tokens.claims()?.sub ?? null);
    } catch (error) {
      this.#deps.log.warn("a provider did not say who somebody is", {
        ...{ provider: provider.name, reason: String(error) },
      });
      throw new Refusal("exchange_failed");
    }
  }

  async #admit(visit: Visit, identity: Identity, client: SessionClient): Promise<OauthOutcome> {
    const { db, accounts } = this.#deps;
    const { provider, intent, user } = visit;
    if (user !== undefined) return await this.#connect(visit, identity, user);
    const key = { provider, providerId: identity.providerId };
    return await db.transaction(async (tx): Promise<OauthOutcome> => {
      const ownerId = await findIdentityOwner(tx, key);
      if (ownerId !== undefined) {
        const signedIn = await accounts.signInKnown(tx, { userId: ownerId, client });
        if (signedIn === null) throw new Refusal("account_deactivated");
        return { kind: "signedIn", signedIn, isNew: false };
      }
      if (intent === "login") throw new Refusal("no_account");
      const email = emailOf(identity);
      if (email === null) throw new Refusal("email_not_verified");
      const name = nameOf(identity, email);
      const added = await accounts.addVerified(tx, { email, name, passwordHash: null });
      // Of two at once the second one waits for the first, and finds the address taken, maybe by itself.
      const userId = added?.id ?? (await findIdentityOwner(tx, key));
      if (userId === undefined) throw new Refusal("email_taken");
      const isNew = added !== null;
      if (isNew && !(await insertIdentity(tx, { ...key, userId, email }))) {
        throw new Refusal("invalid_state");
      }
      const signedIn = await accounts.signInKnown(tx, { userId, client });
      if (signedIn === null) throw new Refusal("account_deactivated");
      return { kind: "signedIn", signedIn, isNew };
    });
  }

  async #connect(
    { provider }: Visit,
    identity: Identity,
    by: { id: string; sessionId: string },
  ): Promise<OauthOutcome> {
    const { db, accounts } = this.#deps;
    const userId = idFromUuid("user", by.id);
    await db.transaction(async (tx) => {
      const user = await accounts.lock(tx, userId);
      const isThere = await accounts.hasSession(tx, { id: by.sessionId, userId });
      if (user?.status !== "active" || !isThere) throw new Refusal("invalid_state");
      const ownerId = await findIdentityOwner(tx, { provider, providerId: identity.providerId });
      if (ownerId === userId) return;
      const known = await selectProviders(tx, userId);
      const isTaken = ownerId !== undefined || known.includes(provider);
      const email = emailOf(identity) ?? "";
      const row = { provider, providerId: identity.providerId, userId, email };
      if (isTaken || !(await insertIdentity(tx, row))) throw new Refusal("already_linked");
      const metadata = { provider };
      await recordAudit(tx, { ...accountEntry(user, "provider_connect"), metadata });
      await this.#tell(tx, { user, provider, change: "connected" });
    });
    return { kind: "connected" };
  }

  async #tell(
    tx: Tx,
    {
      user,
      ...change
    }: {
      user: { email: string; name: string };
      provider: string;
      change: "connected" | "disconnected";
    },
  ): Promise<void> {
    const mail = providerChangedMail({ to: user.email, name: user.name, ...change });
    await this.#deps.mailer.send(mail, tx);
  }
}

function notConnected(): AppError {
  return new AppError("not_found", "this provider is not connected", {
    reason: "provider_not_connected",
  });
}

/** The address that the provider vouches for; null when it vouches for none, or for what is no address. */
function emailOf({ verifiedEmail }: Identity): string | null {
  try {
    return verifiedEmail === null ? null : parseEmail(verifiedEmail);
  } catch {
    return null;
  }
}

/** As much of the name as an account has room for. */
function nameOf({ name }: Identity, email: string): string {
  let text = name.replace(/[\p{Cc}\s]+/gu, " ").trim() || email.slice(0, email.lastIndexOf("@"));
  while (Buffer.byteLength(text) > NAME_BYTES_MAX) text = [...text].slice(0, -1).join("");
  return text.trim();
}
