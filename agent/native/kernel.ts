// The kernel as the agent uses it, over native/libwrenn.so. Calls that may take over a millisecond
// run in Workers and return promises; the few that cannot are plain functions.

import { callOn } from "./caller.ts";
import { Lane } from "./lane.ts";
import { Library } from "./library.ts";
import { MemoryCalls } from "./memory-calls.ts";
import { NetworkCalls } from "./network-calls.ts";
import { StorageCalls } from "./storage-calls.ts";
import { check, hasCode } from "./syscall-error.ts";

// Removing a device waits some 30 ms for every CPU to have let go of it, without the rtnl lock and
// without work: others go on meanwhile. Twenty slots at once took 163 ms with one Worker, 104 with
// two, 89 with three, on two CPUs.
const NETWORK_WORKERS = 3;
// Two, so that one long copy does not hold up every other disk.
const STORAGE_WORKERS = 2;
// Copying memory is bound by the disk's and the memory's bandwidth: more at once gain nothing, and
// with a lane of its own it holds up no disk of a capsule that starts.
const MEMORY_WORKERS = 2;
// The two clock readings are some 50 ns uncertain, so this gives about one part in a million.
const TSC_INTERVAL_MS = 100;

/** What the snapshot target of device-mapper reports about itself. */
export type SnapshotStatus =
  | { readonly state: "active"; readonly usedSectors: number; readonly totalSectors: number }
  | { readonly state: "invalid" | "overflow" | "merge failed" };

export class Kernel implements AsyncDisposable {
  readonly network: NetworkCalls;
  readonly storage: StorageCalls;
  readonly memory: MemoryCalls;
  readonly #library: Library;
  readonly #lanes: { network: Lane; storage: Lane; memory: Lane };

  private constructor(nativeDir: string) {
    this.#library = new Library(nativeDir);
    this.#lanes = {
      network: new Lane(nativeDir, NETWORK_WORKERS),
      storage: new Lane(nativeDir, STORAGE_WORKERS),
      memory: new Lane(nativeDir, MEMORY_WORKERS),
    };
    this.network = new NetworkCalls(this.#lanes.network);
    this.storage = new StorageCalls(this.#lanes.storage);
    this.memory = new MemoryCalls(this.#lanes.memory);
  }

  /** Loads `nativeDir`/libwrenn.so. Throws, naming the file, if it is missing or does not load. */
  static async open(nativeDir: string): Promise<Kernel> {
    const kernel = new Kernel(nativeDir);
    // Proves that Workers start in this program, and has the first one ready.
    await kernel.network.listLinks("lo");
    return kernel;
  }

  /** Calls that wait and run, by lane. */
  get calls(): Record<"network" | "storage", Lane["calls"]> {
    return { network: this.#lanes.network.calls, storage: this.#lanes.storage.calls };
  }

  /** Waits for calls under way and ends the Workers. Must be called for the process to end. */
  async close(): Promise<void> {
    const { network, storage, memory } = this.#lanes;
    await Promise.all([network.close(), storage.close(), memory.close()]);
    this.#library.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The host's time stamp counter in kHz, measured for 0.1 s. EOPNOTSUPP: there is none. */
  async tscKhz(): Promise<number> {
    const call = {
      operation: "measure TSC",
      name: "wrenn_tsc_khz",
      args: [TSC_INTERVAL_MS],
    } as const;
    return (await callOn(this.#lanes.storage, call)).result;
  }

  /** Its version of Landlock; 0: it has none, or none that is on. */
  landlockVersion(): number {
    const { result } = this.#library.call("wrenn_landlock_version", []);
    return check("ask for Landlock", result);
  }

  /**
   * Takes an exclusive lock on the file, made if missing, and returns its descriptor, which the
   * caller closes to unlock; null if somebody else holds it. Does not wait.
   */
  tryLockFile(path: string): number | null {
    const { result } = this.#library.call("wrenn_file_lock", [path]);
    try {
      return check(`lock ${path}`, result);
    } catch (error) {
      if (hasCode(error, "EAGAIN")) return null;
      throw error;
    }
  }

  /** Reads a status line of device-mapper's snapshot target. EBADMSG: it is not one. */
  classifySnapshot(line: string): SnapshotStatus {
    const { result, words } = this.#library.call("wrenn_dm_classify_snapshot", [line]);
    const state = check(`read snapshot status ${JSON.stringify(line)}`, result);
    if (state === 0) {
      const [used = 0n, total = 0n] = words;
      return { state: "active", usedSectors: Number(used), totalSectors: Number(total) };
    }
    return { state: state === 1 ? "invalid" : state === 2 ? "overflow" : "merge failed" };
  }
}
