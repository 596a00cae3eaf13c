// Namespaces, devices, routes, firewall. Each call enters the namespace it names on a thread of the
// library.
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { callOn, splitLines } from "./caller.ts";
import type { Lane } from "./lane.ts";
import { hasCode } from "./syscall-error.ts";

/** Where iproute2 looks for named namespaces too, so that `ip netns` shows ours. */
const NETNS_DIR = "/run/netns";

/** What may pass at once: the timer that lets the next pass is late by a few milliseconds on a busy host. */
const RATE_BURST_MS = 10;
/** The largest packet that is offloaded whole, twice: cutting it costs what offloading saves. */
const RATE_BURST_BYTES_MIN = 128 * 1024;
/** What may wait: it is the delay of who fills it. */
const RATE_QUEUE_MS = 50;
const RATE_QUEUE_BYTES_MIN = 256 * 1024;

/** A device in the named network namespace, or in the agent's own when it is null. */
export interface Device {
  readonly netns: string | null;
  readonly name: string;
}

export class NetworkCalls {
  readonly #lane: Lane;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  /** Makes a namespace with its loopback up. EEXIST if there is one; leaves nothing on failure. */
  async createNetns(name: string): Promise<void> {
    await this.#shareDirectory();
    await this.#call(`create netns ${name}`, "wrenn_netns_create", [netnsPath(name)]);
  }

