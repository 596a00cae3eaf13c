/**
 * A root disk as it was at one instant, in a directory that holds nothing else of its names:
 *
 *   disk.ext4  the whole disk, or
 *   disk.cow   what was written over a base image, as the exception store of a device-mapper snapshot,
 *   disk.base  and that base image, a hard link: it stays for as long as somebody needs it
 *
 * No saved disk needs another one: what is saved of a disk that was made from a saved one has the same
 * base image.
 */

import { chmod, link, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import type { Kernel } from "../native/kernel.ts";
import type { BaseImage } from "./images.ts";

const WHOLE = "disk.ext4";
const COW = "disk.cow";
const BASE = "disk.base";

const Size = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });

export const SavedDisk = Type.Union([
  Type.Object({ name: Type.Literal(WHOLE), sizeBytes: Size }),
  Type.Object({
    name: Type.Literal(COW),
    /** Of the disk. */
    sizeBytes: Size,
    cowBytes: Size,
    base: Type.Object({
      name: Type.Literal(BASE),
      sizeBytes: Size,
      sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    }),
  }),
]);
export type SavedDisk = Static<typeof SavedDisk>;

/** What a disk is made from: a base image, or a saved disk, which may be one and what was written over it. */
export interface DiskSource extends BaseImage {
  /** The exceptions of a device-mapper snapshot over `path`, of a disk of that size. */
  readonly cow?: { readonly path: string; readonly diskBytes: number };
}

/** "SnAp", as the kernel writes it in front of exceptions (drivers/md/dm-snap-persistent.c). */
const COW_MAGIC = 0x70416e53;

/** The names of its files. */
export function savedDiskFiles(disk: SavedDisk): string[] {
  return disk.name === WHOLE ? [WHOLE] : [COW, BASE];
}

/** What to make a root disk from. `id` names it, as nobody has hashed it. */
export function savedDiskSource(directory: string, disk: SavedDisk, id: string): DiskSource {
  if (disk.name === WHOLE) {
    return { sha256: id, path: join(directory, WHOLE), sizeBytes: disk.sizeBytes };
  }
  const { base } = disk;
  return {
    ...{ sha256: base.sha256, path: join(directory, BASE), sizeBytes: base.sizeBytes },
    cow: { path: join(directory, COW), diskBytes: disk.sizeBytes },
  };
}

/** Throws Error unless the files have their sizes, and exceptions are some. Bytes have no checksum. */
export async function checkSavedDisk(directory: string, disk: SavedDisk): Promise<void> {
  if (disk.name === WHOLE) return checkSize(join(directory, WHOLE), disk.sizeBytes);
  const cow = join(directory, COW);
  await checkSize(join(directory, BASE), disk.base.sizeBytes);
  await checkSize(cow, disk.cowBytes);
  await using file = await open(cow, "r");
  const head = Buffer.alloc(4);
  await file.read(head, 0, head.length, 0);
  if (head.readUInt32LE() !== COW_MAGIC) throw new Error(`${COW} holds no exceptions`);
}

/** Copies the whole of a disk file into a directory, sharing extents where the file system can. */
export async function saveWhole(
  kernel: Kernel,
  source: string,
  directory: string,
): Promise<SavedDisk> {
  const path = join(directory, WHOLE);
  await kernel.storage.clone(source, path);
  const sizeBytes = await kernel.storage.sizeBytes(source);
  await checkSize(path, sizeBytes);
  await chmod(path, 0o400);
  return { name: WHOLE, sizeBytes };
}

/** Saves an exception store, by `clone`, and its base image. */
export async function saveExceptions(
  directory: string,
  disk: {
    cow: string;
    base: BaseImage;
    sizeBytes: number;
    clone: (source: string, target: string) => Promise<void>;
  },
): Promise<SavedDisk> {
  const { cow, base, sizeBytes } = disk;
  const path = join(directory, COW);
  await disk.clone(cow, path);
  await link(base.path, join(directory, BASE));
  const saved: SavedDisk = {
    name: COW,
    sizeBytes,
    cowBytes: (await stat(cow)).size,
    base: { name: BASE, sizeBytes: base.sizeBytes, sha256: base.sha256 },
  };
  await checkSavedDisk(directory, saved);
  await chmod(path, 0o400);
  return saved;
}

/** The same disk in another directory of the file system: the base by a link, the rest as a clone. */
export async function copySavedDisk(
  kernel: Kernel,
  disk: SavedDisk,
  { from, to }: { from: string; to: string },
): Promise<void> {
  await kernel.storage.clone(join(from, disk.name), join(to, disk.name));
  await chmod(join(to, disk.name), 0o400);
  if (disk.name === COW) await link(join(from, BASE), join(to, BASE));
  await checkSavedDisk(to, disk);
}

async function checkSize(path: string, sizeBytes: number): Promise<void> {
  const { size } = await stat(path);
  if (size !== sizeBytes) throw new Error(`${path} has ${size} bytes, and not ${sizeBytes}`);
}
