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

const CachedProbe = Type.Object({
  bootId: Type.String(),
  version: Type.String(),
  accel: Type.Union([Type.Literal("kvm"), Type.Literal("tcg")]),
});

export interface ProbeOptions {
  readonly program: string;
  /** Of the program; another one is probed again. */
  readonly version: string;
  readonly nativeDir: string;
  /** The result is kept here for as long as the host does not boot again. */
  readonly cacheDir: string;
}

/** Never fails because of a probe: whatever goes wrong with KVM means TCG. */
export async function probeAccel(options: ProbeOptions): Promise<Accel> {
  if (!existsSync("/dev/kvm")) return "tcg";
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const path = join(options.cacheDir, "accel.json");
  const cached = await readCache(path);
  if (cached?.bootId === bootId && cached.version === options.version) return cached.accel;
  const { outcome } = await runOnKvm(options);
  const accel = outcome === "works" ? "kvm" : "tcg";
  // A time that ran out may be the moment's fault: the next start looks again.
  if (outcome !== "timeout") await writeCache(path, { bootId, version: options.version, accel });
  return accel;
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
}

/** Runs the probe's guest once, as the driver would run a capsule. */
export async function runProbe(
  options: Pick<ProbeOptions, "program" | "nativeDir">,
  accel: Accel,
  timeoutMs: number,
): Promise<ProbeRun> {
  const startedAt = performance.now();
  const qemu = Bun.spawn([options.program, ...probeArguments(options.nativeDir, accel)], {
    stdio: ["ignore", "pipe", "ignore"],
    env: {},
    timeout: Math.ceil(timeoutMs),
    killSignal: "SIGKILL",
  });
  const hasMarker = await readMarker(qemu.stdout);
  // It has said what it can; what is left of it, a guest that halts or hangs, is of no use.
  qemu.kill("SIGKILL");
  await qemu.exited;
  const elapsedMs = performance.now() - startedAt;
  if (hasMarker) return { outcome: "works", elapsedMs };
  return { outcome: elapsedMs >= timeoutMs ? "timeout" : "fails", elapsedMs };
}

function probeArguments(nativeDir: string, accel: Accel): string[] {
  return [
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "16"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-accel", accel, "-cpu", accel === "kvm" ? "host" : "max"],
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
