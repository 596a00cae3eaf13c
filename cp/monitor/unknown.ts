// Capsules that a host has and no record claims: the database was restored from a backup, the agent serves
// another one, or a host came back with what was given up as lost. Whose they are is not for a loop to
// decide. They are left alone for a while, then paused, so that they hold no memory, and reported; only an
// operator who says so has them destroyed, much later.

import type { SandboxInfo } from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId, type Id } from "../../proto/ids.ts";
import { DESTROY_TIMEOUT_MS, PAUSE_TIMEOUT_MS } from "../agents/limits.ts";
import type { OperationDeps } from "../operations/deps.ts";
import { type HostToAsk, noteUnknown, type UnknownCapsule, updateQuarantined } from "./queries.ts";

/** What becomes of them in the end. */
export type UnknownPolicy = "quarantine" | "destroy";

/** From the first pass that saw one: time to notice that the wrong database was restored. */
const QUARANTINE_AFTER_SEC = 3600;
/** The same, for operators who want the room back. */
const DESTROY_AFTER_SEC = 7 * 24 * 3600;

export interface UnknownCounts {
  readonly unknown: number;
  readonly quarantined: number;
  readonly destroyed: number;
}

/** One pass over those of one host. A host that fails at one is asked again by the next pass. */
export async function lookAfterUnknown(
  deps: OperationDeps,
  host: HostToAsk,
  { found, policy }: { found: ReadonlyMap<Id<"capsule">, SandboxInfo>; policy: UnknownPolicy },
): Promise<UnknownCounts> {
  const noted = await noteUnknown(deps.db, { hostId: host.id, ids: [...found.keys()] });
  const outcomes = await Promise.all(
    noted.map(async (unknown) => {
      const reported = found.get(unknown.id);
      return reported && (await lookAfter(deps, host, { unknown, reported, policy }));
    }),
  );
  const count = (outcome: string) => outcomes.filter((o) => o === outcome).length;
  return {
    unknown: noted.length,
    quarantined: count("quarantined"),
    destroyed: count("destroyed"),
  };
}

async function lookAfter(
  deps: OperationDeps,
  host: HostToAsk,
  about: { unknown: UnknownCapsule; reported: SandboxInfo; policy: UnknownPolicy },
): Promise<"quarantined" | "destroyed" | "left"> {
  const { unknown, reported, policy } = about;
  const { agents, log, ending: signal } = deps;
  const sandboxId = encodeId("capsule", unknown.id);
  const fields = { capsule: sandboxId, host: encodeId("host", host.id), state: reported.status };
  if (unknown.isNew) log.warn("a host has a capsule that no record knows", fields);
  const agent = agents.at(host);
  try {
    if (policy === "destroy" && unknown.ageSec > DESTROY_AFTER_SEC) {
      await agent.destroySandbox({ sandboxId }, { timeoutMs: DESTROY_TIMEOUT_MS, signal });
      log.warn("unknown capsule destroyed", fields);
      return "destroyed";
    }
    if (unknown.isQuarantined || unknown.ageSec <= QUARANTINE_AFTER_SEC) return "left";
    if (reported.status === "running") {
      const operationId = deps.operations.next();
      const options = { timeoutMs: PAUSE_TIMEOUT_MS, signal };
      await agent.pauseSandbox({ sandboxId, operationId }, options);
    }
    await updateQuarantined(deps.db, { hostId: host.id, id: unknown.id });
    log.warn("unknown capsule paused, and kept", fields);
    return "quarantined";
  } catch (error) {
    log.warn("an unknown capsule is not looked after yet", { ...fields, error });
    return "left";
  }
}
