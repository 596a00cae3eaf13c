// What a simulated capsule uses: made up from its age, so that a test knows what to expect.

import { Code, ConnectError } from "@connectrpc/connect";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const SAMPLE_MS = 500;

const RANGES: Readonly<Record<string, { ms: number; everyMs: number }>> = {
  "5m": { ms: 5 * MINUTE_MS, everyMs: SAMPLE_MS },
  "10m": { ms: 10 * MINUTE_MS, everyMs: SAMPLE_MS },
  "1h": { ms: HOUR_MS, everyMs: 60 * SAMPLE_MS },
  "2h": { ms: 2 * HOUR_MS, everyMs: 60 * SAMPLE_MS },
  "6h": { ms: 6 * HOUR_MS, everyMs: 600 * SAMPLE_MS },
  "12h": { ms: 12 * HOUR_MS, everyMs: 600 * SAMPLE_MS },
  "24h": { ms: 24 * HOUR_MS, everyMs: 600 * SAMPLE_MS },
};

/** What a simulated agent tells of itself. */
export const METADATA = {
  kernel_version: "6.1.0",
  vmm: "simulated",
  vmm_version: "1.0.0",
  agent_version: "0.1.0",
  envd_version: "0.6.13",
};

/** A point per period since the capsule started: busy in every other one, growing by a page in each. */
export function simulatedPoints(range: string, startedAtMs: number, nowMs: number) {
  const asked = RANGES[range];
  if (!asked) throw new ConnectError("range: must be 5m … 24h", Code.InvalidArgument);
  const points = [];
  for (let i = 1; startedAtMs + i * asked.everyMs <= nowMs; i++) {
    const atMs = startedAtMs + i * asked.everyMs;
    if (atMs < nowMs - asked.ms) continue;
    points.push({
      timestampUnix: BigInt(Math.floor(atMs / 1000)),
      cpuPct: i % 2 ? 0 : 100,
      memBytes: BigInt(i * 4096),
      diskBytes: BigInt(i * 8192),
    });
  }
  return points;
}
