// Runs the programs a build needs and says how long each step took.

import { createHash, type Hash } from "node:crypto";
import { readFile } from "node:fs/promises";

/** A build that can't go on, for a reason the reader can act on. The message is one sentence. */
export class BuildError extends Error {
  override name = "BuildError";
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** What programs see of the caller's environment: the way to the network, and nothing that could
 *  change what they make. */
const PASSED_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  ...Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] =>
        /^(https?|ftp|no|all)_proxy$/i.test(entry[0]) && entry[1] !== undefined,
    ),
  ),
};

/** Bytes of a failed program's output that its error quotes. */
const QUOTED_BYTES = 2000;

/** What apt and mmdebstrap say when there is no way to the archive. */
const NETWORK_TROUBLE =
  /.*(Could not resolve|Temporary failure resolving|Could not connect|Connection timed out|Network is unreachable).*/;

/** State of this process, as signals are. */
const running = new Set<Bun.Subprocess>();
let interrupted = false;

/**
 * Runs a program to its end and returns its standard output.
 * @throws BuildError if it is not installed or fails, with the end of what it printed.
 */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const [program = ""] = command;
  if (!Bun.which(program)) {
    throw new BuildError(`${program} is not installed (see scripts/packages.txt for its package)`);
  }
  const child = Bun.spawn([...command], {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...PASSED_ENVIRONMENT, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  running.add(child);
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  running.delete(child);
  if (status !== 0) throw failure(program, status, (stderr || stdout).trim());
  return stdout;
}

function failure(program: string, status: number, output: string): BuildError {
  if (interrupted) return new BuildError("interrupted");
  const network = NETWORK_TROUBLE.exec(output)?.[0];
  if (network) return new BuildError(`${program} can't reach the package archive: ${network}`);
  return new BuildError(`${program} failed with status ${status}: ${output.slice(-QUOTED_BYTES)}`);
}

/**
 * Makes SIGINT and SIGTERM end the program that runs and then the build, so that work directories
 * are removed. Without this the process would be gone before it could.
 */
export function endOnSignals(): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      interrupted = true;
      for (const child of running) child.kill("SIGTERM");
    });
  }
}

/** Sends bytes through a program, as in `program < data`, and returns what comes out. */
export async function filter(command: readonly string[], data: Uint8Array): Promise<Uint8Array> {
  const child = Bun.spawn([...command], { stdin: data, stdout: "pipe", stderr: "ignore" });
  const [output, status] = await Promise.all([new Response(child.stdout).bytes(), child.exited]);
  if (status !== 0) throw new BuildError(`${command[0]} failed with status ${status}`);
  return output;
}

/** Runs one step of a build and prints its name and duration. */
export async function step<T>(name: string, body: () => Promise<T>): Promise<T> {
  if (interrupted) throw new BuildError("interrupted");
  const startedAt = performance.now();
  const result = await body();
  console.log(`  ${name} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
  return result;
}

/** SHA-256 over the given texts and the contents of the given files, as hex: the key of a step. */
export async function inputsHash(texts: readonly string[], files: readonly string[]) {
  const hash: Hash = createHash("sha256");
  const add = (bytes: string | Buffer) => {
    hash.update(`${Buffer.byteLength(bytes)}\n`);
    hash.update(bytes);
  };
  for (const text of texts) add(text);
  for (const file of files) add(await readFile(file));
  return hash.digest("hex");
}

/** Whether the program runs as root, which mmdebstrap and ownership inside an image need. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}