  /** Removes a namespace, whole or half made; false if there was none. */
  async deleteNetns(name: string): Promise<boolean> {
    return this.#unless(["ENOENT"], () =>
      this.#call(`delete netns ${name}`, "wrenn_netns_delete", [netnsPath(name)]),
    );
  }

  /**
   * Takes the mount away that /run/netns became for the first namespace, ours or iproute2's; false
   * if there are namespaces, or no mount.
   */
  async unshareNetnsDirectory(): Promise<boolean> {
    return this.#unless(["ENOTEMPTY", "EINVAL", "ENOENT"], () =>
      this.#call(`unmount ${NETNS_DIR}`, "wrenn_netns_unshare_directory", [NETNS_DIR]),
    );
  }

  /** The names of namespaces, whole or half made, that start with `prefix`. */
  async listNetns(prefix: string): Promise<string[]> {
    if (!existsSync(NETNS_DIR)) return [];
    return (await readdir(NETNS_DIR)).filter((name) => name.startsWith(prefix));
  }

  /** Makes a veth pair, `name` here and `peer` in `netns`, both down. EEXIST, ENOENT. */
  async createVeth(pair: { name: string; peer: string; netns: string }): Promise<void> {
    const args = [pair.name, pair.peer, netnsPath(pair.netns)];
    await this.#call(`create veth ${pair.name}`, "wrenn_veth_create", args);
  }

  /** Makes a persistent TAP with virtio-net headers that `uid` may open; it is down. */
  async createTap(device: Device, uid: number): Promise<void> {
    const args = [netnsPath(device.netns), device.name, uid];
    await this.#call(`create TAP ${describe(device)}`, "wrenn_tap_create", args);
  }

  /** Deletes a device; false if there was none. */
  async deleteLink(device: Device): Promise<boolean> {
    const args = [netnsPath(device.netns), device.name];
    return this.#unless(["ENODEV", "ENOENT"], () =>
      this.#call(`delete link ${describe(device)}`, "wrenn_link_delete", args),
    );
  }

  /** The agent's own devices whose names start with `prefix`. */
  async listLinks(prefix: string): Promise<string[]> {
    const { text } = await this.#call(`list links ${prefix}*`, "wrenn_link_list", [prefix]);
    return splitLines(text);
  }

  async bringUp(device: Device, options: { txQueueLength?: number } = {}): Promise<void> {
    const args = [netnsPath(device.netns), device.name, options.txQueueLength ?? 0];
    await this.#call(`bring up ${describe(device)}`, "wrenn_link_up", args);
  }

  /** Adds an IPv4 address in dotted form. */
  async addAddress(
    device: Device,
    address: { address: string; prefixLength: number },
  ): Promise<void> {
    const args = [
      netnsPath(device.netns),
      device.name,
      parseIpv4(address.address),
      address.prefixLength,
    ];
    const operation = `add ${address.address}/${address.prefixLength} to ${describe(device)}`;
    await this.#call(operation, "wrenn_address_add", args);
  }

  /** Adds a route to destination/prefixLength (0.0.0.0/0: the default) through `gateway`. */
  async addRoute(
    device: Device,
    route: { destination: string; prefixLength: number; gateway: string },
  ): Promise<void> {
    const args = [
      netnsPath(device.netns),
      device.name,
      parseIpv4(route.destination),
      route.prefixLength,
      parseIpv4(route.gateway),
    ];
    const operation = `route ${route.destination}/${route.prefixLength} to ${describe(device)}`;
    await this.#call(operation, "wrenn_route_add", args);
  }

  /** Holds what the device sends to a rate from now on; 0: as fast as it goes. ENOENT: the kernel cannot. */
  async setRate(device: Device, bytesPerS: number): Promise<void> {
    const share = (ms: number) => Math.ceil((bytesPerS * ms) / 1000);
    // Both fit 32 bits with the rates that settings allow.
    const burst = Math.max(RATE_BURST_BYTES_MIN, share(RATE_BURST_MS));
    const queue = Math.max(RATE_QUEUE_BYTES_MIN, share(RATE_QUEUE_MS));
    const args = [netnsPath(device.netns), device.name, bytesPerS, burst, queue];
    await this.#call(`hold ${describe(device)} to ${bytesPerS} B/s`, "wrenn_rate_set", args);
  }

  /** Throws SyscallError ENOENT if this kernel can hold no device to a rate. */
  async tryRate(): Promise<void> {
    await this.#call("hold a device to a rate", "wrenn_rate_try", []);
  }

  /**
   * All IPv4 addresses and routes of a device, or of all that are in the namespace: text that is the same as long as
   * nobody changes them, and says nothing else. Throws SyscallError ENODEV, ENOENT.
   */
  async listAddressing(netns: string | null, name = ""): Promise<string> {
    const args = [netnsPath(netns), name];
    const operation = `list addresses and routes of ${describe({ netns, name })}`;
    const { text } = await this.#call(operation, "wrenn_addressing_list", args);
    return text;
  }

  /**
   * Writes /proc/sys/`key` (with slashes) as the namespace sees it; false if there is no such key.
   */
  async writeSysctl(netns: string | null, key: string, value: string): Promise<boolean> {
    return this.#unless(["ENOENT"], () =>
      this.#call(`write ${key}`, "wrenn_sysctl_write", [netnsPath(netns), key, value]),
    );
  }

  /** What the kernel shows of the settings as the namespace sees them, a line each; "": it has no such key. */
  async readSysctls(netns: string | null, keys: readonly string[]): Promise<string> {
    const args = [netnsPath(netns), keys.join("\n")];
    const { text } = await this.#call(`read ${keys.join(", ")}`, "wrenn_sysctl_read", args);
    return text;
  }

  /** Runs nft commands as one transaction and returns what they print. EINVAL explains itself. */
  async runNft(netns: string | null, commands: string): Promise<string> {
    const { text } = await this.#call("run nft", "wrenn_nft_run", [netnsPath(netns), commands]);
    return text;
  }

  async #shareDirectory(): Promise<void> {
    await mkdir(NETNS_DIR, { recursive: true, mode: 0o755 });
    await this.#call(`share ${NETNS_DIR}`, "wrenn_netns_share_directory", [NETNS_DIR]);
  }

  #call(operation: string, name: Parameters<typeof callOn>[1]["name"], args: (string | number)[]) {
    return callOn(this.#lane, { operation, name, args });
  }

  async #unless(codes: string[], act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (error) {
      if (hasCode(error, ...codes)) return false;
      throw error;
    }
  }
}

/** The file of a named namespace; "" for the agent's own. */
export function netnsPath(name: string | null): string {
  return name === null ? "" : join(NETNS_DIR, name);
}

/** A dotted IPv4 address as the number that its four bytes make, first byte highest. */
export function parseIpv4(dotted: string): number {
  const bytes = dotted.split(".").map(Number);
  const isAddress =
    bytes.length === 4 && bytes.every((b) => Number.isInteger(b) && b >= 0 && b < 256);
  if (!isAddress) throw new Error(`Cannot parse IPv4 address: ${JSON.stringify(dotted)}`);
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

function describe(device: Device): string {
  return device.netns === null ? device.name : `${device.netns}/${device.name}`;
}
