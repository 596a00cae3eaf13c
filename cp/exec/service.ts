// Commands in a capsule, and the processes they leave running.

import { ConnectError } from "@connectrpc/connect";
import { untilAnswered } from "../../proto/answer-scope.ts";
import { encodeId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { takingAnswer } from "../agents/held-answers.ts";
import {
  EXEC_GRACE_MS,
  GUEST_CALL_TIMEOUT_MS,
  LIST_MEMORY_FACTOR,
  OUTPUT_MEMORY_FACTOR,
} from "../agents/limits.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import { randomHex } from "../digest.ts";
import { AppError } from "../errors.ts";
import type { Command, CommandEnd, ProcessSelector, RunningProcess } from "./command.ts";

/** Runs a command to its end. When `signal` aborts, for the client has gone, it is killed. */
export async function execForeground(
  { capsule, agent, hold }: RunningCapsule,
  command: Command & { readonly timeoutSec: number },
  signal: AbortSignal,
): Promise<CommandEnd> {
  const { timeoutSec } = command;
  const request = { sandboxId: encodeId("capsule", capsule.id), ...toAgent(command), timeoutSec };
  const options = { timeoutMs: timeoutSec * 1000 + EXEC_GRACE_MS, signal };
  const held = hold();
  untilAnswered(held);
  const taker = { held, factor: OUTPUT_MEMORY_FACTOR };
  const ended = await takingAnswer(taker, () => agent.exec(request, options)).catch((error) => {
    throw withoutRoom(error) ?? agentFailure(error, "capsule");
  });
  const { stdout, stderr, exitCode } = ended;
  const durationMs = Number(ended.durationMs);
  const killedAfterSec = ended.timedOut ? timeoutSec : null;
  return { stdout, stderr, exitCode, durationMs, killedAfterSec };
}

/** The command has ended, and there was no room for what it printed: it would run again. */
function withoutRoom(error: unknown): AppError | null {
  const { cause } = ConnectError.from(error);
  if (!(cause instanceof AppError)) return null;
  return new AppError(cause.code, cause.message, { cause, isRetryable: false });
}

/** Starts a command that goes on by itself. */
export async function execBackground(
  { capsule, agent }: RunningCapsule,
  command: Command & { readonly tag: string | undefined },
): Promise<Pick<RunningProcess, "pid" | "tag">> {
  const sandboxId = encodeId("capsule", capsule.id);
  const tag = command.tag ?? `proc-${randomHex(4)}`;
  const request = { sandboxId, ...toAgent(command), tag };
  const options = { timeoutMs: GUEST_CALL_TIMEOUT_MS };
  return await agent.startBackground(request, options).catch((error) => {
    throw agentFailure(error, "capsule");
  });
}

/** Processes that were started through the API and still run. */
export async function listProcesses({
  capsule,
  agent,
  hold,
}: RunningCapsule): Promise<readonly RunningProcess[]> {
  const sandboxId = encodeId("capsule", capsule.id);
  const options = { timeoutMs: GUEST_CALL_TIMEOUT_MS };
  const held = hold();
  untilAnswered(held);
  const ask = () => agent.listProcesses({ sandboxId }, options);
  const { processes } = await takingAnswer({ held, factor: LIST_MEMORY_FACTOR }, ask).catch(
    (error) => {
      throw agentFailure(error, "capsule");
    },
  );
  return processes;
}

/** Signals the process group of a pid or of a tag. `not_found` when there is none. */
export async function killProcess(
  { capsule, agent }: RunningCapsule,
  { selector, signal }: { selector: ProcessSelector; signal: "SIGKILL" | "SIGTERM" },
): Promise<void> {
  const sandboxId = encodeId("capsule", capsule.id);
  const options = { timeoutMs: GUEST_CALL_TIMEOUT_MS };
  await agent.killProcess({ sandboxId, signal, selector }, options).catch((error) => {
    throw agentFailure(error, "capsule");
  });
}

function toAgent({ cmd, args, envs, cwd, user }: Command) {
  return { cmd, args: [...args], envs, cwd, user };
}
