// The root disks of capsules: each a copy-on-write child of a base image, whichever way they are copied.

import type { DiskSource, SavedDisk } from "./saved-disk.ts";

/**
 * reflink: a clone that shares extents with its base (XFS, btrfs). dm: a device-mapper snapshot
 * over loop devices. copy: a whole copy without its holes, for a file system that can do nothing
 * better.
 */
export type CowKind = "reflink" | "copy" | "dm";

export interface CreateRootDisk {
  readonly capsuleId: string;
  readonly base: DiskSource;
  /** The disk is grown to this, never shrunk below its base. */
  readonly sizeMib: number;
  /** Who owns it, alone: the capsule's VMM. */
  readonly uid: number;
}

/** The disk of a capsule that has a VMM. */
export interface LiveDisk {
  /** A file or a block device. */
  readonly path: string;
  /**
   * Copies the disk as it is into a directory, read-only and not yet synced; what the answer names is
   * there then. MUST be called while the guest is stopped and its VMM has written everything. Throws
   * SyscallError or Error, and leaves what it has made.
   */
  save(directory: string): Promise<SavedDisk>;
}

/** A capsule's id is checked by each call: it becomes part of names of files and devices. */
export interface RootDisks {
  readonly kind: CowKind;
  /** Makes the capsule's disk. EEXIST if it has one; on failure none is left. */
  create(disk: CreateRootDisk): Promise<{ path: string }>;
  /**
   * Makes the capsule's disk, in place of one that it may have, which is kept beside it until
   * `setAside` or `putBack`; of several in a row the first is the one that is kept. On failure the
   * disk that was there is still in its place. The VMM MUST have ended.
   */
  replace(disk: CreateRootDisk): Promise<{ path: string }>;
  /** Gives the capsule the disk back that was replaced; nothing happens if none was. */
  putBack(capsuleId: string): Promise<void>;
  /** Whether a disk that `replace` replaces can be set aside: only so many of a capsule are kept. */
  canSetAside(capsuleId: string): Promise<boolean>;
  /**
   * Keeps the disk that was replaced by an older generation's for as long as that generation is there. Nothing
   * happens if none was.
   */
  setAside(capsuleId: string, generation: number): Promise<void>;
  /** Removes the disks that were set aside for other generations than these. */
  dropAsides(capsuleId: string, generations: readonly number[]): Promise<void>;
  /** Readies the disk that the capsule has for a VMM of that user. ENOENT if it has none. */
  attach(capsuleId: string, uid: number): Promise<{ path: string }>;
  /** Lets go of what only a VMM needs, which MUST have ended; the disk stays. Idempotent. */
  detach(capsuleId: string): Promise<void>;
  /** Of a capsule whose disk was created, replaced or attached, by an earlier agent too. */
  live(capsuleId: string): LiveDisk;
  /** Whether a write that finds no room on the host is lost, with the disk: it has to be held before. */
  readonly losesWrites: boolean;
  /** Has what is written to all disks wait, and what is read, until `release`. Idempotent. */
  hold(): Promise<void>;
  /** Lets it go on; also what an earlier agent held. */
  release(): Promise<void>;
  /** Before the VMM of a disk that is to be removed is ended: lets what waits fail, so that it can end. */
  abandon(capsuleId: string): Promise<void>;
  /** Removes the capsule's disk, whose VMM must have ended; nothing happens if there is none. */
  remove(capsuleId: string): Promise<void>;
  /** The ids of capsules that have a disk. */
  list(): Promise<string[]>;
  /** What the disk takes on the host's file system; a clone counts shared extents too. ENOENT. */
  allocatedBytes(capsuleId: string): Promise<number>;
}

// A capsule's id as it appears in file and device names.
const CAPSULE_ID = /^[0-9a-z][0-9a-z-]{0,63}$/;

/** Throws unless the id can be part of the name of a file or a device. */
export function checkCapsuleId(capsuleId: string): void {
  if (!CAPSULE_ID.test(capsuleId)) {
    throw new Error(`Cannot use capsule id ${JSON.stringify(capsuleId)} in a file name`);
  }
}
