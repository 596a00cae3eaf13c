// How far a guest's clock is off. A message says what time it was when it was sent, and what lies between
// that and its being read is unknown: tens of milliseconds where the processor is emulated and the code runs
// for the first time. So the guest is asked for its time instead: it read its clock somewhere between the
// question and the answer, which bounds the error by half of what the exchange took, and the shortest of
// several exchanges counts. What comes out is a difference: it stays right for as long as it takes to be
// applied.

/** Good enough: with it, a clock is well within the 50 ms that are promised. */
const ERROR_GOOD_MS = 5;
/** What is enough after a few exchanges, on a machine that is very busy. */
const ERROR_FAIR_MS = 20;
const EXCHANGES_FEW = 4;
/** After which the best there is must do: somebody waits for the guest. */
const READ_MS_MAX = 1_000;

export interface ClockReading {
  /** Below 0: it is ahead. Null: the guest does not tell its time. */
  readonly behindMs: number | null;
  /** How far that can be wrong. */
  readonly errorMs: number;
  /** Of the exchange that counts. */
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
  let best: ClockReading | null = null;
  for (let exchanges = 1; ; exchanges += 1) {
    const sentAtMs = hostMs();
    const guestMs = await ask();
    const roundTripMs = hostMs() - sentAtMs;
    if (best === null || roundTripMs < best.roundTripMs) {
      const errorMs = roundTripMs / 2;
      const behindMs = guestMs === null ? null : sentAtMs + errorMs - guestMs;
      best = { behindMs, errorMs, roundTripMs };
    }
    const wantedMs = exchanges < EXCHANGES_FEW ? ERROR_GOOD_MS : ERROR_FAIR_MS;
    const isOver = hostMs() - startedAtMs >= READ_MS_MAX;
    if (guestMs === null || best.errorMs <= wantedMs || isOver) return best;
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
