// All processes that envd started: those that run, and for a while those that ended.
import { EnvdError } from "../errors.ts";
import { END_GRACE_MS, ENDED_KEPT_MAX, ENDED_KEPT_MS, PROCESSES_MAX } from "../limits.ts";
import { type Command, GuestProcess } from "./guest-process.ts";
import type { Launcher, LaunchRequest } from "./launcher.ts";
import type { Subscription } from "./output.ts";

export type Selector = { readonly pid: number } | { readonly tag: string };

/** The processes by pid. A tag names the process that was started with it last. */
export class Registry {
  readonly #launcher: Launcher;
  readonly #running = new Map<number, GuestProcess>();
  /** In the order they ended. */
  readonly #ended = new Set<GuestProcess>();
  #startingCount = 0;

  constructor(launcher: Launcher) {
    this.#launcher = launcher;
  }

  get running(): GuestProcess[] {
    return [...this.#running.values()];
  }

  /**
   * Starts a process with a reader that sees all of its output. resource_exhausted when too many run
   * or the guest can start no more.
   */
  async start(options: {
    request: LaunchRequest;
    command: Command;
    tag: string | null;
  }): Promise<{ process: GuestProcess; subscription: Subscription }> {
    if (this.#running.size + this.#startingCount >= PROCESSES_MAX) {
      throw new EnvdError("resource_exhausted", `${PROCESSES_MAX} processes run already`);
    }
    this.#startingCount++;
    try {
      const launched = await this.#launcher.start(options.request);
      const process = new GuestProcess(launched, options.command, options.tag);
      const subscription = process.output.subscribe();
      this.#running.set(process.pid, process);
      process.run();
      void process.ended.then(() => this.#retire(process));
      return { process, subscription };
    } finally {
      this.#startingCount--;
    }
  }

  /** The running process; not_found when there is none. */
  findRunning(selector: Selector): GuestProcess {
    const process = lastMatch(this.#running.values(), selector);
    if (process === null) throw notFound(selector);
    return process;
  }

  /** The process, running or recently ended; not_found when there is none. */
  find(selector: Selector): GuestProcess {
    const process =
      lastMatch(this.#running.values(), selector) ?? lastMatch(this.#ended.values(), selector);
    if (process === null) throw notFound(selector);
    return process;
  }

  /** Ends all processes, those that ignore SIGTERM by SIGKILL after a grace time. */
  async endAll(): Promise<void> {
    const { running } = this;
    for (const process of running) process.terminate();
    const grace = Bun.sleep(END_GRACE_MS);
    await Promise.race([Promise.all(running.map((process) => process.ended)), grace]);
    await Promise.all(running.map((process) => process.kill()));
  }

  #retire(process: GuestProcess): void {
    // The kernel may have given the pid to a process that started since.
    if (this.#running.get(process.pid) === process) this.#running.delete(process.pid);
    this.#ended.add(process);
    if (this.#ended.size > ENDED_KEPT_MAX) {
      const [oldest] = this.#ended;
      if (oldest) this.#ended.delete(oldest);
    }
    setTimeout(() => this.#ended.delete(process), ENDED_KEPT_MS).unref();
  }
}

function lastMatch(processes: Iterable<GuestProcess>, selector: Selector): GuestProcess | null {
  let match: GuestProcess | null = null;
  for (const process of processes) {
    if ("pid" in selector ? process.pid === selector.pid : process.tag === selector.tag) {
      match = process;
    }
  }
  return match;
}

function notFound(selector: Selector): EnvdError {
  const name = "pid" in selector ? `with pid ${selector.pid}` : `with tag '${selector.tag}'`;
  return new EnvdError("not_found", `process ${name} does not exist`);
}
