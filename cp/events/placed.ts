// Events that got their places in one transaction.

/** The positions from the first to the last, which nobody else has between. */
export interface Placed {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}
