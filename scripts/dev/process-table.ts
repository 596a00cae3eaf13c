// What /proc tells of the machine's processes. Root sees them all.

import { readdir, readFile, readlink } from "node:fs/promises";

/** A pid is used again; with the start time it names one process for ever. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat, in clock ticks since boot (proc(5)). */
  readonly startTime: string;
}

/** Start time of a live process, null when there is none (or a zombie). */
export async function processStartTime(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  if (stat === null) return null;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? null : (fields[19] ?? null);
}

export async function isAlive({ pid, startTime }: ProcessIdentity): Promise<boolean> {
  return (await processStartTime(pid)) === startTime;
}

/** True once the process is gone, false when it still runs after `timeoutMs`. */
export async function hasEnded(process: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (await isAlive(process)) {
    if (performance.now() > deadline) return false;
    await Bun.sleep(20);
  }
  return true;
}

/** Sends the signal; nothing happens when the process is gone. One that is stopped goes on, to take it. */
export async function signal(target: ProcessIdentity, name: NodeJS.Signals): Promise<void> {
  if (!(await isAlive(target))) return;
  try {
    process.kill(target.pid, name);
    process.kill(target.pid, "SIGCONT");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

export interface Writer extends ProcessIdentity {
  /** The file that it writes its output to, deleted or not. */
  readonly file: string;
}

/** Processes whose standard output or error is a file below the directory. */
export async function writersBelow(dir: string): Promise<Writer[]> {
  const found = await eachProcess(async (pid) => {
    const outputs = await Promise.all([1, 2].map((fd) => linkOf(`/proc/${pid}/fd/${fd}`)));
    const file = outputs.find((path) => path.startsWith(`${dir}/`));
    const startTime = file === undefined ? null : await processStartTime(pid);
    return file === undefined || startTime === null ? null : { pid, startTime, file };
  });
  return found.filter((writer) => writer !== null);
}

export interface User {
  readonly pid: number;
  readonly program: string;
  /** What it has there: a file that is open, its working directory, … */
  readonly path: string;
}

/** Processes that keep a mount at that path busy. */
export async function usersOf(mount: string): Promise<User[]> {
  const found = await eachProcess(async (pid) => {
    const fds = await readdir(`/proc/${pid}/fd`).catch(() => []);
    const links = ["cwd", "root", "exe", ...fds.map((fd) => `fd/${fd}`)];
    const paths = await Promise.all(links.map((link) => linkOf(`/proc/${pid}/${link}`)));
    const path = paths.find((path) => path === mount || path.startsWith(`${mount}/`));
    if (path === undefined) return null;
    const program = (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")).trim();
    return { pid, program, path };
  });
  return found.filter((user) => user !== null);
}

/** A variable of the environment that the process was started with; null: not set, or no such process. */
export async function variableOf(pid: number, name: string): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
  const found = text.split("\0").find((assignment) => assignment.startsWith(`${name}=`));
  return found === undefined ? null : found.slice(name.length + 1);
}

async function eachProcess<T>(look: (pid: number) => Promise<T>): Promise<T[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  return await Promise.all(pids.filter((pid) => pid !== process.pid).map(look));
}

function linkOf(path: string): Promise<string> {
  return readlink(path).catch(() => "");
}
