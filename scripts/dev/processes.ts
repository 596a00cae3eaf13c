// The programs of a development platform: started apart from the terminal, known by pid and start time,
// and, should their records be lost, by the log that they write to.

import { closeSync, openSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import {
  hasEnded,
  isAlive,
  type ProcessIdentity,
  processStartTime,
  signal,
  writersBelow,
} from "./process-table.ts";
import { GaveUp, waitFor } from "./run.ts";

/** From SIGKILL to the end; the kernel may have memory to free. */
const KILL_TIMEOUT_MS = 10_000;
/** One that runs answers within milliseconds, on a busy machine within a second or two. */
const MUTE_TIMEOUT_MS = 5_000;

export interface ProcessRecord extends ProcessIdentity {
  readonly name: string;
  /** Digest of what it was started with. */
  readonly settings: string;
}

export interface StartOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Variables of this start only: they are no settings. */
  readonly envOnce?: Readonly<Record<string, string>>;
}

/** A server: how it is started and stopped, and what shows that it works. */
export interface Program extends StartOptions {
  readonly stop: StopOptions;
  /** Throws unless it answers; GaveUp when there is no hope. */
  readonly answers: () => Promise<void>;
}

export interface StopOptions {
  readonly signal: NodeJS.Signals;
  readonly graceMs: number;
}

/** Processes of one platform; their records lie in `<dir>/processes`, their output in `<dir>/logs`. */
export class Processes {
  readonly #dir: string;
  readonly #readyTimeoutMs: number | undefined;
  readonly #muteTimeoutMs: number;

  /** `readyTimeoutMs`: of a program that was started, until it answers, where that takes long; else 30 s. */
  constructor(dir: string, options: { readyTimeoutMs?: number; muteTimeoutMs?: number } = {}) {
    this.#dir = dir;
    this.#readyTimeoutMs = options.readyTimeoutMs;
    this.#muteTimeoutMs = options.muteTimeoutMs ?? MUTE_TIMEOUT_MS;
  }

