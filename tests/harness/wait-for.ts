// The one way in which tests wait: until something is so, for a time that has an end, which says what was
// waited for and what was seen last. What must *not* happen is given a time with Bun.sleep.

/**
 * Less than the 30 s that a test has unless it says otherwise, so that it is the wait that fails. Under a test that
 * has minutes, a wait for an emulated guest says how many of them it may take.
 */
const TIMEOUT_MS = 25_000;
/** What guests on an emulated processor take for anything, on a machine that does much else. */
export const GUEST_MS = 120_000;
const FIRST_PAUSE_MS = 1;
const PAUSE_MS_MAX = 10;
const SHOWN_CHARS_MAX = 500;

export interface WaitOptions<T> {
  /** Whether it is what is waited for; by itself: whether it is truthy. */
  readonly holds?: (seen: T) => boolean;
  readonly timeoutMs?: number;
  /** Between two looks; by itself up to 10 ms, or as long as a look takes if that is more. */
  readonly everyMs?: number;
}

/**
 * Looks again and again until what is seen holds, and returns that.
 *
 * @param what - Said when it does not come: "waited 25 s in vain for <what>".
 * @throws What the look throws, at once; Error when the time is over, also under a look that never ends.
 */
export async function waitFor<T>(
  what: string,
  look: () => T | Promise<T>,
  { holds = Boolean, timeoutMs = TIMEOUT_MS, everyMs }: WaitOptions<T> = {},
): Promise<T> {
  let seen = "nothing, the first look did not end";
  const end = Promise.withResolvers<never>();
  const expire = () =>
    end.reject(new Error(`waited ${timeoutMs / 1000} s in vain for ${what}; seen last: ${seen}`));
  const timer = setTimeout(expire, timeoutMs);
  try {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      const startedAtMs = performance.now();
      const value = await Promise.race([look(), end.promise]);
      if (holds(value)) return value;
      seen = shown(value);
      const lookMs = performance.now() - startedAtMs;
      await Promise.race([Bun.sleep(everyMs ?? Math.max(pauseMs, lookMs)), end.promise]);
    }
  } finally {
    clearTimeout(timer);
    end.promise.catch(() => {});
  }
}

function shown(value: unknown): string {
  const text = typeof value === "string" ? value : Bun.inspect(value);
  return text.length <= SHOWN_CHARS_MAX ? text : `…${text.slice(-SHOWN_CHARS_MAX)}`;
}
