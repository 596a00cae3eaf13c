// What a provider of identities is to the rest: where a person goes, and who comes back.

import type { Configuration } from "openid-client";

/** How long a provider may take for one answer. */
export const PROVIDER_TIMEOUT_SEC = 10;

/** Who somebody is to a provider. */
export interface Identity {
  /** Theirs at the provider, for good; addresses and names change and change hands. */
  readonly providerId: string;
  /** Null unless the provider says that it is theirs. */
  readonly verifiedEmail: string | null;
  readonly name: string;
}

/** What is kept of a visit to a provider until the person is back. */
export interface Expected {
  readonly state: string;
  readonly codeVerifier: string;
  readonly nonce: string;
}

export interface OauthProvider {
  /** In paths and in the database. */
  readonly name: string;
  readonly scope: string;
  /** Whether it is asked for an ID token (OpenID Connect). */
  readonly isOpenId: boolean;
  /** Its endpoints. Rejects when it does not tell them; the next call asks again. */
  configuration(): Promise<Configuration>;
  /** Who the access token is of; `subject` is the ID token's. */
  identity(accessToken: string, subject: string | null): Promise<Identity>;
}
