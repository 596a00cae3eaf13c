// What an agent left on the machine that can't clean up itself: found and removed by the names that all
// its kernel objects carry. Only what is surely its own: other agents may run beside it.

import { readdir, readFile, readlink, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { hasEnded, type ProcessIdentity, processStartTime, signal } from "./process-table.ts";
import { run } from "./run.ts";

const CLAIMS = "/run/wrenn/slots";
const AGENTS = "/run/wrenn/agents";
const CGROUPS = "/sys/fs/cgroup";
const END_TIMEOUT_MS = 10_000;
const CGROUP_TIMEOUT_MS = 10_000;

export interface AgentRemains {
  /** Programs in the capsules' control groups. */
  readonly vmms: readonly ProcessIdentity[];
  readonly keepers: readonly ProcessIdentity[];
  /** Names, of the kernel's namespaces, links, tables and mapped devices. */
  readonly netns: readonly string[];
  readonly links: readonly string[];
  readonly tables: readonly string[];
  readonly devices: readonly string[];
  /** Directories, the innermost first. */
  readonly cgroups: readonly string[];
  /** Files: claims on slots, and the agent's registration on this machine. */
  readonly claims: readonly string[];
}

/** `agentDir` is its WRENN_DIR, which may be gone. */
export async function findRemains(agentDir: string): Promise<AgentRemains> {
  const registrations = await filesThatSay(AGENTS, agentDir);
  const saved = await readFile(join(agentDir, "tag"), "utf8").catch(() => "");
  const tags = [saved.trim(), ...registrations.map((path) => path.slice(AGENTS.length + 1))];
  const own = [...new Set(tags)].filter((tag) => /^[0-9a-z]{4}$/.test(tag));
  const having = (names: readonly string[], prefix: string) =>
    names.filter((name) => own.some((tag) => name.startsWith(`${prefix}${tag}-`)));
  const tables = await run(["nft", "list", "tables"]).catch(() => "");
  const devices = await run(["dmsetup", "ls"]).catch(() => "");
  return {
    ...(await findProcesses(agentDir, own)),
    netns: having(await namesIn("/run/netns"), "wrenn-"),
    links: having(await namesIn("/sys/class/net"), "wv-"),
    tables: own.map((tag) => `wrenn_${tag}`).filter((name) => tables.includes(`inet ${name}\n`)),
    devices: having(
      devices.split("\n").map((line) => line.split("\t")[0] ?? ""),
      "wrenn-",
    ),
    cgroups: (await Promise.all(own.map(findCgroups))).flat(),
    claims: [...(await filesThatSay(CLAIMS, agentDir)), ...registrations],
  };
}

export function isNothing(remains: AgentRemains): boolean {
  return Object.values(remains).flat().length === 0;
}

/** Ends what runs and removes the rest. Throws when something does not go. */
export async function removeRemains(remains: AgentRemains): Promise<void> {
  for (const one of [...remains.keepers, ...remains.vmms]) await signal(one, "SIGKILL");
  for (const one of [...remains.keepers, ...remains.vmms]) {
    if (await hasEnded(one, END_TIMEOUT_MS)) continue;
    throw new Error(`a microVM (pid ${one.pid}) does not end, not even by SIGKILL`);
  }
  // The pair first: the kernel destroys a namespace's devices some time after its name is gone.
  for (const name of remains.links) await run(["ip", "link", "delete", name]);
  for (const name of remains.netns) await run(["ip", "netns", "delete", name]);
  for (const name of remains.tables) await run(["nft", "delete", "table", "inet", name]);
  for (const name of remains.devices) await run(["dmsetup", "remove", "--retry", name]);
  for (const directory of remains.cgroups) await removeCgroup(directory);
  for (const path of remains.claims) await rm(path, { force: true });
}

async function findProcesses(agentDir: string, tags: readonly string[]) {
  const vmms: ProcessIdentity[] = [];
  const keepers: ProcessIdentity[] = [];
  for (const pid of (await namesIn("/proc")).filter((name) => /^\d+$/.test(name)).map(Number)) {
    const read = (file: string) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "");
    const program = await readlink(`/proc/${pid}/exe`).catch(() => "");
    const groups = await read("cgroup");
    const isVmm = tags.some((tag) => groups.includes(`/wrenn-${tag}/`));
    const isKeeper =
      /\/keeper( \(deleted\))?$/.test(program) &&
      (await read("cmdline")).includes(`${agentDir}/run/`);
    const startTime = isVmm || isKeeper ? await processStartTime(pid) : null;
    if (startTime !== null) (isVmm ? vmms : keepers).push({ pid, startTime });
  }
  return { vmms, keepers };
}

/** In every tree that is mounted, whatever its controllers. */
async function findCgroups(tag: string): Promise<string[]> {
  const trees = [CGROUPS, ...(await namesIn(CGROUPS)).map((name) => join(CGROUPS, name))];
  const found: string[] = [];
  for (const base of trees.map((tree) => join(tree, `wrenn-${tag}`))) {
    const entries = await readdir(base, { withFileTypes: true }).catch(() => null);
    if (entries === null) continue;
    const inner = entries
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(base, name));
    found.push(...inner, base);
  }
  return found;
}

/** It stays busy for a moment after the end of its last process. */
async function removeCgroup(directory: string): Promise<void> {
  for (const deadline = performance.now() + CGROUP_TIMEOUT_MS; ; await Bun.sleep(20)) {
    try {
      return await rmdir(directory);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : "";
      if (code === "ENOENT") return;
      if (code !== "EBUSY" || performance.now() > deadline) throw error;
    }
  }
}

async function filesThatSay(directory: string, text: string): Promise<string[]> {
  const paths = (await namesIn(directory)).map((name) => join(directory, name));
  const found = await Promise.all(
    paths.map(async (path) => (await readFile(path, "utf8").catch(() => "")).trim() === text),
  );
  return paths.filter((_, i) => found[i]);
}

async function namesIn(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}
