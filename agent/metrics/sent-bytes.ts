// What capsules have sent to the network, all that leaves a guest: by the counters of the host's ends of their
// networks (veth), which begin with a slot and end with it.
//
// A slot and its counter outlive the agent, and a capsule its slots: each pause may end one. So what is kept is the
// sum, with how far the counter of which link is in it. A link is told from the next one of its name by its index,
// which the kernel gives once. It is saved when a capsule comes to rest and when the agent ends: an agent that
// crashes loses nothing of capsules that run on.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { Log } from "../log.ts";
import { hasCode } from "../native/syscall-error.ts";

/** A running capsule's link, the host's end of it. */
export interface CapsuleLink {
  readonly id: string;
  /** Null while it has none. */
  readonly link: string | null;
}

const Counted = Type.Object({
  totalBytes: Type.Number(),
  linkIndex: Type.Number(),
  counterBytes: Type.Number(),
});

interface Counted {
  totalBytes: number;
  linkIndex: number;
  counterBytes: number;
}

export interface SentBytesOptions {
  /** Of files, one for each capsule that rests. Made if it is missing. */
  readonly dir: string;
  /** Where the kernel tells of links: /proc and /sys/class/net but in tests. */
  readonly procDir?: string;
  readonly linksDir?: string;
  readonly log: Log;
}

export class SentBytes {
  readonly #dir: string;
  readonly #procDir: string;
  readonly #linksDir: string;
  readonly #saved: Set<string>;
  readonly #log: Log;
  #isFailing = false;
  readonly #counted = new Map<string, Counted>();

  constructor({ dir, log, ...sources }: SentBytesOptions) {
    const { procDir = "/proc", linksDir = "/sys/class/net" } = sources;
    this.#log = log;
    this.#dir = dir;
    this.#procDir = procDir;
    this.#linksDir = linksDir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#saved = new Set(readdirSync(dir));
  }

  /** Counts what these have sent by now, and saves that of those that run no more. */
  take(running: readonly CapsuleLink[]): void {
    const linked = running.flatMap(({ id, link }) => (link === null ? [] : [{ id, link }]));
    const counters = linked.length === 0 ? new Map() : this.#readCounters();
    for (const { id, link } of linked) {
      const counterBytes = counters.get(link);
      if (counterBytes !== undefined) this.#count(id, link, counterBytes);
    }
    const ids = new Set(running.map(({ id }) => id));
    for (const id of this.#counted.keys()) {
      if (!ids.has(id) && this.#isSaved(id)) this.#counted.delete(id);
    }
  }

  /** By what was counted last; null for one that has not run here. */
  of(id: string): number | null {
    return (this.#counted.get(id) ?? this.#load(id))?.totalBytes ?? null;
  }

  /** Forgets what is of no capsule that is left. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const name of this.#saved) {
      if (ids.has(name)) continue;
      rmSync(join(this.#dir, name), { force: true });
      this.#saved.delete(name);
    }
  }

  save(): void {
    for (const id of this.#counted.keys()) this.#isSaved(id);
  }

  /** What a full disk does not take is kept, and tried again by the next pass. */
  #isSaved(id: string): boolean {
    try {
      this.#save(id);
      this.#isFailing = false;
      return true;
    } catch (error) {
      if (!this.#isFailing) this.#log.warn("metrics.unsaved", { capsule: id, error });
      this.#isFailing = true;
      return false;
    }
  }

  #count(id: string, link: string, counterBytes: number): void {
    const known = this.#counted.get(id) ?? this.#load(id);
    const linkIndex = this.#indexOf(link);
    if (linkIndex === null) return;
    const isSame = known?.linkIndex === linkIndex && counterBytes >= known.counterBytes;
    const newBytes = isSame ? counterBytes - known.counterBytes : counterBytes;
    const totalBytes = (known?.totalBytes ?? 0) + newBytes;
    this.#counted.set(id, { totalBytes, linkIndex, counterBytes });
  }

  /** Null for one that has ended meanwhile. */
  #indexOf(link: string): number | null {
    try {
      return Number(readFileSync(join(this.#linksDir, link, "ifindex"), "utf8"));
    } catch (error) {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    }
  }

  /** What each link has received, which is what its guest has sent (proc_net(5)). */
  #readCounters(): ReadonlyMap<string, number> {
    const lines = readFileSync(join(this.#procDir, "net/dev"), "utf8").split("\n");
    return new Map(
      lines.flatMap((line) => {
        const [, name, received] = /^\s*([^:\s]+):\s*(\d+)/.exec(line) ?? [];
        return name === undefined ? [] : [[name, Number(received)] as const];
      }),
    );
  }

  #save(id: string): void {
    const counted = this.#counted.get(id);
    if (counted === undefined) return;
    const path = join(this.#dir, id);
    this.#saved.add(`${id}.new`);
    writeFileSync(`${path}.new`, JSON.stringify(counted), { mode: 0o600 });
    renameSync(`${path}.new`, path);
    this.#saved.delete(`${id}.new`);
    this.#saved.add(id);
  }

  #load(id: string): Counted | undefined {
    if (!this.#saved.has(id)) return undefined;
    return Value.Parse(Counted, JSON.parse(readFileSync(join(this.#dir, id), "utf8")));
  }
}
