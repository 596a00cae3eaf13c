// What a platform can leave behind on a machine, listed by name so that a difference says what it is.

import { readdir, readFile } from "node:fs/promises";

export interface KernelObjects {
  readonly netns: readonly string[];
  readonly links: readonly string[];
  readonly nftTables: readonly string[];
  readonly loops: readonly string[];
  readonly mounts: readonly string[];
  readonly cgroups: readonly string[];
  readonly slotClaims: readonly string[];
  readonly processes: readonly string[];
}

/**
 * The network namespaces, links, nft tables, loop devices, mounts, cgroups, slot claims, and processes
 * of the platform (keepers, VMMs, agents) that exist now.
 */
export async function kernelObjects(): Promise<KernelObjects> {
  return {
    netns: await names("/run/netns"),
    links: await names("/sys/class/net"),
    nftTables: (await output(["nft", "list", "tables"])).sort(),
    loops: (await output(["losetup", "--noheadings", "--output", "NAME,BACK-FILE"])).sort(),
    mounts: await mounts(),
    cgroups: (await output(["find", "/sys/fs/cgroup", "-type", "d", "-name", "wrenn-*"])).sort(),
    slotClaims: await names("/run/wrenn/slots"),
    processes: await processes(),
  };
}

async function names(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(() => [])).sort();
}

async function output(command: string[]): Promise<string[]> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "ignore", stdin: "ignore" });
  const text = await new Response(child.stdout).text();
  return text.split("\n").filter((line) => line !== "");
}

async function mounts(): Promise<string[]> {
  const text = await readFile("/proc/self/mountinfo", "utf8");
  return text
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point !== "")
    .sort();
}

async function processes(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")),
  );
  return commands
    .map((command) => command.split("\0").slice(0, 2).join(" "))
    .filter((command) => /keeper|qemu-system|agent\/main|cp\/main|wrenn/.test(command))
    .sort();
}
