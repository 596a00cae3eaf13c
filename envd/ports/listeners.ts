// Which TCP ports programs of the guest listen on, as proc(5) tells it.
import { closeSync, openSync, readSync } from "node:fs";
import { LISTENER_TABLE_BYTES_MAX } from "../limits.ts";

export interface Listeners {
  /** Ports that only programs of the guest reach, and under which loopback address. */
  readonly loopback: ReadonlyMap<number, "127.0.0.1" | "::1">;
  /** Ports on other addresses or on all of them. */
  readonly reachable: ReadonlySet<number>;
}

const LISTEN = "0A";
/** Addresses as the kernel prints them: words of 32 bits in the byte order of the machine. */
const LOOPBACK_4 = "0100007F";
const LOOPBACK_6 = "00000000000000000000000001000000";

/** Reads the tables of this network namespace, and parses them only when they have changed. */
export class ListenerTable {
  readonly #buffer = Buffer.allocUnsafe(LISTENER_TABLE_BYTES_MAX);
  #tcp = "";
  #tcp6 = "";
  #listeners: Listeners = { loopback: new Map(), reachable: new Set() };

  read(): Listeners {
    const tcp = this.#readTable("/proc/net/tcp");
    const tcp6 = this.#readTable("/proc/net/tcp6");
    if (tcp !== this.#tcp || tcp6 !== this.#tcp6) {
      this.#listeners = parseListeners(tcp, tcp6);
      this.#tcp = tcp;
      this.#tcp6 = tcp6;
    }
    return this.#listeners;
  }

  /** Its first part, for the kernel lists listening sockets before all connections. */
  #readTable(path: string): string {
    const buffer = this.#buffer;
    const fd = openSync(path, "r");
    try {
      for (let length = 0; ; ) {
        const got = readSync(fd, buffer, length, buffer.length - length, null);
        length += got;
        if (got === 0 || length === buffer.length) return buffer.toString("latin1", 0, length);
      }
    } finally {
      closeSync(fd);
    }
  }
}

/** Parses the texts of /proc/net/tcp and tcp6. A port on both loopback addresses counts for IPv4. */
export function parseListeners(tcp: string, tcp6: string): Listeners {
  const loopback = new Map<number, "127.0.0.1" | "::1">();
  const reachable = new Set<number>();
  for (const line of [...tcp.split("\n"), ...tcp6.split("\n")]) {
    const match = line.match(/^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2}) /);
    if (!match || match[3] !== LISTEN) continue;
    const port = Number.parseInt(match[2] ?? "", 16);
    if (match[1] === LOOPBACK_4) loopback.set(port, "127.0.0.1");
    else if (match[1] === LOOPBACK_6) loopback.set(port, loopback.get(port) ?? "::1");
    else reachable.add(port);
  }
  return { loopback, reachable };
}
