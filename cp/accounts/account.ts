// Signing up and signing in, as the control plane knows them.

import type { Id } from "../../proto/ids.ts";

export interface NewAccount {
  readonly email: string;
  readonly password: string;
  readonly name: string;
  /** Of the client. */
  readonly address: string;
}

export type SignIn = Omit<NewAccount, "name">;

export interface SignedIn {
  /** Bearer token. */
  readonly token: string;
  readonly userId: Id<"user">;
  readonly teamId: Id<"team">;
  readonly email: string;
  readonly name: string;
}
