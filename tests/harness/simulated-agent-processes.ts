// The processes of a simulated capsule: real ones of this machine, each in its own process group.

import { existsSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Subprocess } from "bun";
import { type SimulatedEvent, SimulatedOutput } from "./simulated-agent-streams.ts";

export interface SimulatedCommand {
  cmd: string;
  args: string[];
  envs: Record<string, string>;
  cwd: string;
  user: string;
}

export interface SimulatedExit {
  stdout: Uint8Array;
  stderr: Uint8Array;
  exitCode: number;
  timedOut: boolean;
  durationMs: bigint;
}

type Piped = Subprocess<"ignore", "pipe", "pipe">;

interface Tracked<P extends Subprocess = Subprocess> {
  readonly process: P;
  readonly tag: string;
  readonly command: SimulatedCommand;
}

interface Streamed {
  readonly tag: string;
  readonly output: SimulatedOutput;
  readonly terminal: Bun.Terminal | null;
}

type Selector = { pid: number } | { tag: string };

const EMPTY = new Uint8Array();
const OUTPUT_BYTES_MAX = 32 * 1024 * 1024;
export const USERS = ["", "root", "wrenn-user"];

export class SimulatedProcesses {
  readonly #defaultEnv: Record<string, string>;
  readonly #tracked = new Map<number, Tracked>();
  /** Of running and ended processes, by pid. */
  readonly #streamed = new Map<number, Streamed>();

  constructor(defaultEnv: Record<string, string>) {
    this.#defaultEnv = defaultEnv;
  }

