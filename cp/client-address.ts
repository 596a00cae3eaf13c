// Where a request comes from, for limits and logs.

import { BlockList, isIP } from "node:net";
import type { Server } from "bun";

const LOOPBACK = ["127.0.0.0/8", "::1"];

/** The proxies that are believed about whom they forward for. Those on this machine always are. */
export class TrustedProxies {
  readonly #list = new BlockList();

  /** Addresses, and networks such as `10.0.0.0/8`. Throws on anything else. */
  constructor(networks: readonly string[]) {
    for (const network of [...LOOPBACK, ...networks]) this.#add(network);
  }

  includes(address: string): boolean {
    const plain = withoutMapping(address);
    const version = isIP(plain);
    return version !== 0 && this.#list.check(plain, version === 4 ? "ipv4" : "ipv6");
  }

  /**
   * The client at the begin of a way that is told as in X-Forwarded-For: the last address that is none of
   * the proxies', for whatever stands before it anybody may have written. Null when there is none.
   */
  clientOf(forwardedFor: string): string | null {
    const hops = forwardedFor.split(",").map((hop) => hop.trim());
    return hops.findLast((hop) => hop !== "" && !this.includes(hop)) ?? null;
  }

  #add(network: string): void {
    const [address = "", prefix, ...rest] = network.split("/");
    const version = isIP(address);
    const bits = prefix === undefined ? null : /^[0-9]{1,3}$/.test(prefix) ? Number(prefix) : -1;
    const isRight = bits === null || (bits >= 0 && bits <= (version === 4 ? 32 : 128));
    if (version === 0 || rest.length > 0 || !isRight) {
      throw new Error("it is neither an address nor a network");
    }
    const family = version === 4 ? "ipv4" : "ipv6";
    if (bits === null) this.#list.addAddress(address, family);
    else this.#list.addSubnet(address, bits, family);
  }
}

/**
 * The address of the client. The front, which comes by a unix socket and so without an address, tells it;
 * of others only a proxy on this machine is believed, and only its own word, the last one. Without a
 * server (in tests) it is `unknown`.
 */
export function clientAddress(
  request: Request,
  server: Pick<Server<unknown>, "requestIP"> | null,
): string {
  if (server === null) return "unknown";
  const peer = server.requestIP(request)?.address ?? "";
  const isLocal = peer === "" || LOCAL_PROXIES.includes(peer);
  const forwardedFor = request.headers.get("x-forwarded-for")?.split(",").at(-1)?.trim();
  return isLocal && forwardedFor ? forwardedFor : peer || "unknown";
}

const LOCAL_PROXIES = new TrustedProxies([]);

/** An IPv4 address that a socket of both versions tells. */
function withoutMapping(address: string): string {
  return address.replace(/^::ffff:(?=[0-9.]+$)/i, "");
}
