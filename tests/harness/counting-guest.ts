// A guest of a few instructions (counting-guest.S) under any VMM, without network and disk of its own, and its memory
// read from outside. It runs where KVM runs no kernel, and starts in no time under emulation.

import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kernel } from "../../agent/native/kernel.ts";
import { findProcessMemory } from "../../agent/snapshots/process-memory.ts";
import type {
  CapsuleShape,
  GuestKernel,
  LiveMemory,
  VmmProcess,
  VmmSpec,
} from "../../agent/vmm/vmm.ts";
import { GUEST_MS, waitFor } from "./wait-for.ts";

const SOURCE = join(import.meta.dirname, "counting-guest.S");
/** One segment, at 16 MiB. */
const LAYOUT = `
PHDRS { image PT_LOAD FLAGS(7); note PT_NOTE FLAGS(4); }
SECTIONS {
  . = 0x1000000;
  .text : { *(.text) } :image
  .note.pvh : { *(.note.pvh) } :image :note
  /DISCARD/ : { *(.note.gnu*) *(.comment) *(.eh_frame) }
}
ENTRY(start)
`;
const COUNT_AT = 0x200000;
const MIB = 1024 * 1024;

export interface Counting {
  readonly rounds: bigint;
  /** Of this boot of it. */
  readonly nonce: bigint;
}

/** Builds it into `dir`. `isFlooding`: it does nothing but print. */
export async function buildCountingGuest(dir: string, isFlooding = false): Promise<GuestKernel> {
  const [layout, vmlinux] = [join(dir, "layout.lds"), join(dir, `counting-${isFlooding}`)];
  await writeFile(layout, LAYOUT);
  const options = [
    ...["-nostdlib", "-static", "-no-pie", ...(isFlooding ? ["-DFLOOD"] : [])],
    ...["-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments", `-Wl,-T,${layout}`],
  ];
  const gcc = Bun.spawn(["gcc", ...options, "-o", vmlinux, SOURCE], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const said = await new Response(gcc.stderr).text();
  if ((await gcc.exited) !== 0) throw new Error(`gcc: ${said}`);
  return { vmlinux, initrd: null, version: "" };
}

/** Waits until the guest of that console goes round, after a boot or a restore. */
export async function awaitRounds(spec: VmmSpec): Promise<void> {
  const read = () => readFile(spec.consoleLog, "latin1").catch(() => "");
  const dots = (text: string) => text.length - text.replaceAll(".", "").length;
  const before = dots(await read());
  const look = async () => dots(await read()) > before + 2;
  await waitFor("a guest that counts", look, { timeoutMs: GUEST_MS });
}

/** Saves a stopped guest's memory as a generation in `directory`, over what it was restored from. */
export async function seal(
  kernel: Kernel,
  guest: { runDir: string; process: VmmProcess; shape: CapsuleShape; memory: LiveMemory },
  target: { directory: string; parent: string | null },
): Promise<Counting> {
  const { memory, shape } = guest;
  const { directory, parent } = target;
  const isFirst = parent === null || memory.kind === "file" || memory.kind === "anonymous";
  const pages = {
    directory,
    parentHeader: isFirst ? "" : join(parent, "memory.header"),
    layerDirectories: isFirst ? [] : [parent],
    id: crypto.randomUUID(),
  };
  if (memory.kind === "file") {
    await kernel.memory.sealFile(memory.path, shape.memoryMib * MIB, pages);
  } else {
    await kernel.memory.sealProcess(await findProcessMemory(kernel, guest, memory), pages);
  }
  const flat = join(directory, "flat");
  const layers = isFirst ? [directory] : [directory, parent];
  await kernel.memory.flatten(join(directory, "memory.header"), layers, flat);
  return readCounting(flat);
}

/** Of a flat file of its memory. */
export async function readCounting(flat: string): Promise<Counting> {
  await using file = await open(flat);
  const { buffer } = await file.read(Buffer.alloc(16), 0, 16, COUNT_AT);
  return { rounds: buffer.readBigUInt64LE(0), nonce: buffer.readBigUInt64LE(8) };
}
