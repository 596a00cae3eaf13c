// What a capsule holds of its host, and what a program asks of the kernel.

import { readdir, readFile, readlink } from "node:fs/promises";
import { GUEST_MS, waitFor } from "./wait-for.ts";

export interface Footprint {
  readonly processes: number;
  readonly threads: number;
  /** Nobody else's: what goes when they end. */
  readonly privateMib: number;
  readonly descriptors: number;
  /** Of those. */
  readonly sockets: number;
}

/** Of processes, all together. */
export async function footprintOf(pids: readonly number[]): Promise<Footprint> {
  const all = await Promise.all(pids.map(ofProcess));
  const sum = (count: (one: Footprint) => number) =>
    all.reduce((total, one) => total + count(one), 0);
  return {
    processes: pids.length,
    threads: sum((one) => one.threads),
    privateMib: Math.round(sum((one) => one.privateMib) * 10) / 10,
    descriptors: sum((one) => one.descriptors),
    sockets: sum((one) => one.sockets),
  };
}

async function ofProcess(pid: number): Promise<Footprint> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "latin1");
  const kib = [...rollup.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)].map(([, n]) =>
    Number(n),
  );
  const names = await readdir(`/proc/${pid}/fd`);
  const links = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`)));
  return {
    processes: 1,
    threads: (await readdir(`/proc/${pid}/task`)).length,
    privateMib: kib.reduce((total, n) => total + n, 0) / 1024,
    descriptors: links.length,
    sockets: links.filter((link) => link.startsWith("socket:")).length,
  };
}

/** A line of strace's summary: calls, then the name. */
const COUNT = /^ *(\d+) +([a-z0-9_]+)$/gm;

/**
 * System calls of the threads that a process has now, by name, while `work` is done: strace(1), which slows them. What
 * it starts meanwhile is not counted.
 */
export async function countCalls(
  pid: number,
  work: () => Promise<unknown>,
): Promise<Map<string, number>> {
  const threads = await readdir(`/proc/${pid}/task`);
  const strace = Bun.spawn(
    ["strace", "-c", "-U", "calls,name", ...threads.flatMap((thread) => ["-p", thread])],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const isTraced = async (thread: string) => {
    const status = await readFile(`/proc/${pid}/task/${thread}/status`, "latin1").catch(() => "");
    return status === "" || !status.includes("\nTracerPid:\t0\n");
  };
  try {
    const look = async () => (await Promise.all(threads.map(isTraced))).every(Boolean);
    await waitFor("strace", look, { timeoutMs: GUEST_MS });
    await work();
  } finally {
    strace.kill("SIGINT");
  }
  const summary = await new Response(strace.stderr).text();
  const counts = [...summary.matchAll(COUNT)].map(
    ([, calls, name = ""]) => [name, Number(calls)] as const,
  );
  return new Map(counts.filter(([name]) => name !== "total"));
}