  /** Runs to its end; at the timeout, or when the caller goes away, the whole group is killed. */
  async exec(
    command: SimulatedCommand,
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<SimulatedExit> {
    const startedAt = Date.now();
    const tracked = this.#start(command, "");
    if (!("process" in tracked)) return { ...tracked, timedOut: false, durationMs: 0n };

    const { process } = tracked;
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(process.pid, "SIGKILL");
    }, options.timeoutMs);
    const abandon = () => killGroup(process.pid, "SIGKILL");
    const collect = (stream: ReadableStream<Uint8Array>) => collectBounded(stream, abandon);
    options.signal.addEventListener("abort", abandon, { once: true });
    try {
      const [stdout, stderr] = await Promise.all([
        collect(process.stdout),
        collect(process.stderr),
        process.exited,
      ]);
      const exitCode = exitCodeOf(process);
      return { stdout, stderr, exitCode, timedOut, durationMs: BigInt(Date.now() - startedAt) };
    } finally {
      clearTimeout(timer);
      options.signal.removeEventListener("abort", abandon);
    }
  }

  startBackground(command: SimulatedCommand, tag: string): number {
    const tracked = this.#start(command, tag);
    if (!("process" in tracked)) {
      throw new ConnectError(`cmd '${command.cmd}' cannot be run`, Code.InvalidArgument);
    }
    this.#stream(tracked);
    return tracked.process.pid;
  }

  /** What the command prints. At the timeout, if any, its group is killed. */
  async *stream(
    command: SimulatedCommand,
    options: { timeoutSec: number },
  ): AsyncGenerator<SimulatedEvent> {
    const tracked = this.#start(command, "");
    const { process } = "process" in tracked ? tracked : this.#spawn(failing(tracked), "");
    const events = this.#stream({ process, tag: "", command }).read(false);
    let timedOut = false;
    const expire = () => {
      timedOut = true;
      killGroup(process.pid, "SIGKILL");
    };
    const timer = options.timeoutSec === 0 ? 0 : setTimeout(expire, options.timeoutSec * 1000);
    try {
      for await (const event of events) {
        if (timedOut && event.kind === "end") {
          throw new ConnectError("the command was killed at its deadline", Code.DeadlineExceeded);
        }
        yield event;
      }
    } finally {
      if (timer !== 0) clearTimeout(timer);
    }
  }

  startTerminal(
    command: SimulatedCommand,
    { tag, cols, rows }: { tag: string; cols: number; rows: number },
  ): AsyncGenerator<SimulatedEvent> {
    const env = this.#environment(command);
    // Output may come before the process is known.
    const started = Promise.withResolvers<SimulatedOutput>();
    const process = Bun.spawn([command.cmd, ...command.args], {
      cwd: command.cwd === "" ? "/" : command.cwd,
      env: { TERM: "xterm-256color", ...env },
      detached: true,
      terminal: {
        cols,
        rows,
        data: (_, bytes) => void started.promise.then((output) => output.add("pty", bytes)),
      },
    });
    const output = new SimulatedOutput(process.pid);
    const events = output.read(false);
    started.resolve(output);
    this.#track({ process, tag, command });
    this.#streamed.set(process.pid, { tag, output, terminal: process.terminal ?? null });
    // What it printed last is read after its end.
    void process.exited.then(() => setTimeout(() => output.finish(exitCodeOf(process)), 50));
    return events;
  }

  /** Attaches to a process, which may have ended. */
  connect(selector: Selector, withPast: boolean): AsyncGenerator<SimulatedEvent> {
    return this.#find(selector).output.read(withPast);
  }

  /** The terminal with that tag; not_found when there is none or it has ended. */
  terminal(tag: string): { write(data: Uint8Array): void; resize(c: number, r: number): void } {
    const { terminal } = this.#find({ tag });
    if (terminal === null || terminal.closed || !this.list().some((one) => one.tag === tag)) {
      throw unknownProcess({ tag });
    }
    return {
      write: (data) => void terminal.write(data),
      resize: (cols, rows) => terminal.resize(cols, rows),
    };
  }

  list(): { pid: number; tag: string; cmd: string; args: string[] }[] {
    return [...this.#tracked].map(([pid, { tag, command }]) => {
      return { pid, tag, cmd: command.cmd, args: command.args };
    });
  }

  kill(selector: Selector, signal: "SIGTERM" | "SIGKILL"): void {
    const pids = [...this.#tracked]
      .filter(([pid, { tag }]) => ("pid" in selector ? pid === selector.pid : tag === selector.tag))
      .map(([pid]) => pid);
    if (pids.length === 0) throw unknownProcess(selector);
    for (const pid of pids) killGroup(pid, signal);
  }

  /** Ends every stream, as a pause and the end of a VMM do. */
  cutOff(): void {
    for (const { output } of this.#streamed.values()) output.cutOff();
  }

  async killAll(): Promise<void> {
    const all = [...this.#tracked.values()];
    for (const { process } of all) killGroup(process.pid, "SIGKILL");
    await Promise.all(all.map(({ process }) => process.exited));
  }

  #start(
    command: SimulatedCommand,
    tag: string,
  ): Tracked<Piped> | { stdout: Uint8Array; stderr: Uint8Array; exitCode: number } {
    const { PATH } = this.#environment(command);
    const executable = command.cmd.includes("/")
      ? existsSync(command.cmd)
      : Bun.which(command.cmd, PATH === undefined ? {} : { PATH }) !== null;
    if (!executable) return unrunnable(command.cmd, "not found", 127);
    try {
      return this.#spawn(command, tag);
    } catch {
      return unrunnable(command.cmd, "not executable", 126);
    }
  }

  /** Throws as an agent does when the user or the directory does not exist. */
  #environment(command: SimulatedCommand): Record<string, string> {
    if (!USERS.includes(command.user)) {
      throw new ConnectError(`user '${command.user}' does not exist`, Code.InvalidArgument);
    }
    if (command.cwd !== "" && !existsSync(command.cwd)) {
      throw new ConnectError(`cwd '${command.cwd}' does not exist`, Code.InvalidArgument);
    }
    const defaults = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: "/root" };
    return { ...defaults, ...this.#defaultEnv, ...command.envs };
  }

  #spawn(command: SimulatedCommand, tag: string): Tracked<Piped> {
    const process = Bun.spawn([command.cmd, ...command.args], {
      cwd: command.cwd === "" ? "/" : command.cwd,
      env: this.#environment(command),
      detached: true,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      // Only what is asked for is read, so that a slow reader makes the process wait.
      lazy: true,
    });
    const tracked = { process, tag, command };
    this.#track(tracked);
    return tracked;
  }

  #track(tracked: Tracked): void {
    const { process } = tracked;
    this.#tracked.set(process.pid, tracked);
    void process.exited.then(() => this.#tracked.delete(process.pid));
  }

  #stream({ process, tag }: Tracked<Piped>): SimulatedOutput {
    const output = new SimulatedOutput(process.pid);
    this.#streamed.set(process.pid, { tag, output, terminal: null });
    const pump = async (kind: "stdout" | "stderr") => {
      for await (const chunk of process[kind]) await output.add(kind, chunk);
    };
    void Promise.all([pump("stdout"), pump("stderr"), process.exited]).then(() =>
      output.finish(exitCodeOf(process)),
    );
    return output;
  }

  #find(selector: Selector): Streamed {
    const found = [...this.#streamed].findLast(([pid, { tag }]) =>
      "pid" in selector ? pid === selector.pid : tag === selector.tag,
    );
    if (found === undefined) throw unknownProcess(selector);
    return found[1];
  }
}

function exitCodeOf({ signalCode, exitCode }: Subprocess): number {
  return signalCode === null ? (exitCode ?? -1) : -1;
}

function unknownProcess(selector: Selector): ConnectError {
  const name = "pid" in selector ? `pid ${selector.pid}` : `tag '${selector.tag}'`;
  return new ConnectError(`process with ${name} does not exist`, Code.NotFound, {
    "wrenn-reason": "process",
  });
}

/** A command that prints and ends as the one that could not be run. */
function failing({ stderr, exitCode }: { stderr: Uint8Array; exitCode: number }): SimulatedCommand {
  const text = new TextDecoder().decode(stderr);
  const args = ["-c", 'printf %s "$1" >&2; exit "$2"', "sh", text, String(exitCode)];
  return { cmd: "/bin/sh", args, envs: {}, cwd: "", user: "" };
}

async function collectBounded(
  stream: ReadableStream<Uint8Array>,
  abandon: () => void,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of stream) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > OUTPUT_BYTES_MAX) {
      abandon();
      throw new ConnectError("the command printed more than 32 MiB", Code.ResourceExhausted);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function unrunnable(cmd: string, why: string, exitCode: number) {
  return { stdout: EMPTY, stderr: new TextEncoder().encode(`${cmd}: ${why}\n`), exitCode };
}

function killGroup(pid: number, signal: "SIGTERM" | "SIGKILL"): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // The group has ended by itself.
  }
}
