// How far a guest's clock is off. A message says what time it was when it was sent, and what lies between
// that and its being read is unknown: tens of milliseconds where the processor is emulated and the code runs
// for the first time. So the guest is asked for its time instead: it read its clock somewhere between the
// question and the answer. Each exchange bounds the difference from both sides, and what all of them allow is
// far less than what the quickest does: one is slow on its way there, another on its way back. What comes out
// is a difference: it stays right for as long as it takes to be applied.

/** Good enough: with it, a clock is well within the 50 ms that are promised. */
const ERROR_GOOD_MS = 5;
/** What is enough after a few exchanges, on a machine that is very busy. */
const ERROR_FAIR_MS = 20;
const EXCHANGES_FEW = 4;
/** After which the best there is must do: somebody waits for the guest. */
const READ_MS_MAX = 3_000;
/** What is cut off of the guest's time. */
const GUEST_STEP_MS = 1;

export interface ClockReading {
  /** Below 0: it is ahead. Null: the guest does not tell its time. */
  readonly behindMs: number | null;
  /** How far that can be wrong. */
  readonly errorMs: number;
  /** Of the last exchange. */
  readonly roundTripMs: number;
}

/**
 * Asks for the guest's time, in milliseconds since 1970 or null, until the answer is exact enough. `hostMs` is
 * the host's clock. Throws what `ask` throws.
 */
export async function readClock(
  ask: () => Promise<number | null>,
  hostMs: () => number,
): Promise<ClockReading> {
  const startedAtMs = hostMs();
  let [leastMs, mostMs] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let exchanges = 1; ; exchanges += 1) {
    const sentAtMs = hostMs();
    const guestMs = await ask();
    const receivedAtMs = hostMs();
    const roundTripMs = receivedAtMs - sentAtMs;
    if (guestMs === null) return { behindMs: null, errorMs: roundTripMs / 2, roundTripMs };
    leastMs = Math.max(leastMs, sentAtMs - guestMs - GUEST_STEP_MS);
    mostMs = Math.min(mostMs, receivedAtMs - guestMs);
    // Somebody set a clock meanwhile.
    if (leastMs > mostMs) [leastMs, mostMs] = [sentAtMs - guestMs, receivedAtMs - guestMs];
    const errorMs = (mostMs - leastMs) / 2;
    const wantedMs = exchanges < EXCHANGES_FEW ? ERROR_GOOD_MS : ERROR_FAIR_MS;
    if (errorMs <= wantedMs || receivedAtMs - startedAtMs >= READ_MS_MAX) {
      return { behindMs: (leastMs + mostMs) / 2, errorMs, roundTripMs };
    }
  }
}

/**
 * What to move the clock by, in whole microseconds: nothing that cannot be told from being right. Null: it
 * is not known, or is more than a number can say.
 */
export function advanceUs({ behindMs, errorMs }: ClockReading): number | null {
  if (behindMs === null) return null;
  const us = Math.abs(behindMs) <= errorMs ? 0 : Math.round(behindMs * 1000);
  return Number.isSafeInteger(us) ? us : null;
}
