// When a certificate is followed by the next one.

/** Of its life; several tries are left when one fails. */
const RENEW_AFTER_SHARE = 0.5;

/** By the wall clock, for that is what a certificate ends by; one that went back says nothing about it. */
export function isDue({ from, to }: { from: Date; to: Date }, now: Date): boolean {
  const dueMs = from.getTime() + (to.getTime() - from.getTime()) * RENEW_AFTER_SHARE;
  return now.getTime() < from.getTime() || now.getTime() > dueMs;
}
