// The program that brings a restored guest's memory: its command line and its control socket.
// docs/memory.md describes both. Whoever answers there may be a pager that was taken over.

import { chown, mkdir } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { connectInDirectory } from "../keeper/connect-in-directory.ts";
import { type PagerSpec, VmmError } from "../vmm/vmm.ts";
import { MemoryRegions } from "./memory-source.ts";

/** Its directory in the run directory, which is its user's own. */
export const PAGER_DIR = "pager";
/** Where the VMM hands over its memory; native/keeper/keeper.h has the name too. */
export const PAGER_SOCKET = "memory.sock";
/** The list of pages that a guest gave back, once the pager was asked to save it. */
export const REMOVED_LIST = "removed";
/** The list of pages in the order in which the guest wanted them. */
export const WORKING_SET = "working-set";
/** Why it ended its VMM. */
export const PAGER_REASON = "reason";
const CONTROL_SOCKET = "control.sock";

// What a guest wants first. The rest comes while it runs, between faults: waiting for 64 MiB of a working
// set kept a guest of 512 MiB for 68 to 276 ms, waiting for 8 MiB for 9 to 83 (six resumes each in turn).
const PREFETCH_BEFORE_MIB = 8;
// 256 regions of some 90 bytes; it has one.
const ANSWER_BYTES_MAX = 64 * 1024;

/** Program and arguments; relative paths are in the pager's directory, where it is started. */
export function pagerCommand(program: string, spec: PagerSpec & { vmmUid: number }): string[] {
  return [
    program,
    ...["--header", spec.header],
    ...spec.layerDirectories.flatMap((directory) => ["--layers", directory]),
    ...["--socket", PAGER_SOCKET, "--control", CONTROL_SOCKET, "--reason", PAGER_REASON],
    ...["--record", WORKING_SET, "--removed", REMOVED_LIST],
    ...(spec.workingSet === null ? [] : ["--prefetch", spec.workingSet]),
    ...["--prefetch-before-mib", String(PREFETCH_BEFORE_MIB)],
    ...["--vmm-uid", String(spec.vmmUid), "--uid", String(spec.uid)],
  ];
}

/** Makes the pager's directory in a run directory and returns it. */
export async function makePagerDir(runDir: string, uid: number): Promise<string> {
  const path = join(runDir, PAGER_DIR);
  await mkdir(path, { mode: 0o700 });
  await chown(path, uid, uid);
  return path;
}

const Ready = Type.Object({ ready: Type.Literal(true) });
const Saved = Type.Object({ saved: Type.Literal(true), bytes: Type.Integer({ minimum: 0 }) });
const Regions = Type.Object({ regions: MemoryRegions });
const Stats = Type.Record(
  Type.String({ maxLength: 64 }),
  Type.Union([Type.Integer(), Type.String({ maxLength: 64 })]),
);

/** Waits until what is to be there before the guest runs is there. Throws VmmError. */
export async function awaitPrefetch(runDir: string, timeoutMs: number): Promise<void> {
  await ask(runDir, { command: "ready", schema: Ready, timeoutMs });
}

/** Where the VMM has the guest's memory. Throws VmmError. */
export async function readRegions(runDir: string, timeoutMs: number) {
  return (await ask(runDir, { command: "regions", schema: Regions, timeoutMs })).regions;
}

/** Has the pager write REMOVED_LIST or WORKING_SET; returns the bytes of memory in it. Throws VmmError. */
export async function savePageList(
  runDir: string,
  options: { list: typeof REMOVED_LIST | typeof WORKING_SET; timeoutMs: number },
): Promise<number> {
  const { list, timeoutMs } = options;
  return (await ask(runDir, { command: list, schema: Saved, timeoutMs })).bytes;
}

/** Counts and timings. Throws VmmError. */
export function readPagerStats(runDir: string, timeoutMs: number): Promise<Static<typeof Stats>> {
  return ask(runDir, { command: "stats", schema: Stats, timeoutMs });
}

async function ask<T extends TSchema>(
  runDir: string,
  question: { command: string; schema: T; timeoutMs: number },
): Promise<Static<T>> {
  const { command, schema, timeoutMs } = question;
  const directory = join(runDir, PAGER_DIR);
  const socket = await connectInDirectory(directory, CONTROL_SOCKET).catch((cause: unknown) => {
    throw new VmmError("The pager cannot be asked", { cause });
  });
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  try {
    socket.write(`${command}\n`);
    const line = await readLine(socket);
    return Value.Parse(schema, JSON.parse(line));
  } catch (cause) {
    throw new VmmError(`The pager does not answer ${command}`, { cause });
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

async function readLine(socket: Socket): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let text = "";
  socket.on("error", reject);
  socket.once("close", () => reject(new Error("closed without an answer")));
  socket.on("data", (bytes: Uint8Array) => {
    text += Buffer.from(bytes).toString("latin1");
    if (text.length > ANSWER_BYTES_MAX) reject(new Error("an endless answer"));
    const end = text.indexOf("\n");
    if (end >= 0) resolve(text.slice(0, end));
  });
  return promise;
}
