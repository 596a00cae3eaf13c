// What a restored guest must not keep from the one it was restored from.
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from "node:fs";
import { HOST_ADDRESS } from "../config.ts";
import { EnvdError } from "../errors.ts";
import type { MessageProgram } from "../message-program.ts";

/** A clock is left alone while it is this close behind the host's. */
const CLOCK_BEHIND_MAX_NS = 5_000_000n;
/** Before it: time that goes backwards is worse than time that is a little off. */
const CLOCK_AHEAD_MAX_NS = 20_000_000n;
/** The same when all there is to go by is a message that was under way for an unknown time. */
const CLOCK_AHEAD_UNMEASURED_MAX_NS = 5_000_000_000n;
/** Of the kernel's generator, just reseeded, and not of one in this process, which a snapshot holds. */
const KERNEL_UUID = "/proc/sys/kernel/random/uuid";

export interface Renewal {
  /** By how much to move the clock; null: it is right. */
  readonly advanceNs: bigint | null;
  readonly hostname: string | null;
  /** Hexadecimal. With it goes what else a guest has of the one before: its connections to the outside. */
  readonly entropy: string | null;
}

/**
 * Renews what is asked for; internal when the kernel refuses. Its files are small and written at once: in a
 * guest that was just restored a way through the pool of threads costs more than they do.
 */
export async function renew(
  renewal: Renewal,
  options: { program: MessageProgram; etcDir: string },
): Promise<void> {
  const { advanceNs, hostname, entropy } = renewal;
  const steps: string[] = [];
  // Entropy goes first: what follows may already draw random numbers.
  if (entropy !== null) steps.push("entropy", entropy, "connections", HOST_ADDRESS);
  if (hostname !== null) steps.push("hostname", hostname);
  // The clock goes last: done twice, it would be wrong.
  if (advanceNs !== null) steps.push("advance", String(advanceNs));
  if (steps.length > 0) await take(steps, options.program);
  if (hostname !== null) writeHostname(hostname, options.etcDir);
  if (entropy !== null) {
    const uuid = readFileSync(KERNEL_UUID, "latin1");
    overwrite(`${options.etcDir}/machine-id`, uuid.replaceAll("-", ""));
  }
}

/** The name for the next boot, and its entry beside the loopback addresses, as sudo looks it up. */
export function writeHostname(hostname: string, etcDir: string): void {
  overwrite(`${etcDir}/hostname`, `${hostname}\n`);
  const path = `${etcDir}/hosts`;
  const hosts = existsSync(path) ? readFileSync(path, "utf8") : "";
  const others = hosts.split("\n").filter((line) => line !== "" && !/^127\.0\.1\.1\s/.test(line));
  overwrite(path, `${[...others, `127.0.1.1\t${hostname}`].join("\n")}\n`);
}

/**
 * Makes the text the content of a file, in place: names are as long as the ones before, and a file that is
 * cut and filled again costs a journalled file system new blocks, which it then writes out at once.
 */
function overwrite(path: string, text: string): void {
  const bytes = Buffer.from(text);
  const file = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o644);
  try {
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(file, bytes, at, bytes.length - at, at);
    }
    if (fstatSync(file).size > bytes.length) ftruncateSync(file, bytes.length);
  } finally {
    closeSync(file);
  }
}

/**
 * By how much the clock is to be moved; null: not at all. What the host has measured counts, however long
 * its message took. From a message's own time less is known: to be called as soon as it is there.
 */
export function clockAdvanceNs(times: {
  readonly clockAdvanceUs?: number;
  readonly timestampNs?: bigint;
}): bigint | null {
  const { clockAdvanceUs, timestampNs } = times;
  if (clockAdvanceUs !== undefined) {
    return unlessClose(BigInt(clockAdvanceUs) * 1000n, CLOCK_AHEAD_MAX_NS);
  }
  if (timestampNs === undefined) return null;
  const behindNs = timestampNs - BigInt(Date.now()) * 1_000_000n;
  return unlessClose(behindNs, CLOCK_AHEAD_UNMEASURED_MAX_NS);
}

function unlessClose(behindNs: bigint, aheadMaxNs: bigint): bigint | null {
  return behindNs > CLOCK_BEHIND_MAX_NS || -behindNs > aheadMaxNs ? behindNs : null;
}

async function take(steps: string[], program: MessageProgram): Promise<void> {
  const [reason = ""] = await program.ask(steps);
  if (reason !== "") throw new EnvdError("internal", `renewal failed: ${reason}`);
}
