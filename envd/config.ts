// Flags and environment of envd, checked once.
import { dirname, resolve } from "node:path";
import { type ParseArgsConfig, parseArgs } from "node:util";

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

interface Surroundings {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly executable: string;
}

/** Parses the command line. Throws an Error whose message says in one sentence what is wrong with which flag. */
export function loadConfig(options: Surroundings): Config {
  const values = parseFlags(options);
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

function parseFlags({ argv, executable }: Surroundings) {
  const config = {
    args: [...argv],
    options: {
      help: { type: "boolean", short: "h", default: false },
      version: { type: "boolean", default: false },
      hostname: { type: "string", default: "0.0.0.0" },
      port: { type: "string", default: "49983" },
      programs: { type: "string", default: dirname(executable) },
      "control-peer": { type: "string", multiple: true, default: [HOST_ADDRESS] },
      address: { type: "string", default: GUEST_ADDRESS },
      "run-dir": { type: "string", default: "/run" },
      "etc-dir": { type: "string", default: "/etc" },
      "inotify-dir": { type: "string", default: "/proc/sys/fs/inotify" },
      "cgroup-root": { type: "string", default: "/sys/fs/cgroup" },
    },
  } as const satisfies ParseArgsConfig;
  try {
    return parseArgs(config).values;
  } catch (cause) {
    // What follows the first sentence is how to pass such a thing as a file's name, of which envd takes none.
    const [sentence] = (cause instanceof Error ? cause.message : String(cause)).split(". ", 1);
    throw new Error(sentence, { cause });
  }
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65535) return port;
  throw new Error(`--port: '${text}' is no port number`);
}
