// What a capsule uses, as its host tells.

import { encodeId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { METRICS_TIMEOUT_MS } from "../agents/limits.ts";
import { AppError } from "../errors.ts";
import type { CapsuleMetrics, MetricRange } from "./metric-schema.ts";
import type { CapsuleOfTeam } from "./queries.ts";
import type { RunningCapsule } from "./running.ts";
import type { Capsules } from "./service.ts";

/**
 * The points of the range. Looking counts as no activity. `not_found` unless the capsule runs: the
 * host forgets what a capsule used when it ends.
 */
export async function readMetrics(
  capsules: Capsules,
  ids: CapsuleOfTeam,
  range: MetricRange,
): Promise<CapsuleMetrics> {
  try {
    return await capsules.use({ ...ids, isActivity: false }, (running) => ask(running, range));
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "invalid_state") throw error;
    const id = encodeId("capsule", ids.id);
    throw new AppError("not_found", `capsule "${id}" has no metrics: it is not running`, {
      cause: error,
    });
  }
}

async function ask(
  { capsule, agent }: RunningCapsule,
  range: MetricRange,
): Promise<CapsuleMetrics> {
  const sandboxId = encodeId("capsule", capsule.id);
  const options = { timeoutMs: METRICS_TIMEOUT_MS };
  const { points } = await agent.getSandboxMetrics({ sandboxId, range }, options).catch((error) => {
    throw agentFailure(error, "capsule");
  });
  return {
    sandbox_id: sandboxId,
    range,
    points: points.map(({ timestampUnix, cpuPct, memBytes, diskBytes }) => ({
      timestamp_unix: Number(timestampUnix),
      cpu_pct: cpuPct,
      mem_bytes: Number(memBytes),
      disk_bytes: Number(diskBytes),
    })),
  };
}
