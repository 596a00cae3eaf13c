// Where the memory of a living guest is to be read from: that depends on how its VMM was started, and
// is noted in its run directory, which lives as long.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { LiveMemory } from "../vmm/vmm.ts";

const FILE = "memory.json";

const Address = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const MemoryRegions = Type.Array(
  Type.Object({ address: Address, size: Address, offset: Address }),
  { minItems: 1, maxItems: 256 },
);
const Path = Type.String({ minLength: 1, maxLength: 4096 });

/** LiveMemory as it is noted in files. */
export const LiveMemoryNote = Type.Union([
  Type.Object({ kind: Type.Literal("file"), path: Path }),
  Type.Object({ kind: Type.Literal("map"), file: Path }),
  Type.Object({ kind: Type.Literal("uffd") }),
  Type.Object({ kind: Type.Literal("anonymous"), regions: MemoryRegions }),
]);

export async function writeMemorySource(runDir: string, memory: LiveMemory): Promise<void> {
  await writeFile(join(runDir, FILE), JSON.stringify(memory), { mode: 0o600 });
}

/** Throws if there is no note, or none that can be read. */
export async function readMemorySource(runDir: string): Promise<LiveMemory> {
  const text = await readFile(join(runDir, FILE), "utf8");
  return Value.Parse(LiveMemoryNote, JSON.parse(text));
}
