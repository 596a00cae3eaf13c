// The RPC service process.Process.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type {
  Process,
  ProcessConfig,
  ProcessEventSchema,
  ProcessInput,
  ProcessSelector,
  PTY,
  StartRequest,
  StreamInputRequest,
} from "../../proto/gen/envd/process_pb.js";
import { Signal } from "../../proto/gen/envd/process_pb.js";
import { TAG_BYTES_MAX } from "../../proto/hostagent/bounds.ts";
import { EnvdError } from "../errors.ts";
import { keepaliveMsOf } from "../keepalive.ts";
import { COMMAND_BYTES_MAX } from "../limits.ts";
import type { Settings } from "../settings.ts";
import type { Users } from "../users.ts";
import type { Cgroups } from "./cgroups.ts";
import { requestedUser, startDirectory, startVariables } from "./environment.ts";
import type { Command, GuestProcess } from "./guest-process.ts";
import type { Launcher, TerminalSize } from "./launcher.ts";
import type { OutputEvent, Subscription } from "./output.ts";
import type { Registry, Selector } from "./registry.ts";

type EventInit = MessageInitShape<typeof ProcessEventSchema>;
type StreamEvent = { event: EventInit };

export interface ProcessServiceDeps {
  readonly registry: Registry;
  readonly launcher: Launcher;
  readonly users: Users;
  readonly settings: Settings;
  /** Null where the guest has no control groups. */
  readonly cgroups: Cgroups | null;
  /** PATH of processes. */
  readonly path: string;
}

/** Implements process.Process on the registry. */
export function processService(deps: ProcessServiceDeps): ServiceImpl<typeof Process> {
  const { registry, launcher } = deps;
  return {
    list: () => ({
      processes: registry.running.map((process) => ({
        config: configOf(process.command),
        pid: process.pid,
        ...(process.tag === null ? {} : { tag: process.tag }),
      })),
    }),

    async *start(request, context) {
      const { process, subscription } = await startProcess(deps, request, context);
      for await (const event of streamOf(process, subscription, context)) {
        // The call's deadline and the process's are two timers: the process may be gone before the first.
        if (event.event?.event?.case === "end" && process.isOutOfTime) {
          throw new EnvdError("deadline_exceeded", "the process was killed at its deadline");
        }
        yield event;
      }
    },

    async *connect(request, context) {
      const process = registry.find(selectorOf(request.process));
      const subscription = process.output.subscribe({ wantsScrollback: request.scrollback });
      yield* streamOf(process, subscription, context);
    },

    async update(request) {
      const process = registry.findRunning(selectorOf(request.process));
      const size = terminalSize(request.pty);
      if (size !== null) await launcher.resize(process.master, size);
      return {};
    },

    async sendInput(request) {
      await writeInput(registry.findRunning(selectorOf(request.process)), request.input);
      return {};
    },

    async streamInput(requests) {
      await forwardInput(registry, requests);
      return {};
    },

    async sendSignal(request) {
      const process = registry.findRunning(selectorOf(request.process));
      if (request.signal === Signal.SIGKILL) await process.kill();
      else if (request.signal === Signal.SIGTERM) process.terminate();
      else throw signalError(request.signal);
      return {};
    },

    async closeStdin(request) {
      const process = registry.findRunning(selectorOf(request.process));
      if (process.isTerminal) {
        throw new EnvdError("failed_precondition", "process: a terminal's input cannot be closed");
      }
      await process.input.end();
      return {};
    },
  };
}

async function startProcess(
  deps: ProcessServiceDeps,
  request: StartRequest,
  context: HandlerContext,
): Promise<{ process: GuestProcess; subscription: Subscription }> {
  const command = commandOf(request.process);
  const tag = tagOf(request.tag);
  const user = requestedUser(context.requestHeader, deps.users, deps.settings);
  const cwd = startDirectory(command.cwd ?? undefined, user, deps.settings);
  const variables = startVariables({
    path: deps.path,
    user,
    settings: deps.settings,
    requested: command.envs,
  });
  const timeoutMs = context.timeoutMs();

  const started = await deps.registry.start({
    request: {
      user,
      cwd,
      command: [command.cmd, ...command.args],
      variables,
      terminal: request.pty === undefined ? null : (terminalSize(request.pty) ?? DEFAULT_SIZE),
      cgroup: deps.cgroups?.procsFile(request.pty === undefined ? "user" : "pty") ?? null,
    },
    command,
    tag,
  });
  if (timeoutMs !== undefined) started.process.killAfter(timeoutMs);
  if (request.stdin === false && !started.process.isTerminal) await started.process.input.end();
  return started;
}

const DEFAULT_SIZE: TerminalSize = { columns: 80, rows: 24 };

/** Events of one reader until the end event, its deadline or its disconnect. */
async function* streamOf(
  process: GuestProcess,
  subscription: Subscription,
  context: HandlerContext,
): AsyncGenerator<StreamEvent> {
  const { signal } = context;
  const close = () => subscription.close();
  signal.addEventListener("abort", close);
  const keepaliveMs = keepaliveMsOf(context.requestHeader);
  try {
    yield { event: { event: { case: "start", value: { pid: process.pid } } } };
    while (!signal.aborted) {
      const event = await subscription.next(keepaliveMs);
      if (signal.aborted) break;
      yield { event: eventOf(event) };
      if (event?.kind === "end") return;
    }
    // Of the reasons to stop only the deadline is news to the client; the other is its own leaving.
    if (signal.reason instanceof ConnectError) throw signal.reason;
  } finally {
    signal.removeEventListener("abort", close);
    subscription.close();
  }
}