  logPath(name: string): string {
    return join(this.#dir, "logs", `${name}.log`);
  }

  /**
   * Starts the program in a session of its own, so that Ctrl-C in the terminal reaches the platform
   * first and it can stop its parts in order. Output is appended to the log.
   */
  async start(options: StartOptions): Promise<ProcessRecord> {
    const { name, command, env, envOnce, cwd } = options;
    await mkdir(join(this.#dir, "logs"), { recursive: true, mode: 0o700 });
    const log = openSync(this.logPath(name), "a", 0o600);
    const child = Bun.spawn([...command], {
      env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "/", ...env, ...envOnce },
      ...(cwd ? { cwd } : {}),
      stdio: ["ignore", log, log],
      detached: true,
    });
    child.unref();
    // Left open, it would keep the platform's directory from being unmounted.
    closeSync(log);
    return await this.enter(child.pid, options);
  }

  /** Takes a process that runs already for the program of that name. Throws when it has ended. */
  async enter(pid: number, options: StartOptions): Promise<ProcessRecord> {
    const { name } = options;
    const startTime = await processStartTime(pid);
    if (startTime === null) throw new Error(await this.explainExit(name));
    const record = { name, pid, startTime, settings: settingsOf(options) };
    const path = this.#recordPath(name);
    await mkdir(join(this.#dir, "processes"), { recursive: true, mode: 0o700 });
    await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${path}.new`, path);
    return record;
  }

  /**
   * Has the program run with these settings and waits until it answers. One that does so already is left
   * alone. One that has other settings or is mute, and what is left of one that died, is stopped first;
   * `prepare` is called between. True: it was started. Throws a sentence when it ends by itself or does
   * not answer.
   */
  async ensure(program: Program, prepare: () => Promise<void> = async () => {}): Promise<boolean> {
    const { name } = program;
    if (await this.#works(program)) return false;
    await this.stop(name, program.stop);
    await prepare();
    await this.start(program);
    const attempt = async () => {
      try {
        await program.answers();
      } catch (error) {
        if (!(await this.running(name))) throw new GaveUp(await this.explainExit(name));
        throw error;
      }
    };
    await waitFor(`${name} (log: ${this.logPath(name)})`, attempt, this.#readyTimeoutMs);
    return true;
  }

  async #works(program: Program): Promise<boolean> {
    const record = await this.running(program.name);
    if (record?.settings !== settingsOf(program)) return false;
    try {
      await waitFor(program.name, program.answers, this.#muteTimeoutMs);
      return true;
    } catch {
      return false;
    }
  }

  /** The record of a program that was started and still runs, or null. */
  async running(name: string): Promise<ProcessRecord | null> {
    const text = await readFile(this.#recordPath(name), "utf8").catch(() => "");
    const record = parseRecord(text);
    return record !== null && (await isAlive(record)) ? record : null;
  }

  /** Names of all programs with a record, running or not, and of those that run without. */
  async names(): Promise<string[]> {
    const files = await readdir(join(this.#dir, "processes")).catch(() => []);
    const recorded = files
      .filter((f) => f.endsWith(".json"))
      .map((f) => f.slice(0, -".json".length));
    const writing = (await writersBelow(join(this.#dir, "logs"))).map(({ file }) => nameOf(file));
    return [...new Set([...recorded, ...writing])].sort();
  }

  /**
   * Ends the program and all that writes to its log: sends the signal, waits, and kills after
   * `graceMs`. Nothing happens when nothing runs. Throws when even SIGKILL does not end one.
   */
  async stop(name: string, options: StopOptions): Promise<void> {
    const record = await this.running(name);
    if (record) await end(name, [record], options);
    // Children of one that was killed, and programs whose record is lost.
    await end(name, await this.writers(name), options);
    await rm(this.#recordPath(name), { force: true });
  }

  /** All that writes to the program's log: itself, children, and what of them outlived it. */
  async writers(name: string): Promise<ProcessIdentity[]> {
    const found = await writersBelow(join(this.#dir, "logs"));
    return found.filter(({ file }) => nameOf(file) === name);
  }

  /** True once the process is gone, false when it still runs after `timeoutMs`. */
  ended(record: ProcessIdentity, timeoutMs: number): Promise<boolean> {
    return hasEnded(record, timeoutMs);
  }

  /** One sentence on a program that ended by itself: what it said last. */
  async explainExit(name: string): Promise<string> {
    const log = await readFile(this.logPath(name), "utf8").catch(() => "");
    const lines = log.trimEnd().split("\n").slice(-20);
    const last = lines.findLast((line) => /^Cannot |FATAL:/.test(line)) ?? lines.at(-1) ?? "";
    return `${name} ended: ${last.trim() || "it said nothing"} (log: ${this.logPath(name)})`;
  }

  #recordPath(name: string): string {
    return join(this.#dir, "processes", `${name}.json`);
  }
}

async function end(
  name: string,
  processes: readonly ProcessIdentity[],
  { signal: first, graceMs }: StopOptions,
): Promise<void> {
  await Promise.all(processes.map((one) => signal(one, first)));
  const deadline = performance.now() + graceMs;
  for (const one of processes) {
    if (await hasEnded(one, deadline - performance.now())) continue;
    await signal(one, "SIGKILL");
    if (!(await hasEnded(one, KILL_TIMEOUT_MS))) {
      throw new Error(`${name} (pid ${one.pid}) does not end, not even by SIGKILL`);
    }
  }
}

function settingsOf({ command, env, cwd }: StartOptions): string {
  const text = JSON.stringify([command, Object.entries(env).sort(), cwd]);
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

/** Null: what is there is no record, as after a crash of the machine. */
function parseRecord(text: string): ProcessRecord | null {
  try {
    const record = JSON.parse(text);
    return Number.isSafeInteger(record?.pid) && record.pid > 0 ? record : null;
  } catch {
    return null;
  }
}

/** A deleted file is listed with a note. */
function nameOf(logFile: string): string {
  return basename(logFile.replace(/ \(deleted\)$/, "")).replace(/\.log$/, "");
}
