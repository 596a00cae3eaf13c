// What a capsule uses, as its host tells; of a paused one whose host is away, as it was copied.

import { encodeId, type Id } from "../../proto/ids.ts";
import type { AgentClient } from "../agents/agent-clients.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { METRICS_TIMEOUT_MS } from "../agents/limits.ts";
import { besidesSnapshots } from "../capsule-states.ts";
import type { CapsuleOfTeam } from "../capsules/capsule.ts";
import type { Capsules } from "../capsules/service.ts";
import type { Db } from "../db/client.ts";
import { AppError } from "../errors.ts";
import type { MetricPoint, MetricRange } from "./metric-point.ts";
import { selectPoints } from "./queries.ts";

/** A host keeps what a capsule used while it rests. */
const MEASURED_STATES = ["running", "pausing", "paused", "resuming"] as const;

export class CapsuleMetricsService {
  readonly #db: Db;
  readonly #capsules: Capsules;

  constructor({ db, capsules }: { db: Db; capsules: Capsules }) {
    this.#db = db;
    this.#capsules = capsules;
  }

  /**
   * The points of the range. Looking counts as no activity. `not_found` unless the capsule runs or rests:
   * what it used is forgotten when it ends.
   */
  async read(ids: CapsuleOfTeam, range: MetricRange): Promise<MetricPoint[]> {
    try {
      const { agent } = await this.#capsules.onHost({ ...ids, states: MEASURED_STATES });
      return await askForPoints(agent, ids.id, range).catch((error) => {
        throw agentFailure(error, "capsule");
      });
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      if (error.code === "host_unavailable") {
        const points = await this.#saved(ids, range);
        if (points !== null) return points;
      }
      if (error.code !== "invalid_state") throw error;
      const id = encodeId("capsule", ids.id);
      const message = `capsule "${id}" has no metrics: it neither runs nor rests`;
      const reason = "metrics_not_found";
      throw new AppError("not_found", message, { cause: error, reason });
    }
  }

  /** What was copied of a paused capsule's metrics; null of one in another state. */
  async #saved(ids: CapsuleOfTeam, range: MetricRange): Promise<MetricPoint[] | null> {
    const capsule = await this.#capsules.get(ids);
    return besidesSnapshots(capsule) === "paused"
      ? await selectPoints(this.#db, ids.id, range)
      : null;
  }
}

/** The host's points, oldest first. Throws what the client throws. */
export async function askForPoints(
  agent: AgentClient,
  id: Id<"capsule">,
  range: MetricRange,
): Promise<MetricPoint[]> {
  const request = { sandboxId: encodeId("capsule", id), range };
  const { points } = await agent.getSandboxMetrics(request, { timeoutMs: METRICS_TIMEOUT_MS });
  return points.map(({ timestampUnix, cpuPct, memBytes, diskBytes }) => ({
    unixSec: Number(timestampUnix),
    cpuPct,
    memBytes: Number(memBytes),
    diskBytes: Number(diskBytes),
  }));
}
