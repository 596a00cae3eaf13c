// The agent's network slots: a namespace with a TAP, a veth pair to the host and a firewall each.
// Making one takes milliseconds, so some stand ready. A slot is used once: its namespace is
// deleted, not cleaned.
//
// What is left after a crash is found by name: everything carries the agent's tag, and a claim
// comes before the first object of its slot and goes after the last. So open() may remove whatever
// has the tag and is not in use.
import type { Kernel } from "../native/kernel.ts";
import { checkUidRange, UID_BASE_DEFAULT } from "../uid-range.ts";
import { buildSlot, removeSlot } from "./build-slot.ts";
import { CLAIMS_DIR, SlotClaims } from "./claims.ts";
import { hostRules, removeHostRules } from "./rules.ts";
import {
  checkTag,
  describeSlot,
  type NetworkSlot,
  netnsPrefix,
  parseSlotName,
  vethPrefix,
} from "./slot.ts";

/** More than this stand ready for nothing: it is a second's worth of creates. */
const READY_MAX = 256;

export type { NetworkSlot };

export class NetworkPool {
  readonly #kernel: Kernel;
  readonly #tag: string;
  readonly #claims: SlotClaims;
  readonly #readyWanted: number;
  readonly #uidBase: number;
  readonly #ready: NetworkSlot[] = [];
  readonly #making = new Set<Promise<NetworkSlot>>();
  #closed = false;
  #filling: Promise<void> | null = null;
  #fillError: unknown = null;
  #fillFailures = 0;

  private constructor(options: {
    kernel: Kernel;
    tag: string;
    claims: SlotClaims;
    ready: number;
    uidBase?: number;
  }) {
    this.#kernel = options.kernel;
    this.#tag = options.tag;
    this.#claims = options.claims;
    this.#readyWanted = options.ready;
    this.#uidBase = options.uidBase ?? UID_BASE_DEFAULT;
  }

  /**
   * Sets up the agent's host table and forwarding, keeps the slots in `keep` (those of living
   * capsules), removes every other object of this tag and starts filling the pool up to `ready`
   * slots. Throws if a kept slot belongs to another agent, the tag to another directory, or a user id
   * to somebody else.
   */
  static async open(options: {
    kernel: Kernel;
    tag: string;
    /** The agent's directory, WRENN_DIR. */
    owner: string;
    ready: number;
    keep: readonly number[];
    /** Omitted: the default. */
    uidBase?: number;
  }): Promise<NetworkPool> {
    checkTag(options.tag);
    if (!Number.isInteger(options.ready) || options.ready < 0 || options.ready > READY_MAX) {
      throw new Error(`Cannot keep ${options.ready} slots ready: 0 to ${READY_MAX} are allowed`);
    }
    await checkUidRange(options.uidBase ?? UID_BASE_DEFAULT);
    const claims = await SlotClaims.open({ ...options, dir: CLAIMS_DIR });
    const pool = new NetworkPool({ ...options, claims });
    await pool.#reconcile(options.keep);
    pool.#fill();
    return pool;
  }

  /** What the slot of that number looks like, whether it exists or not. */
  slot(index: number): NetworkSlot {
    return describeSlot(this.#tag, index, this.#uidBase);
  }

  /** A slot for one capsule: a ready one, else one made now. Throws NoSlotError. */
  async acquire(): Promise<NetworkSlot> {
    if (this.#closed) throw new Error("The network pool is closed");
    const slot = this.#ready.shift() ?? (await this.#track(this.#make()));
    this.#fill();
    return slot;
  }

  /**
   * Removes the slot's namespace, devices and claim. Its VMM must have ended. Nothing happens if it
   * is gone.
   */
  async release(index: number): Promise<void> {
    await removeSlot(this.#kernel, this.#tag, index);
    await this.#claims.release(index);
  }

  /**
   * Ends filling and waits for work under way. Slots stay, ready ones too: open() removes or keeps
   * them.
   */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled([...this.#making]);
    await this.#filling;
  }

  /** Closes, then removes every slot of this agent, its table and its registration. */
  async removeAll(): Promise<void> {
    await this.close();
    this.#ready.splice(0);
    for (const index of await this.#findAll()) await this.release(index);
    await this.#kernel.network.runNft(null, removeHostRules(this.#tag));
    await this.#claims.unregister();
    await this.#kernel.network.unshareNetnsDirectory();
  }

  /** Why the last attempt to fill the pool failed, or null. acquire() then makes slots itself. */
  get fillError(): unknown {
    return this.#fillError;
  }

  /** Slots that stand ready, how many should, and how often making them failed. */
  get stock(): { ready: number; wanted: number; failures: number } {
    const failures = this.#fillFailures;
    return { ready: this.#ready.length, wanted: this.#readyWanted, failures };
  }

  async #reconcile(keep: readonly number[]): Promise<void> {
    const { network } = this.#kernel;
    for (const index of keep) await this.#claims.claim(index);
    // Switching it on resets other settings of the host, so not if it is on.
    if ((await Bun.file("/proc/sys/net/ipv4/ip_forward").text()).trim() !== "1") {
      await network.writeSysctl(null, "net/ipv4/ip_forward", "1");
    }
    await network.runNft(null, hostRules(this.#tag));
    const kept = new Set(keep);
    for (const index of await this.#findAll()) {
      if (!kept.has(index)) await this.release(index);
    }
  }

  async #findAll(): Promise<number[]> {
    const { network } = this.#kernel;
    const found = new Set(await this.#claims.listOwn());
    const prefixes = { netns: netnsPrefix(this.#tag), veth: vethPrefix(this.#tag) };
    for (const name of await network.listNetns(prefixes.netns)) {
      const index = parseSlotName(prefixes.netns, name);
      if (index !== null) found.add(index);
    }
    for (const name of await network.listLinks(prefixes.veth)) {
      const index = parseSlotName(prefixes.veth, name);
      if (index !== null) found.add(index);
    }
    return [...found];
  }

  async #make(): Promise<NetworkSlot> {
    const index = await this.#claims.claimNext();
    try {
      await buildSlot(this.#kernel, this.#tag, this.slot(index));
    } catch (error) {
      // If this fails too, the claim stays, and with it the number is out of use until the next
      // open().
      await this.release(index);
      throw error;
    }
    return this.slot(index);
  }

  async #track(making: Promise<NetworkSlot>): Promise<NetworkSlot> {
    this.#making.add(making);
    try {
      return await making;
    } finally {
      this.#making.delete(making);
    }
  }

  // One at a time: the kernel makes namespaces under one lock, and capsules that start now need the
  // CPUs more.
  #fill(): void {
    if (this.#filling !== null) return;
    this.#filling = this.#fillUp().finally(() => {
      this.#filling = null;
    });
  }

  async #fillUp(): Promise<void> {
    try {
      while (!this.#closed && this.#ready.length < this.#readyWanted) {
        this.#ready.push(await this.#make());
      }
      this.#fillError = null;
    } catch (error) {
      this.#fillError = error;
      this.#fillFailures += 1;
    }
  }
}
