// What a pager says, in its last moment, about the memory that it could not bring.

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { hasCode } from "../native/syscall-error.ts";
import { PAGER_DIR, PAGER_REASON } from "./pager.ts";

// Some 80 bytes; who writes it may have been taken over.
const VERDICT_BYTES_MAX = 4096;
/** A checksum that is wrong, a read that fails. */
const DAMAGED: readonly string[] = ["EBADMSG", "EIO"];

const Verdict = Type.Object({ error: Type.String() });

/**
 * Whether the capsule's last VMM was ended since its memory on disk is damaged. Its run directory
 * knows, for as long as it is there.
 */
export async function isMemoryDamaged(runDir: string): Promise<boolean> {
  try {
    const text = await readStart(join(runDir, PAGER_DIR, PAGER_REASON));
    const { error } = Value.Parse(Verdict, JSON.parse(text));
    return DAMAGED.includes(error);
  } catch (error) {
    if (hasCode(error, "EMFILE", "ENFILE", "EACCES", "EPERM")) throw error;
    // None, or none that can be read: it was no pager's verdict.
    return false;
  }
}

async function readStart(path: string): Promise<string> {
  // Its directory is the pager's own: what lies there may be a link, or a pipe that nobody writes.
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  await using file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(VERDICT_BYTES_MAX));
  return buffer.toString("utf8", 0, bytesRead);
}
