// Pausing, resuming, snapshots and forks of simulated capsules. Files are kept as they are at the
// instant; processes belong to the capsule itself and go on.

import { Code, ConnectError } from "@connectrpc/connect";
import type {
  CreateSnapshotRequest,
  ForkSandboxRequest,
  ResumeSandboxRequest,
} from "../../proto/gen/hostagent/hostagent_pb.js";
import type { SimulatedCapsule } from "./simulated-agent.ts";
import type { SimulatedFiles } from "./simulated-agent-files.ts";

/** Between two looks whether a destroy has ended what is under way. */
const LOOK_MS = 5;

export interface SimulatedTemplate {
  readonly files: SimulatedFiles;
  readonly vcpus: number;
  readonly memoryMb: number;
}

export class SimulatedPauses {
  /** What the files of a snapshot take. */
  snapshotBytes = 4096;
  /** Memory templates by id. */
  readonly templates = new Map<string, SimulatedTemplate>();
  /** How long a pause, a resume and a snapshot take; a destroy meanwhile ends them at once. */
  takesMs = 0;
  /** Whether sealing succeeds: what is paused becomes durable at once. */
  isSealing = true;
  readonly #deleted = new Set<string>();
  /** Ids of pauses and resumes that have succeeded. */
  readonly #ended = new Set<string>();
  readonly #making = new Map<string, Promise<void>>();
  /** Snapshots of capsules that run, the last of each: what else is asked of it waits behind it. */
  readonly #captures = new WeakMap<SimulatedCapsule, Promise<void>>();
  readonly #underWay = new WeakMap<
    SimulatedCapsule,
    { readonly operationId: string; readonly done: Promise<void> }
  >();

  /** The files that a capsule of the template starts with; undefined for a base template. */
  filesOf(templateId: string): SimulatedFiles | undefined {
    if (this.#deleted.has(templateId)) {
      throw new ConnectError("the host does not have the template", Code.NotFound, {
        "wrenn-reason": "template",
      });
    }
    return this.templates.get(templateId)?.files;
  }

  /** As its inactivity timer does. */
  expire(capsule: SimulatedCapsule): void {
    rest(capsule, "ttl_expired", this.isSealing);
  }

  /** A pause that is under way is joined, a snapshot waited for. */
  async pause(capsule: SimulatedCapsule, operationId = ""): Promise<Record<string, never>> {
    await this.#afterCaptures(capsule);
    if (capsule.status === "pausing") await this.#underWay.get(capsule)?.done;
    if (capsule.status === "paused") return {};
    this.#assertNotEnded(operationId);
    const end = () => rest(capsule, "requested", this.isSealing);
    await this.#change(capsule, { from: "running", during: "pausing", operationId: "", end });
    this.#ended.add(operationId);
    return {};
  }

  /** Repeated calls of one operation join the first, a snapshot is waited for. */
  async resume(capsule: SimulatedCapsule, { from, operationId }: ResumeSandboxRequest) {
    await this.#afterCaptures(capsule);
    const underWay = this.#underWay.get(capsule);
    if (capsule.status === "resuming" && underWay?.operationId === operationId) await underWay.done;
    if (capsule.status !== "running") this.#assertNotEnded(operationId);
    if (capsule.status === "error") {
      if (from === "memory") throw noGeneration();
      wake(capsule, "disk");
      capsule.reason = "";
    } else if (capsule.status !== "running") {
      const end = () => wake(capsule, from || "memory");
      await this.#change(capsule, { from: "paused", during: "resuming", operationId, end });
    }
    this.#ended.add(operationId);
    return { status: "running", hostIp: capsule.hostIp, resumedFrom: capsule.resumedFrom };
  }

  /** Repeated calls for one template join the first; of one capsule that runs, one is made after the other. */
  async createSnapshot(capsule: SimulatedCapsule, request: CreateSnapshotRequest) {
    const { vcpus, memoryMb } = capsule.request;
    const id = request.templateId;
    const making = this.#making.get(id) ?? this.#make(id, capsule);
    this.#making.set(id, making);
    await making.finally(() => this.#making.delete(id));
    return { name: request.name, sizeBytes: BigInt(this.snapshotBytes), vcpus, memoryMb };
  }

  /** One that is being made is waited for. */
  async deleteSnapshot(templateId: string): Promise<Record<string, never>> {
    await this.#making.get(templateId)?.catch(() => {});
    this.templates.delete(templateId);
    this.#deleted.add(templateId);
    return {};
  }

  /** `start` begins one fork and returns its address. */
  async fork(
    source: SimulatedCapsule,
    { children }: ForkSandboxRequest,
    start: (child: ForkSandboxRequest["children"][number]) => Promise<{ hostIp: string }>,
  ) {
    if (source.status !== "running") throw notRunning(source);
    const results = await Promise.all(
      children.map(async (child) => {
        const { sandboxId } = child;
        try {
          return { sandboxId, ...(await start(child)) };
        } catch (error) {
          const { code, rawMessage } = ConnectError.from(error);
          return { sandboxId, errorCode: snakeCase(Code[code]), errorMessage: rawMessage };
        }
      }),
    );
    return { results };
  }

  /** Once the capsule is what it is for a while. */
  async #make(id: string, capsule: SimulatedCapsule): Promise<void> {
    do {
      await this.#underWay.get(capsule)?.done.catch(() => {});
      await this.#afterCaptures(capsule);
    } while (capsule.status === "pausing" || capsule.status === "resuming");
    if (capsule.status !== "running" && capsule.status !== "paused") throw notRunning(capsule);
    if (this.#deleted.has(id)) {
      throw new ConnectError("the snapshot was deleted before it was made", Code.Aborted);
    }
    const capturing = this.#capture(id, capsule);
    if (capsule.status === "running") this.#captures.set(capsule, capturing);
    await capturing;
  }

