// The directory of a development platform, reachable by every user under a short path of its own.
//
// PostgreSQL and each VMM run as users of their own and can't enter a clone below a home directory of
// mode 0700, and a unix socket's path holds 107 bytes at most (unix(7)). So the platform never uses
// DEV_DIR itself but a bind mount of it at /run/wrenn-dev/<hash>; `close` takes the mounts away.

import { createHash } from "node:crypto";
import { mkdir, readFile, realpath, rm, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./services.ts";

const MOUNT_ROOT = "/run/wrenn-dev";
/**
 * Room for some dozens of root disks of 5 GiB, most of which is never written. The file is sparse: it takes
 * what is written, and files deleted in it give their blocks back (discard).
 */
const XFS_SIZE_GIB = 256;

export interface DevDir {
  /** What the user named: `.dev` or $DEV_DIR. */
  readonly home: string;
  /** The same directory by the path that programs use. */
  readonly path: string;
  /** The agent's WRENN_DIR: on a file system with reflinks where one could be had. */
  readonly agentDir: string;
}

/** Makes and mounts the directory; what is there already is kept. */
export async function openDevDir(home: string): Promise<DevDir> {
  await mkdir(home, { recursive: true, mode: 0o755 });
  const path = mountPath(await realpath(home));
  await mkdir(path, { recursive: true, mode: 0o755 });
  if (!(await isMounted(path))) await run(["mount", "--bind", home, path]);

  const agentDir = join(path, "agent");
  await mkdir(agentDir, { recursive: true, mode: 0o755 });
  const image = join(path, "agent.xfs");
  if (!(await isMounted(agentDir)) && !(await hasReflinks(path))) {
    await mountXfs({ image, at: agentDir });
  }
  return { home, path, agentDir };
}

/** Where the directory is or would be mounted, without touching anything. */
export async function findDevDir(home: string): Promise<DevDir | null> {
  const real = await realpath(home).catch(() => null);
  if (real === null) return null;
  const path = mountPath(real);
  return (await isMounted(path)) ? { home, path, agentDir: join(path, "agent") } : null;
}

/** Unmounts what `openDevDir` mounted; the data stays in `home`. Idempotent. */
export async function closeDevDir(dir: DevDir): Promise<void> {
  for (const at of [join(dir.agentDir, "run"), dir.agentDir, dir.path]) {
    while (await isMounted(at)) await run(["umount", at]);
  }
  await rmdir(dir.path).catch(() => undefined);
  await rmdir(MOUNT_ROOT).catch(() => undefined);
}

function mountPath(realHome: string): string {
  const hash = createHash("sha256").update(realHome).digest("hex").slice(0, 8);
  return join(MOUNT_ROOT, hash);
}

async function mountXfs(options: { image: string; at: string }): Promise<void> {
  try {
    if ((await stat(options.image).catch(() => null)) === null) {
      await run(["truncate", "-s", `${XFS_SIZE_GIB}G`, `${options.image}.new`]);
      await run(["mkfs.xfs", "-q", "-f", "-m", "reflink=1", `${options.image}.new`]);
      await run(["mv", `${options.image}.new`, options.image]);
    }
    await run(["mount", "-o", "loop,discard", options.image, options.at]);
  } catch (cause) {
    console.error(`    no reflinks here, root disks will be copied: ${cause}`);
  }
}

async function hasReflinks(dir: string): Promise<boolean> {
  const probe = join(dir, ".reflink-probe");
  try {
    await Bun.write(probe, "reflink");
    await run(["cp", "--reflink=always", probe, `${probe}.clone`]);
    return true;
  } catch {
    return false;
  } finally {
    await rm(probe, { force: true });
    await rm(`${probe}.clone`, { force: true });
  }
}

async function isMounted(path: string): Promise<boolean> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  return mounts.split("\n").some((line) => line.split(" ")[4] === path);
}
