// Connections that outlive the request that opened them, and how they end with the right to them.
//
// A request is looked at once. What stays open after it is looked at again and again, all of it in a few queries:
// so a key that was deleted, a member who was removed or a session that ended is seen, whoever did it and on
// whichever control plane, and no message about it can get lost. While the database is away nobody is sent off.

import { AppError } from "../errors.ts";
import type { Authenticator, GrantedCaller, UserCaller } from "./authenticator.ts";

interface Watched {
  /** Rejects when it may not go on. */
  readonly look: () => Promise<void>;
  readonly end: (why: AppError) => void;
}

export class OpenStreams {
  readonly #authenticator: Authenticator;
  readonly #open = new Set<Watched>();

  constructor({ authenticator }: { authenticator: Authenticator }) {
    this.#authenticator = authenticator;
  }

  /**
   * `end` is called, once, when the caller may not act for the team any more; disposing forgets both. `isUse`: that it
   * is open is a use of the grant.
   */
  watch(
    { grant, teamId }: GrantedCaller,
    { isUse, end }: { isUse: boolean; end: (why: AppError) => void },
  ): Disposable {
    const look = async () => {
      const caller = await this.#authenticator.byGrant(grant, { isUse });
      if (caller.teamId === teamId) return;
      throw new AppError("unauthorized", "the session is of another team now");
    };
    return this.#watch({ look, end });
  }

  /** The same for what is an administrator's of the platform, whatever their team. */
  watchAdministrator({ grant }: UserCaller, end: (why: AppError) => void): Disposable {
    const look = async () => void (await this.#authenticator.adminByGrant(grant));
    return this.#watch({ look, end });
  }

  /** One pass over all that are open. */
  async check(): Promise<{ ended: number }> {
    let ended = 0;
    await Promise.all(
      [...this.#open].map(async (watched) => {
        const why = await refusalOf(watched);
        if (why === null || !this.#open.delete(watched)) return;
        ended += 1;
        watched.end(why);
      }),
    );
    return { ended };
  }

  #watch(watched: Watched): Disposable {
    this.#open.add(watched);
    return { [Symbol.dispose]: () => this.#open.delete(watched) };
  }
}

/** Null as long as nothing says that it may not go on. */
async function refusalOf({ look }: Watched): Promise<AppError | null> {
  try {
    await look();
    return null;
  } catch (error) {
    return error instanceof AppError && error.status < 500 ? error : null;
  }
}
