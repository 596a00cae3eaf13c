// The note in a run directory that its VMM holds a paused guest, whose device state is written. It
// lives as long as the VMM, so a restarted host finds none.

import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { LiveMemoryNote } from "../memory/memory-source.ts";
import { hasCode } from "../native/syscall-error.ts";

const FILE = "paused.json";

const PauseNote = Type.Object({
  /** That sealing will make. */
  generation: Type.Integer({ minimum: 0 }),
  pausedAt: Type.String({ maxLength: 64 }),
  /** Where sealing finds the guest's RAM. */
  memory: LiveMemoryNote,
});
export type PauseNote = Static<typeof PauseNote>;

export async function writePauseNote(runDir: string, note: PauseNote): Promise<void> {
  await writeFile(join(runDir, FILE), JSON.stringify(note), { mode: 0o600 });
}

/** Null if there is none. Throws if it cannot be read. */
export async function readPauseNote(runDir: string): Promise<PauseNote | null> {
  const text = await readFile(join(runDir, FILE), "utf8").catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  });
  return text === null ? null : Value.Parse(PauseNote, JSON.parse(text));
}

export async function removePauseNote(runDir: string): Promise<void> {
  await rm(join(runDir, FILE), { force: true });
}
