// Directories a build works in. They lie beside its output, so that a rename puts the result in
// place, and are removed however the build ends.

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";

const WORK_DIR = /^work-(\d+)-\w{6}$/;

/**
 * Calls `body` with a new directory inside `parent`, which only the caller's user may enter: trees
 * of distributions have set-user-ID programs in them. Directories of builds that were killed are
 * removed on the way.
 */
export async function withWorkDir<T>(
  parent: string,
  body: (dir: string) => Promise<T>,
): Promise<T> {
  await mkdir(parent, { recursive: true });
  for (const name of await readdir(parent)) {
    const pid = WORK_DIR.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) await remove(join(parent, name));
  }
  const dir = await mkdtemp(join(parent, `work-${process.pid}-`));
  try {
    return await body(dir);
  } finally {
    await remove(dir);
  }
}

async function remove(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true });
}
