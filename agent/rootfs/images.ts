// Base images: immutable files named by their content, blobs/<sha256>.ext4, and the links by which
// templates name them, teams/<team>/<template>/rootfs.ext4. An operator may put a plain file in the
// place of a link: it is imported.
import {
  chmod,
  link,
  lstat,
  mkdir,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { encodeUuid } from "../../proto/ids.ts";
import type { Kernel } from "../native/kernel.ts";
import { hasCode } from "../native/syscall-error.ts";

const BLOB_PATTERN = /^([0-9a-f]{64})\.ext4$/;

interface ImagesKernel {
  readonly storage: Pick<Kernel["storage"], "sha256">;
}

export interface BaseImage {
  readonly sha256: string;
  /** blobs/<sha256>.ext4, mode 0444. */
  readonly path: string;
  readonly sizeBytes: number;
}

export class Images {
  readonly #dir: string;
  readonly #kernel: ImagesKernel;
  readonly #imports = new Map<string, Promise<BaseImage>>();

  /** `dir` is $WRENN_DIR/images. */
  constructor(dir: string, kernel: ImagesKernel) {
    this.#dir = dir;
    this.#kernel = kernel;
  }

  /**
   * The base image of a template, or null if the host has none. A plain file in its place is
   * hashed, moved to the blobs and replaced by a link; killed at any point, the next call goes on.
   * Throws if the link leads anywhere but to a blob, or the file changes while it is imported.
   */
  async resolve(ids: { teamId: string; templateId: string }): Promise<BaseImage | null> {
    const { teamId, templateId } = ids;
    const dir = join(this.#dir, "teams", encodeUuid(teamId), encodeUuid(templateId));
    const path = join(dir, "rootfs.ext4");
    try {
      const found = await lstat(path);
      if (found.isSymbolicLink()) return await this.#follow(path);
      if (found.isFile()) return await this.#importOnce(path);
    } catch (error) {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    }
    throw new Error(`Base image ${path} is neither a file nor a link`);
  }

  /**
   * What is wrong with the images of this host, a sentence each, and how many there are. Reads all of them:
   * seconds per GiB. A plain file in the place of a link is not hashed yet, and not looked at.
   */
  async inspect(): Promise<{ blobs: number; templates: number; faults: string[] }> {
    const faults: string[] = [];
    const names = await readdir(this.#blobsDir()).catch(() => []);
    const blobs = names.flatMap((name) => BLOB_PATTERN.exec(name)?.[1] ?? []);
    for (const sha256 of blobs) {
      const path = join(this.#blobsDir(), `${sha256}.ext4`);
      const found = await this.#kernel.storage.sha256(path);
      if (found !== sha256) faults.push(`${path} is damaged: its SHA-256 is ${found}`);
    }
    let templates = 0;
    for (const path of await this.#templatePaths()) {
      const found = await lstat(path).catch(() => null);
      if (found !== null) templates += 1;
      if (!found?.isSymbolicLink()) continue;
      await this.#follow(path).catch((error: Error) => faults.push(error.message));
    }
    return { blobs: blobs.length, templates, faults };
  }

  /** Where templates' images are or would be. Not by a glob: that passes links over which lead nowhere. */
  async #templatePaths(): Promise<string[]> {
    const teams = join(this.#dir, "teams");
    const paths: string[] = [];
    for (const team of await readdir(teams).catch(() => [])) {
      for (const template of await readdir(join(teams, team)).catch(() => [])) {
        paths.push(join(teams, team, template, "rootfs.ext4"));
      }
    }
    return paths;
  }

  async #follow(path: string): Promise<BaseImage> {
    const target = resolve(dirname(path), await readlink(path));
    const sha256 = BLOB_PATTERN.exec(basename(target))?.[1];
    if (sha256 === undefined || dirname(target) !== this.#blobsDir()) {
      throw new Error(`Base image ${path} must be a file or a link to blobs/<sha256>.ext4`);
    }
    const { size } = await stat(target);
    return { sha256, path: target, sizeBytes: size };
  }

  #importOnce(path: string): Promise<BaseImage> {
    const pending = this.#imports.get(path);
    if (pending !== undefined) return pending;
    const started = this.#import(path).finally(() => this.#imports.delete(path));
    this.#imports.set(path, started);
    return started;
  }

  async #import(path: string): Promise<BaseImage> {
    const before = await stat(path);
    // Already in place if an import was killed after it made the blob.
    const sha256 = await this.#kernel.storage.sha256(path);
    const after = await stat(path);
    if (before.mtimeMs !== after.mtimeMs || before.size !== after.size) {
      throw new Error(`Base image ${path} changed while it was imported`);
    }

    const blob = join(this.#blobsDir(), `${sha256}.ext4`);
    await mkdir(this.#blobsDir(), { recursive: true, mode: 0o755 });
    await chmod(path, 0o444);
    await linkUnlessThere(path, blob);
    const aside = `${path}.link`;
    await rm(aside, { force: true });
    await symlink(relative(dirname(path), blob), aside);
    await rename(aside, path);
    return { sha256, path: blob, sizeBytes: after.size };
  }

  #blobsDir(): string {
    return join(resolve(this.#dir), "blobs");
  }
}

async function linkUnlessThere(path: string, blob: string): Promise<void> {
  try {
    await link(path, blob);
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  }
}
