// Work that a pass does in bounded statements, as many as there is work for.

/**
 * Runs `batch`, which does at most `limit` and says how many it did, until it finds fewer or `ending` aborts: however
 * much came since the last pass, none of it is left to pile up. How many in all.
 */
export async function inBatches(
  { limit, ending }: { limit: number; ending: AbortSignal },
  batch: (limit: number) => Promise<number>,
): Promise<number> {
  let total = 0;
  while (!ending.aborted) {
    const done = await batch(limit);
    total += done;
    if (done < limit) break;
  }
  return total;
}
