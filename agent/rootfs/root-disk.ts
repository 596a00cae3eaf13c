// What is said of one root disk.

import type { BaseImage } from "./images.ts";

/**
 * reflink: a clone that shares extents with its base (XFS, btrfs). dm: a device-mapper snapshot
 * over loop devices. copy: a whole copy without its holes, for a file system that can do nothing
 * better.
 */
export type CowKind = "reflink" | "copy" | "dm";

export interface CreateRootDisk {
  readonly capsuleId: string;
  readonly base: BaseImage;
  /** The disk is grown to this, never shrunk below its base. */
  readonly sizeMib: number;
  /** Who owns it, alone: the capsule's VMM. */
  readonly uid: number;
}
