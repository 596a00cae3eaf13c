// Work that goes on when some of it fails.

/** Waits for all of it. AggregateError with that message if some failed. */
export async function settleAll(works: readonly Promise<void>[], message: string): Promise<void> {
  const ends = await Promise.allSettled(works);
  const failures = ends.flatMap((end) => (end.status === "rejected" ? [end.reason] : []));
  if (failures.length > 0) throw new AggregateError(failures, message);
}
