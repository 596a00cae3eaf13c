// Work that is on record: it goes on whether or not anybody waits for its end.

export interface Begun<Id, Result> {
  /** What it is about. */
  readonly ids: readonly Id[];
  /** Its end. Who begins it sees to it that a failure that nobody waits for is no unhandled one. */
  readonly done: Promise<Result>;
}

/** The work with its end as something else. */
export function mapEnd<Id, From, To>(
  { ids, done }: Begun<Id, From>,
  toEnd: (done: Promise<From>) => Promise<To>,
): Begun<Id, To> {
  const mapped = toEnd(done);
  mapped.catch(() => {});
  return { ids, done: mapped };
}
