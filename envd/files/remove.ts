// Removing what a path names.
import { rm } from "node:fs/promises";
import { fileError } from "../errors.ts";
import { systemName } from "../file-names.ts";
import type { User, Users } from "../users.ts";
import { openPathHandle } from "./path-handle.ts";

/** Removes the file, link or tree; nothing happens when nothing is there. */
export async function removePath(
  path: string,
  { users, actor }: { users: Users; actor: User | null },
): Promise<void> {
  using handle = openPathHandle(path, { users, followsLast: false, maker: null, actor });
  if (!handle?.entry) return;
  handle.requireChange();
  try {
    await rm(systemName(handle.path), { recursive: true, force: true });
  } catch (error) {
    throw fileError(error, path);
  }
}
