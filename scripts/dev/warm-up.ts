// Whether creates like the first capsule's restore a guest that has booted. The agent makes that guest behind
// the first create that found none, by booting once more, and serves creates meanwhile.

import type { Platform } from "./settings.ts";

/** What the start may take longer for it. */
export const WARM_WAIT_MS = 3_000;
const POLL_MS = 50;
const ANSWER_TIMEOUT_MS = 5_000;

/** Of the agent since it started; see its metrics. */
export interface WarmCounts {
  readonly hits: number;
  readonly misses: number;
  readonly made: number;
  readonly failed: number;
}

/** `off`: none is being made. */
export type Warmth = "warm" | "warming" | "off";

/**
 * Waits until the guest that the first create made necessary is there, if that can be within WARM_WAIT_MS: not
 * where that create, whose boot it repeats, took longer.
 */
export async function warmUp(
  before: WarmCounts,
  createMs: number,
  counts: () => Promise<WarmCounts>,
): Promise<Warmth> {
  const deadline = performance.now() + WARM_WAIT_MS;
  for (;;) {
    const { hits, misses, made, failed } = await counts();
    if (hits > before.hits || made > before.made) return "warm";
    if (misses === before.misses || failed > before.failed) return "off";
    if (createMs > WARM_WAIT_MS || performance.now() > deadline) return "warming";
    await Bun.sleep(POLL_MS);
  }
}

/** Throws when the agent does not answer. */
export async function warmCounts({ ports, secrets }: Platform): Promise<WarmCounts> {
  const response = await fetch(`http://127.0.0.1:${ports.agentMetrics}/metrics`, {
    headers: { authorization: `Bearer ${secrets.metricsToken}` },
    signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
  });
  const text = await response.text();
  const count = (name: string) =>
    Number(new RegExp(`^wrenn_agent_warm_${name}_total (\\d+)$`, "m").exec(text)?.[1] ?? 0);
  return {
    ...{ hits: count("hits"), misses: count("misses") },
    ...{ made: count("made"), failed: count("failed") },
  };
}
