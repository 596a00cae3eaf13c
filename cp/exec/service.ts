// Commands in a capsule, and the processes they leave running.

import { encodeId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { EXEC_GRACE_MS, GUEST_CALL_TIMEOUT_MS } from "../agents/limits.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import { EXEC_TIMEOUT_SEC_DEFAULT } from "../capsules/limits.ts";
import { randomHex } from "../digest.ts";
import { AppError } from "../errors.ts";
import {
  type BackgroundAnswer,
  type ExecAnswer,
  type ExecRequest,
  encodeStreams,
  type ProcessList,
} from "./schema.ts";

const PID_MAX = 2 ** 32 - 1;

/**
 * Runs a command to its end. When `signal` aborts, for the client has gone, the command is killed.
 * Throws `exec_timeout` with what was printed when it ran out of time.
 */
export async function execForeground(
  { capsule, agent }: RunningCapsule,
  command: ExecRequest,
  signal: AbortSignal,
): Promise<ExecAnswer> {
  const sandboxId = encodeId("capsule", capsule.id);
  const timeoutSec = command.timeout_sec || EXEC_TIMEOUT_SEC_DEFAULT;
  const request = { sandboxId, ...toAgent(command), timeoutSec };
  const options = { timeoutMs: timeoutSec * 1000 + EXEC_GRACE_MS, signal };
  const ended = await agent.exec(request, options).catch((error) => {
    throw agentFailure(error, "capsule");
  });

  const streams = encodeStreams(ended.stdout, ended.stderr);
  const duration_ms = Number(ended.durationMs);
  if (ended.timedOut) {
    const message = `the command was killed after ${timeoutSec} s`;
    throw new AppError("exec_timeout", message, { details: { ...streams, duration_ms } });
  }
  const { cmd } = command;
  return { sandbox_id: sandboxId, cmd, ...streams, exit_code: ended.exitCode, duration_ms };
}

/** Starts a command that goes on by itself. */
export async function execBackground(
  { capsule, agent }: RunningCapsule,
  command: ExecRequest,
): Promise<BackgroundAnswer> {
  const sandboxId = encodeId("capsule", capsule.id);
  const tag = command.tag ?? `proc-${randomHex(4)}`;
  const request = { sandboxId, ...toAgent(command), tag };
  const options = { timeoutMs: GUEST_CALL_TIMEOUT_MS };
  const started = await agent.startBackground(request, options).catch((error) => {
    throw agentFailure(error, "capsule");
  });
  return { sandbox_id: sandboxId, cmd: command.cmd, pid: started.pid, tag: started.tag };
}

/** Processes that were started through the API and still run. */
export async function listProcesses({ capsule, agent }: RunningCapsule): Promise<ProcessList> {
  const sandboxId = encodeId("capsule", capsule.id);
  const options = { timeoutMs: GUEST_CALL_TIMEOUT_MS };
  const { processes } = await agent.listProcesses({ sandboxId }, options).catch((error) => {
    throw agentFailure(error, "capsule");
  });
  return {
    processes: processes.map(({ pid, tag, cmd, args }) => ({
      pid,
      ...(tag === "" ? {} : { tag }),
      cmd,
      ...(args.length === 0 ? {} : { args }),
    })),
  };
}

/** Signals the process group of a pid (all digits) or of a tag. `not_found` when there is none. */
export async function killProcess(
  { capsule, agent }: RunningCapsule,
  { selector, signal }: { selector: string; signal: "SIGKILL" | "SIGTERM" },
): Promise<void> {
  const sandboxId = encodeId("capsule", capsule.id);
  const options = { timeoutMs: GUEST_CALL_TIMEOUT_MS };
  const request = { sandboxId, signal, selector: parseSelector(selector) };
  await agent.killProcess(request, options).catch((error) => {
    throw agentFailure(error, "capsule");
  });
}

export function parseSelector(
  selector: string,
): { case: "pid"; value: number } | { case: "tag"; value: string } {
  if (!/^\d+$/.test(selector)) return { case: "tag", value: selector };
  const pid = Number(selector);
  if (pid < 1 || pid > PID_MAX) {
    throw new AppError("invalid_request", `selector: a pid is between 1 and ${PID_MAX}`);
  }
  return { case: "pid", value: pid };
}

function toAgent({ cmd, args, envs, cwd, user }: ExecRequest) {
  return { cmd, args: args ?? [], envs: envs ?? {}, cwd: cwd ?? "", user: user ?? "" };
}