  #assertNotEnded(operationId: string): void {
    if (operationId === "" || !this.#ended.has(operationId)) return;
    throw new ConnectError("operation_id: has ended already", Code.Aborted);
  }

  async #afterCaptures(capsule: SimulatedCapsule): Promise<void> {
    for (;;) {
      const capture = this.#captures.get(capsule);
      if (capture === undefined) return;
      await capture.catch(() => {});
      if (this.#captures.get(capsule) === capture) this.#captures.delete(capsule);
    }
  }

  async #capture(id: string, capsule: SimulatedCapsule): Promise<void> {
    const { vcpus, memoryMb } = capsule.request;
    const files = capsule.files.copy();
    await this.#passes(() => capsule.status === "stopping");
    if (capsule.status === "stopping") {
      throw new ConnectError("the capsule was destroyed meanwhile", Code.Aborted);
    }
    this.templates.set(id, { files, vcpus, memoryMb });
  }

  /** The time that something takes, unless it is over before. */
  async #passes(isOver: () => boolean): Promise<void> {
    const endAtMs = performance.now() + this.takesMs;
    for (;;) {
      const leftMs = endAtMs - performance.now();
      if (leftMs <= 0 || isOver()) return;
      await Bun.sleep(Math.min(leftMs, LOOK_MS));
    }
  }

  async #change(
    capsule: SimulatedCapsule,
    change: {
      from: "running" | "paused";
      during: "pausing" | "resuming";
      operationId: string;
      end: () => void;
    },
  ): Promise<void> {
    const { from, during, operationId, end } = change;
    if (capsule.status !== from) throw notRunning(capsule);
    capsule.status = during;
    const done = this.#passes(() => capsule.status !== during).then(() => {
      if (capsule.status === during) return end();
      throw new ConnectError("the capsule was destroyed meanwhile", Code.Aborted);
    });
    this.#underWay.set(capsule, { operationId, done });
    await done;
  }
}

/** What an agent's list says of the capsule. */
export function listed(capsule: SimulatedCapsule) {
  const { vcpus, memoryMb, timeoutSec, teamId, templateId, operationId } = capsule.request;
  return {
    status: capsule.status,
    reason: capsule.reason,
    pauseReason: capsule.pauseReason,
    resumedFrom: capsule.resumedFrom,
    ...(capsule.diskUsedBytes === null ? {} : { diskUsedBytes: capsule.diskUsedBytes }),
    ...(capsule.sentBytes === null ? {} : { sentBytes: capsule.sentBytes }),
    durableAtUnix: capsule.durableAtUnix,
    hostIp: capsule.hostIp,
    createdAtUnix: BigInt(Math.floor(capsule.createdAt / 1000)),
    lastActiveAtUnix: BigInt(Math.floor(capsule.lastActiveAt / 1000)),
    ...{ vcpus, memoryMb, timeoutSec, teamId, templateId, operationId },
  };
}

function rest(capsule: SimulatedCapsule, reason: string, isSealing: boolean): void {
  capsule.status = "paused";
  capsule.pauseReason = reason;
  capsule.resumedFrom = "";
  capsule.durableAtUnix = isSealing ? BigInt(Math.floor(Date.now() / 1000)) : 0n;
  capsule.processes.cutOff();
}

function wake(capsule: SimulatedCapsule, from: string): void {
  capsule.status = "running";
  capsule.resumedFrom = from;
  capsule.pauseReason = "";
  capsule.durableAtUnix = 0n;
  capsule.lastActiveAt = Date.now();
}

function noGeneration(): ConnectError {
  const message = "No whole memory of the capsule is left; its disk can be booted";
  return new ConnectError(message, Code.FailedPrecondition, { "wrenn-reason": "generation" });
}

function notRunning(capsule: SimulatedCapsule): ConnectError {
  return new ConnectError(`the capsule is ${capsule.status}`, Code.FailedPrecondition);
}

function snakeCase(name: string): string {
  return name.replaceAll(/(?<=.)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}
