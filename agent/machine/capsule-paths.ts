// Where a capsule's files lie, apart from its disk.

import { join } from "node:path";

export function capsuleRunDir(runDir: string, id: string): string {
  return join(runDir, id);
}

export function consoleLogPath(logsDir: string, id: string): string {
  return join(logsDir, `${id}.console.log`);
}
