// The processes of a simulated capsule: real ones of this machine, each in its own process group.

import { existsSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Subprocess } from "bun";

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

interface Tracked {
  readonly process: Subprocess<"ignore", "pipe", "pipe">;
  readonly tag: string;
  readonly command: SimulatedCommand;
}

const EMPTY = new Uint8Array();
const OUTPUT_BYTES_MAX = 32 * 1024 * 1024;
const USERS = ["", "root", "wrenn-user"];

export class SimulatedProcesses {
  readonly #defaultEnv: Record<string, string>;
  readonly #tracked = new Map<number, Tracked>();

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
      const exitCode = process.signalCode === null ? (process.exitCode ?? -1) : -1;
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
    return tracked.process.pid;
  }

  list(): { pid: number; tag: string; cmd: string; args: string[] }[] {
    return [...this.#tracked].map(([pid, { tag, command }]) => {
      return { pid, tag, cmd: command.cmd, args: command.args };
    });
  }

  kill(selector: { pid: number } | { tag: string }, signal: "SIGTERM" | "SIGKILL"): void {
    const pids = [...this.#tracked]
      .filter(([pid, { tag }]) => ("pid" in selector ? pid === selector.pid : tag === selector.tag))
      .map(([pid]) => pid);
    if (pids.length === 0) {
      const name = "pid" in selector ? `pid ${selector.pid}` : `tag '${selector.tag}'`;
      throw new ConnectError(`process with ${name} does not exist`, Code.NotFound, {
        "wrenn-reason": "process",
      });
    }
    for (const pid of pids) killGroup(pid, signal);
  }

  async killAll(): Promise<void> {
    const all = [...this.#tracked.values()];
    for (const { process } of all) killGroup(process.pid, "SIGKILL");
    await Promise.all(all.map(({ process }) => process.exited));
  }

  #start(
    command: SimulatedCommand,
    tag: string,
  ): Tracked | { stdout: Uint8Array; stderr: Uint8Array; exitCode: number } {
    if (!USERS.includes(command.user)) {
      throw new ConnectError(`user '${command.user}' does not exist`, Code.InvalidArgument);
    }
    if (command.cwd !== "" && !existsSync(command.cwd)) {
      throw new ConnectError(`cwd '${command.cwd}' does not exist`, Code.InvalidArgument);
    }
    const defaults = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: "/root" };
    const env = { ...defaults, ...this.#defaultEnv, ...command.envs };
    const executable = command.cmd.includes("/")
      ? existsSync(command.cmd)
      : Bun.which(command.cmd, { PATH: env.PATH }) !== null;
    if (!executable) return unrunnable(command.cmd, "not found", 127);
    try {
      const process = Bun.spawn([command.cmd, ...command.args], {
        cwd: command.cwd === "" ? "/" : command.cwd,
        env,
        detached: true,
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      });
      const tracked = { process, tag, command };
      this.#tracked.set(process.pid, tracked);
      void process.exited.then(() => this.#tracked.delete(process.pid));
      return tracked;
    } catch {
      return unrunnable(command.cmd, "not executable", 126);
    }
  }
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
