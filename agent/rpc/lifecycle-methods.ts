// Methods of the service that make, stop, bring back and remove capsules, and tell which there are.

import type { ServiceImpl } from "@connectrpc/connect";
import type { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import type { CapsuleView } from "../capsules/capsule-view.ts";
import type { Capsules } from "../capsules/capsules.ts";
import type { Log } from "../log.ts";
import type { CapsuleMetrics } from "../metrics/capsule-metrics.ts";
import { parseCapsuleId, parseCreate, parseOperationId, parseResume } from "./requests.ts";
import { toConnectError } from "./rpc-errors.ts";

type LifecycleMethod =
  | "createSandbox"
  | "destroySandbox"
  | "listSandboxes"
  | "pauseSandbox"
  | "resumeSandbox";

export interface LifecycleDeps {
  readonly capsules: Capsules;
  readonly capsuleMetrics: Pick<CapsuleMetrics, "diskBytes" | "sentBytes">;
  /** kernel_version, vmm, vmm_version, agent_version: the same for every capsule. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly log: Log;
}

/** Throws ConnectErrors only. */
export function lifecycleMethods(
  deps: LifecycleDeps,
): Pick<ServiceImpl<typeof HostAgentService>, LifecycleMethod> {
  const { capsules, log } = deps;
  const answer = async <T>(method: string, work: () => Promise<T> | T): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw toConnectError(error, method, log);
    }
  };

  return {
    createSandbox: (request) =>
      answer("CreateSandbox", async () =>
        toStarted(await capsules.create(parseCreate(request)), deps),
      ),
    destroySandbox: ({ sandboxId }) =>
      answer("DestroySandbox", async () => {
        await capsules.destroy(parseCapsuleId(sandboxId));
        return {};
      }),
    // Those that a timeout paused are named in every answer until they are resumed or destroyed: an
    // answer that is lost, or another control plane, costs nothing.
    listSandboxes: () =>
      answer("ListSandboxes", () => {
        const views = capsules.list();
        const expired = views.filter(
          ({ status, pauseReason }) => status === "paused" && pauseReason === "ttl_expired",
        );
        return {
          sandboxes: views.map((view) => toInfo(view, deps)),
          autoPausedSandboxIds: expired.map(({ spec }) => spec.id),
        };
      }),
    pauseSandbox: ({ sandboxId, operationId }) =>
      answer("PauseSandbox", async () => {
        await capsules.pause(parseCapsuleId(sandboxId), parseOperationId(operationId));
        return {};
      }),
    resumeSandbox: (request) =>
      answer("ResumeSandbox", async () => {
        const id = parseCapsuleId(request.sandboxId);
        const view = await capsules.resume(id, parseResume(request));
        return { ...toStarted(view, deps), resumedFrom: view.resumedFrom ?? "" };
      }),
  };
}

export function toStarted(view: CapsuleView, deps: LifecycleDeps) {
  const { sandboxId, status, hostIp, metadata } = toInfo(view, deps);
  return { sandboxId, status, hostIp, metadata };
}

function toInfo(view: CapsuleView, { metadata, capsuleMetrics }: LifecycleDeps) {
  const { spec } = view;
  const diskBytes = capsuleMetrics.diskBytes(spec.id);
  const sentBytes = capsuleMetrics.sentBytes(spec.id);
  return {
    sandboxId: spec.id,
    status: view.status,
    vcpus: spec.vcpus,
    memoryMb: spec.memoryMib,
    hostIp: view.hostIp,
    createdAtUnix: unixSeconds(view.createdAt),
    lastActiveAtUnix: unixSeconds(view.lastActiveAt),
    timeoutSec: spec.timeoutSec,
    teamId: spec.teamId,
    templateId: spec.templateId,
    metadata: { ...metadata, envd_version: view.envdVersion },
    operationId: spec.operationId,
    reason: view.reason,
    durableAtUnix: view.durableAt === null ? 0n : unixSeconds(view.durableAt),
    pauseReason: view.pauseReason ?? "",
    resumedFrom: view.resumedFrom ?? "",
    ...(diskBytes === null ? {} : { diskUsedBytes: BigInt(diskBytes) }),
    ...(sentBytes === null ? {} : { sentBytes: BigInt(sentBytes) }),
  };
}

function unixSeconds(date: Date): bigint {
  return BigInt(Math.floor(date.getTime() / 1000));
}
