// Work that a client may ask for twice. The key is bound in the transaction that begins the work:
// what began nothing leaves it free. How the work ended is kept, not what was answered: whoever asks
// again is answered with what the work was about as it is by then.

import { type Begun, mapEnd } from "../begun.ts";
import type { Db, Tx } from "../db/client.ts";
import { AppError, toErrorCode, toReason } from "../errors.ts";
import type { KeyRow } from "./queries.ts";
import {
  claimKey,
  findKey,
  freeKey,
  type KeyedRequest,
  keepOutcome,
  type Subject,
  type SubjectId,
  type SubjectKind,
  subjectOf,
} from "./service.ts";

/**
 * Called first in the transaction that begins the work, which it ends when the key is taken. Null: there is no
 * key, and nothing besides the work needs the transaction.
 */
export type Claim<K extends SubjectKind> =
  | ((tx: Tx, ids: readonly SubjectId<K>[]) => Promise<void>)
  | null;

export interface KeyedWork<K extends SubjectKind, Result> {
  /** What the key is bound to. */
  readonly kind: K;
  /** Resolves when the work is on record. */
  run(claim: Claim<K>): Promise<Begun<SubjectId<K>, Result>>;
  /**
   * Waits for the work that another request began; throws as that would, or has. Null when it came
   * to nothing, so that it may be begun again.
   */
  settled(subject: Subject<K>): Promise<Result | null>;
  /** What work that succeeded was about, as it is by now. Throws `conflict` when it is gone. */
  found(subject: Subject<K>): Promise<Result>;
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
 * What the first request with the key has begun; without a key, or with a free one, what `run` begins.
 * Throws, or ends, as the first request did, and throws `conflict` when that was another request. A
 * failure that asks to try again (`service_unavailable`) is not kept.
 */
export async function answerOnce<K extends SubjectKind, Result>(
  db: Db,
  key: KeyedRequest | undefined,
  work: KeyedWork<K, Result>,
): Promise<Begun<SubjectId<K>, Result>> {
  if (key === undefined) return await work.run(null);
  const known = await findKey(db, key);
  if (known !== undefined) return firstWork(db, key, { known, work });

  const claim: Claim<K> = async (tx, ids) => {
    if (!(await claimKey(tx, key, { kind: work.kind, ids }))) throw new KeyTaken();
  };
  let begun: Begun<SubjectId<K>, Result>;
  try {
    begun = await work.run(claim);
  } catch (error) {
    // Somebody else may have begun it since: that is why ours found the world changed. Or we have, and
    // the database's answer was lost.
    const taken = await findKey(db, key);
    if (taken !== undefined) return firstWork(db, key, { known: taken, work });
    if (!(error instanceof KeyTaken)) throw error;
    throw new AppError("conflict", "idempotency-key: is in use");
  }
  return mapEnd(
    begun,
    async (done) => await keep(db, key, { work, outcome: await outcomeOf(done) }),
  );
}

function firstWork<K extends SubjectKind, Result>(
  db: Db,
  key: KeyedRequest,
  first: { known: KeyRow; work: KeyedWork<K, Result> },
): Begun<SubjectId<K>, Result> {
  const ids = subjectOf(first.known, first.work.kind);
  return mapEnd({ ids, done: Promise.resolve() }, () => firstOutcome(db, key, first));
}

async function firstOutcome<K extends SubjectKind, Result>(
  db: Db,
  key: KeyedRequest,
  { known, work }: { known: KeyRow; work: KeyedWork<K, Result> },
): Promise<Result> {
  if (known.code !== null) return await replay(known, work);
  const outcome = await outcomeOf(work.settled(subjectOf(known, work.kind)));
  // Whoever began it may have lived, and knows more than its outcome shows.
  const kept = await findKey(db, key);
  if (kept !== undefined && kept.code !== null) return await replay(kept, work);
  if ("error" in outcome) return await keep(db, key, { work, outcome });
  const { result } = outcome;
  if (result !== null) return await keep(db, key, { work, outcome: { result } });
  await freeKey(db, known, known.createdAt);
  return await (await answerOnce(db, key, work)).done;
}

type Outcome<Result> = { readonly result: Result } | { readonly error: AppError };

async function outcomeOf<Result>(work: Promise<Result>): Promise<Outcome<Result>> {
  try {
    return { result: await work };
  } catch (error) {
    if (error instanceof AppError) return { error };
    throw error;
  }
}

/** Returns or throws the outcome, which the key stands for from now on if it can be its last. */
async function keep<K extends SubjectKind, Result>(
  db: Db,
  key: KeyedRequest,
  { work, outcome }: { work: KeyedWork<K, Result>; outcome: Outcome<Result> },
): Promise<Result> {
  if ("result" in outcome) {
    await keepOutcome(db, key, null);
    return outcome.result;
  }
  const { error } = outcome;
  if (error.code !== "service_unavailable" && work.areFailuresKept) {
    await keepOutcome(db, key, error);
  }
  throw error;
}

async function replay<K extends SubjectKind, Result>(
  known: KeyRow,
  work: KeyedWork<K, Result>,
): Promise<Result> {
  if (known.code) {
    const reason = toReason(known.reason);
    const options = reason === undefined ? {} : { reason };
    throw new AppError(toErrorCode(known.code), known.message, options);
  }
  return await work.found(subjectOf(known, work.kind));
}
