// WRENN_DIR: its layout, its owner and its name on the machine.

import { closeSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kernel } from "./native/kernel.ts";

const TAG = /^[0-9a-z]{4}$/;
const TAG_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz";

export interface HostDir {
  readonly path: string;
  /** Four characters that every kernel object of this agent carries in its name. */
  readonly tag: string;
  readonly runDir: string;
  readonly logsDir: string;
  readonly imagesDir: string;
  readonly sandboxesDir: string;
  readonly snapshotsDir: string;
  /** Memory made flat, of this start of the host only. */
  readonly flatDir: string;
  /** Guests that have just booted, kept for creates to restore. */
  readonly warmDir: string;
  readonly kernelsDir: string;
  readonly cacheDir: string;
  /** What capsules have used. */
  readonly metricsDir: string;
  readonly sentDir: string;
  readonly journalPath: string;
  unlock(): void;
}

/** Makes what is missing and locks the directory. Throws if another agent has it. */
export async function openHostDir(path: string, kernel: Kernel): Promise<HostDir> {
  // VMMs with uids of their own pass through it, and list nothing.
  await mkdir(path, { recursive: true, mode: 0o711 }).catch((cause: NodeJS.ErrnoException) => {
    throw new Error(`WRENN_DIR: ${path} can't be a directory (${cause.code})`, { cause });
  });
  const lock = kernel.tryLockFile(join(path, "agent.lock"));
  if (lock === null) throw new Error(`another agent runs on ${path}`);
  const dir = {
    path,
    tag: await loadTag(join(path, "tag")),
    runDir: join(path, "run"),
    logsDir: join(path, "logs"),
    imagesDir: join(path, "images"),
    sandboxesDir: join(path, "sandboxes"),
    snapshotsDir: join(path, "snapshots"),
    flatDir: join(path, "flat"),
    warmDir: join(path, "warm"),
    kernelsDir: join(path, "kernels"),
    cacheDir: join(path, "cache"),
    metricsDir: join(path, "metrics"),
    sentDir: join(path, "sent"),
    journalPath: join(path, "journal.db"),
    unlock: () => closeSync(lock),
  };
  await mkdir(dir.logsDir, { recursive: true, mode: 0o700 });
  await mkdir(dir.cacheDir, { recursive: true, mode: 0o700 });
  return dir;
}

async function loadTag(path: string): Promise<string> {
  const saved = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  const tag = saved?.trim() ?? randomTag();
  if (!TAG.test(tag)) throw new Error(`${path} must hold four characters 0-9a-z`);
  if (saved === null) {
    await writeFile(`${path}.new`, `${tag}\n`);
    await rename(`${path}.new`, path);
  }
  return tag;
}

function randomTag(): string {
  // 36 does not divide 256: the first digits are a little likelier, which a tag can bear.
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return [...bytes].map((byte) => TAG_DIGITS[byte % TAG_DIGITS.length]).join("");
}
