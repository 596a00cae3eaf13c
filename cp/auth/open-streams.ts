// Connections that outlive the request that opened them, and how they end with the right to them.
//
// A request is looked at once. What stays open after it is looked at again and again, all of it in a few queries:
// so a key that was deleted, a member who was removed or a session that ended is seen, whoever did it and on
// whichever control plane, and no message about it can get lost. While the database is away nobody is sent off.

import type { Id } from "../../proto/ids.ts";
import { AppError } from "../errors.ts";
import type { Authenticator, Grant, GrantedCaller } from "./authenticator.ts";

interface Watched {
  readonly grant: Grant;
  readonly teamId: Id<"team">;
  /** That it is open is a use of the grant. */
  readonly isUse: boolean;
  readonly end: (why: AppError) => void;
}

export class OpenStreams {
  readonly #authenticator: Authenticator;
  readonly #open = new Set<Watched>();

  constructor({ authenticator }: { authenticator: Authenticator }) {
    this.#authenticator = authenticator;
  }

  /** `end` is called, once, when the caller may not act for the team any more; disposing forgets both. */
  watch(
    { grant, teamId }: GrantedCaller,
    options: { isUse: boolean; end: (why: AppError) => void },
  ): Disposable {
    const watched = { grant, teamId, ...options };
    this.#open.add(watched);
    return { [Symbol.dispose]: () => this.#open.delete(watched) };
  }

  /** One pass over all that are open. */
  async check(): Promise<{ ended: number }> {
    let ended = 0;
    await Promise.all(
      [...this.#open].map(async (watched) => {
        const why = await this.#refusal(watched);
        if (why === null || !this.#open.delete(watched)) return;
        ended += 1;
        watched.end(why);
      }),
    );
    return { ended };
  }

  /** Null as long as nothing says that it may not go on. */
  async #refusal({ grant, teamId, isUse }: Watched): Promise<AppError | null> {
    try {
      const caller = await this.#authenticator.byGrant(grant, { isUse });
      if (caller.teamId === teamId) return null;
      return new AppError("unauthorized", "the session is of another team now");
    } catch (error) {
      return error instanceof AppError && error.status < 500 ? error : null;
    }
  }
}
