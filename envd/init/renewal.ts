// What a restored guest must not keep from the one it was restored from.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { EnvdError } from "../errors.ts";

/** The clock is left alone while it is this close: behind the host's, and before it. */
const CLOCK_BEHIND_MAX_NS = 5_000_000n;
const CLOCK_AHEAD_MAX_NS = 5_000_000_000n;

export interface Renewal {
  /** How far the clock was behind the host's when the host's message came. */
  readonly behindNs: bigint | null;
  readonly hostname: string | null;
  /** Hexadecimal. */
  readonly entropy: string | null;
}

/** Renews what is asked for; internal when the kernel refuses. */
export async function renew(
  renewal: Renewal,
  options: { programsDir: string; etcDir: string },
): Promise<void> {
  const { behindNs, hostname, entropy } = renewal;
  const steps: string[] = [];
  // Entropy goes first: what follows may already draw random numbers.
  if (entropy !== null) steps.push("entropy", entropy);
  if (behindNs !== null && isClockOff(behindNs)) steps.push("advance", String(behindNs));
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

/** How far the guest's clock is behind that time. */
export function clockBehindNs(timestampNs: bigint): bigint {
  return timestampNs - BigInt(Date.now()) * 1_000_000n;
}

function isClockOff(behindNs: bigint): boolean {
  return behindNs > CLOCK_BEHIND_MAX_NS || -behindNs > CLOCK_AHEAD_MAX_NS;
}

async function runRenew(program: string, steps: string[]): Promise<void> {
  const child = Bun.spawn([program, ...steps], { stdio: ["ignore", "ignore", "pipe"], env: {} });
  if ((await child.exited) === 0) return;
  const reason = await new Response(child.stderr).text();
  throw new EnvdError("internal", `renewal failed: ${reason.trim()}`);
}
