// Points in time as the host sends them.

/**
 * Nanoseconds since 1970 of an RFC 3339 text or of a number of seconds; null when it is neither.
 * A Date keeps only milliseconds, too coarse to order two messages.
 */
export function parseTimestamp(value: unknown): bigint | null {
  if (typeof value === "number") {
    return Number.isFinite(value) && value >= 0 ? BigInt(Math.round(value * 1e6)) * 1000n : null;
  }
  if (typeof value !== "string") return null;
  const match = value.match(
    /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d{2}:\d{2})$/,
  );
  if (!match) return null;
  const [, date, time, fraction = "", zone] = match;
  const milliseconds = Date.parse(`${date}T${time}${zone?.toUpperCase()}`);
  if (Number.isNaN(milliseconds)) return null;
  return BigInt(milliseconds) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}
