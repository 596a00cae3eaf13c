// Directories that come into being on the way to a file.
import type { Stats } from "node:fs";
import { lchown, mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { EnvdError, errnoOf, fileError } from "../errors.ts";
import type { User } from "../users.ts";

const DIRECTORY_MODE = 0o755;

/**
 * Makes the directory and those above it that are missing, each owned by the user.
 * invalid_argument when a file is in the way. What was made before a failure stays.
 */
export async function makeDirectories(path: string, user: User): Promise<void> {
  const missing: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    const found = await statOrNull(at);
    if (found?.isDirectory()) break;
    if (found) throw new EnvdError("invalid_argument", `path '${at}' is a file`);
    missing.push(at);
  }
  for (const directory of missing.reverse()) await makeDirectory(directory, user);
}

/** What the path leads to, or null when that does not exist. */
export async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return null;
    throw fileError(error, path);
  }
}

async function makeDirectory(path: string, user: User): Promise<void> {
  try {
    await mkdir(path, DIRECTORY_MODE);
    await lchown(path, user.uid, user.gid);
  } catch (error) {
    // Another request made it meanwhile; a dangling link shows at the next step.
    if (errnoOf(error) !== "EEXIST") throw fileError(error, path);
  }
}
