// One process that envd started: its output, its input, its end.
import { closeSync, readdirSync, readFileSync } from "node:fs";
import { EnvdError, errnoOf } from "../errors.ts";
import {
  AFTER_EXIT_BYTES_MIN,
  AFTER_EXIT_MS_MAX,
  AFTER_EXIT_QUIET_MS,
  SCROLLBACK_BYTES_MAX,
} from "../limits.ts";
import { Input } from "./input.ts";
import type { Launched } from "./launcher.ts";
import { Output, type OutputKind } from "./output.ts";

export interface Command {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly envs: Readonly<Record<string, string>>;
  readonly cwd: string | null;
}

/** Processes looked at between two turns of everybody else; each costs a file of /proc. */
const SCAN_BATCH = 32;

/**
 * A running or ended process. Its output is read from the first moment on, so a reader must be
 * subscribed before `run` is called to see all of it.
 *
 * The end event waits for the process and for its output. A background child may hold stdout open
 * for ever, so after the process's own exit the output is taken as complete once it is silent for a
 * moment (see limits.ts); what such a child prints later is read and dropped, so that it neither
 * blocks nor dies of SIGPIPE.
 */
export class GuestProcess {
  readonly pid: number;
  readonly command: Command;
  readonly tag: string | null;
  readonly isTerminal: boolean;
  readonly output: Output;
  readonly input: Input;
  /** Resolves after the end event. */
  readonly ended: Promise<void>;
  readonly #launched: Launched;
  readonly #end = Promise.withResolvers<void>();
  #deadline: ReturnType<typeof setTimeout> | null = null;
  #isOutOfTime = false;

  constructor(launched: Launched, command: Command, tag: string | null) {
    const { fds } = launched;
    this.#launched = launched;
    this.pid = launched.pid;
    this.command = command;
    this.tag = tag;
    this.isTerminal = fds.kind === "terminal";
    this.output = new Output({ scrollbackBytesMax: this.isTerminal ? SCROLLBACK_BYTES_MAX : 0 });
    this.input =
      fds.kind === "terminal"
        ? new Input(fds.master, { closesFd: false })
        : new Input(fds.stdin, { closesFd: true });
    this.ended = this.#end.promise;
  }

  get isEnded(): boolean {
    return this.output.end !== null;
  }

  /** The master of the process's terminal; failed_precondition when it has none. */
  get master(): number {
    const { fds } = this.#launched;
    if (fds.kind === "terminal") return fds.master;
    throw new EnvdError("failed_precondition", `process ${this.pid} has no terminal`);
  }

  /** Begins to read. Called once. */
  run(): void {
    const { fds } = this.#launched;
    const drains =
      fds.kind === "terminal"
        ? [new Drain(fds.master, "pty", this.output)]
        : [
            new Drain(fds.stdout, "stdout", this.output),
            new Drain(fds.stderr, "stderr", this.output),
          ];
    void this.#finish(drains);
  }

  /** Ends the process group, and what the process put into other groups of its session. */
  async kill(): Promise<void> {
    if (this.isEnded) return;
    signalGroup(this.pid, "SIGKILL");
    await killSession(this.pid);
  }

  /** Asks the process group to end. */
  terminate(): void {
    if (!this.isEnded) signalGroup(this.pid, "SIGTERM");
  }

  /** Kills the process when it still runs after that time. */
  killAfter(timeoutMs: number): void {
    this.#deadline = setTimeout(() => {
      this.#isOutOfTime = true;
      void this.kill();
    }, timeoutMs);
  }

  /** Whether its time ran out before it ended. */
  get isOutOfTime(): boolean {
    return this.#isOutOfTime;
  }

  async #finish(drains: Drain[]): Promise<void> {
    const exit = await this.#launched.exited;
    if (this.#deadline !== null) clearTimeout(this.#deadline);
    for (const drain of drains) drain.noteExit();
    await Promise.all(drains.map((drain) => drain.complete));
    this.input.close();
    this.output.finish({ kind: "end", exitCode: exit.code, signal: exit.signal });
    this.#end.resolve();
    await Promise.all(drains.map((drain) => drain.closed));
    const { fds } = this.#launched;
    for (const fd of fds.kind === "terminal" ? [fds.master] : [fds.stdout, fds.stderr]) {
      closeSync(fd);
    }
  }
}

