// Environment and arguments, checked once.

import { isAbsolute, resolve } from "node:path";
import { DISK_IOPS_MAX, DISK_MIBPS_MAX, NETWORK_MBITPS_MAX } from "../proto/hostagent/bounds.ts";
import { SCRAPE_TOKEN_LENGTH_MIN } from "../proto/metrics/scrape-token.ts";
import {
  GUEST_STREAMS_MAX,
  HTTP_CONNECTIONS_DEFAULT,
  HTTP_CONNECTIONS_RESERVED,
} from "./limits.ts";
import { LOG_LEVELS, type LogLevel } from "./log.ts";
import type { Shares } from "./shares.ts";
import { UID_BASE_DEFAULT, UID_BASE_MAX, UID_BASE_MIN } from "./uid-range.ts";

const VMMS = ["auto", "cloud-hypervisor", "firecracker", "qemu"] as const;
const SWITCH = ["off", "on"] as const;
const PLAIN_HTTP = ["allow", "refuse"] as const;
const COWS = ["auto", "reflink", "copy", "dm"] as const;

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface Config {
  /** WRENN_DIR: everything the agent keeps. */
  readonly dir: string;
  readonly listen: ListenAddress;
  /** For monitoring; null: nowhere. */
  readonly metricsListen: ListenAddress | null;
  /** Where the control plane reaches this agent. */
  readonly address: string;
  readonly cpUrl: string;
  /** From the environment, since every user of the machine reads arguments. Or from an argument. */
  readonly registrationToken: string | null;
  readonly vmm: (typeof VMMS)[number];
  /** Programs of VMMs; null: where scripts/fetch-vmm.sh puts them. */
  readonly firecrackerBin: string | null;
  readonly cloudHypervisorBin: string | null;
  /** The processor that guests see, by the name that the VMM has for it; null: the host's own. */
  readonly cpu: string | null;
  readonly cow: (typeof COWS)[number];
  /** Guests that boot have memory in pages of 2 MiB. */
  readonly hasHugePages: boolean;
  /** Null: beside the program, wherever that is. */
  readonly nativeDir: string | null;
  readonly networkPoolSize: number;
  /** Null: as long as guests take on hosts as we know them. */
  readonly bootTimeoutMs: number | null;
  /** The first of the user ids that VMMs and pagers run as. */
  readonly uidBase: number;
  /** Creates restore guests that have booted before. */
  readonly isWarm: boolean;
  readonly logLevel: LogLevel;
  /** What a reader of the agent's own metrics must show; null: nobody may read them. */
  readonly metricsToken: string | null;
  /** Long-lived calls to guests that may be open at once. */
  readonly guestStreamsMax: number;
  /** What a capsule may take of the host's disk and network unless it has shares of its own. */
  readonly shares: Shares;
  /** `<name>:kill` or `<name>:fail`: what a crash test wants to happen where. */
  readonly failpoint: string | null;
}

/** What the doctor needs to know; nothing of it is required. */
export type MachineConfig = Pick<
  Config,
  | "dir"
  | "vmm"
  | "firecrackerBin"
  | "cloudHypervisorBin"
  | "cpu"
  | "cow"
  | "hasHugePages"
  | "nativeDir"
  | "uidBase"
  | "shares"
>;

