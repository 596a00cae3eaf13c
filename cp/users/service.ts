// What a signed-in person may know of their own account.

import type { Id } from "../../proto/ids.ts";
import type { Db } from "../db/client.ts";
import { findSignInMethods } from "./queries.ts";

export interface SignInMethods {
  readonly hasPassword: boolean;
  readonly providers: readonly string[];
}

export class Users {
  readonly #db: Db;

  constructor(deps: { db: Db }) {
    this.#db = deps.db;
  }

  async signInMethods(id: Id<"user">): Promise<SignInMethods> {
    return await findSignInMethods(this.#db, id);
  }
}