/** Reads one descriptor to its end and appends to the output what belongs to the process. */
class Drain {
  /** Resolves when nothing more of the process's own can come. */
  readonly complete: Promise<void>;
  /** Resolves at the end of file. */
  readonly closed: Promise<void>;
  readonly #kind: OutputKind;
  readonly #output: Output;
  readonly #completion = Promise.withResolvers<void>();
  #isComplete = false;
  #isReading = false;
  #exitedAt: number | null = null;
  #bytesSinceExit = 0;
  #quiet: ReturnType<typeof setTimeout> | null = null;

  constructor(fd: number, kind: OutputKind, output: Output) {
    this.#kind = kind;
    this.#output = output;
    this.complete = this.#completion.promise;
    this.closed = this.#run(fd);
  }

  noteExit(): void {
    this.#exitedAt = performance.now();
    if (this.#isReading) this.#expectSilence();
  }

  async #run(fd: number): Promise<void> {
    const reader = readerOf(fd);
    try {
      for (;;) {
        if (!this.#isComplete) await this.#output.room();
        const chunk = await this.#read(reader);
        if (chunk === null) break;
        this.#take(chunk);
      }
    } finally {
      this.#conclude();
    }
  }

  async #read(reader: ReturnType<typeof readerOf>): Promise<Uint8Array | null> {
    this.#isReading = true;
    if (this.#exitedAt !== null && !this.#isComplete) this.#expectSilence();
    const chunk = await readChunk(reader);
    this.#isReading = false;
    if (this.#quiet !== null) clearTimeout(this.#quiet);
    return chunk;
  }

  #take(chunk: Uint8Array): void {
    if (this.#isComplete) return;
    this.#output.append(this.#kind, chunk);
    if (this.#exitedAt === null) return;
    this.#bytesSinceExit += chunk.length;
    const isPast = performance.now() - this.#exitedAt > AFTER_EXIT_MS_MAX;
    if (isPast && this.#bytesSinceExit > AFTER_EXIT_BYTES_MIN) this.#conclude();
  }

  #expectSilence(): void {
    this.#quiet = setTimeout(() => this.#conclude(), AFTER_EXIT_QUIET_MS);
  }

  #conclude(): void {
    this.#isComplete = true;
    this.#completion.resolve();
  }
}

function readerOf(fd: number) {
  return Bun.file(fd).stream().getReader();
}

/** The next piece, or null at the end. A terminal whose last user has gone reads as EIO. */
async function readChunk(reader: ReturnType<typeof readerOf>): Promise<Uint8Array | null> {
  try {
    const { value, done } = await reader.read();
    return done ? null : value;
  } catch (error) {
    if (errnoOf(error) === "EIO") return null;
    throw error;
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  signalOne(-pid, signal);
}

function signalOne(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errnoOf(error) !== "ESRCH") throw error;
  }
}

/**
 * Ends the processes of the session, found in /proc: job control puts them into groups of their own.
 * After a fork bomb there are thousands to look at, so others get their turn in between.
 */
async function killSession(session: number): Promise<void> {
  let seen = 0;
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    if (sessionOf(name) === session) signalOne(Number(name), "SIGKILL");
    if (++seen % SCAN_BATCH === 0) await Bun.sleep(0);
  }
}

function sessionOf(pid: string): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name before the last parenthesis may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return Number(fields[3]);
  } catch (error) {
    if (errnoOf(error) !== null) return null;
    throw error;
  }
}
