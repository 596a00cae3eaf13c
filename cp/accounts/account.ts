// Signing up and signing in, as the control plane knows them.

import type { Id } from "../../proto/ids.ts";
import type { NewSession, SessionClient } from "../sessions/session.ts";
import type { TeamRole } from "../teams/team.ts";

export interface NewAccount {
  readonly email: string;
  readonly password: string;
  readonly name: string;
  /** Of the client. */
  readonly address: string;
}

/** Of somebody who was invited, and so has shown that the address is theirs. */
export interface InvitedAccount {
  readonly token: string;
  readonly password: string;
  readonly name: string;
  readonly client: SessionClient;
}

export interface SignIn {
  readonly email: string;
  readonly password: string;
  readonly client: SessionClient;
}

export interface SignedIn {
  readonly session: NewSession;
  /** Bearer token of the session. */
  readonly token: string;
  readonly userId: Id<"user">;
  readonly teamId: Id<"team">;
  readonly email: string;
  readonly name: string;
  readonly role: TeamRole;
  readonly isAdmin: boolean;
}
