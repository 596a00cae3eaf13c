// Where the memory of a living VMM is to be read from when it is paused: that depends on how it was
// started, and is noted in its run directory, which lives as long.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { hasCode } from "../native/syscall-error.ts";

const FILE = "memory.json";

/**
 * boot: the RAM file in the run directory is all of it. map, uffd: what the guest wrote is the
 * VMM's own, over the memory in the capsule's `base` directory.
 */
const MemorySource = Type.Object({
  kind: Type.Union([Type.Literal("boot"), Type.Literal("map"), Type.Literal("uffd")]),
});
export type MemorySource = Static<typeof MemorySource>;

export async function writeMemorySource(runDir: string, source: MemorySource): Promise<void> {
  await writeFile(join(runDir, FILE), JSON.stringify(source), { mode: 0o600 });
}

/** Without a note the guest was booted. Throws if the note cannot be read. */
export async function readMemorySource(runDir: string): Promise<MemorySource> {
  const text = await readFile(join(runDir, FILE), "utf8").catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  });
  return text === null ? { kind: "boot" } : Value.Parse(MemorySource, JSON.parse(text));
}
