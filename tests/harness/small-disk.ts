// A small file system of its own for an agent, which a test fills from outside and empties again.

import { closeSync, openSync, writeSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MIB = 1024 * 1024;
const BLOCK_BYTES = 4096;
const FILLER = "filler-";

/** An XFS that shares extents, on a loop device: what a host is to have. */
export class SmallDisk implements AsyncDisposable {
  readonly path: string;
  readonly #home: string;

  private constructor(home: string) {
    this.#home = home;
    this.path = join(home, "xfs");
  }

  static async mount(size: string): Promise<SmallDisk> {
    const disk = new SmallDisk(await mkdtemp(join(tmpdir(), "wrenn-full-")));
    const image = join(disk.#home, "image");
    await mkdir(disk.path);
    await run(["truncate", "--size", size, image]);
    await run(["mkfs.xfs", "-q", "-m", "reflink=1", image]);
    await run(["mount", "-o", "loop,discard", image, disk.path]);
    return disk;
  }

  /** Takes all room but that much. */
  async fill(leftMib: number): Promise<void> {
    const bytes = (await this.#freeBytes()) - leftMib * MIB;
    await run(["fallocate", "--length", String(bytes), this.#filler()]);
  }

  /** Takes all room: not one block can be written any more. */
  async fillUp(): Promise<void> {
    // An allocation is all or nothing, and needs blocks for itself: half of what it cannot have is tried next.
    let bytes = await this.#freeBytes();
    while (bytes >= MIB) {
      const command = ["fallocate", "--length", String(bytes), this.#filler()];
      const isTaken = await run(command, "may fail");
      bytes = Math.min(await this.#freeBytes(), isTaken ? bytes : Math.floor(bytes / 2));
    }
    try {
      writeWithoutEnd(this.#filler());
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
    }
  }

  async #freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.path);
    return bavail * bsize;
  }

  async makeRoom(): Promise<void> {
    const names = (await readdir(this.path)).filter((name) => name.startsWith(FILLER));
    for (const name of names) await rm(join(this.path, name));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(["umount", this.path]);
    await rm(this.#home, { recursive: true });
  }

  #filler(): string {
    return join(this.path, `${FILLER}${crypto.randomUUID()}`);
  }
}

function writeWithoutEnd(path: string): never {
  const file = openSync(path, "w");
  const block = Buffer.alloc(BLOCK_BYTES, 1);
  try {
    for (;;) writeSync(file, block);
  } finally {
    closeSync(file);
  }
}

/** Whether it succeeded. */
async function run(command: string[], end: "succeeds" | "may fail" = "succeeds") {
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "pipe"] });
  const said = await new Response(child.stderr).text();
  const status = await child.exited;
  if (status !== 0 && end === "succeeds") throw new Error(`${command.join(" ")}: ${said}`);
  return status === 0;
}
