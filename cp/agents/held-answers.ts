// What the control plane holds in memory for capsules: answers of their hosts, on their way to clients, and
// files on their way to hosts that cannot be passed on as they come.

import { AsyncLocalStorage } from "node:async_hooks";
import { ByteBudgets, type HeldBytes } from "../../proto/byte-budget.ts";
import { AppError } from "../errors.ts";
import { HELD_BYTES_MAX, HELD_PER_CAPSULE_BYTES_MAX, HELD_PER_TEAM_BYTES_MAX } from "./limits.ts";

export interface HeldFor {
  readonly capsuleId: string;
  readonly teamId: string;
}

export class HeldAnswers {
  readonly #budgets = new ByteBudgets();

  /** Bytes that are held for all now. */
  get bytes(): number {
    return this.#budgets.heldFor(null);
  }

  /**
   * Nothing yet. Taking throws `rate_limited` when capsule or team has too much, `service_unavailable`
   * when all have.
   */
  hold({ capsuleId, teamId }: HeldFor): HeldBytes {
    const tooMuch = (whose: string) => () =>
      new AppError("rate_limited", `requests about ${whose} take too much memory at once`);
    return this.#budgets.hold([
      {
        key: `capsule ${capsuleId}`,
        bytesMax: HELD_PER_CAPSULE_BYTES_MAX,
        refuse: tooMuch("the capsule"),
      },
      {
        key: `team ${teamId}`,
        bytesMax: HELD_PER_TEAM_BYTES_MAX,
        refuse: tooMuch("the team's capsules"),
      },
      { key: null, bytesMax: HELD_BYTES_MAX, refuse: tooMuchOfAll },
    ]);
  }
}

/** What takes the bytes of an answer before they are kept. */
export interface AnswerTaker {
  readonly held: HeldBytes;
  /** Memory that a byte of the answer takes until the client has it. */
  readonly factor: number;
}

const takers = new AsyncLocalStorage<AnswerTaker>();

/** The call of an agent, with its answer taken as it is read. Fails with what taking throws. */
export async function takingAnswer<T>(taker: AnswerTaker, call: () => Promise<T>): Promise<T> {
  return await takers.run(taker, call);
}

/** Who takes the answer of the call that is being made, if anybody does. */
export function answerTaker(): AnswerTaker | undefined {
  return takers.getStore();
}

function tooMuchOfAll(): AppError {
  return new AppError("service_unavailable", "the service holds too much at once: try again");
}
