// What one agent can leave behind on a machine, listed by name so that a difference says what it is.
// Only its own: other platforms may run beside it.

import { Database } from "bun:sqlite";
import { existsSync, readFileSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";

export interface KernelObjects {
  readonly netns: readonly string[];
  readonly links: readonly string[];
  readonly nftTables: readonly string[];
  readonly loops: readonly string[];
  readonly mounts: readonly string[];
  readonly cgroups: readonly string[];
  readonly slotClaims: readonly string[];
  /** Keepers and VMMs. */
  readonly processes: readonly string[];
  /** Of capsules, below the agent's directory. */
  readonly files: readonly string[];
  /** Of the journal: capsule and state, guests that the agent boots by itself for warm snapshots included. */
  readonly rows: readonly string[];
}

/** The short name that all kernel objects of an agent carry. */
export async function agentTag(agentDir: string): Promise<string> {
  return (await readFile(join(agentDir, "tag"), "utf8")).trim();
}

/** The objects that exist now of the agent with this directory (its WRENN_DIR) and tag. */
export async function kernelObjects(agentDir: string, tag: string): Promise<KernelObjects> {
  const starting = (prefix: string) => (name: string) => name.startsWith(prefix);
  return {
    netns: (await names("/run/netns")).filter(starting(`wrenn-${tag}-`)),
    links: (await names("/sys/class/net")).filter(starting(`wv-${tag}-`)),
    nftTables: await lines(["nft", "list", "tables"], `wrenn_${tag}`),
    loops: await lines(["losetup", "--noheadings", "--output", "NAME,BACK-FILE"], agentDir),
    mounts: await mountsBelow(agentDir),
    cgroups: await lines(["find", "/sys/fs/cgroup", "-path", `*wrenn-${tag}*`], ""),
    slotClaims: await claimsOf(agentDir),
    processes: await processesOf(agentDir, tag),
    files: await capsuleFiles(agentDir),
    rows: journalRows(agentDir),
  };
}

/** Rows of the journal of the agent with that directory; none without a journal. */
export function journalRows(agentDir: string): string[] {
  const path = join(agentDir, "journal.db");
  // The directory is gone when the platform's file system is unmounted.
  if (!existsSync(path)) return [];
  if (!isDatabase(path)) return [];
  using journal = new Database(path, { readonly: true });
  const rows = journal.query<{ id: string; state: string }, []>("SELECT id, state FROM capsules");
  const texts = rows.all().map(({ id, state }) => `${id} ${state}`);
  return texts.sort();
}

/** A test may have written over it; then it names nothing. */
function isDatabase(path: string): boolean {
  return readFileSync(path).subarray(0, 15).toString("latin1") === "SQLite format 3";
}

async function names(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(() => [])).sort();
}

/** Lines of the command's output that contain the text, sorted. */
async function lines(command: string[], text: string): Promise<string[]> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "ignore", stdin: "ignore" });
  const output = await new Response(child.stdout).text();
  return output
    .split("\n")
    .filter((line) => line !== "" && line.includes(text))
    .sort();
}

async function mountsBelow(dir: string): Promise<string[]> {
  const text = await readFile("/proc/self/mountinfo", "utf8");
  const points = text.split("\n").map((line) => line.split(" ")[4] ?? "");
  return points.filter((point) => point.startsWith(dir)).sort();
}

async function claimsOf(agentDir: string): Promise<string[]> {
  const claims = await names("/run/wrenn/slots");
  const owners = await Promise.all(
    claims.map((slot) => readFile(join("/run/wrenn/slots", slot), "utf8").catch(() => "")),
  );
  return claims.filter((_, i) => owners[i]?.trim() === agentDir);
}

/** By cgroup (VMMs run in a jail, where their arguments name no host path) or by argument. */
async function processesOf(agentDir: string, tag: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const described = await Promise.all(
    pids.map(async (pid) => {
      const read = (file: string) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "");
      const program = await readlink(`/proc/${pid}/exe`).catch(() => "");
      const isKeeper = program.endsWith("/keeper") && (await read("cmdline")).includes(agentDir);
      const isVmm = (await read("cgroup")).includes(`wrenn-${tag}`);
      return isKeeper || isVmm ? [program] : [];
    }),
  );
  return described.flat().sort();
}

async function capsuleFiles(agentDir: string): Promise<string[]> {
  const glob = new Bun.Glob("{run,sandboxes,snapshots}/*");
  // The directory is gone when the platform's file system is unmounted.
  const files = await Array.fromAsync(glob.scan({ cwd: agentDir, onlyFiles: false })).catch(
    (): string[] => [],
  );
  return files.filter((file) => file.includes("cl-")).sort();
}
