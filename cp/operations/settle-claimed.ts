// What a pass does with operations that it took over.

/** A database that failed one statement may be there for the next: nobody need wait for the lease to end. */
const AGAIN_SEC = 1;

export interface SettleCounts extends Record<string, number> {
  claimed: number;
  settled: number;
}

export interface Settling<Row> {
  /** Whether the operation is over. If not, its deadline says when it is looked at again. */
  readonly settle: (row: Row) => Promise<boolean>;
  /** Says when a pass looks at it again. */
  readonly updateDeadline: (row: Row, afterSec: number) => Promise<void>;
}

/**
 * Settles all of them side by side. Rejects with the first failure once all have ended; those that failed are
 * due again in a second, or at the end of their lease when not even that could be written.
 */
export async function settleClaimed<Row>(
  claimed: readonly Row[],
  { settle, updateDeadline }: Settling<Row>,
): Promise<SettleCounts> {
  const settled = await Promise.allSettled(
    claimed.map(async (row) => {
      try {
        return await settle(row);
      } catch (error) {
        await updateDeadline(row, AGAIN_SEC).catch(() => {});
        throw error;
      }
    }),
  );
  const failed = settled.find((outcome) => outcome.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  const over = settled.filter((outcome) => outcome.status === "fulfilled" && outcome.value);
  return { claimed: claimed.length, settled: over.length };
}
