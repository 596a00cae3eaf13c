// How many connections a front takes, in all and of one address, so that nobody alone can have them all.

export interface AdmissionLimits {
  readonly connectionsMax: number;
  /** Of one IPv4 address, or of one /64 of IPv6, which is what a single customer gets. */
  readonly connectionsPerAddressMax: number;
}

/** full: nobody gets another one; too-many: this address does not. */
export type NotAdmitted = "full" | "too-many";

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #ofNetwork = new Map<string, number>();
  #count = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get count(): number {
    return this.#count;
  }

  /** Counts a connection until it is disposed. One whose address is null counts in the sum alone. */
  admit(address: string | null): Disposable | NotAdmitted {
    if (this.#count >= this.#limits.connectionsMax) return "full";
    const network = address === null ? null : networkOf(address);
    if (network !== null) {
      const others = this.#ofNetwork.get(network) ?? 0;
      if (others >= this.#limits.connectionsPerAddressMax) return "too-many";
      this.#ofNetwork.set(network, others + 1);
    }
    this.#count += 1;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#leave(network);
      },
    };
  }

  #leave(network: string | null): void {
    this.#count -= 1;
    if (network === null) return;
    const others = (this.#ofNetwork.get(network) ?? 1) - 1;
    if (others > 0) this.#ofNetwork.set(network, others);
    else this.#ofNetwork.delete(network);
  }
}

/** An IPv4 address as it is, also inside IPv6, and the first 64 bits of an IPv6 address. */
export function networkOf(address: string): string {
  const text = address.toLowerCase().replace(/%.*$/, "");
  const v4 = /^(?:::ffff:)?([0-9.]+)$/.exec(text)?.[1];
  if (v4 !== undefined || !text.includes(":")) return v4 ?? text;
  const [before = "", after] = text.split("::", 2);
  const first = before === "" ? [] : before.split(":");
  const last = after === undefined || after === "" ? [] : after.split(":");
  const zeros = after === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array<string>(zeros).fill("0"), ...last];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
