// Runs commands in a guest. A foreground command never outlives its call: at its deadline, when the
// caller goes away, or when it prints too much, its whole process group is killed.

import { Code, ConnectError } from "@connectrpc/connect";
import { untilAnswered } from "../../proto/answer-scope.ts";
import type { HeldBytes } from "../../proto/byte-budget.ts";
import {
  type ProcessEvent,
  type ProcessSelector,
  Signal,
  type StartResponse,
} from "../../proto/gen/envd/process_pb.js";
import { inSlices } from "../../proto/time-slice.ts";
import { AgentError } from "../errors.ts";
import {
  GUEST_CALL_TIMEOUT_MS,
  KILL_GRACE_MS,
  OUTPUT_BYTES_MAX,
  OUTPUT_MEMORY_FACTOR,
} from "../limits.ts";
import { asUser, type Guest } from "./guest.ts";
import { guestError } from "./guest-errors.ts";
import { OutputBuffer } from "./output-buffer.ts";
import { listProcesses } from "./processes.ts";

const GONE_POLL_MS = 10;

export interface Command {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly envs: Readonly<Record<string, string>>;
  /** Empty: envd's default. */
  readonly cwd: string;
  /** Empty: the capsule's default user. */
  readonly user: string;
}

export interface CommandResult {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  /** -1 if a signal ended it. */
  readonly exitCode: number;
  readonly timedOut: boolean;
  readonly durationMs: number;
}

/**
 * Runs the command to its end. At the deadline the answer has `timedOut` and what was printed. Throws
 * AgentError: invalid_argument (cwd, user), resource_exhausted (too much output, its own or with that of
 * others; too many commands), aborted (the caller went away), unavailable, failed_precondition (the capsule
 * ended).
 */
export async function exec(
  guest: Guest,
  command: Command,
  options: { timeoutMs: number; caller: AbortSignal },
): Promise<CommandResult> {
  using _stream = guest.openStream();
  // Awaited, or the stream would be given back before the command has ended.
  return await new ForegroundCommand(guest, command, options).run();
}

class ForegroundCommand {
  readonly #guest: Guest;
  readonly #command: Command;
  readonly #timeoutMs: number;
  readonly #caller: AbortSignal;
  readonly #stream = new AbortController();
  readonly #held: HeldBytes;
  readonly #stdout = new OutputBuffer(OUTPUT_BYTES_MAX, (bytes) => this.#reserve(bytes));
  readonly #stderr = new OutputBuffer(OUTPUT_BYTES_MAX, (bytes) => this.#reserve(bytes));
  readonly #startedAt = performance.now();
  /** To the deadline, then to the end of the stream that should have ended by itself. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pid: number | null = null;
  #exitCode: number | null = null;
  #timedOut = false;
  #stopped: AgentError | null = null;

  constructor(guest: Guest, command: Command, options: { timeoutMs: number; caller: AbortSignal }) {
    this.#guest = guest;
    this.#held = guest.hold("output");
    this.#command = command;
    this.#timeoutMs = options.timeoutMs;
    this.#caller = options.caller;
  }

  async run(): Promise<CommandResult> {
    const leave = () =>
      this.#stop(new AgentError("aborted", "The caller went away", { subject: "request" }));
    this.#caller.addEventListener("abort", leave, { once: true });
    // envd kills the command at its deadline; this one is for an envd that does not.
    this.#timer = setTimeout(() => this.#expire(), this.#timeoutMs + KILL_GRACE_MS);
    if (this.#caller.aborted) leave();
    try {
      await this.#follow();
    } catch (error) {
      this.#judge(error);
      if (this.#timedOut && this.#pid !== null && !this.#stream.signal.aborted) {
        await this.#awaitGone(this.#pid);
      }
    } finally {
      clearTimeout(this.#timer);
      this.#caller.removeEventListener("abort", leave);
    }
    if (this.#stopped) {
      this.#held[Symbol.dispose]();
      throw this.#stopped;
    }
    untilAnswered(this.#held);
    return {
      stdout: this.#stdout.contents(),
      stderr: this.#stderr.contents(),
      exitCode: this.#exitCode ?? -1,
      timedOut: this.#timedOut,
      durationMs: Math.round(performance.now() - this.#startedAt),
    };
  }

  async #follow(): Promise<void> {
    const signal = AbortSignal.any([this.#stream.signal, this.#guest.awaited]);
    const headers = {
      "Connect-Timeout-Ms": String(this.#timeoutMs),
      ...(this.#command.user ? asUser(this.#command.user) : {}),
    };
    const request = { process: processConfig(this.#command), stdin: false };
    const starting = setTimeout(() => this.#stream.abort(), GUEST_CALL_TIMEOUT_MS);
    try {
      const answers = this.#guest.processStreams.start(request, { signal, headers });
      for await (const { event } of inSlices(answers)) {
        clearTimeout(starting);
        if (event) this.#take(event);
        if (this.#exitCode !== null) return;
      }
    } finally {
      clearTimeout(starting);
    }
    throw new ConnectError("stream ended before the command", Code.DataLoss);
  }

  #take({ event }: ProcessEvent): void {
    switch (event.case) {
      case "start":
        this.#pid = event.value.pid;
        // Somebody gave up before there was a process to kill.
        if (this.#stopped) this.#kill(event.value.pid);
        return;
      case "data": {
        const { output } = event.value;
        // Nobody gets what comes after.
        if (this.#stopped || !output.value) return;
        const buffer = output.case === "stderr" ? this.#stderr : this.#stdout;
        try {
          if (buffer.append(output.value)) return;
        } catch (error) {
          if (!(error instanceof AgentError)) throw error;
          this.#stop(error);
          return;
        }
        this.#stop(
          new AgentError(
            "resource_exhausted",
            `The command printed more than ${OUTPUT_BYTES_MAX} bytes on ${output.case}`,
            { subject: "process" },
          ),
        );
        return;
      }
      case "end":
        this.#exitCode = event.value.exitCode;
    }
  }

  #reserve(bytes: number): void {
    this.#held.take(bytes * OUTPUT_MEMORY_FACTOR);
  }

  /** Ends the command for a reason that becomes the answer; the first reason counts. */
  #stop(reason: AgentError): void {
    if (this.#stopped) return;
    this.#stopped = reason;
    this.#killAndCutOff();
  }

