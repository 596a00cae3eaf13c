// Starts a keeper, and with it a VMM. native/keeper/options.c reads what is composed here.

import { join } from "node:path";
import { VmmError } from "../vmm/vmm.ts";
import { callOff, GRACE_MS, KeptProcess } from "./kept-process.ts";

/** What the VMM's end of the descriptors is called on its command line. */
export const VMM_FD = { tap: 3, control: 4, userfault: 5 } as const;

// One log file of the console; a second holds what came before.
const CONSOLE_LOG_MAX_BYTES = 1024 * 1024;
// A VMM with one disk, one TAP and its sockets has some 30 open.
const NOFILE_MAX = 256;
// The keeper answers within milliseconds; a host that swaps or forks slowly gets its time.
const START_TIMEOUT_MS = 20_000;
const MESSAGE_MAX = 1000;

export interface JailFile {
  /** The VMM sees it as /vm/<name>. */
  readonly name: string;
  /** Of a file, a socket, a block device, or a directory of the VMM's own. */
  readonly path: string;
  /** rx: a program or library. */
  readonly access: "ro" | "rw" | "rx";
}

export interface KeeperSpec {
  readonly runDir: string;
  readonly consoleLog: string;
  readonly netns: string;
  /** Given to the VMM open. Null: it opens the device by itself, and lives in that namespace. */
  readonly tap: string | null;
  readonly uid: number;
  /** Name of the control socket in the run directory; null: the VMM makes its own. */
  readonly control: string | null;
  readonly cgroupProcsFiles: readonly string[];
  readonly files: readonly JailFile[];
  /** Device nodes of the host that the VMM may open, such as /dev/kvm. */
  readonly devices: readonly string[];
  /** Variables of the VMM's environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** What brings the guest's memory: program and arguments, and its directory. */
  readonly pager: { readonly dir: string; readonly command: readonly string[] } | null;
  /** The largest file that the VMM writes. */
  readonly fileMaxBytes: number;
  /** Program, by absolute path below /usr or /vm, and arguments. */
  readonly command: readonly string[];
}

/**
 * Returns once the VMM's program runs. Throws VmmError with the keeper's reason; then neither VMM
 * nor keeper is left, and the run directory takes no other.
 */
export async function startKeeper(nativeDir: string, spec: KeeperSpec): Promise<KeptProcess> {
  try {
    await runKeeper(join(nativeDir, "keeper"), keeperArguments(spec));
    const process = await KeptProcess.attach(spec.runDir);
    if (process === null) throw new VmmError("The VMM ended at once");
    return process;
  } catch (error) {
    await callOff(spec.runDir);
    throw error;
  }
}

/** Exported for its test. */
export function keeperArguments(spec: KeeperSpec): string[] {
  return [
    ...["--run-dir", spec.runDir],
    ...["--console-log", spec.consoleLog],
    ...["--log-max", String(CONSOLE_LOG_MAX_BYTES)],
    ...["--netns", `/run/netns/${spec.netns}`],
    ...(spec.tap === null ? [] : ["--tap", spec.tap]),
    ...(spec.control === null ? [] : ["--control", spec.control]),
    ...["--uid", String(spec.uid)],
    ...["--fsize", String(spec.fileMaxBytes)],
    ...["--nofile", String(NOFILE_MAX)],
    ...["--grace-ms", String(GRACE_MS)],
    ...spec.cgroupProcsFiles.flatMap((path) => ["--cgroup", path]),
    ...spec.files.flatMap(({ name, access, path }) => ["--file", `${name}=${access}:${path}`]),
    ...spec.devices.flatMap((path) => ["--device", path]),
    ...Object.entries(spec.environment).flatMap(([name, value]) => ["--env", `${name}=${value}`]),
    ...pagerArguments(spec.pager),
    "--",
    ...spec.command,
  ];
}

function pagerArguments(pager: KeeperSpec["pager"]): string[] {
  if (pager === null) return [];
  return ["--pager-dir", pager.dir, ...pager.command.flatMap((word) => ["--pager-arg", word])];
}

async function runKeeper(program: string, args: string[]): Promise<void> {
  const launcher = Bun.spawn([program, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: {},
    // A signal to the agent's process group must not reach it.
    detached: true,
    timeout: START_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const message = await new Response(launcher.stderr).text();
  const status = await launcher.exited;
  if (status === 0) return;
  const reason = message.trim().slice(0, MESSAGE_MAX) || `the keeper ended with status ${status}`;
  throw new VmmError(`Cannot start the VMM: ${reason}`);
}
