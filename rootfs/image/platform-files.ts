// What the platform adds to a distribution's tree: envd's bundle, wrenn-init and mount points.

import { chmod, copyFile, lstat, mkdir, readdir, stat, symlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BuildError } from "../run.ts";
import { compileStatic } from "../static-program.ts";

const ENVD_DIR = "usr/lib/envd";
const ENVD_LINK = "usr/local/bin/envd";
const INIT = "usr/local/bin/wrenn-init";

/** Where the initrd and wrenn-init mount something. */
const MOUNT_POINTS = ["dev", "proc", "sys", "run"];

/** More than the bundle can have; a wrong --envd directory ends here. */
const ENVD_FILES_MAX = 100;

export interface PlatformFile {
  readonly source: string;
  /** Path below the image's root, without leading slash. */
  readonly target: string;
  readonly mode: number;
}

/**
 * The files of envd's bundle, in order of their names.
 * @throws BuildError if the bundle isn't there or has no envd in it.
 */
export async function envdFiles(envdDir: string): Promise<PlatformFile[]> {
  const names = await readdir(envdDir, { recursive: true }).catch((): string[] => []);
  if (!names.includes("envd")) {
    throw new BuildError(`no envd in ${envdDir}: run bun scripts/build-envd.ts first`);
  }
  if (names.length > ENVD_FILES_MAX) {
    throw new BuildError(`${envdDir} has ${names.length} files: that is no envd bundle`);
  }
  const files: PlatformFile[] = [];
  for (const name of names.sort()) {
    const source = join(envdDir, name);
    const info = await stat(source);
    if (!info.isFile()) continue;
    const mode = (info.mode & 0o111) === 0 ? 0o644 : 0o755;
    files.push({ source, target: `${ENVD_DIR}/${name}`, mode });
  }
  return files;
}

/** Puts the bundle, its link, wrenn-init and the mount points into the tree, all dated `epoch`. */
export async function addPlatformFiles(
  root: string,
  files: readonly PlatformFile[],
  epoch: number,
): Promise<void> {
  const dirs = new Set<string>();
  for (const path of MOUNT_POINTS) {
    await mkdir(join(root, path), { recursive: true });
    dirs.add(path);
  }
  for (const file of files) {
    const target = join(root, file.target);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(file.source, target);
    await chmod(target, file.mode);
    await utimes(target, epoch, epoch);
    dirs.add(dirname(file.target));
  }
  await mkdir(join(root, dirname(ENVD_LINK)), { recursive: true });
  await symlink(`/${ENVD_DIR}/envd`, join(root, ENVD_LINK));
  await compileStatic("wrenn-init", join(root, INIT));
  await utimes(join(root, INIT), epoch, epoch);
  for (const dir of [...dirs, dirname(ENVD_DIR), dirname(INIT), "."]) {
    if ((await lstat(join(root, dir))).isDirectory()) await utimes(join(root, dir), epoch, epoch);
  }
}
