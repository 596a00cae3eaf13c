// Claims on slot numbers, which are shared by every agent of the machine: a file per number, whose
// content is its owner's directory. A claim is a hard link to a file of the owner's, so it appears
// whole or not at all.
import { closeSync, existsSync } from "node:fs";
import { link, mkdir, readdir, readFile, realpath, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import { SLOT_MAX } from "./slot.ts";

export const CLAIMS_DIR = "/run/wrenn";

/** Every number is somebody's. */
export class NoSlotError extends Error {
  override readonly name = "NoSlotError";
  readonly code = "no_slot";

  constructor() {
    super("no network slot is free");
  }
}

type ClaimsKernel = Pick<Kernel, "tryLockFile" | "network">;

export class SlotClaims {
  readonly #kernel: ClaimsKernel;
  readonly #tag: string;
  readonly #owner: string;
  readonly #slotsDir: string;
  readonly #agentFile: string;
  #last = 0;

  private constructor(options: { kernel: ClaimsKernel; tag: string; owner: string; dir: string }) {
    this.#kernel = options.kernel;
    this.#tag = options.tag;
    this.#owner = options.owner;
    this.#slotsDir = join(options.dir, "slots");
    this.#agentFile = join(options.dir, "agents", options.tag);
  }

  /**
   * Registers the agent under its tag. Throws if another directory that still exists has the tag,
   * since two agents of one tag would take each other's devices for their own.
   */
  static async open(options: {
    kernel: ClaimsKernel;
    tag: string;
    owner: string;
    dir: string;
  }): Promise<SlotClaims> {
    const owner = await realpath(options.owner);
    const claims = new SlotClaims({ ...options, owner });
    await mkdir(claims.#slotsDir, { recursive: true, mode: 0o755 });
    await mkdir(join(options.dir, "agents"), { recursive: true, mode: 0o755 });
    await claims.#register();
    return claims;
  }

  /** The numbers that this agent has claimed. */
  async listOwn(): Promise<number[]> {
    const own: number[] = [];
    for (const name of await readdir(this.#slotsDir)) {
      if (/^[0-9]+$/.test(name) && (await this.#readOwner(Number(name))) === this.#owner) {
        own.push(Number(name));
      }
    }
    return own.sort((a, b) => a - b);
  }

  /**
   * Claims a number that nobody has, after the one claimed last so that numbers rest before reuse. Throws
   * NoSlotError.
   */
  async claimNext(): Promise<number> {
    const taken = new Set(await readdir(this.#slotsDir));
    for (let step = 0; step < SLOT_MAX; step++) {
      const index = (this.#last % SLOT_MAX) + 1;
      this.#last = index;
      if (taken.has(String(index)) && !(await this.#freeIfAbandoned(index))) continue;
      if (await this.#link(index)) return index;
    }
    throw new NoSlotError();
  }

  /** Claims this number, which may already be ours. Throws if another agent has it. */
  async claim(index: number): Promise<void> {
    this.#last = Math.max(this.#last, index);
    if (await this.#link(index)) return;
    const owner = await this.#readOwner(index);
    if (owner === this.#owner) return;
    if ((await this.#freeIfAbandoned(index)) && (await this.#link(index))) return;
    throw new Error(`Network slot ${index} belongs to the agent at ${owner}`);
  }

  /** Gives the number up; nothing happens if it was not claimed. */
  async release(index: number): Promise<void> {
    if ((await this.#readOwner(index)) === this.#owner)
      await rm(this.#slotPath(index), { force: true });
  }

  /** Takes the tag's registration back. The claims must be gone. */
  async unregister(): Promise<void> {
    await rm(this.#agentFile, { force: true });
  }

  async #register(): Promise<void> {
    const registered = await readIfThere(this.#agentFile);
    if (registered === this.#owner) return;
    if (registered !== null && existsSync(registered)) {
      throw new Error(`Tag ${this.#tag} belongs to the agent at ${registered}`);
    }
    const aside = `${this.#agentFile}.${process.pid}`;
    await writeFile(aside, this.#owner, { mode: 0o644 });
    await rename(aside, this.#agentFile);
  }

  async #link(index: number): Promise<boolean> {
    try {
      await link(this.#agentFile, this.#slotPath(index));
      return true;
    } catch (error) {
      if (hasCode(error, "EEXIST")) return false;
      throw error;
    }
  }

  async #readOwner(index: number): Promise<string | null> {
    return readIfThere(this.#slotPath(index));
  }

  // Two agents may find the same abandoned claim: the lock makes the second look again after the
  // first has removed it, when the number may carry a fresh claim.
  async #freeIfAbandoned(index: number): Promise<boolean> {
    if (!(await this.#isAbandoned(index))) return false;
    const lock = this.#kernel.tryLockFile(join(this.#slotsDir, ".lock"));
    if (lock === null) return false;
    try {
      if (!(await this.#isAbandoned(index))) return false;
      await rm(this.#slotPath(index), { force: true });
      return true;
    } finally {
      closeSync(lock);
    }
  }

  async #isAbandoned(index: number): Promise<boolean> {
    const owner = await this.#readOwner(index);
    if (owner === null || existsSync(owner)) return false;
    const netns = new RegExp(`^wrenn-[0-9a-z]{4}-${index}$`);
    const all = await this.#kernel.network.listNetns("wrenn-");
    return !all.some((name) => netns.test(name));
  }

  #slotPath(index: number): string {
    return join(this.#slotsDir, String(index));
  }
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
}
