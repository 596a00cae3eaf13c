// Flags and environment of envd, checked once.
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";

export interface Config {
  readonly isHelpAsked: boolean;
  readonly isVersionAsked: boolean;
  readonly hostname: string;
  readonly port: number;
  /** Where launch, winsize and renew lie. */
  readonly programsDir: string;
  readonly controlPeers: ReadonlySet<string>;
  /** The guest's own address, on which loopback ports are forwarded. */
  readonly address: string;
  readonly runDir: string;
  readonly etcDir: string;
  /** Where a cgroup2 file system is mounted. */
  readonly cgroupRoot: string;
  /** The limits of inotify(7). */
  readonly inotifyDir: string;
  /** PATH of the processes. */
  readonly path: string;
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The two ends of the guest's network, see the addressing of the agent. */
const GUEST_ADDRESS = "169.254.0.21";
export const HOST_ADDRESS = "169.254.0.22";

/** Parses the command line; an Error whose message says what is wrong with which flag. */
export function loadConfig(options: {
  argv: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  executable: string;
}): Config {
  const { values } = parseArgs({
    args: [...options.argv],
    options: {
      help: { type: "boolean", short: "h", default: false },
      version: { type: "boolean", default: false },
      hostname: { type: "string", default: "0.0.0.0" },
      port: { type: "string", default: "49983" },
      programs: { type: "string", default: dirname(options.executable) },
      "control-peer": { type: "string", multiple: true, default: [HOST_ADDRESS] },
      address: { type: "string", default: GUEST_ADDRESS },
      "run-dir": { type: "string", default: "/run" },
      "etc-dir": { type: "string", default: "/etc" },
      "inotify-dir": { type: "string", default: "/proc/sys/fs/inotify" },
      "cgroup-root": { type: "string", default: "/sys/fs/cgroup" },
    },
  });
  return {
    isHelpAsked: values.help,
    isVersionAsked: values.version,
    hostname: values.hostname,
    port: parsePort(values.port),
    programsDir: resolve(values.programs),
    controlPeers: new Set(values["control-peer"]),
    address: values.address,
    runDir: values["run-dir"],
    etcDir: values["etc-dir"],
    cgroupRoot: values["cgroup-root"],
    inotifyDir: values["inotify-dir"],
    path: options.env.PATH || DEFAULT_PATH,
  };
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65535) return port;
  throw new Error(`Cannot start: --port: '${text}' is no port number`);
}
