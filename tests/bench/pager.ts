// The pager's own benchmark (native/pager/bench), as rows: pages a second against the kernel's faults of a
// private mapping and against memcpy.

import { resolve } from "node:path";
import type { Row } from "./rows.ts";

const ROOT = resolve(import.meta.dirname, "../..");
/** "<what>  0.123 us/page  33.30 GB/s  1.00 x memcpy" */
const LINE = /^(\S.*?)\s+([\d.]+) us\/page/;
/** How often the program repeats what can be repeated. */
const RUNS = 7;

export async function benchPager(): Promise<Row[]> {
  const make = Bun.spawn(["make", "-s", "-f", "native/native.mk", "bench-pager"], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const text = await new Response(make.stdout).text();
  if ((await make.exited) !== 0) throw new Error(`The pager's benchmark failed:\n${text}`);
  const perSecond = (what: string): number => {
    for (const line of text.split("\n")) {
      const [, name, usPerPage] = LINE.exec(line) ?? [];
      if (name === what) return 1e6 / Number(usPerPage);
    }
    throw new Error(`The pager's benchmark does not tell of "${what}":\n${text}`);
  };
  const kernel = perSecond("MAP_PRIVATE of a memfd, sequential reads");
  const memcpy = perSecond("memcpy");
  const ways = [
    ["pager, sequential, 64 windows", "pages by fault, sequential", 1],
    ["pager, strided, 64 windows", "pages by fault, strided", 1],
    ["pager, prefetch of all data, first read (checked)", "pages prefetched, checked", 1],
    ["look for zeros", "pages scanned for zeros", RUNS],
    ["compare two pages", "pages compared", RUNS],
  ] as const;
  return ways.flatMap(([what, name, runs]): Row[] => {
    const ours = perSecond(what);
    const row = { name, unit: "pages/s", ours, runs } as const;
    const beside = { ...row, baseline: memcpy, baselineIs: "memcpy" };
    if (!what.startsWith("pager")) return [beside];
    return [{ ...row, baseline: kernel, baselineIs: "MAP_PRIVATE of a memfd" }, beside];
  });
}
