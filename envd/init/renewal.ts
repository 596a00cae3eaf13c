// What a restored guest must not keep from the one it was restored from.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { EnvdError } from "../errors.ts";

/** The clock is left alone while it is this close: behind the host's, and before it. */
const CLOCK_BEHIND_MAX_NS = 50_000_000n;
const CLOCK_AHEAD_MAX_NS = 5_000_000_000n;

export interface Renewal {
  readonly timestampNs: bigint | null;
  readonly hostname: string | null;
  /** Hexadecimal. */
  readonly entropy: string | null;
}

/** Renews what is asked for; internal when the kernel refuses. */
export async function renew(
  renewal: Renewal,
  options: { programsDir: string; etcDir: string },
): Promise<void> {
  const { timestampNs, hostname, entropy } = renewal;
  const steps: string[] = [];
  // Entropy goes first: what follows may already draw random numbers.
  if (entropy !== null) steps.push("entropy", entropy);
  if (timestampNs !== null && isClockOff(timestampNs)) {
    steps.push("clock", `${timestampNs / 1_000_000_000n}.${fraction(timestampNs)}`);
  }
  if (hostname !== null) steps.push("hostname", hostname);
  if (steps.length > 0) await runRenew(`${options.programsDir}/renew`, steps);
  if (hostname !== null) await writeHostname(hostname, options.etcDir);
  if (entropy !== null) {
    await writeFile(`${options.etcDir}/machine-id`, `${randomBytes(16).toString("hex")}\n`);
  }
}

/** The name for the next boot, and its entry beside the loopback addresses, as sudo looks it up. */
async function writeHostname(hostname: string, etcDir: string): Promise<void> {
  await writeFile(`${etcDir}/hostname`, `${hostname}\n`);
  const path = `${etcDir}/hosts`;
  const hosts = (await Bun.file(path).exists()) ? await Bun.file(path).text() : "";
  const others = hosts.split("\n").filter((line) => line !== "" && !/^127\.0\.1\.1\s/.test(line));
  await writeFile(path, `${[...others, `127.0.1.1\t${hostname}`].join("\n")}\n`);
}

function isClockOff(timestampNs: bigint): boolean {
  const behindNs = timestampNs - BigInt(Date.now()) * 1_000_000n;
  return behindNs > CLOCK_BEHIND_MAX_NS || -behindNs > CLOCK_AHEAD_MAX_NS;
}

function fraction(timestampNs: bigint): string {
  return String(timestampNs % 1_000_000_000n).padStart(9, "0");
}

async function runRenew(program: string, steps: string[]): Promise<void> {
  const child = Bun.spawn([program, ...steps], { stdio: ["ignore", "ignore", "pipe"], env: {} });
  if ((await child.exited) === 0) return;
  const reason = await new Response(child.stderr).text();
  throw new EnvdError("internal", `renewal failed: ${reason.trim()}`);
}
