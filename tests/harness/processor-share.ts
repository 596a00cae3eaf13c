// What a machine that does other things besides leaves a process of its processors, as the kernel counts it.

import { readFile } from "node:fs/promises";

const WINDOW_MS = 1_500;
/** USER_HZ, which is 100 on every Linux that we know: proc(5). */
const TICKS_PER_MS = 0.1;

/** Measures for a moment. Returns the percent of so many processors that the process had, all its threads together. */
export async function processorShare(pid: number, processors: number): Promise<number> {
  const [before, startedAtMs] = [await ticksOf(pid), performance.now()];
  await Bun.sleep(WINDOW_MS);
  const [after, endedAtMs] = [await ticksOf(pid), performance.now()];
  return (100 * (after - before)) / TICKS_PER_MS / (endedAtMs - startedAtMs) / processors;
}

async function ticksOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1");
  // Behind the name, which may hold blanks: state is the third field, utime the 14th.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}
