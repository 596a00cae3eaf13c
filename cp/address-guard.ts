// Where requests that a team asks for may lead: to the internet, and to what the operator allows.

import { BlockList, isIP } from "node:net";
import { DENIED_RANGES, DENIED_RANGES_V6 } from "../proto/denied-ranges.ts";

/** Of each family its own: a BlockList takes IPv4 for a part of IPv6. */
type Networks = Readonly<Record<4 | 6, BlockList>>;

export class AddressGuard {
  readonly #allowed: Networks;
  readonly #denied = toNetworks([...DENIED_RANGES, ...DENIED_RANGES_V6]);

  /** `allowed`: networks like `10.0.0.0/8` that are for teams although they are special. Throws on anything else. */
  constructor(allowed: readonly string[]) {
    this.#allowed = toNetworks(allowed);
  }

  /** False for what is no address, too. */
  permits(address: string): boolean {
    const plain = address.replace(/^::ffff:(?=\d+\.)/i, "");
    return includes(this.#allowed, plain) || (isIP(plain) > 0 && !includes(this.#denied, plain));
  }
}

function toNetworks(texts: readonly string[]): Networks {
  const networks = { 4: new BlockList(), 6: new BlockList() };
  for (const text of texts) {
    const [address = "", prefix = "", ...rest] = text.split("/");
    const isV4 = isIP(address) === 4;
    const bits = /^[0-9]{1,3}$/.test(prefix) ? Number(prefix) : 129;
    if (isIP(address) === 0 || rest.length > 0 || bits > (isV4 ? 32 : 128)) {
      throw new Error(`${text} is no network like 10.0.0.0/8`);
    }
    if (isV4) networks[4].addSubnet(address, bits, "ipv4");
    else networks[6].addSubnet(address, bits, "ipv6");
  }
  return networks;
}

function includes(networks: Networks, address: string): boolean {
  const version = isIP(address);
  if (version === 4) return networks[4].check(address, "ipv4");
  return version === 6 && networks[6].check(address, "ipv6");
}
