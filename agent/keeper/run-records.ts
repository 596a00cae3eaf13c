// The files that a keeper leaves in a run directory, parsed. native/keeper/keeper.h lists them.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Static, TSchema } from "@sinclair/typebox";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { VmmError, type VmmExit } from "../vmm/vmm.ts";

// Pids on Linux are at most 2^22.
const Pid = Type.Integer({ minimum: 1, maximum: 4_194_304 });
const StartTime = Type.String({ pattern: "^[0-9]{1,20}$" });

const KeeperRecord = Type.Object({ keeperPid: Pid, keeperStartTime: StartTime });
export type KeeperRecord = Static<typeof KeeperRecord>;

const VmmRecord = Type.Object({
  pid: Pid,
  startTime: StartTime,
  keeperPid: Pid,
  keeperStartTime: StartTime,
  pagerPid: Type.Optional(Pid),
});
export type VmmRecord = Static<typeof VmmRecord>;

const End = {
  reason: Type.Union([Type.Literal("exited"), Type.Literal("signaled")]),
  status: Type.Integer({ minimum: 0, maximum: 255 }),
};
const ExitRecord = Type.Object({
  ...End,
  pager: Type.Optional(Type.Object(End)),
  wasAsked: Type.Boolean(),
  stderr: Type.String({ maxLength: 4096 }),
});

/** Null if there is no such file. Throws VmmError if it is not what a keeper writes. */
export function readKeeperRecord(runDir: string): Promise<KeeperRecord | null> {
  return readRecord(runDir, "keeper.json", KeeperRecord);
}

/** As readKeeperRecord. */
export function readVmmRecord(runDir: string): Promise<VmmRecord | null> {
  return readRecord(runDir, "vmm.json", VmmRecord);
}

/** How the VMM in this run directory ended, or null if nobody wrote it down. Throws VmmError. */
export async function readVmmExit(runDir: string): Promise<VmmExit | null> {
  const record = await readRecord(runDir, "exit.json", ExitRecord);
  if (record === null) return null;
  const parts = [record.wasAsked ? "it was asked to" : "it was not asked to"];
  const words = record.stderr.trim();
  if (words !== "") parts.push(`its last words: ${words}`);
  const { pager } = record;
  const isPagerLost = pager !== undefined && (pager.reason === "signaled" || pager.status !== 0);
  if (isPagerLost) parts.push(`its pager ${pager.reason}, ${pager.status}`);
  return {
    cause: isPagerLost ? "pager" : "vmm",
    reason: record.reason,
    status: record.status,
    detail: parts.join("; "),
  };
}

async function readRecord<T extends TSchema>(
  runDir: string,
  name: string,
  schema: T,
): Promise<Static<T> | null> {
  const path = join(runDir, name);
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (text === null) return null;
  try {
    return Value.Parse(schema, JSON.parse(text));
  } catch (cause) {
    throw new VmmError(`${path} is not what a keeper writes`, { cause });
  }
}
