// Work that a client may ask for twice. The key is bound in the transaction that begins the work:
// what began nothing leaves it free. The first answer is kept; where there is none, because the
// control plane that worked on it is gone, what became of the work is the answer.

import type { Id } from "../../proto/ids.ts";
import type { Db, Tx } from "../db/client.ts";
import { AppError, type ErrorCode, HTTP_STATUS } from "../errors.ts";
import type { KeyRow } from "./queries.ts";
import { claimKey, findKey, freeKey, type KeyedRequest, keepAnswer } from "./service.ts";

/** What a key is bound to. */
export interface Bound {
  readonly capsuleId: Id<"capsule">;
  /** Whatever else `settled` needs to find the work again. */
  readonly begun?: unknown;
}

/** Called first in the transaction that begins the work, which it ends when the key is taken. */
export type Claim = (tx: Tx, bound: Bound) => Promise<void>;

export interface KeyedWork<Answer> {
  /** Of the answer when it succeeds. */
  readonly status: number;
  run(claim: Claim): Promise<Answer>;
  /**
   * Waits for the work that another request began; throws as that would, or has. Null when it came
   * to nothing, so that it may be begun again.
   */
  settled(known: KeyRow): Promise<Answer | null>;
  /**
   * Whether the key stands for a failure, too: not where that undoes everything, nor where `run`
   * keeps those that it must.
   */
  readonly areFailuresKept: boolean;
}

class KeyTaken extends Error {
  override readonly name = "KeyTaken";
}

/**
 * The answer of the first request with the key; without a key, or with a free one, of `run`. Throws
 * what the first request threw, and `conflict` when that was another request. A failure that asks
 * to try again (`service_unavailable`) is not kept.
 */
export async function answerOnce<Answer>(
  db: Db,
  key: KeyedRequest | undefined,
  work: KeyedWork<Answer>,
): Promise<Answer> {
  if (key === undefined) return await work.run(async () => {});
  const known = await findKey(db, key);
  if (known !== undefined) return await firstAnswer(db, key, { known, work });

  let isOurs = false;
  const claim: Claim = async (tx, bound) => {
    if (!(await claimKey(tx, key, bound))) throw new KeyTaken();
    isOurs = true;
  };
  try {
    const outcome = await outcomeOf(work.run(claim));
    if (isOurs) return await keep(db, key, { work, outcome });
    // Nothing was begun, or what needs no beginning was answered.
    if ("answer" in outcome) return outcome.answer;
    throw outcome.error;
  } catch (error) {
    if (isOurs) throw error;
    // Somebody else may have begun it since: that is why ours found the world changed.
    const taken = await findKey(db, key);
    if (taken !== undefined) return await firstAnswer(db, key, { known: taken, work });
    if (!(error instanceof KeyTaken)) throw error;
    throw new AppError("conflict", "idempotency-key: is in use");
  }
}

async function firstAnswer<Answer>(
  db: Db,
  key: KeyedRequest,
  { known, work }: { known: KeyRow; work: KeyedWork<Answer> },
): Promise<Answer> {
  if (known.status !== null) return replay<Answer>(known.response);
  const outcome = await outcomeOf(work.settled(known));
  // Whoever began it may have lived, and has told more than its outcome shows.
  const kept = await findKey(db, key);
  if (kept !== undefined && kept.status !== null) return replay<Answer>(kept.response);
  if ("error" in outcome) return await keep(db, key, { work, outcome });
  const { answer } = outcome;
  if (answer !== null) return await keep(db, key, { work, outcome: { answer } });
  await freeKey(db, known, known.createdAt);
  return await answerOnce(db, key, work);
}

type Outcome<Answer> = { readonly answer: Answer } | { readonly error: AppError };

async function outcomeOf<Answer>(work: Promise<Answer>): Promise<Outcome<Answer>> {
  try {
    return { answer: await work };
  } catch (error) {
    if (error instanceof AppError) return { error };
    throw error;
  }
}

/** Returns or throws the outcome, which the key stands for from now on if it can be its last. */
async function keep<Answer>(
  db: Db,
  key: KeyedRequest,
  { work, outcome }: { work: KeyedWork<Answer>; outcome: Outcome<Answer> },
): Promise<Answer> {
  if ("answer" in outcome) {
    await keepAnswer(db, key, { status: work.status, response: outcome.answer });
    return outcome.answer;
  }
  const { error } = outcome;
  if (error.code !== "service_unavailable" && work.areFailuresKept) {
    await keepAnswer(db, key, { status: error.status, response: error.toBody() });
  }
  throw error;
}

/** A kept answer is ours, written by this program or an older one. */
function replay<Answer>(response: unknown): Answer {
  if (!isErrorBody(response)) return response as Answer;
  const { code, message } = response.error;
  const known = Object.keys(HTTP_STATUS).find((each): each is ErrorCode => each === code);
  throw new AppError(known ?? "internal_error", message);
}

function isErrorBody(response: unknown): response is { error: { code: string; message: string } } {
  return typeof response === "object" && response !== null && "error" in response;
}
