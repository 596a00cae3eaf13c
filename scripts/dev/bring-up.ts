// From nothing, or from what is left, to a platform that has shown that it works.

import { checkHome, findDevDir, isStale, locateDevDir } from "./dev-dir.ts";
import { type FirstCapsule, runFirstCapsule } from "./first-capsule.ts";
import { lockPlatform } from "./operation-lock.ts";
import { type PlatformOptions, startPlatform } from "./platform.ts";
import { Processes } from "./processes.ts";
import { messageOf } from "./run.ts";
import type { Platform } from "./settings.ts";
import { stopPlatform, stopSupervisors } from "./stop-platform.ts";
import { startSupervisor } from "./supervise.ts";
import { type Warmth, warmCounts, warmUp } from "./warm-up.ts";

export interface BroughtUp {
  readonly platform: Platform;
  /** Null: all ran already. */
  readonly first: FirstCapsule | null;
  /** Of creates like the first capsule's. */
  readonly warmth: Warmth;
}

/**
 * Starts what does not run, proves by a first capsule that it works, and has it supervised. On failure
 * nothing that is older than this call is touched: what ran goes on, and if nothing did, what was started
 * is stopped and its capsules paused. Throws the reason; what can't be stopped either is said by
 * `progress`.
 */
export async function bringUp(
  options: PlatformOptions,
  proof: (platform: Platform) => Promise<FirstCapsule> = runFirstCapsule,
): Promise<BroughtUp> {
  const { home, progress } = options;
  await checkHome(home);
  const dir = await locateDevDir(home);
  using _lock = await lockPlatform(dir.path, {
    name: "make dev-up",
    waiting: (holder) => progress(`waiting for ${holder}`),
  });
  if (await isStale(dir)) {
    progress("removing what is left of a platform whose directory is gone");
    await stopPlatform(home, "destroy");
  }
  const ranBefore = await isAnythingRunning(home);
  try {
    const platform = await startPlatform(options);
    const { first, warmth } = platform.hasStarted
      ? await prove(options, platform, proof)
      : { first: null, warmth: "warm" as const };
    // Of the code and settings of this start.
    await stopSupervisors(platform.processes);
    await startSupervisor(platform, "supervisor");
    await startSupervisor(platform, "guard");
    return { platform, first, warmth };
  } catch (error) {
    if (!ranBefore) {
      await stopPlatform(home, "pause").catch((failure) => console.error(messageOf(failure)));
    }
    throw error;
  }
}

/** Shows that the platform works, and has it ready for the next create where that is a matter of seconds. */
async function prove(
  { progress }: PlatformOptions,
  platform: Platform,
  proof: (platform: Platform) => Promise<FirstCapsule>,
): Promise<Omit<BroughtUp, "platform">> {
  progress("running a first capsule");
  const before = await warmCounts(platform);
  const first = await proof(platform);
  return { first, warmth: await warmUp(before, first.createMs, () => warmCounts(platform)) };
}

async function isAnythingRunning(home: string): Promise<boolean> {
  const dir = await findDevDir(home);
  if (dir === null) return false;
  const processes = new Processes(dir.path);
  const names = await processes.names();
  const running = await Promise.all(names.map((name) => processes.running(name)));
  return running.some((record) => record !== null);
}
