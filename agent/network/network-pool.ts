// The agent's network slots: a namespace with a TAP, a veth pair to the host and a firewall each.
// Making one takes milliseconds, so some stand ready. A slot is used once: its namespace is
// deleted, not cleaned.
//
// What is left after a crash is found by name: everything carries the agent's tag, and a claim
// comes before the first object of its slot and goes after the last. So open() may remove whatever
// has the tag and is not in use.
//
// Others administer this machine, too: what stands ready may have lost a part by the time it is wanted. It is
// looked at then, set aside if it is not whole, and never a reason for a create to fail.

import type { Log } from "../log.ts";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";
import type { NetworkShare } from "../shares.ts";
import { checkUidRange, UID_BASE_DEFAULT } from "../uid-range.ts";
import { buildSlot, checkSlot, readSlot, removeSlot, type SlotMake } from "./build-slot.ts";
import { CLAIMS_DIR, SlotClaims } from "./claims.ts";
import { hostRules, hostTable, removeHostRules } from "./rules.ts";
import {
  checkTag,
  describeLinks,
  describeSlot,
  type NetworkSlot,
  netnsPrefix,
  parseSlotName,
  TAP,
  UPLINK,
  vethPrefix,
} from "./slot.ts";

/** More than this stand ready for nothing: it is a second's worth of creates. */
const READY_MAX = 256;
/** Numbers tried for one slot, while things of somebody else's are in the way. */
const NUMBERS_TRIED_MAX = 8;

export type { NetworkSlot };

interface ReadySlot {
  readonly slot: NetworkSlot;
  readonly make: SlotMake;
}

export class NetworkPool {
  readonly #kernel: Kernel;
  readonly #log: Log;
  readonly #tag: string;
  readonly #claims: SlotClaims;
  readonly #readyWanted: number;
  readonly #uidBase: number;
  readonly #ready: ReadySlot[] = [];
  /** Of capsules and of what stands ready. */
  readonly #inUse = new Set<number>();
  readonly #making = new Set<Promise<ReadySlot>>();
  /** The agent's own table, as it was made. */
  #hostRules = "";
  #closed = false;
  #filling: Promise<void> | null = null;
  #fillError: unknown = null;
  #fillFailures = 0;

  private constructor(options: {
    kernel: Kernel;
    log: Log;
    tag: string;
    claims: SlotClaims;
    ready: number;
    uidBase?: number;
  }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
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
    log: Log;
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

  /** The host's end of that slot's network, as the kernel counts by it. */
  hostLink(index: number): string {
    return describeLinks(this.#tag, index).veth;
  }

  /** A slot for one capsule: a ready one that is whole, else one made now. Throws NoSlotError. */
  async acquire(): Promise<NetworkSlot> {
    if (this.#closed) throw new Error("The network pool is closed");
    const { slot } = await this.#track(this.#take());
    this.#fill();
    return slot;
  }

  /**
   * Holds what passes a slot's devices to a share of the network, whatever it was held to before. What the guest
   * sends leaves by the namespace's end of the pair, what it gets by its TAP: each device queues what it sends
   * (token bucket filter), so both ways wait instead of losing what a policer or a limit of nftables would drop.
   */
  async hold(index: number, { inBytesPerS, outBytesPerS }: NetworkShare): Promise<void> {
    const { netns } = this.slot(index);
    const { network } = this.#kernel;
    await network.setRate({ netns, name: TAP }, inBytesPerS);
    await network.setRate({ netns, name: UPLINK }, outBytesPerS);
  }

  /**
   * Removes the slot's namespace, devices and claim. Its VMM must have ended. Nothing happens if it
   * is gone.
   */
  async release(index: number): Promise<void> {
    await removeSlot(this.#kernel, this.#tag, index);
    await this.#claims.release(index);
    this.#inUse.delete(index);
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
    for (const index of keep) {
      await this.#claims.claim(index);
      this.#inUse.add(index);
    }
    // Switching it on resets other settings of the host, so not if it is on.
    if ((await Bun.file("/proc/sys/net/ipv4/ip_forward").text()).trim() !== "1") {
      await network.writeSysctl(null, "net/ipv4/ip_forward", "1");
    }
    await this.#writeHostRules();
    for (const index of await this.#findAll()) {
      if (!this.#inUse.has(index)) await this.release(index);
    }
  }

  async #writeHostRules(): Promise<void> {
    const { network } = this.#kernel;
    await network.runNft(null, hostRules(this.#tag));
    this.#hostRules = await network.runNft(null, `list table ${hostTable(this.#tag)}`);
  }

  /** A firewall of the host that is loaded anew takes ours with it, and with that what holds guests back. */
  async #keepHostRules(): Promise<void> {
    const { network } = this.#kernel;
    const found = await network.runNft(null, `list table ${hostTable(this.#tag)}`).catch(() => "");
    if (found === this.#hostRules) return;
    this.#log.error("network.rules-lost", { table: hostTable(this.#tag) });
    await this.#writeHostRules();
  }

  async #take(): Promise<ReadySlot> {
    await this.#keepHostRules();
    return (await this.#takeReady()) ?? (await this.#make());
  }

  async #takeReady(): Promise<ReadySlot | null> {
    for (let ready = this.#ready.shift(); ready !== undefined; ready = this.#ready.shift()) {
      const { slot, make } = ready;
      try {
        // A claim that was lost is made again, unless somebody else has the number by now.
        await this.#claims.claim(slot.index);
        await checkSlot(this.#kernel, { tag: this.#tag, slot, make });
        return ready;
      } catch (error) {
        await this.#setAside(slot.index, error);
      }
    }
    return null;
  }

  /** What cannot be removed either is left for the next open(), and its number out of use till then. */
  async #setAside(index: number, error: unknown): Promise<void> {
    this.#log.warn("network.slot-set-aside", { slot: index, error });
    await this.release(index).catch((cause: unknown) => {
      this.#log.error("network.slot-stuck", { slot: index, error: cause });
    });
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

  async #make(): Promise<ReadySlot> {
    for (let tried = 1; ; tried++) {
      const index = await this.#claims.claimNext();
      // A slot that lost its claim, and has it again.
      if (this.#inUse.has(index)) continue;
      this.#inUse.add(index);
      const slot = this.slot(index);
      try {
        await buildSlot(this.#kernel, this.#tag, slot);
        return { slot, make: await readSlot(this.#kernel, this.#tag, slot) };
      } catch (error) {
        await this.#setAside(index, error);
        if (!hasCode(error, "EEXIST") || tried >= NUMBERS_TRIED_MAX) throw error;
      }
    }
  }

  async #track(making: Promise<ReadySlot>): Promise<ReadySlot> {
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
