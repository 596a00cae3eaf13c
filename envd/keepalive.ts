// How often a silent stream says that it lives, and waiting with that in mind.
import { KEEPALIVE_MS, KEEPALIVE_MS_MIN } from "./limits.ts";

/** The interval that the client asks for in seconds, or the default. */
export function keepaliveMsOf(headers: Headers): number {
  const text = headers.get("keepalive-ping-interval");
  if (text === null || !/^\d{1,6}$/.test(text)) return KEEPALIVE_MS;
  return Math.max(Number(text) * 1000, KEEPALIVE_MS_MIN);
}

/** What the promise resolves to, or "silence" when that takes longer. */
export async function orSilence<T>(promise: Promise<T>, timeoutMs: number): Promise<T | "silence"> {
  const { promise: silence, resolve } = Promise.withResolvers<"silence">();
  const timer = setTimeout(() => resolve("silence"), timeoutMs);
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}