/** The configuration does not hold; the message is one sentence that names the setting. */
class ConfigError extends Error {
  override readonly name = "ConfigError";
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Throws ConfigError. Empty variables count as unset. */
export function loadConfig(env: Environment, args: readonly string[]): Config {
  const flags = parseFlags(args);
  return {
    ...loadMachineConfig(env),
    listen: listenAddress("WRENN_HOST_LISTEN_ADDR", env.WRENN_HOST_LISTEN_ADDR || ":50051"),
    metricsListen: env.WRENN_METRICS_LISTEN_ADDR
      ? listenAddress("WRENN_METRICS_LISTEN_ADDR", env.WRENN_METRICS_LISTEN_ADDR)
      : null,
    address: hostAndPort("--address", required("--address", flags.get("--address"))),
    cpUrl: cpUrl(env),
    registrationToken: flags.get("--register") ?? (env.WRENN_REGISTRATION_TOKEN || null),
    networkPoolSize: integer("WRENN_NETWORK_POOL", env.WRENN_NETWORK_POOL || "4", 0, 256),
    bootTimeoutMs: env.WRENN_BOOT_TIMEOUT_SEC
      ? integer("WRENN_BOOT_TIMEOUT_SEC", env.WRENN_BOOT_TIMEOUT_SEC, 10, 3600) * 1000
      : null,
    isWarm: oneOf("WRENN_WARM", env.WRENN_WARM || "on", SWITCH) === "on",
    logLevel: oneOf("LOG_LEVEL", env.LOG_LEVEL || "info", LOG_LEVELS),
    metricsToken: metricsToken(env.WRENN_METRICS_TOKEN),
    guestStreamsMax: guestStreamsMax(env.BUN_CONFIG_MAX_HTTP_REQUESTS),
    failpoint: env.WRENN_FAILPOINT || null,
  };
}

/** Throws ConfigError, as loadConfig does. */
export function loadMachineConfig(env: Environment): MachineConfig {
  return {
    dir: resolve(env.WRENN_DIR || "/var/lib/wrenn"),
    vmm: oneOf("WRENN_VMM", env.WRENN_VMM || "auto", VMMS),
    firecrackerBin: program("WRENN_FIRECRACKER_BIN", env.WRENN_FIRECRACKER_BIN),
    cloudHypervisorBin: program("WRENN_CLOUD_HYPERVISOR_BIN", env.WRENN_CLOUD_HYPERVISOR_BIN),
    cpu: cpuName(env.WRENN_CPU || "host"),
    cow: oneOf("WRENN_COW", env.WRENN_COW || "auto", COWS),
    hasHugePages: oneOf("WRENN_HUGE_PAGES", env.WRENN_HUGE_PAGES || "off", SWITCH) === "on",
    nativeDir: env.WRENN_NATIVE_DIR ? resolve(env.WRENN_NATIVE_DIR) : null,
    uidBase: env.WRENN_UID_BASE
      ? integer("WRENN_UID_BASE", env.WRENN_UID_BASE, UID_BASE_MIN, UID_BASE_MAX)
      : UID_BASE_DEFAULT,
    shares: sharesOf(env),
  };
}

/** 0: no limit. */
function sharesOf(env: Environment): Shares {
  const rate = (name: string, text: string | undefined, max: number) =>
    integer(name, text || "0", 0, max);
  return {
    diskReadMibps: rate("WRENN_DISK_READ_MIBPS", env.WRENN_DISK_READ_MIBPS, DISK_MIBPS_MAX),
    diskWriteMibps: rate("WRENN_DISK_WRITE_MIBPS", env.WRENN_DISK_WRITE_MIBPS, DISK_MIBPS_MAX),
    diskReadIops: rate("WRENN_DISK_READ_IOPS", env.WRENN_DISK_READ_IOPS, DISK_IOPS_MAX),
    diskWriteIops: rate("WRENN_DISK_WRITE_IOPS", env.WRENN_DISK_WRITE_IOPS, DISK_IOPS_MAX),
    networkInMbitps: rate(
      "WRENN_NETWORK_IN_MBITPS",
      env.WRENN_NETWORK_IN_MBITPS,
      NETWORK_MBITPS_MAX,
    ),
    networkOutMbitps: rate(
      "WRENN_NETWORK_OUT_MBITPS",
      env.WRENN_NETWORK_OUT_MBITPS,
      NETWORK_MBITPS_MAX,
    ),
  };
}

/** It becomes a word of a command line, in which a comma begins an option. */
function cpuName(name: string): string | null {
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name)) {
    throw new ConfigError(`WRENN_CPU ${JSON.stringify(name)} is no name of a processor`);
  }
  return name === "host" ? null : name;
}

