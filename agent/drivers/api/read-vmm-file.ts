// What a VMM writes into the one directory that is its own. It may be hostile by then.

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { VmmError } from "../../vmm/vmm.ts";

/**
 * All that the file holds. It may be a link, a pipe that nobody writes, or endless: throws VmmError, which names
 * `what`, if it is empty, has more than `bytesMax` bytes or ends early, and what open(2) throws for a link.
 */
export async function readVmmFile(
  path: string,
  { what, bytesMax }: { what: string; bytesMax: number },
): Promise<Buffer> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  await using file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const { size } = await file.stat();
  if (size === 0 || size > bytesMax) throw new VmmError(`${what} has ${size} bytes`);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
  if (bytesRead !== size) throw new VmmError(`${what} ends early`);
  return buffer;
}