function eventOf(event: OutputEvent | null): EventInit {
  if (event === null) return { event: { case: "keepalive", value: {} } };
  if (event.kind !== "end") {
    const output = { case: event.kind, value: event.bytes };
    return { event: { case: "data", value: { output } } };
  }
  const { exitCode, signal } = event;
  const status = signal === null ? `exit status ${exitCode}` : `signal: ${signalWords(signal)}`;
  return {
    event: {
      case: "end",
      value: {
        exitCode,
        exited: signal === null,
        status,
        ...(exitCode === 0 ? {} : { error: status }),
      },
    },
  };
}

/** The words clients know from strsignal(3). */
function signalWords(signal: string): string {
  return SIGNAL_NAMES[signal] ?? signal;
}

const SIGNAL_NAMES: Readonly<Record<string, string>> = {
  SIGHUP: "hangup",
  SIGINT: "interrupt",
  SIGQUIT: "quit",
  SIGILL: "illegal instruction",
  SIGTRAP: "trace/breakpoint trap",
  SIGABRT: "aborted",
  SIGBUS: "bus error",
  SIGFPE: "floating point exception",
  SIGKILL: "killed",
  SIGSEGV: "segmentation fault",
  SIGPIPE: "broken pipe",
  SIGALRM: "alarm clock",
  SIGTERM: "terminated",
  SIGUSR1: "user defined signal 1",
  SIGUSR2: "user defined signal 2",
};

function commandOf(config: ProcessConfig | undefined): Command {
  if (config === undefined || config.cmd === "") {
    throw new EnvdError("invalid_argument", "process.cmd: is required");
  }
  const names = Object.keys(config.envs);
  const bad = names.find((name) => name === "" || name.includes("="));
  if (bad !== undefined) {
    throw new EnvdError("invalid_argument", `process.envs: '${bad}' is no variable name`);
  }
  const texts = [config.cmd, ...config.args, ...names, ...Object.values(config.envs)];
  if (texts.some((text) => text.includes("\0"))) {
    throw new EnvdError("invalid_argument", "process: cmd, args and envs cannot hold a NUL byte");
  }
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0);
  if (bytes > COMMAND_BYTES_MAX) {
    throw new EnvdError(
      "invalid_argument",
      `process: cmd, args and envs are longer than ${COMMAND_BYTES_MAX} bytes`,
    );
  }
  return { cmd: config.cmd, args: config.args, envs: config.envs, cwd: config.cwd ?? null };
}

function configOf(command: Command) {
  const { cmd, args, envs, cwd } = command;
  return { cmd, args: [...args], envs: { ...envs }, ...(cwd === null ? {} : { cwd }) };
}

function tagOf(tag: string | undefined): string | null {
  if (tag !== undefined && Buffer.byteLength(tag) > TAG_BYTES_MAX) {
    throw new EnvdError("invalid_argument", `tag: is longer than ${TAG_BYTES_MAX} bytes`);
  }
  return tag ?? null;
}

function selectorOf(selector: ProcessSelector | undefined): Selector {
  switch (selector?.selector.case) {
    case "pid":
      return { pid: selector.selector.value };
    case "tag":
      return { tag: selector.selector.value };
    default:
      throw new EnvdError("invalid_argument", "process: pid or tag is required");
  }
}

/** The size asked for, or null when none is. */
function terminalSize(pty: PTY | undefined): TerminalSize | null {
  const size = pty?.size;
  if (size === undefined) return null;
  for (const value of [size.cols, size.rows]) {
    if (value < 1 || value > 0xffff) {
      throw new EnvdError("invalid_argument", "pty.size: cols and rows must be 1 to 65535");
    }
  }
  return { columns: size.cols, rows: size.rows };
}

async function forwardInput(
  registry: Registry,
  requests: AsyncIterable<StreamInputRequest>,
): Promise<void> {
  let process: GuestProcess | null = null;
  for await (const { event } of requests) {
    switch (event.case) {
      case "start":
        process = registry.findRunning(selectorOf(event.value.process));
        break;
      case "data":
        if (process === null) {
          throw new EnvdError("invalid_argument", "event: the first one must be start");
        }
        await writeInput(process, event.value.input);
        break;
      case "keepalive":
        break;
      default:
        throw new EnvdError("invalid_argument", "event: start, data or keepalive is required");
    }
  }
}

async function writeInput(process: GuestProcess, input: ProcessInput | undefined): Promise<void> {
  switch (input?.input.case) {
    case "stdin":
      if (process.isTerminal) {
        throw new EnvdError("failed_precondition", "input.stdin: the process has a terminal");
      }
      return process.input.write(input.input.value);
    case "pty":
      if (!process.isTerminal) {
        throw new EnvdError("failed_precondition", "input.pty: the process has no terminal");
      }
      return process.input.write(input.input.value);
    default:
      throw new EnvdError("invalid_argument", "input: stdin or pty is required");
  }
}

function signalError(signal: Signal): EnvdError {
  return signal === Signal.UNSPECIFIED
    ? new EnvdError("invalid_argument", "signal: is required")
    : new EnvdError("unimplemented", `signal: ${signal} is neither SIGTERM nor SIGKILL`);
}
