// A VMM and its keeper, seen from the agent that started them or from one that came later.

import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { VmmError, type VmmExit, type VmmProcess } from "../vmm/vmm.ts";
import { connectInDirectory } from "./connect-in-directory.ts";
import { isAlive, type ProcessIdentity, signalProcess } from "./process-identity.ts";
import {
  type KeeperRecord,
  readKeeperRecord,
  readVmmExit,
  readVmmRecord,
  type VmmRecord,
} from "./run-records.ts";

/** What a VMM gets between SIGTERM and SIGKILL. QEMU needs some milliseconds to close its disk. */
export const GRACE_MS = 2000;
// After the grace: SIGKILL takes as long as the kernel needs to free the guest's memory.
const KILL_TIMEOUT_MS = GRACE_MS + 10_000;
// For what the kernel does by itself: end the VMM of a killed keeper, say.
const GONE_TIMEOUT_MS = 10_000;
const GONE_POLL_MS = 5;
const GONE_POLL_MAX_MS = 1000;

const UNKNOWN = { cause: "vmm", reason: "unknown", status: -1 } as const;

export class KeptProcess implements VmmProcess {
  readonly pid: number;
  readonly startTime: string;
  readonly keeperPid: number;
  readonly keeperStartTime: string;
  readonly exited: Promise<VmmExit>;
  readonly #link: Socket;

  private constructor(record: VmmRecord, runDir: string, link: Socket) {
    this.pid = record.pid;
    this.startTime = record.startTime;
    this.keeperPid = record.keeperPid;
    this.keeperStartTime = record.keeperStartTime;
    this.#link = link;
    this.exited = watchExit(link, record, runDir);
  }

  /** Null if the VMM or its keeper has ended; then neither is left. Throws VmmError. */
  static async attach(runDir: string): Promise<KeptProcess | null> {
    const record = await readVmmRecord(runDir);
    if (record === null) return null;
    try {
      const link = await connectInDirectory(runDir, "keeper.sock");
      return new KeptProcess(record, runDir, link);
    } catch {
      await awaitGone(keeperOf(record));
      await awaitGone(record);
      return null;
    }
  }

  async kill(): Promise<VmmExit> {
    if (!this.#link.destroyed) this.#link.write("T");
    const exit = await within(this.exited, KILL_TIMEOUT_MS);
    if (exit !== null) return exit;
    // Its VMM goes with it, by the kernel.
    signalProcess(keeperOf(this), "SIGKILL");
    const late = await within(this.exited, GONE_TIMEOUT_MS);
    if (late === null) throw new VmmError(`VMM ${this.pid} does not end`);
    return late;
  }
}

/** A process that was just started, once `act` has done its part; if that fails it ends first. Throws VmmError then. */
export async function endedOnFailure(
  process: KeptProcess,
  what: string,
  act: () => Promise<void>,
): Promise<VmmProcess> {
  try {
    await act();
    return process;
  } catch (cause) {
    const exit = await process.kill();
    throw new VmmError(`${what}: ${exit.detail}`, { cause });
  }
}

/**
 * Makes sure that no VMM is started in a run directory any more and that a keeper which is about to
 * start one has ended. Throws VmmError if it does not end within the bound.
 */
export async function callOff(runDir: string): Promise<void> {
  if (!existsSync(runDir)) return;
  await writeFile(join(runDir, "stop"), "");
  const record = await readKeeperRecord(runDir);
  if (record === null) return;
  signalProcess(keeperOf(record), "SIGKILL");
  await awaitGone(keeperOf(record));
  const started = await readVmmRecord(runDir);
  if (started !== null) await awaitGone(started);
}

/** The keeper holds its end of the connection until it ends, and it ends after its VMM. */
async function watchExit(link: Socket, record: VmmRecord, runDir: string): Promise<VmmExit> {
  const { promise, resolve } = Promise.withResolvers<void>();
  link.on("error", () => {});
  link.on("data", () => {});
  link.once("close", () => resolve());
  await promise;
  const ends = [keeperOf(record), record];
  for (let wait = GONE_POLL_MS; ends.some(isAlive); wait = Math.min(2 * wait, GONE_POLL_MAX_MS)) {
    await Bun.sleep(wait);
  }
  try {
    const exit = await readVmmExit(runDir);
    return exit ?? { ...UNKNOWN, detail: "its keeper was killed" };
  } catch (error) {
    return { ...UNKNOWN, detail: String(error) };
  }
}

function keeperOf(record: KeeperRecord): ProcessIdentity {
  return { pid: record.keeperPid, startTime: record.keeperStartTime };
}

async function awaitGone(process: ProcessIdentity): Promise<void> {
  const deadline = performance.now() + GONE_TIMEOUT_MS;
  while (isAlive(process)) {
    if (performance.now() > deadline) throw new VmmError(`Process ${process.pid} does not end`);
    await Bun.sleep(GONE_POLL_MS);
  }
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | null> {
  const { promise: late, resolve } = Promise.withResolvers<null>();
  const timer = setTimeout(() => resolve(null), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
