// The processes that envd started in a guest: list them, kill them.

import { Process, ProcessInfoSchema, Signal } from "../../proto/gen/envd/process_pb.js";
import { GUEST_CALL_TIMEOUT_MS, KILL_GRACE_MS } from "../limits.ts";
import type { Guest } from "./guest.ts";
import { callForList } from "./list-call.ts";

export type ProcessRef =
  | { readonly case: "pid"; readonly value: number }
  | { readonly case: "tag"; readonly value: string };

export interface GuestProcess {
  readonly pid: number;
  readonly tag: string;
  readonly cmd: string;
  readonly args: readonly string[];
}

/** What runs now. Throws AgentError. */
export async function listProcesses(
  guest: Guest,
  timeoutMs: number = GUEST_CALL_TIMEOUT_MS,
): Promise<GuestProcess[]> {
  const { list: method } = Process.method;
  const call = { method, request: {}, item: ProcessInfoSchema, timeoutMs };
  const processes = await callForList(guest, { subject: "process" }, call);
  return processes.map(({ pid, tag, config }) => ({
    pid,
    tag: tag ?? "",
    cmd: config?.cmd ?? "",
    args: config?.args ?? [],
  }));
}

/** Signals the process group. Throws AgentError: not_found if envd knows no such process. */
export async function signalProcess(
  guest: Guest,
  process: ProcessRef,
  signal: "SIGTERM" | "SIGKILL",
): Promise<void> {
  const request = { process: { selector: process }, signal: Signal[signal] };
  await guest.call(
    { subject: "process" },
    (o) => guest.processes.sendSignal(request, o),
    KILL_GRACE_MS,
  );
}
