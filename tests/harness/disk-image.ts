// What is on a capsule's disk, read on this side: nobody's page cache comes in between.

import { readFile, rm } from "node:fs/promises";

/** What is wrong with a copy's file system, "" if nothing is; the journal may be replayed as a mount does. */
export async function fileSystemDamage(copy: string): Promise<string> {
  const replay = await run(["e2fsck", "-y", "-E", "journal_only", copy]);
  if (replay.status > 1) return `no journal to replay: ${replay.output}`;
  const { status, output } = await run(["e2fsck", "-fn", copy]);
  return status === 0 ? "" : `e2fsck ended with ${status}: ${output}`;
}

/** A file's bytes, as in the image without what its journal holds. Throws if it is not there. */
export async function fileOn(image: string, path: string): Promise<Buffer> {
  const copy = `${image}.read`;
  const { output } = await run(["debugfs", "-R", `dump ${path} ${copy}`, image]);
  try {
    return await readFile(copy);
  } catch (cause) {
    throw new Error(`no ${path} on ${image}: ${output}`, { cause });
  } finally {
    await rm(copy, { force: true });
  }
}

/** A copy of a disk that may be in use or is nobody's to change, with its journal replayed. */
export async function withCopy<T>(disk: string, use: (copy: string) => Promise<T>): Promise<T> {
  const copy = `${disk}.checked`;
  try {
    await run(["cp", "--reflink=auto", "--sparse=always", disk, copy]);
    return await use(copy);
  } finally {
    await rm(copy, { force: true });
  }
}

async function run(command: string[]): Promise<{ status: number; output: string }> {
  const child = Bun.spawn(command, { stdio: ["ignore", "pipe", "pipe"] });
  const output = await Promise.all([child.stdout, child.stderr].map((s) => new Response(s).text()));
  return { status: await child.exited, output: output.join("") };
}
