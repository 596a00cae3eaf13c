// How long an answer is held: until the work is done, but at most as long as the client waits. What takes
// longer is answered 202 and goes on; RFC 7240 is how a client says how long that is.

/** A client that wants to wait longer asks again. */
const WAIT_SEC_MAX = 300;
/** RFC 7240, 2: a token, and maybe a value, a token or a quoted string. Parameters are skipped. */
const PREFERENCE =
  /(?:^|,)\s*([!#$%&'*+.^_`|~0-9a-z-]+)(?:\s*=\s*(?:"([^"\\]*)"|([!#$%&'*+.^_`|~0-9a-z-]+)))?/gi;

export interface Hold {
  readonly waitMs: number;
  /** For `Preference-Applied`: what the client asked for and gets; null when that is nothing. */
  readonly applied: string | null;
}

/**
 * `respond-async` answers at once, `wait=N` after at most N seconds, both together are `wait=N`. What
 * else a client prefers, and what is malformed, is ignored, as it has to be.
 */
export function holdOf(prefer: string | null, standardSec: number): Hold {
  const preferences = new Map<string, string>();
  for (const [, name = "", quoted, token] of (prefer ?? "").matchAll(PREFERENCE)) {
    // Of one that is given twice the first counts.
    const key = name.toLowerCase();
    if (!preferences.has(key)) preferences.set(key, quoted ?? token ?? "");
  }
  const isAsync = preferences.get("respond-async") === "";
  const wait = preferences.get("wait") ?? "";
  const waitSec = /^[0-9]{1,9}$/.test(wait) ? Math.min(Number(wait), WAIT_SEC_MAX) : null;
  const applied = [
    ...(isAsync ? ["respond-async"] : []),
    ...(waitSec === null ? [] : [`wait=${waitSec}`]),
  ];
  return {
    waitMs: 1000 * (waitSec ?? (isAsync ? 0 : standardSec)),
    applied: applied.length === 0 ? null : applied.join(", "),
  };
}

/** How the work ended, or null when it has not within the hold. Throws what it failed with. */
export async function endWithin<Result>(
  done: Promise<Result>,
  { waitMs }: Hold,
): Promise<{ readonly result: Result } | null> {
  const { promise: late, resolve } = Promise.withResolvers<null>();
  const timer = setTimeout(() => resolve(null), waitMs);
  try {
    return await Promise.race([done.then((result) => ({ result })), late]);
  } finally {
    clearTimeout(timer);
  }
}
