// Starts again what died of a running platform. Two programs do it: the supervisor looks after everything,
// the guard after the supervisor, and the supervisor after the guard.

import { join } from "node:path";
import { findDevDir } from "./dev-dir.ts";
import { tryLockPlatform } from "./operation-lock.ts";
import { attachPlatform } from "./platform.ts";
import type { Program } from "./processes.ts";
import { startAgent, startControlPlane, startPostgresOf, startRedisOf } from "./programs.ts";
import { messageOf } from "./run.ts";
import { type Platform, REPOSITORY } from "./settings.ts";

const LOOK_EVERY_MS = 500;
/** Between two attempts at a program that does not stay up; doubled each time. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 30_000;
/** What ran this long is none of those. */
const STEADY_MS = 60_000;

export type Supervisor = "supervisor" | "guard";

/** What each looks after, in the order of starting. */
const WARDS = {
  supervisor: ["guard", "postgres", "redis", "cp", "agent"],
  guard: ["supervisor"],
} as const;
type Ward = (typeof WARDS)[Supervisor][number];

const STARTS: Readonly<Record<Ward, (platform: Platform) => Promise<boolean>>> = {
  supervisor: (platform) => startSupervisor(platform, "supervisor"),
  guard: (platform) => startSupervisor(platform, "guard"),
  postgres: startPostgresOf,
  redis: startRedisOf,
  cp: startControlPlane,
  agent: (platform) =>
    startAgent(platform, () => Promise.reject(new Error("its host-credentials.json is gone"))),
};

/** Has the supervisor or guard run. True: it was started. */
export async function startSupervisor(platform: Platform, name: Supervisor): Promise<boolean> {
  const { dir, processes } = platform;
  const command = [process.execPath, join(REPOSITORY, "scripts/dev/main.ts"), name];
  const program: Program = {
    ...{ name, command, env: { DEV_DIR: dir.home }, cwd: REPOSITORY },
    stop: { signal: "SIGTERM", graceMs: 10_000 },
    answers: async () => {},
  };
  return await processes.ensure(program);
}

/**
 * Looks after its wards for as long as the platform is there; a signal ends it at once, and what it had
 * just started is found by whoever stops the platform.
 */
export async function supervise(home: string, name: Supervisor): Promise<void> {
  const backoffs = new Map(WARDS[name].map((ward) => [ward, new Backoff()]));
  while ((await findDevDir(home)) !== null) {
    for (const [ward, backoff] of backoffs) await lookAfter({ home, name, ward, backoff });
    await Bun.sleep(LOOK_EVERY_MS);
  }
}

async function lookAfter(o: {
  home: string;
  name: Supervisor;
  ward: Ward;
  backoff: Backoff;
}): Promise<void> {
  const { home, name, ward, backoff } = o;
  const platform = await attachPlatform(home).catch(() => null);
  if (platform === null || (await platform.processes.running(ward)) !== null) return;
  if (!backoff.isDue(performance.now())) return;
  // Whoever has it starts or stops the platform.
  using lock = tryLockPlatform(platform.dir.path, name);
  if (lock === null) return;
  backoff.attempted(performance.now());
  try {
    if (await STARTS[ward](platform)) say(`${ward} had ended and was started again`);
  } catch (error) {
    say(`${ward} can't be started again: ${messageOf(error)}`);
  }
}

/** When a program that died is started again: the first time at once. */
export class Backoff {
  #waitMs = 0;
  #lastMs = Number.NEGATIVE_INFINITY;

  isDue(nowMs: number): boolean {
    return nowMs >= this.#lastMs + this.#waitMs;
  }

  attempted(nowMs: number): void {
    const isSteady = nowMs - this.#lastMs > this.#waitMs + STEADY_MS;
    this.#waitMs = isSteady ? RETRY_MIN_MS : Math.min(2 * this.#waitMs, RETRY_MAX_MS);
    this.#lastMs = nowMs;
  }
}

function say(line: string): void {
  console.log(`${new Date().toISOString()} ${line}`);
}
