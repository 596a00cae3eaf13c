/**
 * Finds out whether KVM runs a guest here, by running one: native/keeper/accel-probe.S, which says
 * so on its serial port after 30 ms. A /dev/kvm that opens proves nothing: there are hosts whose
 * vCPUs stop after the first instructions of a stock kernel.
 */
import { existsSync } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

export type Accel = "kvm" | "tcg";

const MARKER = "wrenn: accelerator works";
// A KVM host needs some 50 ms, most of it QEMU's own start.
const KVM_TIMEOUT_MS = 300;
// A host that is itself emulated is slow with everything, and slowness is no proof against KVM: there it
// needs as long as TCG or twice that (1.3 to 2.5 s and 1.4 to 1.5 s, in a nested host).
const TCG_TIMEOUT_MS = 5000;
const KVM_PATIENCE = 4;
const OUTPUT_BYTES_MAX = 4096;
const COMPLAINT_LENGTH_MAX = 300;

const CachedProbe = Type.Object({
  bootId: Type.String(),
  version: Type.String(),
  cpu: Type.String(),
  accel: Type.Union([Type.Literal("kvm"), Type.Literal("tcg")]),
  because: Type.String(),
});

export interface AccelChoice {
  readonly accel: Accel;
  /** What was seen, for people: "KVM ran a guest in 54 ms". */
  readonly because: string;
}

export interface ProbeOptions {
  readonly program: string;
  /** Of the program; another one is probed again. */
  readonly version: string;
  /** Null: the host's. */
  readonly cpu: string | null;
  readonly nativeDir: string;
  /** The result is kept here for as long as the host does not boot again. Null: it is neither kept nor read. */
  readonly cacheDir: string | null;
}

/** Never fails because of a probe: whatever goes wrong with KVM means TCG. */
export async function probeAccel(options: ProbeOptions): Promise<AccelChoice> {
  if (!existsSync("/dev/kvm")) return { accel: "tcg", because: "there is no /dev/kvm" };
  const { version, cacheDir } = options;
  const cpu = kvmCpu(options.cpu);
  if (cacheDir === null) return chooseBy(await runOnKvm(options));
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const path = join(cacheDir, "accel.json");
  const cached = await readCache(path);
  if (cached?.bootId === bootId && cached.version === version && cached.cpu === cpu) {
    return { accel: cached.accel, because: cached.because };
  }
  const run = await runOnKvm(options);
  const choice = chooseBy(run);
  // A time that ran out may be the moment's fault: the next start looks again.
  if (run.outcome !== "timeout") await writeCache(path, { bootId, version, cpu, ...choice });
  return choice;
}

/** QEMU's word for a processor of KVM's; it refuses one that the host cannot be. */
export function kvmCpu(name: string | null): string {
  return name === null ? "host" : `${name},enforce`;
}

/** Exported for its test. */
export function chooseBy({ outcome, elapsedMs, said }: ProbeRun): AccelChoice {
  const ms = Math.round(elapsedMs);
  if (outcome === "works") return { accel: "kvm", because: `KVM ran a guest in ${ms} ms` };
  if (outcome === "timeout") {
    return { accel: "tcg", because: `KVM did not run a guest to its end within ${ms} ms` };
  }
  const words = said === "" ? "it ended without a word" : said;
  return { accel: "tcg", because: `KVM did not run a guest: ${words}` };
}

async function runOnKvm(options: ProbeOptions): Promise<ProbeRun> {
  const first = await runProbe(options, "kvm", KVM_TIMEOUT_MS);
  if (first.outcome !== "timeout") return first;
  const emulated = await runProbe(options, "tcg", TCG_TIMEOUT_MS);
  return runProbe(options, "kvm", KVM_PATIENCE * emulated.elapsedMs);
}

export interface ProbeRun {
  readonly outcome: "works" | "fails" | "timeout";
  readonly elapsedMs: number;
  /** QEMU's last line of complaint, or "". */
  readonly said: string;
}

/** Runs the probe's guest once, as the driver would run a capsule. */
export async function runProbe(
  options: Pick<ProbeOptions, "program" | "cpu" | "nativeDir">,
  accel: Accel,
  timeoutMs: number,
): Promise<ProbeRun> {
  const startedAt = performance.now();
  const qemu = Bun.spawn([options.program, ...probeArguments(options, accel)], {
    stdio: ["ignore", "pipe", "pipe"],
    env: {},
    timeout: Math.ceil(timeoutMs),
    killSignal: "SIGKILL",
  });
  const complaint = new Response(qemu.stderr).text();
  const hasMarker = await readMarker(qemu.stdout);
  // It has said what it can; what is left of it, a guest that halts or hangs, is of no use.
  qemu.kill("SIGKILL");
  await qemu.exited;
  const elapsedMs = performance.now() - startedAt;
  const said = ((await complaint).trim().split("\n").at(-1) ?? "").slice(0, COMPLAINT_LENGTH_MAX);
  if (hasMarker) return { outcome: "works", elapsedMs, said };
  return { outcome: elapsedMs >= timeoutMs ? "timeout" : "fails", elapsedMs, said };
}

function probeArguments(
  { cpu, nativeDir }: Pick<ProbeOptions, "cpu" | "nativeDir">,
  accel: Accel,
): string[] {
  return [
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "16"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-accel", accel, "-cpu", accel === "kvm" ? kvmCpu(cpu) : "max"],
    ...["-machine", "microvm,isa-serial=on,x-option-roms=off"],
    ...["-bios", join(nativeDir, "accel-probe.bin"), "-serial", "stdio"],
  ];
}

async function readMarker(stdout: ReadableStream<Uint8Array>): Promise<boolean> {
  const decoder = new TextDecoder();
  let output = "";
  for await (const chunk of stdout) {
    output += decoder.decode(chunk, { stream: true });
    if (output.includes(MARKER)) return true;
    if (output.length > OUTPUT_BYTES_MAX) return false;
  }
  return false;
}

async function readCache(path: string) {
  const text = await readFile(path, "utf8").catch(() => "");
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(CachedProbe, value) ? value : null;
  } catch {
    return null;
  }
}

async function writeCache(path: string, probe: typeof CachedProbe.static): Promise<void> {
  await writeFile(`${path}.tmp`, JSON.stringify(probe));
  await rename(`${path}.tmp`, path);
}
