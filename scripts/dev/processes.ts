// The programs of a development platform: started apart from the terminal, known by pid and start time.

import { closeSync, openSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

export interface ProcessRecord {
  readonly name: string;
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: with the pid it names one process for ever (proc(5)). */
  readonly startTime: string;
}

export interface StartOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Processes of one platform; their records lie in `<dir>/processes`, their output in `<dir>/logs`. */
export class Processes {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  logPath(name: string): string {
    return join(this.#dir, "logs", `${name}.log`);
  }

  /**
   * Starts the program in a session of its own, so that Ctrl-C in the terminal reaches the platform
   * first and it can stop its parts in order. Output is appended to the log.
   */
  async start(options: StartOptions): Promise<ProcessRecord> {
    await mkdir(join(this.#dir, "logs"), { recursive: true });
    await mkdir(join(this.#dir, "processes"), { recursive: true });
    const log = openSync(this.logPath(options.name), "a", 0o640);
    const child = Bun.spawn([...options.command], {
      env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "/", ...options.env },
      ...(options.cwd ? { cwd: options.cwd } : {}),
      stdio: ["ignore", log, log],
      detached: true,
    });
    child.unref();
    // Left open, it would keep the platform's directory from being unmounted.
    closeSync(log);

    const startTime = await processStartTime(child.pid);
    if (startTime === null) throw new Error(await this.explainExit(options.name));
    const record = { name: options.name, pid: child.pid, startTime };
    const path = join(this.#dir, "processes", `${options.name}.json`);
    await writeFile(`${path}.new`, JSON.stringify(record));
    await rename(`${path}.new`, path);
    return record;
  }

  /** The record of a program that was started and still runs, or null. */
  async running(name: string): Promise<ProcessRecord | null> {
    const text = await readFile(join(this.#dir, "processes", `${name}.json`), "utf8").catch(
      () => null,
    );
    if (text === null) return null;
    const record = JSON.parse(text) as ProcessRecord;
    return (await processStartTime(record.pid)) === record.startTime ? record : null;
  }

  /** Names of all programs with a record, running or not. */
  async names(): Promise<string[]> {
    const files = await readdir(join(this.#dir, "processes")).catch(() => []);
    return files.filter((f) => f.endsWith(".json")).map((f) => f.slice(0, -".json".length));
  }

  /** Sends the signal, waits, and kills after `graceMs`. Nothing happens when it does not run. */
  async stop(name: string, options: { signal: NodeJS.Signals; graceMs: number }): Promise<void> {
    const record = await this.running(name);
    if (record) {
      process.kill(record.pid, options.signal);
      if (!(await this.ended(record, options.graceMs))) {
        process.kill(record.pid, "SIGKILL");
        await this.ended(record, 5_000);
      }
    }
    await rm(join(this.#dir, "processes", `${name}.json`), { force: true });
  }

  /** True once the process is gone, false when it still runs after `timeoutMs`. */
  async ended(record: ProcessRecord, timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while ((await processStartTime(record.pid)) === record.startTime) {
      if (Date.now() > deadline) return false;
      await Bun.sleep(20);
    }
    return true;
  }

  /** One sentence on a program that ended by itself, with the end of its log. */
  async explainExit(name: string): Promise<string> {
    const log = await readFile(this.logPath(name), "utf8").catch(() => "");
    const tail = log.trimEnd().split("\n").slice(-5).join("\n  ");
    return `${name} ended; the end of ${this.logPath(name)}:\n  ${tail}`;
  }
}

/** Start time of a live process in clock ticks since boot, null when there is none (or a zombie). */
async function processStartTime(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  if (stat === null) return null;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? null : (fields[19] ?? null);
}
