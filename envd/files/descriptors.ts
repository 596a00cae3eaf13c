// Descriptors as paths: what a file that is held open is called, also for other processes.
import { closeSync, constants, openSync } from "node:fs";
import { systemName } from "../file-names.ts";

/** open(2): holds what has the name, and is good for nothing but to lead there. */
const O_PATH = 0o10000000;

export function descriptorPath(fd: number): string {
  return `/proc/${process.pid}/fd/${fd}`;
}

/** Holds what has the name, for whoever closes it; a link in the last place is followed unless told. */
export function holdPath(path: string, flags = 0): number {
  return openSync(systemName(path), O_PATH | flags);
}

/** Holds a directory until it is disposed of. */
export function holdDirectory(
  path: string,
  { followsLast }: { followsLast: boolean },
): { readonly path: string } & Disposable {
  const { O_DIRECTORY, O_NOFOLLOW } = constants;
  const fd = holdPath(path, followsLast ? O_DIRECTORY : O_DIRECTORY | O_NOFOLLOW);
  return { path: descriptorPath(fd), [Symbol.dispose]: () => closeSync(fd) };
}
