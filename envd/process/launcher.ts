// Starts programs through native/guest/launch.c, which takes the user, the limits and the terminal.
import { closeSync, constants, openSync } from "node:fs";
import type { Subprocess } from "bun";
import { EnvdError, errnoOf } from "../errors.ts";
import { systemBytes } from "../file-names.ts";
import { LAUNCH_READY_MS_MAX } from "../limits.ts";
import type { User } from "../users.ts";

/** Descriptors that launch.c puts its pipes on. */
const STDIN_WRITE_FD = 10;
const STDOUT_READ_FD = 12;
const STDERR_READ_FD = 14;

/** Out of memory, a process goes before envd and the init do (proc(5), oom_score_adj). */
const OOM_SCORE_ADJ = 100;

/** Most short commands are over by then, even where the processor is emulated. */
const WARM_UP_DELAY_MS = 50;

export interface LaunchRequest {
  readonly user: User;
  readonly cwd: string;
  readonly command: readonly string[];
  /** `NAME=value` */
  readonly variables: readonly string[];
  readonly terminal: TerminalSize | null;
  /** The cgroup.procs file of the cgroup to run in, or null to stay in envd's. */
  readonly cgroup: string | null;
}

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export interface Exit {
  /** -1 when a signal ended the process. */
  readonly code: number;
  readonly signal: string | null;
}

/** envd's ends of a process. Who takes it closes the descriptors. */
export interface Launched {
  readonly pid: number;
  readonly fds: PipeFds | TerminalFds;
  readonly exited: Promise<Exit>;
}

export interface PipeFds {
  readonly kind: "pipes";
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

export interface TerminalFds {
  readonly kind: "terminal";
  readonly master: number;
}

type LaunchProcess = Subprocess<"pipe", "pipe", "inherit">;

interface Ready {
  readonly process: LaunchProcess;
  readonly fds: PipeFds | TerminalFds;
}

/**
 * Starts processes. One launcher for pipes is always kept ready, because starting it costs more than
 * starting the command: the request then only has to be written.
 */
export class Launcher {
  readonly #programsDir: string;
  #spare: Promise<Ready> | null = null;
  #warmUpTimer: ReturnType<typeof setTimeout> | null = null;
  #isClosed = false;

  constructor(programsDir: string) {
    this.#programsDir = programsDir;
  }

  /** Makes the spare launcher before anybody waits for it. */
  warmUp(): void {
    if (this.#spare !== null || this.#isClosed) return;
    this.#spare = this.#prepare(null);
    // The start that takes the spare reports this; until then it is nobody's failure.
    this.#spare.catch(() => {});
  }

  /** The processor belongs to the command first: a short one is over before the next launcher starts. */
  #warmUpSoon(): void {
    this.#warmUpTimer ??= setTimeout(() => {
      this.#warmUpTimer = null;
      this.warmUp();
    }, WARM_UP_DELAY_MS);
  }

  /** Starts the command. A command that cannot be executed ends with 126 or 127, not with a throw. */
  async start(request: LaunchRequest): Promise<Launched> {
    const { process, fds } = await this.#take(request.terminal);
    process.stdin.write(encodeRequest(request));
    // The launcher reads to the end of file; a launcher that died shows by its exit status.
    void Promise.resolve(process.stdin.end()).catch(() => {});
    if (request.terminal === null) this.#warmUpSoon();
    return { pid: process.pid, fds, exited: exitOf(process) };
  }

  /** Sets the size of the terminal; its foreground process group gets SIGWINCH. */
  async resize(master: number, size: TerminalSize): Promise<void> {
    const program = `${this.#programsDir}/winsize`;
    const child = Bun.spawn([program, String(size.columns), String(size.rows)], {
      stdio: [master, "ignore", "inherit"],
    });
    if ((await child.exited) !== 0) throw new EnvdError("internal", "terminal: cannot be resized");
  }

  /** Lets the spare launcher go. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const spare = await this.#spare?.catch(() => null);
    this.#spare = null;
    if (!spare) return;
    closeFds(spare.fds);
    void spare.process.stdin.end();
    await spare.process.exited;
  }

  async #take(terminal: TerminalSize | null): Promise<Ready> {
    const spare = terminal === null ? this.#spare : null;
    if (spare === null) return this.#prepare(terminal);
    this.#spare = null;
    const ready = await spare;
    if (ready.process.exitCode === null && ready.process.signalCode === null) return ready;
    closeFds(ready.fds);
    return this.#prepare(null);
  }

  async #prepare(terminal: TerminalSize | null): Promise<Ready> {
    const flags =
      terminal === null ? [] : ["--terminal", String(terminal.columns), String(terminal.rows)];
    const master = terminal === null ? null : openMaster();
    try {
      const process = Bun.spawn([`${this.#programsDir}/launch`, ...flags], {
        stdio: ["pipe", "pipe", "inherit", ...(master === null ? [] : [master])],
        env: {},
        cwd: "/",
      }) as LaunchProcess;
      await ready(process);
      const fds: Ready["fds"] =
        master === null ? openPipes(process.pid) : { kind: "terminal", master };
      return { process, fds };
    } catch (error) {
      if (master !== null) closeSync(master);
      throw launchError(error);
    }
  }
}

/** Closes envd's ends. */
function closeFds(fds: PipeFds | TerminalFds): void {
  const all = fds.kind === "pipes" ? [fds.stdin, fds.stdout, fds.stderr] : [fds.master];
  for (const fd of all) closeSync(fd);
}

/** A master that cannot become envd's own controlling terminal. */
function openMaster(): number {
  return openSync("/dev/ptmx", constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
}

function openPipes(pid: number): PipeFds {
  const open = (fd: number, flags: number) =>
    openSync(`/proc/${pid}/fd/${fd}`, flags | constants.O_NONBLOCK);
  return {
    kind: "pipes",
    stdin: open(STDIN_WRITE_FD, constants.O_WRONLY),
    stdout: open(STDOUT_READ_FD, constants.O_RDONLY),
    stderr: open(STDERR_READ_FD, constants.O_RDONLY),
  };
}

async function ready(process: LaunchProcess): Promise<void> {
  const reader = process.stdout.getReader();
  const timer = setTimeout(() => process.kill("SIGKILL"), LAUNCH_READY_MS_MAX);
  const { value } = await reader.read();
  clearTimeout(timer);
  void reader.cancel();
  if (!value) throw new Error(`launch ended with status ${await process.exited}`);
}

async function exitOf(process: LaunchProcess): Promise<Exit> {
  await process.exited;
  const signal = process.signalCode === null ? null : String(process.signalCode);
  return { code: signal === null ? (process.exitCode ?? -1) : -1, signal };
}

function launchError(error: unknown): unknown {
  switch (errnoOf(error)) {
    case "EAGAIN":
    case "ENOMEM":
    case "EMFILE":
    case "ENFILE":
    case "ENOSPC":
      return new EnvdError("resource_exhausted", "the guest is out of processes or memory", {
        cause: error,
      });
    default:
      return error;
  }
}

/** The request of launch.c: NUL-terminated fields. */
function encodeRequest(request: LaunchRequest): Uint8Array {
  const { user } = request;
  const { command, variables } = request;
  const fields = [user.uid, user.gid, user.groups.join(","), OOM_SCORE_ADJ, request.cgroup ?? ""];
  return Buffer.concat([
    fieldsOf(fields),
    systemBytes(`${request.cwd}\0`),
    fieldsOf([command.length, ...command, variables.length, ...variables]),
  ]);
}

function fieldsOf(fields: readonly (string | number)[]): Buffer {
  return Buffer.from(`${fields.join("\0")}\0`);
}