function parseFlags(args: readonly string[]): ReadonlyMap<string, string> {
  const flags = new Map<string, string>();
  for (let i = 0; i < args.length; i += 2) {
    const name = args[i] ?? "";
    if (name !== "--register" && name !== "--address") {
      throw new ConfigError(`Unknown argument ${JSON.stringify(name)}`);
    }
    flags.set(name, required(name, args[i + 1]));
  }
  return flags;
}

function required(name: string, value: string | undefined): string {
  if (!value) throw new ConfigError(`${name} is missing`);
  return value;
}

/** Without a host: every address of the machine. */
function listenAddress(name: string, text: string): ListenAddress {
  const full = hostAndPort(name, text.startsWith(":") ? `[::]${text}` : text);
  const split = full.lastIndexOf(":");
  const host = full.slice(0, split).replace(/^\[|\]$/g, "");
  return { host, port: Number(full.slice(split + 1)) };
}

/** One-time tokens and credentials go there: in the clear only on this machine, or where somebody says so. */
function cpUrl(env: Environment): string {
  const text = url("WRENN_CP_URL", required("WRENN_CP_URL", env.WRENN_CP_URL));
  const { protocol, hostname } = new URL(text);
  const isAllowed =
    oneOf("WRENN_CP_PLAIN_HTTP", env.WRENN_CP_PLAIN_HTTP || "refuse", PLAIN_HTTP) === "allow";
  if (protocol === "https:" || isLoopback(hostname) || isAllowed) return text;
  const why = "whoever reads the way there has this host's credentials";
  throw new ConfigError(
    `WRENN_CP_URL must begin with https://: ${why} (WRENN_CP_PLAIN_HTTP=allow takes it as it is)`,
  );
}

function isLoopback(host: string): boolean {
  return /^(localhost|.*\.localhost|\[::1\]|127\.\d+\.\d+\.\d+)$/.test(host);
}

function hostAndPort(name: string, text: string): string {
  const port = Number(/^(?:[^:\s/]+|\[[0-9a-fA-F:]+\]):(\d{1,5})$/.exec(text)?.[1] ?? -1);
  if (port < 0 || port > 65535) {
    throw new ConfigError(`${name} ${JSON.stringify(text)} is not of the form host:port`);
  }
  return text;
}

function url(name: string, text: string): string {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) {
    throw new ConfigError(`${name} is not an http or https URL`);
  }
  const { username, password } = new URL(text);
  if (username || password || /[?#]/.test(text)) {
    throw new ConfigError(`${name} must have no user, password, ? or #: paths are added to it`);
  }
  return text.replace(/\/+$/, "");
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new ConfigError(`${name} ${JSON.stringify(value)} is none of ${allowed.join(", ")}`);
  }
  return found;
}

function program(name: string, path: string | undefined): string | null {
  if (!path) return null;
  if (isAbsolute(path)) return path;
  throw new ConfigError(`${name} ${JSON.stringify(path)} is no absolute path`);
}

function integer(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw new ConfigError(`${name} ${JSON.stringify(text)} is no integer from ${min} to ${max}`);
  }
  return value;
}

function metricsToken(text: string | undefined): string | null {
  if (!text) return null;
  if (text.length < SCRAPE_TOKEN_LENGTH_MIN) {
    throw new ConfigError(
      `WRENN_METRICS_TOKEN must have at least ${SCRAPE_TOKEN_LENGTH_MIN} characters`,
    );
  }
  return text;
}

function guestStreamsMax(connections: string | undefined): number {
  const max = connections
    ? integer("BUN_CONFIG_MAX_HTTP_REQUESTS", connections, 1, 65535)
    : HTTP_CONNECTIONS_DEFAULT;
  return Math.min(Math.max(1, max - HTTP_CONNECTIONS_RESERVED), GUEST_STREAMS_MAX);
}
