// Removing what a path names.
import { rm } from "node:fs/promises";
import { fileError } from "../errors.ts";
import { systemName } from "../file-names.ts";
import type { Users } from "../users.ts";
import { openPlace } from "./place.ts";

/** Removes the file, link or tree; nothing happens when nothing is there. */
export async function removePath(path: string, users: Users): Promise<void> {
  using place = openPlace(path, { users, followsLast: false, maker: null });
  if (!place?.entry) return;
  place.requireChange();
  try {
    await rm(systemName(place.path), { recursive: true, force: true });
  } catch (error) {
    throw fileError(error, path);
  }
}
