// Asking the pager of a capsule for its counts.

import { exists } from "node:fs/promises";
import { join } from "node:path";
import { PAGER_DIR, readPagerStats } from "../memory/pager.ts";
import type { PagerStats } from "./pager-usage.ts";

/** Of a pager that serves faults meanwhile; whoever reads metrics waits for it. */
const TIMEOUT_MS = 1000;

/** Null for a guest that has no pager, since it booted. Throws VmmError when its pager does not answer. */
export async function findPagerStats(runDir: string): Promise<PagerStats | null> {
  const hasPager = await exists(join(runDir, PAGER_DIR));
  return hasPager ? await readPagerStats(runDir, TIMEOUT_MS) : null;
}