  #expire(): void {
    this.#timedOut = true;
    this.#killAndCutOff();
  }

  #killAndCutOff(): void {
    if (this.#pid !== null) this.#kill(this.#pid);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#stream.abort(), KILL_GRACE_MS);
  }

  #kill(pid: number, timeoutMs = KILL_GRACE_MS): void {
    const selector: ProcessSelector["selector"] = { case: "pid", value: pid };
    const signal = AbortSignal.any([this.#guest.closed, AbortSignal.timeout(timeoutMs)]);
    const options = { signal };
    this.#guest.processes
      .sendSignal({ process: { selector }, signal: Signal.SIGKILL }, options)
      // It has ended meanwhile, or the guest does not answer: the stream's own end tells.
      .catch(() => {});
  }

  /** envd answers at the deadline; its kill takes effect a moment later. */
  async #awaitGone(pid: number): Promise<void> {
    const until = performance.now() + KILL_GRACE_MS;
    try {
      for (let leftMs = KILL_GRACE_MS; leftMs > 0; leftMs = until - performance.now()) {
        const processes = await listProcesses(this.#guest, Math.ceil(leftMs));
        if (!processes.some((process) => process.pid === pid)) return;
        await Bun.sleep(GONE_POLL_MS);
      }
    } catch {
      // The guest does not answer in time: what was printed is the answer all the same.
    }
  }

  /** Decides what the failure of the stream says about the command. */
  #judge(error: unknown): void {
    if (this.#stopped || this.#timedOut) return;
    const isDeadline = ConnectError.from(error).code === Code.DeadlineExceeded;
    if (isDeadline && this.#pid !== null) {
      this.#timedOut = true;
      return;
    }
    this.#stopped = startError(error, this.#guest, this.#command);
    // It may be there still, in a guest that stands still: then it ends when that runs on.
    if (this.#pid !== null && !this.#guest.closed.aborted) {
      const elapsedMs = performance.now() - this.#startedAt;
      this.#kill(this.#pid, Math.max(KILL_GRACE_MS, this.#timeoutMs - elapsedMs));
    }
  }
}

/**
 * Starts a command that goes on by itself, and answers its pid once it runs. Throws what exec throws
 * for its start.
 */
export async function startBackground(
  guest: Guest,
  command: Command,
  tag: string,
): Promise<number> {
  const stream = new AbortController();
  const signal = guest.signal(GUEST_CALL_TIMEOUT_MS, stream.signal);
  const headers = command.user ? asUser(command.user) : {};
  const request = { process: processConfig(command), tag, stdin: false };
  try {
    return await firstPid(guest.processStreams.start(request, { signal, headers }));
  } catch (error) {
    throw startError(error, guest, command);
  } finally {
    // The process outlives its stream: envd drops the output of a command nobody listens to.
    stream.abort();
  }
}

async function firstPid(events: AsyncIterable<StartResponse>): Promise<number> {
  for await (const { event } of inSlices(events)) {
    if (event?.event.case === "start") return event.event.value.pid;
  }
  throw new ConnectError("stream ended before the start", Code.DataLoss);
}

export function processConfig(command: Command) {
  return {
    cmd: command.cmd,
    args: [...command.args],
    envs: { ...command.envs },
    ...(command.cwd ? { cwd: command.cwd } : {}),
  };
}

function startError(error: unknown, guest: Guest, command: Command): AgentError {
  const user = command.user ? { user: command.user } : {};
  return guestError(error, { subject: "process", closed: guest.closed, ...user });
}
