// When a certificate is followed by the next one.

const HOUR_MS = 3600_000;
/** Of agents and control planes; both have the next one long before. */
export const CERTIFICATE_MS = 24 * HOUR_MS;
/** Several tries are left when one fails. */
const RENEW_BEFORE_MS = CERTIFICATE_MS / 2;
const SKEW_MS = HOUR_MS;

/**
 * By the wall clock, for that is what a certificate ends by. One that has longer than any was ever given, is told by
 * a clock that is behind: what it says means nothing.
 */
export function isDue(expiresAt: Date, now: Date): boolean {
  const leftMs = expiresAt.getTime() - now.getTime();
  return leftMs < RENEW_BEFORE_MS || leftMs > CERTIFICATE_MS + SKEW_MS;
}

/**
 * The same for a program whose clock may be wrong all the time, `ageMs` by the monotonic clock after it got the
 * certificate, null where an earlier process did: never long after its time, nor over and over.
 */
export function isDueAnyway(expiresAt: Date, now: Date, ageMs: number | null): boolean {
  if (ageMs === null) return isDue(expiresAt, now);
  return ageMs > RENEW_BEFORE_MS || (ageMs > HOUR_MS && isDue(expiresAt, now));
}
