// The directory of a development platform, reachable by every user under a short path of its own.
//
// PostgreSQL and each VMM run as users of their own and can't enter a clone below a home directory of
// mode 0700, and a unix socket's path holds 107 bytes at most (unix(7)). So the platform never uses
// DEV_DIR itself but a bind mount of it at /run/wrenn-dev/<hash>; `close` takes the mounts away.

import { createHash } from "node:crypto";
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { usersOf } from "./process-table.ts";
import { messageOf, run } from "./run.ts";

const MOUNT_ROOT = "/run/wrenn-dev";
/**
 * Room for some dozens of root disks of 5 GiB, most of which is never written. The file is sparse: it takes
 * what is written, and files deleted in it give their blocks back (discard).
 */
const XFS_SIZE_GIB = 256;
/** What a process had open is given back some time after its end. */
const UNMOUNT_TIMEOUT_MS = 2_000;

/** All that a platform keeps in its directory. */
const OWN_FILES = [
  ...["account.json", "agent", "agent.xfs", "choices.json", "env", "logs", "mail", "ports.json"],
  ...["postgres", "processes", "redis", "secrets.json", "tls", "urls.json"],
  ...[".postgres-password", ".reflink-probe", ".reflink-probe.clone"],
];

export interface DevDir {
  /** What the user named: `.dev` or $DEV_DIR. */
  readonly home: string;
  /** The same directory by the path that programs use. */
  readonly path: string;
  /** The agent's WRENN_DIR: on a file system with reflinks where one could be had. */
  readonly agentDir: string;
}

/** Where the directory is or would be mounted; nothing is touched, and it need not exist. */
export async function locateDevDir(home: string): Promise<DevDir> {
  const path = mountPath(await realpathOfMissing(home));
  return { home, path, agentDir: join(path, "agent") };
}

/** Null: nothing is mounted there. */
export async function findDevDir(home: string): Promise<DevDir | null> {
  const dir = await locateDevDir(home);
  return (await isMounted(dir.path)) ? dir : null;
}

/** Whether what is mounted is another directory than the one of that name, which was deleted or moved. */
export async function isStale({ home, path }: DevDir): Promise<boolean> {
  if (!(await isMounted(path))) return false;
  const [named, mounted] = await Promise.all([home, path].map((at) => stat(at).catch(() => null)));
  return named?.ino !== mounted?.ino || named?.dev !== mounted?.dev;
}

/**
 * Throws a sentence unless the path can be a platform's directory: there is none, or it holds a platform
 * and nothing else. What is deleted with a platform must not be somebody's home.
 */
export async function checkHome(home: string): Promise<void> {
  const names = await readdir(home).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new Error(`DEV_DIR=${home} can't be used (${error.code}): name a directory of its own`);
  });
  const others = names.filter((name) => !OWN_FILES.includes(name.replace(/\.new$/, "")));
  if (others.length === 0) return;
  throw new Error(
    `DEV_DIR=${home} holds other files (${others.slice(0, 3).join(", ")}): name a directory of its own`,
  );
}

/** Makes and mounts the directory; what is there already is kept. */
export async function openDevDir(home: string): Promise<DevDir> {
  await mkdir(home, { recursive: true, mode: 0o755 });
  const dir = await locateDevDir(home);
  const { path, agentDir } = dir;
  await mkdir(path, { recursive: true, mode: 0o755 });
  if (!(await isMounted(path))) {
    await run(["mount", "--bind", home, path]);
    // What is mounted below it is not to appear below `home`, for whoever deletes that.
    await run(["mount", "--make-private", path]);
  }
  // Its users are many: each passes through, and only root lists.
  await chmod(path, 0o711);
  await mkdir(agentDir, { recursive: true, mode: 0o711 });
  const image = join(path, "agent.xfs");
  if (!(await isMounted(agentDir)) && !(await hasReflinks(path))) {
    await mountXfs({ image, at: agentDir });
  }
  await chmod(agentDir, 0o711);
  return dir;
}

/**
 * Unmounts what `openDevDir` and the agent mounted; the data stays in `home`. A mount that is in use
 * goes out of sight at once, and for good with its last user; returns a sentence for each of these.
 * Idempotent.
 */
export async function closeDevDir(dir: DevDir): Promise<string[]> {
  const notes: string[] = [];
  for (const at of [join(dir.agentDir, "run"), dir.agentDir, dir.path]) {
    while (await isMounted(at)) {
      // The image of a file system that stays keeps the mount that it lies on busy.
      const users = notes.length > 0 ? [] : await unmount(at);
      if (users === null) continue;
      await run(["umount", "--lazy", at]);
      if (users.length > 0) {
        notes.push(`${at} is in use until these let go of it: ${users.join(", ")}`);
      }
    }
  }
  await rmdir(dir.path).catch(() => undefined);
  await rmdir(MOUNT_ROOT).catch(() => undefined);
  return notes;
}

/** Null: done. Else who uses it; it may be that only the kernel still does. */
async function unmount(at: string): Promise<string[] | null> {
  for (const deadline = performance.now() + UNMOUNT_TIMEOUT_MS; ; await Bun.sleep(50)) {
    const isDone = await run(["umount", at]).then(
      () => true,
      async () => !(await isMounted(at)),
    );
    if (isDone) return null;
    const users = (await usersOf(at)).map(({ pid, program }) => `${program} (pid ${pid})`);
    if (users.length > 0 || performance.now() > deadline) return users;
  }
}

function mountPath(realHome: string): string {
  const hash = createHash("sha256").update(realHome).digest("hex").slice(0, 8);
  return join(MOUNT_ROOT, hash);
}

/** Of a path whose last parts need not exist. */
async function realpathOfMissing(path: string): Promise<string> {
  const real = await realpath(path).catch(() => null);
  if (real !== null || path === dirname(path)) return real ?? path;
  return join(await realpathOfMissing(dirname(path)), basename(path));
}

/**
 * Mounts the image, which holds every capsule's disk and memory: only root may read it. One is made where
 * there is none and the directory is empty. Throws when one that is there can't be mounted: what is in it
 * would seem lost.
 */
async function mountXfs({ image, at }: { image: string; at: string }): Promise<void> {
  if ((await stat(image).catch(() => null)) === null) {
    if ((await readdir(at)).length > 0) return;
    try {
      await makeXfs(image);
      await run(["mount", "-o", "loop,discard", image, at]);
    } catch (cause) {
      await rm(image, { force: true });
      console.error(`    no reflinks here, root disks will be copied: ${messageOf(cause)}`);
    }
    return;
  }
  await chmod(image, 0o600);
  try {
    await run(["mount", "-o", "loop,discard", image, at]);
  } catch (cause) {
    const advice = "repair it with xfs_repair, or delete all data with make dev-reset";
    throw new Error(`${image} can't be mounted (${messageOf(cause)}): ${advice}`, { cause });
  }
}

async function makeXfs(image: string): Promise<void> {
  const partial = `${image}.new`;
  await rm(partial, { force: true });
  await writeFile(partial, "", { mode: 0o600, flag: "wx" });
  await run(["truncate", "-s", `${XFS_SIZE_GIB}G`, partial]);
  await run(["mkfs.xfs", "-q", "-f", "-m", "reflink=1", partial]);
  await rename(partial, image);
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
